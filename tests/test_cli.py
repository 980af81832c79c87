"""The command as a user calls it: a process of its own, its output and its exit code."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sim.cli import COMMANDS

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


def test_the_gate_is_told_in_json_and_junit(tmp_path):
    """What was checked, with how many rollouts; the file is whole and alone."""
    report = tmp_path / "rollouts.xml"
    done = rollsim(
        "predict", KEPT, DRAINED, "--runs", "5", "--fail-above", "0", "--json", "--junit", str(report)
    )
    assert done.returncode == 1
    kept, drained = json.loads(done.stdout)
    assert (kept["runs"], kept["gate"]["verdict"], kept["gate"]["runs"]) == (5, "missed", 5)
    assert (drained["runs"], drained["gate"]["verdict"]) == (5, "reached")
    assert drained["gate"]["runs"] > 50
    assert done.stderr.startswith("tutorial-2-keepalive: P(failed ≤ 0) = 0.000")
    [suite] = ET.parse(report).getroot()
    assert [case.find("failure") is None for case in suite] == [False, True]
    assert [path.name for path in tmp_path.iterdir()] == ["rollouts.xml"]


def test_manifests_alone_come_through_a_pipe():
    """Without a Scenario document what is assumed is said on standard error."""
    manifests = (TUTORIAL / "manifests" / "app.yaml").read_text()
    done = rollsim("predict", "-", "--runs", "2", "--json", "--set", "load.connections=3", stdin=manifests)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["scenario"] == "myapp"
    for part in ("no Scenario on standard input", "myapp", "rollsim/app:red: nginx"):
        assert part in done.stderr


def test_a_scenario_in_the_pipe_is_taken():
    """A Scenario document among the manifests says it all: nothing is assumed."""
    manifests = (TUTORIAL / "manifests" / "app.yaml").read_text()
    scenario = Path(KEPT).read_text().replace("manifests: [manifests/app.yaml]", "")
    done = rollsim("predict", "-", "--runs", "2", "--json", stdin=f"{scenario}\n---\n{manifests}")
    assert json.loads(done.stdout)[0]["scenario"] == "tutorial-2-keepalive"
    assert done.stderr == ""


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
        (["predict", KEPT, "--runs", "0"], "--runs"),
        (["predict", KEPT, "--no-such"], "--no-such"),
        (["predict"], "no SCENARIO given"),
        (["predict", "-"], "nothing came on standard input"),
        (["predict", KEPT, "-n", "shop"], "--from-cluster"),
        (["predict", "--from-cluster", "web"], "expected deployment/NAME"),
        (["predict", DRAINED, "--runs", "1", "--junit", "/no/such/folder/x.xml"], "/no/such/folder/x.xml"),
        (["init", "no-such.yaml"], "no-such.yaml"),
        (["init"], "MANIFESTS"),
        (["explain", "bad-luck"], "bad-luck"),
        (["foretell"], "foretell"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments, part):
    """No traceback; the line names what was read."""
    done = rollsim(*arguments, stdin="")
    assert done.returncode == 2
    if "--junit" not in arguments:
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
    assert all(name in done.stdout for name in ("predict", "init", "explain", "lab", "validate"))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_examples(command):
    """Lines that can be typed, of the command itself."""
    done = rollsim(command, "--help")
    assert done.returncode == 0
    examples = re.split("(?i:examples?)\\s*\n", done.stdout, maxsplit=1)[-1]
    assert f"rollsim {command} " in examples


def completed(*words: str) -> list[str]:
    """What bash is offered after *words*."""
    line = " ".join(("rollsim", *words))
    env = os.environ | {
        "_ROLLSIM_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words)),
    }
    command = [sys.executable, "-c", "from sim.cli import main; main()"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=env)
    return done.stdout.split()


def test_shell_completion():
    """Commands, then the options of one of them and the causes of `explain`; the script is Typer's own."""
    assert "predict" in completed("pr")
    assert {"init", "validate", "lab"} <= set(completed(""))
    assert {"--fail-above", "--from-cluster"} <= set(completed("predict", "--f"))
    assert completed("explain", "idle_c") == ["idle_closed"]
    shown = rollsim("--show-completion", "bash")
    if shown.returncode != 0:  # it takes the shell that runs it where that can be told
        shown = rollsim("--show-completion")
    assert "_ROLLSIM_COMPLETE" in shown.stdout + shown.stderr
