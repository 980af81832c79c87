"""What a server's state does to a connection: written down anew, not taken from sim/traffic.

Sources: nginx release-1.26.2 src/os/unix/ngx_process_cycle.c:712-741 and tries on 1.22.1; HAProxy 2.6 management
manual, "Stopping"; tcp(7): closing a socket with unread data sends RST, without it FIN.
"""

from dataclasses import dataclass

from oracle.mirror import Host

from sim.outcomes import Cause, Seen
from sim.traffic.links import Stage
from sim.world import ServerPhase

P = ServerPhase


@dataclass(slots=True, eq=False)
class Link:
    """One TCP connection."""

    host: Host
    opened_s: float
    in_backlog: bool
    """Of a request that its server has not read: it missed the pass of the event loop now under way."""
    client: tuple[int, int] = (0, 0)
    """The client's address and port."""
    n_requests: int = 0
    sent_s: float = 0.0
    idle_since_s: float = 0.0
    young: bool = False
    fin: bool = False
    fin_s: float = 0.0
    timed_out: bool = False
    announced: bool = False
    """An answer has said that the connection ends with it."""


class Failed(Exception):
    """A request's end."""

    def __init__(
        self, seen: Seen, cause: Cause, stage: Stage, pod: str | None, *, reply: bool = False
    ) -> None:
        super().__init__(seen, cause, stage, pod)
        self.seen, self.cause, self.stage, self.pod = seen, cause, stage, pod
        self.reply = reply
        """An answer with a length, which leaves the client's connection as it was."""


class BackendBroken(Exception):
    """The proxy lost its connection to the pod."""

    def __init__(self, seen: Seen, stage: Stage) -> None:
        super().__init__(seen, stage)
        self.seen, self.stage = seen, stage


def gone(link: Link) -> bool:
    """Whether the process that held *link* has ended: all of it, or the worker with this connection."""
    host = link.host
    return host.phase is P.EXITED or (host.cut_s is not None and link.opened_s <= host.cut_s)


def closes_idle(link: Link) -> bool:
    """Whether *link*, with nothing under way on it, gets a FIN."""
    if link.host.phase is P.DRAINING:
        return link.host.closes_idle()
    return gone(link) or link.host.phase is P.VANISHED


def fate(stage: Stage, link: Link) -> tuple[Seen, Cause] | None:
    """What hits a request that is in *stage* on *link*; None: nothing."""
    host = link.host
    if gone(link):
        seen, cause = _at_the_end(stage, link)
    elif host.phase is P.DRAINING:
        seen, cause = _at_a_drain(stage, link)
    else:
        return None
    if seen is None:
        return None
    return seen, Cause.LIVENESS_RESTART if host.restarting else cause


def _at_the_end(stage: Stage, link: Link) -> tuple[Seen | None, Cause]:
    host = link.host
    cause = Cause.STOP_IN_FLIGHT
    if host.killed:
        cause = Cause.KILL_IN_FLIGHT
    elif host.cut_by_own_limit:
        cause = Cause.DRAIN_TIMEOUT
    match stage:
        case Stage.SENT:  # bytes that nobody has read
            return Seen.RESET, Cause.IDLE_CLOSED if link.n_requests > 1 else Cause.ACCEPT_QUEUE_RESET
        case Stage.IN_SERVICE:
            return Seen.EOF, cause
        case Stage.STREAMING:
            return Seen.TRUNCATED, cause
    return None, cause


def _at_a_drain(stage: Stage, link: Link) -> tuple[Seen | None, Cause]:
    host = link.host
    match stage:
        case Stage.SENT if link.n_requests > 1:
            unread = link.in_backlog or link.sent_s >= host.misses_from_s
            lost = host.closes_idle() and unread and not link.young
            return (Seen.RESET if lost else None), Cause.IDLE_CLOSED
        case Stage.SENT:
            queued = link.in_backlog or link.opened_s >= host.misses_from_s
            lost = host.closes_unused() or (host.closes_listener() and queued)
            return (Seen.RESET if lost else None), Cause.ACCEPT_QUEUE_RESET
        case Stage.IN_SERVICE:
            return (Seen.EOF if host.cuts_busy() else None), Cause.STOP_IN_FLIGHT
        case Stage.STREAMING:
            return (Seen.TRUNCATED if host.cuts_busy() else None), Cause.STOP_IN_FLIGHT
    return None, Cause.STOP_IN_FLIGHT


def refusal(host: Host | None) -> tuple[Cause, str | None] | None:
    """Why a SYN to *host* is answered by RST (or, with no host at all, by ICMP); None: it is not."""
    if host is None:
        return Cause.NO_ENDPOINT, None
    match host.phase:
        case P.ABSENT | P.STARTING:
            return (Cause.LIVENESS_RESTART if host.n_restarts else Cause.STARTING_POD_REFUSED), host.pod
        case P.EXITED:
            pass
        case P.DRAINING if host.closes_listener():
            pass
        case _:
            return None
    return (Cause.LIVENESS_RESTART if host.restarting else Cause.STALE_ENDPOINT_REFUSED), host.pod
