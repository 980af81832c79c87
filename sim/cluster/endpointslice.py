"""The EndpointSlice controller: from pod events to what kube-proxy reads.

Source: kubernetes v1.34 pkg/controller/endpointslice/endpointslice_controller.go and
staging/src/k8s.io/endpointslice.
"""

from typing import Final

import simpy

from sim.cluster.api import (
    CONTROLLER_MANAGER,
    Api,
    EndpointSliceView,
    EndpointView,
    PodStage,
    PodView,
    TokenBucket,
    WorkQueue,
)
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.scenario.model import Service
from sim.world import Process, World

FIRST_BACKOFF_S: Final = 1.0
"""After a sync that found its own last write missing in its cache (endpointslice_controller.go:105-112)."""


def endpoint(pod: PodView, service: Service) -> EndpointView | None:
    """Conditions of one pod (staging/src/k8s.io/endpointslice/utils.go:38-49); None: not a member."""
    if not pod.has_address or pod.stage not in (PodStage.PENDING, PodStage.RUNNING):
        return None
    return EndpointView(
        pod=pod.name,
        ready=service.publish_not_ready or (pod.ready and not pod.deleted),
        serving=pod.ready,
        terminating=pod.deleted,
    )


def matters(before: PodView | None, now: PodView) -> bool:
    """Whether a change of a pod asks for a sync (staging/src/k8s.io/endpointslice/util/controller_utils.go:123-158).

    The deletion's times are compared as pointers: every update of a terminating pod counts.
    """
    return (
        before is None
        or now.deleted
        or now.stage is PodStage.REMOVED
        or (now.ready, now.has_address) != (before.ready, before.has_address)
    )


class EndpointSliceController:
    """Reconciles the slice of one Service (more than 100 endpoints still count as one object)."""

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        api: Api,
        delays: Delays,
        bucket: TokenBucket,
        service: Service,
        cpu: NodeCpu,
    ) -> None:
        self._env = env
        self._cpu = cpu
        self._world = world
        self._api = api
        self._delays = delays
        self._bucket = bucket
        self._service = service
        self._queue = WorkQueue(env, self._half_a_sync_s)
        self._half_s = 0.0
        self._pods: dict[str, PodView] = {}
        self._endpoints: dict[str, EndpointView] = {}
        self._seen_generation = 0
        self._backoff_s = FIRST_BACKOFF_S
        api.watch(PodView, CONTROLLER_MANAGER, delays, self._on_pod)
        self._slices = api.watch(
            EndpointSliceView, CONTROLLER_MANAGER, delays, self._on_slice, wakes=lambda _: False
        )
        env.process(self._run())

    def adopt(self, pods: list[PodView]) -> EndpointSliceView:
        """The steady state: every pod that belongs, as it is."""
        for pod in pods:
            if self._selects(pod):
                self._know(pod)
        return self._view(generation=0)

    def _view(self, generation: int) -> EndpointSliceView:
        endpoints = tuple(self._endpoints.values())
        return EndpointSliceView(service=self._service.name, generation=generation, endpoints=endpoints)

    def _selects(self, pod: PodView) -> bool:
        labels = self._world.pods[pod.name].template.labels
        return bool(self._service.selector) and all(
            labels.get(k) == v for k, v in self._service.selector.items()
        )

    def _know(self, pod: PodView) -> None:
        self._pods[pod.name] = pod
        member = endpoint(pod, self._service)
        if member is not None:
            self._endpoints[pod.name] = member
        else:
            self._endpoints.pop(pod.name, None)
        if pod.stage is PodStage.REMOVED:
            del self._pods[pod.name]

    def _on_pod(self, pod: PodView) -> None:
        if self._selects(pod):
            asks = matters(self._pods.get(pod.name), pod)
            self._know(pod)
            if asks:
                self._queue.add()

    def _on_slice(self, view: EndpointSliceView) -> None:
        if view.service == self._service.name:
            self._seen_generation = view.generation

    def _run(self) -> Process:
        while True:
            yield self._queue.next()
            yield from self._sync()

    def _half_a_sync_s(self) -> float:
        self._half_s = self._delays(self._cpu.latency("endpointslice_sync")) / 2
        return self._half_s

    def _sync(self) -> Process:
        """It has looked at its caches midway: pods that change after that ask for another sync."""
        self._slices.catch_up()
        last = self._api.slices[self._service.name]
        if self._seen_generation < last.generation:
            self._queue.add_after(self._backoff_s)
            self._backoff_s *= 2
            return
        self._backoff_s = FIRST_BACKOFF_S
        view = self._view(last.generation + 1)
        yield self._env.timeout(self._half_s)
        if view.endpoints == last.endpoints:
            return
        yield from self._bucket.take()
        yield from self._api.write(self._delays, lambda: view)
        self._world.log(f"endpointslice/{self._service.name}", "written", _summary(view.endpoints))
        # the answer of the write travels back while the watch event does: a follow-up sync may beat the event
        self._queue.rest(self._delays("watch_hop"))


def _summary(endpoints: tuple[EndpointView, ...]) -> str:
    state = {True: "terminating", False: "not-ready"}
    return " ".join(f"{e.pod}={'ready' if e.ready else state[e.terminating]}" for e in endpoints)
