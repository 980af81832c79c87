"""The cruise against the judge: one distribution of failures, over the tutorial's stages and random scenarios.

False alarms: FALSE_ALARM for all comparisons of one test together, exact (compare.py). Power: a shift of SHIFT in
any of the MAIN names is missed with probability MISSED at most; `test_a_tenth_would_be_seen` computes it from the
noise that was met, and takes a tenth away to see that it is found.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from oracle.compare import Pairs, compare, differing, thinned
from oracle.pairs import JUDGE, STEPWISE, pairs
from oracle.scenarios import STAGES, random_scenarios, slowed, stage
from seeds import SALT, seed_of

pytestmark = pytest.mark.timeout(1200)  # of which a quiet core needs a tenth

FALSE_ALARM = 1e-3
SHIFT = 0.10
MISSED = 0.01
MAIN = ("failed", "answered", "idle_closed", "stale_endpoint_refused")
"""What the runs must suffice for; the others are compared too, with the power that they have."""
SLOWED_BY = 20.0
"""A request costs so much more CPU than in the default profile: fewer requests for as many failures."""


@dataclass(frozen=True)
class Played:
    """All pairs, by scenario."""

    by_scenario: dict[str, Pairs]

    @property
    def all(self) -> Sequence[Pairs]:
        return list(self.by_scenario.values())


def play(*, stage_runs: int, n_random: int, random_runs: int, slowed_by: float = SLOWED_BY) -> Played:
    """The stages and *n_random* random scenarios. Seeds depend on the salt alone."""
    first = seed_of("against the cruise") % 2**31
    timing = slowed(slowed_by)
    by_scenario: dict[str, Pairs] = {
        name: pairs(stage(name), range(first, first + stage_runs), timing) for name in STAGES
    }
    for index, scenario in enumerate(random_scenarios(n_random)):
        by_scenario[f"random {index}"] = pairs(scenario, range(first, first + random_runs), slowed(slowed_by))
    return Played(by_scenario)


@pytest.fixture(scope="module")
def played() -> Played:
    return play(stage_runs=32, n_random=30, random_runs=8)


def told(verdicts) -> str:
    return "\n".join(
        f"{each.name}: z {each.z:.2f}, p <= {each.p:.1e}, mean {each.mean:.2f}, shift {each.shift:+.1%}"
        for each in verdicts
    )


@pytest.mark.slow
def test_the_same_distribution(played):
    """Failures by cause and by what was seen, answers, repeats: number, spread and share of zeros."""
    assert not (found := differing(compare(played.all, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)), (
        told(found)
    )


@pytest.mark.slow
def test_the_same_distribution_in_each_scenario(played):
    """No scenario differs by itself either: what two scenarios do in opposite ways would cancel in the sum."""
    found = [
        (name, verdict)
        for name, each in played.by_scenario.items()
        for verdict in differing(
            compare([each], false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM / len(played.by_scenario)
        )
    ]
    assert not found, "\n".join(f"{name}: {told([verdict])}" for name, verdict in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_a_tenth_would_be_seen(played, name):
    """The noise of these runs leaves a shift of a tenth in sight; one that is planted is found."""
    verdict = next(
        each
        for each in compare(played.all, false_alarm=FALSE_ALARM, missed=MISSED)
        if each.name == f"{name}: number"
    )
    assert verdict.notices <= SHIFT, f"too few runs: only {verdict.notices:.1%} is sure to be seen"
    rng = np.random.default_rng(seed_of(name))
    planted = [thinned(each, name, SHIFT, rng) for each in played.all]
    found = differing(compare(planted, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)
    assert f"{name}: number" in {each.name for each in found}, told(
        each for each in compare(planted, false_alarm=FALSE_ALARM) if each.name == f"{name}: number"
    )


@pytest.mark.slow
def test_the_stepwise_form_and_the_judge_agree():
    """The model's own stepping is a second judge: nobody's shortcut is in either."""
    first = seed_of("stepwise") % 2**31
    both = [
        pairs(stage(name), range(first, first + 6), slowed(SLOWED_BY), STEPWISE, JUDGE)
        for name in ("0-naive", "4-proxy-rollout")
    ]
    found = differing(compare(both, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)
    assert not found, told(found)


@pytest.mark.nightly
@pytest.mark.timeout(7200)
def test_the_long_form():
    """Each stage at its real pace, with enough runs for itself, and twice as many random scenarios."""
    first = seed_of("the long form") % 2**31
    timing = slowed(1.0)
    stages = {name: pairs(stage(name), range(first, first + 60), timing) for name in STAGES}
    others = play(stage_runs=0, n_random=60, random_runs=40)
    everything = {**stages, **others.by_scenario}
    for name, each in everything.items():
        found = differing(compare([each], false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM / len(everything))
        assert not found, f"{name}: {told(found)}"
    verdicts = compare(list(everything.values()), false_alarm=FALSE_ALARM)
    assert not (found := differing(verdicts, false_alarm=FALSE_ALARM)), told(found)


def test_the_tests_find_what_differs_and_nothing_else():
    """Without any simulation: equal Poisson counts pass, a tenth less is found, as is another spread."""
    rng = np.random.default_rng(seed_of("compare") if SALT else 7)
    equal = [
        [
            ({"x": float(a)}, {"x": float(b)})
            for a, b in zip(rng.poisson(mean, 200), rng.poisson(mean, 200), strict=True)
        ]
        for mean in (5.0, 60.0)
    ]
    assert not differing(compare(equal, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)
    less = [thinned(each, "x", SHIFT, rng) for each in equal]
    assert {
        each.name for each in differing(compare(less, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)
    } >= {"x: number"}
    wider = [
        [({"x": 100 + 3 * (first["x"] - 60)}, {"x": 100 + second["x"] - 60}) for first, second in equal[1]]
    ]
    assert "x: spread" in {
        each.name for each in differing(compare(wider, false_alarm=FALSE_ALARM), false_alarm=FALSE_ALARM)
    }
