"""The load: its connections, what they meet, its rate, its end."""

from collections.abc import Callable, Generator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import simpy
from numpy.random import Generator as Rng

from sim.outcomes import Failure, Seen
from sim.proxies import Proxy, targets
from sim.scenario.model import OpenLoop, Scenario, ServerKind
from sim.scenario.timing import Timing, Vanished
from sim.streams import Streams
from sim.traffic import steady
from sim.traffic.answers import Answer, answer_of
from sim.traffic.clients import KINDS, ends_the_run, polled
from sim.traffic.cruise import Outlook
from sim.traffic.exchange import Connection
from sim.traffic.hop import keeps_backends
from sim.traffic.keepalive import age_limit_s, idle_limit_s, requests_per_link
from sim.traffic.links import Link, announces_close
from sim.traffic.no_pause import ClientWithoutPause
from sim.traffic.old_ports import OldPorts
from sim.traffic.open_loop import Arrivals
from sim.traffic.request_cycle import RequestCycle
from sim.traffic.routing import Refusal, Way, refusal, vanished_answer
from sim.traffic.shared_cores import SharedCores
from sim.traffic.tally import Tally
from sim.traffic.time_wait import TimeWaits
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
        self.tally = Tally()
        self.over = False
        self.ended_s = 0.0
        self.n_rules = 0
        """Changes of any rules so far."""
        self.longest_s = self.load.duration_s or 3600.0
        self._cores = scenario.cluster.cores
        self._rng = streams.take("load")
        self.old_ports = OldPorts(self, streams.take("ports"))
        self.changed = Change(env)
        """The world, the client's end, or somebody's look at where its requests are."""
        self.n_standing = 0
        """Connections on which nobody does anything for now."""
        self._n_hanging = 0
        self._n_hanging_changes: object = None
        self._n_spinning = 0
        self._spinning_from_s = 0.0
        self._forgets_until_s: dict[Server, float] = {}
        self._affine: dict[int, Server] = {}
        self._targets: tuple[RuleTable | None, tuple[Server, ...]] = (None, ())
        """The rules as they were last asked for, and the servers that they name."""
        self._answers: dict[Server, Answer] = {}
        self._requests_per_link: dict[Server, float] = {}
        self._idle_limits_s: dict[Server, float] = {}
        self._hazards: dict[Server, bool] = {}
        self.ways_from: dict[tuple[Server, ...], Sequence[Way]] = {}
        """By the servers that a connect may meet, without a proxy, for as long as nothing changes."""
        self._outlook = Outlook()
        self._shares_refusing: dict[tuple[Server, ...], float] = {}
        """By the servers that a connect may meet, for as long as nothing changes."""
        front = self.targets(0)
        self.has_proxy = any(server in proxies for server in front)
        self.keeps_backends = any(keeps_backends(proxies[s]) for s in front if s in proxies)
        self.keeps = self.load.keep_alive and all(self.requests_per_link(s) > 1 for s in front)
        self.apps = self._app_servers()
        self.no_pause = self._client_without_pause()
        """None: the client waits for its times, not for the CPU."""
        self.cores = SharedCores(self, CLIENT_NODE, scenario.cluster.cores)
        self.time_waits = TimeWaits(self)
        self.request_cycle = RequestCycle(self)
        self.cycle_s = self.request_cycle.pace_to(self.apps).mean_s if self.apps else 0.01
        """Mean time from one request of a connection to its next, in steady state. [s]"""
        for server in (*front, *self.apps):
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

    def _client_without_pause(self) -> ClientWithoutPause | None:
        arrivals = self.load.arrivals
        if isinstance(arrivals, OpenLoop) or arrivals.think_time is not None:
            return None
        return ClientWithoutPause(self, self._cores, self._rng)

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
        self._shares_refusing.clear()
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

    def share_refusing(self, source: int) -> float:
        """How many of the servers that the client's next connect may meet refuse it: all where there are none."""
        possible = self.targets(source)
        if possible not in self._shares_refusing:
            n_refusing = sum(refusal(server) is not None for server in possible)
            self._shares_refusing[possible] = n_refusing / len(possible) if possible else 1.0
        return self._shares_refusing[possible]

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
            yield self.env.timeout(max(1e-4, 0.98 * left * self.request_every_s))
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
        return 1 / self.request_every_s

    @property
    def request_every_s(self) -> float:
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
        if failure.seen is Seen.REFUSED and self.kind.shows_polled:
            self.tally.n_polled += polled(1, self.share_refusing(source))
        if ends_the_run(self.kind.name, self.load.options, failure.seen):
            self.stop()

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

    # ------------------------------------------------------------------ rate

    @property
    def share_at_work(self) -> float:
        """Of the requests per second that there are without any update. An open loop sends on, whatever waits."""
        if self._arrivals is not None:
            return 1.0
        return (len(self.connections) - self.n_standing) / len(self.connections)

    def round_trip_s(self, rng: Rng) -> float:
        return self.timing.round_trip.draw_s(rng)

    def outlook(self, ways: Sequence[Way], refusal_of: Callable[[Way], Refusal | None]) -> Outlook:
        """That of connections whose next requests take *ways*."""
        if self._outlook.ways is not ways:
            self._outlook = Outlook.of(ways, refusal_of)
        return self._outlook

    def retune(self) -> None:
        """Connects take another time on average: so do the waits for the CPU."""
        for connection in self.connections:
            connection.retune()

    def request_cpu_s(self) -> tuple[float, float, float]:
        """CPU of one request in the client, in the app and in the proxy. [s]

        On one machine the wire is the kernel's work, and counts as CPU of both ends.
        """
        cpu = self.timing.request_cpu_s
        connect_s = cpu["connect"]
        client_s = cpu.get(self.kind.name, cpu["ab"]) + (0.0 if self.keeps else connect_s)
        app_image = self.apps[0].image if self.apps else None
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
        per_s = 1 / self.request_every_s
        wakeups_s = self.timing.request_cpu_s.get("wakeups", 0.0) * (2 if self.has_proxy else 1)
        return (cpu_s * per_s + min(wakeups_s * per_s, self.timing.wakeups_cores)) / self._cores

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
