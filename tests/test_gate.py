"""The gate of pipelines: exact bounds, more rollouts where they are needed, few false passes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom
from seeds import seed_of

from sim.gate import _PER_LOOK, FALSE_PASS, N_LOOKS, Verdict, fewest, hold_gate, judge


@given(st.integers(1, 300), st.data(), st.floats(0.01, 0.99))
def test_the_bounds_are_clopper_and_pearsons(n, data, confidence):
    """Reached where the lower bound is at least the confidence, missed where the upper one is at most it."""
    n_hits = data.draw(st.integers(0, n))
    low = beta.ppf(_PER_LOOK, n_hits, n - n_hits + 1) if n_hits else 0.0
    high = beta.ppf(1 - _PER_LOOK, n_hits + 1, n - n_hits) if n_hits < n else 1.0
    if min(abs(low - confidence), abs(high - confidence)) < 1e-9:
        return
    wanted = Verdict.REACHED if low >= confidence else Verdict.MISSED if high <= confidence else None
    assert judge(n_hits, n, confidence) is (wanted or Verdict.UNDECIDED)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_fewest_is_the_fewest(confidence):
    """So many hits in a row decide, one less do not."""
    n = fewest(confidence)
    assert judge(n, n, confidence) is Verdict.REACHED
    assert judge(n - 1, n - 1, confidence) is Verdict.UNDECIDED


def test_a_lossless_rollout_is_shown_to_be_one():
    """Five good rollouts prove little: as many more as it takes are made, from the next replication on."""
    asked = []

    def more(first, n):
        asked.append((first, n))
        return [0] * n

    gate = hold_gate([0] * 5, 0, 0.95, more)
    assert gate.passed
    assert asked == [(5, fewest(0.95) - 5)]
    assert gate.n_runs == fewest(0.95)


def test_a_clear_miss_needs_no_more():
    """All of five rollouts fail requests: that is enough."""
    gate = hold_gate([3] * 5, 2, 0.95, lambda first, n: pytest.fail("no more are needed"))
    assert gate.verdict is Verdict.MISSED
    assert hold_gate([3] * 100, 3, 0.95, lambda first, n: pytest.fail("no more are needed")).passed


@pytest.mark.parametrize(("failed", "passes"), [([0, 0], True), ([0, 1], False)])
def test_certainty_asks_for_every_rollout(failed, passes):
    """No number of rollouts shows P = 1: --confidence 1 looks at those of --runs, 0 at nothing."""
    assert hold_gate(failed, 0, 1.0, lambda first, n: pytest.fail("no more are needed")).passed is passes
    assert hold_gate(failed, 0, 0.0, lambda first, n: pytest.fail("no more are needed")).passed


def share_passing(p, *, seed, n_gates):
    rng = np.random.default_rng(seed)

    def draw(_first, n):
        return [int(x) for x in rng.random(n) > p]

    return sum(hold_gate(draw(0, 200), 0, 0.95, draw).passed for _ in range(n_gates))


def test_few_false_passes(request):
    """P just below the confidence passes in at most 5 %; false alarm 1e-6, and 10 % would be noticed."""
    n_gates = 2000
    passed = share_passing(0.9499, seed=seed_of(request.node.nodeid), n_gates=n_gates)
    limit = binom.ppf(1 - 1e-6, n_gates, FALSE_PASS)
    assert binom.cdf(limit, n_gates, 0.1) < 1e-3
    assert passed <= limit


def test_what_is_good_passes(request):
    """P = 0.98 passes nearly always with 200 rollouts to begin with."""
    assert share_passing(0.98, seed=seed_of(request.node.nodeid), n_gates=200) >= 180


def test_at_the_edge_it_ends_undecided():
    """A share that stays at the confidence itself ends after the last look, and does not pass."""
    gate = hold_gate([1] * 10 + [0] * 190, 0, 0.95, lambda _first, n: [1] * (n // 20) + [0] * (n - n // 20))
    assert gate.verdict is Verdict.UNDECIDED
    assert not gate.passed
    assert gate.n_runs == 200 * 2 ** (N_LOOKS - 1)
    assert "too close" in str(gate)
