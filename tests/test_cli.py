"""The command as a user calls it: a process of its own, its output and its exit code."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parent.parent / "configs" / "tutorial"
KEPT = str(TUTORIAL / "2-keepalive.yaml")
DRAINED = str(TUTORIAL / "1-draining.yaml")


def rollsim(*arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sim.cli import main; main()", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_json_has_the_promised_form():
    """An array with one object for each scenario, every field that scripts rely on."""
    done = rollsim("predict", KEPT, DRAINED, "--runs", "5", "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    kept, drained = json.loads(done.stdout)
    assert kept["scenario"] == "tutorial-2-keepalive"
    assert (kept["runs"], kept["seed"]) == (5, 3)
    assert kept["requests"]["mean"] > 1e6
    for figure in (kept["failed"], kept["tool"]["failed"]):
        low, high = figure["interval95"]
        assert low <= figure["median"] <= high
        assert 0 <= figure["p_zero"] <= 1
    assert kept["tool"]["name"] == "ab"
    assert kept["tool"]["aborted"] == 0
    assert sum(kept["causes"].values()) == pytest.approx(kept["failed"]["mean"])
    assert kept["rollout_s"]["interval95"][0] <= kept["rollout_s"]["median"]
    assert drained["failed"]["p_zero"] == 1


def test_same_seed_same_output():
    """The seed and the scenario fix every byte."""
    first, second = (rollsim("predict", KEPT, "--runs", "3", "--json").stdout for _ in range(2))
    assert first == second
    assert first != rollsim("predict", KEPT, "--runs", "3", "--seed", "1", "--json").stdout


def test_a_person_reads_cause_and_advice():
    """Counts with intervals, P(zero), rollout time, the first thing to change, what the tool hides."""
    done = rollsim("predict", KEPT, "--runs", "5")
    for part in ("failed requests", "P(none fails)", "as ab prints it", "rollout", "change first", "ab -l"):
        assert part in done.stdout


@pytest.mark.parametrize(("file", "code"), [(KEPT, 1), (DRAINED, 0)])
def test_fail_above_is_an_exit_code(file, code):
    """--fail-above N exits with 1 unless P(failed ≤ N) reaches the confidence."""
    assert rollsim("predict", file, "--runs", "5", "--fail-above", "0").returncode == code


def test_a_short_load_is_warned_of():
    """The article's own -n 100000 is over before the last old pod is gone."""
    done = rollsim("predict", str(TUTORIAL / "article" / "2n-keepalive.yaml"), "--runs", "3")
    assert "the load ended before the last old pod was gone in 100% of the runs" in done.stdout


def test_a_folder_predicts_every_scenario_in_it():
    """The five stages and 4b."""
    done = rollsim("predict", str(TUTORIAL), "--runs", "1", "--json")
    names = [each["scenario"] for each in json.loads(done.stdout)]
    assert len(names) == len(list(TUTORIAL.glob("*.yaml"))) == 6


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["predict", "no-such.yaml"], "no-such.yaml"),
        (["predict", KEPT, "--set", "load.conections=3"], "load.conections"),
        (["predict", KEPT, "--set", "timing=nowhere"], "nowhere"),
        (["explain", "bad-luck"], "bad-luck"),
        (["foretell"], "foretell"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, part):
    """No traceback; the line names what was read."""
    done = rollsim(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert part in done.stderr


def test_plot_writes_a_picture(tmp_path):
    """--plot FILE draws one rollout."""
    picture = tmp_path / "rollout.png"
    assert rollsim("predict", KEPT, "--runs", "1", "--plot", str(picture)).returncode == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_help_is_quick_and_lists_the_commands():
    """Help imports no subcommand."""
    done = rollsim("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("predict", "explain", "lab", "validate"))
