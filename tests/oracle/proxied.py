"""HAProxy's way with one request, written down anew.

Sources: HAProxy 2.6 and 3.0 src/backend.c (back_handle_st_cer, connect_server), src/http_ana.c, configuration
manual 4.2 (`retries`, `option redispatch`, `retry-on`, `http-reuse`, `timeout queue`); tries on 2.6.12.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from oracle.clock import NEVER, Steps
from oracle.fates import BackendBroken, Failed, refusal
from oracle.mirror import Host, Line, Proxy

from sim.outcomes import Cause, Seen
from sim.scenario.model import HttpMode
from sim.scenario.timing import Vanished
from sim.traffic.links import Stage
from sim.world import ServerPhase

if TYPE_CHECKING:
    from oracle.connection import Connection

SYN_GAPS_S = (1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
ALL_RETRYABLE = frozenset({"conn-failure", "empty-response", "response-timeout"})


class _Late(Exception):
    """`timeout server` is over."""


class _Tries:
    """The attempts that are left, and where the next may go."""

    def __init__(self, n_left: int) -> None:
        self.n_left = n_left
        self.stays = False
        self.leaves: Line | None = None


def keeps(proxy: Proxy) -> bool:
    """Whether connections to pods outlive a request."""
    return proxy.backend.http_mode is HttpMode.KEEP_ALIVE and proxy.backend.http_reuse != "never"


def handle(conn: "Connection", proxy: Proxy) -> Generator[float, Any, Host]:
    """One request, from read to the last byte of its answer; who answered.

    Raises
    ------
    Failed
    """
    if conn.proxy is not proxy:
        conn.leave(keep=False)
        conn.drop_kept()
        conn.proxy = proxy
    tries = _Tries(proxy.backend.retries)
    while True:
        yield from _reach(conn, proxy, tries)
        back = conn.back
        assert back is not None
        reused = back.n_requests > 1
        try:
            yield from _exchange(conn, proxy)
        except BackendBroken as broken:
            if broken.stage is Stage.STREAMING:
                raise Failed(
                    Seen.TRUNCATED, Cause.PROXY_BACKEND_TRUNCATED, Stage.STREAMING, back.host.pod
                ) from None
            if tries.n_left == 0 or not _repeats(proxy, broken.seen):
                raise _broken(conn, proxy, back.host.pod, broken.stage, reused=reused) from None
        except _Late:
            if tries.n_left == 0 or "response-timeout" not in proxy.backend.retry_on:
                raise _late(conn, proxy, back.host.pod) from None
        else:
            return back.host
        conn.drop_back()
        _spend_try(conn, proxy, tries)


# ---------------------------------------------------------------- what the client gets to see


def _first(conn: "Connection") -> bool:
    assert conn.link is not None
    return conn.link.n_requests <= 1


def _repeats(proxy: Proxy, seen: Seen) -> bool:
    """An empty answer; a reset counts as one from 2.6.10 on."""
    return "empty-response" in proxy.backend.retry_on and (seen is Seen.EOF or proxy.version >= (2, 6, 10))


def _replies(proxy: Proxy) -> bool:
    """From 2.2 on an error has a length and leaves the client's connection open."""
    return proxy.version >= (2, 2)


def _broken(conn: "Connection", proxy: Proxy, pod: str, stage: Stage, *, reused: bool) -> Failed:
    """Up to 2.x the client's first request gets a 502; from 3.0 on every one whose server connection was new."""
    told = not reused if proxy.version >= (3, 0) else _first(conn)
    if told:
        return Failed(Seen.HTTP_502, Cause.PROXY_BACKEND_BROKEN, stage, pod, reply=_replies(proxy))
    return Failed(Seen.EOF, Cause.PROXY_BACKEND_BROKEN, stage, pod)


def _late(conn: "Connection", proxy: Proxy, pod: str) -> Failed:
    if proxy.version < (2, 0) and not _first(conn):
        return Failed(Seen.EOF, Cause.PROXY_SERVER_TIMEOUT, Stage.IN_SERVICE, pod)
    return Failed(Seen.HTTP_504, Cause.PROXY_SERVER_TIMEOUT, Stage.IN_SERVICE, pod, reply=_replies(proxy))


def _unavailable(proxy: Proxy, cause: Cause, pod: str | None = None) -> Failed:
    return Failed(Seen.HTTP_503, cause, Stage.CONNECTING, pod, reply=_replies(proxy))


# ---------------------------------------------------------------- the pod's answer


def _exchange(conn: "Connection", proxy: Proxy) -> Steps:
    judge, back, front = conn.judge, conn.back, conn.link
    assert back is not None
    assert front is not None
    limit_s = NEVER if proxy.backend.timeout_server_s is None else proxy.backend.timeout_server_s
    conn.late_by = Cause.SLOW_ANSWER
    conn.inside = True
    if back.fin:  # the proxy has not heard of it yet
        yield from conn.spend(Stage.SENT, judge.round_trip_s())
        raise BackendBroken(Seen.EOF, Stage.IDLE)
    yield from conn.spend(Stage.SENT, judge.backend_sent_s() * judge.slowdown)
    service_s = back.host.service_s()
    yield from conn.spend(Stage.IN_SERVICE, min(service_s, limit_s))
    if service_s > limit_s:
        raise _Late
    conn.announce(back)
    conn.announce(front)
    if back.host.longest_gap_s > limit_s:
        yield from conn.spend(Stage.STREAMING, limit_s)
        raise Failed(Seen.TRUNCATED, Cause.PROXY_SERVER_TIMEOUT, Stage.STREAMING, back.host.pod)
    if (streams_s := back.host.stream_s()) > 0:
        yield from conn.spend(Stage.STREAMING, streams_s)
    conn.inside = False


# ---------------------------------------------------------------- to a pod


def _reach(conn: "Connection", proxy: Proxy, tries: _Tries) -> Steps:
    """Attempts until a connection stands. A refused one waits up to 1 s before it tries the same line again."""
    backend = proxy.backend
    while True:
        if not tries.stays:
            conn.line = yield from _choose(conn, proxy, tries.leaves)
            conn.line.n_running += 1
        line = conn.line
        assert line is not None
        if _reuse(conn, proxy, line):
            return
        host, silent, pod = yield from _attempt(conn, proxy, line)
        if host is not None:
            conn.back = conn.open_link(host)
            conn.back.n_requests = 1
            return
        if tries.n_left == 0 or "conn-failure" not in backend.retry_on:
            if silent and not _first(conn):
                raise Failed(Seen.EOF, Cause.PROXY_RETRIES_EXHAUSTED, Stage.CONNECTING, pod)
            raise _unavailable(proxy, Cause.PROXY_RETRIES_EXHAUSTED, pod)
        others = _spend_try(conn, proxy, tries)
        if not silent and not others:
            conn.late_by = Cause.PROXY_CONNECT_WAIT
            pause_s = 1.0 if backend.timeout_connect_s is None else min(1.0, backend.timeout_connect_s)
            conn.stands = True
            try:
                yield from conn.spend(Stage.IN_SERVICE, pause_s)
            finally:
                conn.stands = False


def _spend_try(conn: "Connection", proxy: Proxy, tries: _Tries) -> bool:
    """Whether the next try goes to another line at once."""
    line = conn.line
    assert line is not None
    redispatches = proxy.backend.redispatch != 0
    others = redispatches and proxy.backend.balance != "source" and len(proxy.usable()) > 1
    tries.n_left -= 1
    tries.stays = not (others or (redispatches and not line.usable))
    tries.leaves = None if tries.stays else line
    if not tries.stays:
        conn.leave_line()
    return others


def _reuse(conn: "Connection", proxy: Proxy, line: Line) -> bool:
    """Take a kept connection, unless its FIN has been seen or it is the client's first request (`safe`)."""
    link = conn.kept.pop(line, None)
    if link is None:
        return False
    backend = proxy.backend
    bold = backend.http_reuse in ("aggressive", "always")
    bold |= proxy.version >= (2, 6, 5) and backend.retry_on >= ALL_RETRYABLE
    if (_first(conn) and not bold) or conn.knows_fin(link):
        link.host.server.detach(link)
        return False
    link.n_requests += 1
    conn.back = link
    return True


def _attempt(
    conn: "Connection", proxy: Proxy, line: Line
) -> Generator[float, Any, tuple[Host | None, bool, str | None]]:
    """One connect: (who accepted, nobody answered at all, the pod that was tried)."""
    judge, clock = conn.judge, conn.clock
    yield from conn.spend(Stage.IN_SERVICE, judge.round_trip_s())
    limit_s = proxy.backend.timeout_connect_s or NEVER
    gives_up_s = clock.now_s + min(limit_s, sum(SYN_GAPS_S))
    port, remembered = (0, None) if line.live.is_slot else proxy.ports.take(clock.now_s)
    host: Host | None = None
    for n_syns, gap_s in enumerate(SYN_GAPS_S, start=1):
        host = remembered or judge.pick_behind(proxy, line)
        if host is None:
            told = line.live.is_slot or proxy.live.rejections.told(clock.now_s)
            if told and (n_syns > 1 or line.live.is_slot or _minds_soft_errors(proxy)):
                return None, False, None
        elif refusal(host) is not None:
            return None, False, host.pod
        elif host.phase is not ServerPhase.VANISHED:
            return host, False, host.pod
        elif judge.vanished is Vanished.UNREACHABLE:
            return None, False, host.pod
        conn.late_by = Cause.PROXY_CONNECT_WAIT
        pinned = host is not None and judge.vanished is Vanished.SILENCE_PINNED
        again_s = gives_up_s if pinned else min(clock.now_s + gap_s, gives_up_s)
        waiting = conn.spend(Stage.IN_SERVICE, again_s - clock.now_s)
        unanswered = None
        if conn.deadline_s <= again_s:
            pod = None if host is None else host.pod
            unanswered = Failed(Seen.ANSWER_TIMEOUT, Cause.PROXY_CONNECT_WAIT, Stage.IN_SERVICE, pod)
        ports = proxy.ports if pinned and not line.live.is_slot else None
        yield from conn.hang(ports, port, host, waiting, unanswered)
        if again_s >= gives_up_s:
            break
    return None, True, None if host is None else host.pod


def _minds_soft_errors(proxy: Proxy) -> bool:
    """Whether a connect ends on EPOLLERR while connect() says EALREADY (src/sock.c, sock_conn_check)."""
    return proxy.version < (2, 2) or (2, 6, 18) <= proxy.version < (2, 7) or proxy.version >= (3, 0)


# ---------------------------------------------------------------- which line


def _choose(conn: "Connection", proxy: Proxy, leaves: Line | None) -> Generator[float, Any, Line]:
    """A line for the request, now or when one has room again.

    Raises
    ------
    Failed
    """
    if not proxy.usable():
        raise _unavailable(proxy, Cause.PROXY_NO_SERVER)
    line = None if proxy.waiting else _balance(conn, proxy, leaves)
    if line is not None:
        return line
    backend = proxy.backend
    limit_s = backend.timeout_connect_s if backend.timeout_queue_s is None else backend.timeout_queue_s
    conn.late_by = Cause.PROXY_QUEUE_TIMEOUT
    proxy.waiting.append(conn)
    try:
        yield from conn.spend(
            Stage.IN_SERVICE,
            NEVER if limit_s is None else limit_s,
            lambda: proxy.waiting[0] is conn and any(not line.full for line in proxy.usable()),
        )
        line = _balance(conn, proxy, leaves) if proxy.waiting[0] is conn else None
    finally:
        proxy.waiting.remove(conn)
    if line is None:
        raise _unavailable(proxy, Cause.PROXY_QUEUE_TIMEOUT)
    return line


def _balance(conn: "Connection", proxy: Proxy, leaves: Line | None) -> Line | None:
    """HAProxy 2.6 configuration manual 4.2, `balance`."""
    free = lines = [line for line in proxy.usable() if not line.full]
    balance = proxy.backend.balance
    if balance != "source":
        lines = [line for line in free if line is not leaves] or free
    if len(free) <= 1:
        return free[0] if free else None
    match balance:
        case "first":
            return lines[0]
        case "source":
            return lines[proxy.live.source_hash % len(lines)]
        case "random":
            at = conn.judge.share() * sum(line.weight for line in lines)
            for line in lines:
                at -= line.weight
                if at < 0:
                    return line
            return lines[-1]
        case "leastconn":
            least = min(line.n_running / line.weight for line in lines)
            lines = [line for line in lines if line.n_running / line.weight == least]
    return _in_turn(lines, free)


def _in_turn(lines: list[Line], free: list[Line]) -> Line:
    """Smooth weighted round robin: each line earns its weight, the richest of *lines* pays for all."""
    for line in free:
        line.credit += line.weight
    chosen = max(lines, key=lambda line: line.credit)
    chosen.credit -= sum(line.weight for line in free)
    return chosen
