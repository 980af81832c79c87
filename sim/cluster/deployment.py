"""The Deployment controller: which ReplicaSet grows and which shrinks, and when the rollout is complete.

Arithmetic first (pure functions over views), the process last.
Source: kubernetes v1.34 pkg/controller/deployment/{rolling,recreate,sync}.go.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any

import simpy

from sim.cluster.api import Api, PodView, ReplicaSetView, TokenBucket, WorkQueue
from sim.delays import Delays
from sim.scenario.model import Deployment, Recreate, RollingUpdate
from sim.world import Process, World


def new_replica_set_replicas(
    deployment: Deployment, new: ReplicaSetView | None, sets: Sequence[ReplicaSetView]
) -> int:
    """spec.replicas that the new ReplicaSet should have now [pods].

    util/deployment_util.go:820-839: grow by what replicas + maxSurge leaves, never beyond replicas.
    """
    have = new.replicas if new else 0
    if isinstance(deployment.strategy, Recreate):
        return deployment.replicas
    room = deployment.replicas + deployment.strategy.max_surge - sum(s.replicas for s in sets)
    if room <= 0:
        return have
    return have + min(room, deployment.replicas - have)


def scale_down(deployment: Deployment, new: ReplicaSetView, old: Sequence[ReplicaSetView]) -> dict[str, int]:
    """Old ReplicaSets that shrink in this pass, with their new spec.replicas.

    rolling.go:86-235: first what is not available, within the gate; then what availability allows; oldest first.
    A status that lags its spec (`spec < available`) ends the pass, as the swallowed error there does.
    """
    assert isinstance(deployment.strategy, RollingUpdate)
    olds = sorted((s for s in old if s.replicas > 0), key=lambda s: s.serial)
    if not olds:
        return {}
    min_available = deployment.replicas - deployment.strategy.max_unavailable
    gate = sum(s.replicas for s in (*old, new)) - min_available - (new.replicas - new.available)
    if gate <= 0:
        return {}
    target = {s.name: s.replicas for s in olds}
    removed = 0
    for s in olds:  # cleanupUnhealthyReplicas
        if removed >= gate:
            break
        if s.replicas < s.available:
            return {}
        unhealthy = min(gate - removed, s.replicas - s.available)
        target[s.name] -= unhealthy
        removed += unhealthy
    spare = sum(s.available for s in (*old, new)) - min_available
    for s in olds:  # scaleDownOldReplicaSetsForRollingUpdate
        if spare <= 0:
            break
        shrink = min(target[s.name], spare)
        target[s.name] -= shrink
        spare -= shrink
    return {s.name: target[s.name] for s in olds if target[s.name] != s.replicas}


def is_complete(deployment: Deployment, new: ReplicaSetView | None, sets: Sequence[ReplicaSetView]) -> bool:
    """`kubectl rollout status`: all replicas updated, available, and no other pod counted."""
    return (
        new is not None
        and new.current == deployment.replicas
        and sum(s.current for s in sets) == deployment.replicas
        and sum(s.available for s in sets) == deployment.replicas
    )


class DeploymentController:
    """Reconciles one Deployment."""

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        api: Api,
        delays: Delays,
        bucket: TokenBucket,
        deployment: Deployment,
    ) -> None:
        self._env = env
        self._world = world
        self._api = api
        self._delays = delays
        self._bucket = bucket
        self._deployment = deployment
        self._queue = WorkQueue(env)
        self._sets: dict[str, ReplicaSetView] = {}
        self._pods: dict[str, PodView] = {}
        self._serial = 1
        self.rollout_started_s: float | None = None
        self.rollout_complete_s: float | None = None
        api.watch(ReplicaSetView, delays, self._on_replica_set)
        api.watch(PodView, delays, self._on_pod)
        env.process(self._run())

    def adopt(self, replica_set: ReplicaSetView, pods: Sequence[PodView]) -> None:
        """The steady state before the run."""
        self._sets[replica_set.name] = replica_set
        self._pods.update({pod.name: pod for pod in pods})

    def update(self, to: Deployment) -> None:
        """`kubectl apply`, `set image` or `rollout restart`: the spec has changed now."""
        if (
            to.template.revision != self._deployment.template.revision
            or to.replicas != self._deployment.replicas
        ):
            self.rollout_started_s = float(self._env.now)
            self.rollout_complete_s = None
            self._world.log(f"deployment/{to.name}", "updated")
        self._deployment = to
        self._queue.add_after(self._delays("watch_hop"))

    def _on_replica_set(self, view: ReplicaSetView) -> None:
        if view.deployment == self._deployment.name:
            self._sets[view.name] = view
            self._queue.add()

    def _on_pod(self, view: PodView) -> None:
        """Pod events matter for Recreate alone: when no pod is left (deployment_controller.go:380-396)."""
        if view.deployment != self._deployment.name:
            return
        if view.stage.name == "REMOVED":
            self._pods.pop(view.name, None)
        else:
            self._pods[view.name] = view
        if isinstance(self._deployment.strategy, Recreate) and not self._pods:
            self._queue.add()

    def _run(self) -> Process:
        while True:
            yield from self._queue.get()
            yield self._env.timeout(self._delays("controller_sync"))
            yield from self._sync()
            self._report()

    def _sync(self) -> Process:
        deployment = self._deployment
        sets = list(self._sets.values())
        active = [s for s in sets if s.replicas > 0]
        if any(s.desired != deployment.replicas for s in active):
            yield from self._scale_to_new_size(active)
            return
        new = next((s for s in sets if s.revision == deployment.template.revision), None)
        old = [s for s in sets if s is not new]
        if isinstance(deployment.strategy, Recreate):
            yield from self._recreate(new, old)
            return
        if new is None:
            new = yield from self._create(new_replica_set_replicas(deployment, None, sets))
        else:
            wanted = new_replica_set_replicas(deployment, new, sets)
            if wanted > new.replicas:
                yield from self._scale(new.name, wanted)
                return
        for name, replicas in scale_down(deployment, new, old).items():
            yield from self._scale(name, replicas)

    def _recreate(self, new: ReplicaSetView | None, old: Sequence[ReplicaSetView]) -> Process:
        """recreate.go: all old to zero; the new ReplicaSet only when no old pod is left."""
        shrinking = [s for s in old if s.replicas > 0]
        for s in shrinking:
            yield from self._scale(s.name, 0)
        if shrinking or any(s.current > 0 for s in old):
            return
        if any(pod.replica_set in {s.name for s in old} for pod in self._pods.values()):
            return
        if new is None:
            yield from self._create(self._deployment.replicas)
        elif new.replicas < self._deployment.replicas:
            yield from self._scale(new.name, self._deployment.replicas)

    def _scale_to_new_size(self, active: Sequence[ReplicaSetView]) -> Process:
        """sync.go:307-340, one active ReplicaSet: it takes the new size at once, before any rollout."""
        for s in active[-1:]:
            yield from self._scale(s.name, self._deployment.replicas)
        for s in active[:-1]:
            yield from self._scale(s.name, s.replicas)  # only its annotation changes

    def _create(self, replicas: int) -> Generator[simpy.Event, Any, ReplicaSetView]:
        self._serial += 1
        deployment = self._deployment
        view = ReplicaSetView(
            name=f"{deployment.name}-{deployment.template.revision[:6]}-{self._serial}",
            deployment=deployment.name,
            revision=deployment.template.revision,
            serial=self._serial,
            replicas=replicas,
            desired=deployment.replicas,
        )
        yield from self._bucket.take()
        self._sets[view.name] = view
        yield from self._api.write(self._delays, lambda: view)
        return view

    def _scale(self, name: str, replicas: int) -> Process:
        def change() -> ReplicaSetView:
            return replace(self._api.replica_sets[name], replicas=replicas, desired=self._deployment.replicas)

        yield from self._bucket.take()
        written = yield from self._api.write(self._delays, change)
        assert isinstance(written, ReplicaSetView)
        self._sets[name] = replace(self._sets[name], replicas=written.replicas, desired=written.desired)

    def _report(self) -> None:
        sets = list(self._sets.values())
        new = next((s for s in sets if s.revision == self._deployment.template.revision), None)
        if self.rollout_started_s is None or self.rollout_complete_s is not None:
            return
        if is_complete(self._deployment, new, sets):
            self.rollout_complete_s = float(self._env.now) + self._delays("api_write")
            self._world.log(f"deployment/{self._deployment.name}", "complete")
