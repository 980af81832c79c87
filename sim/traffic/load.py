"""The load: its connections, its pace, its end, and the tally of what became of its requests."""

from collections import Counter
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import simpy
from numpy.random import Generator as Rng

from sim.outcomes import Failure, Seen
from sim.proxies import Proxy, targets
from sim.scenario.distributions import Constant, Distribution, Exponential
from sim.scenario.model import ClosedLoop, HttpMode, OpenLoop, Scenario, ServerKind
from sim.scenario.timing import Timing
from sim.streams import Streams
from sim.traffic import haproxy
from sim.traffic.answered import Answered
from sim.traffic.answers import service_time, stream_time
from sim.traffic.clients import KINDS, ends_the_run, fin_was_there
from sim.traffic.exchange import Connection, Resume
from sim.traffic.links import Stage
from sim.traffic.pace import Pace, Segment, saturated
from sim.traffic.routing import Refusal, refusal
from sim.world import Server, World

AB_TIMEOUT_S: Final = 30.0
"""`ab -s`: no event on any connection for so long ends it (ab.c, apr_pollset_poll)."""

Steps = Generator[simpy.Event, Any, None]

CLIENT_NODE: Final = 0
"""The node whose rules the client meets."""


@dataclass(frozen=True, slots=True)
class Burst:
    """Failures that a client without pause burns through while nothing accepts: evenly spread."""

    n: int
    from_s: float
    to_s: float
    like: Failure


@dataclass(slots=True)
class Tally:
    """What became of the requests: every one is in exactly one of these."""

    n_ok: int = 0
    n_open: int = 0
    """Under way when the load ended."""
    n_retried: int = 0
    """Attempts that the client repeated; not requests of their own."""
    failures: list[Failure] = field(default_factory=list)
    bursts: list[Burst] = field(default_factory=list)
    gave_up: bool = False
    """ab heard nothing on any connection for its `-s` and ended itself."""
    spun_s: float = 0.0
    """How long the client's poll loop ran free on a connect in error (ab)."""
    n_by_length: Counter[int] = field(default_factory=Counter)
    answered: Answered = field(default_factory=Answered)
    """When the successful ones were."""

    @property
    def n_failed(self) -> int:
        return len(self.failures) + sum(b.n for b in self.bursts)

    @property
    def n_requests(self) -> int:
        return self.n_ok + self.n_failed

    def by_class(self) -> Counter[tuple[Seen, bool]]:
        """Failures by (what the client saw, its connection had been closed before the request)."""
        counts: Counter[tuple[Seen, bool]] = Counter()
        for failure in self.failures:
            counts[failure.seen, fin_was_there(failure)] += 1
        for burst in self.bursts:
            counts[burst.like.seen, fin_was_there(burst.like)] += burst.n
        return counts


class Traffic:
    """Everything between the clients and the pods."""

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        scenario: Scenario,
        timing: Timing,
        streams: Streams,
        proxies: Mapping[Server, Proxy],
        *,
        stepwise: bool = False,
    ) -> None:
        self.env = env
        self.world = world
        self.load = scenario.load
        self.kind = KINDS[scenario.load.client]
        self.timing = timing
        self.streams = streams
        self.proxies = proxies
        self.stepwise = stepwise
        """Every request one by one: the judge of the cruise."""
        self.forwarded = not scenario.cluster.client_on_node
        self.tally = Tally()
        self.over = False
        self.ended_s = 0.0
        self.longest_s = self.load.duration_s or 3600.0
        self._cores = scenario.cluster.cores
        self._rng = streams.take("load")
        self._changed = env.event()
        self._n_hanging = 0
        self._n_hanging_changes: object = None
        self._n_spinning = 0
        self._spinning_from_s = 0.0
        self._off_cpu = (-1.0, 0.0)
        """(when drawn, how long): see client_off_cpu_s."""
        front = self.targets(0)
        self._front = front[0] if front else None
        self.has_proxy = any(server in proxies for server in front)
        self.keeps_backends = any(haproxy.keeps_backends(proxies[s]) for s in front if s in proxies)
        self.keeps = self.load.keep_alive and all(self.requests_per_link(s) > 1 for s in front)
        self._apps = self._app_servers()
        self._saturation = self._saturated_waits() if self.saturating else None
        self._paces: dict[str, Pace] = {}
        self.steady_hazard = self._has_steady_hazard()
        self.connections = [Connection(self, index) for index in range(self.load.connections)]
        world.observe(self)

    # ------------------------------------------------------------------ what the world tells

    def server_changed(self, server: Server) -> None:
        for connection in self.connections:
            connection.on_server(server)
        self._tell()

    def rules_changed(self, node: int, service: str) -> None:
        if self.has_proxy or (node == CLIENT_NODE and service in ("", self.load.service)):
            for connection in self.connections:
                connection.on_rules()
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, self.env.event()
        changed.succeed()

    def targets(self, source: int) -> tuple[Server, ...]:
        """Servers that the client's next connect may meet, each as likely; affinity narrows it to one."""
        possible = targets(self.world, CLIENT_NODE, self.load.service, self.load.port)
        if self.world.services[self.load.service].session_affinity_s is None or not possible:
            return possible
        return self._sticky(source, possible)

    def _sticky(self, source: int, possible: tuple[Server, ...]) -> tuple[Server, ...]:
        """ClientIP affinity: the same endpoint while it is in the rules (iptables/proxier.go:1543-1561)."""
        affine = self.__dict__.setdefault("_affine", {})
        if affine.get(source) not in possible:
            affine[source] = possible[int(self._rng.integers(len(possible)))]
        return (affine[source],)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        env = self.env
        if isinstance(self.load.arrivals, OpenLoop):
            env.process(self._open_loop(self.load.arrivals))
        else:
            cycle_s = self.pace(self._apps[0]).mean_s if self._apps else 0.0
            for connection in self.connections:
                env.process(connection.run(cycle_s * float(connection.rng.random())))
        if self.load.duration_s is not None:
            env.process(self._end_after(self.load.duration_s))
        if self.load.requests is not None:
            env.process(self._end_when_done(self.load.requests))

    def _end_after(self, duration_s: float) -> Steps:
        yield self.env.timeout(duration_s)
        self.stop()

    def _end_when_done(self, n: int) -> Steps:
        """Look again when most of what is left should be done; cruising connections count when woken."""
        while not self.over:
            left = n - self.tally.n_requests
            if left <= 0:
                self.stop()
                return
            cycle_s = self.pace(self._apps[0]).mean_s if self._apps else 0.01
            yield self.env.timeout(max(1e-4, 0.98 * left * cycle_s / self.load.connections))
            for connection in self.connections:
                connection.end()
            yield self.env.timeout(0)

    def stop(self) -> None:
        if not self.over:
            self.over = True
            self.ended_s = float(self.env.now)
            for connection in self.connections:
                connection.end()
            self._tell()

    def _open_loop(self, arrivals: OpenLoop) -> Steps:
        """Requests start on schedule on an idle connection chosen at random; with none idle they wait."""
        gap_s = 1.0 / arrivals.rate_per_s
        idle = list(self.connections)
        waiting = [0]

        def serve(connection: Connection, resume: Resume | None) -> Steps:
            yield from connection.serve(resume)
            while waiting[0] and not self.over:
                waiting[0] -= 1
                yield from connection.serve(None)
            idle.append(connection)

        while not self.over:
            if len(idle) == len(self.connections) and all(c.settled() for c in idle):
                yield from self._calm(arrivals, idle, serve)
                continue
            yield self.env.timeout(self._rng.exponential(gap_s) if arrivals.poisson else gap_s)
            if self.over:
                return
            if idle:
                connection = idle.pop(int(self._rng.integers(len(idle))))
                self.env.process(serve(connection, None))
            else:
                waiting[0] += 1

    def _calm(self, arrivals: OpenLoop, idle: list[Connection], serve: Any) -> Steps:
        """Until something changes every request succeeds: their number is drawn, and who is busy then."""
        began_s = float(self.env.now)
        pace = self.pace(self._apps[0])
        targets = {connection: connection.calm_targets() for connection in idle}
        yield self._changed
        expected = arrivals.rate_per_s * (float(self.env.now) - began_s)
        n = int(self._rng.poisson(expected)) if arrivals.poisson else int(expected + self._rng.random())
        servers = tuple(c.link.server for c in idle if c.link is not None) or self.targets(0)
        share = min(1.0, arrivals.rate_per_s * pace.mean_s / len(self.connections))
        busy = [connection for connection in idle if self._rng.random() < share][:n]
        self.count_ok(n - len(busy), servers, since_s=began_s)
        if self.over:
            self.tally.n_open += len(busy)
            return
        for connection in busy:
            idle.remove(connection)
            moment = pace.after(1e9 * pace.mean_s, self._rng)
            resume = connection.met(pace.segments[moment.segment], moment.remaining_s, targets[connection])
            self.env.process(serve(connection, resume))

    # ------------------------------------------------------------------ tally

    def count_ok(self, n: int, servers: tuple[Server, ...], *, since_s: float) -> None:
        """Count *n* answers that came between *since_s* and now."""
        self.tally.n_ok += n
        self.tally.answered.add(n, since_s, float(self.env.now))
        lengths = [s.image.body_bytes for s in servers]
        if len(set(lengths)) == 1:
            self.tally.n_by_length[lengths[0]] += n
        elif n and lengths:
            for length, share in zip(
                lengths, self._rng.multinomial(n, [1 / len(lengths)] * len(lengths)), strict=True
            ):
                self.tally.n_by_length[length] += int(share)

    def fail(self, failure: Failure) -> None:
        if self.over:  # the client has ended itself meanwhile, so it never saw this
            self.tally.n_open += 1
            return
        self.tally.failures.append(failure)
        if ends_the_run(self.kind.name, self.load.options, failure.seen):
            self.stop()

    def refuse(self, connection: Connection, why: Refusal) -> Steps:
        """A refused connect takes a round trip; a client without pause goes on burning requests meanwhile.

        Where every target refuses, such a client's failures up to the next change are one burst.
        """
        if not self.saturating:
            yield self.env.timeout(self.round_trip_s(connection.rng))
            return
        cycle_s = self.timing.refused_cpu_s * self.load.connections
        if any(refusal(s) is None for s in self.targets(connection.source)):
            yield self.env.timeout(cycle_s)
            return
        if ends_the_run(self.kind.name, self.load.options, why.seen):
            return
        began_s = float(self.env.now)
        yield self._changed
        now_s = float(self.env.now)
        n = int(connection.rng.poisson((now_s - began_s) / cycle_s))
        if n:
            like = Failure(
                at_s=began_s,
                cause=why.cause,
                seen=why.seen,
                reused=False,
                connection=connection.index,
                pod=why.pod,
                phase=Stage.CONNECTING.value,
            )
            self.tally.bursts.append(Burst(n, began_s, now_s, like))

    def hangs(self, change: int) -> None:
        """One connection more or less of which nothing is heard. When all hang, ab waits its `-s` and exits."""
        self._n_hanging += change
        if self.kind.name == "ab" and self._n_hanging == len(self.connections):
            self.env.process(self._give_up())

    def _give_up(self) -> Steps:
        changes = self._n_hanging_changes = object()
        yield self.env.timeout(float(self.load.options.get("s", AB_TIMEOUT_S)))
        if self._n_hanging == len(self.connections) and changes is self._n_hanging_changes and not self.over:
            self.tally.gave_up = True
            self.stop()

    def spins(self, change: int) -> None:
        """One connection more or less on which the client's poll loop runs free."""
        now_s = float(self.env.now)
        if self._n_spinning:
            self.tally.spun_s += now_s - self._spinning_from_s
        self._n_spinning += change
        self._spinning_from_s = now_s

    # ------------------------------------------------------------------ pace

    @property
    def saturating(self) -> bool:
        """The client sends as fast as answers come, on the machine that also runs the cluster."""
        return isinstance(self.load.arrivals, ClosedLoop) and self.load.arrivals.think_time is None

    def client_off_cpu_s(self) -> float:
        """How long a client without pause still waits for a core at this instant. [s]

        The client, a process of each tier and the node's own work share the cores: the client is off them for
        the share that is missing. All its connections wait together, so one draw serves one instant.
        """
        now_s = float(self.env.now)
        if self._off_cpu[0] != now_s:
            busy = 3 + int(self.has_proxy)
            waits = self.saturating and self._rng.random() < 1 - self._cores / busy
            self._off_cpu = (now_s, self.timing.scheduler_turn.draw_s(self._rng) if waits else 0.0)
        return self._off_cpu[1]

    def think_s(self, rng: Rng) -> float:
        think = self.load.arrivals.think_time if isinstance(self.load.arrivals, ClosedLoop) else None
        return think.draw_s(rng) if think is not None else 0.0

    def round_trip_s(self, rng: Rng) -> float:
        return self.timing.round_trip.draw_s(rng)

    def pace(self, app: Server) -> Pace:
        """The steady cycle of a connection whose answers come from *app*."""
        key = app.image.reference
        if key not in self._paces:
            self._paces[key] = Pace(self._segments(app), self.streams.take(f"pace/{key}"))
        return self._paces[key]

    def _segments(self, app: Server) -> list[Segment]:
        path, behind = self.load.path, self.has_proxy
        think = self.load.arrivals.think_time if isinstance(self.load.arrivals, ClosedLoop) else None
        segments = [Segment(Stage.IDLE, False, think)] if think is not None else []
        if not self.keeps:
            segments.append(Segment(Stage.CONNECTING, False, self.timing.round_trip))
        segments.append(Segment(Stage.SENT, False, self._client_segment(Stage.SENT)))
        if behind:
            if not self.keeps_backends:
                segments.append(Segment(Stage.CONNECTING, True, self.timing.round_trip))
            segments.append(Segment(Stage.SENT, True, self._backend_sent()))
        segments += [
            Segment(Stage.IN_SERVICE, behind, service_time(app, path)),
            Segment(Stage.STREAMING, behind, stream_time(app, path)),
            Segment(Stage.READING, False, self._client_segment(Stage.READING)),
        ]
        return segments

    def _client_segment(self, stage: Stage) -> Distribution:
        if stage is Stage.CONNECTING:
            return self.timing.round_trip
        if self._saturation is not None:
            at_client_s, at_front_s, _ = self._saturation
            if stage is Stage.READING:
                return Exponential(scale_s=at_client_s)
            return Exponential(scale_s=at_front_s)
        if stage is Stage.READING:
            return self.timing.client_overhead.get(self.kind.name, Constant(value_s=0.0))
        return self.timing.round_trip

    def _backend_sent(self) -> Distribution:
        if self._saturation is not None:
            return Exponential(scale_s=self._saturation[2])
        return self.timing.round_trip

    def segment_s(self, stage: Stage, server: Server | None, rng: Rng) -> float:  # noqa: ARG002
        return self._client_segment(stage).draw_s(rng)

    def backend_sent_s(self, rng: Rng) -> float:
        return self._backend_sent().draw_s(rng)

    def _saturated_waits(self) -> tuple[float, float, float]:
        """Waits for the client's CPU, for the front tier's and for the app's. [s]"""
        cpu = self.timing.request_cpu_s
        connect_s = cpu["connect"]
        client_s = cpu.get(self.kind.name, cpu["ab"]) + (0.0 if self.keeps else connect_s)
        app_image = self._apps[0].image if self._apps else None
        app_s = cpu[app_image.server.value if app_image else "nginx"]
        if not (self.keeps_backends if self.has_proxy else self.keeps):
            app_s += connect_s  # accept and close
        delay_s = 0.0  # on one machine the wire is the kernel's work, and counts as CPU
        if self._apps:
            delay_s += service_time(self._apps[0], self.load.path).mean_s
            delay_s += stream_time(self._apps[0], self.load.path).mean_s
        tiers = [(app_s, max(1, len(self._apps)))]
        if self.has_proxy:
            backend_connect_s = 0.0 if self.keeps_backends else connect_s
            tiers.append((cpu["haproxy"] + backend_connect_s, max(1, len(self.targets(0)) * self._cores)))
        _, at_client_s, at_servers_s = saturated(
            connections=self.load.connections,
            cores=self._cores,
            client_cpu_s=client_s,
            server_cpu_s=tiers,
            delay_s=delay_s,
        )
        app_share = tiers[0][0] / sum(cpu_s for cpu_s, _ in tiers)
        if not self.has_proxy:
            return at_client_s, at_servers_s, 0.0
        return at_client_s, at_servers_s * (1 - app_share), at_servers_s * app_share

    def _app_servers(self) -> list[Server]:
        """The servers that answer in the end."""
        front = self.targets(0)
        apps = [
            t for s in front if s in self.proxies for t in haproxy.all_targets(self.proxies[s], self.world)
        ]
        return list(dict.fromkeys(apps or front))

    # ------------------------------------------------------------------ steady state

    def requests_per_link(self, server: Server) -> float:
        """After how many requests the server closes a connection, announced; infinite where it does not."""
        container, image = server.container, server.image
        match image.server:
            case ServerKind.NGINX if container.nginx is not None:
                return 1 if container.nginx.keepalive_timeout_s == 0 else container.nginx.keepalive_requests
            case ServerKind.HAPROXY if container.haproxy is not None:
                return 1 if container.haproxy.frontends[0].http_mode is HttpMode.CLOSE else float("inf")
        return float("inf") if image.keep_alive else 1

    def idle_limit_s(self, server: Server) -> float:
        """After what pause the server closes an idle connection. [s]"""
        container, image = server.container, server.image
        limit_s: float | None
        match image.server:
            case ServerKind.NGINX if container.nginx is not None:
                limit_s = container.nginx.keepalive_timeout_s
            case ServerKind.HAPROXY if container.haproxy is not None:
                front = container.haproxy.frontends[0]
                limit_s = (
                    front.timeout_http_keep_alive_s or front.timeout_http_request_s or front.timeout_client_s
                )
            case _:
                limit_s = image.idle_timeout_s
        return float("inf") if limit_s is None else limit_s

    def _has_steady_hazard(self) -> bool:
        """Whether requests can fail with nothing changing: then none may be skipped."""
        rng = self.streams.take("steady-hazard")
        if self._front is None or not self._apps:
            return False
        if self.keeps:
            limit_s = self.idle_limit_s(self._front)
            if any(self.think_s(rng) > limit_s for _ in range(2000)):
                return True
        limit_s = self.load.answer_timeout_s
        for proxy in self.proxies.values():
            limit_s = min(limit_s, proxy.backend.timeout_server_s or limit_s)
        service, stream = (
            service_time(self._apps[0], self.load.path),
            stream_time(self._apps[0], self.load.path),
        )
        return any(service.draw_s(rng) + stream.draw_s(rng) > limit_s for _ in range(200))
