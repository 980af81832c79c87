"""The world as the requests have known it: copies that follow the world's changes one step behind.

The judge hears of a change when it has happened. Requests up to that instant still meet what was before, so they
look at these copies; a copy is renewed once they have been stepped that far.
"""

from dataclasses import dataclass, field
from typing import Any

from numpy.random import Generator
from oracle.clock import NEVER
from oracle.draws import Draw, draws

from sim.proxies import BackendServer
from sim.proxies import Proxy as LiveProxy
from sim.scenario.model import HAProxyBackend, OnBusy, OnIdle, OnListener, ServerKind
from sim.traffic.answers import answer_of
from sim.traffic.keepalive import age_limit_s, idle_limit_s, min_idle_s, requests_per_link
from sim.world import Server, ServerPhase

P = ServerPhase


class Host:
    """One server: what it does to packets, and what its configuration says about answers and connections."""

    def __init__(self, server: Server, path: str, rng: Generator) -> None:
        answer = answer_of(server, path)
        self.server = server
        self.pod = server.pod.name
        self.service_s: Draw = draws(answer.service, rng)
        self.stream_s: Draw = draws(answer.stream, rng)
        self.in_one_batch = answer.in_one_batch
        self.longest_gap_s = answer.longest_gap_s
        self.mean_s = answer.mean_s
        self.max_requests = requests_per_link(server, path)
        self.max_age_s = age_limit_s(server)
        self.max_idle_s = idle_limit_s(server, path)
        self.min_idle_s = min_idle_s(server)
        self.held_until_s = 0.0
        """No answer of an open loop leaves before."""
        self.waits_until_s = 0.0
        """So long it has to wait again and again."""
        self.renew()

    def renew(self) -> None:
        """Take over what is true now."""
        server = self.server
        self.phase = server.phase
        self.calm = server.phase is P.LISTENING
        """Nothing that it does can hurt a request."""
        self.stop = server.stop
        self.killed = server.killed
        self.cut_by_own_limit = server.cut_by_own_limit
        self.restarting = server.restarting
        self.n_restarts = server.n_restarts
        self.cut_s = server.cut_s
        self.word_s = NEVER if server.word_s is None else server.word_s
        is_generic = server.image.server is ServerKind.GENERIC
        self.misses_from_s = NEVER if server.deaf_s is None or not is_generic else server.deaf_s
        """A generic server acts on its signal before it reads what has come since."""

    def closes_listener(self) -> bool:
        return self.stop is not None and self.stop.listener is OnListener.CLOSE

    def cuts_busy(self) -> bool:
        return self.stop is not None and self.stop.busy is OnBusy.CUT

    def closes_idle(self) -> bool:
        return self.stop is not None and self.stop.idle is OnIdle.CLOSE

    def closes_unused(self) -> bool:
        return self.stop is not None and self.stop.unused is OnIdle.CLOSE

    def announces(self, sent_s: float) -> bool:
        """An answer whose header leaves now says `Connection: close`; its request was written at *sent_s*."""
        says = self.phase is P.DRAINING or (self.last_pass and sent_s >= self.word_s)
        return says and self.stop is not None and self.stop.idle is not OnIdle.KEEP

    @property
    def last_pass(self) -> bool:
        """nginx has heard its SIGTERM: it still answers what has come by now."""
        is_nginx = self.server.image.server is ServerKind.NGINX
        return is_nginx and self.phase is P.DEAF and self.stop is not None


@dataclass(slots=True, eq=False)
class Line:
    """One server line of a proxy."""

    live: BackendServer
    key: tuple[int, str, int]
    """Node, Service, port: whose rules say where a connect ends; a slot has its pod instead."""
    usable: bool = True
    slot_host: Host | None = None
    n_running: int = 0
    credit: float = 0.0
    """Of the weighted round robin."""

    @property
    def full(self) -> bool:
        limit = self.live.line.maxconn
        return limit is not None and self.n_running >= limit

    @property
    def weight(self) -> int:
        return self.live.line.weight


@dataclass(slots=True, eq=False)
class Proxy:
    """One HAProxy process."""

    host: Host
    live: LiveProxy
    lines: list[Line]
    ports: Any
    """Of its pod (ports.py)."""
    waiting: list[object] = field(default_factory=list)
    """Connections that wait for a line with room, in order."""
    affine: dict[Line, Host] = field(default_factory=dict)

    @property
    def backend(self) -> HAProxyBackend:
        return self.live.backend

    @property
    def version(self) -> tuple[int, int, int]:
        return self.live.version

    def usable(self) -> list[Line]:
        """Backup lines only when nothing else is left, and of them the first."""
        ready = [line for line in self.lines if line.usable]
        return [line for line in ready if not line.live.line.backup] or ready[:1]
