"""The table of validated scenarios is what the kept runs and today's predictions make it."""

import pytest

from sim.deciding import deciding
from sim.scenario import load_one
from sim.validated import INDEX, from_json, to_json
from tests.validation.test_observations import observed
from validation import index, today
from validation.campaign import CONFIGS
from validation.forecast import Forecast
from validation.machines import FIRST
from validation.observations import scenario_hash


@pytest.fixture(scope="module")
def scenario():
    return load_one(CONFIGS / "matrix" / "ka-generic.yaml")


def made(scenario, counts):
    found = Forecast(
        scenario=scenario.name, scenario_hash=scenario_hash(scenario), date="", runs=len(counts), seed=1,
        failed=tuple(counts), tool_failed=None, rollout_s=(3.0,), timing=FIRST,
    )  # fmt: skip
    return {(scenario.name, FIRST): today.Made(found, "0")}


def runs(scenario, *counts, **more):
    given = {"scenario": scenario.name, "scenario_hash": scenario_hash(scenario)} | more
    return [observed(run, failed=count, **given) for run, count in enumerate(counts, 1)]


def test_the_shipped_table_is_up_to_date():
    """Else: python -m validation.index."""
    assert INDEX.read_text(encoding="utf-8") == index.text_of_kept()


def test_a_scenario_is_validated_by_its_comparable_runs(scenario):
    """Three at least; spoiled ones, and those of another version, are no runs of it."""
    prediction = made(scenario, range(41))
    [found] = index.validated([scenario], runs(scenario, 20, 21, 90, 22), prediction)
    assert (found.name, found.runs, found.inside) == ("ka-generic", 4, 0.75)
    assert found.settings == deciding(scenario)
    assert not index.validated([scenario], runs(scenario, 20, 21), prediction)
    assert not index.validated([scenario], runs(scenario, 20, 21, 22, spoiled=("so",)), prediction)
    assert not index.validated([scenario], runs(scenario, 20, 21, 22, scenario_hash="other"), prediction)


def test_a_line_comes_back_as_it_was(scenario):
    """Table to memory and back."""
    [found] = index.validated([scenario], runs(scenario, 20, 21, 22), made(scenario, range(41)))
    assert from_json(to_json(found)) == found
