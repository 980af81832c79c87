"""HAProxy's own view of its servers: health checks and DNS.

Source: HAProxy 2.6 configuration manual 5.2 (`check`, `inter`, `rise`, `fall`); src/check.c of v2.6.0; the start
state (UP, one failure from DOWN) tried on 2.6.12.
"""

from collections.abc import Generator, Sequence
from typing import Any, Final

import simpy

from sim.cluster.proxy_dns import Resolution
from sim.delays import Delays
from sim.proxies import BackendServer, Proxy, open_proxy
from sim.scenario.model import HAProxyCheck, HAProxyConf, HAProxyResolvers, ServerKind
from sim.scenario.nginx_location import file_of, location_of
from sim.scenario.timing import Timing, Vanished
from sim.streams import Streams
from sim.world import Process, Server, ServerPhase, World

SPREAD_FROM_S: Final = 1.0
"""Shorter intervals do not decide how first checks are spread (SRV_CHK_INTER_THRES)."""
SYN_AGAIN_S: Final = 1.0
"""Linux' first retransmission of a SYN."""


class Health:
    """The counter of one server: 0 … rise + fall - 1; UP from `rise` on."""

    def __init__(self, check: HAProxyCheck, *, value: int | None = None) -> None:
        """As a server starts: UP, one failure from DOWN. *value*: what it became long ago."""
        self._check = check
        self.top = check.rise + check.fall - 1
        self.value = check.rise if value is None else value

    @classmethod
    def settled(cls, check: HAProxyCheck, *, up: bool) -> "Health":
        """After many equal results."""
        return cls(check, value=check.rise + check.fall - 1 if up else 0)

    @property
    def up(self) -> bool:
        return self.value >= self._check.rise

    def take(self, *, success: bool) -> None:
        rise = self._check.rise
        if success:
            self.value = self.top if self.up or self.value + 1 >= rise else self.value + 1
        else:
            self.value = self.value - 1 if self.value - 1 >= rise else 0

    @property
    def interval_s(self) -> float:
        """`fastinter` on the way up or down, `downinter` when fully down."""
        check = self._check
        if 0 < self.value < self.top:
            return check.inter_s if check.fastinter_s is None else check.fastinter_s
        if self.value == 0:
            return check.inter_s if check.downinter_s is None else check.downinter_s
        return check.inter_s


def first_checks_s(checks: Sequence[HAProxyCheck]) -> list[float]:
    """When each of a process' servers is checked first: spread over the shortest interval of a second or more."""
    intervals = [Health(check).interval_s for check in checks]
    shortest = min((s for s in intervals if s >= SPREAD_FROM_S), default=0.0)
    return [max(shortest, own) * place / len(checks) for place, own in enumerate(intervals)]


def all_checks(conf: HAProxyConf) -> list[tuple[str, HAProxyCheck]]:
    """(backend, check) of every server that is checked, slots one by one, in the file's order."""
    return [
        (backend.name, line.check)
        for backend in conf.backends
        for line in backend.servers
        if line.check is not None
        for _ in range(line.template_count or 1)
    ]


def check_passes(target: Server, check: HAProxyCheck) -> bool:
    """Whether a check that reaches *target* succeeds: a connect, or the status it asks for.

    nginx answers OPTIONS for a file with 405. Any other server is taken to answer its check with 200.
    """
    if check.http_path is None:
        return target.accepts or target.phase is ServerPhase.DEAF
    conf = target.container.nginx
    status = 200
    if conf is not None:
        location = location_of(conf, check.http_path)
        file = file_of(location, check.http_path)
        status = location.status
        if file is not None and check.http_method not in ("GET", "HEAD"):
            status = 405
        elif file in target.removed_files:
            status = 404
    return target.accepts and any(low <= status <= high for low, high in check.http_expect)


class ProxyWatch:
    """Opens a Proxy for every HAProxy that starts to listen, and keeps its view of the servers."""

    def __init__(self, env: simpy.Environment, world: World, timing: Timing, streams: Streams) -> None:
        self._env = env
        self._world = world
        self._timing = timing
        self._streams = streams
        self.proxies: dict[Server, Proxy] = {}
        world.observe(self)

    def rules_changed(self, node: int, service: str) -> None:
        """Checks look at the rules when they run."""

    def server_changed(self, server: Server) -> None:
        if server.image.server is ServerKind.HAPROXY and server.phase is ServerPhase.LISTENING:
            self.proxies[server] = self._open(server, settled=self._env.now == 0)

    def _open(self, server: Server, *, settled: bool) -> Proxy:
        name = f"haproxy/{server.pod.name}/{server.n_restarts}"
        proxy = open_proxy(self._world, server, self._streams.take(f"{name}/affinity"))
        delays = Delays(self._timing, self._streams.take(name))
        slots = [s for s in proxy.servers if s.is_slot]
        if slots:
            self._follow_dns(proxy, slots, delays, settled=settled)
            self._log_slots(proxy)
        if lines := [s.line.name for s in proxy.servers if not s.is_slot]:
            self._world.log(f"haproxy/{server.pod.name}", "opened", " ".join(lines))
        checks = all_checks(proxy.conf)
        firsts = [
            at_s
            for (name, _), at_s in zip(checks, first_checks_s([c for _, c in checks]), strict=True)
            if name == proxy.backend.name
        ]
        checked = [s for s in proxy.servers if s.line.check is not None]
        for backend, first_s in zip(checked, firsts, strict=True):
            self._env.process(self._check(proxy, backend, delays, None if settled else first_s))
        return proxy

    def _alive(self, proxy: Proxy) -> bool:
        return proxy.server.phase in (ServerPhase.LISTENING, ServerPhase.DRAINING)

    # ------------------------------------------------------------------ checks

    def _check(self, proxy: Proxy, backend: BackendServer, delays: Delays, first_s: float | None) -> Process:
        """The next check starts an interval after the end of the last. *first_s*: None, it has run for long."""
        env, check = self._env, backend.line.check
        assert check is not None
        health = Health(check)
        if first_s is None:
            targets = proxy.targets(self._world, backend)
            health = Health.settled(check, up=any(check_passes(target, check) for target in targets))
            backend.up = health.up
            first_s = float(delays.rng.random()) * health.interval_s
        n_returns = backend.n_returns
        yield env.timeout(first_s)
        while self._alive(proxy):
            if backend.is_slot and backend.pod is None:
                yield env.timeout(check.inter_s)  # paused in maintenance
                continue
            if backend.n_returns != n_returns:
                n_returns, health = backend.n_returns, Health(check)
            success = yield from self._one_check(proxy, backend, check, delays)
            if backend.n_returns == n_returns:
                health.take(success=success)
                self._set(proxy, backend, up=health.up)
            yield env.timeout(health.interval_s)

    def _one_check(
        self, proxy: Proxy, backend: BackendServer, check: HAProxyCheck, delays: Delays
    ) -> Generator[simpy.Event, Any, bool]:
        """One connect (and request): refused fails at once, silence when its time is over.

        `inter` bounds connect and reply together; with `timeout check` `timeout connect` bounds the connect too
        (src/tcpcheck.c:1270-1313). A SYN that the rules reject may go unheard: the next one meets the rules of then.
        """
        left_s = check.inter_s
        if check.timeout_check_s is not None and proxy.backend.timeout_connect_s is not None:
            left_s = min(left_s, proxy.backend.timeout_connect_s)
        first_syn = True
        while True:
            possible = proxy.targets(self._world, backend)
            target = possible[int(delays.rng.integers(len(possible)))] if possible else None
            if target is None:
                now_s = float(self._env.now)
                silent = not backend.is_slot and not proxy.hears_rejection(now_s, first_syn=first_syn)
            else:
                unreachable = self._timing.vanished is Vanished.UNREACHABLE
                silent = target.phase is ServerPhase.VANISHED and not unreachable
            if not silent:
                yield self._env.timeout(delays("round_trip"))
                return target is not None and check_passes(target, check)
            pinned = target is not None and self._timing.vanished is not Vanished.SILENCE_REDRAWN
            if pinned or backend.is_slot or left_s <= SYN_AGAIN_S:
                yield self._env.timeout(left_s)
                return False
            yield self._env.timeout(SYN_AGAIN_S)
            left_s -= SYN_AGAIN_S
            first_syn = False

    def _set(self, proxy: Proxy, backend: BackendServer, *, up: bool) -> None:
        if backend.up != up:
            backend.up = up
            if backend.is_slot:
                self._log_slots(proxy)
            what = "server_up" if up else "server_down"
            self._world.log(f"haproxy/{proxy.server.pod.name}", what, backend.line.name)
            self._world.rules_touched(proxy.server.pod.node)

    def _log_slots(self, proxy: Proxy) -> None:
        """`sees`: the pods that its slots hold and hold for UP."""
        pods = sorted(s.pod.name for s in proxy.servers if s.is_slot and s.up and s.pod is not None)
        self._world.log(f"haproxy/{proxy.server.pod.name}", "sees", " ".join(pods))

    # ------------------------------------------------------------------ DNS

    def _follow_dns(
        self, proxy: Proxy, slots: Sequence[BackendServer], delays: Delays, *, settled: bool
    ) -> None:
        """Addresses from the start (`init-addr`), then a query each `timeout resolve`."""
        section = next(iter(proxy.conf.resolvers), HAProxyResolvers(name=""))
        resolution = Resolution(slots, hold_obsolete_s=section.hold_obsolete_s, hold_nx_s=section.hold_nx_s)
        service = slots[0].service
        resolution.take(self._world.resolve(service), float(self._env.now))

        def asking() -> Process:
            period_s = section.timeout_resolve_s
            yield self._env.timeout(float(delays.rng.random()) * period_s if settled else period_s)
            while self._alive(proxy):
                if resolution.take(self._world.resolve(service), float(self._env.now)):
                    self._log_slots(proxy)
                    self._world.rules_touched(proxy.server.pod.node)
                yield self._env.timeout(period_s)

        self._env.process(asking())
