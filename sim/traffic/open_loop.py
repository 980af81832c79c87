"""Requests that start on schedule, whatever became of the earlier ones.

Each takes an idle connection at random; with none idle it opens one more, which is closed when it comes back to a
full pool, as our own client does (validation/clients/plain.py). While every request succeeds they are counted
together, and only those under way at the next change are put back into their middle.

A deletion holds the answers of its node's servers for a moment (`signal_heard`: they have the least CPU weight there
is). A closed loop waits; an open one goes on to send, opens connections for it, and has a pool full of idle ones
afterwards, each of which the next stop may close: measured with 10 idle, 7 lost in six stops, none without this.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.scenario.model import OpenLoop
from sim.traffic.cruise import Resume
from sim.traffic.keepalive import age_limit_s
from sim.traffic.routing import Way, pick
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection
    from sim.traffic.load import Traffic

Steps = Generator[simpy.Event, Any, None]
LOOK_BACK_CYCLES: Final = 12
"""Requests that began longer ago than so many mean cycles are taken for answered."""


class Arrivals:
    """The schedule of one load and the connections that its requests take."""

    def __init__(self, traffic: "Traffic", arrivals: OpenLoop) -> None:
        self._traffic = traffic
        self._env = traffic.env
        self._rng = traffic.streams.take("arrivals")
        self._poisson = arrivals.poisson
        self._gap_s = 1.0 / arrivals.rate_per_s
        self._next_s = 0.0
        self._idle: list[Connection] = list(traffic.connections)
        self._suspect = self._idle[0]
        self._ways: dict[Connection, list[Way]] = {}
        """The ways of each connection's requests while they are counted together; empty otherwise."""
        self._since_s = 0.0
        self._busy: dict[Connection, Resume] = {}
        self._holds_rng = traffic.streams.take("holds")
        self._held_until_s: dict[Server, float] = {}

    # ------------------------------------------------------------------ held answers

    def deletion(self, node: int) -> None:
        """The servers of *node* wait for a core behind the work of a deletion, each for a time of its own."""
        self.meet()
        now_s, wait = float(self._env.now), self._traffic.timing.signal_heard
        for pod in self._traffic.world.pods.values():
            if pod.node == node:
                for server in pod.servers.values():
                    self._held_until_s[server] = now_s + wait.draw_s(self._holds_rng)

    def held_s(self, server: Server) -> float:
        """How long an answer of *server* that is ready now still waits. [s]"""
        return max(0.0, self._held_until_s.get(server, 0.0) - float(self._env.now))

    def _any_held(self) -> bool:
        return float(self._env.now) < max(self._held_until_s.values(), default=0.0)

    @property
    def rate_per_s(self) -> float:
        return 1.0 / self._gap_s

    def run(self) -> Steps:
        traffic = self._traffic
        self._next_s = float(self._env.now) + self._draw_gap_s()
        while not traffic.over:
            yield self._env.timeout(self._next_s - float(self._env.now))
            if traffic.over:
                break
            if calm := self._ways_if_calm():
                yield from self._calm(calm)
                continue
            self._next_s += self._draw_gap_s()
            self._start(self._next(), None)
        for connection in self._idle:
            connection.hang_up()

    def _draw_gap_s(self) -> float:
        return self._gap_s * float(self._rng.standard_exponential()) if self._poisson else self._gap_s

    def _next(self) -> "Connection":
        if not self._idle:
            return self._traffic.open_one_more()
        return self._idle.pop(int(self._rng.integers(len(self._idle))))

    def _start(self, connection: "Connection", resume: Resume | None) -> None:
        self._env.process(self._serve(connection, resume))

    def _serve(self, connection: "Connection", resume: Resume | None) -> Steps:
        traffic = self._traffic
        yield from connection.serve(resume)
        if traffic.over:
            connection.hang_up()
        elif len(self._idle) < traffic.load.connections:
            self._idle.append(connection)
        else:
            connection.hang_up()
            traffic.connections.remove(connection)

    # ------------------------------------------------------------------ calm

    def _ways_if_calm(self) -> "dict[Connection, list[Way]] | None":
        """The ways of each connection's requests, if all of them lead to servers that answer."""
        connections = self._traffic.connections
        if len(self._idle) < len(connections) or self._any_held() or not self._good_ways(self._suspect):
            return None
        ways: dict[Connection, list[Way]] = {}
        for connection in connections:
            ways[connection] = self._good_ways(connection)
            if not ways[connection]:
                self._suspect = connection  # asked first from now on
                return None
        busy = self.rate_per_s * self._traffic.pace(ways[connections[0]]).mean_s
        spare = len(connections) - busy
        return ways if spare > 3 + 6 * busy**0.5 else None  # else the pool may have to grow

    @staticmethod
    def _good_ways(connection: "Connection") -> list[Way]:
        ways = connection.cruise.ways()
        return ways if all(way.target.healthy for way in ways) else []

    def _calm(self, ways: "dict[Connection, list[Way]]") -> Steps:
        """Sleep until something changes; `meet` has found out then who is in the middle of what."""
        traffic = self._traffic
        self._since_s = float(self._env.now)
        self._ways = ways
        for connection in traffic.connections:
            connection.cruise.rest(ways[connection])
        yield traffic.when_changed()
        if self._ways:
            self.meet()
        if traffic.over:
            traffic.tally.n_open += len(self._busy)
            return
        for connection, resume in self._busy.items():
            self._idle.remove(connection)
            self._start(connection, resume)

    def meet(self) -> bool:
        """Something changes now: whether that ends a calm time, and who is in the middle of a request."""
        if not self._ways:
            return False
        traffic, now_s = self._traffic, float(self._env.now)
        since_s = max(
            self._since_s, now_s - LOOK_BACK_CYCLES * traffic.pace(next(iter(self._ways.values()))).mean_s
        )
        n_done, recent = self._arrived(since_s, now_s)
        self._busy = {}
        for at_s in recent:
            connection = self._free()
            moment = traffic.pace(self._ways[connection]).once(now_s - at_s, connection.rng)
            resume = connection.cruise.resume(moment)
            if resume is None:
                n_done += 1
            else:
                self._busy[connection] = resume
        ways = [way for its in self._ways.values() for way in its]
        traffic.count_ok(n_done, ways, since_s=self._since_s)
        for connection in traffic.connections:
            connection.cruise.resume(None)
        self._age(n_done)
        self._ways = {}
        return True

    def _free(self) -> "Connection":
        while (connection := self._idle[int(self._rng.integers(len(self._idle)))]) in self._busy:
            pass
        return connection

    def _arrived(self, since_s: float, now_s: float) -> tuple[int, list[float]]:
        """How many requests began before *since_s*, and when the later ones did; the schedule goes on from now."""
        if not self._poisson:
            instants = []
            n_before = (
                max(0, int((since_s - self._next_s) / self._gap_s) + 1) if self._next_s <= since_s else 0
            )
            self._next_s += n_before * self._gap_s
            while self._next_s <= now_s:
                instants.append(self._next_s)
                self._next_s += self._gap_s
            return n_before, instants
        n_before, instants = 0, []
        if self._next_s <= since_s:
            n_before = 1 + int(self._rng.poisson((since_s - self._next_s) / self._gap_s))
            self._next_s = since_s + self._draw_gap_s()
        while self._next_s <= now_s:
            instants.append(self._next_s)
            self._next_s += self._draw_gap_s()
        return n_before, instants

    def _age(self, n_done: int) -> None:
        """What the requests of a calm time have done to the connections that are idle now."""
        connections, now_s = self._traffic.connections, float(self._env.now)
        gap_s = len(connections) * self._gap_s
        per_connection = self._rng.multinomial(n_done, [1 / len(connections)] * len(connections))
        for connection, n in zip(connections, per_connection, strict=True):
            if connection.link is not None and self._traffic.keeps:
                connection.link.n_requests += int(n)
            if connection in self._busy:
                continue
            if n:
                connection.idle_since_s = max(
                    self._since_s, now_s - gap_s * float(self._rng.standard_exponential())
                )
            connection.found_idle(connection.idle_since_s)
            self._renew(connection)

    def _renew(self, connection: "Connection") -> None:
        """A server has closed, announced, what had served its requests or its time: the next one is elsewhere."""
        link, traffic = connection.link, self._traffic
        if link is None or link.fin:
            return
        limit = traffic.requests_per_link(link.server)
        aged = float(self._env.now) - link.opened_s > age_limit_s(link.server)
        if link.n_requests < limit and not aged:
            return
        n = link.n_requests
        connection.drop_link()
        server = pick(traffic.targets(connection.source), connection.rng)
        if server is not None and server.healthy:
            connection.link = connection.open_link(server)
            connection.link.n_requests = int(n % limit) if limit < float("inf") else 1
