"""The load clients: how each behaves on its connections and what its own report would say.

Sources: ab 2.4.62 support/ab.c, wrk 4.1 src/wrk.c, Go 1.26 net/http transport.go, requests 2.34; each row tried
on loopback against scripted servers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sim.outcomes import Failure, Seen

IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKind:
    """Semantics of one client."""

    name: str
    sees_idle_close: bool
    """Notices a FIN on an idle connection before it writes."""
    repeats_on_reused: bool = False
    """Repeats an idempotent request transparently when a reused connection broke before the answer."""
    gives_up: bool = True
    """Has time-outs of its own for a connect and an answer. ab and wrk wait on, connection by connection."""
    spins_on_icmp: bool = False
    """Polls without pause on a connect that ICMP has put into error."""
    shows_polled: bool = False
    """Its report counts the refused connects that its poll shows (`polled`)."""
    has_report: bool = False
    """Prints a number of failed requests of its own."""


KINDS: Final[Mapping[str, ClientKind]] = {
    kind.name: kind
    for kind in (
        ClientKind(
            name="ab",
            sees_idle_close=False,
            gives_up=False,
            spins_on_icmp=True,
            shows_polled=True,
            has_report=True,
        ),
        ClientKind(name="wrk", sees_idle_close=False, gives_up=False, has_report=True),
        ClientKind(name="plain", sees_idle_close=False, has_report=True),
        ClientKind(name="go-http", sees_idle_close=True, repeats_on_reused=True),
        ClientKind(name="requests", sees_idle_close=True),
    )
}

_BROKEN: Final = (Seen.RESET, Seen.EOF, Seen.TRUNCATED)
_REPLIED: Final = (Seen.HTTP_502, Seen.HTTP_503, Seen.HTTP_504, Seen.HTTP_OTHER)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the tool itself prints."""

    failed: float
    """Its own "failed" figure. [as printed]"""
    aborted: bool = False
    """The tool ended itself before its time."""


def ends_the_run(client: str, options: Mapping[str, object], seen: Seen) -> bool:
    """ab without `-r` exits at the first reset or refused connect (ab.c read_connection, err)."""
    return client == "ab" and not options.get("r") and seen in (Seen.RESET, Seen.REFUSED, Seen.UNREACHABLE)


def report(
    client: str,
    options: Mapping[str, object],
    failures: Mapping[tuple[Seen, bool], int],
    *,
    n_other_length: int,
    n_polled: float = 0.0,
    n_spins: float = 0.0,
    n_late: int = 0,
) -> Report | None:
    """The tool's figure for failures counted by (what was seen, the FIN was there before the request).

    *n_other_length* are good answers whose length differs from the first one's, *n_polled* the refused connects
    that its poll showed, *n_spins* rounds of its poll loop on a connect in error, *n_late* good answers that took
    longer than its time-out. None: it prints no
    such figure.
    """
    match client:
        case "ab":
            return _ab(options, failures, n_other_length, n_polled + n_spins)
        case "wrk":
            return Report(failed=float(_wrk(failures) + n_late))
        case "plain":
            return Report(failed=float(sum(failures.values())))
    return None


def _wrk(failures: Mapping[tuple[Seen, bool], int]) -> int:
    """wrk's socket errors and "Non-2xx or 3xx responses"; a request that never completes is in neither."""
    never = (Seen.CONNECT_TIMEOUT, Seen.ANSWER_TIMEOUT)
    return sum(n for (seen, _), n in failures.items() if seen not in never)


def _ab(
    options: Mapping[str, object],
    failures: Mapping[tuple[Seen, bool], int],
    n_other_length: int,
    n_in_error: float,
) -> Report:
    """ab's "Failed requests": the sum of Connect, Receive, Length and Exceptions, not a number of requests.

    With `-r`: a reset counts in Receive and Exceptions; a FIN that was there before the request was written
    is read as EOF with the socket in error, so in Exceptions; a refused connect counts in Receive, and in
    Exceptions where the poll showed it (`polled`). Without `-l` each answer that is not as long as the first
    counts in Length, so does each broken one. *n_in_error*: each round of its poll loop on a connect in error
    counts in Exceptions, hundreds of thousands a second while a Service has no endpoint. Without `-r` the first
    reset ends ab.
    """
    strict_length = not options.get("l")
    total = n_in_error + (n_other_length if strict_length else 0)
    aborted = False
    for (seen, fin_before), n in failures.items():
        if ends_the_run("ab", options, seen):
            aborted = True
            continue
        length = n if strict_length else 0
        if seen is Seen.RESET:
            total += 2 * n + length
        elif seen is Seen.REFUSED:
            total += n + length
        elif seen is Seen.UNREACHABLE:
            total += 1.5 * n + length
        elif seen in _BROKEN:
            total += (n if fin_before else 0) + length
        elif seen in _REPLIED:
            total += length
    return Report(failed=total, aborted=aborted)


def polled(n: int, share_refused: float) -> float:
    """How many of *n* refused connects ab's poll shows, where that share of all connects is refused at once.

    It reads the socket in error, connects anew, and reads the new one before it polls again, since that is
    connecting and the old one was in error (ab.c 2.4.62, test(): POLLERR). Is the new one refused too, then that
    read meets it and no poll does. So of k refused in a row every other one is polled, one and a half counts for
    each where all are refused; where a third is, Receive to Exceptions is 4 : 3 (replays of stage 0: 1.34 to 1.47).
    """
    return n / (1 + share_refused)


def hides(client: str, options: Mapping[str, object]) -> str | None:
    """One line about failures that this client's own report leaves out; None: it shows them all."""
    if client == "ab" and options.get("l"):
        return "`ab -l` does not count connections that end without an answer, cut answers, or 5xx: its 0 proves little"
    if client == "wrk":
        return "wrk does not count a request that never completes"
    return None


def fin_was_there(failure: Failure) -> bool:
    """Whether the server's FIN had arrived before the request was written."""
    return failure.seen is Seen.EOF and failure.phase == "idle"
