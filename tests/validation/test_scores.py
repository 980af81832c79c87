"""The scores against their closed forms and against plain loops."""

import numpy as np
import pytest

from tests.assertions import assert_mean
from tests.conftest import seed_of
from validation.scores import Case, crps, fair_crps, inside, score


@pytest.fixture
def rng(request):
    return np.random.default_rng(seed_of(request.node.nodeid))


def slow_crps(predicted, observed, divisor):
    pairs = sum(abs(a - b) for a in predicted for b in predicted)
    return float(np.mean(np.abs(predicted - observed))) - pairs / divisor / 2


def test_crps_is_the_mean_distance_less_half_the_spread(rng):
    """CRPS = E|X - y| - E|X - X'| / 2, every sample with itself too; the fair form divides by m(m-1)."""
    x = rng.poisson(9, 23).astype(float)
    assert crps(x, 4.0) == pytest.approx(slow_crps(x, 4.0, 23**2))
    assert fair_crps(x, 4.0) == pytest.approx(slow_crps(x, 4.0, 23 * 22))


def test_crps_of_a_uniform_forecast_has_its_closed_form():
    """For U(0, 1) and an outcome y inside: CRPS = 1/3 - y + y² (here with 4001 even samples)."""
    grid = np.linspace(0, 1, 4001)
    assert crps(grid, 0.3) == pytest.approx(1 / 3 - 0.3 + 0.09, abs=1e-3)


def test_one_sample_scores_its_distance():
    """A single replay as the forecast scores |x - y|."""
    assert crps(np.array([7.0]), 10.0) == 3.0


def cases(rng, n, forecast):
    for k in range(n):
        mean = rng.uniform(5, 60)
        yield Case(name=str(k), predicted=forecast(mean), observed=rng.poisson(mean, 8).astype(float))


def skills(rng, forecast, n_groups=60, n_cases=25):
    return [score(list(cases(rng, n_cases, forecast))).skill.value for _ in range(n_groups)]


@pytest.fixture
def few_bootstraps(monkeypatch):
    monkeypatch.setattr("validation.scores.BOOTSTRAPS", 2)


@pytest.mark.usefixtures("few_bootstraps")
def test_the_true_distribution_has_skill_one(rng):
    """A forecast by the true distribution (400 samples: 1 + 1/400) scores 1.0."""
    found = skills(rng, lambda mean: rng.poisson(mean, 400).astype(float))
    assert_mean(found, 1.0025, false_alarm=1e-4, notices=0.06)


@pytest.mark.usefixtures("few_bootstraps")
def test_one_replay_as_the_forecast_has_skill_two(rng):
    """One real run as the whole forecast scores twice the truth: E|X - Y| over half of it."""
    found = skills(rng, lambda mean: rng.poisson(mean, 1).astype(float))
    assert_mean(found, 2.0, false_alarm=1e-4, notices=0.25)


@pytest.mark.usefixtures("few_bootstraps")
def test_coverage_of_the_true_distribution_is_the_level(rng):
    """Ties broken at random, a true forecast of a discrete count covers 95 %, not more."""
    found = []
    for _ in range(60):
        group = list(cases(rng, 20, lambda mean: rng.poisson(mean, 4000).astype(float)))
        found.append(score(group).coverage.value)
    assert_mean(found, 0.95, false_alarm=1e-4, notices=0.02)


def test_ties_are_spread_evenly():
    """A value with predicted probability 0.04 below a tail of 0.025 is inside for (0.04 - 0.025) / 0.04."""
    predicted = np.array([0.0] * 4 + [1.0] * 96)
    assert inside(predicted, 0.0) == pytest.approx((0.04 - 0.025) / 0.04)
    assert inside(predicted, 1.0) == pytest.approx((0.975 - 0.04) / 0.96)
    assert inside(predicted, 2.0) == 0.0
    assert inside(predicted, 0.5) == 1.0


def test_a_sure_forecast_that_is_right_covers_as_much_as_any():
    """All samples on the value that came: 95 %, as the level says."""
    assert inside(np.full(50, 20.0), 20.0) == pytest.approx(0.95)


def test_false_safe_is_counted_and_costs_verdict_and_brier():
    """P(zero) = 1 against two runs, one of which fails: half the verdicts right, Brier 1/2, one false safe."""
    found = score([Case(name="a", predicted=np.zeros(10), observed=np.array([0.0, 3.0]))])
    assert (found.verdict.value, found.brier.value, found.false_safe) == (0.5, 0.5, 1)


def test_scenarios_that_agree_stay_out_of_the_skill():
    """All real runs gave 20: no ratio, but the probability given to 20."""
    agreeing = Case(name="a", predicted=np.array([20.0] * 9 + [21.0]), observed=np.full(8, 20.0))
    found = score([agreeing])
    assert found.skill.value is None
    assert found.agreed == (("a", 20.0, 0.9),)


def test_scenarios_without_a_failure_are_counted_apart():
    """They would fill the coverage with easy hits."""
    quiet = Case(name="quiet", predicted=np.zeros(40), observed=np.zeros(8))
    wrong = Case(name="wrong", predicted=np.full(40, 5.0), observed=np.arange(30.0, 38.0))
    found = score([quiet, wrong])
    assert found.coverage.value == 0.0
    assert found.coverage_all_zero.value == pytest.approx(0.95)
    assert found.mean_width == 0.0


def test_the_bootstrap_interval_holds_the_value(rng):
    """And is wider than nothing where runs differ."""
    found = score(list(cases(rng, 12, lambda mean: rng.poisson(mean * 1.2, 100).astype(float)))).skill
    low, high = found.interval
    assert low < found.value < high
