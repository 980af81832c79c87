"""The statistical assertions: they pass the truth, fail the error they promise to notice, and ask for power."""

import pytest
from assertions import (
    TOO_FEW,
    assert_binomial,
    assert_distribution,
    assert_mean,
    assert_poisson,
    assert_same_distribution,
    assert_same_mean,
)
from scipy import stats

RATE = 1e-6

CASES = {
    # name: (assertion on a sample of the scale 1 or wrong, notices, wrong scale)
    "poisson": (lambda rng, scale: (assert_poisson, (int(rng.poisson(20_000 * scale)), 20_000)), 0.08, 1.08),
    "binomial": (
        lambda rng, scale: (assert_binomial, (int(rng.binomial(20_000, 0.3 * scale)), 20_000, 0.3)),
        0.036,
        1.12,
    ),
    "mean": (lambda rng, scale: (assert_mean, (rng.exponential(scale, 20_000), 1.0)), 0.08, 1.08),
    "same_mean": (
        lambda rng, scale: (assert_same_mean, (rng.exponential(1, 20_000), rng.exponential(scale, 20_000))),
        0.12,
        1.12,
    ),
    "distribution": (
        lambda rng, scale: (assert_distribution, (rng.uniform(0, scale, 20_000), stats.uniform.cdf)),
        0.05,
        1.06,
    ),
    "same_distribution": (
        lambda rng, scale: (
            assert_same_distribution,
            (rng.uniform(0, 1, 20_000), rng.uniform(0, scale, 20_000)),
        ),
        0.08,
        1.09,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_truth_passes(name, streams):
    """A sample of the claimed distribution passes."""
    sample, notices, _ = CASES[name]
    assertion, arguments = sample(streams.take("sample"), 1.0)
    assertion(*arguments, false_alarm=RATE, notices=notices)


@pytest.mark.parametrize("name", CASES)
def test_the_promised_error_is_noticed(name, streams):
    """A sample that is off by what the assertion says it notices fails."""
    sample, notices, wrong = CASES[name]
    assertion, arguments = sample(streams.take("sample"), wrong)
    with pytest.raises(AssertionError) as failed:
        assertion(*arguments, false_alarm=RATE, notices=notices)
    assert TOO_FEW not in str(failed.value)


@pytest.mark.parametrize("name", CASES)
def test_a_claim_without_power_fails(name, streams):
    """Who promises to notice more than the sample can show is told so, even if the sample is right."""
    sample, notices, _ = CASES[name]
    assertion, arguments = sample(streams.take("sample"), 1.0)
    with pytest.raises(AssertionError, match=TOO_FEW):
        assertion(*arguments, false_alarm=RATE, notices=notices / 10)


def test_false_alarms_are_as_rare_as_stated(streams):
    """With a false alarm of 5 % about 5 % of true samples fail (at most: the bound is exact or safe)."""
    rng = streams.take("sample")
    alarms = 0
    for count in rng.poisson(1000, size=4000):
        try:
            assert_poisson(int(count), 1000, false_alarm=0.05, notices=0.2)
        except AssertionError:
            alarms += 1
    assert_binomial(alarms, 4000, 0.048, false_alarm=1e-6, notices=0.04)
