"""The ReplicaSet controller: creates pods in growing batches, chooses victims, counts the available.

Source: kubernetes v1.34 pkg/controller/replicaset/replica_set.go and pkg/controller/controller_utils.go.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import cmp_to_key
from typing import Final

import simpy

from sim.cluster.api import Api, PodStage, PodView, ReplicaSetView, TokenBucket, WorkQueue
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.waiting import all_of
from sim.world import Process, World

BURST: Final = 500  # replica_set.go:72, creations or deletions of one sync
EVENTS: Final = 25
"""Events of one ReplicaSet before client-go drops them (tools/record/events_cache.go:47, 1 more in 5 min)."""
TIMER_SLACK_S: Final = 1e-6  # a timer never fires before its time


def available_from_s(pod: PodView, min_ready_s: int) -> int:
    """When a ready pod becomes available; the transition time has whole seconds (pkg/api/v1/pod/util.go:283-294)."""
    return pod.ready_since_s + min_ready_s


def is_available(pod: PodView, min_ready_s: int, now_s: float) -> bool:
    return pod.ready and (min_ready_s == 0 or available_from_s(pod, min_ready_s) <= now_s)


def _age_rank(age_s: float) -> int:
    """Ages compare as whole log2 of nanoseconds (:922-934)."""
    return math.floor(math.log2(age_s * 1e9)) if age_s > 0 else -1


def _first_by_age(left_s: float, right_s: float, left: PodView, right: PodView) -> int:
    """Younger goes first; ages of the same rank leave it to the UID."""
    ranks = _age_rank(left_s) - _age_rank(right_s)
    return ranks or (-1 if left.uid < right.uid else 1)


def goes_first(left: PodView, right: PodView, *, siblings: Counter[int | None], now_s: float) -> int:
    """Negative: *left* is deleted rather than *right*; 0: no rule tells them apart.

    controller_utils.go:835-909, the first difference decides. *siblings* counts the Deployment's active pods
    by node. Without `pod-deletion-cost`, which a template cannot make differ between pods of one set.
    """
    for mine, other in (
        (left.node is not None, right.node is not None),
        (left.stage is not PodStage.PENDING, right.stage is not PodStage.PENDING),
        (left.ready, right.ready),
        (-siblings[left.node], -siblings[right.node]),
    ):
        if mine != other:
            return mine - other
    if left.ready and left.ready_since_s != right.ready_since_s:
        return _first_by_age(now_s - left.ready_since_s, now_s - right.ready_since_s, left, right)
    if left.n_restarts != right.n_restarts:
        return right.n_restarts - left.n_restarts
    if left.created_s != right.created_s:
        return _first_by_age(now_s - left.created_s, now_s - right.created_s, left, right)
    return 0


def victims(pods: Sequence[PodView], related: Iterable[PodView], n: int, now_s: float) -> list[PodView]:
    """The *n* of *pods* that go first; *related* are the pods of all ReplicaSets of the Deployment.

    The real sort starts from a random order: here by UID.
    """
    if n >= len(pods):
        return list(pods)
    siblings = Counter(pod.node for pod in related if pod.active)

    def order(left: PodView, right: PodView) -> int:
        return goes_first(left, right, siblings=siblings, now_s=now_s)

    return sorted(sorted(pods, key=lambda pod: pod.uid), key=cmp_to_key(order))[:n]


class ReplicaSetController:
    """Reconciles one ReplicaSet. Its owner hands it what the controller's watches bring.

    Parameters
    ----------
    cpus : sequence of NodeCpu
        By node; the control plane runs on the first, as in kind.
    """

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        api: Api,
        delays: Delays,
        bucket: TokenBucket,
        view: ReplicaSetView,
        cpus: Sequence[NodeCpu],
        *,
        grace_s: int,
        new_pod: Callable[[ReplicaSetView], PodView],
    ) -> None:
        self._env = env
        self._world = world
        self._api = api
        self._delays = delays
        self._bucket = bucket
        self._view = view
        self._cpus = cpus
        self._grace_s = grace_s
        self._new_pod = new_pod
        self._events_left = EVENTS
        self._queue = WorkQueue(env, lambda: delays(cpus[0].latency("controller_sync")))
        self._pods: dict[str, PodView] = {}
        self._siblings: dict[str, PodView] = {}
        """Pods of the Deployment's other ReplicaSets."""
        self._expected: set[str] = set()
        """Creations and deletions under way that the watch has not shown yet."""
        env.process(self._run())
        self._queue.add()

    def see_replica_set(self, view: ReplicaSetView) -> None:
        self._view = view
        self._queue.add()

    def see_pod(self, view: PodView) -> None:
        """A pod of this ReplicaSet's Deployment has changed. A deletion counts from its timestamp (:463-469)."""
        mine = view.replica_set == self._view.name
        pods = self._pods if mine else self._siblings
        if view.stage is PodStage.REMOVED:
            pods.pop(view.name, None)
        else:
            pods[view.name] = view
        if mine:
            self._expected.discard(f"create {view.name}")
            if view.deleted or view.stage is PodStage.REMOVED:
                self._expected.discard(f"delete {view.name}")
            self._queue.add()

    def _run(self) -> Process:
        while True:
            yield self._queue.next()
            yield from self._sync()

    def _sync(self) -> Process:
        view = self._view
        mine = [pod for pod in self._pods.values() if pod.active]
        if not self._expected:
            missing = view.replicas - len(mine)
            if missing > 0:
                yield from self._create(min(missing, BURST))
            elif missing < 0:
                related = (*self._pods.values(), *self._siblings.values())
                yield from self._delete(victims(mine, related, min(-missing, BURST), self._env.now))
        # the status counts the list from before this sync's changes (:738-758)
        yield from self._write_status(view, mine)

    def _create(self, n: int) -> Process:
        """slowStartBatch (:815-839): 1, 2, 4, … at once, each batch after the last returned."""
        batch = 1
        while n > 0:
            pods = [self._new_pod(self._view) for _ in range(min(batch, n))]
            self._expected.update(f"create {pod.name}" for pod in pods)
            n -= len(pods)
            batch *= 2
            yield from all_of(self._env, [self._create_one(pod) for pod in pods])

    def _create_one(self, pod: PodView) -> Process:
        yield from self._bucket.take()
        created = yield from self._api.write(
            self._delays, lambda: replace(pod, created_s=math.floor(self._env.now))
        )
        assert isinstance(created, PodView)
        self._world.log(pod.name, "created")
        self._record_event()

    def _delete(self, pods: Sequence[PodView]) -> Process:
        self._expected.update(f"delete {pod.name}" for pod in pods)
        yield from all_of(self._env, [self._delete_one(pod.name) for pod in pods])

    def _delete_one(self, name: str) -> Process:
        """DELETE with the pod's own grace; unscheduled or grace 0 means gone at once (registry strategy.go:179)."""

        def change() -> PodView:
            pod = self._api.pods[name]
            at_once = pod.node is None or self._grace_s == 0
            return replace(pod, deleted=True, stage=PodStage.REMOVED if at_once else pod.stage)

        yield from self._bucket.take()
        yield from self._api.write(self._delays, change)
        self._cpus[self._api.pods[name].node or 0].deletion()
        self._world.log(name, "deleted")
        self._record_event()

    def _record_event(self) -> None:
        """An Event is a request of the same client: nobody waits for it, but it takes a token (:236)."""
        if self._events_left:
            self._events_left -= 1
            self._bucket.charge()

    def _write_status(self, view: ReplicaSetView, mine: Sequence[PodView]) -> Process:
        """One write where a count has changed, or the spec since the last one (replica_set_utils.go:41-56)."""
        now_s = float(self._env.now)
        min_ready_s = view.min_ready_s
        ready = [pod for pod in mine if pod.ready]
        waiting = [pod for pod in ready if not is_available(pod, min_ready_s, now_s)]
        if waiting:
            due_s = min(available_from_s(pod, min_ready_s) for pod in waiting)
            self._queue.add_after(due_s - now_s + TIMER_SLACK_S)
        status = {
            "current": len(mine),
            "ready": len(ready),
            "available": len(ready) - len(waiting),
            "observed": view.generation,
        }
        last = self._api.replica_sets[view.name]
        if (last.current, last.ready, last.available, last.observed) == tuple(status.values()):
            return
        yield from self._bucket.take()
        yield from self._api.write(self._delays, lambda: self._api.replica_sets[view.name].revised(**status))
