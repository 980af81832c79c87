"""Advice on the running lab: with the patch applied, the rollout that lost requests loses none."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sim.scenario import load_one
from validation import observations
from validation.access import Access
from validation.campaign import Plan, prepare, run_scenario
from validation.namespace import remove_leftovers

pytestmark = pytest.mark.timeout(900)

MATRIX = Path(__file__).parents[2] / "configs" / "matrix"
ALLOWED = "preStop,grace,readiness,strategy,retries,mode"
"""A stop signal is the image's: it would take another build."""


def replayed(path, lab, folder):
    """The failed requests of one real rollout."""
    scenario = load_one(path)
    plan = Plan(folder=folder, predictions=2)
    try:
        prepare(scenario, Access(lab=lab), plan)
        return run_scenario(scenario, Access(lab=lab), plan).failed
    finally:
        remove_leftovers(Access(lab=lab))


def failed_before(path, lab, folder):
    """Of every kept run of these very files; where there is none, of one now."""
    scenario = load_one(path)
    hashed = observations.scenario_hash(scenario)
    kept = [run.failed for run in observations.read_runs(scenario.name) if run.scenario_hash == hashed]
    return kept or [replayed(path, lab, folder)]


@pytest.mark.parametrize(
    "name",
    [
        "close-noprestop-quit",
        *(pytest.param(name, marks=pytest.mark.nightly) for name in ("close-slow-start", "proxy-retries-0")),
    ],
)
def test_the_patched_manifests_lose_nothing(lab, tmp_path, name):
    """Real nginx, real client: some requests fail in every run of the files as they are, none after `git apply`."""
    matrix = shutil.copytree(MATRIX, tmp_path / "matrix")
    assert min(failed_before(matrix / f"{name}.yaml", lab, tmp_path / "before")) > 0
    command = [sys.executable, "-c", "from sim.cli import main; main()", "advise", f"{name}.yaml"]
    command += ["--allow", ALLOWED, "--patch", "fix.patch"]
    subprocess.run(command, cwd=matrix, check=True, timeout=600)
    subprocess.run(["git", "apply", "fix.patch"], cwd=matrix, check=True, timeout=30)
    assert replayed(matrix / f"{name}.yaml", lab, tmp_path / "after") == 0
