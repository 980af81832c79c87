"""`rollsim validate --explain`: a recorded run beside a simulated one, event by event."""

import json

import pytest
from typer.testing import CliRunner

from sim.errors import InputError
from sim.scenario import load_one
from tests.validation.test_steps import recorded
from validation import explain, observations
from validation.campaign import CONFIGS
from validation.cli import app
from validation.events import Happened, pairs
from validation.observations import scenario_hash

SCENARIO = CONFIGS / "matrix" / "close-all-at-once.yaml"


@pytest.fixture(scope="module")
def scenario():
    return load_one(SCENARIO)


@pytest.fixture
def kept(scenario, tmp_path):
    """A folder with three runs of the scenario, of which one is spoiled."""
    one = next(run for run in observations.read_runs(scenario.name) if not run.spoiled)
    for number, failed, spoiled in ((1, 0, ()), (2, 4, ()), (3, 90, ("something",))):
        changed = {
            "run": number,
            "failed": failed,
            "spoiled": spoiled,
            "scenario_hash": scenario_hash(scenario),
        }
        observations.write(observations.replace(one, **changed), tmp_path)
    return tmp_path


def test_an_event_is_found_in_both_by_who_and_what(scenario):
    """The same rollout half a second later: every event has its like, 0.5 s later from the update."""
    later = recorded(scenario, update_at_s=3.5)
    found = {(pair.who, pair.what): pair for pair in pairs(recorded(scenario), later)}
    assert found["old 1", "deleted"].difference_s == pytest.approx(0.5)
    assert found["new 1", "Ready"].difference_s == pytest.approx(0.5)
    assert found["rollout", "complete"].difference_s == 0.0


def test_failures_are_told_by_cause(scenario):
    """Their number, and the first and last time; where the other rollout has none of that cause, nothing."""
    found = pairs(recorded(scenario), recorded(scenario, failures=()))
    [failed] = [pair for pair in found if pair.who == "failed"]
    assert failed.what == "stale_endpoint_refused"
    assert (failed.real.n, failed.simulated) == (2, None)
    assert str(failed.real) == "2 × 2.050 to 2.100"
    assert str(Happened(1.0)) == "1.000"


def test_events_come_in_the_order_of_the_real_rollout(scenario):
    """What only the simulated one has stands where it happened there."""
    order = [pair.order_s for pair in pairs(recorded(scenario), recorded(scenario, update_at_s=3.9))]
    assert order == sorted(order)


def test_the_median_is_told_and_spoiled_runs_are_not(scenario, kept):
    """Of two runs the upper one; a run that is spoiled cannot be asked for."""
    plan = explain.Plan(folder=kept, runs=2)
    found = explain.explain(scenario, plan)
    assert [run.run for run in found.kept] == [1, 2]
    assert found.kept[found.told].run == 2
    with pytest.raises(
        InputError, match="--run 3: of close-all-at-once these runs are kept and not spoiled: 1, 2"
    ):
        explain.explain(scenario, explain.Plan(folder=kept, runs=2, run=3))


def test_the_command_prints_both_tables_as_data(kept):
    """A scenario by its name; one object with steps and events."""
    given = ["close-all-at-once", "--explain", "--run", "1", "--predictions", "3", "--json"]
    result = CliRunner().invoke(app, [*given, "--observations", str(kept)])
    assert result.exit_code == 0, result.output
    [told] = json.loads(result.stdout)
    assert (told["run"], told["runs"]) == (1, {"real": 2, "model": 3})
    assert {"update → complete", "deleted → exited"} <= {step["step"] for step in told["steps"]}
    assert any(event["what"] == "exited" and event["difference_s"] is not None for event in told["events"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ["nothing-of-ours", "--explain"],
            "nothing-of-ours: neither a file or folder nor a scenario; ours: ",
        ),
        (["--explain"], "no SCENARIO given"),
        ([str(SCENARIO), "--recorded", "--run", "1"], "--run belongs to --explain"),
        (
            [str(CONFIGS / "tutorial"), "--explain", "--run", "1"],
            "--plot and --run speak of one scenario, 6 were",
        ),
    ],
)
def test_what_cannot_be_explained_is_said_in_one_line(given, says):
    """Exit code 2."""
    result = CliRunner().invoke(app, given)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
