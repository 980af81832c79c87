"""The ReplicaSet controller: creates pods in growing batches, chooses victims, counts the available.

Source: kubernetes v1.34 pkg/controller/replicaset/replica_set.go and pkg/controller/controller_utils.go.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import simpy

from sim.cluster.api import Api, PodStage, PodView, ReplicaSetView, TokenBucket, WorkQueue
from sim.delays import Delays
from sim.world import Process, World

BURST: Final = 500  # replica_set.go:72, creations or deletions of one sync


def is_available(pod: PodView, min_ready_s: int, now_s: float) -> bool:
    """pkg/api/v1/pod/util.go:283-294; the transition time has whole seconds, truncated."""
    return pod.ready and (min_ready_s == 0 or math.floor(pod.ready_since_s) + min_ready_s <= now_s)


def _age_rank(age_s: float) -> int:
    """Ages compare as floor(log2 of nanoseconds): equal buckets fall through to the UID (:922-934)."""
    return math.floor(math.log2(max(1.0, age_s * 1e9)))


def victims(
    pods: Sequence[PodView], siblings_on_node: Callable[[PodView], int], n: int, now_s: float
) -> list[PodView]:
    """The *n* pods that go first (controller_utils.go:835-909, first difference decides)."""
    if n >= len(pods):
        return list(pods)

    def order(pod: PodView) -> tuple[float, ...]:
        return (
            0 if pod.node is None else 1,
            0 if pod.stage is PodStage.PENDING else 1,
            1 if pod.ready else 0,
            -siblings_on_node(pod),
            _age_rank(now_s - pod.ready_since_s) if pod.ready else 0,
            -pod.n_restarts,
            _age_rank(now_s - pod.created_s),
            pod.uid,
        )

    return sorted(pods, key=order)[:n]


class ReplicaSetController:
    """Reconciles one ReplicaSet."""

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        api: Api,
        delays: Delays,
        bucket: TokenBucket,
        view: ReplicaSetView,
        *,
        min_ready_s: int,
        grace_s: int,
        new_pod: Callable[[ReplicaSetView], PodView],
    ) -> None:
        self._env = env
        self._world = world
        self._api = api
        self._delays = delays
        self._bucket = bucket
        self._view = view
        self._min_ready_s = min_ready_s
        self._grace_s = grace_s
        self._new_pod = new_pod
        self._queue = WorkQueue(env)
        self._pods: dict[str, PodView] = {}
        """Every pod of the Deployment, for the siblings; those of this set are `_mine`."""
        self._expected: set[str] = set()
        """Creations and deletions under way that the watch has not shown yet."""
        api.watch(ReplicaSetView, delays, self._on_replica_set)
        api.watch(PodView, delays, self._on_pod)
        env.process(self._run())
        self._queue.add()

    def adopt(self, pods: Sequence[PodView]) -> None:
        self._pods.update({pod.name: pod for pod in pods})

    def _on_replica_set(self, view: ReplicaSetView) -> None:
        if view.name == self._view.name:
            self._view = view
            self._queue.add()

    def _on_pod(self, view: PodView) -> None:
        if view.deployment != self._view.deployment:
            return
        if view.stage is PodStage.REMOVED:
            self._pods.pop(view.name, None)
        else:
            self._pods[view.name] = view
        if view.replica_set == self._view.name:
            self._expected.discard(f"create {view.name}")
            if view.deleted or view.stage is PodStage.REMOVED:
                self._expected.discard(f"delete {view.name}")
            self._queue.add()

    def _run(self) -> Process:
        while True:
            yield from self._queue.get()
            yield self._env.timeout(self._delays("controller_sync"))
            yield from self._sync()

    def _mine(self) -> list[PodView]:
        return [pod for pod in self._pods.values() if pod.replica_set == self._view.name and pod.active]

    def _sync(self) -> Process:
        mine = self._mine()  # the status counts the list from before this sync's changes (:738-758)
        if not self._expected:
            missing = self._view.replicas - len(mine)
            if missing > 0:
                yield from self._create(min(missing, BURST))
            elif missing < 0:
                yield from self._delete(
                    victims(mine, self._siblings_on_node, min(-missing, BURST), self._env.now)
                )
        yield from self._write_status(mine)

    def _siblings_on_node(self, pod: PodView) -> int:
        return sum(1 for other in self._pods.values() if other.active and other.node == pod.node)

    def _create(self, n: int) -> Process:
        """slowStartBatch (:815-839): 1, 2, 4, … at once, each batch after the last returned."""
        batch = 1
        while n > 0:
            writes = []
            for _ in range(min(batch, n)):
                pod = self._new_pod(self._view)
                self._expected.add(f"create {pod.name}")
                writes.append(self._env.process(self._create_one(pod)))
            n -= len(writes)
            batch *= 2
            yield self._env.all_of(writes)

    def _create_one(self, pod: PodView) -> Process:
        yield from self._bucket.take()
        yield from self._api.write(self._delays, lambda: pod)
        self._world.log(pod.name, "created")

    def _delete(self, pods: Sequence[PodView]) -> Process:
        self._expected.update(f"delete {pod.name}" for pod in pods)
        yield self._env.all_of([self._env.process(self._delete_one(pod.name)) for pod in pods])

    def _delete_one(self, name: str) -> Process:
        """DELETE with the pod's own grace; unscheduled or grace 0 means gone at once (registry strategy.go:179)."""

        def change() -> PodView:
            pod = self._api.pods[name]
            at_once = pod.node is None or self._grace_s == 0
            return replace(pod, deleted=True, stage=PodStage.REMOVED if at_once else pod.stage)

        yield from self._bucket.take()
        yield from self._api.write(self._delays, change)
        self._world.log(name, "deleted")

    def _write_status(self, mine: Sequence[PodView]) -> Process:
        now_s = float(self._env.now)
        ready = [pod for pod in mine if pod.ready]
        available = sum(is_available(pod, self._min_ready_s, now_s) for pod in mine)
        status = (len(mine), len(ready), available)
        if self._min_ready_s and available < len(ready):
            due_s = min(
                math.floor(p.ready_since_s) + self._min_ready_s
                for p in ready
                if not is_available(p, self._min_ready_s, now_s)
            )
            self._queue.add_after(max(0.0, due_s - now_s) + 1e-6)
        last = self._api.replica_sets[self._view.name]
        if status == (last.current, last.ready, last.available):
            return

        def change() -> ReplicaSetView:
            current = self._api.replica_sets[self._view.name]
            return replace(current, current=status[0], ready=status[1], available=status[2])

        yield from self._bucket.take()
        yield from self._api.write(self._delays, change)
