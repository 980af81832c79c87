"""Requests that start on schedule, whatever became of the earlier ones.

Each takes the connection that has been idle longest; with none idle it opens one more, which is closed when it comes
back to a full pool, as our own client does (validation/clients/plain.py). While every request succeeds nobody steps
through them: those that are over are counted together, only those of the last moments before the next change are
looked at one by one, and who is in the middle of one then is put back there. Where answers outlast the pool, so that
it grows and shrinks, each is looked at, though still none is stepped through.

A deletion holds the answers of its node's servers (`signal_heard`: they have the least CPU weight there is), for one
moment after another while it keeps the node at work. A closed loop waits; an open one goes on to send, opens
connections for it, and has a pool full of idle ones afterwards, each of which the next stop may close: measured with 10
idle, 7 lost in six stops, none without this.
"""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.scenario.model import OpenLoop
from sim.traffic.cruise import Outlook, Resume
from sim.traffic.keepalive import age_limit_s
from sim.traffic.pace import Moment
from sim.traffic.routing import Way, pick, pick_way
from sim.world import PodWork, Server

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
        self._idle: deque[Connection] = deque(traffic.connections)
        """In the order in which they came back."""
        self._suspect: Connection | None = None
        """Whose next request may have failed when last asked."""
        self._calm: _Calm | None = None
        self._busy: dict[Connection, Resume] = {}
        """Whom the last change met in the middle of a request."""
        self._holds_rng = traffic.streams.take("holds")
        self._held_until_s: dict[Server, float] = {}
        self._waiting: set[Server] = set()
        """Those that a deletion's work keeps from their cores, time and again."""

    # ------------------------------------------------------------------ held answers

    def deletion(self, node: int) -> None:
        """The servers of *node* wait for a core behind the work of a deletion, each for times of its own."""
        self.meet()
        work = self._traffic.world.pod_work.get(node)
        for pod in self._traffic.world.pods.values():
            if pod.node == node:
                for server in pod.servers.values():
                    wait_s = self._hold(server)
                    if work is not None and server not in self._waiting:
                        self._waiting.add(server)
                        self._env.process(self._wait_on(server, wait_s, work))

    def _wait_on(self, server: Server, wait_s: float, work: PodWork) -> Steps:
        """Again and again, until the deletion's work is done, with a run between two waits.

        It runs for the share of that time which SharedCores.in_burst leaves to a server (measured with ab: 1 / 2.7,
        validation/calibration/FINDINGS.md). With one wait only 84 connections are opened in drawn-6-11 and 320 in
        drawn-3-07, with these 360 and 344; the real client opened 346, and 352 in each of two runs.
        """
        share_waiting = 1 - 1 / self._traffic.cores.in_burst
        while share_waiting > 0 and self._traffic.timing.signal_heard.mean_s > 0:
            run_s = (1 / share_waiting - 1) * self._traffic.timing.signal_heard.draw_s(self._holds_rng)
            yield self._env.timeout(wait_s + run_s)
            if not work.in_burst:
                break
            if self._calm is not None:
                self._traffic.look()
            wait_s = self._hold(server)
        self._waiting.discard(server)

    def _hold(self, server: Server) -> float:
        """From now on its answers wait for a core; how long. [s]"""
        wait_s = self._traffic.timing.signal_heard.draw_s(self._holds_rng)
        self._held_until_s[server] = float(self._env.now) + wait_s
        return wait_s

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
            if calm := self._calm_now():
                yield from self._rest(calm)
                continue
            self._next_s += self._draw_gap_s()
            self._start(self._idle.popleft() if self._idle else self._traffic.open_one_more(), None)
        for connection in self._idle:
            connection.hang_up()

    def _draw_gap_s(self) -> float:
        return self._gap_s * float(self._rng.standard_exponential()) if self._poisson else self._gap_s

    def _start(self, connection: "Connection", resume: Resume | None) -> None:
        self._env.process(self._serve(connection, resume))

    def _serve(self, connection: "Connection", resume: Resume | None) -> Steps:
        yield from connection.serve(resume)
        if self._traffic.over:
            connection.hang_up()
            return
        if self._calm is not None:
            if ways := self._good_ways(connection):
                self._calm.add(connection, ways)
                self._calm.comes_back(connection, float(self._env.now))
                return
            self._traffic.look()  # the calm is over
        self._take_back(connection)

    def _take_back(self, connection: "Connection") -> None:
        """To the end of the pool, or closed where that is full."""
        traffic = self._traffic
        if len(self._idle) < traffic.load.connections:
            self._idle.append(connection)
            return
        connection.hang_up()
        traffic.connections.remove(connection)
        if self._suspect is connection:
            self._suspect = None

    # ------------------------------------------------------------------ calm

    def _calm_now(self) -> "_Calm | None":
        """A calm, if every idle connection leads to servers that answer, and a new one would."""
        traffic = self._traffic
        if not self._idle or self._any_held():
            return None
        if self._suspect is not None and not self._good_ways(self._suspect):
            return None
        all_ways: dict[Connection, Sequence[Way]] = {}
        for connection in self._idle:
            if not (ways := self._good_ways(connection)):
                self._suspect = connection  # asked first from now on
                return None
            all_ways[connection] = ways
        n_busy = self.rate_per_s * traffic.request_cycle.pace(Outlook(good=all_ways[self._idle[0]])).mean_s
        calm = _Calm(float(self._env.now))
        calm.pool_is_ample = (
            len(self._idle) - n_busy > 3 + 6 * n_busy**0.5
            and len(traffic.connections) <= traffic.load.connections
        )
        if not calm.pool_is_ample:
            calm.newcomers = self._idle[0].cruise.ways_of_a_new_link()
            if not calm.newcomers or not all(way.target.healthy for way in calm.newcomers):
                return None
        for connection, ways in all_ways.items():  # none rests for a calm that does not come
            calm.add(connection, ways)
        return calm

    @staticmethod
    def _good_ways(connection: "Connection") -> Sequence[Way]:
        ways = connection.cruise.ways()
        return ways if all(way.target.healthy for way in ways) else []

    def _rest(self, calm: "_Calm") -> Steps:
        """Sleep until something changes; `meet` has found out then who is in the middle of what."""
        traffic = self._traffic
        self._calm = calm
        yield traffic.changed.next
        self.meet()
        if traffic.over:
            traffic.tally.n_open += len(self._busy)
            return
        busy, self._busy = self._busy, {}
        for connection, resume in busy.items():
            self._start(connection, resume)

    def meet(self) -> None:
        """Something changes now: a calm time ends, and it is found out who is in the middle of a request."""
        calm, self._calm = self._calm, None
        if calm is None:
            return
        traffic, now_s = self._traffic, float(self._env.now)
        from_s = calm.since_s
        if calm.pool_is_ample:
            mean_s = traffic.request_cycle.pace(Outlook(good=calm.ways[self._idle[0]])).mean_s
            from_s = max(from_s, now_s - LOOK_BACK_CYCLES * mean_s)
        n_early, late = self._arrived(from_s, now_s)
        self._pass_over(calm, n_early, from_s)
        met = self._look_at(calm, late, now_s)
        traffic.count_ok(calm.n_done.total(), calm.all_ways(), since_s=calm.since_s)
        for connection in calm.ways:
            if connection.link is not None and traffic.keeps:
                connection.link.n_requests += calm.n_done[connection]
            resume = connection.cruise.resume(met.get(connection))
            if resume is not None:
                self._busy[connection] = resume
        for connection in self._idle:
            connection.found_idle(connection.idle_since_s)
            self._renew(connection)

    def _arrived(self, from_s: float, now_s: float) -> tuple[int, Iterator[float]]:
        """How many requests began before *from_s*, and when the later ones did; the schedule goes on from now."""
        n_early = 0
        if self._next_s < from_s and self._poisson:
            n_early = 1 + int(self._rng.poisson((from_s - self._next_s) / self._gap_s))
            self._next_s = from_s + self._draw_gap_s()
        elif self._next_s < from_s:
            n_early = int((from_s - self._next_s) / self._gap_s) + 1
            self._next_s += n_early * self._gap_s
        return n_early, self._instants(now_s)

    def _instants(self, until_s: float) -> Iterator[float]:
        while self._next_s <= until_s:
            yield self._next_s
            self._next_s += self._draw_gap_s()

    def _pass_over(self, calm: "_Calm", n: int, until_s: float) -> None:
        """*n* requests have gone round an ample pool, the last of them just before *until_s*."""
        for connection in calm.back_by(until_s):
            self._idle.append(connection)
        rounds, more = divmod(n, len(self._idle))
        for place, connection in enumerate(self._idle):
            calm.n_done[connection] += rounds + (place < more)
        self._idle.rotate(-more)
        at_s = until_s
        for connection in islice(reversed(self._idle), n):
            connection.idle_since_s = max(calm.since_s, at_s)
            at_s -= self._draw_gap_s()

    def _look_at(self, calm: "_Calm", instants: Iterator[float], now_s: float) -> "dict[Connection, Moment]":
        """Give each request that began at *instants* its connection; those that are still under way."""
        met: dict[Connection, Moment] = {}
        for at_s in instants:
            for connection in calm.back_by(at_s):
                self._take_back(connection)
            connection = self._idle.popleft() if self._idle else self._newcomer(calm, at_s)
            moment, left_s = connection.cruise.pace.once(now_s - at_s, connection.rng)
            if moment is None:
                calm.n_done[connection] += 1
                calm.comes_back(connection, now_s - left_s)
            else:
                met[connection] = moment
        for connection in calm.back_by(now_s):
            self._take_back(connection)
        return met

    def _newcomer(self, calm: "_Calm", at_s: float) -> "Connection":
        """One more connection; its first request took as long as the others, but for a round trip."""
        connection = self._traffic.open_one_more()
        way = pick_way(calm.newcomers, connection.rng)
        assert way is not None
        ways = list(calm.newcomers)
        if self._traffic.keeps:
            connection.link = connection.open_link(way.front)
            connection.link.opened_s = at_s
            ways = [each for each in calm.newcomers if each.front is way.front]
        calm.add(connection, ways)
        return connection

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


class _Calm:
    """A time in which no request can fail: who takes part, and what has become of their requests."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.ways: dict[Connection, Sequence[Way]] = {}
        """The ways of each connection's requests."""
        self.newcomers: Sequence[Way] = []
        """Those of a connection that is opened meanwhile."""
        self.pool_is_ample = False
        """No request finds it empty, and none comes back to a full one."""
        self.n_done: Counter[Connection] = Counter()
        self._ends: list[tuple[float, int, Connection]] = []

    def add(self, connection: "Connection", ways: Sequence[Way]) -> None:
        self.ways[connection] = ways
        connection.cruise.rest(ways, good=ways)  # a newcomer is thought of when the change has come already

    def all_ways(self) -> Sequence[Way]:
        return [way for ways in self.ways.values() for way in ways]

    def comes_back(self, connection: "Connection", at_s: float) -> None:
        """*connection* has its answer at *at_s*."""
        connection.idle_since_s = at_s
        heappush(self._ends, (at_s, connection.index, connection))

    def back_by(self, until_s: float) -> "Iterator[Connection]":
        """Whose answers have come by *until_s*, in their order."""
        while self._ends and self._ends[0][0] <= until_s:
            yield heappop(self._ends)[-1]
