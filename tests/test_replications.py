"""Replications shared among the cores are the same ones, in the same order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sim import replications
from sim.errors import InputError
from sim.replications import AT_ONCE, Replications
from sim.scenario import load_one
from sim.scenario.timing import load_timing

STAGE = Path(__file__).parents[1] / "configs" / "tutorial" / "2-keepalive.yaml"


@pytest.fixture
def stage():
    scenario = load_one(STAGE, ["load.duration=8s"])
    return Replications(scenario, 3, load_timing("defaults", beside=STAGE.parent))


def test_the_same_on_two_cores(stage, monkeypatch):
    monkeypatch.setattr(replications, "PATIENCE_S", 0.0)
    heard = {1: [], 2: []}
    found = {n: stage.all(AT_ONCE + 13, n_cores=n, done=heard[n].append) for n in (1, 2)}
    assert found[1] == found[2]
    assert len(set(map(repr, found[1]))) > 10  # chance differs from one to the next
    assert heard[1] == list(range(1, AT_ONCE + 14))
    assert heard[2][:AT_ONCE] == heard[1][:AT_ONCE]
    assert heard[2][-1] == AT_ONCE + 13
    assert heard[2] == sorted(heard[2])


def test_what_is_quick_stays_here(stage, monkeypatch):
    def shared(*_):
        raise AssertionError("not worth another process")

    monkeypatch.setattr(replications, "PATIENCE_S", 1e6)
    monkeypatch.setattr(Replications, "_shared", shared)
    assert len(stage.all(AT_ONCE + 2, n_cores=2, done=lambda _: None)) == AT_ONCE + 2
    monkeypatch.setattr(replications, "PATIENCE_S", 0.0)
    assert len(stage.all(AT_ONCE, n_cores=2, done=lambda _: None)) == AT_ONCE


def _killed(numbers):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_one_line(stage, monkeypatch):
    monkeypatch.setattr(replications, "PATIENCE_S", 0.0)
    monkeypatch.setattr(replications, "_play", _killed)
    with pytest.raises(InputError, match="killed") as error:
        stage.all(AT_ONCE + 5, n_cores=2, done=lambda _: None)
    assert "\n" not in str(error.value)


def test_ctrl_c_ends_all_of_them():
    """As a terminal sends it: to the whole group. No traceback, and nobody is left behind."""
    rollsim = Path(sys.executable).with_name("rollsim")
    running = subprocess.Popen(
        [rollsim, "predict", STAGE.with_name("0-naive.yaml"), "--runs", "4000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    time.sleep(8.0)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=20)
    assert running.returncode == 130
    assert "Traceback" not in errors
    time.sleep(0.5)
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
