"""Today's predictions are kept beside the runs, and known to be stale."""

import subprocess
import sys

import pytest

from sim.scenario import load_one
from tests.validation.test_observations import observed
from validation import forecast, machines, observations, today
from validation.campaign import CONFIGS

FILE = CONFIGS / "tutorial" / "2-keepalive.yaml"


@pytest.fixture(scope="module")
def scenario():
    return load_one(FILE)


def test_only_what_is_stale_is_made_again(scenario, tmp_path):
    """Nothing kept: the profile of the run's machine and the sources'; all kept: nothing; another version: both."""
    observations.write(observed(scenario=scenario.name, date="2026-11-24T10:00:00+00:00"), tmp_path)
    assert today.stale([scenario], tmp_path) == [
        (scenario.name, timing) for timing in (machines.FIRST, forecast.SOURCES)
    ]
    said = []
    today.refresh([scenario], folder=tmp_path, runs=2, processes=1, say=said.append)
    assert len(said) == 2
    assert today.stale([scenario], tmp_path) == []
    other = load_one(FILE, ["load.connections=11"])
    assert len(today.stale([other], tmp_path)) == 2


def test_the_same_predictions_give_the_same_bytes(scenario, tmp_path):
    """So that a file that did not change is no change to commit."""
    today.refresh([scenario], folder=tmp_path, runs=2, processes=1)
    before = (tmp_path / today.FILE).read_bytes()
    today.keep(dict(reversed(today.kept(tmp_path).items())), tmp_path)
    assert (tmp_path / today.FILE).read_bytes() == before


def test_what_belongs_to_no_scenario_is_left_out(scenario, tmp_path):
    """A scenario that was taken out takes its predictions along."""
    today.refresh([scenario], folder=tmp_path, runs=2, processes=1)
    today.refresh([], folder=tmp_path, runs=2, processes=1)
    assert today.kept(tmp_path) == {}


def test_a_comment_makes_no_other_model(tmp_path, monkeypatch):
    """Docstrings and comments do not count, code does."""
    folder = tmp_path / "sim"
    folder.mkdir()
    monkeypatch.setattr(today, "MODEL", ("a.py",))
    monkeypatch.setattr(today.sim, "__file__", str(folder / "__init__.py"))
    hashes = []
    for text in ('"""One."""\nx = 1\n', '"""Two."""\nx = 1  # one\n', "x = 2\n"):
        (folder / "a.py").write_text(text, encoding="utf-8")
        hashes.append(today.model_hash("defaults"))
    assert hashes[0] == hashes[1] != hashes[2]


def test_all_that_a_rollout_runs_is_the_model():
    """Whatever a simulation imports of the package decides its counts, but for the words of its errors."""
    code = "import sys, sim.simulate; print(*(n for n in sys.modules if n.startswith('sim.')))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    named = {f"sim.{name.removesuffix('.py')}" for name in today.MODEL}
    others = {name for name in loaded.split() if ".".join(name.split(".")[:2]) not in named}
    assert others == {"sim.errors"}
