"""How good predictions are against real runs: verdict, coverage, skill. Arithmetic only.

A *case* is one scenario: the samples of its prediction and the counts of its real runs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

LEVEL: Final = 0.95
MIN_RUNS_FOR_SKILL: Final = 3
"""Fair CRPS needs two runs besides the one left out; fewer that agree prove nothing."""
BOOTSTRAPS: Final = 2000
AGREED_PROBABILITY: Final = 0.9
"""What a prediction should give to the one value on which all real runs agree."""

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scenario's prediction and real runs."""

    name: str
    predicted: Samples
    observed: Samples

    @property
    def agree(self) -> bool:
        """All real runs gave the same count."""
        return bool(np.all(self.observed == self.observed[0]))

    @property
    def all_zero(self) -> bool:
        """No real run lost a request."""
        return not np.any(self.observed)

    @property
    def p_zero(self) -> float:
        """Predicted probability of no failure."""
        return float(np.mean(self.predicted == 0))

    @property
    def interval(self) -> tuple[float, float]:
        """Bounds that hold 95 % of the predicted counts, both included."""
        tail = (1 - LEVEL) / 2
        low, high = np.quantile(self.predicted, [tail, 1 - tail], method="inverted_cdf")
        return float(low), float(high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A score with its 95 % bootstrap interval; None where it has no runs."""

    value: float | None
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """All scores of a group of scenarios. Shares, not percent."""

    scenarios: int
    runs: int
    verdict: Estimate
    """Share of real runs whose "zero or not" is what was predicted."""
    false_safe: int
    """Real runs with failures where zero was predicted: the worst error."""
    brier: Estimate
    """Mean square of P(zero) minus what happened."""
    coverage: Estimate
    """Share of real runs inside the 95 % interval, ties randomised; scenarios without any failure apart."""
    coverage_all_zero: Estimate
    mean_width: float | None
    """Mean width of the intervals that `coverage` speaks of. [requests]"""
    skill: Estimate
    """CRPS of the predictions over the fair CRPS of the real runs left out; 1 true, 2 as one replay."""
    agreed: tuple[tuple[str, float, float], ...]
    """Scenarios whose runs all agree: name, value, probability that was given to it."""


# ---------------------------------------------------------------- one run


def crps(predicted: Samples, observed: float) -> float:
    """Continuous ranked probability score of the empirical distribution of *predicted*. [requests]"""
    return float(np.mean(np.abs(predicted - observed)) - _mean_distance(predicted) / 2)


def _mean_distance(samples: Samples) -> float:
    """Mean of |a - b| over all ordered pairs, each sample with itself too."""
    n = len(samples)
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(2 * np.sum(weights * np.sort(samples)) / n**2)


def fair_crps(others: Samples, observed: float) -> float:
    """CRPS whose expectation does not depend on how many *others* there are (at least 2). [requests]

    Notes
    -----
    The spread is a sum over pairs divided by m(m-1); Ferro (2014), "Fair scores for ensemble forecasts".
    """
    m = len(others)
    return float(np.mean(np.abs(others - observed)) - _mean_distance(others) * m / (m - 1) / 2)


def inside(predicted: Samples, observed: float) -> float:
    """Probability that *observed* falls inside the central 95 % when ties are broken at random.

    The observed value is spread evenly over the probability that the prediction gives to it.
    """
    tail = (1 - LEVEL) / 2
    below, up_to = float(np.mean(predicted < observed)), float(np.mean(predicted <= observed))
    if up_to == below:
        return float(tail <= below <= 1 - tail)
    return max(0.0, min(up_to, 1 - tail) - max(below, tail)) / (up_to - below)


# ---------------------------------------------------------------- a group


def score(cases: Sequence[Case], *, seed: int = 0) -> Scores:
    """Every score of *cases*.

    Intervals resample the scenarios and, inside each, its runs.
    """
    rng = np.random.default_rng(seed)

    def mean_of(chosen: Sequence[Case], each: Callable[[Case], Samples]) -> Estimate:
        return _ratio([(each(case), np.ones(len(case.observed))) for case in chosen], rng)

    failing = [case for case in cases if not case.all_zero]
    spread = [case for case in cases if not case.agree and len(case.observed) >= MIN_RUNS_FOR_SKILL]
    widths = [high - low for low, high in (case.interval for case in failing)]
    return Scores(
        scenarios=len(cases),
        runs=sum(len(case.observed) for case in cases),
        verdict=mean_of(cases, lambda c: ((c.observed == 0) == (c.p_zero >= 0.5)).astype(float)),
        false_safe=sum(int(np.sum(case.observed > 0)) for case in cases if case.p_zero >= 0.5),
        brier=mean_of(cases, lambda c: (c.p_zero - (c.observed == 0)) ** 2),
        coverage=mean_of(failing, _insides),
        coverage_all_zero=mean_of([case for case in cases if case.all_zero], _insides),
        mean_width=float(np.mean(widths)) if widths else None,
        skill=_ratio([_skill_parts(case) for case in spread], rng),
        agreed=tuple(
            (case.name, float(case.observed[0]), float(np.mean(case.predicted == case.observed[0])))
            for case in cases
            if case.agree and len(case.observed) >= MIN_RUNS_FOR_SKILL
        ),
    )


def _insides(case: Case) -> Samples:
    return np.array([inside(case.predicted, y) for y in case.observed])


def _skill_parts(case: Case) -> tuple[Samples, Samples]:
    """For each run: CRPS of the prediction, and fair CRPS of the other runs."""
    ours = [crps(case.predicted, y) for y in case.observed]
    theirs = [fair_crps(np.delete(case.observed, i), y) for i, y in enumerate(case.observed)]
    return np.array(ours), np.array(theirs)


def _ratio(parts: Sequence[tuple[Samples, Samples]], rng: np.random.Generator) -> Estimate:
    """Sum of the first over sum of the second, pooled over all runs, with its bootstrap interval."""
    total = sum(float(np.sum(below)) for _, below in parts)
    if not parts or total <= 0:
        return Estimate(value=None)
    value = sum(float(np.sum(above)) for above, _ in parts) / total
    above_sum, below_sum = np.zeros(BOOTSTRAPS), np.zeros(BOOTSTRAPS)
    times = rng.multinomial(len(parts), np.full(len(parts), 1 / len(parts)), size=BOOTSTRAPS)
    for (above, below), chosen in zip(parts, times.T, strict=True):
        n = len(above)
        weights = rng.multinomial(chosen * n, np.full(n, 1 / n))  # its runs, drawn anew each time
        above_sum += weights @ above
        below_sum += weights @ below
    drawn = above_sum[below_sum > 0] / below_sum[below_sum > 0]
    if not len(drawn):
        return Estimate(value=value)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value=value, interval=(float(low), float(high)))
