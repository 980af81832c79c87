"""The scheduler: one pod at a time, to the node with the fewest pods of its Deployment.

Source: kubernetes v1.34 pkg/scheduler/schedule_one.go:65-124; spreading by the default topology constraints.
"""

from dataclasses import replace

import simpy

from sim.cluster.api import Api, PodView
from sim.delays import Delays
from sim.world import Process


class Scheduler:
    def __init__(self, env: simpy.Environment, api: Api, delays: Delays, nodes: range) -> None:
        self._env = env
        self._api = api
        self._delays = delays
        self._nodes = nodes
        self._queue = simpy.Store(env)
        api.watch(PodView, delays, self._on_pod)
        env.process(self._run())

    def _on_pod(self, pod: PodView) -> None:
        if pod.node is None and pod.active:
            self._queue.put(pod.name)

    def _run(self) -> Process:
        while True:
            name = yield self._queue.get()
            yield self._env.timeout(self._delays("schedule"))
            if not self._api.pods[name].active:
                continue
            node = self.choose(name)
            self._env.process(self._bind(name, node))

    def choose(self, name: str) -> int:
        """Fewest active pods of the same Deployment, then fewest pods, then at random."""
        pod = self._api.pods[name]
        bound = [p for p in self._api.pods.values() if p.node is not None and p.stage.name != "REMOVED"]

        def load(node: int) -> tuple[int, int, float]:
            here = [p for p in bound if p.node == node]
            siblings = sum(1 for p in here if p.deployment == pod.deployment and p.active)
            return siblings, len(here), float(self._delays.rng.random())

        return min(self._nodes, key=load)

    def _bind(self, name: str, node: int) -> Process:
        yield from self._api.write(self._delays, lambda: replace(self._api.pods[name], node=node))
