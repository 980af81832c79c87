"""Do two layers fail the same requests? Paired tests that are exact for any distribution, with their power.

A pair is one rollout, twice: the same seed gives both layers the same cluster, so that what differs is their own
chance. If both have one distribution, which of the two is called the first is arbitrary, and every difference d
may as well have the other sign. For such sums Hoeffding's bound holds without any approximation:

    P(|sum of ±d| >= z · sqrt(sum of d²)) <= 2 exp(-z²/2)
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy import stats

Counts = Mapping[str, float]
"""By name: a cause, what was seen, answered, repeated."""
Pairs = Sequence[tuple[Counts, Counts]]
Statistic = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Verdict:
    """One comparison, over all scenarios."""

    name: str
    z: float
    p: float
    """Upper bound of the probability of such a difference between equals."""
    mean: float
    """Of both layers, over all pairs."""
    shift: float
    """Estimate of (first - second) / mean."""
    notices: float
    """The shift of the mean that is found with probability 1 - missed; infinite where nothing ever differs."""


def number(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return a, b


def spread(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance from the mean of both."""
    middle = np.mean([a, b])
    return (a - middle) ** 2, (b - middle) ** 2


def nothing(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether there was none: what P(zero failures) is made of."""
    return (a == 0).astype(float), (b == 0).astype(float)


STATISTICS: Mapping[str, Statistic] = {"number": number, "spread": spread, "nothing": nothing}


def names(scenarios: Sequence[Pairs]) -> list[str]:
    return sorted({name for pairs in scenarios for pair in pairs for counts in pair for name in counts})


def compare(scenarios: Sequence[Pairs], *, false_alarm: float, missed: float = 0.01) -> list[Verdict]:
    """Every name by every statistic; together they cry wolf with probability *false_alarm* at most."""
    everything = [(name, statistic) for name in names(scenarios) for statistic in STATISTICS]
    critical = math.sqrt(2 * math.log(2 * len(everything) / false_alarm))
    return [_verdict(name, statistic, scenarios, critical, missed) for name, statistic in everything]


def differing(verdicts: Sequence[Verdict], *, false_alarm: float) -> list[Verdict]:
    """Holm: the smallest p against false_alarm / n, the next against false_alarm / (n - 1), and so on."""
    found = []
    for rank, verdict in enumerate(sorted(verdicts, key=lambda each: each.p)):
        if verdict.p > false_alarm / (len(verdicts) - rank):
            break
        found.append(verdict)
    return found


def _verdict(
    name: str, statistic: str, scenarios: Sequence[Pairs], critical: float, missed: float
) -> Verdict:
    """A scenario weighs by what a shift by a share would move there, over its noise; signs do not enter."""
    total = noise = signal = both = n = 0.0
    for pairs in scenarios:
        a = np.array([first.get(name, 0.0) for first, _ in pairs])
        b = np.array([second.get(name, 0.0) for _, second in pairs])
        a, b = STATISTICS[statistic](a, b)
        d, mean = a - b, float(np.mean([a, b]))
        both, n = both + mean * len(d), n + len(d)
        if not (d2 := float(d @ d)):
            continue
        weight = mean * len(d) / d2
        total += weight * float(d.sum())
        noise += weight**2 * d2
        signal += weight * len(d) * mean
    if not noise:
        return Verdict(f"{name}: {statistic}", 0.0, 1.0, both / max(n, 1), 0.0, math.inf)
    z = total / math.sqrt(noise)
    return Verdict(
        name=f"{name}: {statistic}",
        z=z,
        p=min(1.0, 2 * math.exp(-z * z / 2)),
        mean=both / n,
        shift=total / signal,
        notices=(critical + float(stats.norm.isf(missed))) * math.sqrt(noise) / signal,
    )


def thinned(pairs: Pairs, name: str, share: float, rng: Generator) -> Pairs:
    """*pairs* in which the first layer loses each of its *name* with probability *share*."""
    return [
        ({**first, name: float(rng.binomial(int(first.get(name, 0)), 1 - share))}, second)
        for first, second in pairs
    ]
