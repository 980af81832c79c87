"""The oldest dependencies that pyproject.toml allows and the newest that there are: the same model."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from assertions import assert_same_distribution
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from small_sweep import write_scenario

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("sweep", "validation")
RUNS = 3000
FALSE_ALARM = 1e-6
"""Of the whole test, over all scenarios and figures."""
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
TESTED = ("test_cli.py", "test_plots.py", "test_prediction.py", "test_init.py", "sweep/test_parameters.py")
"""What depends most on other people's code: options, pictures, tables, text."""
FIGURES = ("failed", "requests", "rollout_s")


def declared(extras):
    """Name → requirement of what users install with these *extras*."""
    groups = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in groups[extra])]
    wanted = {}
    for line in lines:
        requirement = Requirement(line)
        if requirement.name != PROJECT["name"]:
            name = canonicalize_name(requirement.name)
            least = oldest(requirement)
            if name not in wanted or version_key(least) > version_key(wanted[name]):
                wanted[name] = least
    return wanted


def oldest(requirement):
    [least] = [each.version for each in requirement.specifier if each.operator == ">="]
    return least


def version_key(text):
    return tuple(int(part) for part in text.split("."))


def pins(lock):
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", (ROOT / lock).read_text(), re.MULTILINE))


def test_both_locks_are_one():
    """`pip -c` takes no hashes beside an editable install, so there are two; `make lock` writes both."""
    assert pins("requirements.lock") == pins("requirements-hashes.lock")
    blocks = re.split(r"^(?=[\w.-]+==)", (ROOT / "requirements-hashes.lock").read_text(), flags=re.MULTILINE)[
        1:
    ]
    assert len(blocks) == len(pins("requirements.lock"))
    assert all("--hash=sha256:" in block for block in blocks)


def test_every_dependency_has_a_lower_bound_below_the_lock():
    """What is locked, and so tested every day, lies within what is allowed."""
    locked = pins("requirements.lock")
    for name, least in declared(PROJECT["optional-dependencies"]).items():
        assert version_key(least) <= version_key(re.sub(r"[a-z].*", "", locked[name])), name


@pytest.mark.nightly
@pytest.mark.timeout(3 * 3600)
def test_oldest_and_newest_dependencies_agree(tmp_path):
    """The commands work, files are read alike; counts and times have one distribution, from different seeds.

    A Kolmogorov distance of 0.25 would be noticed (see the assertion), a false alarm has probability 1e-6.
    """
    (tmp_path / "oldest.txt").write_text("".join(f"{n}=={v}\n" for n, v in declared(EXTRAS).items()))
    scenarios = [
        write_scenario(tmp_path),
        ROOT / "configs" / "matrix" / "ka-generic.yaml",
        ROOT / "configs" / "matrix" / "proxy-retries-0.yaml",
    ]
    [old, new] = [
        made_with(tmp_path / name, seed, scenarios, *constraints)
        for name, seed, constraints in (("old", 1, ("-c", tmp_path / "oldest.txt")), ("new", 2, ()))
    ]
    for left, right in zip(old, new, strict=True):
        assert left["read"] == right["read"]
        for figure in FIGURES:
            a, b = (np.array(side[figure], dtype=float) for side in (left, right))
            share = FALSE_ALARM / (len(FIGURES) * len(scenarios))
            assert_same_distribution(a[~np.isnan(a)], b[~np.isnan(b)], false_alarm=share, notices=0.25)


def made_with(venv, seed, scenarios, *constraints):
    """What `rollouts_as_json` makes of *scenarios* in an environment of its own; the commands work there too."""
    python = venv / "bin" / "python"
    run([sys.executable, "-m", "venv", venv])
    run([python, "-m", "pip", "install", "-q", *constraints, f"{ROOT}[{','.join(EXTRAS)}]", *TOOLS])
    tests = [ROOT / "tests" / each for each in TESTED]
    run(
        [python, "-m", "pytest", "-n", 0, "-p", "no:cacheprovider", "-o", "filterwarnings=default", *tests],
        cwd=ROOT,
    )
    run([venv / "bin" / "rollsim", "predict", scenarios[0], "--runs", "2"])
    run([venv / "bin" / "rollsim", "sweep", scenarios[0], "-p", "load.connections=1,2", "--runs", "2",
         "-o", venv / "swept.parquet"])  # fmt: skip
    return json.loads(run([python, Path(__file__).with_name("rollouts_as_json.py"), seed, RUNS, *scenarios]))


def run(command, cwd="/"):
    """What *command* prints."""
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env=os.environ | {"PYTHONHASHSEED": "0"},
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
