"""The scheduler: one pod at a time, spread over the nodes.

Source: kubernetes v1.34 pkg/scheduler/schedule_one.go:65-124; the default topology spread counts the pods that the
Services' and the ReplicaSet's selectors choose together, so those of one ReplicaSet
(pkg/scheduler/framework/plugins/helper/spread.go:37-93), without those being deleted
(podtopologyspread/common.go:151).
"""

from collections import Counter, deque
from dataclasses import replace

import simpy

from sim.cluster.api import Api, PodStage, PodView, WorkQueue
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.world import Process


class Scheduler:
    def __init__(self, env: simpy.Environment, api: Api, delays: Delays, nodes: range, cpu: NodeCpu) -> None:
        self._env = env
        self._cpu = cpu
        self._api = api
        self._delays = delays
        self._nodes = nodes
        self._queue = WorkQueue(env, lambda: delays(cpu.latency("schedule")))
        self._waiting: deque[str] = deque()
        """Pods without a node."""
        self._assumed: dict[str, int] = {}
        """Pods that have a node here although their binding may still be under way."""
        self._known: dict[str, PodView] = {}
        self._of_set: Counter[tuple[str, int]] = Counter()
        """Active pods by ReplicaSet and node."""
        self._on_node: Counter[int] = Counter()
        self._informer = api.watch(PodView, "kube-scheduler", delays, self._on_pod, wakes=self._is_new)
        env.process(self._run())

    def adopt(self, pod: PodView) -> None:
        """A pod that has its node from before the run."""
        self._count(pod)

    def _is_new(self, pod: PodView) -> bool:
        return pod.node is None and pod.active and pod.name not in self._known

    def _on_pod(self, pod: PodView) -> None:
        if self._is_new(pod):
            self._waiting.append(pod.name)
            self._queue.add()
        self._count(pod)

    def _count(self, pod: PodView) -> None:
        """Replace what was known of *pod* by what is."""
        before = self._known.get(pod.name)
        now = pod if pod.node is not None else replace(pod, node=self._assumed.get(pod.name))
        for view, step in ((before, -1), (now, 1)):
            if view is None or view.node is None or view.stage is PodStage.REMOVED:
                continue
            self._on_node[view.node] += step
            if view.active:
                self._of_set[view.replica_set, view.node] += step
        self._known[pod.name] = now

    def _run(self) -> Process:
        while True:
            yield self._queue.next()
            self._informer.catch_up()
            name = self._waiting.popleft()
            if self._waiting:
                self._queue.add()
            pod = self._api.pods[name]
            if not pod.active:
                continue
            self._assumed[name] = self.choose(pod)
            self._count(pod)
            self._env.process(self._bind(name, self._assumed[name]))

    def choose(self, pod: PodView) -> int:
        """Fewest active pods of the same ReplicaSet, then fewest pods, then at random."""

        def load(node: int) -> tuple[int, int, float]:
            return (
                self._of_set[pod.replica_set, node],
                self._on_node[node],
                float(self._delays.rng.random()),
            )

        return min(self._nodes, key=load)

    def _bind(self, name: str, node: int) -> Process:
        """Nothing comes of it where the pod was deleted meanwhile."""

        def change() -> PodView:
            pod = self._api.pods[name]
            return replace(pod, node=node) if pod.active else pod

        yield from self._api.write(self._delays, change)
