"""The cruise of a connection: while nothing changes its requests are counted, not stepped through.

It ends where something changes, or where one of its requests will meet a bad target; then the connection is put
into the middle of a request, as a step-by-step run would have it there (pace.py).
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

import simpy

from sim.traffic import balance
from sim.traffic.hop import keeps_backends, reuses_first
from sim.traffic.keepalive import age_limit_s, min_idle_s
from sim.traffic.links import Link, Stage
from sim.traffic.pace import REFUSED, Moment, Pace, Segment
from sim.traffic.routing import Refusal, Way, pick_way, refusal
from sim.waiting import NEVER
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.exchange import Connection

MAX_HAZARD: Final = 0.6
"""Above this share of bad targets it is not worth drawing the next hit: requests go one by one."""
_TRIES: Final = 64
"""Draws of a moment that is consistent with the next hit being still to come."""


@dataclass(frozen=True, slots=True)
class Resume:
    """A request met in the middle: what it was doing, for how long already and still, and on which way."""

    stage: Stage
    behind_proxy: bool
    elapsed_s: float
    remaining_s: float
    way: Way
    refused: Refusal | None = None
    """Its connect was refused; the client has yet to turn to the next one."""

    @property
    def is_idle(self) -> bool:
        return self.stage in (Stage.IDLE, Stage.READING)


@dataclass(frozen=True, slots=True)
class Outlook:
    """The ways of the coming requests, by what becomes of those that take them."""

    ways: Sequence[Way] = ()
    good: Sequence[Way] = ()
    bad: Sequence[Way] = ()
    """Requests that take them must go one by one."""
    refused: Sequence[tuple[Way, Refusal]] = ()
    """They refuse every connect, of a client that goes on at once."""
    servers: frozenset[Server] = frozenset()

    @classmethod
    def of(cls, ways: Sequence[Way], refusal_of: Callable[[Way], Refusal | None]) -> Self:
        """Each way by the health of its server now."""
        others = [(way, refusal_of(way)) for way in ways if not way.target.healthy]
        return cls(
            ways=ways,
            good=[way for way in ways if way.target.healthy],
            bad=[way for way, why in others if why is None],
            refused=[(way, why) for way, why in others if why is not None],
            servers=_servers(ways),
        )

    @property
    def p_bad(self) -> float:
        """How many of the requests take a bad way."""
        return sum(way.share for way in self.bad) / sum(way.share for way in self.ways) if self.bad else 0.0

    @property
    def p_refused(self) -> float:
        """Of the requests that need no steps."""
        if not self.refused:
            return 0.0
        share_refused = sum(way.share for way, _ in self.refused)
        return share_refused / (share_refused + sum(way.share for way in self.good))


def _servers(ways: Sequence[Way]) -> frozenset[Server]:
    return frozenset(server for way in ways for server in (way.front, way.target))


class Cruise:
    def __init__(self, conn: "Connection") -> None:
        self._conn = conn
        self.under_way = False
        """The connection's phase is not known: it is drawn when something changes."""
        self._outlook = Outlook()
        self.pace: Pace
        self._began_s = 0.0
        self._clock_s = 0.0
        """When the cycles of this pace begin, as the client sees time. [s]"""
        self._first: Moment | None = None
        """Under way until then, since the pace has changed."""
        self._n_stop: int | None = None
        self._met: Resume | None = None

    @property
    def follows_rules(self) -> bool:
        """Whether other rules change anything: they do not for a kept connection straight to its pod."""
        return self.under_way and (self._conn.link is None or self._conn.traffic.has_proxy)

    def concerns(self, server: Server) -> bool:
        return server in self._outlook.servers

    # ------------------------------------------------------------------ whether

    def ways(self) -> Sequence[Way]:
        """The ways of the coming requests; empty where they cannot be drawn together."""
        conn, traffic = self._conn, self._conn.traffic
        if traffic.stepwise or conn.old_port is not None:
            return []
        if traffic.keeps:
            link = conn.link
            if link is None or link.fin or not link.server.healthy:
                return []
            if float(conn.env.now) - link.opened_s >= age_limit_s(link.server):
                return []
            return self._ways_from((link.server,))
        return self._ways_from(traffic.targets(conn.source))

    def ways_of_a_new_link(self) -> Sequence[Way]:
        """Those of a request that opens a connection; empty where they cannot be drawn together."""
        traffic = self._conn.traffic
        if traffic.keeps and (traffic.keeps_backends or traffic.is_sticky):
            return []
        return self._ways_from(traffic.targets(self._conn.source))

    def _ways_from(self, fronts: tuple[Server, ...]) -> Sequence[Way]:
        """Without a proxy they are the same for all connections, until something changes."""
        traffic = self._conn.traffic
        if traffic.has_proxy:
            return self._find_ways(fronts)
        if fronts not in traffic.ways_from:
            traffic.ways_from[fronts] = self._find_ways(fronts)
        return traffic.ways_from[fronts]

    def _find_ways(self, fronts: Sequence[Server]) -> list[Way]:
        traffic = self._conn.traffic
        ways: list[Way] = []
        for front in fronts:
            beyond = self._beyond(front, 1 / len(fronts))
            if not beyond:
                return []
            ways += beyond
        if any(traffic.is_hazardous(way.front) or traffic.is_hazardous(way.target) for way in ways):
            return []
        outlook = traffic.outlook(ways, self._refusal)
        p_bad = sum(way.share for way in outlook.bad)
        return ways if outlook.good and p_bad <= MAX_HAZARD else []

    def _refusal(self, way: Way) -> Refusal | None:
        """Why each connect that takes *way* fails at once, if it does and may be counted."""
        no_pause = self._conn.traffic.no_pause
        return refusal(way.front) if no_pause is not None and no_pause.counts_refused else None

    def _beyond(self, front: Server, share: float) -> list[Way]:
        """The ways from *front* on; empty where a request there can meet what is not drawn."""
        conn, traffic = self._conn, self._conn.traffic
        proxy = traffic.proxies.get(front)
        if proxy is None:
            return [Way(share, front, front)]
        if not front.healthy or traffic.may_queue(proxy):
            return []
        keeps = keeps_backends(proxy) and (traffic.keeps or reuses_first(proxy))
        ways: list[Way] = []
        for line, line_share in balance.shares(proxy):
            if keeps:
                kept = conn.hop.kept.get(line)
                if kept is None or kept.fin:
                    return []
                ways.append(Way(share * line_share, front, kept.server, line))
                continue
            possible = proxy.targets(traffic.world, line)
            if not possible:
                return []
            ways += [Way(share * line_share / len(possible), front, target, line) for target in possible]
        if not balance.is_steady(proxy) and not all(way.target.healthy for way in ways):
            return []
        return ways

    # ------------------------------------------------------------------ how far

    def run(self, ways: Sequence[Way]) -> Generator[simpy.Event, Any, Resume | None]:
        """Sleep until something changes (the request met is returned) or the next request needs steps."""
        conn, rng, traffic = self._conn, self._conn.rng, self._conn.traffic
        p_bad = traffic.outlook(ways, self._refusal).p_bad
        n_to_hit = int(rng.geometric(p_bad)) - 1 if p_bad else None
        n_to_close = self._n_to_close()
        n_stop = min((n for n in (n_to_hit, n_to_close) if n is not None), default=None)
        self.rest(ways, n_stop)
        stop_s, ages_s = NEVER, self._ages_at_s() - float(conn.env.now)
        if n_stop is not None and n_stop * self.pace.mean_s < 2 * traffic.longest_s:
            stop_s = self.pace.cycles_s(n_stop, rng) * traffic.cores.slowdown_of_cycles
        passed = yield conn.nap.begin(min(stop_s, ages_s))
        if not self.under_way:
            return self._met
        if not passed or ages_s < stop_s or n_stop is None:
            self.meet()
            return self._met
        self.under_way = False
        self.count(n_stop)
        if n_stop == n_to_close:
            self._close_spent()
        if n_stop == n_to_hit:
            conn.steer(self._outlook.bad)
        return None

    def rest(
        self, ways: Sequence[Way], n_stop: int | None = None, *, good: Sequence[Way] | None = None
    ) -> None:
        """From now on nobody follows the connection, until a change of one of its servers meets it.

        *good*: the ways whose requests succeed, if not those that end at what is healthy now.
        """
        traffic = self._conn.traffic
        if good is None:
            self._outlook = traffic.outlook(ways, self._refusal)
        else:
            self._outlook = Outlook(ways=ways, good=good, servers=_servers(ways))
        self.pace = traffic.request_cycle.pace(self._outlook)
        self._began_s = float(self._conn.env.now)
        self._clock_s = traffic.cores.cycles_s
        self._first = None
        self._n_stop = n_stop
        self._met = None
        self.under_way = True

    def retune(self) -> bool:
        """Go on by the pace of now; False where that needs a look at the connection.

        The segment under way is lived out first; the cycle that it belongs to begins anew after it, which is half a
        request too few.
        """
        if self._n_stop is not None or self._outlook.refused:
            return False
        moment = self._moment_now()
        self.count(moment.n_done)
        self._first = moment
        self._began_s = float(self._conn.env.now)
        self._clock_s = self._conn.traffic.cores.cycles_s + moment.remaining_s
        self.pace = self._conn.traffic.request_cycle.pace(self._outlook)
        return True

    def _moment_now(self) -> Moment:
        left_s = self._clock_s - self._conn.traffic.cores.cycles_s
        if self._first is None or left_s <= 0:
            return self._moment(-left_s)
        gone_s = self._first.remaining_s - left_s
        return replace(self._first, n_done=0, elapsed_s=self._first.elapsed_s + gone_s, remaining_s=left_s)

    def meet(self) -> None:
        """Something changes now: find out what the connection is doing, before anybody acts on the change."""
        moment = self._moment_now()
        n_done = moment.n_done if self._n_stop is None else min(moment.n_done, max(0, self._n_stop - 1))
        self.count(n_done)
        self.resume(moment)

    def count(self, n: int) -> None:
        """*n* more requests have come to their end since it began."""
        n -= self._count_refused(n)
        self._conn.traffic.count_ok(n, self._outlook.good, since_s=self._began_s)
        for link, share in self._links():
            link.n_requests += round(n * share)

    def _count_refused(self, n: int) -> int:
        """How many of *n* were."""
        conn, refused, no_pause = self._conn, self._outlook.refused, self._conn.traffic.no_pause
        if no_pause is None or not refused or n == 0:
            return 0
        p_refused = self._outlook.p_refused
        left = n_refused = int(conn.rng.binomial(n, p_refused))
        for index, (way, why) in enumerate(refused):
            rest = sum(each.share for each, _ in refused[index:])
            here = int(conn.rng.binomial(left, min(1.0, way.share / rest)))
            no_pause.count_refused(here, conn, why, since_s=self._began_s, share=p_refused)
            left -= here
        return n_refused

    def _moment(self, elapsed_s: float) -> Moment:
        """Where the connection is, given that the request which needs steps has not begun."""
        moment = self.pace.after(elapsed_s, self._conn.rng)
        for _ in range(_TRIES):
            if self._n_stop is None or moment.n_done < self._n_stop:
                break
            moment = self.pace.after(elapsed_s, self._conn.rng)
        return moment

    def _links(self) -> list[tuple[Link, float]]:
        """Connections that live on from request to request, with the share of the requests that each takes."""
        link, hop = self._conn.link, self._conn.hop
        lines = [] if hop.proxy is None else balance.shares(hop.proxy)
        kept = [(hop.kept[line], share) for line, share in lines if line in hop.kept]
        return kept if link is None else [(link, 1.0), *kept]

    def _n_to_close(self) -> int | None:
        """Requests until a server announces that it closes a connection."""
        left = [
            (self._conn.traffic.requests_per_link(link.server) - link.n_requests) / share
            for link, share in self._links()
        ]
        n = min(left, default=float("inf"))
        return None if n == float("inf") else max(0, int(n))

    def _ages_at_s(self) -> float:
        return min(
            (link.opened_s + age_limit_s(link.server) for link, _ in self._links()), default=float("inf")
        )

    def _close_spent(self) -> None:
        """The answers that used up a connection's requests have said so."""
        conn = self._conn
        for link, _ in self._links():
            if link.n_requests >= conn.traffic.requests_per_link(link.server):
                if link is conn.link:
                    conn.drop_link()
                else:
                    conn.hop.forget(link)

    # ------------------------------------------------------------------ back into the middle

    def resume(self, moment: Moment | None) -> Resume | None:
        """Put the connection into the middle of a request, on one of the ways that it could have taken.

        None: it is idle, between two requests of an open loop.
        """
        self.under_way = False
        if moment is None:
            return None
        conn, traffic = self._conn, self._conn.traffic
        segment = moment.segment
        if moment.route.kind == REFUSED:
            return self._resume_refused(moment)
        way = pick_way(
            [w for w in self._outlook.good if w.target.image.reference == moment.route.kind], conn.rng
        )
        assert way is not None
        connecting = segment.stage is Stage.CONNECTING and not segment.behind_proxy
        if conn.link is None and segment.stage is not Stage.IDLE and not connecting:
            conn.link = conn.open_link(way.front)
        if conn.link is not None and segment.stage is not Stage.IDLE:
            conn.link.n_requests += 1
            conn.link.young = traffic.request_cycle.think_s(conn.rng) < min_idle_s(conn.link.server)
        if segment.behind_proxy and segment.stage is not Stage.CONNECTING:
            proxy = traffic.proxies[way.front]
            assert way.line is not None
            conn.hop.enter(proxy)
            conn.hop.take_line(way.line)
            if not conn.hop.take_kept(way.line):
                conn.hop.open(way.target)
        met = Resume(segment.stage, segment.behind_proxy, moment.elapsed_s, moment.remaining_s, way)
        if self._outlook.bad and not self._is_drawn(segment):
            self._steer_clear()
        if met.is_idle:
            conn.found_idle(float(conn.env.now) - moment.elapsed_s)
        conn.hop.sweep()
        conn.is_idle = met.is_idle
        self._met = met
        return met

    def _resume_refused(self, moment: Moment) -> Resume:
        """In the middle of a refused connect, or of the waits before it."""
        refused = self._outlook.refused
        way = pick_way([way for way, _ in refused], self._conn.rng)
        why = next(why for each, why in refused if each is way)
        assert way is not None
        answered = moment.segment is moment.route.segments[-1]
        if self._outlook.bad and not answered:
            self._steer_clear()
        self._conn.is_idle = False
        self._met = Resume(
            Stage.CONNECTING, False, moment.elapsed_s, moment.remaining_s, way, why if answered else None
        )
        return self._met

    def _steer_clear(self) -> None:
        """The next hit has been drawn already, and is not the next request."""
        self._conn.steer([*self._outlook.good, *(way for way, _ in self._outlook.refused)])

    def _is_drawn(self, segment: Segment) -> bool:
        """Whether a request in *segment* has met its server already."""
        if self._conn.traffic.has_proxy:
            return segment.stage is Stage.READING or (
                segment.behind_proxy and segment.stage is not Stage.CONNECTING
            )
        return segment.stage not in (Stage.IDLE, Stage.CONNECTING)
