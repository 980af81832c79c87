"""HAProxy's way with one request: choose a server, connect, try again, answer, or break.

Source: HAProxy 2.6 and 3.0 configuration manuals (`retries`, `option redispatch`, `retry-on`), src/http_ana.c
and src/backend.c of both; tried on 2.6.12.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.outcomes import Cause, Seen
from sim.proxies import BackendServer, Proxy
from sim.scenario.model import HttpMode
from sim.scenario.timing import Vanished
from sim.traffic.answers import service_time, stream_time
from sim.traffic.links import BackendBroken, Failed, Stage, announces_close
from sim.traffic.routing import SYN_AGAIN_AFTER_S, is_silent, pick, refusal, vanished_answer
from sim.world import Server, World

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection, Resume

PAUSE_TO_SAME_SERVER_S: Final = 1.0
"""Before a failed connect is tried on the same server again (src/backend.c, back_handle_st_cer)."""
TELLS_BROKEN_FRESH_CONNECTION: Final = (3, 0)
"""From this version on a broken fresh connection is a 502 also for later requests (3fc38593d)."""
L7_RETRY_ON_BROKEN: Final = frozenset({"empty-response", "all-retryable-errors"})

Steps = Generator[simpy.Event, Any, None]


def all_targets(proxy: Proxy, world: World) -> tuple[Server, ...]:
    """Every server that the next request may be sent to, as likely as it is listed."""
    return tuple(target for line in proxy.usable for target in proxy.targets(world, line))


def handle(conn: "Connection", proxy: Proxy, resume: "Resume | None") -> Steps:
    """One request inside the proxy.

    Raises
    ------
    Failed
        With what the client sees.
    """
    n_left = proxy.backend.retries
    line: BackendServer | None = None
    while True:
        reused = False
        if resume is None or resume.segment.stage is Stage.CONNECTING:
            reused = conn.backend is not None
            if conn.backend is None:
                line, n_left = yield from _connect(conn, proxy, line, n_left)
            assert conn.backend is not None
            conn.backend.n_requests += 1
            resume = None
        try:
            yield from _backend_exchange(conn, proxy, resume)
        except BackendBroken as broken:
            pod = conn.backend.server.pod.name if conn.backend else None
            conn.drop_backend()
            resume = None
            if broken.stage is Stage.STREAMING:
                raise Failed(Seen.TRUNCATED, Cause.PROXY_BACKEND_TRUNCATED, Stage.STREAMING, pod) from None
            if proxy.backend.retry_on & L7_RETRY_ON_BROKEN and n_left > 0:
                n_left -= 1
                continue
            raise _broken_answer(conn, proxy, pod, broken.stage, reused=reused) from None
        else:
            return


def _broken_answer(
    conn: "Connection", proxy: Proxy, pod: str | None, stage: Stage, *, reused: bool
) -> Failed:
    """502, or the client's connection closed without a byte: by version and by what was fresh."""
    assert conn.link is not None
    if proxy.version >= TELLS_BROKEN_FRESH_CONNECTION:
        answers = not reused
    else:
        answers = conn.link.n_requests <= 1
    if answers:
        return Failed(Seen.HTTP_502, Cause.PROXY_BACKEND_BROKEN, stage, pod, keeps_link=True)
    return Failed(Seen.EOF, Cause.PROXY_BACKEND_BROKEN, stage, pod)


def _backend_exchange(conn: "Connection", proxy: Proxy, resume: "Resume | None") -> Steps:
    """Request to the pod, its answer back; the header is forwarded when the body begins to stream."""
    assert conn.backend is not None
    backend = conn.backend
    path = conn.traffic.load.path
    conn.enter_backend(inside=True)
    conn.waits_for(Cause.SLOW_ANSWER)
    server_limit_s = proxy.backend.timeout_server_s
    order = (Stage.SENT, Stage.IN_SERVICE, Stage.STREAMING)
    for stage in order:
        at = resume.segment.stage if resume is not None else None
        if at is not None and order.index(at) > order.index(stage):
            continue
        if at is stage and resume is not None:
            duration_s = resume.remaining_s
        elif stage is Stage.SENT:
            duration_s = conn.traffic.backend_sent_s(conn.rng)
        elif stage is Stage.IN_SERVICE:
            duration_s = service_time(backend.server, path).draw_s(conn.rng)
        else:
            duration_s = stream_time(backend.server, path).draw_s(conn.rng)
        if stage is Stage.IN_SERVICE and server_limit_s is not None and duration_s > server_limit_s:
            yield from conn.spend(stage, server_limit_s)
            pod = backend.server.pod.name
            conn.drop_backend()
            raise Failed(Seen.HTTP_504, Cause.PROXY_SERVER_TIMEOUT, stage, pod, keeps_link=True)
        if stage is Stage.STREAMING:
            backend.close_announced |= announces_close(backend.server)
            if conn.link is not None and at is not stage:
                conn.link.close_announced |= announces_close(conn.link.server)
        yield from conn.spend(stage, duration_s)
    conn.enter_backend(inside=False)


def _connect(
    conn: "Connection", proxy: Proxy, last: BackendServer | None, n_left: int
) -> Generator[simpy.Event, Any, tuple[BackendServer, int]]:
    """Connect attempts until one holds: pauses, redispatch and the last word as HAProxy has them.

    Refused with nowhere else to go waits min(1 s, timeout connect); a silent attempt has paid its time-out and
    goes on at once. `retries` n means n + 1 attempts in all.
    """
    limit_s = proxy.backend.timeout_connect_s
    while True:
        line = _choose(proxy, last)
        if line is None:
            raise Failed(Seen.HTTP_503, Cause.PROXY_NO_SERVER, Stage.CONNECTING, None, keeps_link=True)
        attempt = _Attempt()
        yield from _one_attempt(conn, proxy, line, limit_s, attempt)
        if attempt.server is not None:
            conn.open_backend(attempt.server)
            return line, n_left
        if n_left == 0:
            raise _exhausted(conn, attempt)
        n_left -= 1
        elsewhere = proxy.backend.redispatch != 0 and len(proxy.usable) > 1
        if not attempt.silent and not elsewhere:
            conn.waits_for(Cause.PROXY_CONNECT_WAIT)
            yield from conn.spend(
                Stage.IN_SERVICE, min(PAUSE_TO_SAME_SERVER_S, limit_s or PAUSE_TO_SAME_SERVER_S)
            )
        last = line if elsewhere else None


class _Attempt:
    """What became of one connect: a server, or a refusal, or silence."""

    server: Server | None = None
    silent: bool = False
    pod: str | None = None


def _exhausted(conn: "Connection", attempt: _Attempt) -> Failed:
    """All attempts failed: 503; after silence a later request's connection is closed without a byte."""
    assert conn.link is not None
    if attempt.silent and conn.link.n_requests > 1:
        return Failed(Seen.EOF, Cause.PROXY_RETRIES_EXHAUSTED, Stage.CONNECTING, attempt.pod)
    return Failed(
        Seen.HTTP_503, Cause.PROXY_RETRIES_EXHAUSTED, Stage.CONNECTING, attempt.pod, keeps_link=True
    )


def _choose(proxy: Proxy, not_this: BackendServer | None) -> BackendServer | None:
    """Round robin over the usable servers; a redispatch leaves out the one just tried."""
    ready = [s for s in proxy.usable if s is not not_this]
    if not ready:
        return None
    proxy.turn += 1
    return ready[proxy.turn % len(ready)]


def _one_attempt(
    conn: "Connection", proxy: Proxy, line: BackendServer, limit_s: float | None, attempt: _Attempt
) -> Steps:
    traffic = conn.traffic
    began_s = float(conn.env.now)
    for gap_s in (*SYN_AGAIN_AFTER_S, float("inf")):
        possible = proxy.targets(traffic.world, line)
        forced = tuple(s for s in conn.forced if s in possible and not s.healthy)
        conn.forced = ()
        target = pick(forced or possible, conn.rng)
        attempt.pod = target.pod.name if target is not None else None
        if refusal(target) is not None or target is None:
            yield from conn.spend(Stage.IN_SERVICE, traffic.round_trip_s(conn.rng))
            return
        if not is_silent(target):
            yield from conn.spend(Stage.IN_SERVICE, traffic.round_trip_s(conn.rng))
            attempt.server = target
            return
        answer = vanished_answer(traffic.timing.vanished, forwarded=True)
        if answer is Vanished.UNREACHABLE:
            return
        conn.waits_for(Cause.PROXY_CONNECT_WAIT)
        left_s = float("inf") if limit_s is None else began_s + limit_s - float(conn.env.now)
        wait_s = left_s if answer is Vanished.SILENCE_PINNED else min(gap_s, left_s)
        yield from conn.spend(Stage.IN_SERVICE, wait_s)
        if wait_s >= left_s:
            attempt.silent = True
            return


def keeps_backends(proxy: Proxy) -> bool:
    return proxy.backend.http_mode is HttpMode.KEEP_ALIVE and proxy.backend.http_reuse != "never"
