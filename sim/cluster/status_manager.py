"""The kubelet's status manager: one goroutine, one GET and one PATCH a pod, in order.

Source: kubernetes v1.34 pkg/kubelet/status/status_manager.go:996-1041.
"""

from dataclasses import replace
from typing import Protocol

import simpy

from sim.cluster.api import Api, PodStage
from sim.delays import Delays
from sim.world import Pod, Process, World


class PodStatus(Protocol):
    """What the kubelet says of one pod now."""

    pod: Pod
    stage: PodStage
    has_address: bool
    ready_since_s: int

    @property
    def ready(self) -> bool: ...


class StatusManager:
    def __init__(self, env: simpy.Environment, world: World, api: Api, delays: Delays) -> None:
        self._env = env
        self._world = world
        self._api = api
        self._delays = delays
        self._pending: dict[str, PodStatus] = {}
        self._wake = env.event()
        env.process(self._run())

    def put(self, status: PodStatus) -> None:
        """The status has changed; several changes before its turn are one patch."""
        self._pending[status.pod.name] = status
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self) -> Process:
        while True:
            yield self._wake
            self._wake = self._env.event()
            while self._pending:
                status = self._pending.pop(next(iter(self._pending)))
                yield self._env.timeout(self._delays("status_patch"))
                self._patch(status)

    def _patch(self, status: PodStatus) -> None:
        view = self._api.pods[status.pod.name]
        if view.stage is PodStage.REMOVED:
            return
        new = replace(
            view,
            stage=status.stage,
            has_address=status.has_address,
            ready=status.ready,
            ready_since_s=status.ready_since_s,
            n_restarts=max(server.n_restarts for server in status.pod.servers.values()),
        )
        if new != view:
            if new.ready != view.ready:
                self._world.log(status.pod.name, "ready" if new.ready else "not_ready")
            self._api.commit(new)
