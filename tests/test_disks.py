"""Every command that writes a file, on a full disk and a read-only one: one line, and nothing half-written."""

import os
import subprocess
import sys

import pytest
from small_sweep import ROLLSIM, rollsim, write_scenario

DISKS = {
    "full": "head -c 100000 /dev/zero > $DISK/filling 2>/dev/null",
    "read-only": "mount -o remount,ro $DISK",
}
REASONS = {"full": "No space left on device", "read-only": "Read-only file system"}
SCRIPT = 'mount -t tmpfs -o size=64k disk $DISK && {{ {prepare}; "$@" >/dev/null; code=$?; ls -A $DISK; exit $code; }}'
"""The mount lives in a namespace of its own, and goes with the process."""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A scenario, what a sweep of it has found, and where the disk is put."""
    folder = tmp_path_factory.mktemp("disks")
    write_scenario(folder)
    (folder / "disk").mkdir()
    rollsim(
        "sweep", "small.yaml", "-p", "load.connections=2,4", "--runs", 2, "-o", "swept.parquet", cwd=folder
    )
    return folder


def on_disk(folder, kind, *arguments):
    """The command's end, with the disk of that *kind* at `disk`; its output is what it left there."""
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", SCRIPT.format(prepare=DISKS[kind]), "sh", *ROLLSIM, *arguments],
        cwd=folder,
        env=os.environ | {"DISK": str(folder / "disk")},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _may_mount(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mount")
    (folder / "disk").mkdir()
    script = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs disk disk"]
    if subprocess.run(script, cwd=folder, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk (root)")


COMMANDS = (
    "init app.yaml -o disk/scenario.yaml",
    "sweep small.yaml -p load.connections=2,4 --runs 2 -o disk/out.parquet",
    "plot swept.parquet -o disk/picture.png",
    "predict small.yaml --runs 2 --plot disk/rollout.png",
    "predict small.yaml --runs 2 --junit disk/junit.xml",
    "advise small.yaml --set load.keepAlive=false --allow preStop --runs 20 --target 0.5 --patch disk/fix.patch",
)
"""One of each way to write; what writes as another one does needs only one disk."""


@pytest.mark.parametrize(
    ("kind", "command"),
    [*(("full", each) for each in COMMANDS), *(("read-only", each) for each in COMMANDS[:3])],
)
def test_a_disk_that_takes_nothing(place, kind, command):
    """The file and the reason in one line, code 2: the user named the place; no file, no part of one."""
    done = on_disk(place, kind, *command.split())
    assert done.returncode == 2, done.stderr
    said = [line for line in done.stderr.splitlines() if REASONS[kind] in line]
    assert len(said) == 1
    assert "disk/" in said[0]
    assert "Traceback" not in done.stderr
    assert not [n for n in done.stdout.split() if n != "filling" and not n.endswith(".parts")], done.stdout


def test_output_that_nobody_takes(place):
    """Standard output on a full disk is one line and code 1; a reader that has enough (`head`) is no error."""
    command = [*ROLLSIM, "predict", "small.yaml", "--runs", "2"]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, cwd=place, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "rollsim predict: the output: No space left on device\n")
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, cwd=place, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert (done.returncode in (1, 141), done.stderr) == (
        True,
        "",
    )  # Rich ends with 1, the shell's own way is 141


def test_a_replay_is_not_made_where_it_cannot_be_kept(place):
    """Before anything is asked of a cluster, and with code 1: nothing is wrong with the scenario."""
    code = "import sys, pathlib; from validation.observations import *; make_ready(pathlib.Path(sys.argv[1]))"
    for kind, reason in (("full", "are free for runs"), ("read-only", "cannot be written to")):
        script = ["unshare", "--mount", "sh", "-c", SCRIPT.format(prepare=DISKS[kind]), "sh"]
        done = subprocess.run(
            [*script, sys.executable, "-c", code, str(place / "disk")],
            env=os.environ | {"DISK": str(place / "disk")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert reason in done.stderr.splitlines()[-1]
        assert done.stdout.split() in ([], ["filling"])
