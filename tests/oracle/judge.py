"""The request-by-request judge of sim/traffic: a drop-in for its Traffic, in plain Python, without a shortcut.

Every request of every connection is made, one step after the other, up to each change of the world. Of sim/ it
shares the world, the cluster, what configurations say (answers.py, keepalive.py), the clients' flags
(clients.py) and the form of the rows; not the exchange, the cruise, the pace, the proxy or the fates.
"""

from collections import Counter, deque
from collections.abc import Generator, Mapping
from typing import Any

import simpy
from oracle.clock import NEVER, Clock, Steps
from oracle.connection import Connection
from oracle.draws import Draw, draws, shares
from oracle.fates import Link, refusal
from oracle.masquerade import Masquerade
from oracle.mirror import Host, Line, Proxy
from oracle.ports import Ports
from oracle.waits import Waits

from sim.cluster.node_cpu import BURST_S
from sim.outcomes import Cause, Failure, Seen
from sim.proxies import Proxy as LiveProxy
from sim.proxies import targets
from sim.scenario.distributions import Constant, Exponential
from sim.scenario.model import ClosedLoop, ExitWhen, OpenLoop, Scenario
from sim.scenario.timing import Timing
from sim.streams import Streams
from sim.traffic.clients import KINDS, ends_the_run
from sim.traffic.tally import Tally
from sim.world import Server, ServerPhase, World

CLIENT_NODE = 0
AB_GIVES_UP_AFTER_S = 30.0
LOOKS_EVERY_S = 0.25
"""How often the waits for the CPU are measured anew, where connects have to be tried again."""


class Judge:
    """As sim.traffic.load.Traffic."""

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        scenario: Scenario,
        timing: Timing,
        streams: Streams,
        proxies: Mapping[Server, LiveProxy],
        *,
        stepwise: bool = True,
    ) -> None:
        self.env = env
        self.world = world
        self.load = scenario.load
        self.kind = KINDS[scenario.load.client]
        self.timing = timing
        self.clock = Clock()
        self._tally = Tally()
        self.ended = False
        self.ended_s = 0.0
        self._has_hung_up = False
        self.vanished = timing.vanished
        self.forwarded = not scenario.cluster.client_on_node
        self._cores = scenario.cluster.cores
        self._rng = streams.take("judge")
        self.share = shares(self._rng)
        self.round_trip_s = draws(timing.round_trip, self._rng)
        self._live_proxies = proxies
        self._hosts: dict[Server, Host] = {}
        self._tables: dict[tuple[int, str, int], tuple[Host, ...]] = {}
        self._affine: dict[int, Host] = {}
        self._ports: dict[int, Ports] = {}
        self._forgotten: dict[Host, float] = {}
        self._cores_wanted = 0.0
        """By starts and ends of pods, on the client's node, since the last step."""
        self._work = None if self.forwarded else world.pod_work.get(CLIENT_NODE)
        if self._work is not None:
            self._work.tell(self._catch_up)
        self.slowdown = 1.0
        """What that makes of the waits of a client without pause for the CPU."""
        self.proxies: dict[Host, Proxy] = {}
        for server in list(proxies):
            self._adopt(server)
        self._entry = (CLIENT_NODE, self.load.service, self.load.port)
        fronts = self._table(self._entry)
        self.has_proxy = any(front in self.proxies for front in fronts)
        self.keeps = self.load.keep_alive and all(front.max_requests > 1 for front in fronts)
        arrivals = self.load.arrivals
        think = arrivals.think_time if isinstance(arrivals, ClosedLoop) else None
        self.think_s: Draw | None = None if think is None else draws(think, self._rng)
        self.saturating = isinstance(arrivals, ClosedLoop) and think is None
        self.no_pause = self if self.saturating else None
        """As Traffic's, for what the node feels of a client without pause."""
        behind = {
            self.proxies[front]: self._behind(self.proxies[front])
            for front in fronts
            if front in self.proxies
        }
        self._waits = Waits(fronts, behind, scenario, timing, keeps=self.keeps)
        self._draw_waits()
        meets_old = self.saturating and not self.keeps and not self.forwarded
        p_refuses = timing.p_time_wait_refuses if meets_old else 0.0
        self._masquerade = Masquerade(self.share, p_refuses) if p_refuses else None
        self.again_s = draws(timing.time_wait_again, self._rng)
        self._off_cpu = (-1.0, 0.0)
        self._n_hanging = 0
        self._n_hanging_changes = 0
        self._n_spinning = 0
        self._spinning_from_s = 0.0
        self._n_ok: Counter[Host] = Counter()
        self._n_left = NEVER if self.load.requests is None else self.load.requests
        self._ok_at: Counter[int] = Counter()
        self._idle: deque[Connection] = deque()
        self._n_watch = 0
        self.connections = [Connection(self, index) for index in range(self.load.connections)]
        self._n_opened = len(self.connections)
        world.observe(self)
        if isinstance(arrivals, OpenLoop):
            world.tell_of_deletions(self._deletion)

    def _draw_waits(self) -> None:
        """Times of a connection as they are without starts and ends of pods: see `slowdown`."""
        waits = self._waits
        self.sent_s, self.read_s = draws(waits.sent, self._rng), draws(waits.read, self._rng)
        self.backend_sent_s = draws(waits.backend_sent, self._rng)

    # ------------------------------------------------------------------ the world

    def _host(self, server: Server) -> Host:
        if server not in self._hosts:
            self._hosts[server] = Host(server, self.load.path, self._rng)
        return self._hosts[server]

    def _adopt(self, server: Server) -> None:
        live, host = self._live_proxies[server], self._host(server)
        node = server.pod.node
        lines = [Line(each, (node, each.service, each.line.port)) for each in live.servers]
        self.proxies[host] = Proxy(host, live, lines, Ports(self.share))
        for line in lines:
            if not line.live.is_slot:
                self._table(line.key)
            self._renew_line(line)

    def _is_another_proxy(self, host: Host) -> bool:
        """A process that has begun to listen is another HAProxy."""
        mine = self.proxies.get(host)
        return mine is None or mine.live is not self._live_proxies[host.server]

    def _renew_line(self, line: Line) -> None:
        live = line.live
        line.usable = live.usable
        line.slot_host = None
        if live.is_slot and live.pod is not None:
            line.slot_host = self._host(live.pod.server_at(live.line.port))

    def _behind(self, proxy: Proxy) -> list[Host]:
        """Whom *proxy* may send to now."""
        hosts: list[Host | None] = []
        for line in proxy.usable():
            hosts += [line.slot_host] if line.live.is_slot else self._table(line.key)
        return [host for host in hosts if host is not None]

    def _table(self, key: tuple[int, str, int]) -> tuple[Host, ...]:
        if key not in self._tables:
            self._renew_table(key)
        return self._tables[key]

    def _renew_table(self, key: tuple[int, str, int]) -> None:
        self._tables[key] = tuple(self._host(server) for server in targets(self.world, *key))

    def server_changed(self, server: Server) -> None:
        self._catch_up()
        host = self._host(server)
        host.renew()
        if server in self._live_proxies and self._is_another_proxy(host):
            self._adopt(server)
        if not self.ended:
            for connection in self.connections:
                connection.on_server(host)
                if self.ended:
                    break
        self._settle()

    def rules_changed(self, node: int, service: str) -> None:
        self._catch_up()
        for key in self._tables:
            if key[:2] == (node, service):
                self._renew_table(key)
        for proxy in self.proxies.values():
            for line in proxy.lines:
                self._renew_line(line)
        if not self.ended:
            for connection in self.connections:
                connection.on_lines()
            for proxy in self.proxies.values():
                for waiting in list(proxy.waiting):
                    waiting.wake()
        self._settle()

    def _deletion(self, node: int) -> None:
        """An open loop's answers wait while the servers of *node* have no core."""
        self._catch_up()
        goes_on = node in self.world.pod_work and self.timing.signal_heard.mean_s > 0
        for host in list(self._hosts.values()):
            if host.server.pod.node == node:
                host.held_until_s = self.clock.now_s + self.timing.signal_heard.draw_s(self._rng)
                starts = self.clock.now_s >= host.waits_until_s
                host.waits_until_s = self.clock.now_s + BURST_S
                if goes_on and starts:
                    self.clock.start(self._wait_again(host))
        self._settle()

    def _wait_again(self, host: Host) -> Steps:
        """While the deletion is at work *host* has its core for as small a share of the time as kube-proxy."""
        at_rest_s = self.timing.proxy_sync_at_rest.mean_s
        waits_per_run = (self.timing.proxy_sync.mean_s / at_rest_s if at_rest_s else 1.0) - 1
        while waits_per_run > 0:
            yield host.held_until_s + self.timing.signal_heard.draw_s(self._rng) / waits_per_run
            if self.clock.now_s >= host.waits_until_s:
                return
            host.held_until_s = self.clock.now_s + self.timing.signal_heard.draw_s(self._rng)

    def pick(self, source: int) -> Host | None:
        """Whom the next SYN of the client at *source* meets."""
        table = self._tables[self._entry]
        if not table:
            return None
        if self.world.services[self.load.service].session_affinity_s is None:
            return table[int(self.share() * len(table))]
        if self._affine.get(source) not in table:
            self._affine[source] = table[int(self.share() * len(table))]
        return self._affine[source]

    def lets_in(self, client: tuple[int, int], host: Host) -> bool:
        """Whether a SYN from *client* does not meet an old connection."""
        return self._masquerade is None or self._masquerade.lets_in(client, host, self.clock.now_s)

    def closed_by_server(self, link: Link) -> None:
        if self._masquerade is not None:
            self._masquerade.closed(link.client, self.clock.now_s)

    def forgets(self, host: Host, sent_s: float) -> bool:
        """Whether a SYN sent then to *host*, which has vanished, is forgotten with the host's device."""
        if self.forwarded or self.world.services[self.load.service].headless:
            return False
        if host not in self._forgotten:
            self._forgotten[host] = (host.server.vanished_s or 0.0) + self.timing.forgets.draw_s(self._rng)
        return sent_s <= self._forgotten[host]

    def _look_at_waits(self) -> Steps:
        """The longer connects wait, the less do the others for the CPU."""
        assert self._masquerade is not None
        while True:
            yield self.clock.now_s + LOOKS_EVERY_S
            table, now_s = self._tables[self._entry], self.clock.now_s
            p = sum(self._masquerade.p_refused(host, now_s) for host in table) / max(1, len(table))
            again_s = self.timing.time_wait_again.mean_s
            self._waits.share_the_cpu(connect_waits_s=p * again_s + p**2 / (1 - p))
            self._draw_waits()

    def ports(self, source: int) -> Ports:
        """Of the client's address *source*."""
        if source not in self._ports:
            self._ports[source] = Ports(self.share)
        return self._ports[source]

    def pick_behind(self, proxy: Proxy, line: Line) -> Host | None:
        """Whom the next SYN of *proxy* to *line* meets. Its pod is one source address."""
        if line.live.is_slot:
            return line.slot_host
        table = self._tables[line.key]
        if not table:
            return None
        if self.world.services[line.live.service].session_affinity_s is None:
            return table[int(self.share() * len(table))]
        if proxy.affine.get(line) not in table:
            proxy.affine[line] = table[int(self.share() * len(table))]
        return proxy.affine[line]

    # ------------------------------------------------------------------ time

    @property
    def over(self) -> bool:
        self._catch_up()
        if self.ended:
            self._hang_up()
        return self.ended

    @property
    def utilisation(self) -> float:
        """Share of the cores that the load takes: what the cluster feels of a paced one."""
        return self._waits.utilisation

    @property
    def n_at_work(self) -> int:
        """Connections that neither wait for a dead address nor pause before their proxy's next attempt."""
        self._catch_up()
        return self._n_at_work()

    def _n_at_work(self) -> int:
        return sum(not connection.stands for connection in self.connections)

    @property
    def n_runnable(self) -> int:
        """Processes of the node that want a core: its own, the client and, unless all is refused, one of each tier."""
        self._catch_up()
        return self._n_runnable()

    def _n_runnable(self) -> int:
        return 1 + min(self._n_at_work(), 1 if self._all_refuse() else 2 + int(self.has_proxy))

    @property
    def share_at_work(self) -> float:
        return 1.0 if isinstance(self.load.arrivals, OpenLoop) else self.n_at_work / len(self.connections)

    @property
    def tally(self) -> Tally:
        """As it is now."""
        self._catch_up()
        return self._tally

    def start(self) -> None:
        self.env.process(self._begin())

    def _begin(self) -> Generator[simpy.Event, Any, None]:
        yield self.env.timeout(0)  # proxies settle at time zero
        self.rules_changed(CLIENT_NODE, self.load.service)
        if isinstance(self.load.arrivals, OpenLoop):
            self._idle = deque(self.connections)
            for connection in self.connections:
                connection.task = self.clock.start(connection.serve())
            self.clock.start(self._arrive(self.load.arrivals))
        else:
            for connection in self.connections:
                connection.task = self.clock.start(connection.live(self._waits.cycle_s * self.share()))
        if self._masquerade is not None:
            self.clock.start(self._look_at_waits())
        if self.load.duration_s is not None:
            yield self.env.timeout(self.load.duration_s)
            self._catch_up()
            self.stop()
            self._settle()

    def _catch_up(self) -> None:
        self._look_at_cores()
        self.clock.advance(float(self.env.now))

    def _look_at_cores(self) -> None:
        """Before any change of it, so that it holds for all the steps since the last one."""
        if self._work is not None:
            self._cores_wanted = self._work.wanted
            if self.saturating:
                alone = self.timing.node_utilisation * self._cores + self._n_runnable() - 1
                self.slowdown = max(self._cores, alone + self._cores_wanted) / max(self._cores, alone)
                at_rest_s = self.timing.proxy_sync_at_rest.mean_s
                if self._work.in_burst and at_rest_s:  # servers are as far behind as kube-proxy
                    self.slowdown = max(self.slowdown, self.timing.proxy_sync.mean_s / at_rest_s)

    def _settle(self) -> None:
        """After steps: end what has ended, and see to it that a drain is heard of when it is over."""
        if self.ended:
            self._hang_up()
        elif any(self._is_watched(host) for host in self._hosts.values()):
            self._n_watch += 1
            self.env.process(self._watch(self._n_watch))

    @staticmethod
    def _is_watched(host: Host) -> bool:
        stop = host.stop
        return host.phase is ServerPhase.DRAINING and stop is not None and stop.exit is ExitWhen.DRAINED

    def _watch(self, n: int) -> Generator[simpy.Event, Any, None]:
        """Step by step, so that the last connection of a drain ends at its own time."""
        while n == self._n_watch and not self.ended and (next_s := self.clock.next_s) < NEVER:
            yield self.env.timeout(max(0.0, next_s - float(self.env.now)))
            if n == self._n_watch:
                self._catch_up()
        if self.ended:
            self._hang_up()

    def stop(self) -> None:
        if not self.ended:
            self.ended = self.clock.halted = True
            self.ended_s = self.clock.now_s

    def _hang_up(self) -> None:
        """The client's process has ended: all its connections are closed, nothing is waited for any more."""
        if self._has_hung_up:
            return
        self._has_hung_up = True
        self.spin_change(-self._n_spinning)
        for connection in self.connections:
            unanswered = connection.unanswered if self.kind.gives_up else None
            if unanswered is not None:  # no more requests begin, yet this one is waited for
                link = connection.link
                reused = link is not None and link.n_requests > 1
                self._tally.failures.append(connection.row(unanswered, reused=reused))
            self._tally.n_open += int(connection.busy and unanswered is None)
            if connection.task is not None:
                connection.task.steps.close()
                connection.task = None
        for connection in self.connections:
            connection.hang_up()
        for host, n in self._n_ok.items():
            self._tally.n_by_length[host.server.image.body_bytes] += n
        for tenth, n in self._ok_at.items():
            self._tally.answered.add(n, (tenth + 0.5) / 10, (tenth + 0.5) / 10)

    # ------------------------------------------------------------------ an open loop

    def _arrive(self, arrivals: OpenLoop) -> Steps:
        gap = 1.0 / arrivals.rate_per_s
        gap_s = draws(Exponential(scale_s=gap) if arrivals.poisson else Constant(value_s=gap), self._rng)
        at_s = self.clock.now_s
        while True:
            at_s += gap_s()
            yield at_s
            if not self._idle:
                self._one_more()
                continue
            self._begin_on(self._idle.popleft())

    def _begin_on(self, connection: Connection) -> None:
        connection.begins = True
        connection.wake()

    def _one_more(self) -> None:
        """A connection beyond the pool, since none is idle."""
        connection = Connection(self, self._n_opened)
        self._n_opened += 1
        self.connections.append(connection)
        connection.begins = True
        connection.task = self.clock.start(connection.serve())

    def free(self, connection: Connection) -> bool:
        """Back to the pool; False if that is full, which ends the connection."""
        if len(self._idle) < self.load.connections:
            self._idle.append(connection)
            return True
        self.connections.remove(connection)
        return False

    # ------------------------------------------------------------------ outcomes

    def retried(self) -> None:
        self._tally.n_retried += 1

    def succeed(self, host: Host, *, late: bool) -> None:
        self._tally.n_ok += 1
        if late:
            self._tally.n_late += 1
        self._n_ok[host] += 1
        self._ok_at[int(self.clock.now_s * 10)] += 1
        if self._n_left < NEVER:
            self._one_less()

    def fail(self, failure: Failure) -> None:
        if self.ended:
            self._tally.n_open += 1
            return
        self._tally.failures.append(failure)
        self._one_less()
        if ends_the_run(self.kind.name, self.load.options, failure.seen):
            self.stop()

    def _one_less(self) -> None:
        self._n_left -= 1
        if self._n_left <= 0:
            self.stop()

    def refused(self, connection: Connection, cause: Cause, pod: str | None) -> Steps:
        """What refused connects cost a client without pause: its CPU, shared by all its connections.

        While every endpoint refuses it fails request after request, as fast as that goes.
        """
        if not self.saturating:
            return
        clock, cost_s = self.clock, self.timing.refused_cpu_s * self.load.connections
        if not self._all_refuse():
            yield from connection.until(clock.now_s + cost_s)
            return
        if ends_the_run(self.kind.name, self.load.options, Seen.REFUSED):
            return
        wait_s = draws(Exponential(scale_s=cost_s), self._rng)
        own = 1 + self.timing.node_utilisation * self._cores
        like = {"seen": Seen.REFUSED, "reused": False, "connection": connection.index, "phase": "connecting"}
        while True:
            connection.turn_s = clock.now_s
            stretch = max(1.0, (own + self._cores_wanted) / self._cores)
            yield from connection.until(clock.now_s + wait_s() * stretch)
            if not self._all_refuse():
                return
            self.fail(Failure(at_s=clock.now_s, cause=cause, pod=pod, **like))

    def _all_refuse(self) -> bool:
        return all(refusal(host) is not None for host in self._tables[self._entry])

    def hears_nothing(self, connection: Connection) -> None:
        """When no connection hears anything, ab waits its `-s` and ends itself; another SYN is nothing heard."""
        if not connection.unheard:
            connection.unheard = True
            self._hang_change(1)

    def hears(self, connection: Connection) -> None:
        if connection.unheard:
            connection.unheard = False
            self._hang_change(-1)

    def _hang_change(self, change: int) -> None:
        self._n_hanging += change
        self._n_hanging_changes += 1
        if self.kind.name == "ab" and self._n_hanging == len(self.connections):
            self.clock.start(self._give_up(self._n_hanging_changes))

    def _give_up(self, n: int) -> Steps:
        yield self.clock.now_s + float(self.load.options.get("s", AB_GIVES_UP_AFTER_S))
        if n == self._n_hanging_changes and not self.ended:
            self._tally.gave_up = True
            self.stop()

    def spin(self, steps: Steps) -> Steps:
        """*steps*, during which the client's poll loop runs free on a connect in error."""
        self.spin_change(1)
        yield from steps
        self.spin_change(-1)

    def spin_change(self, change: int) -> None:
        if self._n_spinning:
            self._tally.spun_s += self.clock.now_s - self._spinning_from_s
        self._n_spinning += change
        self._spinning_from_s = self.clock.now_s

    # ------------------------------------------------------------------ a client without pause

    def off_cpu_s(self) -> float:
        """How long it still waits for a core at this instant: one draw for all its connections. [s]"""
        if self._off_cpu[0] != self.clock.now_s:
            waits = self.saturating and self.share() < 1 - self._cores / self._n_runnable()
            turn_s = self.timing.scheduler_turn.draw_s(self._rng) if waits else 0.0
            self._off_cpu = (self.clock.now_s, turn_s)
        return self._off_cpu[1]
