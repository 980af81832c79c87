"""Morris' effects against functions whose effects are known; each latency is really moved."""

import numpy as np
import pytest

from sim.scenario import load_one
from sim.scenario.distributions import Distribution
from sim.scenario.timing import load_timing
from validation.campaign import CONFIGS
from validation.sensitivity import (
    CHANCE,
    SHARES,
    Effect,
    Sensitivity,
    moved,
    outcome,
    parameters,
    ranking,
    screen,
    text,
)


@pytest.fixture(scope="module")
def timing():
    return load_timing("kind-1.34", beside=CONFIGS)


def screened(names, function, trajectories=20):
    def evaluate(places):
        return [function(place) for place in places]

    return screen(names, evaluate, "built", "built", trajectories)


def test_effects_of_a_linear_function_are_its_coefficients():
    """failed = 10 + 8a - 3b, P(zero) = 0.5c: μ* and μ are the coefficients, exactly."""
    found = screened(["a", "b", "c", "d"], lambda x: (10 + 8 * x["a"] - 3 * x["b"], 0.5 * x["c"]))
    effects = {effect.parameter: effect for effect in found.effects}
    assert [effect.parameter for effect in found.effects] == ["a", "b", "c", "d"]
    assert (effects["a"].failed, effects["a"].failed_signed) == pytest.approx((8, 8))
    assert (effects["b"].failed, effects["b"].failed_signed) == pytest.approx((3, -3))
    assert (effects["c"].failed, effects["c"].p_zero) == pytest.approx((0, 0.5))
    assert effects["d"].failed == pytest.approx(0)


def test_an_effect_that_turns_has_a_size_and_no_sign():
    """A parabola that is symmetric in its range: |μ| is much smaller than μ*."""
    found = screened(["a"], lambda x: (100 * (x["a"] - 0.5) ** 2, 0.0))
    [effect] = found.effects
    assert effect.failed > 20
    assert abs(effect.failed_signed) < effect.failed / 2


def test_what_does_not_exceed_chance_does_not_count():
    """The parameter that only changes the random numbers is no row: it is the yardstick."""
    rng = np.random.default_rng(1)
    found = screened(["strong", "none", CHANCE], lambda x: (40 * x["strong"] + rng.normal(), 0.0))
    assert {effect.parameter: effect.counts for effect in found.effects}["strong"]
    assert CHANCE not in {effect.parameter for effect in found.effects}
    assert 0 < found.chance < 10


def test_every_latency_is_moved(timing):
    """Both ends are factors of 1/2 and 2 of the mean, the middle changes nothing; shares stay in their range."""
    names = parameters(timing)
    assert {"sandbox", "proxy_min_interval_s", "request_cpu_s", "client_overhead"} <= set(names)
    for name in names:
        ends = [getattr(moved(timing, {name: u}), name) for u in (0.0, 0.5, 1.0)]
        if name in SHARES:
            assert (ends[0], ends[2]) == SHARES[name]
        elif isinstance(getattr(timing, name), Distribution):
            means = np.array([end.mean_s for end in ends])
            assert means == pytest.approx(np.array([0.5, 1.0, 2.0]) * getattr(timing, name).mean_s)
        elif isinstance(getattr(timing, name), float):
            assert ends == pytest.approx([x * getattr(timing, name) for x in (0.5, 1.0, 2.0)])


def test_a_latency_that_decides_does_so_in_the_model(timing):
    """An address that answers with RST for longer refuses more requests: one that is silent holds clients up."""
    scenario = load_one(CONFIGS / "matrix" / "close-noprestop-quit.yaml")
    quick, slow = (outcome(scenario, moved(timing, {"exit_to_netns_gone": u}), 10)[0] for u in (0.0, 1.0))
    assert quick < slow


def effect(parameter, failed, *, counts=True, signed=None):
    return Effect(
        parameter=parameter, failed=failed, failed_uncertain=0.0, counts=counts, p_zero=0.0,
        failed_signed=failed if signed is None else signed,
    )  # fmt: skip


def of(name, *effects):
    return Sensitivity(scenario=name, timing="t", failed=9.0, p_zero=0.0, chance=1.0, effects=effects)


def test_the_ranking_is_the_mean_share_of_what_counts():
    """Scenarios weigh alike, whatever they lose; one without an effect says nothing."""
    found = [
        of("a", effect("x", 30), effect("y", 10)),
        of("b", effect("y", 1)),
        of("c", effect("x", 5, counts=False)),
    ]
    assert ranking(found) == pytest.approx({"y": 0.625, "x": 0.375})


def test_the_table_tells_the_sign_and_what_is_chance():
    """+ more, - less, ± either way; what does not exceed chance in any scenario stands below."""
    table = text([of("a", effect("up", 8), effect("down", 6, signed=-6), effect("turns", 4, signed=1),
                     effect("idle", 0.5, counts=False))], "python -m this")  # fmt: skip
    assert "| `up` | 44% | +8.0 |" in table
    assert "| `down` | 33% | -6.0 |" in table
    assert "| `turns` | 22% | ±4.0 |" in table
    assert "No more than chance in any of these scenarios: `idle`." in table
    assert "`python -m this`" in table
