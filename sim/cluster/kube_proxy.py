"""kube-proxy of one node: bounded-frequency syncs, and which endpoints a Service's rules name.

Source: kubernetes v1.34 pkg/proxy/runner/bounded_frequency_runner.go:89-155 and pkg/proxy/topology.go:48-154.
"""

import simpy

from sim.cluster.api import Api, EndpointSliceView, EndpointView, WorkQueue
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.world import Process, RuleTable, World


def chosen(endpoints: tuple[EndpointView, ...]) -> tuple[str, ...]:
    """Names of the pods that new connections go to; empty means reject.

    Ready ones; if there is none, those that still serve while terminating (KEP-1669).
    """
    ready = tuple(e.pod for e in endpoints if e.ready)
    return ready or tuple(e.pod for e in endpoints if e.serving and e.terminating)


class KubeProxy:
    """A change syncs at once after a quiet second; else when the minimum interval since the last sync is over.

    Headless Services are not watched (cmd/kube-proxy/app/server.go:566-572).
    """

    def __init__(
        self, env: simpy.Environment, world: World, api: Api, delays: Delays, node: int, cpu: NodeCpu
    ) -> None:
        self._env = env
        self._cpu = cpu
        self._world = world
        self._delays = delays
        self._node = node
        self._slices: dict[str, EndpointSliceView] = {}
        self._queue = WorkQueue(env)
        api.watch(EndpointSliceView, f"kube-proxy/{node}", delays, self._on_slice, wants=self._programs)
        env.process(self._run())

    def _programs(self, view: EndpointSliceView) -> bool:
        return not self._world.services[view.service].headless

    def adopt(self, view: EndpointSliceView) -> None:
        if self._programs(view):
            self._slices[view.service] = view
            self._program(view)

    def _on_slice(self, view: EndpointSliceView) -> None:
        self._slices[view.service] = view
        self._queue.add()

    def _run(self) -> Process:
        while True:
            yield self._queue.next()
            slices = list(self._slices.values())
            yield self._env.timeout(self._delays(self._cpu.latency("proxy_sync")))
            for view in slices:
                self._program(view)
            self._queue.rest(self._delays.timing.proxy_min_interval_s)

    def _program(self, view: EndpointSliceView) -> None:
        pods = tuple(self._world.pods[name] for name in chosen(view.endpoints))
        self._world.set_rules(self._node, view.service, RuleTable(pods))
