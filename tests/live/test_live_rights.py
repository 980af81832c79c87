"""`validate --context` as anybody but the administrator: the shipped ClusterRole suffices, and is little."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sim.scenario import load_one
from validation import namespace as namespaces
from validation import observations
from validation.lab import bases
from validation.lab.cluster import cache_dir
from validation.lab.workload import ensure_images, hand_over

CONFIGS = Path(__file__).parents[2] / "configs"
ROLE = CONFIGS / "rbac" / "validate.yaml"
SCENARIO = CONFIGS / "observed" / "ka-sleep5-term.yaml"
WHO = "rollsim-validator"
NOBODY = 65534
AS_NOBODY = [
    "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
    "--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search",
]  # fmt: skip
"""Reads every file, so that Python starts wherever it lies, and writes none: Docker's socket is closed to it."""

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def validator(lab, namespace, kubeconfig_of):
    """A kubeconfig whose only context, `theirs`, is of a user with the ClusterRole and nothing else."""
    lab.kubectl("apply", "-f", "-", input=ROLE.read_text())
    path = kubeconfig_of(WHO, "theirs")
    lab.kubectl(
        "create", "clusterrolebinding", namespace, f"--clusterrole={WHO}", f"--serviceaccount={namespace}:{WHO}"
    )  # fmt: skip
    yield path
    lab.kubectl("delete", "clusterrolebinding", namespace)
    lab.kubectl("delete", "clusterrole", WHO)


def validate(tmp_path, kubeconfig, *more):
    """The command on the context `theirs`; kubectl is the lab's where the host has none."""
    command = [
        sys.executable,
        "-c",
        "from sim.cli import main; main()",
        "validate",
        str(SCENARIO),
        "--runs",
        "1",
    ]
    command += ["--predictions", "2", "--set", "load.duration=20s", "--context", "theirs", "--json"]
    path = f"{os.environ['PATH']}:{cache_dir() / 'bin'}"
    return subprocess.run(
        [*command, "--observations", str(tmp_path / "kept"), *more],
        env=os.environ | {"KUBECONFIG": str(kubeconfig), "PATH": path},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def may(lab, namespace, *what):
    """Whether the user may do it anywhere."""
    who = f"--as=system:serviceaccount:{namespace}:{WHO}"
    command = lab.kubectl_command("auth", "can-i", *what, "--all-namespaces", who)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() == "yes"


def test_the_shipped_role_suffices(lab, namespace, validator, tmp_path):
    """A whole replay through the API server alone, with the client as a Job; nothing of it stays.

    What the node would tell is not there and not made up: no rule changes, no container's exit.
    """
    ensure_images(lab, load_one(SCENARIO))
    hand_over(lab, [bases.LOAD])
    refused = validate(tmp_path, validator, "--client-image", bases.LOAD)
    assert (refused.returncode, "add --yes" in refused.stderr) == (1, True)
    done = validate(tmp_path, validator, "--client-image", bases.LOAD, "--yes")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout).keys() >= {"seen", "unseen"}
    [run] = observations.read_all(tmp_path / "kept")
    assert run.requests > 0
    assert run.rollout_s is not None
    kinds = {row["what"] for row in run.timeline}
    assert {"pod", "slice", "deployment"} <= kinds
    assert not {"rules", "container", "link"} & kinds
    assert lab.kubectl("get", "namespaces", "-l", namespaces.LABEL, "-o", "name").split() == []


def test_a_user_without_any_right(lab, kubeconfig_of, tmp_path):
    """What is forbidden, and the file that would allow it, in the last line; nothing was made."""
    done = validate(tmp_path, kubeconfig_of("nobody", "theirs"), "--client-image", bases.LOAD, "--yes")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("rollsim validate: Error from server (Forbidden)")
    assert last.endswith(f"{ROLE.relative_to(CONFIGS.parent)} holds what it takes")
    assert lab.kubectl("get", "namespaces", "-l", namespaces.LABEL, "-o", "name").split() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("command", [f"validate {SCENARIO}", "lab status", "lab up", "lab down"])
def test_a_user_whom_docker_refuses(lab, command):
    """One line that says so, never that nothing runs; the lab runs on."""
    words = [*command.split(), "--name", lab.name]
    with TemporaryDirectory(prefix="rollsim-") as cache:  # below tmp_path nobody could look
        os.chown(cache, NOBODY, NOBODY)
        done = subprocess.run(
            [*AS_NOBODY, sys.executable, "-c", "from sim.cli import main; main()", *words],
            env=os.environ | {"HOME": cache, "ROLLSIM_CACHE": cache},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    refused = f"rollsim {words[0]}: docker refuses this user: join its group, or run as root"
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"{refused} \(permission denied [^\n]*\)\n", done.stderr), done.stderr
    assert lab.runs


def test_the_shipped_role_is_little(lab, namespace, validator):
    """No Secret is listed, no pod entered, no right given, no node changed."""
    assert may(lab, namespace, "create", "namespaces")
    for what in (
        ("list", "secrets"),
        ("create", "pods/exec"),
        ("create", "clusterrolebindings"),
        ("create", "rolebindings"),
        ("patch", "nodes"),
        ("create", "pods"),
        ("create", "daemonsets"),
    ):
        assert not may(lab, namespace, *what), what
