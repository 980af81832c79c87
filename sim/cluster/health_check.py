"""HAProxy's own view of its servers: health checks and DNS.

Source: HAProxy 2.6 configuration manual 5.2 (`check`, `inter`, `rise`, `fall`) and 5.3 (resolvers);
src/check.c:485-506; the start state (UP, one failure from DOWN) tried on 2.6.12.
"""

from collections.abc import Generator
from typing import Any

import simpy

from sim.delays import Delays
from sim.proxies import BackendServer, Proxy, open_proxy
from sim.scenario.model import HAProxyCheck, ServerKind
from sim.scenario.timing import Timing
from sim.streams import Streams
from sim.world import Process, Server, ServerPhase, World


class Health:
    """The counter of one server: 0 … rise + fall - 1; UP from `rise` on."""

    def __init__(self, check: HAProxyCheck, *, settled: bool) -> None:
        self._check = check
        self._top = check.rise + check.fall - 1
        self._value = self._top if settled else check.rise

    @property
    def up(self) -> bool:
        return self._value >= self._check.rise

    def take(self, success: bool) -> None:
        rise = self._check.rise
        if success:
            self._value = self._top if self.up or self._value + 1 >= rise else self._value + 1
        else:
            self._value = self._value - 1 if self._value - 1 >= rise else 0

    @property
    def interval_s(self) -> float:
        """`fastinter` on the way up or down, `downinter` when fully down."""
        check = self._check
        if 0 < self._value < self._top:
            return check.inter_s if check.fastinter_s is None else check.fastinter_s
        if self._value == 0:
            return check.inter_s if check.downinter_s is None else check.downinter_s
        return check.inter_s


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
        proxy = open_proxy(self._world, server)
        name = f"haproxy/{server.pod.name}/{server.n_restarts}"
        delays = Delays(self._timing, self._streams.take(name))
        if any(s.is_slot for s in proxy.servers):
            self._resolve(proxy)
            self._env.process(self._follow_dns(proxy, delays, settled=settled))
        for index, backend in enumerate(proxy.servers):
            if not backend.is_slot:
                self._log(proxy, backend, up=backend.up)
            if backend.line.check is not None:
                self._env.process(
                    self._check(proxy, backend, backend.line.check, delays, index, settled=settled)
                )
        return proxy

    def _alive(self, proxy: Proxy) -> bool:
        return proxy.server.phase in (ServerPhase.LISTENING, ServerPhase.DRAINING)

    def _check(
        self,
        proxy: Proxy,
        backend: BackendServer,
        check: HAProxyCheck,
        delays: Delays,
        index: int,
        *,
        settled: bool,
    ) -> Process:
        """The next check starts an interval after the end of the last; first ones are spread over `inter`."""
        env = self._env
        health = Health(check, settled=settled)
        offset_s = check.inter_s * index / len(proxy.servers)
        yield env.timeout(float(delays.rng.random()) * check.inter_s if settled else offset_s)
        pod = backend.pod
        while self._alive(proxy):
            if backend.is_slot and backend.pod is not pod:
                pod = backend.pod
                health = Health(check, settled=False)
                self._set(proxy, backend, up=True)
            if not backend.is_slot or pod is not None:
                success = yield from self._one_check(proxy, backend, check, delays)
                health.take(success)
                self._set(proxy, backend, up=health.up)
            yield env.timeout(health.interval_s)

    def _one_check(
        self, proxy: Proxy, backend: BackendServer, check: HAProxyCheck, delays: Delays
    ) -> Generator[simpy.Event, Any, bool]:
        """One connect (and request): refused fails at once, silence at the check's time-out."""
        possible = proxy.targets(self._world, backend)
        target = possible[int(delays.rng.integers(len(possible)))] if possible else None
        if target is not None and target.phase is ServerPhase.VANISHED:
            connect_s = proxy.backend.timeout_connect_s
            limit_s = check.inter_s if check.timeout_check_s is None else check.timeout_check_s
            yield self._env.timeout(min(limit_s, check.inter_s, connect_s or limit_s))
            return False
        yield self._env.timeout(delays("round_trip"))
        if target is None:
            return False
        if check.http_path is None:
            return target.accepts or target.phase is ServerPhase.DEAF
        return target.accepts and not any(path.endswith(check.http_path) for path in target.removed_files)

    def _set(self, proxy: Proxy, backend: BackendServer, *, up: bool) -> None:
        if backend.up != up:
            backend.up = up
            self._log(proxy, backend, up=backend.usable)
            self._world.rules_touched(proxy.server.pod.node)

    def _log(self, proxy: Proxy, backend: BackendServer, *, up: bool) -> None:
        """The detail names the server line, for a slot also its pod; an empty slot has no state to tell."""
        if backend.is_slot and backend.pod is None:
            return
        detail = f"{backend.line.name} {backend.pod.name}" if backend.pod else backend.line.name
        self._world.log(f"haproxy/{proxy.server.pod.name}", "server_up" if up else "server_down", detail)

    # -- DNS

    def _follow_dns(self, proxy: Proxy, delays: Delays, *, settled: bool) -> Process:
        resolvers = proxy.conf.resolvers[0] if proxy.conf.resolvers else None
        period_s = resolvers.timeout_resolve_s if resolvers else 1.0
        yield self._env.timeout(float(delays.rng.random()) * period_s if settled else 0.0)
        while self._alive(proxy):
            if self._resolve(proxy):
                self._world.rules_touched(proxy.server.pod.node)
            yield self._env.timeout(period_s)

    def _resolve(self, proxy: Proxy) -> bool:
        """Give each slot a pod of the answer: known pods keep theirs, missing ones leave (hold obsolete 0)."""
        slots = [s for s in proxy.servers if s.is_slot]
        answer = {pod.name: pod for pod in self._world.resolve(slots[0].service)}
        changed = False
        for slot in slots:
            if slot.pod is not None and answer.pop(slot.pod.name, None) is None:
                self._log(proxy, slot, up=False)
                slot.pod, changed = None, True
        for slot in slots:
            if slot.pod is None and answer:
                slot.pod, changed = answer.pop(next(iter(answer))), True
                self._log(proxy, slot, up=slot.up)
        return changed
