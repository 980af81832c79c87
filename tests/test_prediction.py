"""From replications to a statement: intervals, shares, means."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.advice import EXPLANATIONS, advice_for
from sim.outcomes import Cause
from sim.prediction import prediction_interval, wilson


def test_interval_cuts_the_tails_by_order_statistics():
    """Of 199 draws 0 … 198 the 95 % interval leaves out four below and four above."""
    assert prediction_interval(np.arange(199)) == (4.0, 194.0)


def test_few_draws_give_their_range():
    """Too few for the level: nothing is cut."""
    assert prediction_interval(np.array([3, 1, 2])) == (1.0, 3.0)


def test_interval_covers_a_new_draw():
    """A further draw lies inside with the stated probability: 4000 trials, false alarm below 1e-6."""
    rng = np.random.default_rng(7)
    draws = rng.poisson(40, size=(4000, 200))
    fresh = rng.poisson(40, size=4000)
    inside = sum(
        low <= x <= high for x, (low, high) in zip(fresh, map(prediction_interval, draws), strict=True)
    )
    # ties make the interval of a count wider than asked for, never narrower; 5 sigma below 0.95
    assert inside / 4000 >= 0.95 - 5 * np.sqrt(0.95 * 0.05 / 4000)
    assert inside / 4000 <= 0.985


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(hits_of):
    """The interval of a share lies in 0 … 1 and holds the share itself."""
    hits, n = hits_of
    low, high = wilson(hits, n)
    assert 0 <= low <= hits / n + 1e-12
    assert hits / n - 1e-12 <= high <= 1


def test_wilson_needs_a_trial():
    """No trial, no share."""
    with pytest.raises(ValueError, match="one trial"):
        wilson(0, 0)


def test_wilson_matches_a_published_value():
    """0 of 20: upper bound 0.161 (Brown, Cai and DasGupta 2001)."""
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_every_cause_is_explained():
    """Each cause says what happens, what removes it, what that costs and where the rule comes from."""
    assert set(EXPLANATIONS) == set(Cause)
    for explanation in EXPLANATIONS.values():
        assert all((explanation.happens, explanation.change, explanation.costs, explanation.source))


def test_no_failure_no_advice(tutorial):
    """Nothing fails, nothing to change."""
    assert advice_for(tutorial("1-draining"), {}) is None


def test_kept_connections_need_more_than_another_signal(tutorial):
    """In stage 2 a graceful signal would break the kept connections just the same."""
    advice = advice_for(tutorial("2-keepalive"), {"stop_in_flight": 9.0, "idle_closed": 1.0})
    assert advice is not None
    assert "proxy" in advice


def test_a_stopping_proxy_gets_advice_of_its_own(tutorial):
    """Stage 4: the kept connections end on the proxy itself."""
    advice = advice_for(tutorial("4-proxy-rollout"), {"idle_closed": 10.0})
    assert advice is not None
    assert "SIGUSR1" in advice
