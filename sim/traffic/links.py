"""What a TCP connection suffers from its server's phase: the table at the heart of every failure.

Sources: nginx 1.22 and HAProxy 2.6 tried on loopback (stop signals against connections in each state), Linux:
a socket closed with unread data answers RST, without FIN; a closed listener resets its accept queue.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from sim.outcomes import Cause, Seen
from sim.scenario.model import OnBusy, OnIdle, OnListener, ServerKind
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
    owner: Any = None
    """The client's connection that it serves."""
    opened_s: float = 0.0
    n_requests: int = 0
    unseen: bool = True
    """Of a request that waits to be read: whether the server's present pass of its event loop has not got it.

    It waits for one pass to end and for its turn in the next: half of the time each. Of a first request the
    first half is spent in the accept queue.
    """
    sent_s: float = 0.0
    """When its last request was written."""
    idle_since_s: float = 0.0
    young: bool = False
    """Its request came before nginx's keepalive_min_timeout was over: a drain does not hold it for idle."""
    fin: bool = False
    """The server has closed it; the peer may not have looked."""
    fin_s: float = 0.0
    close_announced: bool = False
    """The last answer carried `Connection: close`."""
    timed_out: bool = False
    """The FIN came from the server's idle time-out, not from a stop."""

    @property
    def first(self) -> bool:
        """No request of it was answered yet."""
        return self.n_requests <= 1


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
        """It was an answer (502, 503, 504): the client's connection goes on."""


class BackendBroken(Exception):
    """The proxy's own connection to a pod broke."""

    def __init__(self, seen: Seen, cause: Cause, stage: Stage) -> None:
        super().__init__(f"{seen.value} by {cause.value} while {stage.value}")
        self.seen = seen
        self.cause = cause
        self.stage = stage


class LoadOver(Exception):
    """The load has ended while a request was under way."""


class HungAtTheEnd(LoadOver):
    """It waits for a dead address until its own time-out: no more requests begin, but this one will fail."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(str(failed))
        self.failed = failed


def hit(stage: Stage, link: Link) -> tuple[Seen, Cause] | None:
    """What a request on *link* sees now; None: nothing (a deaf server answers when it exits)."""
    server = link.server
    if server.phase is ServerPhase.EXITED or _cut(link):
        fate = _at_exit(stage, link)
    elif server.phase is ServerPhase.DRAINING:
        fate = _at_drain(stage, link)
    else:
        return None
    if fate is not None and server.restarting:
        return fate[0], Cause.LIVENESS_RESTART
    return fate


def _cut(link: Link) -> bool:
    """Closed by a worker that is gone, while the master still holds the listener."""
    cut_s = link.server.cut_s
    return cut_s is not None and link.opened_s <= cut_s


def _at_exit(stage: Stage, link: Link) -> tuple[Seen, Cause] | None:
    cause = Cause.STOP_IN_FLIGHT
    if link.server.killed:
        cause = Cause.KILL_IN_FLIGHT
    elif link.server.cut_by_own_limit:
        cause = Cause.DRAIN_TIMEOUT
    match stage:
        case Stage.SENT:
            return Seen.RESET, Cause.ACCEPT_QUEUE_RESET if link.first else Cause.IDLE_CLOSED
        case Stage.IN_SERVICE:
            return Seen.EOF, cause
        case Stage.STREAMING:
            return Seen.TRUNCATED, cause
    return None


def _at_drain(stage: Stage, link: Link) -> tuple[Seen, Cause] | None:
    """A request that the server has not read stands on a connection that it holds for idle or unused."""
    stop = link.server.stop
    assert stop is not None
    match stage:
        case Stage.SENT if link.first:
            queued = link.unseen or _came_after_the_signal(link, link.opened_s)
            reset = (queued and stop.listener is OnListener.CLOSE) or stop.unused is OnIdle.CLOSE
            return (Seen.RESET, Cause.ACCEPT_QUEUE_RESET) if reset else None
        case Stage.SENT:
            unread = link.unseen or _came_after_the_signal(link, link.sent_s)
            reset = stop.idle is OnIdle.CLOSE and unread and not link.young
            return (Seen.RESET, Cause.IDLE_CLOSED) if reset else None
        case Stage.IN_SERVICE:
            return (Seen.EOF, Cause.STOP_IN_FLIGHT) if stop.busy is OnBusy.CUT else None
        case Stage.STREAMING:
            return (Seen.TRUNCATED, Cause.STOP_IN_FLIGHT) if stop.busy is OnBusy.CUT else None
    return None


def _came_after_the_signal(link: Link, at_s: float) -> bool:
    """Whether what came at *at_s* waits behind the signal of a generic server that has no core: it acts on that first.

    Ours closes what it has not begun to read (validation/lab/images/generic/server.go, `Stop`). Where it had waited
    long 15 of one pod's connections were reset in one stop, their requests 2 to 42 ms old, and 9 in another, which even
    odds for each do not give (validation/observations/drawn-2-03, run 1; ka-generic, run 5).
    """
    server = link.server
    return server.image.server is ServerKind.GENERIC and server.deaf_s is not None and at_s >= server.deaf_s


def closes_idle(link: Link) -> bool:
    """Whether *link*, idle, gets a FIN in its server's present phase."""
    server = link.server
    if server.phase is ServerPhase.DRAINING:
        return server.stop is not None and server.stop.idle is OnIdle.CLOSE
    return server.phase in (ServerPhase.EXITED, ServerPhase.VANISHED) or _cut(link)


def announces_close(link: Link) -> bool:
    """Whether an answer whose header is built now carries `Connection: close`."""
    server = link.server
    tells = server.phase is ServerPhase.DRAINING or (ends_its_pass(server) and link.sent_s >= _word_s(server))
    return tells and server.stop is not None and server.stop.idle is not OnIdle.KEEP


def ends_its_pass(server: Server) -> bool:
    """A fast stop of nginx: what has come while the worker waited for its core is read and answered, nothing after it.

    In one pass of its event loop it reads what came before its master's word, the word, and what came after it; the
    answers to the last say `Connection: close` (nginx 1.22 src/os/unix/ngx_process_cycle.c, `ngx_terminate`, and
    src/http/ngx_http_header_filter_module.c). Seen in validation/calibration/data/2026-11-24/pod-stop-ab-hook.csv:
    late_reads.
    """
    return (
        server.phase is ServerPhase.DEAF
        and server.stop is not None
        and server.image.server is ServerKind.NGINX
    )


def is_read_in_last_pass(link: Link) -> bool:
    """Whether that pass reads the request that waits on *link*: not of a connection that it has yet to accept."""
    accepted = not link.first or not (link.unseen or link.sent_s >= _word_s(link.server))
    return accepted and ends_its_pass(link.server)


def _word_s(server: Server) -> float:
    return float("inf") if server.word_s is None else server.word_s
