"""Differences of pairs: intervals that hold the truth as often as they say."""

import numpy as np
import pytest

from sim.comparison import paired_change, paired_shares
from sim.sweep.unit import outcomes_of


def test_pairs_take_out_what_both_share(streams):
    """A shift of 1 under noise of 100 that both share: seen with 50 pairs, where unpaired ones would not."""
    rng = streams.take("noise")
    shared = rng.normal(0, 100, 50)
    change = paired_change(shared, shared + 1 + rng.normal(0, 0.1, 50))
    assert change.low > 0
    assert change.high - change.low < 0.2
    assert change.difference == pytest.approx(1, abs=0.1)


def test_the_interval_of_a_mean_holds_it_as_often_as_it_says(streams):
    """Poisson counts, 60 pairs, 300 experiments: the truth is inside in 95 %, at least 90 % and at most 99 %.

    False-alarm rate about 1e-4 a side (binomial, allowing 1.5 points for the bootstrap's own error).
    """
    rng = streams.take("counts")
    inside = 0
    for _ in range(300):
        old, new = rng.poisson(20, 60), rng.poisson(17, 60)
        change = paired_change(old, new)
        inside += change.low <= -3 <= change.high
    assert 0.89 <= inside / 300 <= 0.99


def test_the_interval_of_a_share_holds_it_as_often_as_it_says(streams):
    """Correlated pairs, shares 0.9 and 0.8, 400 experiments: inside in at least 91 % (false alarm below 1e-4)."""
    rng = streams.take("shares")
    inside = 0
    for _ in range(400):
        draw = rng.random(100)
        change = paired_shares(draw < 0.9, draw < 0.8)
        inside += change.low <= -0.1 <= change.high
    assert inside / 400 >= 0.91


def test_no_difference_seen_is_not_none_proved():
    """Where no pair differs the share's interval still has a width: that of what could be missed."""
    hits = np.ones(20, dtype=bool)
    change = paired_shares(hits, hits)
    assert change.difference == 0
    assert change.low < 0 < change.high
    assert not change.is_clear
    assert outcomes_of([]).n == 0
