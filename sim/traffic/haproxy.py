"""HAProxy's way with one request: choose a server, connect, try again, answer, or break.

Source: HAProxy 2.6 and 3.0 configuration manuals (`retries`, `option redispatch`, `retry-on`, `http-reuse`),
src/http_ana.c and src/backend.c of both; tried on 2.6.12.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.outcomes import Cause, Seen
from sim.proxies import BackendServer, Proxy
from sim.scenario.timing import Vanished
from sim.traffic.balance import HASHED, choose
from sim.traffic.links import BackendBroken, Failed, Stage
from sim.traffic.routing import (
    SYN_AGAIN_AFTER_S,
    SYN_GIVES_UP_AFTER_S,
    is_silent,
    pick,
    pick_way,
    refusal,
    vanished_answer,
)
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.cruise import Resume
    from sim.traffic.exchange import Connection

PAUSE_TO_SAME_SERVER_S: Final = 1.0
"""Before a failed connect is tried on the same server again (src/backend.c, back_handle_st_cer)."""
ERRORS_KEEP_THE_CLIENT: Final = (2, 2)
"""From this version on error answers have a length and keep the client's connection."""
RESET_IS_EMPTY: Final = (2, 6, 10)
"""From this version on a reset before the first byte counts as an empty response (6f78ac560)."""
TELLS_BROKEN_FRESH_CONNECTION: Final = (3, 0)
"""From this version on a broken fresh connection is a 502 also for later requests (3fc38593d)."""
SLOW_SERVER_IS_TOLD: Final = (2, 0)
"""Before this version a later request that met `timeout server` ended without a byte, not with a 504."""

Steps = Generator[simpy.Event, Any, None]
_ORDER: Final = (Stage.SENT, Stage.IN_SERVICE, Stage.STREAMING)


class _ServerTimeout(Exception):
    """`timeout server` ran out before the header."""


class _Tries:
    """What is left of `retries`, and where the next one goes: to the same line, or anywhere but there."""

    def __init__(self, proxy: Proxy) -> None:
        self.n_left = proxy.backend.retries
        self.stay: BackendServer | None = None
        self.avoid: BackendServer | None = None

    def spend(self, conn: "Connection", proxy: Proxy) -> bool:
        """Take one; whether it goes elsewhere at once (src/backend.c, back_handle_st_cer).

        With redispatch and a second active server every algorithm but a hash leaves the line that failed; one
        that is DOWN is left in any case.
        """
        line = conn.hop.line
        self.n_left -= 1
        may_move = proxy.backend.redispatch != 0
        elsewhere = may_move and len(proxy.usable) > 1 and proxy.backend.balance not in HASHED
        leaves = elsewhere or (may_move and line is not None and not line.usable)
        self.stay, self.avoid = (None, line) if leaves else (line, None)
        if leaves:
            conn.hop.leave_line()
        return elsewhere


def handle(conn: "Connection", proxy: Proxy, resume: "Resume | None") -> Steps:
    """One request inside the proxy.

    Raises
    ------
    Failed
        With what the client sees.
    """
    hop = conn.hop
    hop.enter(proxy)
    tries = _Tries(proxy)
    while True:
        if resume is None or resume.stage is Stage.CONNECTING:
            yield from _reach(conn, proxy, tries, resume)
            resume = None
        link = hop.link
        assert link is not None
        pod = link.server.pod.name
        try:
            yield from _exchange(conn, proxy, resume)
        except BackendBroken as broken:
            if broken.stage is Stage.STREAMING:
                raise Failed(Seen.TRUNCATED, Cause.PROXY_BACKEND_TRUNCATED, Stage.STREAMING, pod) from None
            if not _repeats_broken(proxy, broken.seen) or tries.n_left == 0:
                raise _broken_answer(conn, proxy, pod, broken.stage, reused=not link.first) from None
        except _ServerTimeout:
            if "response-timeout" not in proxy.backend.retry_on or tries.n_left == 0:
                raise _timeout_answer(conn, proxy, pod) from None
        else:
            return
        resume = None
        hop.drop()
        tries.spend(conn, proxy)


def _repeats_broken(proxy: Proxy, seen: Seen) -> bool:
    if "empty-response" not in proxy.backend.retry_on:
        return False
    return seen is Seen.EOF or proxy.version >= RESET_IS_EMPTY


def _keeps(proxy: Proxy) -> bool:
    return proxy.version >= ERRORS_KEEP_THE_CLIENT


def _is_first(conn: "Connection") -> bool:
    assert conn.link is not None
    return conn.link.first


def _broken_answer(
    conn: "Connection", proxy: Proxy, pod: str | None, stage: Stage, *, reused: bool
) -> Failed:
    """502, or the client's connection closed without a byte: by version and by what was fresh."""
    told = not reused if proxy.version >= TELLS_BROKEN_FRESH_CONNECTION else _is_first(conn)
    if told:
        return Failed(Seen.HTTP_502, Cause.PROXY_BACKEND_BROKEN, stage, pod, keeps_link=_keeps(proxy))
    return Failed(Seen.EOF, Cause.PROXY_BACKEND_BROKEN, stage, pod)


def _timeout_answer(conn: "Connection", proxy: Proxy, pod: str | None) -> Failed:
    if proxy.version < SLOW_SERVER_IS_TOLD and not _is_first(conn):
        return Failed(Seen.EOF, Cause.PROXY_SERVER_TIMEOUT, Stage.IN_SERVICE, pod)
    return Failed(Seen.HTTP_504, Cause.PROXY_SERVER_TIMEOUT, Stage.IN_SERVICE, pod, keeps_link=_keeps(proxy))


def _exhausted(conn: "Connection", proxy: Proxy, attempt: "_Attempt") -> Failed:
    """All attempts failed: 503; after silence a later request's connection is closed without a byte."""
    if attempt.silent and not _is_first(conn):
        return Failed(Seen.EOF, Cause.PROXY_RETRIES_EXHAUSTED, Stage.CONNECTING, attempt.pod)
    return _unavailable(proxy, Cause.PROXY_RETRIES_EXHAUSTED, attempt.pod)


def _unavailable(proxy: Proxy, cause: Cause, pod: str | None = None) -> Failed:
    return Failed(Seen.HTTP_503, cause, Stage.CONNECTING, pod, keeps_link=_keeps(proxy))


# ---------------------------------------------------------------- the answer of a pod


def _exchange(conn: "Connection", proxy: Proxy, resume: "Resume | None") -> Steps:
    """Request to the pod, its answer back; the header is forwarded when the body begins to stream.

    Raises
    ------
    BackendBroken, Failed, _ServerTimeout
    """
    traffic, hop = conn.traffic, conn.hop
    link, front = hop.link, conn.link
    assert link is not None
    assert front is not None
    answer = traffic.answer(link.server)
    limit_s = float("inf") if proxy.backend.timeout_server_s is None else proxy.backend.timeout_server_s
    conn.waits_for(Cause.SLOW_ANSWER)
    hop.inside = True
    if link.fin:  # closed so lately that HAProxy did not know
        yield from conn.spend(Stage.SENT, traffic.round_trip_s(conn.rng))
        raise BackendBroken(Seen.EOF, Cause.IDLE_CLOSED, Stage.IDLE)
    begin = 0 if resume is None else _ORDER.index(resume.stage)
    for stage in _ORDER[begin:]:
        here = resume if resume is not None and resume.stage is stage else None
        if here is not None:
            duration_s, elapsed_s = here.remaining_s, here.elapsed_s
        else:
            duration_s, elapsed_s = _duration_s(conn, stage, link.server), 0.0
        if stage is Stage.IN_SERVICE and elapsed_s + duration_s > limit_s:
            yield from conn.spend(stage, limit_s - elapsed_s)
            raise _ServerTimeout
        if stage is Stage.STREAMING:
            for each in (link, front):
                each.close_announced |= traffic.says_close(each, built_now=here is None)
            if answer.longest_gap_s > limit_s:
                yield from conn.spend(stage, limit_s)
                raise Failed(Seen.TRUNCATED, Cause.PROXY_SERVER_TIMEOUT, stage, link.server.pod.name)
        yield from conn.spend(stage, duration_s, met=here is not None)
    hop.inside = False


def _duration_s(conn: "Connection", stage: Stage, server: Server) -> float:
    answer = conn.traffic.answer(server)
    match stage:
        case Stage.SENT:
            return conn.traffic.request_cycle.backend_sent_s(conn.rng)
        case Stage.IN_SERVICE:
            return answer.service.draw_s(conn.rng)
    return answer.stream.draw_s(conn.rng)


# ---------------------------------------------------------------- to a pod


def _reach(conn: "Connection", proxy: Proxy, tries: _Tries, resume: "Resume | None") -> Steps:
    """A connection to a pod for this request: a kept one, or attempts until one holds.

    Refused with nowhere else to go waits min(1 s, timeout connect); a silent attempt has paid its time-out and
    goes on at once. `retries` n means n + 1 attempts in all, those after a broken answer included.
    """
    hop = conn.hop
    connect_s = None if resume is None else resume.remaining_s
    while True:
        forced: Server | None = None
        if tries.stay is None:
            chosen, forced = yield from _line(conn, proxy, tries.avoid)
            hop.take_line(chosen)
        line = hop.line
        assert line is not None
        if hop.reuse(line):
            return
        attempt = _Attempt(forced)
        yield from _one_attempt(conn, proxy, line, attempt, connect_s)
        if attempt.server is not None:
            hop.open(attempt.server)
            return
        if tries.n_left == 0 or "conn-failure" not in proxy.backend.retry_on:
            raise _exhausted(conn, proxy, attempt)
        elsewhere = tries.spend(conn, proxy)
        if not attempt.silent and not elsewhere:
            conn.waits_for(Cause.PROXY_CONNECT_WAIT)
            limit_s = proxy.backend.timeout_connect_s or PAUSE_TO_SAME_SERVER_S
            yield from conn.stand(conn.spend(Stage.IN_SERVICE, min(PAUSE_TO_SAME_SERVER_S, limit_s)))
        connect_s = None


def _line(
    conn: "Connection", proxy: Proxy, avoid: BackendServer | None
) -> Generator[simpy.Event, Any, tuple[BackendServer, Server | None]]:
    """A server line, and the target on it if a cruise has drawn it.

    Raises
    ------
    Failed
        No server is UP, or `timeout queue` ran out (unset: as long as `timeout connect`).
    """
    ways = [way for way in conn.steered() if way.front is proxy.server and way.line in proxy.usable]
    conn.steer(())
    if (way := pick_way(ways, conn.rng)) is not None and way.line is not None:
        return way.line, way.target
    if not proxy.usable:
        raise _unavailable(proxy, Cause.PROXY_NO_SERVER)
    line = None if proxy.waiting else choose(proxy, avoid, conn.rng)
    if line is None:
        backend = proxy.backend
        limit_s = backend.timeout_connect_s if backend.timeout_queue_s is None else backend.timeout_queue_s
        if (yield from _queue(conn, proxy, float("inf") if limit_s is None else limit_s)):
            line = choose(proxy, avoid, conn.rng)
    if line is None:
        raise _unavailable(proxy, Cause.PROXY_QUEUE_TIMEOUT)
    return line, None


def _queue(conn: "Connection", proxy: Proxy, limit_s: float) -> Generator[simpy.Event, Any, bool]:
    """Wait for a free server, first come first served; whether there is one in time."""
    proxy.waiting.append(conn)
    conn.hop.waits = True
    conn.waits_for(Cause.PROXY_QUEUE_TIMEOUT)
    try:
        return (
            yield from conn.spend(
                Stage.IN_SERVICE,
                limit_s,
                until=lambda: proxy.waiting[0] is conn and any(not line.full for line in proxy.usable),
            )
        )
    finally:
        proxy.waiting.remove(conn)
        conn.hop.waits = False


class _Attempt:
    """What became of one connect: a server, or a refusal, or silence."""

    def __init__(self, forced: Server | None) -> None:
        self.forced = forced
        self.server: Server | None = None
        self.silent = False
        self.pod: str | None = None


def _one_attempt(
    conn: "Connection", proxy: Proxy, line: BackendServer, attempt: _Attempt, connect_s: float | None
) -> Steps:
    """One connect to *line*: a SYN, and again while no answer is heard, until `timeout connect`."""
    traffic = conn.traffic
    limit_s = min(proxy.backend.timeout_connect_s or SYN_GIVES_UP_AFTER_S, SYN_GIVES_UP_AFTER_S)
    yield from conn.spend(
        Stage.IN_SERVICE, traffic.round_trip_s(conn.rng) if connect_s is None else connect_s
    )
    began_s = float(conn.env.now)
    for n_before, gap_s in enumerate(SYN_AGAIN_AFTER_S):
        possible = proxy.targets(traffic.world, line)
        forced = attempt.forced if attempt.forced in possible else None
        target = (None if line.is_slot else conn.take_old_port()) or forced or pick(possible, conn.rng)
        attempt.forced = None
        attempt.pod = target.pod.name if target is not None else None
        if target is None:
            if line.is_slot or proxy.hears_rejection(float(conn.env.now), first_syn=n_before == 0):
                return
            answer = Vanished.SILENCE_REDRAWN  # rejected before connection tracking confirms it
        elif refusal(target) is not None:
            return
        elif not is_silent(target):
            attempt.server = target
            return
        else:
            answer = vanished_answer(traffic.timing.vanished, forwarded=True)
        if answer is Vanished.UNREACHABLE:
            return
        conn.waits_for(Cause.PROXY_CONNECT_WAIT)
        left_s = began_s + limit_s - float(conn.env.now)
        wait_s = left_s if answer is Vanished.SILENCE_PINNED else min(gap_s, left_s)
        ends_s = float(conn.env.now) + wait_s
        yield from conn.hang(conn.spend(Stage.IN_SERVICE, wait_s), ends_s, target, proxy)
        if wait_s >= left_s:
            break
    attempt.silent = True
