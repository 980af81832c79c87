"""A replay on the running lab: kept whole, and nothing left behind when it is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from sim.scenario import load_one
from validation import namespace, observations, replay
from validation.access import Access, ReplayError
from validation.campaign import Plan, prepare, run_scenario
from validation.namespace import remove_leftovers
from validation.replay import Limits

pytestmark = pytest.mark.timeout(400)

CONFIGS = Path(__file__).parents[2] / "configs"
SLEEP5 = CONFIGS / "observed" / "ka-sleep5-term.yaml"
SHORT = ("load.duration=24s", "load.connections=6")


def namespaces(lab):
    return lab.kubectl("get", "namespaces", "-l", namespace.LABEL, "-o", "name").split()


def test_each_kept_connection_ends_once(lab, tmp_path):
    """`preStop: sleep 5` and keep-alive: every connection fails once or twice, each put to its cause.

    But not those whose last answer said that the server closes: nginx says so in the answers that it writes
    in the same round of its loop in which it has heard SIGTERM (some 3 of 100 in the kept runs).
    """
    scenario = load_one(SLEEP5, SHORT)
    plan = Plan(folder=tmp_path, predictions=2)
    prepare(scenario, Access(lab=lab), plan)
    seen = run_scenario(scenario, Access(lab=lab), plan)
    remove_leftovers(Access(lab=lab))
    n_announced = seen.report["closes_announced"]
    assert 6 <= seen.failed + n_announced <= 12
    assert n_announced <= 3
    assert set(seen.seen) <= {"eof_reused", "rst_reused"}
    assert seen.causes.get("idle_closed", 0) >= 5 - n_announced
    assert seen.rollout_s is not None
    assert {"pod", "slice", "rules", "container", "link", "deployment"} <= {
        row["what"] for row in seen.timeline
    }
    kept = observations.read(tmp_path / scenario.name / "0001.json.gz")
    assert replace(kept, failures=()) == replace(seen, failures=())
    assert len(kept.failures) == seen.failed
    assert all(
        dict(wrote).items() <= dict(saw).items()
        for wrote, saw in zip(kept.failures, seen.failures, strict=True)
    )


def test_ctrl_c_leaves_the_cluster_as_found(lab, tmp_path):
    """Interrupted under load: no namespace stays, no run is kept, the client in the container has ended."""
    argv = [sys.executable, "-c", "from sim.cli import main; main()", "validate", str(SLEEP5)]
    argv += ["--name", lab.name]
    argv += ["--observations", str(tmp_path), "--predictions", "2"]
    process = subprocess.Popen(
        argv, stderr=subprocess.PIPE, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stderr is not None
    assert any(line.strip() == "load" for line in process.stderr)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=150)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1].startswith("rollsim validate: interrupted")
    assert namespaces(lab) == []
    assert not list(tmp_path.rglob("*.gz"))
    assert "clients.plain" not in lab.in_load("ps", "-ef")


def test_a_port_that_is_taken(lab, namespace):
    """The Service that has it is named; the namespace is gone."""
    scenario = load_one(SLEEP5)
    service = next(o for o in scenario.objects if o["kind"] == "Service")
    name, port = service["metadata"]["name"], service["spec"]["ports"][0]["nodePort"]
    lab.kubectl("-n", namespace, "apply", "-f", "-", input=json.dumps(service))
    with pytest.raises(ReplayError, match=f"^NodePort taken: {port} belongs to service {namespace}/{name}$"):
        replay.replay(scenario, Access(lab=lab))
    remove_leftovers(Access(lab=lab))
    assert namespaces(lab) == []


def test_a_deployment_that_never_becomes_ready(lab):
    """One line with the reason; the namespace is gone."""
    broken = load_one(SLEEP5)
    deployment = next(o for o in broken.objects if o["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["image"] = "rollsim/no-such-image:none"
    with pytest.raises(ReplayError, match=r"did not become ready within 20 s: 0 of 3 pods ready \(.*Pull"):
        replay.replay(broken, Access(lab=lab), limits=Limits(ready_s=20))
    remove_leftovers(Access(lab=lab))
    assert namespaces(lab) == []
