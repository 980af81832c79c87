"""Tails, moments and residuals against numerical integration and draws."""

import numpy as np
import pytest
from assertions import assert_mean
from hypothesis import given
from hypothesis import strategies as st

from sim.scenario.distributions import Constant, Empirical, Exponential, LogNormal, Uniform
from sim.traffic.residual import met_midway_s, p_longer, second_moment_s2

EVERY = [
    Constant(value_s=0.3),
    Uniform(min_s=0.1, max_s=0.7),
    Uniform(min_s=0.2, max_s=0.2),
    Exponential(scale_s=0.25),
    LogNormal(median_s=0.1, p95_s=0.4),
    LogNormal(median_s=0.1, p95_s=0.1),
    Empirical(quantiles_s=(0.0, 0.05, 0.1, 0.4)),
    Empirical(quantiles_s=(0.2,)),
]
N = 40_000
RATE = 1e-6 / len(EVERY) / 4
"""False alarms of this file: one in a million."""


@pytest.mark.parametrize("duration", EVERY, ids=repr)
def test_tail_and_square_match_draws(duration, streams):
    """p_longer is the share of draws beyond the limit; second_moment_s2 is their mean square."""
    rng = streams.take("draws")
    draws = np.array([duration.draw_s(rng) for _ in range(N)])
    limit_s = duration.mean_s * 1.1 + 1e-9
    p = p_longer(duration, limit_s)
    if 0 < p < 1:
        assert_mean(draws > limit_s, p, false_alarm=RATE, notices=0.03)
    else:
        assert set(draws > limit_s) == {bool(p)}
    if draws.std() > 1e-9:
        assert_mean(draws**2, second_moment_s2(duration), false_alarm=RATE, notices=0.15)
    else:
        assert second_moment_s2(duration) == pytest.approx(duration.mean_s**2)


@pytest.mark.parametrize("duration", EVERY, ids=repr)
def test_midway_is_the_inspection_paradox(duration, streams):
    """Met at a random instant, elapsed and remaining have the mean E[d²] / 2E[d] each."""
    rng = streams.take("draws")
    met = np.array([met_midway_s(duration, rng) for _ in range(N)])
    expected = second_moment_s2(duration) / 2 / duration.mean_s
    for column in met.T:
        assert_mean(column, expected, false_alarm=RATE, notices=0.1 * expected)


@given(st.sampled_from(EVERY), st.floats(0, 2), st.floats(0, 2))
def test_tail_falls(duration, one_s, other_s):
    """A longer limit is exceeded no more often."""
    low_s, high_s = sorted((one_s, other_s))
    assert p_longer(duration, high_s) <= p_longer(duration, low_s)
