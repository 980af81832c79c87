"""The kubelet's status manager: one goroutine, one GET and one PATCH a pod, in order.

Source: kubernetes v1.34 pkg/kubelet/status/status_manager.go:423-484,996-1041.
"""

from dataclasses import dataclass, replace

import simpy

from sim.cluster.api import Api, PodStage
from sim.delays import Delays
from sim.world import Process, World


@dataclass(frozen=True, slots=True, kw_only=True)
class PodStatus:
    """What the kubelet says of one pod."""

    stage: PodStage
    has_address: bool
    ready: bool
    ready_since_s: int
    n_restarts: int


class StatusManager:
    def __init__(self, env: simpy.Environment, world: World, api: Api, delays: Delays) -> None:
        self._env = env
        self._world = world
        self._api = api
        self._delays = delays
        self._last: dict[str, PodStatus] = {}
        self._pending: dict[str, PodStatus] = {}
        self._wake = env.event()
        env.process(self._run())

    def put(self, pod: str, status: PodStatus) -> None:
        """A status that has changed is patched; several changes before the pod's turn are one patch."""
        if self._last.get(pod) == status:
            return
        self._last[pod] = self._pending[pod] = status
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self) -> Process:
        while True:
            yield self._wake
            self._wake = self._env.event()
            while self._pending:
                pod = next(iter(self._pending))
                status = self._pending.pop(pod)  # what changes during the patch is one more
                yield self._env.timeout(self._delays("status_patch"))
                self._patch(pod, status)

    def _patch(self, pod: str, status: PodStatus) -> None:
        view = self._api.pods[pod]
        if view.stage is PodStage.REMOVED:
            return
        if status.ready != view.ready:
            self._world.log(pod, "ready" if status.ready else "not_ready")
        self._api.commit(
            replace(
                view,
                stage=status.stage,
                has_address=status.has_address,
                ready=status.ready,
                ready_since_s=status.ready_since_s,
                n_restarts=status.n_restarts,
            )
        )
