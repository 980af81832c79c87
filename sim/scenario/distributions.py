"""Durations as named distributions: data that can be drawn from, with a mean that is known exactly."""

import itertools
import math
from dataclasses import dataclass
from functools import cache
from typing import Final, Protocol, runtime_checkable

from numpy.random import Generator

_Z95: Final = 1.6448536269514722  # 95 % quantile of the standard normal


@runtime_checkable
class Distribution(Protocol):
    """Seconds, drawn from a seeded stream. Never negative."""

    def draw_s(self, rng: Generator) -> float:
        """One duration. [s]"""
        ...

    @property
    def mean_s(self) -> float:
        """Expected duration. [s]"""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    value_s: float

    def draw_s(self, rng: Generator) -> float:  # noqa: ARG002
        return self.value_s

    @property
    def mean_s(self) -> float:
        return self.value_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Uniform:
    min_s: float
    max_s: float

    def draw_s(self, rng: Generator) -> float:
        return self.min_s + (self.max_s - self.min_s) * float(rng.random())

    @property
    def mean_s(self) -> float:
        return (self.min_s + self.max_s) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Exponential:
    scale_s: float

    def draw_s(self, rng: Generator) -> float:
        return self.scale_s * float(rng.standard_exponential())

    @property
    def mean_s(self) -> float:
        return self.scale_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LogNormal:
    """Given as operators read latencies: by median and 95 % quantile."""

    median_s: float
    p95_s: float

    @property
    def sigma(self) -> float:
        """Of its logarithm."""
        return _sigma(self.median_s, self.p95_s)

    def draw_s(self, rng: Generator) -> float:
        return self.median_s * math.exp(_sigma(self.median_s, self.p95_s) * rng.standard_normal())

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)


@cache
def _sigma(median_s: float, p95_s: float) -> float:
    return math.log(p95_s / median_s) / _Z95


@dataclass(frozen=True, slots=True, kw_only=True)
class Empirical:
    """Measured: the quantile function through evenly spaced order statistics, linear in between."""

    quantiles_s: tuple[float, ...]

    def draw_s(self, rng: Generator) -> float:
        quantiles_s = self.quantiles_s
        last = len(quantiles_s) - 1
        place = rng.random() * last
        below = int(place)
        if below >= last:
            return quantiles_s[last]
        low = quantiles_s[below]
        return low + (quantiles_s[below + 1] - low) * (place - below)

    @property
    def mean_s(self) -> float:
        return (
            float(
                sum((a + b) / 2 for a, b in itertools.pairwise(self.quantiles_s))
                / (len(self.quantiles_s) - 1)
            )
            if len(self.quantiles_s) > 1
            else self.quantiles_s[0]
        )
