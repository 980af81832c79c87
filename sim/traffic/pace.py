"""The cycle of a closed-loop connection in steady state: its segments, how many cycles a time holds, its phase.

While nothing changes a connection is a renewal process: the number of cycles up to a change and the segment in
which the change meets it are drawn, not stepped through. A short time is stepped through cycle by cycle, so
the draw is exact there; a long one uses the renewal theorem (normal count, stationary phase).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from sim.scenario.distributions import Constant, Distribution, Exponential
from sim.traffic.links import Stage

EXACT_CYCLES: Final = 48
"""Up to so many expected cycles are drawn one by one."""
_POOL: Final = 512
"""Draws that stand for a distribution without a closed form of its residual."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One stretch of a cycle."""

    stage: Stage
    behind_proxy: bool
    duration: Distribution


@dataclass(frozen=True, slots=True)
class Moment:
    """Where in its cycle a change meets a connection."""

    n_done: int
    segment: int
    remaining_s: float


class Pace:
    """Segments of one cycle, in order; the last one ends with the request done."""

    def __init__(self, segments: Sequence[Segment], rng: Generator) -> None:
        self.segments = tuple(s for s in segments if s.duration.mean_s > 0)
        self._pools = [np.array([s.duration.draw_s(rng) for _ in range(_POOL)]) for s in self.segments]
        means = np.array([s.duration.mean_s for s in self.segments])
        self.mean_s = float(means.sum())
        self._weights = np.cumsum(means / self.mean_s)
        self._variance = float(
            sum(_variance(s.duration, pool) for s, pool in zip(self.segments, self._pools, strict=True))
        )

    def cycle_s(self, rng: Generator) -> float:
        return sum(s.duration.draw_s(rng) for s in self.segments)

    def cycles_s(self, n: int, rng: Generator) -> float:
        """Time that *n* whole cycles take. [s]"""
        if n <= EXACT_CYCLES:
            return sum(self.cycle_s(rng) for _ in range(n))
        return max(0.0, n * self.mean_s + math.sqrt(n * self._variance) * float(rng.standard_normal()))

    def after(self, elapsed_s: float, rng: Generator) -> Moment:
        """Cycles done *elapsed_s* after one began, and the segment under way."""
        if elapsed_s <= EXACT_CYCLES * self.mean_s:
            return self._stepped(elapsed_s, rng)
        mean = elapsed_s / self.mean_s
        spread = math.sqrt(elapsed_s * self._variance / self.mean_s**3)
        n = max(0, round(mean - 0.5 + spread * float(rng.standard_normal())))
        segment = int(np.searchsorted(self._weights, rng.random()))
        return Moment(n, segment, self._residual_s(segment, rng))

    def _stepped(self, elapsed_s: float, rng: Generator) -> Moment:
        n, left_s = 0, elapsed_s
        while True:
            for index, segment in enumerate(self.segments):
                duration_s = segment.duration.draw_s(rng)
                if duration_s > left_s:
                    return Moment(n, index, duration_s - left_s)
                left_s -= duration_s
            n += 1

    def _residual_s(self, segment: int, rng: Generator) -> float:
        """What is left of a segment met at a random instant: its length biased by length, times uniform."""
        duration = self.segments[segment].duration
        if isinstance(duration, Exponential):
            return duration.draw_s(rng)
        if isinstance(duration, Constant):
            return duration.value_s * float(rng.random())
        pool = self._pools[segment]
        at = int(np.searchsorted(np.cumsum(pool), rng.random() * pool.sum()))
        return float(pool[min(at, _POOL - 1)] * rng.random())


def _variance(duration: Distribution, pool: np.ndarray) -> float:
    if isinstance(duration, Constant):
        return 0.0
    return float(pool.var())


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
