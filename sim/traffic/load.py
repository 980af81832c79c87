"""The load: its connections, its pace, its end."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import simpy
from numpy.random import Generator as Rng

from sim.errors import InputError
from sim.outcomes import Failure, Seen
from sim.proxies import Proxy, targets
from sim.scenario.distributions import Constant, Distribution, Exponential
from sim.scenario.model import ClosedLoop, OpenLoop, Scenario, ServerKind
from sim.scenario.timing import Timing, Vanished
from sim.streams import Streams
from sim.traffic import steady
from sim.traffic.answers import Answer, answer_of
from sim.traffic.clients import KINDS, ends_the_run, polled
from sim.traffic.cruise import Outlook
from sim.traffic.exchange import Connection
from sim.traffic.hop import keeps_backends
from sim.traffic.keepalive import age_limit_s, idle_limit_s, requests_per_link
from sim.traffic.links import Link, LoadOver, Stage, announces_close
from sim.traffic.old_ports import OldPorts
from sim.traffic.open_loop import Arrivals
from sim.traffic.pace import REFUSED, Pace, Route, Segment, saturated
from sim.traffic.routing import Refusal, Way, refusal, vanished_answer
from sim.traffic.shared_cores import SharedCores
from sim.traffic.tally import Burst, Tally
from sim.traffic.time_wait import Held, TimeWaits
from sim.waiting import Change
from sim.world import RuleTable, Server, World

Steps = Generator[simpy.Event, Any, None]

AB_TIMEOUT_S: Final = 30.0
"""`ab -s`: no event on any connection for so long ends it (ab.c, apr_pollset_poll)."""
CLIENT_NODE: Final = 0
"""The node whose rules the client meets."""


class Traffic:
    """Everything between the clients and the pods.

    Raises
    ------
    InputError
        A request takes no time at all, or the load asks for what is not modelled (steady.py).
    """

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
        self.masqueraded = not (self.forwarded or world.services[scenario.load.service].headless)
        """Its connections reach the pods from an address of the node and random ports."""
        arrivals = self.load.arrivals
        self.saturating = isinstance(arrivals, ClosedLoop) and arrivals.think_time is None
        """The client sends as fast as answers come, on the machine that also runs the cluster."""
        self.tally = Tally()
        self.over = False
        self.ended_s = 0.0
        self.n_rules = 0
        """Changes of any rules so far."""
        self.longest_s = self.load.duration_s or 3600.0
        self._cores = scenario.cluster.cores
        self.cores = SharedCores(self, CLIENT_NODE, scenario.cluster.cores)
        self._rng = streams.take("load")
        self.old_ports = OldPorts(self, streams.take("ports"))
        self.changed = Change(env)
        """The world, the client's end, or somebody's look at where its requests are."""
        self.n_standing = 0
        """Connections on which nobody does anything for now."""
        self._runnable: tuple[object, float] = (None, 0.0)
        """(what it was counted from, `n_runnable`)."""
        self._n_hanging = 0
        self._n_hanging_changes: object = None
        self._n_spinning = 0
        self._spinning_from_s = 0.0
        self._off_cpu = (-1.0, 0.0)
        """(when drawn, how long): see client_off_cpu_s."""
        self._forgets_until_s: dict[Server, float] = {}
        self._affine: dict[int, Server] = {}
        self._targets: tuple[RuleTable | None, tuple[Server, ...]] = (None, ())
        """The rules as they were last asked for, and the servers that they name."""
        self._answers: dict[Server, Answer] = {}
        self._requests_per_link: dict[Server, float] = {}
        self._idle_limits_s: dict[Server, float] = {}
        self._hazards: dict[Server, bool] = {}
        self._paces: dict[tuple[Any, ...], Pace] = {}
        self.ways_from: dict[tuple[Server, ...], Sequence[Way]] = {}
        """By the servers that a connect may meet, without a proxy, for as long as nothing changes."""
        self._outlook = Outlook()
        self._pace: tuple[Outlook, Pace] | None = None
        """The last ones asked for: connections ask one after the other for the same."""
        front = self.targets(0)
        self.has_proxy = any(server in proxies for server in front)
        self.keeps_backends = any(keeps_backends(proxies[s]) for s in front if s in proxies)
        self.keeps = self.load.keep_alive and all(self.requests_per_link(s) > 1 for s in front)
        self._apps = self._app_servers()
        self.time_waits = TimeWaits(self)
        self._saturation = self._saturated(self.load.connections, Held()) if self.saturating else None
        self.cycle_s = self._pace_of(self._apps).mean_s if self._apps else 0.01
        """Mean time from one request of a connection to its next, in steady state. [s]"""
        self._round_trips_s = self.cycle_s - (self._saturation[0] if self._saturation else 0.0)
        """What of it is neither CPU nor the wait for it. [s]"""
        for server in (*front, *self._apps):
            steady.check(self, server)
        self._n_opened = 0
        self.connections: list[Connection] = []
        for _ in range(self.load.connections):
            self.open_one_more()
        self._arrivals = (
            Arrivals(self, self.load.arrivals) if isinstance(self.load.arrivals, OpenLoop) else None
        )
        world.observe(self)
        if self._arrivals is not None:
            world.tell_of_deletions(self._deletion)

    def open_one_more(self) -> Connection:
        """A further connection of the client; its own stream of chance."""
        connection = Connection(self, self._n_opened)
        self._n_opened += 1
        self.connections.append(connection)
        return connection

    # ------------------------------------------------------------------ what the world tells

    def server_changed(self, server: Server) -> None:
        self._forget_ways()
        if self._arrivals is not None:
            self._arrivals.meet()
        self.time_waits.count()
        for connection in self._near(server):
            connection.on_server(server)
        self.changed.happens()

    def _forget_ways(self) -> None:
        self.ways_from.clear()
        self._outlook = Outlook()

    def _deletion(self, node: int) -> None:
        assert self._arrivals is not None
        self._arrivals.deletion(node)
        self.changed.happens()

    def held_s(self, server: Server) -> float:
        """How long an answer of *server* that is ready still waits for its core. [s]"""
        return 0.0 if self._arrivals is None else self._arrivals.held_s(server)

    def _near(self, server: Server) -> list[Connection]:
        """Who may notice a change of *server*: all, unless connections are kept and end at their pods."""
        if self.has_proxy or not self.keeps:
            return self.connections
        return [link.owner for link in server.connections if isinstance(link, Link)]

    def rules_changed(self, node: int, service: str) -> None:
        self.n_rules += 1
        self._forget_ways()
        if self.has_proxy or (node == CLIENT_NODE and service in ("", self.load.service)):
            if self._arrivals is not None:
                self._arrivals.meet()
            self.time_waits.tell()
            for connection in self.connections:
                connection.on_rules()
        self.changed.happens()

    def targets(self, source: int) -> tuple[Server, ...]:
        """Servers that the client's next connect may meet, each as likely; affinity narrows it to one."""
        table = self.world.rules(CLIENT_NODE, self.load.service)
        if table is not self._targets[0]:
            self._targets = (table, targets(self.world, CLIENT_NODE, self.load.service, self.load.port))
        possible = self._targets[1]
        return self._sticky(source, possible) if self.is_sticky and possible else possible

    @property
    def is_sticky(self) -> bool:
        """Whether a client's address decides its endpoint."""
        return self.world.services[self.load.service].session_affinity_s is not None

    def _sticky(self, source: int, possible: tuple[Server, ...]) -> tuple[Server, ...]:
        """ClientIP affinity: the same endpoint while it is in the rules (iptables/proxier.go:1543-1561)."""
        if self._affine.get(source) not in possible:
            self._affine[source] = possible[int(self._rng.integers(len(possible)))]
        return (self._affine[source],)

    # ------------------------------------------------------------------ life

    def start(self) -> None:
        env = self.env
        if self._arrivals is not None:
            env.process(self._arrivals.run())
        else:
            for connection in self.connections:
                env.process(connection.run(self.cycle_s * float(connection.rng.random())))
        if self.time_waits.met:
            env.process(self.time_waits.run())
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
            yield self.env.timeout(max(1e-4, 0.98 * left * self._request_every_s()))
            self.look()

    def look(self) -> None:
        """Everybody finds out where its requests are by now, though nothing has changed."""
        if self._arrivals is not None:
            self._arrivals.meet()
        for connection in self.connections:
            connection.look()
        self.changed.happens()

    @property
    def requests_per_s(self) -> float:
        """In steady state."""
        return 1 / self._request_every_s()

    def _request_every_s(self) -> float:
        if isinstance(self.load.arrivals, OpenLoop):
            return 1 / self.load.arrivals.rate_per_s
        return self.cycle_s / self.load.connections

    def stop(self) -> None:
        if not self.over:
            self.over = True
            self.ended_s = float(self.env.now)
            for connection in self.connections:
                connection.poke()
            self.changed.happens()

    # ------------------------------------------------------------------ tally

    def count_ok(self, n: int, ways: Sequence[Way], *, since_s: float) -> None:
        """Count *n* answers that came between *since_s* and now, by *ways* as likely as their shares."""
        if n == 0:
            return
        self.tally.n_ok += n
        self.tally.answered.add(n, since_s, float(self.env.now))
        lengths: dict[int, float] = {}
        for way in ways:
            length = way.target.image.body_bytes
            lengths[length] = lengths.get(length, 0.0) + way.share
        if len(lengths) == 1:
            self.tally.n_by_length[next(iter(lengths))] += n
        elif lengths:
            total = sum(lengths.values())
            counts = self._rng.multinomial(n, [share / total for share in lengths.values()])
            for length, count in zip(lengths, counts, strict=True):
                if count:
                    self.tally.n_by_length[length] += int(count)

    def fail(self, failure: Failure, source: int) -> None:
        """Count one failed request of a connection with that *source*."""
        if self.over:  # the client has ended itself meanwhile, so it never saw this
            self.tally.n_open += 1
            return
        self.tally.failures.append(failure)
        if failure.seen is Seen.REFUSED:
            self.tally.n_polled += polled(1, self._share_refusing(source))
        if ends_the_run(self.kind.name, self.load.options, failure.seen):
            self.stop()

    def refuse(self, connection: Connection, why: Refusal) -> Steps:
        """A refused connect takes a round trip; a client without pause goes on burning requests meanwhile.

        Where every target refuses, such a client's failures up to the next change are one burst.

        Raises
        ------
        LoadOver
        """
        if not self.saturating:
            return
        if self.over:
            raise LoadOver
        cycle_s = self.refused_cycle_s
        if any(refusal(s) is None for s in self.targets(connection.source)):
            yield self.env.timeout(cycle_s)
            return
        if ends_the_run(self.kind.name, self.load.options, why.seen):
            return
        began_s, clock_s = float(self.env.now), self.cores.refused_s
        until = self.changed.next
        if self._n_left < float("inf"):
            until = until | self.env.timeout(self._n_left * self.timing.refused_cpu_s)
        yield until
        lasted_s = self.cores.refused_s - clock_s
        n = int(min(connection.rng.poisson(lasted_s / cycle_s), self._n_left))
        self.count_refused(n, connection, why, since_s=began_s, share=1.0)
        if self._n_left == 0:
            self.stop()

    @property
    def refused_cycle_s(self) -> float:
        """From one refused connect of a connection without pause to its next, on a node that leaves it a core. [s]"""
        return self.timing.refused_cpu_s * self.load.connections

    @property
    def counts_refused(self) -> bool:
        """Whether refused connects may be counted together: each of them is a failure that changes nothing."""
        ends = ends_the_run(self.kind.name, self.load.options, Seen.REFUSED)
        return self.saturating and not self.keeps and not self.load.retries and not ends

    def count_refused(
        self, n: int, connection: Connection, why: Refusal, *, since_s: float, share: float
    ) -> None:
        """Count *n* refused connects between *since_s* and now, when that *share* of all connects was refused."""
        if not n:
            return
        self.tally.n_polled += polled(n, share)
        like = Failure(
            at_s=since_s,
            cause=why.cause,
            seen=why.seen,
            reused=False,
            connection=connection.index,
            pod=why.pod,
            phase=Stage.CONNECTING.value,
        )
        self.tally.bursts.append(Burst(n, since_s, float(self.env.now), like))

    def _share_refusing(self, source: int) -> float:
        targets = self.targets(source)
        return sum(refusal(server) is not None for server in targets) / len(targets) if targets else 1.0

    @property
    def _n_left(self) -> float:
        """Requests until the load has made all that it is to make."""
        n = self.load.requests
        return float("inf") if n is None else max(0, n - self.tally.n_requests)

    def vanished_answer(self, server: Server, sent_s: float) -> Vanished:
        """What a SYN sent at *sent_s* meets at *server*'s vanished address.

        Masquerade forgets the connections of a device that goes down (Linux net/netfilter/nf_nat_masquerade.c,
        masq_device_event), and so those of the last moment before the route is gone too: their next SYN, a second
        later, goes where the rules say then. A client without pause has hardly any others: in five of six replays all
        connections of ab came back so, or hung for good because the rules were not a second old yet
        (validation/observations/tutorial-4-proxy-rollout).
        """
        answer = vanished_answer(self.timing.vanished, forwarded=self.forwarded)
        if answer is Vanished.SILENCE_PINNED and self.masqueraded and server.vanished_s is not None:
            if server not in self._forgets_until_s:
                self._forgets_until_s[server] = server.vanished_s + self.timing.forgets.draw_s(self._rng)
            if sent_s <= self._forgets_until_s[server]:
                return Vanished.SILENCE_REDRAWN
        return answer

    def hangs(self, change: int) -> None:
        """One connection more or less of which nothing is heard. When all hang, ab waits its `-s` and exits."""
        self._n_hanging += change
        self._n_hanging_changes = object()
        if self.kind.name == "ab" and self._n_hanging == len(self.connections):
            self.env.process(self._give_up(self._n_hanging_changes))

    def _give_up(self, changes: object) -> Steps:
        yield self.env.timeout(float(self.load.options.get("s", AB_TIMEOUT_S)))
        if changes is self._n_hanging_changes and not self.over:
            self.tally.gave_up = True
            self.stop()

    def spins(self, change: int) -> None:
        """One connection more or less on which the client's poll loop runs free."""
        now_s = float(self.env.now)
        if self._n_spinning:
            self.tally.spun_s += now_s - self._spinning_from_s
        self._n_spinning += change
        self._spinning_from_s = now_s

    # ------------------------------------------------------------------ what a server does

    def answer(self, server: Server) -> Answer:
        if server not in self._answers:
            self._answers[server] = answer_of(server, self.load.path)
        return self._answers[server]

    def requests_per_link(self, server: Server) -> float:
        if server not in self._requests_per_link:
            self._requests_per_link[server] = requests_per_link(server, self.load.path)
        return self._requests_per_link[server]

    def idle_limit_s(self, server: Server) -> float:
        if server not in self._idle_limits_s:
            self._idle_limits_s[server] = idle_limit_s(server, self.load.path)
        return self._idle_limits_s[server]

    def says_close(self, link: Link, *, built_now: bool) -> bool:
        """Whether the answer under way carries `Connection: close`; *built_now*: its header leaves now."""
        if link.n_requests >= self.requests_per_link(link.server):
            return True
        aged = float(self.env.now) - link.opened_s > age_limit_s(link.server)
        return aged or (built_now and announces_close(link))

    def is_hazardous(self, server: Server) -> bool:
        """Whether requests to *server* can fail with nothing changing: then none may be skipped."""
        if server not in self._hazards:
            self._hazards[server] = steady.is_hazardous(self, server)
        return self._hazards[server]

    def may_queue(self, proxy: Proxy) -> bool:
        """Whether requests may have to wait for one of the proxy's servers (`maxconn`)."""
        return any(
            line.line.maxconn is not None and line.line.maxconn < self.load.connections
            for line in proxy.servers
        )

    # ------------------------------------------------------------------ pace

    @property
    def n_at_work(self) -> float:
        """Connections that wait neither for an address, dead or not, nor for their proxy's next attempt."""
        if not self.time_waits.met:
            return len(self.connections) - self.n_standing
        held = self.time_waits.known
        share_waiting = self.time_waits.short_wait_s(held) / self._saturation[0] if self._saturation else 0.0
        return self._n_awake(held) * (1 - share_waiting)

    def _n_awake(self, held: Held) -> float:
        """Those that wait neither for a dead address nor for a second: of one as many as of the other, by chance."""
        n = len(self.connections)
        return (n - self.n_standing) * (1 - held.n_aside / n)

    @property
    def n_runnable(self) -> float:
        """Processes that want a core under a client without pause: the node's own, the client, one of each tier.

        Where every connect is refused, nobody but the client has anything to do.
        """
        in_vain = all(refusal(server) is not None for server in self.targets(0))
        known = (self.n_standing, self.time_waits.known, in_vain)
        if known != self._runnable[0]:
            n_processes = 1 if in_vain else 2 + int(self.has_proxy)
            self._runnable = (known, 1 + min(self.n_at_work, n_processes))
        return self._runnable[1]

    @property
    def share_on_cpu(self) -> float:
        """Of a cycle of a client without pause: the waits for the client, the front tier and the app."""
        if self._saturation is None:
            return 0.0
        cycle_s, *waits_s = self._saturation
        return min(1.0, sum(waits_s) / (cycle_s + self._round_trips_s))

    @property
    def share_at_work(self) -> float:
        """Of the requests per second that there are without any update. An open loop sends on, whatever waits."""
        if self._arrivals is not None:
            return 1.0
        if not self.time_waits.met:
            return (len(self.connections) - self.n_standing) / len(self.connections)
        return self.n_at_work / len(self.connections)

    def client_off_cpu_s(self) -> float:
        """How long a client without pause still waits for a core at this instant. [s]

        The client, a process of each tier and the node's own work share the cores: the client is off them for
        the share that is missing. All its connections wait together, so one draw serves one instant.
        """
        now_s = float(self.env.now)
        if self._off_cpu[0] != now_s:
            waits = self.saturating and self._rng.random() < 1 - self._cores / self.n_runnable
            self._off_cpu = (now_s, self.timing.scheduler_turn.draw_s(self._rng) if waits else 0.0)
        return self._off_cpu[1]

    def think_s(self, rng: Rng) -> float:
        think = self.load.arrivals.think_time if isinstance(self.load.arrivals, ClosedLoop) else None
        return think.draw_s(rng) if think is not None else 0.0

    def round_trip_s(self, rng: Rng) -> float:
        return self.timing.round_trip.draw_s(rng)

    def outlook(self, ways: Sequence[Way], refusal_of: Callable[[Way], Refusal | None]) -> Outlook:
        """That of connections whose next requests take *ways*."""
        if self._outlook.ways is not ways:
            self._outlook = Outlook.of(ways, refusal_of)
        return self._outlook

    def pace(self, outlook: Outlook) -> Pace:
        """The steady cycle of a connection whose requests take the good ways, as likely as their shares.

        Refused connects are cycles of a kind of their own, REFUSED.
        """
        if self._pace is None or self._pace[0] is not outlook:
            good = outlook.good
            targets, shares = [way.target for way in good], [way.share for way in good]
            self._pace = (outlook, self._pace_of(targets, shares, outlook.p_refused))
        return self._pace[1]

    def retune(self) -> None:
        """Connects take another time on average: so do the waits for the CPU."""
        for connection in self.connections:
            connection.retune()

    def renew_paces(self) -> None:
        """From now on a pace is that of now."""
        held = self.time_waits.known
        self._saturation = self._saturated(len(self.connections) - held.n_aside, held)
        self._paces.clear()
        self._pace = None

    def cycle_changes_by(self) -> float:
        """By which share the cycle of now differs from the one that the connections cruise by."""
        assert self._saturation is not None
        held = self.time_waits.now
        now_s, *_ = self._saturated(len(self.connections) - held.n_aside, held)
        return abs(now_s / self._saturation[0] - 1)

    def connects_per_s(self, share_accepted: float) -> float:
        """Of a client without pause, where *share_accepted* of them succeed."""
        held = self.time_waits.now
        n = self._n_awake(held)
        if n <= 0:
            return 0.0
        cycle_s = self._saturated(n, held)[0] + self._round_trips_s if share_accepted else 0.0
        return n / (share_accepted * cycle_s + (1 - share_accepted) * self.refused_cycle_s)

    def _pace_of(
        self, apps: Sequence[Server], shares: Sequence[float] | None = None, p_refused: float = 0.0
    ) -> Pace:
        by_image: dict[str, tuple[float, Server]] = {}
        for app, share in zip(apps, shares or [1.0] * len(apps), strict=True):
            before, _ = by_image.get(app.image.reference, (0.0, app))
            by_image[app.image.reference] = (before + share, app)
        total = sum(share for share, _ in by_image.values())
        kinds = [(image, share / total, app) for image, (share, app) in by_image.items()]
        key = (p_refused, *sorted((image, round(share, 9)) for image, share, _ in kinds))
        if key not in self._paces:
            served = [((1 - p_refused) * share, self._segments(app), image) for image, share, app in kinds]
            if p_refused:
                refused = Segment(Stage.CONNECTING, False, Constant(value_s=self.refused_cycle_s))
                served.append((p_refused, (refused,), REFUSED))
            routes = [
                Route(share * p, (*waits, *segments), kind)
                for share, segments, kind in served
                for p, waits in self.time_waits.tries()
            ]
            try:
                self._paces[key] = Pace(routes)
            except ValueError:
                raise InputError("spec.load: a request and its pause take no time at all") from None
        return self._paces[key]

    def _segments(self, app: Server) -> tuple[Segment, ...]:
        behind, answer = self.has_proxy, self.answer(app)
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
            Segment(Stage.IN_SERVICE, behind, answer.service),
            Segment(Stage.STREAMING, behind, answer.stream),
            Segment(Stage.READING, False, self._client_segment(Stage.READING)),
        ]
        return tuple(segment for segment in segments if segment.duration.mean_s > 0)

    def _client_segment(self, stage: Stage) -> Distribution:
        if self._saturation is not None:
            _, at_client_s, at_front_s, _ = self._saturation
            return Exponential(scale_s=at_client_s if stage is Stage.READING else at_front_s)
        if stage is Stage.READING:
            return self.timing.client_overhead.get(self.kind.name, Constant(value_s=0.0))
        return self.timing.round_trip

    def _backend_sent(self) -> Distribution:
        if self._saturation is not None:
            return Exponential(scale_s=self._saturation[3])
        return self.timing.round_trip

    def client_segment_s(self, stage: Stage, rng: Rng) -> float:
        """A draw of what SENT or READING takes on the client's own connection. [s]"""
        return self._client_segment(stage).draw_s(rng) * self.cores.slowdown

    def backend_sent_s(self, rng: Rng) -> float:
        return self._backend_sent().draw_s(rng) * self.cores.slowdown

    def request_cpu_s(self) -> tuple[float, float, float]:
        """CPU of one request in the client, in the app and in the proxy. [s]

        On one machine the wire is the kernel's work, and counts as CPU of both ends.
        """
        cpu = self.timing.request_cpu_s
        connect_s = cpu["connect"]
        client_s = cpu.get(self.kind.name, cpu["ab"]) + (0.0 if self.keeps else connect_s)
        app_image = self._apps[0].image if self._apps else None
        app_s = cpu[(app_image.server if app_image else ServerKind.NGINX).value]
        if not (self.keeps_backends if self.has_proxy else self.keeps):
            app_s += connect_s  # accept and close
        backend_connect_s = 0.0 if self.keeps_backends else connect_s
        return client_s, app_s, cpu["haproxy"] + backend_connect_s if self.has_proxy else 0.0

    @cached_property
    def utilisation(self) -> float:
        """Share of the node's cores that the requests of a paced load take, without any update.

        What serves it sleeps between two requests. To be woken costs the more a request the fewer there are: over the
        rate the CPU is a line that does not begin at nothing (validation/calibration/data/2026-11-30/paced-cost.csv).
        """
        client_s, *servers_s = self.request_cpu_s()
        cpu_s = sum(servers_s) + (0.0 if self.forwarded else client_s)
        per_s = 1 / self._request_every_s()
        wakeups_s = self.timing.request_cpu_s.get("wakeups", 0.0) * (2 if self.has_proxy else 1)
        return (cpu_s * per_s + min(wakeups_s * per_s, self.timing.wakeups_cores)) / self._cores

    def _saturated(self, connections: float, held: Held) -> tuple[float, float, float, float]:
        """A cycle, and its waits for the client's CPU, for the front tier's and for the app's. [s]

        Of so many *connections* that nothing keeps for long.
        """
        client_s, app_s, proxy_s = self.request_cpu_s()
        delay_s = self.answer(self._apps[0]).mean_s if self._apps else 0.0
        delay_s += self.time_waits.short_wait_s(held)
        tiers = [(app_s, max(1, len(self._apps)))]
        if self.has_proxy:
            tiers.append((proxy_s, max(1, len(self.targets(0)) * self._cores)))
        cycle_s, at_client_s, at_servers_s = saturated(
            connections=connections,
            cores=self._cores,
            client_cpu_s=client_s,
            server_cpu_s=tiers,
            delay_s=delay_s,
        )
        app_share = tiers[0][0] / sum(cpu_s for cpu_s, _ in tiers)
        if not self.has_proxy:
            return cycle_s, at_client_s, at_servers_s, 0.0
        return cycle_s, at_client_s, at_servers_s * (1 - app_share), at_servers_s * app_share

    def _app_servers(self) -> list[Server]:
        """The servers that answer in the end."""
        apps: list[Server] = []
        for front in self.targets(0):
            proxy = self.proxies.get(front)
            if proxy is None:
                apps.append(front)
            else:
                apps += [target for line in proxy.usable for target in proxy.targets(self.world, line)]
        return list(dict.fromkeys(apps))
