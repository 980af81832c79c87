"""Exact bounds on a share: against scipy, and by what they promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from sim.bounds import at_least, lower_bound, misses_allowed, runs_needed, screen_allows


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_lower_bound_is_clopper_pearson(n, data, confidence):
    """The same as scipy's exact one-sided interval."""
    hits = data.draw(st.integers(0, n))
    exact = binomtest(hits, n, alternative="greater").proportion_ci(confidence, "exact").low
    assert lower_bound(hits, n, confidence) == pytest.approx(exact, abs=1e-6)


@given(st.integers(0, 300), st.integers(1, 300), st.floats(0.001, 0.999))
def test_tail_is_the_binomials(k, n, p):
    """P(X >= k), against scipy."""
    assert at_least(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), abs=1e-9)


def test_299_clean_runs_show_99_percent():
    """The rule of three: none of 299 shows 0.99 with 95 % confidence, none of 298 does not."""
    assert runs_needed(0.99, 0.95) == 299
    assert lower_bound(299, 299, 0.95) >= 0.99 > lower_bound(298, 298, 0.95)
    assert [misses_allowed(n, 0.99, 0.95) for n in (298, 299, 473, 500)] == [-1, 0, 1, 1]


def test_a_change_below_the_target_is_rarely_confirmed():
    """False-alarm rate: with P(none fails) just below the target, at most 1 - confidence are confirmed."""
    for n, target, confidence in ((500, 0.99, 0.95), (299, 0.99, 0.95), (100, 0.9, 0.8)):
        allowed = misses_allowed(n, target, confidence)
        assert binom.cdf(allowed, n, 1 - target) <= 1 - confidence
        assert (
            binom.cdf(allowed + 1, n, 1 - target) > 1 - confidence
        )  # and it is the most that may be allowed


def test_the_screen_rarely_drops_what_reaches_the_target():
    """A change at the target itself passes the screen with 99 %; one that fails every second run does not."""
    allowed = screen_allows(30, 0.99, 0.01)
    assert binom.sf(allowed, 30, 0.01) <= 0.01
    assert binom.cdf(allowed, 30, 0.5) < 1e-5


def test_the_bound_holds_as_often_as_it_says():
    """Simulated: the true share lies below the bound in at most 5 % of 4,000 experiments.

    False-alarm rate below 1e-6: the exact bound's error is at most 0.05, the allowance 5 standard deviations.
    """
    rng = np.random.default_rng(7)
    hits = rng.binomial(200, 0.97, size=4000)
    bounds = {int(h): lower_bound(int(h), 200, 0.95) for h in np.unique(hits)}
    too_high = np.mean([bounds[int(h)] > 0.97 for h in hits])
    assert too_high <= 0.05 + 5 * np.sqrt(0.05 * 0.95 / 4000)
