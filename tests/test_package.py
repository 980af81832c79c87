"""What is built from the checkout installs and runs far away from it."""

import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def run(*command, cwd):
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr or done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """An sdist, and the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT), cwd=out)
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The wheel in a fresh environment that finds its dependencies, and nothing else, in this one."""
    place = tmp_path_factory.mktemp("away")
    run(sys.executable, "-m", "venv", "--without-pip", str(place / "venv"), cwd=place)
    python = str(place / "venv" / "bin" / "python")
    [wheel] = built.glob("*.whl")
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", str(wheel), cwd=place)
    own = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=place).strip()
    (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    shutil.copytree(ROOT / "configs" / "tutorial", place / "mine")
    return place


def test_the_sdist_holds_the_sources(built):
    """Modules, timing profiles, license and README; no environment, no caches."""
    [sdist] = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "sim/cli.py",
        "validation/cli.py",
        "configs/timing/defaults.yaml",
        "LICENSE",
        "README.md",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith(".venv")]


def test_the_wheel_predicts_without_the_checkout(installed):
    """Its own modules and its own timing profiles, from a folder that is no checkout."""
    rollsim = str(installed / "venv" / "bin" / "rollsim")
    python = str(installed / "venv" / "bin" / "python")
    where = run(
        python, "-c", "import sim, validation; print(sim.__file__, validation.__file__)", cwd=installed
    )
    assert all(path.startswith(str(installed)) for path in where.split())
    said = run(rollsim, "predict", "mine/2-keepalive.yaml", "--runs", "2", cwd=installed)
    assert "idle_closed" in said
    assert "(nearest " in said  # the table of validated scenarios came along
    assert "median" in run(
        rollsim, "predict", "mine", "--runs", "1", "--json", "--set", "timing=kind-1.34", cwd=installed
    )
    run(rollsim, "init", "mine/manifests/app.yaml", cwd=installed)
    assert "rollsim 0." in run(rollsim, "--version", cwd=installed)


def test_every_command_of_the_wheel_has_its_help(installed):
    """No module was left out."""
    rollsim = str(installed / "venv" / "bin" / "rollsim")
    listed = run(rollsim, "--help", cwd=installed).partition("commands\n")[2].partition("\n\n")[0]
    names = [line.split()[0] for line in listed.splitlines()]
    assert {"predict", "init", "explain", "lab", "validate"} <= set(names)
    for name in names:
        assert "--help" in run(rollsim, name, "--help", cwd=installed)
