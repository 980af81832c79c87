"""What a distribution says beside its draws: its tail, its spread, and how long a duration met midway lasts."""

import itertools
import math

from numpy.random import Generator

from sim.errors import ModelBug
from sim.scenario.distributions import Constant, Distribution, Empirical, Exponential, LogNormal, Uniform


def p_longer(duration: Distribution, limit_s: float) -> float:
    """Probability that a draw of *duration* exceeds *limit_s*."""
    match duration:
        case Constant(value_s=value_s):
            return float(value_s > limit_s)
        case Uniform():
            return _share_above(limit_s, duration.min_s, duration.max_s)
        case Exponential(scale_s=scale_s):
            return math.exp(-limit_s / scale_s) if scale_s > 0 else 0.0
        case LogNormal():
            sigma = duration.sigma
            if sigma == 0 or limit_s <= 0:
                return float(duration.median_s > limit_s)
            return 0.5 * math.erfc(math.log(limit_s / duration.median_s) / sigma / math.sqrt(2))
        case Empirical():
            pieces = _pieces(duration)
            return sum(_share_above(limit_s, low_s, high_s) for low_s, high_s in pieces) / len(pieces)
    raise ModelBug(f"{type(duration).__name__}: no tail is known of it")


def second_moment_s2(duration: Distribution) -> float:
    """E[duration²]. [s²]"""
    match duration:
        case Constant(value_s=value_s):
            return value_s**2
        case Uniform():
            return _square(duration.min_s, duration.max_s)
        case Exponential(scale_s=scale_s):
            return 2 * scale_s**2
        case LogNormal():
            return duration.median_s**2 * math.exp(2 * duration.sigma**2)
        case Empirical():
            pieces = _pieces(duration)
            return sum(_square(low_s, high_s) for low_s, high_s in pieces) / len(pieces)
    raise ModelBug(f"{type(duration).__name__}: no second moment is known of it")


def met_midway_s(duration: Distribution, rng: Generator) -> tuple[float, float]:
    """(elapsed, remaining) of a *duration* under way at a random instant. [s]

    Notes
    -----
    Inspection paradox: the length met is drawn in proportion to itself, the instant is uniform within it.
    """
    length_s = _length_biased_s(duration, rng)
    elapsed_s = length_s * float(rng.random())
    return elapsed_s, length_s - elapsed_s


def _length_biased_s(duration: Distribution, rng: Generator) -> float:
    match duration:
        case Constant(value_s=value_s):
            return value_s
        case Uniform():
            return _biased_uniform_s(duration.min_s, duration.max_s, rng)
        case Exponential(scale_s=scale_s):
            return scale_s * float(rng.standard_gamma(2.0))
        case LogNormal():
            sigma = duration.sigma
            return duration.median_s * math.exp(sigma**2 + sigma * float(rng.standard_normal()))
        case Empirical():
            pieces = _pieces(duration)
            at = float(rng.random()) * sum(low_s + high_s for low_s, high_s in pieces)
            for low_s, high_s in pieces:
                at -= low_s + high_s
                if at <= 0:
                    break
            return _biased_uniform_s(low_s, high_s, rng)
    raise ModelBug(f"{type(duration).__name__}: no length-biased draw is known of it")


def _pieces(duration: Empirical) -> list[tuple[float, float]]:
    """Stretches of equal probability, uniform inside."""
    return list(itertools.pairwise(duration.quantiles_s)) or [(duration.quantiles_s[0],) * 2]


def _share_above(limit_s: float, low_s: float, high_s: float) -> float:
    if high_s <= low_s:
        return float(low_s > limit_s)
    return min(1.0, max(0.0, (high_s - limit_s) / (high_s - low_s)))


def _square(low_s: float, high_s: float) -> float:
    return (low_s**2 + low_s * high_s + high_s**2) / 3


def _biased_uniform_s(low_s: float, high_s: float, rng: Generator) -> float:
    return math.sqrt(low_s**2 + float(rng.random()) * (high_s**2 - low_s**2))
