"""What happened to each pod of an updated Deployment, and when: of a recorded and of a simulated rollout alike.

Both are folded into the same moments, so that one can be held against the other. A recording knows no instant
of a preStop hook or a stop signal; of a simulated container's start only what its server's start-up leaves.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from sim.lanes import TimelineData, of_result
from sim.scenario.distributions import Constant
from sim.scenario.model import Scenario
from sim.simulate import Result
from sim.world import Mark
from validation.lanes import Addresses, of_observation
from validation.observations import Observation

Row = Mapping[str, Any]
RULES_OF_NODE = "kube-proxy/0"


class Moment(Enum):
    """What can happen to a pod once."""

    CREATED = "created"
    STARTED = "container started"
    LISTED = "in EndpointSlice"
    READY = "Ready"
    PUBLISHED = "ready in EndpointSlice"
    ROUTED = "in the rules"
    DELETED = "deleted"
    PRE_STOP = "preStop starts"
    WITHDRAWN = "not ready in EndpointSlice"
    UNREADY = "readiness lost"
    UNROUTED = "out of the rules"
    SIGNALLED = "stop signal"
    KILLED = "SIGKILL"
    EXITED = "exited"
    SILENT = "address silent"
    UNLISTED = "out of EndpointSlice"
    REMOVED = "object removed"


M = Moment


@dataclass(slots=True)
class Life:
    """One pod. [s from the start of the load]"""

    pod: str
    old: bool
    """It was there before the update."""
    at_s: dict[Moment, float] = field(default_factory=dict)

    def first(self, moment: Moment, at_s: float) -> None:
        self.at_s.setdefault(moment, at_s)

    def last(self, moment: Moment, at_s: float) -> None:
        self.at_s[moment] = at_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """One rollout, recorded or simulated. [s from the start of the load]"""

    lives: tuple[Life, ...]
    """Pods of the updated Deployments: the old ones as they were deleted, then the new ones as they came."""
    updated_s: float
    rollout_s: float | None
    rules_s: tuple[float, ...]
    """When the node's rules changed, whichever Service."""
    picture: TimelineData
    n_requests: int
    n_failed: float
    """As the client counts; NaN where its tool gave up and printed no figure."""
    load_s: float

    @property
    def old(self) -> list[Life]:
        return [life for life in self.lives if life.old]

    @property
    def new(self) -> list[Life]:
        return [life for life in self.lives if not life.old]

    def names(self) -> dict[str, str]:
        """Pod → `old 1`, `new 2`, …: what two rollouts of one scenario have in common."""
        old = {life.pod: f"old {i}" for i, life in enumerate(self.old, 1)}
        return old | {life.pod: f"new {i}" for i, life in enumerate(self.new, 1)}


def _sorted(lives: Iterable[Life], updated: frozenset[str]) -> tuple[Life, ...]:
    """Those of the Deployments *updated*: a pod's name ends with its ReplicaSet's hash and its own part."""
    never = float("inf")
    mine = [life for life in lives if "-".join(life.pod.split("-")[:-2]) in updated]
    old = [life for life in mine if life.old]
    new = [life for life in mine if not life.old]
    return (
        *sorted(old, key=lambda life: life.at_s.get(M.DELETED, never)),
        *sorted(new, key=lambda life: life.at_s.get(M.CREATED, never)),
    )


def _updated(scenario: Scenario) -> frozenset[str]:
    return frozenset(update.to.name for update in scenario.updates)


class _Fold:
    """Lives as they are told, moment by moment."""

    def __init__(self) -> None:
        self.lives: dict[str, Life] = {}
        self.rules_s: list[float] = []
        self._tables: dict[str, set[str]] = {}
        self._slices: dict[str, dict[str, bool]] = defaultdict(dict)

    def life(self, pod: str, *, old: bool) -> Life:
        return self.lives.setdefault(pod, Life(pod, old))

    def rules(self, service: str, pods: set[str], at_s: float) -> None:
        before = set().union(*self._tables.values())
        self._tables[service] = pods
        now = set().union(*self._tables.values())
        if before != now and at_s > 0:
            self.rules_s.append(at_s)
        for pod in (now - before) & self.lives.keys():
            self.lives[pod].first(M.ROUTED, at_s)
        for pod in (before - now) & self.lives.keys():
            self.lives[pod].last(M.UNROUTED, at_s)

    def slice(self, service: str, ready: dict[str, bool], at_s: float) -> None:
        before, self._slices[service] = self._slices[service], ready
        for pod in (before.keys() | ready.keys()) & self.lives.keys():
            life = self.lives[pod]
            if pod in ready and pod not in before:
                life.first(M.LISTED, at_s)
            if ready.get(pod, False) and not before.get(pod, False):
                life.first(M.PUBLISHED, at_s)
            if before.get(pod, False) and not ready.get(pod, False):
                life.last(M.WITHDRAWN, at_s)
            if pod in before and pod not in ready:
                life.last(M.UNLISTED, at_s)

    def exited(self, pod: str, at_s: float) -> None:
        """An exit before the deletion is a restart."""
        if pod in self.lives and M.DELETED in self.lives[pod].at_s:
            self.lives[pod].last(M.EXITED, at_s)

    def done(self) -> Iterable[Life]:
        """Old pods began before anything was seen; a terminal status is no readiness lost."""
        for life in self.lives.values():
            exited_s = life.at_s.get(M.EXITED, float("inf"))
            if life.at_s.get(M.UNREADY, 0.0) >= exited_s:
                del life.at_s[M.UNREADY]
            if life.old:
                for moment in (M.CREATED, M.STARTED, M.LISTED, M.READY, M.PUBLISHED, M.ROUTED):
                    life.at_s.pop(moment, None)
        return self.lives.values()


# ---------------------------------------------------------------- recorded


def of_recorded(run: Observation, scenario: Scenario) -> Rollout:
    """The moments of a kept run of *scenario*."""
    fold, addresses = _Fold(), Addresses(run.timeline)
    for row in run.timeline:
        if row["what"] == "pod":  # so that rules and slices find the pod, whichever row came first
            fold.life(row["pod"], old=float(row["at_s"]) <= 0)
    for row in run.timeline:
        _take_row(fold, addresses, row)
    return Rollout(
        lives=_sorted(fold.done(), _updated(scenario)),
        updated_s=run.update_at_s,
        rollout_s=run.rollout_s,
        rules_s=tuple(fold.rules_s),
        picture=of_observation(run),
        n_requests=run.requests,
        n_failed=run.counted,
        load_s=run.load_s,
    )


def _take_row(fold: _Fold, addresses: Addresses, row: Row) -> None:
    at_s = float(row["at_s"])
    match row["what"]:
        case "pod":
            _take_object(fold.lives[row["pod"]], row, at_s)
        case "container" if row["event"] == "start":
            fold.life(row["pod"], old=False).first(M.STARTED, at_s)
        case "container":
            fold.exited(row["pod"], at_s)
        case "link" if row["event"] == "gone":
            if (pod := addresses.pod_at(row["ip"], at_s)) in fold.lives:
                fold.lives[pod].first(M.SILENT, at_s)
        case "slice":
            ready = {addresses.pod_at(ip, at_s) or ip: up for ip, up, *_ in row["endpoints"]}
            fold.slice(row["service"], ready, at_s)
        case "rules":
            fold.rules(row["service"], {addresses.pod_at(ip, at_s) or ip for ip in row["endpoints"]}, at_s)


def _take_object(life: Life, row: Row, at_s: float) -> None:
    life.first(M.CREATED, at_s)
    if row["ready"]:
        life.first(M.READY, at_s)
    if row["deleting"]:
        life.first(M.DELETED, at_s)
        if not row["ready"]:
            life.first(M.UNREADY, at_s)
    if row["gone"]:
        life.first(M.REMOVED, at_s)


# ---------------------------------------------------------------- simulated


_ONCE = {
    "created": M.CREATED,
    "ready": M.READY,
    "deleted": M.DELETED,
    "pre_stop": M.PRE_STOP,
    "stop_signal": M.SIGNALLED,
    "sigkill": M.KILLED,
    "vanished": M.SILENT,
    "removed": M.REMOVED,
}


def of_simulated(result: Result) -> Rollout:
    """The moments of a simulated rollout, named as those of a recording."""
    fold = _Fold()
    startup_s = _startup_s(result.scenario)
    for mark in result.marks:
        kind, _, name = mark.subject.partition("/")
        if not name:
            _take_mark(fold, mark, startup_s)
        elif kind == "endpointslice":
            states = (each.rpartition("=") for each in mark.detail.split())
            fold.slice(name, {pod: state == "ready" for pod, _, state in states}, mark.at_s)
        elif mark.subject == RULES_OF_NODE:
            service, _, pods = mark.detail.partition(": ")
            fold.rules(service, set(pods.split()) - {"reject"}, mark.at_s)
            if mark.at_s == 0:  # the EndpointSlices of the beginning are not told
                fold.slice(service, dict.fromkeys(pods.split(), True), mark.at_s)
    report = result.report
    return Rollout(
        lives=_sorted(fold.done(), _updated(result.scenario)),
        updated_s=min((update.at_s for update in result.scenario.updates), default=0.0),
        rollout_s=result.rollout_s,
        rules_s=tuple(fold.rules_s),
        picture=of_result(result),
        n_requests=result.n_requests,
        n_failed=result.n_failed if report is None else report.failed,
        load_s=result.load_ended_s,
    )


def _take_mark(fold: _Fold, mark: Mark, startup_s: Mapping[str, float | None]) -> None:
    life = fold.life(mark.subject, old=mark.what != "created")
    if mark.what in _ONCE:
        life.first(_ONCE[mark.what], mark.at_s)
    elif mark.what == "exited":
        fold.exited(mark.subject, mark.at_s)
    elif mark.what == "not_ready" and M.DELETED in life.at_s:
        life.first(M.UNREADY, mark.at_s)
    elif mark.what == "listening":
        startup = startup_s["-".join(mark.subject.split("-")[:-2])]
        if startup is not None:
            life.first(M.STARTED, mark.at_s - startup)


def _startup_s(scenario: Scenario) -> dict[str, float | None]:
    """Deployment → how long its new pods' server starts up; None: it varies, or there are several."""
    found: dict[str, float | None] = {}
    for deployment in (*scenario.deployments, *(update.to for update in scenario.updates)):
        startups = [scenario.images[c.image].startup for c in deployment.template.containers]
        [first, *others] = startups
        found[deployment.name] = first.value_s if isinstance(first, Constant) and not others else None
    return found
