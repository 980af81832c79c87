"""One attempt to connect: which server a SYN meets, and what it sees.

Source: kubernetes v1.34 pkg/proxy/iptables/proxier.go:1564-1585 (uniform choice for each new connection),
Linux 6.5+ SYN retransmission at 1, 2, 3, 4, 5, 7, 11 … s (tcp_syn_linear_timeouts 4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from sim.outcomes import Cause, Seen
from sim.proxies import BackendServer
from sim.scenario.timing import Vanished
from sim.world import Server, ServerPhase

SYN_AGAIN_AFTER_S: Final = (1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Gaps between one SYN and the next; the last one ends the attempt (ETIMEDOUT)."""
SYN_GIVES_UP_AFTER_S: Final = sum(SYN_AGAIN_AFTER_S)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A connect that failed."""

    seen: Seen
    cause: Cause
    pod: str | None


@dataclass(frozen=True, slots=True)
class Way:
    """One of the ways that a connection's next request may take."""

    share: float
    """How likely it is, among all of them."""
    front: Server
    """What the client's own connection ends on."""
    target: Server
    """Who answers in the end: the same without a proxy."""
    line: BackendServer | None = None
    """The proxy's server line that leads there."""


def pick_way(ways: Sequence[Way], rng: Generator) -> Way | None:
    """One of *ways*, each in proportion to its share."""
    at = float(rng.random()) * sum(way.share for way in ways) if ways else 0.0
    for way in ways:
        at -= way.share
        if at <= 0:
            return way
    return ways[-1] if ways else None


def pick(targets: Sequence[Server], rng: Generator) -> Server | None:
    return targets[int(rng.integers(len(targets)))] if targets else None


def refusal(target: Server | None) -> Refusal | None:
    """Why a SYN to *target* is refused at once; None: it is not."""
    if target is None:
        return Refusal(Seen.REFUSED, Cause.NO_ENDPOINT, None)
    match target.phase:
        case ServerPhase.ABSENT | ServerPhase.STARTING:
            cause = Cause.LIVENESS_RESTART if target.n_restarts else Cause.STARTING_POD_REFUSED
            return Refusal(Seen.REFUSED, cause, target.pod.name)
        case ServerPhase.EXITED | ServerPhase.DRAINING if not target.accepts:
            cause = Cause.LIVENESS_RESTART if target.restarting else Cause.STALE_ENDPOINT_REFUSED
            return Refusal(Seen.REFUSED, cause, target.pod.name)
    return None


def is_silent(target: Server | None) -> bool:
    return target is not None and target.phase is ServerPhase.VANISHED


def accepts(target: Server) -> bool:
    """Whether a SYN to *target* becomes a connection."""
    return refusal(target) is None and not is_silent(target)


def vanished_answer(vanished: Vanished, *, forwarded: bool) -> Vanished:
    """What a SYN to a vanished address meets.

    Unreachable is answered to forwarded packets only; a client on the node itself sees redrawn silence
    instead (tried on kind: DNAT hits and no error).
    """
    if vanished is Vanished.UNREACHABLE and not forwarded:
        return Vanished.SILENCE_REDRAWN
    return vanished
