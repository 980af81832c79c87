"""What a TCP connection suffers from its server's phase: the table at the heart of every failure.

Sources: nginx 1.22 and HAProxy 2.6 tried on loopback (stop signals against connections in each state), Linux:
a socket closed with unread data answers RST, without FIN.
"""

from dataclasses import dataclass
from enum import Enum

from sim.outcomes import Cause, Seen
from sim.scenario.model import OnBusy, OnIdle
from sim.world import Server, ServerPhase


class Stage(Enum):
    """What one connection is doing, as the server sees it."""

    IDLE = "idle"
    CONNECTING = "connecting"
    SENT = "sent"  # written by the peer, not yet read by the server
    IN_SERVICE = "in_service"  # read, the header of the answer not yet sent
    STREAMING = "streaming"  # header sent, body under way
    READING = "reading"  # the whole answer is on the peer's side


@dataclass(slots=True, eq=False)
class Link:
    """One TCP connection to one server."""

    server: Server
    n_requests: int = 0
    fin: bool = False
    """The server has closed it; the peer may not have looked."""
    close_announced: bool = False
    """The last answer carried `Connection: close`."""
    timed_out: bool = False
    """The FIN came from the server's idle time-out, not from a stop."""


class Failed(Exception):
    """A request's fate, on its way to the log."""

    def __init__(
        self, seen: Seen, cause: Cause, stage: Stage, pod: str | None, *, keeps_link: bool = False
    ) -> None:
        super().__init__(f"{seen.value} by {cause.value} while {stage.value}")
        self.seen = seen
        self.cause = cause
        self.stage = stage
        self.pod = pod
        self.keeps_link = keeps_link


class BackendBroken(Exception):
    """The proxy's own connection to a pod broke."""

    def __init__(self, seen: Seen, cause: Cause, stage: Stage) -> None:
        super().__init__(f"{seen.value} by {cause.value} while {stage.value}")
        self.seen = seen
        self.cause = cause
        self.stage = stage


class LoadOver(Exception):
    """The load has ended while a request was under way."""


def hit(stage: Stage, server: Server, *, first: bool) -> tuple[Seen, Cause] | None:
    """What the request sees now; None: nothing (a deaf server answers when it exits).

    *first*: no request of this connection was answered yet, so the server does not hold it for idle.
    """
    if server.phase is ServerPhase.EXITED:
        return _at_exit(stage, server, first=first)
    if server.phase is ServerPhase.DRAINING:
        return _at_drain(stage, server, first=first)
    return None


def _at_exit(stage: Stage, server: Server, *, first: bool) -> tuple[Seen, Cause] | None:
    cause = Cause.STOP_IN_FLIGHT
    if server.killed:
        cause = Cause.KILL_IN_FLIGHT
    elif server.cut_by_own_limit:
        cause = Cause.DRAIN_TIMEOUT
    match stage:
        case Stage.SENT:
            return Seen.RESET, Cause.ACCEPT_QUEUE_RESET if first else cause
        case Stage.IN_SERVICE:
            return Seen.EOF, cause
        case Stage.STREAMING:
            return Seen.TRUNCATED, cause
    return None


def _at_drain(stage: Stage, server: Server, *, first: bool) -> tuple[Seen, Cause] | None:
    """A request that the server has not read stands on a connection that it holds for idle or unused."""
    stop = server.stop
    assert stop is not None
    match stage:
        case Stage.SENT if first:
            return (Seen.RESET, Cause.ACCEPT_QUEUE_RESET) if stop.unused is OnIdle.CLOSE else None
        case Stage.SENT:
            return (Seen.RESET, Cause.IDLE_CLOSED) if stop.idle is OnIdle.CLOSE else None
        case Stage.IN_SERVICE:
            return (Seen.EOF, Cause.STOP_IN_FLIGHT) if stop.busy is OnBusy.CUT else None
        case Stage.STREAMING:
            return (Seen.TRUNCATED, Cause.STOP_IN_FLIGHT) if stop.busy is OnBusy.CUT else None
    return None


def closes_idle(server: Server) -> bool:
    """Whether an idle connection to *server* gets a FIN in its present phase."""
    if server.phase is ServerPhase.DRAINING:
        return server.stop is not None and server.stop.idle is OnIdle.CLOSE
    return server.phase in (ServerPhase.EXITED, ServerPhase.VANISHED)


def announces_close(server: Server) -> bool:
    """Whether an answer whose header is built now carries `Connection: close`."""
    return (
        server.phase is ServerPhase.DRAINING
        and server.stop is not None
        and server.stop.idle is not OnIdle.KEEP
    )
