"""The `plain` load client: it keeps its connection, never looks at the socket while idle, writes, then reads.

Prints JSON lines: one `start`, one `failure` for each failed request, one `summary`. Run it where the load
comes from: `python3 -m clients.plain --settings '{"port": 30300, "connections": 20, "duration_s": 30}'`.
"""

import argparse
import errno
import json
import random
import resource
import select
import socket
import sys
import time
from array import array
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, TextIO

from .conntrack import Conntrack
from .http import Answer, BrokenAnswer, request_bytes
from .loop import Loop

IP_BIND_ADDRESS_NO_PORT = (
    24  # linux/in.h: the port is chosen at connect, so each destination has its own range
)
TCP_ESTABLISHED = 1  # linux/tcp_states.h
TCP_STATES = {1: "open", 7: "reset", 8: "closed"}  # ESTABLISHED, CLOSE, CLOSE_WAIT
PACING_LATE_SHARE = 0.1
"""A client that starts its requests later than this share of the pause, on average, did not hold its pacing."""
PACING_LATE_S = 0.005
"""The same for an open loop. [s]"""
WARM_UP_S = 1.0
"""While the connections open, lateness says nothing of the pacing."""
MIN_RATE_KEPT = 0.98
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
CONNECT_ERRORS = {
    errno.ECONNREFUSED: "refused",
    errno.EHOSTUNREACH: "unreachable",
    errno.ENETUNREACH: "unreachable",
    errno.ETIMEDOUT: "timeout_connect",
    errno.ECONNRESET: "rst",
    errno.EPIPE: "rst",
}
SIDED = frozenset({"rst", "eof", "truncated"})
HTTP_ERRORS = {502: "http_502", 503: "http_503", 504: "http_504"}


@dataclass(frozen=True)
class Settings:
    """What load to make. Seconds; one of duration_s and requests ends it."""

    host: str = "127.0.0.1"
    port: int = 80
    host_header: str = "myapp"
    path: str = "/"
    method: str = "GET"
    connections: int = 1
    keep_alive: bool = True
    think_s: float | None = None
    """Mean pause after an answer (closed loop); None: no pause."""
    think: str = "exponential"
    """exponential | constant"""
    rate_per_s: float | None = None
    """Open loop: requests start on schedule, whatever became of the earlier ones."""
    poisson: bool = False
    duration_s: float | None = None
    requests: int | None = None
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0
    retries: int = 0
    sources: int = 1
    looks: bool = False
    """Notices, before it writes, that the server has closed (requests, Go): a new connection, no failure."""
    repeats_reused: bool = False
    """Repeats an idempotent request that broke on a reused connection before any byte (Go, browsers)."""
    lookup_pods: bool = False
    """Ask connection tracking which pod a failed request was sent to (needs CAP_NET_ADMIN)."""


class Failed(Exception):
    """One attempt failed; `what` is its class without the side."""

    def __init__(self, what: str, n_bytes: int = 0, status: int | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.n_bytes = n_bytes
        self.status = status


class CannotConnect(Exception):
    """This machine could not open the connection (ports or descriptors used up)."""


@dataclass
class Totals:
    """What the run came to so far."""

    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    retried: Counter[str] = field(default_factory=Counter)
    client_errors: Counter[str] = field(default_factory=Counter)
    connects: int = 0
    closes_announced: int = 0
    """Kept connections whose answer said that the server closes: no request fails for their end."""
    latencies_s: "array[float]" = field(default_factory=lambda: array("d"))
    lags_s: "array[float]" = field(default_factory=lambda: array("d"))


class Connection:
    """One client connection, opened at its first request and again after each end."""

    def __init__(self, index: int, settings: Settings, loop: Loop, totals: Totals) -> None:
        self.index = index
        self.n_on_it = 0
        """Requests that this connection has carried."""
        self.local: tuple[str, int] | None = None
        self.peer_at_send = "open"
        self.idle_since_s: float | None = None
        self._settings = settings
        self._loop = loop
        self._totals = totals
        self._sock: socket.socket | None = None
        self._source = f"127.0.0.{1 + index % settings.sources}" if settings.sources > 1 else None
        self._request = request_bytes(
            settings.method, settings.path, settings.host_header, keep_alive=settings.keep_alive
        )

    def close(self) -> None:
        """Forget the connection."""
        if self._sock is not None:
            self._loop.forget(self._sock.fileno())
            self._sock.close()
            self._sock = None
        self.n_on_it = 0
        self.idle_since_s = None

    async def exchange(self, now: float) -> int:
        """One request on the connection that is there, or on a new one; its status.

        Raises
        ------
        Failed, CannotConnect
            The connection is closed then.
        """
        try:
            sock = self._sock or await self._connect(now)
            if self.n_on_it:
                state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
                self.peer_at_send = TCP_STATES.get(state, "closing")
                if self._settings.looks and state != TCP_ESTABLISHED:
                    self.close()
                    sock = await self._connect(now)
            self.n_on_it += 1
            return await self._ask(sock)
        except (Failed, CannotConnect):
            n_on_it = self.n_on_it
            self.close()
            self.n_on_it = n_on_it  # for the report; the next request starts a new connection
            raise

    async def _connect(self, now: float) -> socket.socket:
        self.n_on_it = 0
        self.peer_at_send = "open"
        self.local = None
        self._totals.connects += 1
        timeout_s = self._settings.connect_timeout_s
        try:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise CannotConnect(errno.errorcode.get(error.errno or 0, "?")) from None
        self._sock = sock
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._source:
                sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
                sock.bind((self._source, 0))
            code = sock.connect_ex((self._settings.host, self._settings.port))
            if code == errno.EINPROGRESS:
                self.local = sock.getsockname()
                await self._loop.ready(
                    sock.fileno(), select.EPOLLOUT, until_s=now + timeout_s, timeout_s=timeout_s
                )
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except TimeoutError:
            raise Failed("timeout_connect") from None
        except OSError as error:
            code = error.errno or 0
        if code:
            if code not in CONNECT_ERRORS:
                raise CannotConnect(errno.errorcode.get(code, str(code)))
            raise Failed(CONNECT_ERRORS[code])
        self.local = sock.getsockname()
        return sock

    async def _ask(self, sock: socket.socket) -> int:
        loop = self._loop
        timeout_s = self._settings.answer_timeout_s
        until_s = loop.now() + timeout_s
        answer = Answer(self._settings.method)
        try:
            sock.send(self._request)  # fits any send buffer: one request without a body
            while not answer.complete:
                await loop.ready(sock.fileno(), select.EPOLLIN, until_s=until_s, timeout_s=timeout_s)
                data = sock.recv(65536)
                if not data:
                    if answer.end():
                        answer.close = True
                        break
                    raise Failed("truncated" if answer.n_bytes else "eof", answer.n_bytes)
                answer.feed(data)
        except BlockingIOError:
            raise CannotConnect("EAGAIN") from None
        except TimeoutError:
            raise Failed("timeout_response", answer.n_bytes) from None
        except BrokenAnswer:
            raise Failed("http_other", answer.n_bytes) from None
        except OSError as error:
            what = CONNECT_ERRORS.get(error.errno or 0, "rst")
            if what == "timeout_connect":
                what = "timeout_response"
            raise Failed("truncated" if answer.n_bytes else what, answer.n_bytes) from None
        self._totals.closes_announced += answer.close and self._settings.keep_alive
        if answer.close or not self._settings.keep_alive:
            self.close()
        else:
            self.idle_since_s = loop.now()
        if answer.status >= 400:
            raise _KeptFailure(HTTP_ERRORS.get(answer.status, "http_other"), answer.n_bytes, answer.status)
        return answer.status


class _KeptFailure(Exception):
    """An answer that says no: the connection stays."""

    def __init__(self, what: str, n_bytes: int, status: int) -> None:
        super().__init__(what)
        self.what, self.n_bytes, self.status = what, n_bytes, status


class Client:
    """All connections of one run and what became of their requests."""

    def __init__(self, settings: Settings, out: TextIO, seed: int | None = None) -> None:
        self.settings = settings
        self.totals = Totals()
        self._loop = Loop()
        self._out = out
        self._random = random.Random(seed)
        self._connections: list[Connection] = []
        self._conntrack = Conntrack() if settings.lookup_pods else None

    def run(self) -> dict[str, Any]:
        """Make the load; returns the summary."""
        settings = self.settings
        self._start_s = self._loop.now()
        self._wall_offset_s = time.time() - self._start_s
        self._end_s = self._start_s + settings.duration_s if settings.duration_s else float("inf")
        self._left = settings.requests if settings.requests is not None else sys.maxsize
        self._print(kind="start", t=round(time.time(), 6))
        began_cpu_s = time.process_time()
        if settings.rate_per_s:
            self._loop.start(self._open_loop(settings.rate_per_s))
        else:
            for _ in range(settings.connections):
                self._loop.start(self._closed_loop())
        self._loop.run()
        for connection in self._connections:
            connection.close()
        summary = self._summary(self._loop.now() - self._start_s, time.process_time() - began_cpu_s)
        self._print(kind="summary", **summary)
        return summary

    def _new_connection(self) -> Connection:
        connection = Connection(len(self._connections), self.settings, self._loop, self.totals)
        self._connections.append(connection)
        return connection

    # ------------------------------------------------------------ closed loop

    async def _closed_loop(self) -> None:
        connection = self._new_connection()
        pause_s = self._random.random() * (self.settings.think_s or 0.0)  # connections start out of step
        while True:
            due_s = self._loop.now() + pause_s
            if due_s >= self._end_s or self._left <= 0:
                break
            if pause_s:
                await self._loop.sleep_until(due_s)
                self._note_lag(due_s)
            if self._left <= 0:
                break
            self._left -= 1
            await self._request(connection)
            pause_s = self._pause_s()

    def _pause_s(self) -> float:
        mean_s = self.settings.think_s
        if mean_s is None:
            return 0.0
        return self._random.expovariate(1 / mean_s) if self.settings.think == "exponential" else mean_s

    # ------------------------------------------------------------ open loop

    async def _open_loop(self, rate_per_s: float) -> None:
        """Start requests on schedule, on the connection that has been idle longest, or on one more."""
        idle = deque(self._new_connection() for _ in range(self.settings.connections))
        due_s = self._start_s + self._gap_s(rate_per_s)
        while due_s < self._end_s and self._left > 0:
            await self._loop.sleep_until(due_s)
            if self._loop.now() >= self._end_s + PACING_LATE_S:
                break  # too far behind its schedule to catch up
            self._left -= 1
            self._note_lag(due_s)
            connection = idle.popleft() if idle else self._new_connection()
            self._loop.start(self._one_of_pool(connection, idle))
            due_s += self._gap_s(rate_per_s)

    async def _one_of_pool(self, connection: Connection, idle: deque[Connection]) -> None:
        await self._request(connection)
        if len(idle) < self.settings.connections:
            idle.append(connection)
        else:
            connection.close()

    def _note_lag(self, due_s: float) -> None:
        if due_s - self._start_s >= WARM_UP_S:
            self.totals.lags_s.append(self._loop.now() - due_s)

    def _gap_s(self, rate_per_s: float) -> float:
        return self._random.expovariate(rate_per_s) if self.settings.poisson else 1 / rate_per_s

    # ------------------------------------------------------------ one request

    async def _request(self, connection: Connection) -> None:
        """One request with its retries: exactly one outcome."""
        began_s = self._loop.now()
        idle_s = None if connection.idle_since_s is None else began_s - connection.idle_since_s
        totals = self.totals
        totals.requests += 1
        tries_left = self.settings.retries
        n_tries = 0
        while True:
            n_tries += 1
            sent_s = self._loop.now()
            try:
                await connection.exchange(sent_s)
            except CannotConnect as error:
                totals.client_errors[str(error)] += 1
                await self._loop.sleep_until(self._loop.now() + 0.01)
                return
            except (Failed, _KeptFailure) as failure:
                reused = connection.n_on_it > 1
                seen_as = failure.what
                if seen_as in SIDED:
                    seen_as += "_reused" if reused else "_first"
                broke_idle = reused and failure.what in ("eof", "rst")
                if self.settings.repeats_reused and broke_idle and self.settings.method in IDEMPOTENT:
                    totals.retried[seen_as] += 1
                    continue
                if tries_left > 0:
                    tries_left -= 1
                    totals.retried[seen_as] += 1
                    continue
                totals.failed[seen_as] += 1
                self._report(
                    connection,
                    failure,
                    seen_as=seen_as,
                    reused=reused,
                    began_s=began_s,
                    sent_s=sent_s,
                    idle_s=idle_s,
                    n_tries=n_tries,
                )
                return
            totals.latencies_s.append(self._loop.now() - began_s)
            return

    def _report(
        self,
        connection: Connection,
        failure: "Failed | _KeptFailure",
        *,
        seen_as: str,
        reused: bool,
        began_s: float,
        sent_s: float,
        idle_s: float | None,
        n_tries: int,
    ) -> None:
        now_s = self._loop.now()
        pod_ip = None
        if self._conntrack and connection.local:
            pod_ip = self._conntrack.pod_of(connection.local, (self.settings.host, self.settings.port))
        self._print(
            kind="failure",
            t=round(now_s + self._wall_offset_s, 6),
            at_s=round(now_s - self._start_s, 6),
            connection=connection.index,
            reused=reused,
            n_on_it=connection.n_on_it,
            seen_as=seen_as,
            status=failure.status,
            bytes=failure.n_bytes,
            elapsed_s=round(now_s - began_s, 6),
            attempt_s=round(now_s - sent_s, 6),
            idle_s=None if idle_s is None else round(idle_s, 6),
            peer_at_send=connection.peer_at_send,
            port=connection.local[1] if connection.local else None,
            pod_ip=pod_ip,
            tries=n_tries,
        )

    def _summary(self, ran_s: float, cpu_s: float) -> dict[str, Any]:
        totals, settings = self.totals, self.settings
        late_s = PACING_LATE_SHARE * settings.think_s if settings.think_s else PACING_LATE_S
        lags = _quantiles(totals.lags_s)
        rate_per_s = totals.requests / ran_s if ran_s > 0 else 0.0
        kept = lags is None or lags["mean"] <= late_s
        if settings.rate_per_s and settings.duration_s:
            planned = settings.rate_per_s * settings.duration_s
            spread = 4 * planned**0.5 if settings.poisson else 1
            kept = kept and totals.requests >= MIN_RATE_KEPT * planned - spread
        return {
            "requests": totals.requests,
            "failed": totals.failed.total(),
            "seen": dict(totals.failed),
            "retried": dict(totals.retried),
            "client_errors": dict(totals.client_errors),
            "connects": totals.connects,
            "closes_announced": totals.closes_announced,
            "ran_s": round(ran_s, 4),
            "rate_per_s": round(rate_per_s, 2),
            "latency_s": _quantiles(totals.latencies_s),
            "lag_s": lags,
            "pacing_kept": kept,
            "cpu_s": round(cpu_s, 3),
            "client": "plain",
            "python": sys.version.split()[0],
        }

    def _print(self, **row: Any) -> None:
        self._out.write(json.dumps(row) + "\n")
        if row["kind"] != "failure":
            self._out.flush()


def _quantiles(values: "array[float]") -> dict[str, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    last = len(ordered) - 1
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
    found = {name: round(ordered[round(share * last)], 6) for name, share in shares.items()}
    return {"mean": round(sum(ordered) / len(ordered), 6), **found}


def run(settings: Settings, out: TextIO = sys.stdout, seed: int | None = None) -> dict[str, Any]:
    """Make the load that *settings* describe, print its rows to *out*, and return the summary."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return Client(settings, out, seed).run()


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="plain", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--settings", required=True, help="the fields of Settings as one JSON object")
    parser.add_argument("--seed", type=int)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Entry point: the settings come as JSON, so that nothing is lost on the way."""
    arguments = _arguments(argv)
    run(Settings(**json.loads(arguments.settings)), seed=arguments.seed)


if __name__ == "__main__":
    main()
