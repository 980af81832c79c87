"""Kept runs against predictions: which belong together, what the command prints, how it ends."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sim.scenario import load_one
from tests.validation.test_observations import observed
from validation import campaign, compare, forecast, machines, observations
from validation.cli import app
from validation.forecast import Forecast

CONFIGS = Path(__file__).parents[2] / "configs"
SCENARIO = CONFIGS / "observed" / "ka-sleep5-term.yaml"
DIRECT = load_one(SCENARIO)
HASH = observations.scenario_hash(DIRECT)


def forecast_of(name="a", hashed="abc", failed=(0, 1, 2)):
    return Forecast(
        scenario=name, scenario_hash=hashed, date="", runs=len(failed), seed=1, failed=failed, tool_failed=None,
        rollout_s=(3.0,), causes={},
    )  # fmt: skip


def keep_runs(folder, n=4, **changed):
    for run in range(1, n + 1):
        given = {"scenario": DIRECT.name, "scenario_hash": HASH, "failed": 19 + run % 3} | changed
        observations.write(observed(run=run, **given), folder)


def command(*args):
    return CliRunner().invoke(app, [str(arg) for arg in args])


def test_runs_of_another_version_and_spoiled_runs_are_left_out():
    """A prediction speaks of one version of a scenario; what the harness spoiled is no evidence."""
    runs = [observed(run=1), observed(run=2, scenario_hash="old"), observed(run=3, spoiled=("full queue",))]
    [compared] = compare.match([forecast_of()], runs)
    assert ([run.run for run in compared.runs], compared.left_out) == ([1], 2)


def test_the_tools_own_figure_is_compared_with_its_prediction():
    """Where only the tool's figures are known, both sides use them."""
    tool = observed(tool_failed=20, failed=20, counted_by="tool")
    predicted = replace(forecast_of(), tool_failed=(18, 20))
    [compared] = compare.match([predicted], [tool])
    assert compared.case.predicted.tolist() == [18.0, 20.0]
    assert compared.case.observed.tolist() == [20.0]


def test_a_campaign_goes_on_where_it_stopped(tmp_path):
    """Scenarios take turns; each gets the runs that it lacks. A spoiled run, or one of another version, is none."""
    a, b = replace(DIRECT, name="a"), replace(DIRECT, name="b")
    observations.write(observed(run=1, scenario="a", scenario_hash=HASH), tmp_path)
    observations.write(observed(run=1, scenario="b", scenario_hash="old"), tmp_path)
    observations.write(observed(run=2, scenario="b", scenario_hash=HASH, spoiled=("x",)), tmp_path)
    assert [s.name for s in campaign.todo([a, b], 2, tmp_path)] == ["b", "a", "b"]


def test_hash_tells_versions_of_a_scenario_apart():
    """Load, documents and update count; where the file lies and what the model makes of it do not."""
    assert observations.scenario_hash(replace(DIRECT, source=Path("elsewhere.yaml"), deployments=())) == HASH
    for changed in (
        replace(DIRECT, load=replace(DIRECT.load, connections=21)),
        replace(DIRECT, objects=DIRECT.objects[1:]),
        replace(DIRECT, actions=(replace(DIRECT.actions[0], image="other"),)),
    ):
        assert observations.scenario_hash(changed) != HASH


def test_recorded_prints_both_groups_as_data(tmp_path):
    """`unseen` with the prediction kept before the first replay, `seen` with today's model's."""
    keep_runs(tmp_path)
    before = forecast_of(DIRECT.name, HASH, tuple(range(40)))
    for timing in (machines.FIRST, forecast.SOURCES):
        forecast.keep(replace(before, timing=timing), tmp_path)
    done = command(SCENARIO, "--recorded", "--json", "--predictions", 4, "--observations", tmp_path)
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    for group in ("seen", "unseen", "seen_sources", "unseen_sources"):
        assert data[group]["scenarios"] == 1
        assert {"coverage", "verdict", "skill", "skill_interval"} <= data[group].keys()
    assert data["unseen"]["by_scenario"][0]["predicted"]["interval95"] == [0, 38]


def test_recorded_prints_a_table_and_draws(tmp_path):
    """For a person: one line a scenario with each real count; the plot is a picture."""
    keep_runs(tmp_path)
    picture = tmp_path / "validation.png"
    done = command(SCENARIO, "--recorded", "--predictions", 4, "--observations", tmp_path, "--plot", picture)
    assert done.exit_code == 0, done.output
    assert "20 21 19 20" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("path", [None, "/nowhere"])
def test_a_host_without_docker(monkeypatch, path):
    """No daemon that answers, no docker at all: one line each."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    if path is not None:
        monkeypatch.setenv("PATH", path)
    done = command(SCENARIO, "--name", "no-such-lab")
    assert done.exit_code == 1
    assert "docker does not answer" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_user_without_the_right_to_docker(tmp_path, monkeypatch):
    """What to do, and Docker's own words without its URLs, on one line."""
    says = (
        "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
    )
    (tmp_path / "docker").write_text(f"#!/bin/sh\nprintf '{says}: Get \"http://x\"\\nmore' >&2\nexit 1\n")
    (tmp_path / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = command(SCENARIO, "--name", "no-such-lab")
    assert done.exit_code == 1
    refused = "docker refuses this user: join its group, or run as root"
    assert done.stderr == f"rollsim validate: {refused} ({says})\n"


@pytest.mark.parametrize("place", [None, "kept/0001.json.gz"])
def test_a_disk_that_is_full_is_said_without_its_number(monkeypatch, place):
    """File and reason, in words."""

    def full(**_):
        raise OSError(errno.ENOSPC, "No space left on device", place)

    monkeypatch.setattr(campaign, "cluster", full)
    done = command(SCENARIO)
    where = f"{place}: " if place else ""
    assert (done.exit_code, done.stderr) == (1, f"rollsim validate: {where}No space left on device\n")


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("--recorded", "--observations", "nowhere"), 1, "no kept run"),
        (("no-such-file.yaml",), 2, "no-such-file.yaml"),
        ((SCENARIO, "--context", "production"), 1, "add --yes"),
        ((SCENARIO, "--name", "no-such-lab"), 1, "rollsim"),
    ],
)
def test_errors_are_one_line(args, code, says):
    """Bad input ends with 2, what the cluster cannot do with 1; no traceback."""
    done = command(*args)
    assert done.exit_code == code
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
