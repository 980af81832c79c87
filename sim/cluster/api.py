"""The API server as controllers meet it: writes take time, watches deliver snapshots later, in order."""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import simpy

from sim.delays import Delays
from sim.waiting import later


class PodStage(Enum):
    PENDING = "Pending"
    RUNNING = "Running"
    TERMINAL = "Succeeded or Failed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """A pod object as an informer holds it."""

    name: str
    deployment: str
    replica_set: str
    created_s: int
    """creationTimestamp: whole seconds, truncated."""
    uid: float
    """Stands in for the UID: uniform, breaks ties."""
    node: int | None = None
    stage: PodStage = PodStage.PENDING
    has_address: bool = False
    ready: bool = False
    ready_since_s: int = 0
    """lastTransitionTime of the Ready condition: whole seconds, truncated."""
    deleted: bool = False
    """deletionTimestamp is set."""
    n_restarts: int = 0
    """Of the container that was restarted most."""

    @property
    def active(self) -> bool:
        """Counts for its ReplicaSet (kubernetes v1.34 pkg/controller/controller_utils.go:1085-1089)."""
        return not self.deleted and self.stage in (PodStage.PENDING, PodStage.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSetView:
    name: str
    deployment: str
    revision: str
    serial: int
    """Order of creation."""
    replicas: int
    """spec.replicas"""
    desired: int
    """The Deployment's replicas when it was last scaled (the desired-replicas annotation)."""
    max_replicas: int
    """The Deployment's replicas and surge at that time (the max-replicas annotation)."""
    rollout: int = 1
    """Number of the rollout that last made it the new one (the revision annotation)."""
    min_ready_s: int = 0
    version: int = 0
    """resourceVersion: grows with every write."""
    generation: int = 1
    """Grows when the spec changes."""
    observed: int = 0
    """status.observedGeneration"""
    current: int = 0
    """status.replicas"""
    ready: int = 0
    available: int = 0

    def revised(self, **changes: Any) -> "ReplicaSetView":
        """The object after one more write."""
        return replace(self, version=self.version + 1, **changes)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointView:
    pod: str
    ready: bool
    serving: bool
    terminating: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSliceView:
    service: str
    generation: int
    endpoints: tuple[EndpointView, ...]


CONTROLLER_MANAGER: Final = "kube-controller-manager"
"""The process of all controllers."""
SAME_INSTANT_S: Final = 1e-9
"""The clock's times are sums: what is due at an instant may miss it by their rounding."""

View = PodView | ReplicaSetView | EndpointSliceView


class Informer:
    """One watch of one process: snapshots come in order, each a watch hop (or more) after its commit.

    All that the process runs on it hears of a change at once (client-go v0.34 tools/cache/shared_informer.go).
    """

    def __init__(
        self,
        env: simpy.Environment,
        delays: Delays,
        wants: Callable[[Any], bool] = lambda _: True,
        wakes: Callable[[Any], bool] = lambda _: True,
    ) -> None:
        self._env = env
        self._delays = delays
        self._wants = wants
        self._wakes = wakes
        self.handlers: list[Callable[[Any], None]] = []
        self._last_s = 0.0
        self._under_way: deque[tuple[float, View]] = deque()
        """With the times of their arrivals. [s]"""

    def deliver(self, view: View) -> None:
        if not self._wants(view):
            return
        now_s = self._env.now
        self._last_s = max(self._last_s, now_s + self._delays("watch_hop"))
        self._under_way.append((self._last_s, view))
        if self._wakes(view):
            later(self._env, self._last_s - now_s, self.catch_up)

    def catch_up(self) -> None:
        """Hand on what has arrived by now."""
        until_s = self._env.now + SAME_INSTANT_S
        while self._under_way and self._under_way[0][0] <= until_s:
            view = self._under_way.popleft()[1]
            for handler in self.handlers:
                handler(view)


class Api:
    """Objects by name, and who watches their kind."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self.pods: dict[str, PodView] = {}
        self.replica_sets: dict[str, ReplicaSetView] = {}
        self.slices: dict[str, EndpointSliceView] = {}
        self._informers: dict[type, dict[str, Informer]] = {}

    def watch(
        self,
        kind: type,
        process: str,
        delays: Delays,
        handler: Callable[[Any], None],
        *,
        wants: Callable[[Any], bool] = lambda _: True,
        wakes: Callable[[Any], bool] = lambda _: True,
    ) -> Informer:
        """Let *handler* hear of each change of a *kind*, through the informer that *process* has for it.

        Whoever watches first in a process gives it its *delays*, what it *wants* of the API server, and what of that
        *wakes* it: what does not is handed on with what does, or when somebody catches up.
        """
        informers = self._informers.setdefault(kind, {})
        if process not in informers:
            informers[process] = Informer(self._env, delays, wants, wakes)
        informers[process].handlers.append(handler)
        return informers[process]

    def write(self, delays: Delays, change: Callable[[], View]) -> Generator[simpy.Event, Any, View]:
        """One request: *change* computes the new object at its commit, at the end of the write."""
        yield self._env.timeout(delays("api_write"))
        view = change()
        self.commit(view)
        return view

    def commit(self, view: View) -> None:
        self.store(view)
        for informer in self._informers.get(type(view), {}).values():
            informer.deliver(view)

    def store(self, view: View) -> None:
        """Put an object without telling anyone: the state before the run starts."""
        match view:
            case PodView():
                self.pods[view.name] = view
            case ReplicaSetView():
                self.replica_sets[view.name] = view
            case EndpointSliceView():
                self.slices[view.service] = view


class WorkQueue:
    """One key of a controller's work queue: events meanwhile coalesce into one further sync.

    Parameters
    ----------
    looks_after_s : callable
        From a sync's begin until it looks at its caches, asked for at the begin. [s]
    """

    def __init__(self, env: simpy.Environment, looks_after_s: Callable[[], float] = lambda: 0.0) -> None:
        self._env = env
        self._looks_after_s = looks_after_s
        self._idle: simpy.Event | None = None
        """What its controller waits for."""
        self._called = False
        self._begins_s = float("-inf")
        """The present sync, or the next one at the earliest."""
        self._looks_s = float("-inf")

    def add(self) -> None:
        """Ask for a sync; one that begins now, or waits for its time, covers it."""
        if self._idle is not None:
            waiting, self._idle = self._idle.callbacks, None
            self._begin().callbacks = waiting
        elif self._env.now > self._begins_s or self._env.now >= self._looks_s:
            self._called = True

    def add_after(self, delay_s: float) -> None:
        later(self._env, delay_s, self.add)

    def rest(self, for_s: float) -> None:
        """The next sync does not begin before that. [s]"""
        self._begins_s = self._env.now + for_s

    def next(self) -> simpy.Event:
        """What its controller yields when it has nothing more to do: the next sync's look at its caches."""
        if self._called:
            self._called = False
            return self._begin()
        self._idle = simpy.Event(self._env)
        return self._idle

    def _begin(self) -> simpy.Event:
        now_s = self._env.now
        self._begins_s = max(now_s, self._begins_s)
        left_s = self._begins_s - now_s + self._looks_after_s()
        self._looks_s = now_s + left_s
        return simpy.Timeout(self._env, left_s)


class TokenBucket:
    """client-go's limit of one controller's client: 20 requests/s, burst 30.

    kubernetes v1.34 pkg/controller/apis/config/v1alpha1/defaults.go:57-61.
    """

    def __init__(self, env: simpy.Environment, per_s: float = 20.0, burst: int = 30) -> None:
        self._env = env
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at_s = 0.0

    def take(self) -> Generator[simpy.Event, Any, None]:
        """Wait for a token."""
        self.charge()
        if self._tokens < 0:
            yield self._env.timeout(-self._tokens / self._per_s)

    def charge(self) -> None:
        """Take one for a request that nobody waits for."""
        now_s = float(self._env.now)
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        self._tokens -= 1
