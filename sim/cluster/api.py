"""The API server as controllers meet it: writes take time, watches deliver snapshots later, in order."""

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

import simpy

from sim.delays import Delays


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

View = PodView | ReplicaSetView | EndpointSliceView


class Informer:
    """One watch of one process: snapshots come in order, each a watch hop (or more) after its commit.

    All that the process runs on it hears of a change at once (client-go v0.34 tools/cache/shared_informer.go).
    """

    def __init__(self, env: simpy.Environment, delays: Delays, wants: Callable[[Any], bool]) -> None:
        self._env = env
        self._delays = delays
        self._wants = wants
        self.handlers: list[Callable[[Any], None]] = []
        self._last_s = 0.0
        self._under_way: deque[View] = deque()

    def deliver(self, view: View) -> None:
        if not self._wants(view):
            return
        now_s = self._env.now
        self._last_s = max(self._last_s, now_s + self._delays("watch_hop"))
        self._under_way.append(view)
        arrival = self._env.timeout(self._last_s - now_s)
        assert arrival.callbacks is not None
        arrival.callbacks.append(self._arrives)

    def _arrives(self, _: simpy.Event) -> None:
        view = self._under_way.popleft()
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
    ) -> None:
        """Let *handler* hear of each change of a *kind*, through the informer that *process* has for it.

        Whoever watches first in a process gives it its *delays*, and what it *wants* of the API server.
        """
        informers = self._informers.setdefault(kind, {})
        if process not in informers:
            informers[process] = Informer(self._env, delays, wants)
        informers[process].handlers.append(handler)

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
    """One key of a controller's work queue: events meanwhile coalesce into one further sync."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._event = env.event()

    def add(self) -> None:
        if not self._event.triggered:
            self._event.succeed()

    def add_after(self, delay_s: float) -> None:
        timeout = self._env.timeout(delay_s)
        assert timeout.callbacks is not None
        timeout.callbacks.append(lambda _: self.add())

    def clear(self) -> None:
        """Forget an event that the coming sync covers anyway."""
        if self._event.triggered:
            self._event = self._env.event()

    def get(self) -> Generator[simpy.Event, Any, None]:
        yield self._event
        self._event = self._env.event()


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
        now_s = float(self._env.now)
        self._tokens = min(self._burst, self._tokens + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        self._tokens -= 1
        if self._tokens < 0:
            yield self._env.timeout(-self._tokens / self._per_s)
