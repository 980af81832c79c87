"""The cycle of a connection in steady state: its segments, how many cycles a time holds, its phase.

While nothing changes a connection is a renewal process: the number of cycles up to a change and the segment in
which the change meets it are drawn, not stepped through. A short time is stepped through cycle by cycle, so
the draw is exact there; a long one uses the renewal theorem (normal count, stationary phase). A cycle that is rare and
very long would need a very long time for that: each one is drawn for itself, and only those between two are counted.
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from numpy.random import Generator

from sim.scenario.distributions import Distribution
from sim.traffic.links import Stage
from sim.traffic.residual import met_midway_s, second_moment_s2

REFUSED: Final = "refused"
"""The kind of a route that ends with a refused connect."""
EXACT_CYCLES: Final = 48
"""Up to so many expected cycles are drawn one by one."""


FEW_CYCLES: Final = 6
RARE: Final = 0.1
"""Routes that are taken at most so often, together,"""
LONG: Final = 100.0
"""and each take at least so many times as long as the others on average, are stepped through."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a cycle."""

    stage: Stage
    behind_proxy: bool
    duration: Distribution


@dataclass(frozen=True, slots=True)
class Route:
    """The segments of a cycle whose answer comes from one kind of server, and how likely that kind is."""

    share: float
    segments: tuple[Segment, ...]
    kind: str = ""
    """The image that answers."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in its cycle a change meets a connection."""

    n_done: int
    route: Route
    segment: Segment
    elapsed_s: float
    remaining_s: float


class Pace:
    """Cycles, each along a route that is drawn for it; the last segment ends with the request done.

    Raises
    ------
    ValueError
        A cycle takes no time at all.
    """

    def __init__(self, routes: Sequence[Route]) -> None:
        self.routes = tuple(routes)
        self._bounds = _bounds([route.share for route in self.routes])
        means, squares = [], []
        self._places: list[tuple[Route, Segment]] = []
        weights = []
        for route in self.routes:
            each = [segment.duration.mean_s for segment in route.segments]
            variance = sum(
                second_moment_s2(segment.duration) - mean_s**2
                for segment, mean_s in zip(route.segments, each, strict=True)
            )
            means.append(sum(each))
            squares.append(variance + sum(each) ** 2)
            self._places += [(route, segment) for segment in route.segments]
            weights += [route.share * mean_s for mean_s in each]
        shares = [route.share / sum(r.share for r in self.routes) for route in self.routes]
        self.mean_s = sum(share * mean_s for share, mean_s in zip(shares, means, strict=True))
        if self.mean_s <= 0:
            raise ValueError("a cycle takes no time at all")
        second = sum(share * square for share, square in zip(shares, squares, strict=True))
        self.variance_s2 = max(0.0, second - self.mean_s**2)
        self._weights = _bounds(weights)
        self._common, self._rare, self._p_rare = _split(self.routes, means)

    def cycle_s(self, rng: Generator) -> float:
        return sum(segment.duration.draw_s(rng) for segment in self._route(rng).segments)

    def cycles_s(self, n: int, rng: Generator) -> float:
        """Time that *n* whole cycles take. [s]"""
        if n <= EXACT_CYCLES:
            return sum(self.cycle_s(rng) for _ in range(n))
        if self._common is not None and self._rare is not None:
            n_rare = int(rng.binomial(n, self._p_rare))
            rare_s = sum(self._rare.cycle_s(rng) for _ in range(n_rare))
            return rare_s + self._common.cycles_s(n - n_rare, rng)
        return max(0.0, n * self.mean_s + math.sqrt(n * self.variance_s2) * float(rng.standard_normal()))

    def about_s(self, n: int, rng: Generator) -> float:
        """As `cycles_s`, where the sum of a few cycles need not be exact: a gamma of their mean and variance. [s]"""
        if n < FEW_CYCLES or self.variance_s2 == 0:
            return self.cycles_s(n, rng)
        scale_s = self.variance_s2 / self.mean_s
        return scale_s * float(rng.standard_gamma(n * self.mean_s / scale_s))

    def after(self, elapsed_s: float, rng: Generator) -> Moment:
        """Cycles done *elapsed_s* after one began, and the segment under way.

        Notes
        -----
        Mean count of a renewal process (Feller vol. 2, XI.3): t/m + (v/m² - 1)/2, its variance t·v/m³.
        """
        if self._common is not None and self._rare is not None:
            return self._between(self._common, self._rare, elapsed_s, rng)
        if elapsed_s <= EXACT_CYCLES * self.mean_s:
            return self._stepped(elapsed_s, rng)
        mean = elapsed_s / self.mean_s + (self.variance_s2 / self.mean_s**2 - 1) / 2
        spread = math.sqrt(elapsed_s * self.variance_s2 / self.mean_s**3)
        n = max(0, round(mean + spread * float(rng.standard_normal())))
        route, segment = self._places[_place(self._weights, rng)]
        return Moment(n, route, segment, *met_midway_s(segment.duration, rng))

    def once(self, elapsed_s: float, rng: Generator) -> tuple[Moment | None, float]:
        """Where one cycle is *elapsed_s* after it began; None and for how long, where it is over."""
        return self._walk(self._route(rng), elapsed_s, 0, rng)

    def _between(self, common: "Pace", rare: "Pace", elapsed_s: float, rng: Generator) -> Moment:
        """From one rare cycle to the next, those between them counted together."""
        n_done = 0
        while True:
            n = int(rng.geometric(self._p_rare)) - 1
            if (took_s := common.about_s(n, rng)) > elapsed_s:
                moment = common.after(elapsed_s, rng)
                return replace(moment, n_done=n_done + min(moment.n_done, n - 1))
            n_done += n
            met, elapsed_s = rare.once(elapsed_s - took_s, rng)
            if met is not None:
                return replace(met, n_done=n_done)
            n_done += 1

    def _stepped(self, elapsed_s: float, rng: Generator) -> Moment:
        n = 0
        while True:
            moment, elapsed_s = self._walk(self._route(rng), elapsed_s, n, rng)
            if moment is not None:
                return moment
            n += 1

    def _walk(
        self, route: Route, elapsed_s: float, n_done: int, rng: Generator
    ) -> tuple[Moment | None, float]:
        for segment in route.segments:
            duration_s = segment.duration.draw_s(rng)
            if duration_s > elapsed_s:
                return Moment(n_done, route, segment, elapsed_s, duration_s - elapsed_s), 0.0
            elapsed_s -= duration_s
        return None, elapsed_s

    def _route(self, rng: Generator) -> Route:
        return self.routes[0] if len(self.routes) == 1 else self.routes[_place(self._bounds, rng)]


def _split(routes: Sequence[Route], means_s: Sequence[float]) -> tuple[Pace | None, Pace | None, float]:
    """The common routes, the rare long ones, and how often one of these is taken; None where none are."""
    total = sum(route.share for route in routes)
    shortest_s = min(means_s)
    long = [mean_s >= LONG * shortest_s for mean_s in means_s]
    rare = [route for route, is_long in zip(routes, long, strict=True) if is_long]
    p_rare = sum(route.share for route in rare) / total
    if not rare or p_rare > RARE or shortest_s <= 0:
        return None, None, 0.0
    common = [route for route, is_long in zip(routes, long, strict=True) if not is_long]
    return Pace(common), Pace(rare), p_rare


def _bounds(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [bound / total if total else 0.0 for bound in itertools.accumulate(weights)]


def _place(bounds: Sequence[float], rng: Generator) -> int:
    return min(bisect_left(bounds, float(rng.random())), len(bounds) - 1)


def _erlang_b(servers: int, offered: float) -> float:
    """Probability that all of them are busy, where who finds none free goes away."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    return blocked


def saturated(
    *,
    connections: float,
    cores: int,
    client_cpu_s: float,
    server_cpu_s: Sequence[tuple[float, int]],
    delay_s: float,
) -> tuple[float, float, float]:
    """A client that sends as fast as answers come: its cycle and where a connection waits.

    Parameters
    ----------
    connections : float
        On average; at least one.
    cores : int
    client_cpu_s : float
        CPU of one request in the single-threaded client. [s]
    server_cpu_s : (CPU of one request [s], number of processes) for each tier
    delay_s : float
        What a request takes besides CPU. [s]

    Returns
    -------
    cycle_s, at_client_s, at_servers_s : float
        One cycle, and the share of it spent waiting for the client's and for the servers' CPU. [s]

    Notes
    -----
    The machine repair model: one queue, at the slowest station, and a delay that holds all else. It is a product form,
    so only the mean of the delay matters (Lazowska et al., Quantitative System Performance, ch. 5 to 7; the queue is
    empty with Erlang's B).
    """
    work_s = client_cpu_s + sum(cpu_s for cpu_s, _ in server_cpu_s)
    slowest_s = max(client_cpu_s, work_s / cores, *(cpu_s / n for cpu_s, n in server_cpu_s))
    elsewhere_s = delay_s + work_s - slowest_s
    n, more = divmod(max(1.0, connections), 1)
    busy = 1 - _erlang_b(int(n), elsewhere_s / slowest_s)
    if more:
        busy += more * (1 - _erlang_b(int(n) + 1, elsewhere_s / slowest_s) - busy)
    cycle_s = (n + more) * slowest_s / busy
    waiting_s = cycle_s - delay_s
    at_client_s = waiting_s * client_cpu_s / work_s
    return cycle_s, at_client_s, waiting_s - at_client_s
