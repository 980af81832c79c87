"""Puts each real failure to its cause, from what the client saw and what the cluster did at that time.

What cannot be told is counted as unattributed, never guessed away. The timeline's rows are those of
`timeline`, with `at_s` from the start of the load.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sim.outcomes import Cause
from sim.scenario.model import Scenario, ServerKind

UNATTRIBUTED = "unattributed"
SIGKILLED = 128 + 9
NEAR_S = 0.25
"""How far containerd's word of an exit and the client's failure may lie apart on a busy machine."""
START_MARGIN_S = 0.5
"""A container may not listen yet until its image's start-up is over, and so much later."""
PROXY_CONNECT_S = 1.0
"""A proxy that fails a request this late was waiting for a connection."""

Row = Mapping[str, Any]


@dataclass(slots=True)
class _Pod:
    name: str
    ip: str | None = None
    image: str = ""
    started_s: list[float] = field(default_factory=list)
    exits: list[tuple[float, int]] = field(default_factory=list)
    deleted_s: float | None = None
    link_gone_s: float | None = None

    def exit_near(self, at_s: float) -> tuple[float, int] | None:
        """The last exit before *at_s*, or one that containerd reports shortly after it."""
        before = [found for found in self.exits if found[0] <= at_s + NEAR_S]
        return before[-1] if before else None

    def listens(self, at_s: float) -> bool:
        """Whether its last container is up, as far as starts and exits tell."""
        last_exit = self.exit_near(at_s)
        last_start = max((s for s in self.started_s if s <= at_s), default=None)
        return last_exit is None or (last_start is not None and last_start > last_exit[0])


class History:
    """The timeline, asked by time."""

    def __init__(self, timeline: Iterable[Row], scenario: Scenario) -> None:
        self._rules: dict[str, list[tuple[float, list[str]]]] = {}
        self._haproxy: list[Row] = []
        self.pods: dict[str, _Pod] = {}
        self._startup_s = {r: image.startup.mean_s for r, image in scenario.images.items()}
        templates = [d.template for d in (*scenario.deployments, *(update.to for update in scenario.updates))]
        self._hook_s = {c.image: c.pre_stop.duration_s for t in templates for c in t.containers if c.pre_stop}
        self._probed = {c.image for template in templates for c in template.containers if c.readiness}
        self._proxies = {r for r, i in scenario.images.items() if i.server is ServerKind.HAPROXY}
        self.entry = scenario.load.service
        for row in timeline:
            self._take(row)
        self.entry_is_proxy = any(
            self.is_proxy(pod) for ip in self._ever(self.entry) if (pod := self.at_address(ip))
        )

    def _take(self, row: Row) -> None:
        at_s = float(row["at_s"])
        match row["what"]:
            case "pod":
                pod = self.pods.setdefault(row["pod"], _Pod(row["pod"]))
                pod.ip = row["ip"] or pod.ip
                pod.image = row["image"]
                if row["deleting"] and pod.deleted_s is None:
                    pod.deleted_s = at_s
            case "container":
                pod = self.pods.setdefault(row["pod"], _Pod(row["pod"]))
                if row["event"] == "start":
                    pod.started_s.append(at_s)
                else:
                    pod.exits.append((at_s, int(row["code"])))
            case "link" if row["event"] == "gone":
                for pod in self.pods.values():
                    if pod.ip == row["ip"]:
                        pod.link_gone_s = at_s
            case "rules":
                self._rules.setdefault(row["service"], []).append((at_s, row["endpoints"]))
            case "haproxy":
                self._haproxy.append(row)

    def is_starting(self, pod: _Pod, at_s: float) -> bool:
        """Whether its server may not listen yet; with a readiness probe it is no endpoint before it does."""
        if pod.image in self._probed:
            return False
        within_s = self._startup_s.get(pod.image, 0.0) + START_MARGIN_S
        return any(0 <= at_s - started_s <= within_s for started_s in pod.started_s)

    def is_stopping(self, pod: _Pod, at_s: float) -> bool:
        """Whether its server may have closed its listener: it has ended, or its preStop hook is over."""
        hook_s = self._hook_s.get(pod.image, 0.0)
        return not pod.listens(at_s) or (pod.deleted_s is not None and pod.deleted_s + hook_s <= at_s)

    def is_proxy(self, pod: _Pod) -> bool:
        return pod.image in self._proxies

    def at_address(self, ip: str | None) -> _Pod | None:
        return next((pod for pod in self.pods.values() if ip and pod.ip == ip), None)

    def _ever(self, service: str) -> set[str]:
        return {ip for _, endpoints in self._rules.get(service, ()) for ip in endpoints}

    def endpoints(self, service: str, at_s: float) -> list[str]:
        """The addresses that the node's rules had for *service* at that time."""
        found: list[str] = []
        for since_s, endpoints in self._rules.get(service, ()):
            if since_s > at_s:
                break
            found = endpoints
        return found

    def servers_down(self, at_s: float) -> bool:
        """Whether every server that HAProxy spoke of was DOWN at that time."""
        state: dict[str, str] = {}
        for row in self._haproxy:
            if "state" in row and row["at_s"] <= at_s:
                state[row["server"]] = row["state"]
        return bool(state) and set(state.values()) == {"DOWN"}


def causes_of(
    failures: Sequence[Row], timeline: Iterable[Row], scenario: Scenario
) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Counts by cause, and the failures each with its `cause`; times from the start of the load."""
    history = History(timeline, scenario)
    rows = [{**failure, "cause": _cause(failure, history)} for failure in failures]
    return dict(Counter(row["cause"] for row in rows)), rows


def _cause(failure: Row, history: History) -> str:
    pod = history.at_address(failure.get("pod_ip"))
    through_proxy = history.entry_is_proxy and (pod is None or history.is_proxy(pod))
    proxy_alive = through_proxy and (pod is None or pod.exit_near(failure["at_s"]) is None)
    if proxy_alive and failure["seen_as"] not in ("refused", "timeout_connect", "rst_first", "unreachable"):
        cause = _behind_proxy(failure, history)
    else:
        cause = _at_pod(failure, pod, history)
    return cause.value if cause else UNATTRIBUTED


def _at_pod(failure: Row, pod: _Pod | None, history: History) -> Cause | None:
    """A failure of the connection that the client itself holds."""
    at_s, seen_as = float(failure["at_s"]), failure["seen_as"]
    match seen_as:
        case "refused":
            return _refused(at_s, history)
        case "timeout_connect" | "unreachable":
            if pod and (pod.link_gone_s is not None or not pod.listens(at_s)):
                return Cause.STALE_ENDPOINT_SILENT
            return None
        case "timeout_response":
            if pod and pod.exits:
                return Cause.VANISHED_IN_FLIGHT
            return Cause.SLOW_ANSWER
    if pod is None:
        return None
    exited = pod.exit_near(at_s)
    if exited is None:
        if pod.deleted_s is None or pod.deleted_s > at_s:
            return Cause.IDLE_TIMEOUT_RACE if failure["reused"] and seen_as != "truncated_reused" else None
    elif pod.deleted_s is None or pod.deleted_s > at_s + NEAR_S:
        return Cause.LIVENESS_RESTART
    idle = failure["reused"] and (failure["peer_at_send"] != "open" or seen_as == "rst_reused")
    if idle:
        return Cause.IDLE_CLOSED
    if seen_as == "rst_first":
        return Cause.ACCEPT_QUEUE_RESET
    killed = exited is not None and exited[1] == SIGKILLED
    return Cause.KILL_IN_FLIGHT if killed else Cause.STOP_IN_FLIGHT


def _refused(at_s: float, history: History) -> Cause | None:
    """Which pod refused is not known: the kernel forgets such a flow at once. The rules tell.

    Where pods that stop and pods that start are both among the endpoints, each failure is given to one of them
    by its microsecond: the shares are right, the single one is not known.
    """
    endpoints = history.endpoints(history.entry, at_s)
    if not endpoints:
        return Cause.NO_ENDPOINT
    pods = [pod for ip in endpoints if (pod := history.at_address(ip))]
    stale = [pod for pod in pods if history.is_stopping(pod, at_s)]
    starting = [pod for pod in pods if history.is_starting(pod, at_s)]
    if not stale and not starting:
        return None
    drawn = round(at_s * 1e6) % (len(stale) + len(starting))
    return Cause.STALE_ENDPOINT_REFUSED if drawn < len(stale) else Cause.STARTING_POD_REFUSED


def _behind_proxy(failure: Row, history: History) -> Cause | None:
    """A failure that a living proxy passes on."""
    at_s, seen_as = float(failure["at_s"]), failure["seen_as"]
    late = float(failure["elapsed_s"]) >= PROXY_CONNECT_S
    match seen_as:
        case "timeout_response":
            return Cause.PROXY_CONNECT_WAIT if _vanished(history, at_s) else Cause.SLOW_ANSWER
        case "http_502":
            return Cause.PROXY_BACKEND_BROKEN
        case "http_503":
            if history.servers_down(at_s) and not late:
                return Cause.PROXY_NO_SERVER
            return Cause.PROXY_RETRIES_EXHAUSTED
        case "http_504":
            return Cause.PROXY_SERVER_TIMEOUT
        case "truncated_first" | "truncated_reused":
            return Cause.PROXY_BACKEND_TRUNCATED
        case "eof_reused" | "eof_first" | "rst_reused":
            return (
                Cause.PROXY_RETRIES_EXHAUSTED
                if late and _vanished(history, at_s)
                else Cause.PROXY_BACKEND_BROKEN
            )
    return None


def _vanished(history: History, at_s: float) -> bool:
    return any(pod.link_gone_s is not None and pod.link_gone_s <= at_s for pod in history.pods.values())
