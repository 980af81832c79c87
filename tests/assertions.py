"""Statistical assertions that state both errors: how often they cry wolf, and what they are sure to notice.

*false_alarm* is the probability of failing although the claim is true. *notices* is the error that is missed
with at most that probability too: too small a sample is a failure of the test, not a pass.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy import stats

TOO_FEW = "too few events for this claim"


def assert_poisson(count: int, mean: float, *, false_alarm: float, notices: float) -> None:
    """*count* is Poisson(*mean*); a mean that is off by the share *notices* would be noticed."""
    low, high = stats.poisson.ppf([false_alarm / 2, 1 - false_alarm / 2], mean)
    for wrong in (mean * (1 - notices), mean * (1 + notices)):
        missed = stats.poisson.cdf(high, wrong) - stats.poisson.cdf(low - 1, wrong)
        assert missed <= false_alarm, (
            f"{TOO_FEW}: a mean of {wrong:g} is missed with probability {missed:.2g}"
        )
    assert low <= count <= high, f"{count} is outside {low:g}…{high:g}, Poisson({mean:g})"


def assert_binomial(hits: int, n: int, p: float, *, false_alarm: float, notices: float) -> None:
    """*hits* of *n* trials with probability *p*; a probability that is off by *notices* would be noticed."""
    low, high = stats.binom.ppf([false_alarm / 2, 1 - false_alarm / 2], n, p)
    for wrong in (p - notices, p + notices):
        if not 0 <= wrong <= 1:
            continue
        missed = stats.binom.cdf(high, n, wrong) - stats.binom.cdf(low - 1, n, wrong)
        assert missed <= false_alarm, f"{TOO_FEW}: p = {wrong:g} is missed with probability {missed:.2g}"
    assert low <= hits <= high, f"{hits} of {n} is outside {low:g}…{high:g}, p = {p:g}"


def assert_mean(values: Sequence[float], mean: float, *, false_alarm: float, notices: float) -> None:
    """The mean of *values* is *mean*; one that is off by *notices* (same unit) would be noticed.

    Student's t: the values need not be normal where there are some hundred of them.
    """
    sample = np.asarray(values, dtype=float)
    error = sample.std(ddof=1) / math.sqrt(len(sample))
    half = stats.t.ppf(1 - false_alarm / 2, len(sample) - 1) * error
    sure = half + stats.t.ppf(1 - false_alarm, len(sample) - 1) * error
    assert sure <= notices, f"{TOO_FEW}: only an error of {sure:.3g} is sure to be noticed"
    assert abs(sample.mean() - mean) <= half, f"mean {sample.mean():g} is not {mean:g} ± {half:.3g}"


def assert_same_mean(
    left: Sequence[float], right: Sequence[float], *, false_alarm: float, notices: float
) -> None:
    """Both samples have one mean (Welch); a difference of *notices* (same unit) would be noticed."""
    a, b = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    error = math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
    degrees = min(len(a), len(b)) - 1  # never too many: on the safe side for the false alarm
    half = stats.t.ppf(1 - false_alarm / 2, degrees) * error
    sure = half + stats.t.ppf(1 - false_alarm, degrees) * error
    assert sure <= notices, f"{TOO_FEW}: only a difference of {sure:.3g} is sure to be noticed"
    assert abs(a.mean() - b.mean()) <= half, f"means {a.mean():g} and {b.mean():g} differ by over {half:.3g}"


def assert_distribution(
    values: Sequence[float], cdf: Callable[[np.ndarray], np.ndarray], *, false_alarm: float, notices: float
) -> None:
    """*values* come from *cdf*; a distribution at Kolmogorov distance *notices* would be noticed.

    The Dvoretzky-Kiefer-Wolfowitz bound holds for every distribution, so both errors do.
    """
    bound = math.sqrt(math.log(2 / false_alarm) / (2 * len(values)))
    assert 2 * bound <= notices, f"{TOO_FEW}: only a distance of {2 * bound:.3g} is sure to be noticed"
    distance = stats.kstest(values, cdf).statistic
    assert distance <= bound, f"distance {distance:.3g} from the distribution is over {bound:.3g}"


def assert_same_distribution(
    left: Sequence[float], right: Sequence[float], *, false_alarm: float, notices: float
) -> None:
    """Both samples come from one distribution; a Kolmogorov distance of *notices* would be noticed.

    Counts with ties are fine: they only make a false alarm rarer.
    """
    bounds = [math.sqrt(math.log(4 / false_alarm) / (2 * len(sample))) for sample in (left, right)]
    bound = sum(bounds)
    assert 2 * bound <= notices, f"{TOO_FEW}: only a distance of {2 * bound:.3g} is sure to be noticed"
    distance = stats.ks_2samp(left, right).statistic
    assert distance <= bound, f"distance {distance:.3g} between the samples is over {bound:.3g}"
