"""Random numbers in blocks: one call of numpy for thousands of draws."""

from collections.abc import Callable, Iterator
from itertools import repeat

import numpy as np
from numpy.random import Generator

from sim.scenario.distributions import Constant, Distribution, Empirical, Exponential, LogNormal, Uniform

Draw = Callable[[], float]
"""One duration more. [s]"""
_FIRST_BLOCK, _LARGEST_BLOCK = 16, 4096


def draws(duration: Distribution, rng: Generator) -> Draw:
    """Independent draws of *duration*, without end."""
    if isinstance(duration, Constant):
        return repeat(duration.value_s).__next__
    return _blocks(lambda n: _block(duration, rng, n)).__next__


def shares(rng: Generator) -> Draw:
    """Numbers in [0, 1)."""
    return _blocks(rng.random).__next__


def _blocks(draw: Callable[[int], np.ndarray]) -> Iterator[float]:
    n = _FIRST_BLOCK
    while True:
        yield from draw(n).tolist()
        n = min(2 * n, _LARGEST_BLOCK)


def _block(duration: Distribution, rng: Generator, n: int) -> np.ndarray:
    match duration:
        case Uniform(min_s=min_s, max_s=max_s):
            return rng.uniform(min_s, max_s, n)
        case Exponential(scale_s=scale_s):
            return rng.exponential(scale_s, n)
        case LogNormal(median_s=median_s, p95_s=p95_s):
            return median_s * (p95_s / median_s) ** (rng.standard_normal(n) / 1.6448536269514722)
        case Empirical(quantiles_s=quantiles_s):
            return np.interp(rng.random(n), np.linspace(0, 1, len(quantiles_s)), quantiles_s)
    raise TypeError(f"no draws of {duration!r}")
