"""One rollout as lanes: what each pod, each node's rules and each proxy's servers were, and for how long.

The data that a timeline is drawn from, the same for a simulated and for a recorded rollout. Instants are
seconds from the start of the load.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, TypeVar

from sim.outcomes import Failure
from sim.simulate import Result
from sim.world import Mark

State = TypeVar("State", bound=Enum)


class PodState(Enum):
    """What a pod is to its clients."""

    PENDING = "pending"  # accepted, no container yet
    STARTING = "starting or not ready"
    READY = "ready"
    TERMINATING = "terminating"  # deleted; its server may still answer
    GONE = "exited, object not yet removed"


class MarkKind(Enum):
    """What happened to a pod at one instant."""

    PRE_STOP = "preStop starts"
    FILE_REMOVED = "file removed"
    PROBE_PASSED = "readiness gained"
    PROBE_FAILED = "readiness lost"
    STOP_SIGNAL = "stop signal"
    SIGKILL = "SIGKILL"
    RESTART = "container restarted"


class Share(Enum):
    """How many of several onlookers (nodes, proxies) see it so."""

    ALL = "all"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class Span(Generic[State]):
    """A state and how long it lasted."""

    from_s: float
    to_s: float
    state: State


@dataclass(frozen=True, slots=True, kw_only=True)
class PodLane:
    """The life of one pod, with what nodes and proxies thought of it."""

    name: str
    was_there: bool
    """It ran before the load started."""
    states: tuple[Span[PodState], ...]
    marks: tuple[tuple[float, MarkKind], ...] = ()
    in_rules: tuple[Span[Share], ...] = ()
    """While kube-proxy's rules of the nodes sent new connections to it."""
    up_in_proxies: tuple[Span[Share], ...] = ()
    """While HAProxy had a server of its own for it, and had it UP."""

    @property
    def group(self) -> str:
        """Its ReplicaSet: a pod's name without the last part."""
        return self.name.rpartition("-")[0] or self.name

    @property
    def short_name(self) -> str:
        return self.name.rpartition("-")[2]


class ServerState(Enum):
    UP = "UP"
    DOWN = "DOWN"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLane:
    """One server line of one proxy that stands for a whole Service."""

    proxy: str
    server: str
    states: tuple[Span[ServerState], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Failed requests of one cause at one pod: one, or many evenly spread."""

    n: int = 1
    from_s: float
    to_s: float
    cause: str
    pod: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineData:
    """Everything that a timeline shows."""

    title: str
    pods: tuple[PodLane, ...]
    servers: tuple[ServerLane, ...] = ()
    failed: tuple[Failed, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    """Of the Deployments: updated, complete."""
    load_ended_s: float
    ended_s: float
    n_requests: int
    n_failed: int
    """May exceed what `failed` holds: of some clients only the number is known."""
    answered: tuple[tuple[float, float, float], ...] = ()
    """(from_s, to_s, requests that succeeded in it); empty: only their number is known."""

    @property
    def causes(self) -> dict[str, int]:
        """Failed requests by cause, most first."""
        counts: dict[str, int] = {}
        for each in self.failed:
            counts[each.cause] = counts.get(each.cause, 0) + each.n
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def from_s(self) -> float:
        """Where the picture starts: shortly before anything happens."""
        first_s = min([at_s for at_s, _ in self.events] + [f.from_s for f in self.failed], default=0.0)
        return max(0.0, first_s - 2.0)

    @property
    def to_s(self) -> float:
        """Where it ends: when the last thing has happened."""
        ends = [s.to_s for pod in self.pods for s in pod.states if s.to_s < self.ended_s]
        last_s = max([*ends, *(at_s for at_s, _ in self.events), *(f.to_s for f in self.failed)], default=0.0)
        return min(self.ended_s, last_s + 2.0) if last_s > self.from_s else self.ended_s


# ---------------------------------------------------------------- building lanes


@dataclass(slots=True)
class Track(Generic[State]):
    """A state that changes: its spans, as they are closed."""

    spans: list[Span[State]] = field(default_factory=list)
    state: State | None = None
    since_s: float = 0.0

    def become(self, state: State | None, at_s: float) -> None:
        if state is self.state:
            return
        if self.state is not None and at_s > self.since_s:
            self.spans.append(Span(self.since_s, at_s, self.state))
        self.state, self.since_s = state, at_s

    def close(self, at_s: float) -> tuple[Span[State], ...]:
        self.become(None, at_s)
        return tuple(self.spans)


class Onlookers:
    """What several onlookers hold for true, as spans for each pod: all of them, or only some."""

    def __init__(self) -> None:
        self._views: dict[str, frozenset[str]] = {}
        self._tracks: dict[str, Track[Share]] = {}

    def see(self, onlooker: str, pods: frozenset[str] | None, at_s: float) -> None:
        """From *at_s* on *onlooker* has these pods; None: it is no more."""
        if pods is None:
            self._views.pop(onlooker, None)
        else:
            self._views[onlooker] = pods
        for pod in {pod for view in self._views.values() for pod in view} | self._tracks.keys():
            n = sum(pod in view for view in self._views.values())
            share = None if n == 0 else Share.ALL if n == len(self._views) else Share.SOME
            self._tracks.setdefault(pod, Track()).become(share, at_s)

    def view(self, onlooker: str) -> frozenset[str]:
        return self._views.get(onlooker, frozenset())

    def spans(self, pod: str, ended_s: float) -> tuple[Span[Share], ...]:
        return self._tracks[pod].close(ended_s) if pod in self._tracks else ()


# ---------------------------------------------------------------- of a simulated rollout


_MARKS: Final = {
    "pre_stop": MarkKind.PRE_STOP,
    "file_removed": MarkKind.FILE_REMOVED,
    "ready": MarkKind.PROBE_PASSED,
    "not_ready": MarkKind.PROBE_FAILED,
    "stop_signal": MarkKind.STOP_SIGNAL,
    "sigkill": MarkKind.SIGKILL,
    "restarted": MarkKind.RESTART,
}


@dataclass(slots=True)
class _Pod:
    name: str
    was_there: bool
    track: Track[PodState] = field(default_factory=Track)
    marks: list[tuple[float, MarkKind]] = field(default_factory=list)
    deleted: bool = False
    n_running: int = 0

    def take(self, mark: Mark) -> None:
        if mark.what in _MARKS and self.track.state is not PodState.GONE:
            self.marks.append((mark.at_s, _MARKS[mark.what]))
        match mark.what:
            case "starting":
                self.n_running += 1
            case "exited":
                self.n_running -= 1
            case "deleted":
                self.deleted = True
        self.track.become(self._state_after(mark.what), mark.at_s)

    def _state_after(self, what: str) -> PodState | None:
        match what:
            case "created":
                return PodState.PENDING
            case "sandbox" | "starting" if not self.deleted:
                return PodState.READY if self.was_there and self.track.state is None else PodState.STARTING
            case "ready" if not self.deleted:
                return PodState.READY
            case "not_ready" if not self.deleted:
                return PodState.STARTING
            case "deleted":
                return PodState.TERMINATING if self.track.state is not PodState.PENDING else None
            case "exited" if self.deleted and self.n_running == 0:
                return PodState.GONE
            case "removed":
                return None
        return self.track.state


class _Fold:
    """The log of a simulated run, mark by mark."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self.pods: dict[str, _Pod] = {}
        self.rules = Onlookers()
        self.proxies = Onlookers()
        self.events: list[tuple[float, str]] = []
        self._by_service: dict[str, dict[str, frozenset[str]]] = {}
        self._servers: dict[tuple[str, str], Track[ServerState]] = {}
        self._ended: dict[str, float] = {}
        for mark in marks:
            self._take(mark)

    def _take(self, mark: Mark) -> None:
        kind, _, name = mark.subject.partition("/")
        match kind:
            case "kube-proxy":
                service, _, pods = mark.detail.partition(": ")
                tables = self._by_service.setdefault(name, {})
                tables[service] = frozenset(pods.split()) - {"reject"}
                self.rules.see(name, frozenset().union(*tables.values()), mark.at_s)
            case "haproxy":
                self._take_server(name, mark)
            case "deployment":
                self.events.append((mark.at_s, f"{name} {mark.what}"))
            case pod if not name:
                self._take_pod(pod, mark)

    def _take_server(self, proxy: str, mark: Mark) -> None:
        """`opened` names the server lines, all UP then; `sees` the pods that slots of a template hold for UP."""
        match mark.what:
            case "sees":
                self.proxies.see(proxy, frozenset(mark.detail.split()), mark.at_s)
            case "opened":
                for server in mark.detail.split():
                    self._servers[proxy, server] = Track()
                    self._servers[proxy, server].become(ServerState.UP, mark.at_s)
            case "server_up" | "server_down" if (proxy, mark.detail) in self._servers:
                state = ServerState.UP if mark.what == "server_up" else ServerState.DOWN
                track = self._servers[proxy, mark.detail]
                if state is track.state and not track.spans:  # it was DOWN when the run began
                    track.state = ServerState.DOWN
                track.become(state, mark.at_s)

    def _take_pod(self, name: str, mark: Mark) -> None:
        if name not in self.pods:
            self.pods[name] = _Pod(name, was_there=mark.what != "created")
        self.pods[name].take(mark)
        if mark.what == "exited":
            self._ended[name] = mark.at_s
            self.proxies.see(name, None, mark.at_s)

    def lanes(self, ended_s: float) -> tuple[PodLane, ...]:
        return tuple(
            PodLane(
                name=pod.name,
                was_there=pod.was_there,
                states=pod.track.close(ended_s),
                marks=tuple(pod.marks),
                in_rules=self.rules.spans(pod.name, ended_s),
                up_in_proxies=self.proxies.spans(pod.name, ended_s),
            )
            for pod in self.pods.values()
        )

    def servers(self, ended_s: float) -> tuple[ServerLane, ...]:
        return tuple(
            ServerLane(
                proxy=proxy, server=server, states=track.close(min(ended_s, self._ended.get(proxy, ended_s)))
            )
            for (proxy, server), track in self._servers.items()
        )


def of_result(result: Result) -> TimelineData:
    """The lanes of a simulated rollout."""
    fold = _Fold(result.marks)
    ended_s = max([result.load_ended_s, *(m.at_s for m in result.marks)])
    bursts = ((b.n, b.from_s, b.to_s, b.like) for b in result.tally.bursts)
    single = ((1, f.at_s, f.at_s, f) for f in result.tally.failures)
    return TimelineData(
        title=f"{result.scenario.name}, simulated (seed {result.seed}, replication {result.replication})",
        pods=fold.lanes(ended_s),
        servers=fold.servers(ended_s),
        failed=tuple(_failed(*each) for each in (*single, *bursts)),
        events=tuple(fold.events),
        load_ended_s=result.load_ended_s,
        ended_s=ended_s,
        n_requests=result.n_requests,
        n_failed=result.n_failed,
        answered=result.tally.answered.spans(result.load_ended_s),
    )


def _failed(n: int, from_s: float, to_s: float, like: Failure) -> Failed:
    return Failed(n=n, from_s=from_s, to_s=to_s, cause=like.cause.value, pod=like.pod)
