"""A recorded run as lanes, for the same picture as a simulated one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sim.lanes import (
    Failed,
    MarkKind,
    Onlookers,
    PodLane,
    PodState,
    ServerLane,
    ServerState,
    TimelineData,
    Track,
)
from validation.attribute import SIGKILLED
from validation.observations import Observation

Row = Mapping[str, Any]
NODE = "node"


@dataclass(slots=True)
class _Pod:
    """What the rows have said of one pod so far."""

    name: str
    first_s: float
    track: Track[PodState] = field(default_factory=Track)
    marks: list[tuple[float, MarkKind]] = field(default_factory=list)
    ready: bool = False
    deleting: bool = False
    gone: bool = False
    restarts: int = 0
    n_started: int = 0
    n_exited: int = 0

    @property
    def was_there(self) -> bool:
        return self.first_s <= 0

    def take_object(self, row: Row) -> None:
        at_s = float(row["at_s"])
        if row["ready"] and not self.ready and at_s > self.first_s:
            self.marks.append((at_s, MarkKind.PROBE_PASSED))
        if self.ready and not row["ready"] and row["deleting"] and self._state() is not PodState.GONE:
            self.marks.append((at_s, MarkKind.PROBE_FAILED))
        if row["restarts"] > self.restarts:
            self.marks.append((at_s, MarkKind.RESTART))
        self.ready, self.deleting, self.gone = row["ready"], row["deleting"], row["gone"]
        self.restarts = row["restarts"]
        self.track.become(self._state(), at_s)

    def take_container(self, row: Row) -> None:
        if row["event"] == "start":
            self.n_started += 1
        else:
            self.n_exited += 1
            if row["code"] == SIGKILLED:
                self.marks.append((float(row["at_s"]), MarkKind.SIGKILL))
        self.track.become(self._state(), float(row["at_s"]))

    def _state(self) -> PodState | None:
        """Containers that ran before the recording were never seen to start: an exit is then the last one."""
        if self.gone:
            return None
        if self.deleting:
            return (
                PodState.GONE if self.n_exited and self.n_exited >= self.n_started else PodState.TERMINATING
            )
        if self.ready:
            return PodState.READY
        return PodState.STARTING if self.n_started or self.was_there else PodState.PENDING


class Addresses:
    """Which pod has an address, by time."""

    def __init__(self, timeline: Iterable[Row]) -> None:
        self._owners: dict[str, list[tuple[float, str]]] = {}
        """Address → the pods that had it, each with the time from which it is known."""
        for row in timeline:
            if row["what"] == "pod" and row["ip"]:
                owners = self._owners.setdefault(row["ip"], [])
                if not owners or owners[-1][1] != row["pod"]:
                    owners.append((float(row["at_s"]), row["pod"]))

    def pod_at(self, ip: str | None, at_s: float) -> str | None:
        """The pod that has (or last had) the address at that time; before any has it, the first one."""
        owners = self._owners.get(ip or "", [])
        before = [pod for since_s, pod in owners if since_s <= at_s]
        if before:
            return before[-1]
        return owners[0][1] if owners else None


class _Fold:
    """The rows of a recorded timeline, one after the other."""

    def __init__(self, timeline: tuple[Row, ...]) -> None:
        self.pods: dict[str, _Pod] = {}
        self.rules = Onlookers()
        self.addresses = Addresses(timeline)
        self._tables: dict[str, frozenset[str]] = {}
        self._servers: dict[tuple[str, str], Track[ServerState]] = {}
        for row in timeline:
            self._take(row)

    def _take(self, row: Row) -> None:
        match row["what"]:
            case "pod":
                self._pod(row).take_object(row)
            case "container":
                self._pod(row).take_container(row)
            case "rules":
                self._tables[row["service"]] = frozenset(
                    self.addresses.pod_at(ip, float(row["at_s"])) or ip for ip in row["endpoints"]
                )
                self.rules.see(NODE, frozenset().union(*self._tables.values()), float(row["at_s"]))
            case "haproxy" if "state" in row:
                self._take_server(row)

    def _pod(self, row: Row) -> _Pod:
        return self.pods.setdefault(row["pod"], _Pod(row["pod"], first_s=float(row["at_s"])))

    def _take_server(self, row: Row) -> None:
        """Only changes are logged: before its first one a server was in the other state."""
        state, at_s = ServerState(row["state"]), float(row["at_s"])
        key = (row["pod"], row["server"])
        if key not in self._servers:
            other = ServerState.UP if state is ServerState.DOWN else ServerState.DOWN
            self._servers[key] = Track()
            self._servers[key].become(other, 0.0)
        self._servers[key].become(state, at_s)

    def lanes(self, ended_s: float) -> tuple[PodLane, ...]:
        return tuple(
            PodLane(
                name=pod.name,
                was_there=pod.was_there,
                states=pod.track.close(ended_s),
                marks=tuple(pod.marks),
                in_rules=self.rules.spans(pod.name, ended_s),
            )
            for pod in self.pods.values()
        )

    def servers(self, ended_s: float) -> tuple[ServerLane, ...]:
        return tuple(
            ServerLane(proxy=proxy, server=server, states=track.close(ended_s))
            for (proxy, server), track in self._servers.items()
        )


def of_observation(observation: Observation) -> TimelineData:
    """The lanes of a recorded run.

    Notes
    -----
    A recording knows no instant of a preStop hook or a stop signal. Failures have times only where our own
    client counted them.
    """
    fold = _Fold(observation.timeline)
    ended_s = max([observation.load_s, *(float(row["at_s"]) for row in observation.timeline)])
    failed = tuple(
        Failed(
            from_s=float(row["at_s"]),
            to_s=float(row["at_s"]),
            cause=row["cause"],
            pod=fold.addresses.pod_at(row["pod_ip"], float(row["at_s"])),
        )
        for row in observation.failures
    )
    events = [(observation.update_at_s, "updated")]
    if observation.rollout_s is not None:
        events.append((observation.update_at_s + observation.rollout_s, "complete"))
    return TimelineData(
        title=f"{observation.scenario}, real run {observation.run}",
        pods=fold.lanes(ended_s),
        servers=fold.servers(ended_s),
        failed=failed,
        events=tuple(events),
        load_ended_s=observation.load_s,
        ended_s=ended_s,
        n_requests=observation.requests,
        n_failed=max(observation.failed, len(failed)),
    )
