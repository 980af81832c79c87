"""The cycle of a connection in steady state: its segments, how many cycles a time holds, its phase.

While nothing changes a connection is a renewal process: the number of cycles up to a change and the segment in
which the change meets it are drawn, not stepped through. A short time is stepped through cycle by cycle, so
the draw is exact there; a long one uses the renewal theorem (normal count, stationary phase).
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from sim.scenario.distributions import Distribution
from sim.traffic.links import Stage
from sim.traffic.residual import met_midway_s, second_moment_s2

REFUSED: Final = "refused"
"""The kind of a route that ends with a refused connect."""
EXACT_CYCLES: Final = 48
"""Up to so many expected cycles are drawn one by one."""


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

    def cycle_s(self, rng: Generator) -> float:
        return sum(segment.duration.draw_s(rng) for segment in self._route(rng).segments)

    def cycles_s(self, n: int, rng: Generator) -> float:
        """Time that *n* whole cycles take. [s]"""
        if n <= EXACT_CYCLES:
            return sum(self.cycle_s(rng) for _ in range(n))
        return max(0.0, n * self.mean_s + math.sqrt(n * self.variance_s2) * float(rng.standard_normal()))

    def after(self, elapsed_s: float, rng: Generator) -> Moment:
        """Cycles done *elapsed_s* after one began, and the segment under way.

        Notes
        -----
        Mean count of a renewal process (Feller vol. 2, XI.3): t/m + (v/m² - 1)/2, its variance t·v/m³.
        """
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


def _bounds(weights: Sequence[float]) -> list[float]:
    total = sum(weights)
    return [bound / total if total else 0.0 for bound in itertools.accumulate(weights)]


def _place(bounds: Sequence[float], rng: Generator) -> int:
    return min(bisect_left(bounds, float(rng.random())), len(bounds) - 1)


def saturated(
    *,
    connections: int,
    cores: int,
    client_cpu_s: float,
    server_cpu_s: Sequence[tuple[float, int]],
    delay_s: float,
) -> tuple[float, float, float]:
    """A client that sends as fast as answers come: its cycle and where a connection waits.

    Parameters
    ----------
    connections, cores : int
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
    Asymptotic bounds of a closed network (Lazowska et al., Quantitative System Performance, ch. 5): the slowest
    station, the cores that all share, and the population over the uncontended cycle.
    """
    work_s = client_cpu_s + sum(cpu_s for cpu_s, _ in server_cpu_s)
    slowest_s = max(client_cpu_s, work_s / cores, *(cpu_s / n for cpu_s, n in server_cpu_s))
    cycle_s = max(delay_s + work_s, connections * slowest_s)
    waiting_s = cycle_s - delay_s
    at_client_s = waiting_s * client_cpu_s / work_s
    return cycle_s, at_client_s, waiting_s - at_client_s
