"""README says what the program does: its table of causes, and the commands of its pull-request check."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sim.outcomes import Cause

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
APP = ROOT / "configs" / "tutorial" / "manifests" / "app.yaml"
SCENARIO = """\
apiVersion: rollsim/v1
kind: Scenario
metadata: {name: kept-beside-the-chart}
spec:
  update: {deployment: myapp, restart: true, at: 5s}
  load:
    client: go-http
    target: {service: myapp, port: 80}
    connections: 2
    thinkTime: 20ms
    duration: 40s
  images: {"rollsim/app:red": {server: nginx}}
"""


@pytest.fixture
def shell(tmp_path):
    """Runs a line as a pipeline would; `helm` and `kubectl` print the tutorial's app."""
    for name in ("helm", "kubectl"):
        tool = tmp_path / "bin" / name
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\ncat {APP}\n")
        tool.chmod(0o755)
    here = tmp_path / "bin" / "rollsim"
    here.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from sim.cli import main; main()' \"$@\"\n")
    here.chmod(0o755)
    (tmp_path / "rollout.yaml").write_text(SCENARIO)

    def run(line):
        env = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
        return subprocess.run(
            ["bash", "-c", line],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            env=env,
            cwd=tmp_path,
        )

    return run


def test_the_table_of_causes_is_what_explain_prints():
    """Every cause; `rollsim explain --markdown` prints what stands between the two marks."""
    kept = re.search(r"<!-- rollsim explain --markdown -->\n(.*?)<!-- end -->", README, re.DOTALL)
    command = [sys.executable, "-c", "from sim.cli import main; main()", "explain", "--markdown"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert kept[1] == printed
    assert all(f"| `{cause.value}` |" in printed for cause in Cause)


def test_the_check_of_a_pull_request(shell, tmp_path):
    """Its own line fails the tutorial's app, says why, and leaves a report."""
    [line] = re.findall(r"^    - (helm template .*)$", README, re.MULTILINE)
    done = shell(line)
    assert done.returncode == 1
    assert "P(failed ≤ 0)" in done.stderr
    assert ET.parse(tmp_path / "rollout.xml").getroot().get("failures") == "1"


def test_a_scenario_kept_beside_the_chart(shell):
    """The line that sends it along with the render."""
    [line] = re.findall(r"`(\(cat rollout\.yaml; .*? \| rollsim predict -)`", README)
    done = shell(f"{line} --runs 2 --json")
    assert done.returncode == 0, done.stderr
    assert '"scenario": "kept-beside-the-chart"' in done.stdout


def test_every_file_it_names_is_there():
    """Links within the repository lead somewhere."""
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
