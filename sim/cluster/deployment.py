"""The Deployment controller: which ReplicaSet grows and which shrinks, and when the rollout is complete.

Arithmetic first (pure functions over views), the process last.
Source: kubernetes v1.34 pkg/controller/deployment/{rolling,recreate,sync}.go.
"""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import simpy

from sim.cluster.api import CONTROLLER_MANAGER, Api, PodStage, PodView, ReplicaSetView, TokenBucket, WorkQueue
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.scenario.model import Deployment, Recreate, RollingUpdate
from sim.world import Process, World

RETRY_S: Final = 0.005
"""After a sync that ended with an error (client-go util/workqueue/default_rate_limiters.go:50-56)."""


def max_surge(deployment: Deployment) -> int:
    strategy = deployment.strategy
    return strategy.max_surge if isinstance(strategy, RollingUpdate) else 0


def min_available(deployment: Deployment) -> int:
    """Pods that a rolling update leaves available (util/deployment_util.go:444-466)."""
    assert isinstance(deployment.strategy, RollingUpdate)
    return deployment.replicas - min(deployment.strategy.max_unavailable, deployment.replicas)


def new_replica_set_replicas(
    deployment: Deployment, new: ReplicaSetView | None, sets: Sequence[ReplicaSetView]
) -> int:
    """spec.replicas that the new ReplicaSet should have now [pods].

    rolling.go:68-84, util/deployment_util.go:810-839: grow by what replicas + maxSurge leaves, never beyond
    replicas; what is too large shrinks at once.
    """
    have = new.replicas if new else 0
    if isinstance(deployment.strategy, Recreate) or have > deployment.replicas:
        return deployment.replicas
    room = deployment.replicas + max_surge(deployment) - sum(s.replicas for s in sets)
    return have + max(0, min(room, deployment.replicas - have))


def scale_down(deployment: Deployment, new: ReplicaSetView, old: Sequence[ReplicaSetView]) -> dict[str, int]:
    """Old ReplicaSets that shrink in this pass, with their new spec.replicas.

    rolling.go:86-235: first what is not available, within the gate; then what availability allows; oldest first.
    A status that lags its spec (`spec < available`) ends the pass, as the swallowed error there does.
    """
    olds = sorted((s for s in old if s.replicas > 0), key=lambda s: s.serial)
    gate = sum(s.replicas for s in (*olds, new)) - min_available(deployment) - (new.replicas - new.available)
    if not olds or gate <= 0:
        return {}
    target = {s.name: s.replicas for s in olds}
    for s in olds:  # cleanupUnhealthyReplicas
        if gate <= 0:
            break
        if s.replicas < s.available:
            return _changed(target, olds)
        unhealthy = min(gate, s.replicas - s.available)
        target[s.name] -= unhealthy
        gate -= unhealthy
    spare = sum(s.available for s in (*olds, new)) - min_available(deployment)
    for s in olds:  # scaleDownOldReplicaSetsForRollingUpdate
        shrink = min(target[s.name], max(0, spare))
        target[s.name] -= shrink
        spare -= shrink
    return _changed(target, olds)


def _changed(target: dict[str, int], sets: Sequence[ReplicaSetView]) -> dict[str, int]:
    return {s.name: target[s.name] for s in sets if target[s.name] != s.replicas}


def scale_to_size(
    deployment: Deployment, new: ReplicaSetView | None, old: Sequence[ReplicaSetView]
) -> dict[str, int]:
    """spec.replicas of each ReplicaSet after the Deployment's own replicas have changed (sync.go:307-400).

    The only active one takes the new size; several share the difference by their sizes, the largest gets what
    rounding leaves. A pass that scales does not roll out.
    """
    sets = [s for s in (*old, new) if s is not None]
    active = [s for s in sets if s.replicas > 0]
    if len(active) <= 1:
        only = active[0] if active else new or max(old, key=lambda s: s.serial)
        return {} if only.replicas == deployment.replicas else {only.name: deployment.replicas}
    if new is not None and _saturated(deployment, new):
        return {s.name: 0 for s in old if s.replicas > 0}
    if isinstance(deployment.strategy, Recreate):
        return {}
    allowed = deployment.replicas + max_surge(deployment) if deployment.replicas > 0 else 0
    to_add = allowed - sum(s.replicas for s in active)
    newest_first = to_add > 0
    active.sort(key=lambda s: (-s.replicas, -s.serial if newest_first else s.serial))
    target, added = {}, 0
    for s in active:
        share = _share(deployment, s, sets, to_add - added)
        target[s.name] = s.replicas + share
        added += share
    largest = active[0].name
    target[largest] = max(0, target[largest] + to_add - added)
    return target


def _saturated(deployment: Deployment, new: ReplicaSetView) -> bool:
    return new.replicas == new.desired == new.available == deployment.replicas


def _share(deployment: Deployment, s: ReplicaSetView, sets: Sequence[ReplicaSetView], left: int) -> int:
    """Replicas that one of several sets gains or loses (util/deployment_util.go:481-530)."""
    if left == 0:
        return 0
    if deployment.replicas == 0:
        share = -s.replicas
    elif (before := s.max_replicas or sum(other.current for other in sets)) == 0:
        share = 0
    else:
        size = s.replicas * (deployment.replicas + max_surge(deployment)) / before
        share = math.floor(size + 0.5) - s.replicas
    return min(share, left) if left > 0 else max(share, left)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentStatus:
    """What the controller last wrote; a change is one more write."""

    generation: int = 0
    replicas: int = 0
    updated: int = 0
    ready: int = 0
    available: int = 0

    def complete(self, replicas: int) -> bool:
        """`kubectl rollout status`: all replicas updated and available, and no other pod counted."""
        return self.updated == self.replicas == self.available == replicas


class DeploymentController:
    """Reconciles one Deployment.

    Its own writes count as seen at once: a real pass with a stale cache is refused by the API server (the
    resourceVersion differs) and repeated until the cache is fresh.
    """

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        api: Api,
        delays: Delays,
        bucket: TokenBucket,
        deployment: Deployment,
        cpu: NodeCpu,
    ) -> None:
        self._env = env
        self._cpu = cpu
        self._world = world
        self._api = api
        self._delays = delays
        self._bucket = bucket
        self._deployment = deployment
        self._generation = 1
        self._queue = WorkQueue(env, lambda: delays(cpu.latency("controller_sync")))
        self._sets: dict[str, ReplicaSetView] = {}
        self._pods: dict[str, PodView] = {}
        self._status = DeploymentStatus()
        self.rollout_started_s: float | None = None
        self.rollout_complete_s: float | None = None
        api.watch(ReplicaSetView, CONTROLLER_MANAGER, delays, self._on_replica_set)
        api.watch(PodView, CONTROLLER_MANAGER, delays, self._on_pod)
        env.process(self._run())

    def adopt(self, replica_set: ReplicaSetView, pods: Sequence[PodView]) -> None:
        """The steady state before the run."""
        self._sets[replica_set.name] = replica_set
        self._pods.update({pod.name: pod for pod in pods})
        self._status = self._counted()

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
        self._generation += 1
        self._queue.add_after(self._delays("watch_hop"))

    def _on_replica_set(self, view: ReplicaSetView) -> None:
        if view.deployment != self._deployment.name:
            return
        known = self._sets.get(view.name)
        if known is None or view.version >= known.version:
            self._sets[view.name] = view
        self._queue.add()

    def _on_pod(self, view: PodView) -> None:
        """Pod events matter for Recreate alone: when no pod is left (deployment_controller.go:380-396)."""
        if view.deployment != self._deployment.name:
            return
        if view.stage is PodStage.REMOVED:
            self._pods.pop(view.name, None)
        else:
            self._pods[view.name] = view
        if isinstance(self._deployment.strategy, Recreate) and not self._pods:
            self._queue.add()

    # ------------------------------------------------------------------ one pass

    def _run(self) -> Process:
        while True:
            yield self._queue.next()
            yield from self._sync()

    def _sync(self) -> Process:
        deployment = self._deployment
        new, old = self._new(), self._old()
        if new is not None and (yield from self._renew(new, old)):
            return
        if any(s.desired != deployment.replicas for s in self._sets.values() if s.replicas > 0):
            for name, replicas in scale_to_size(deployment, new, old).items():
                yield from self._scale(name, replicas)
        elif isinstance(deployment.strategy, Recreate):
            yield from self._recreate(new, old)
        else:
            yield from self._roll(new, old)
        yield from self._write_status()

    def _new(self) -> ReplicaSetView | None:
        """The oldest set of the Deployment's template (util/deployment_util.go:627-640)."""
        revision = self._deployment.template.revision
        same = [s for s in self._sets.values() if s.revision == revision]
        return min(same, key=lambda s: s.serial, default=None)

    def _old(self) -> list[ReplicaSetView]:
        revision = self._deployment.template.revision
        return [s for s in self._sets.values() if s.revision != revision]

    def _renew(self, new: ReplicaSetView, old: Sequence[ReplicaSetView]) -> Generator[simpy.Event, Any, bool]:
        """A rollback, or another minReadySeconds: the existing set is marked as the new one (sync.go:151-191).

        The same pass marks it once more from its stale cache, is refused, and is repeated.
        """
        rollout = max((s.rollout for s in old), default=0) + 1
        if new.rollout >= rollout and new.min_ready_s == self._deployment.min_ready_s:
            return False
        rollout = max(new.rollout, rollout)
        yield from self._write(new.name, rollout=rollout, min_ready_s=self._deployment.min_ready_s)
        yield from self._other_write()  # the refused one
        yield self._env.timeout(RETRY_S)
        yield from self._other_write()  # the Deployment's revision
        self._queue.add()
        return True

    def _roll(self, new: ReplicaSetView | None, old: Sequence[ReplicaSetView]) -> Process:
        """rolling.go:31-66: scale up or down, never both; a set that this pass creates does not count."""
        wanted = new_replica_set_replicas(self._deployment, new, list(self._sets.values()))
        if new is None:
            new = yield from self._create(wanted)
        elif wanted != new.replicas:
            yield from self._scale(new.name, wanted)
            return
        for name, replicas in scale_down(self._deployment, new, old).items():
            yield from self._scale(name, replicas)

    def _recreate(self, new: ReplicaSetView | None, old: Sequence[ReplicaSetView]) -> Process:
        """recreate.go: all old to zero; the new ReplicaSet only when no old pod runs."""
        shrinking = [s for s in old if s.replicas > 0]
        for s in shrinking:
            yield from self._scale(s.name, 0)
        if shrinking or any(s.current > 0 for s in old) or self._old_pods_run(new):
            return
        if new is None:
            yield from self._create(self._deployment.replicas)
        elif new.replicas != self._deployment.replicas:
            yield from self._scale(new.name, self._deployment.replicas)

    def _old_pods_run(self, new: ReplicaSetView | None) -> bool:
        others = (p for p in self._pods.values() if new is None or p.replica_set != new.name)
        return any(pod.stage is not PodStage.TERMINAL for pod in others)

    # ------------------------------------------------------------------ writes

    def _create(self, replicas: int) -> Generator[simpy.Event, Any, ReplicaSetView]:
        """The set and then the Deployment's revision (sync.go:193-305)."""
        deployment = self._deployment
        serial = max((s.serial for s in self._sets.values()), default=0) + 1
        view = ReplicaSetView(
            name=f"{deployment.name}-{deployment.template.revision[:6]}-{serial}",
            deployment=deployment.name,
            revision=deployment.template.revision,
            serial=serial,
            replicas=replicas,
            desired=deployment.replicas,
            max_replicas=deployment.replicas + max_surge(deployment),
            rollout=max((s.rollout for s in self._sets.values()), default=0) + 1,
            min_ready_s=deployment.min_ready_s,
        )
        yield from self._bucket.take()
        self._sets[view.name] = view
        yield from self._api.write(self._delays, lambda: view)
        yield from self._other_write()
        return view

    def _scale(self, name: str, replicas: int) -> Process:
        deployment = self._deployment
        yield from self._write(
            name,
            replicas=replicas,
            desired=deployment.replicas,
            max_replicas=deployment.replicas + max_surge(deployment),
        )

    def _write(self, name: str, **changes: Any) -> Process:
        def change() -> ReplicaSetView:
            current = self._api.replica_sets[name]
            spec = (current.replicas, current.min_ready_s)
            wanted = (changes.get("replicas", spec[0]), changes.get("min_ready_s", spec[1]))
            return current.revised(**changes, generation=current.generation + int(wanted != spec))

        yield from self._bucket.take()
        written = yield from self._api.write(self._delays, change)
        assert isinstance(written, ReplicaSetView)
        seen: dict[str, Any] = {"version": written.version, "generation": written.generation}
        self._sets[name] = replace(self._sets[name], **seen, **changes)

    def _other_write(self) -> Process:
        """A request that nobody else reads: it costs its token and its time."""
        yield from self._bucket.take()
        yield self._env.timeout(self._delays("api_write"))

    def _counted(self) -> DeploymentStatus:
        sets = list(self._sets.values())
        new = self._new()
        return DeploymentStatus(
            generation=self._generation,
            replicas=sum(s.current for s in sets),
            updated=new.current if new is not None else 0,
            ready=sum(s.ready for s in sets),
            available=sum(s.available for s in sets),
        )

    def _write_status(self) -> Process:
        """At the end of each pass; its own event asks for one more, which then finds nothing to do."""
        status, replicas = self._counted(), self._deployment.replicas
        if status == self._status:
            return
        self._status = status
        yield from self._other_write()
        self._queue.add_after(self._delays("watch_hop"))
        started = self.rollout_started_s is not None and self.rollout_complete_s is None
        if started and status.generation == self._generation and status.complete(replicas):
            self.rollout_complete_s = float(self._env.now)
            self._world.log(f"deployment/{self._deployment.name}", "complete")
