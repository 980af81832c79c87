"""The report of the validation is what runs and predictions make it; misses are in it."""

import numpy as np
import pytest

from sim.scenario import load_one
from tests.validation.test_index import made, runs
from validation import forecast, machines, observations, report, today
from validation.campaign import CONFIGS, our_scenarios
from validation.compare import Compared, scores_of
from validation.targets import reached_by_chance, shares, targets_of


@pytest.fixture(scope="module")
def scenario():
    return load_one(CONFIGS / "matrix" / "ka-generic.yaml")


def compared(scenario, predicted, *counts, **more):
    [prediction] = made(scenario, predicted).values()
    return Compared(forecast=prediction.forecast, runs=tuple(runs(scenario, *counts, **more)))


def reached(each):
    return {target.name: target.reached for target in targets_of(each)}


@pytest.mark.parametrize(
    ("predicted", "observed", "holds"),
    [(100, 91, True), (100, 90, False), (100, 112, False), (6, 5, True), (7, 5, False), (0, 0, True)],
)
def test_the_count_is_asked_for_within_ten_percent_or_one_request(scenario, predicted, observed, holds):
    """Of the real median: 10 % where the real mean is 10 or more, else one request."""
    assert reached(compared(scenario, [predicted] * 5, *[observed] * 3))["count"] is holds


def test_the_verdict_is_asked_for_where_all_runs_agree(scenario):
    """All zero or none zero; where they differ there is no right verdict."""
    assert reached(compared(scenario, [0] * 5, 0, 0, 0))["verdict"]
    assert not reached(compared(scenario, [0] * 5, 1, 2, 3))["verdict"]
    assert not reached(compared(scenario, [9] * 5, 0, 0, 0))["verdict"]
    assert "verdict" not in reached(compared(scenario, [9] * 5, 0, 2, 3))


def test_rollout_and_causes_are_asked_for(scenario):
    """The rollout's median within 10 % (predicted 3.0 s), each cause's share within 10 points."""
    assert reached(compared(scenario, [9], 9, rollout_s=3.3))["rollout"]
    assert not reached(compared(scenario, [9], 9, rollout_s=3.4))["rollout"]
    assert shares({"a": 1.0, "b": 3.0}) == {"a": 0.25, "b": 0.75}
    assert shares({"a": 0.0}) == {}
    assert "causes" not in reached(compared(scenario, [9], 9))  # nothing is predicted of causes here


def test_what_a_true_prediction_reaches_by_chance():
    """One run of two equally likely rollout times lies near their median (its middle) never; of one time always."""
    within_a_tenth = lambda runs: 0.1 * np.median(runs, axis=1)  # noqa: E731
    assert reached_by_chance(np.array([5.0, 10.0] * 20), 1, within_a_tenth) == 0.0
    assert reached_by_chance(np.array([7.0] * 20), 1, within_a_tenth) == 1.0
    thirds = np.array([6.0] * 10 + [10.0] * 20)
    assert reached_by_chance(thirds, 1, within_a_tenth) == pytest.approx(2 / 3, abs=0.05)
    assert reached_by_chance(thirds, 25, within_a_tenth) > 0.95


@pytest.fixture
def kept(scenario, tmp_path):
    """Five runs of one scenario, one of them spoiled, and a prediction that misses them."""
    folder = tmp_path / "observations"
    given = [
        *runs(scenario, 90, 91, 92, 93),
        *runs(scenario, 0, spoiled=("the machine had other work: 24%",)),
    ]
    for number, run in enumerate(given, 1):
        observations.write(observations.replace(run, run=number), folder)
    prediction = made(scenario, range(41))
    today.keep(prediction, folder)
    forecast.keep(prediction[scenario.name, machines.FIRST].forecast, folder)
    return folder


def test_misses_are_kept_in(kept, tmp_path):
    """A prediction that no run lies in is told with both values, in its group; the spoiled run is counted out."""
    report.write(kept, tmp_path / "REPORT.md", tmp_path / "validated.json")
    text = (tmp_path / "REPORT.md").read_text(encoding="utf-8")
    assert "| ka-generic | 0 of 4 | count: median 20, real 91.5" in text
    assert "1 of 1 scenarios" in text
    assert "| spoiled: the machine had other work | 1 |" in text
    assert "<svg" in (tmp_path / report.FIGURE).read_text(encoding="utf-8")
    assert '"inside": 0.0' in (tmp_path / "validated.json").read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_bytes(kept, tmp_path):
    """Text, figure and table."""
    for place in ("one", "other"):
        report.write(kept, tmp_path / place / "REPORT.md", tmp_path / place / "validated.json")
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert files == {"REPORT.md", report.FIGURE, "validated.json"}
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_committed_report_is_up_to_date():
    """Its text is made anew from kept runs and predictions, scores included; else: python -m validation.report."""
    evidence = report.gather()
    text = report.text(evidence)
    assert report.REPORT.read_text(encoding="utf-8") == text
    assert report.REPORT.with_name(report.FIGURE).exists()
    group, found = next((g, f) for g, f in reversed(evidence.groups.items()) if f)
    coverage = scores_of(found).coverage.value
    [line] = [row for row in text.splitlines() if row.startswith(f"| {group} | {len(found)} ")]
    assert f"{coverage:.0%}" in line


@pytest.mark.nightly
def test_the_reports_predictions_are_todays():
    """The model has not changed since; else: python -m validation.report --predict."""
    scenarios = report.recorded_scenarios(observations.read_all(), our_scenarios())
    assert today.stale(scenarios) == []
