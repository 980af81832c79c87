"""Replays on the lab, killed or without an API server: the data stays whole, the cluster as found."""

import os
import random
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from seeds import seed_of

from sim.scenario import load_one
from tests.validation.test_observations import observed
from validation import namespace, observations
from validation.access import Access, ReplayError
from validation.campaign import Plan, prepare, run_scenario
from validation.lab.commands import run, wait_until
from validation.namespace import remove_leftovers

CONFIGS = Path(__file__).parents[2] / "configs"
SLEEP5 = CONFIGS / "observed" / "ka-sleep5-term.yaml"
SHORT = ("load.duration=24s", "load.connections=6")
N_KILLS = 10
RUN_S = 75.0
"""About how long one run takes with all that is around it."""
REPORTED = re.compile(r"^(\S+) run (\d+): \d+ failed of \d+", re.MULTILINE)
API_SERVER = "pgrep -x kube-apiserver"
AWAY_S = 10.0

pytestmark = [pytest.mark.timeout(3600), pytest.mark.nightly]


def validate(lab, folder, runs):
    """`rollsim validate` as a user starts it."""
    argv = [
        sys.executable,
        "-c",
        "from sim.cli import main; main()",
        "validate",
        str(SLEEP5),
        "--name",
        lab.name,
    ]
    argv += ["--runs", str(runs), "--predictions", "2", "--observations", str(folder)]
    argv += [word for setting in SHORT for word in ("--set", setting)]
    return subprocess.Popen(
        argv,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )


def under_load(validating):
    """Wait until the client sends."""
    assert any(line.strip() == "load" for line in validating.stderr)
    time.sleep(2)


def as_found(lab):
    """No namespace of ours, no load client that still runs."""
    assert lab.kubectl("get", "namespaces", "-l", namespace.LABEL, "-o", "name").split() == []
    assert "clients.plain" not in lab.in_load("ps", "-ef")


def test_kills_at_random_moments(lab, tmp_path, request):
    """kill -9, ten times: every run that was reported is kept whole, no other is; the next call clears up."""
    draw = random.Random(seed_of(request.node.nodeid))
    reported = set()
    for _ in range(N_KILLS):
        validating = validate(lab, tmp_path, runs=100)
        moment_s = draw.uniform(0, RUN_S)
        try:
            _, said = validating.communicate(timeout=moment_s)
            pytest.fail(f"it ended by itself: {said}")
        except subprocess.TimeoutExpired:
            validating.kill()
            _, said = validating.communicate()
        reported |= {int(run) for _, run in REPORTED.findall(said)}
        kept = {run.run for run in observations.read_all(tmp_path)}  # each is read: half a file is no run
        assert reported <= kept
        assert kept == set(range(1, len(kept) + 1))
    runs = len(kept) + 1
    done = validate(lab, tmp_path, runs=runs)
    _, said = done.communicate(timeout=2400)
    assert done.returncode == 0, said
    whole = [run for run in observations.read_all(tmp_path) if not run.spoiled]
    assert len(whole) == runs
    assert not list(tmp_path.rglob("*.unfinished"))
    assert len((tmp_path / observations.TABLE).read_text().splitlines()) == 1 + len(
        list(observations.read_all(tmp_path))
    )
    as_found(lab)


@pytest.fixture
def replayed(lab, tmp_path):
    """Start a replay in a thread; its end is an observation or an error, and nothing of it stays."""
    scenario, access = load_one(SLEEP5, SHORT), Access(lab=lab)
    plan = Plan(folder=tmp_path, predictions=2)
    prepare(scenario, access, plan)
    loading, ends = threading.Event(), []

    def make():
        try:
            ends.append(
                run_scenario(
                    scenario, access, plan, say=lambda text: loading.set() if text == "load" else None
                )
            )
        except ReplayError as error:
            ends.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    assert loading.wait(200), ends

    def end():
        thread.join(400)
        return ends[0]

    yield end
    thread.join(400)
    remove_leftovers(access)
    as_found(lab)


def test_an_api_server_that_stands_still_for_ten_seconds(lab, replayed, tmp_path):
    """It is stopped under load and goes on: the run ends by itself, and is kept as spoiled, with the reason."""
    time.sleep(2)
    lab.in_node("sh", "-c", f"kill -STOP $({API_SERVER})")
    try:
        time.sleep(AWAY_S)
    finally:
        lab.in_node("sh", "-c", f"kill -CONT $({API_SERVER})")
    end = replayed()
    if isinstance(end, ReplayError):  # a watch did not outlive it
        assert "the API server" in str(end)
        assert not list(observations.read_all(tmp_path))
    else:
        assert any("the control plane stood still" in said for said in end.spoiled)


def test_an_api_server_that_is_killed(lab, replayed, tmp_path):
    """The kubelet starts it again after some seconds: one line, no run, and the namespace goes all the same."""
    time.sleep(2)
    lab.in_node("sh", "-c", f"kill -KILL $({API_SERVER})")
    end = replayed()
    assert isinstance(end, ReplayError)
    assert re.search(r"API server|refused|EOF", str(end))
    assert len(str(end).splitlines()) == 1
    assert not list(observations.read_all(tmp_path))
    wait_until(
        "the API server is ready",
        lambda: Access(lab=lab).kubectl("get", "--raw", "/readyz", patient_s=60) == "ok",
    )


@pytest.mark.parametrize("part", ["node_container", "load_container"])
def test_a_lab_that_is_killed(lab, tmp_path, part):
    """A container of it ends under load: one line, no run, what was kept before is whole; `lab up` mends it."""
    before = observations.write(observed(scenario="earlier"), tmp_path).read_bytes()
    validating = validate(lab, tmp_path, runs=1)
    under_load(validating)
    run(["docker", "kill", getattr(lab, part)])
    try:
        _, said = validating.communicate(timeout=300)
    finally:
        again = [sys.executable, "-c", "from sim.cli import main; main()", "lab", "up", "--name", lab.name]
        subprocess.run([*again, "--nodes", str(len(lab.nodes))], check=True, capture_output=True, timeout=900)
    assert validating.returncode == 1
    assert said.strip().splitlines()[-1].startswith(f"rollsim validate: the lab {lab.name!r} is gone")
    [kept] = observations.read_all(tmp_path)
    assert (kept.scenario, observations.write(kept, tmp_path).read_bytes()) == ("earlier", before)
    as_found(type(lab).find(lab.name))


@pytest.fixture
def small_disk(tmp_path):
    """A disk with room for runs, and not much more."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "disk", disk], check=False).returncode:
        pytest.skip("needs the right to mount a disk (root)")
    yield disk
    run(["umount", str(disk)])


def test_a_disk_that_fills_up_under_load(lab, small_disk):
    """The run cannot be kept: one line with its file, no part of it, what was kept before is whole."""
    before = observations.write(observed(scenario="earlier"), small_disk)
    kept = before.read_bytes()
    validating = validate(lab, small_disk, runs=1)
    under_load(validating)
    with suppress(OSError), (small_disk / "filling").open("wb", buffering=0) as filling:
        while filling.write(bytes(4096)):
            pass
    _, said = validating.communicate(timeout=300)
    assert validating.returncode == 1
    run_file = small_disk / "ka-sleep5-term" / "0001.json.gz"
    assert said.strip().splitlines()[-1] == f"rollsim validate: {run_file}: No space left on device"
    assert "Traceback" not in said
    assert not [path for path in run_file.parent.iterdir() if not path.name.startswith("prediction")]
    assert before.read_bytes() == kept
    as_found(lab)
