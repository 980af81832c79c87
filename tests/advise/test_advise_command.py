"""`rollsim advise` and `rollsim diff` as a user calls them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from web_app import APP

from sim.prediction import predict
from sim.scenario import load_one

CONFIGS = Path(__file__).parent.parent.parent / "configs"
FILES = {
    "small.yaml": """\
apiVersion: rollsim/v1
kind: Scenario
metadata: {name: small}
spec:
  manifests: [app.yaml]
  update: {deployment: web, container: web, image: "web:2", at: 1s}
  load:
    client: plain
    target: {service: web, port: 80}
    connections: 4
    keepAlive: KEEP
    thinkTime: {exponential: 20ms}
    duration: 30s
  images:
    "web:1": {server: go-http-shutdown, startup: 50ms, serviceTime: 1ms}
    "web:2": {server: go-http-shutdown, startup: 50ms, serviceTime: 1ms}
""",
    "app.yaml": APP,
}


def rollsim(*arguments, cwd, code=0):
    command = [sys.executable, "-c", "from sim.cli import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, cwd=cwd)
    assert done.returncode == code, done.stdout + done.stderr
    return done


@pytest.fixture
def folder(tmp_path):
    """A scenario of a client that connects anew for every request."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text.replace("KEEP", "false"))
    return tmp_path


def test_the_cheapest_change_comes_as_a_patch_that_works(folder):
    """Refused connects of a server without preStop: a sleep. The patch applies, and then nothing fails."""
    done = rollsim("advise", "small.yaml", "--patch", "fix.patch", "--runs", 300, cwd=folder)
    assert "preStop sleep 5 s (web)" in done.stdout
    assert "at least 0.99" in done.stdout
    for what in ("rollout time", "extra pods", "latency", "each old pod lives 5 s longer"):
        assert what in done.stdout
    patch = (folder / "fix.patch").read_text()
    assert [
        line for line in patch.splitlines() if line.startswith(("-", "+")) and line[:3] not in ("---", "+++")
    ] == ["+          lifecycle: {preStop: {sleep: {seconds: 5}}}"]
    before = predict(load_one(folder / "small.yaml"), runs=20, seed=5)
    subprocess.run(["git", "apply", "fix.patch"], cwd=folder, check=True, timeout=30)
    after = predict(load_one(folder / "small.yaml"), runs=40, seed=5)
    assert before.p_zero < 0.5
    assert after.p_zero > 0.9
    assert "# and another" in (folder / "app.yaml").read_text()
    assert "nothing to change" in rollsim("advise", "small.yaml", "--runs", 300, cwd=folder).stdout


def test_neither_needs_what_only_sweeps_need(folder):
    """With rollsim's own dependencies alone, as `pip install rollsim` leaves it."""
    code = (
        "import sys; sys.modules |= dict.fromkeys(('pyarrow', 'scipy', 'distributed'));"
        "from sim.cli import main; main()"
    )
    for arguments in (
        ("advise", "small.yaml", "--allow", "preStop", "--runs", "300", "--processes", "1"),
        ("diff", "small.yaml", "--set", "load.connections=2", "--runs", "2", "--processes", "1"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=folder
        )
        assert done.returncode == 0, done.stderr


def test_what_works_together_is_set_together(folder):
    """A grace period that cannot hold the sleep is raised with it."""
    grace = "deployment/web.spec.template.spec.terminationGracePeriodSeconds=2"
    done = rollsim("advise", "small.yaml", "--set", grace, "--runs", 300, "--json", cwd=folder)
    facts = json.loads(done.stdout)
    assert facts["reached"]
    sets = {path: value for option in facts["change"] for path, value in option["set"].items()}
    assert sets == {
        "deployment/web.spec.template.spec.containers[web].lifecycle.preStop": {"sleep": {"seconds": 5}},
        "deployment/web.spec.template.spec.terminationGracePeriodSeconds": 15,
    }
    assert facts["confirmed"]["p_zero_at_least"] >= 0.99
    assert facts["comparison"]["failed"]["new"] == 0
    assert "terminationGracePeriodSeconds: 15" in facts["patch"]


def test_where_nothing_helps_the_remaining_cause_is_named(folder):
    """Kept-alive connections of a server that closes idle ones: no sleep moves them. Exit code 1."""
    (folder / "small.yaml").write_text(FILES["small.yaml"].replace("KEEP", "true"))
    done = rollsim("advise", "small.yaml", "--allow", "preStop,grace", cwd=folder, code=1)
    assert "nothing allowed reaches" in done.stdout
    assert "idle_closed" in done.stdout
    assert "---" not in done.stdout


def test_only_what_is_allowed_is_changed(folder):
    """--allow leaves out the sleep; --also brings in a field of the user's own."""
    lifecycle = "deployment/web.spec.template.spec.containers[0].lifecycle"
    done = rollsim(
        "advise", "small.yaml", "--allow", "readiness,strategy", "--also",
        f"{lifecycle}={{preStop: {{sleep: {{seconds: 7}}}}}}", "--runs", 300, "--json", cwd=folder,
    )  # fmt: skip
    sets = [path for option in json.loads(done.stdout)["change"] for path in option["set"]]
    assert lifecycle in sets
    assert not any("preStop" in path or "Grace" in path for path in sets)


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--allow", "luck"), "luck"),
        (("--target", "1"), "--target"),
        (("--confidence", "0"), "--confidence"),
        (("--also", "load.conections=1"), "conections"),
        (("--set", "update=[]"), "update"),
    ],
)
def test_bad_input_is_one_line_and_code_2(folder, arguments, part):
    """No traceback; the line names what was read."""
    done = rollsim("advise", "small.yaml", *arguments, cwd=folder, code=2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert part in done.stderr


def test_diff_sees_a_change_in_pairs(folder):
    """Before and after --set: fewer fail, the interval leaves out zero; the same file twice: no difference at all."""
    sleep = "deployment/web.spec.template.spec.containers[0].lifecycle={preStop: {sleep: {seconds: 5}}}"
    facts = json.loads(
        rollsim("diff", "small.yaml", "--set", sleep, "--runs", 40, "--json", cwd=folder).stdout
    )
    assert facts["failed"]["interval95"][1] < 0
    assert facts["p_zero"]["interval95"][0] > 0
    assert facts["runs"] == 40
    before = predict(load_one(folder / "small.yaml"), runs=40)
    assert facts["failed"]["old"] == pytest.approx(before.failed.mean())
    (folder / "other.yaml").write_text((folder / "small.yaml").read_text())
    same = rollsim("diff", "small.yaml", "other.yaml", "--runs", 10, cwd=folder)
    assert "no difference in failed requests is seen" in same.stdout
    assert "nothing to compare" in rollsim("diff", "small.yaml", cwd=folder, code=2).stderr
