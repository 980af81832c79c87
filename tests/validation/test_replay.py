"""A replay's decisions on a cluster that is only a recording of kubectl's answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sim.scenario import load_one
from tests.validation.kubectl import Kubectl
from validation import replay
from validation.access import Access, ReplayError
from validation.lab.cluster import Lab
from validation.lab.commands import CommandFailed

CONFIGS = Path(__file__).parents[2] / "configs"
DIRECT = load_one(CONFIGS / "observed" / "ka-noprestop-term.yaml")
PROXIED = load_one(CONFIGS / "observed" / "proxy-noprestop-term.yaml")


def test_pods_that_never_become_ready_say_why():
    """One line with the count and the reasons of the containers that wait."""
    waiting = {"status": {"containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]}}
    cluster = Kubectl(
        rollout=ReplayError("timed out"),
        get_n_ours_pods=json.dumps({"items": [waiting]}),
    )
    cluster.answers[("get", "-n", "ours", "pods")] = cluster.answers.pop(("get", "n", "ours", "pods"))
    cluster.answers[("get", "-n", "ours", "deployment/myapp")] = json.dumps({"status": {"replicas": 3}})
    with pytest.raises(ReplayError, match=r"within 5 s: 0 of 3 pods ready \(ErrImagePull\)"):
        replay._wait_available(cluster, "ours", DIRECT, 5.0)


@pytest.mark.parametrize(
    ("scenario", "says"),
    [
        (replace(DIRECT, actions=()), "no update"),
        (replace(DIRECT, cluster=replace(DIRECT.cluster, client_on_node=False)), "--client-image"),
    ],
)
def test_what_cannot_be_replayed_is_said(scenario, says):
    """Before anything is applied."""
    with pytest.raises(ReplayError, match=says):
        replay.check(scenario, Kubectl(), None)


@pytest.mark.parametrize(
    ("spec", "in_pod", "expected"),
    [
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30300}]}, False, ("127.0.0.1", 30300)),
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 80, "nodePort": 30300}]}, True, ("10.96.0.9", 80)),
        ({"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}, False, ("10.96.0.9", 80)),
    ],
)
def test_the_load_goes_to_loopback_where_it_can(spec, in_pod, expected):
    """From the node by the NodePort; else by the Service's own address."""
    cluster = Kubectl(get=json.dumps({"spec": spec}))
    target = replay.target_of(cluster, "ours", DIRECT, in_pod=in_pod)
    assert (target.host, target.port) == expected


def test_only_a_scenario_with_haproxy_waits_for_its_checks():
    """HAProxy marks a server DOWN that is not ready yet, and needs its rise to bring it back."""
    assert replay.has_proxy(PROXIED)
    assert not replay.has_proxy(DIRECT)


class Silent:
    """A recording in which the control plane was not heard for so long."""

    def __init__(self, silent_s):
        self.longest_silence_s = lambda: silent_s


@pytest.mark.parametrize(
    ("silent_s", "clock_set_by_s", "says"),
    [(2.1, 0.0, []), (10.4, 0.0, ["stood still for 10 s"]), (2.0, -3600.0, ["clock was set by -3600.0 s"])],
)
def test_time_that_cannot_be_trusted_spoils_a_run(monkeypatch, silent_s, clock_set_by_s, says):
    """An API server that stood still, a clock that jumped: kept, but never held against a prediction."""
    service = {"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": DIRECT.load.port, "nodePort": 30300}]}}
    run = replay._Run(
        DIRECT, Kubectl(get=json.dumps(service)), "ours", limits=replay.DEFAULT_LIMITS, client_image=None, say=print
    )  # fmt: skip
    run._clock_s = replay._clock_offset_s()
    offset_s = run._clock_s + clock_set_by_s
    monkeypatch.setattr(replay, "_clock_offset_s", lambda: offset_s)
    run._require_time(Silent(silent_s))
    assert len(run._spoiled) == len(says)
    assert all(part in said for part, said in zip(says, run._spoiled, strict=True))


def test_a_clock_set_back_does_not_delay_the_update(monkeypatch):
    """The update waits by the clock that nobody can set: an hour back is no hour to wait."""
    slept = []
    service = {"spec": {"clusterIP": "10.96.0.9", "ports": [{"port": DIRECT.load.port, "nodePort": 30300}]}}
    run = replay._Run(
        DIRECT, Kubectl(get=json.dumps(service)), "ours", limits=replay.DEFAULT_LIMITS, client_image=None, say=print
    )  # fmt: skip
    run._clock_s = replay._clock_offset_s()
    started_t = replay.time.time()
    now_t = started_t - 3600
    monkeypatch.setattr(replay.time, "time", lambda: now_t)
    monkeypatch.setattr(replay.time, "sleep", slept.append)
    run._update(Still(), started_t)
    assert sum(slept) <= max(action.at_s for action in DIRECT.actions)


class Still:
    """A recording of Deployments that never change."""

    def objects(self, _name):
        return []

    def wait_until(self, _holds, *, within_s):
        return within_s < 0


@pytest.mark.parametrize(
    "error", [ReplayError("EOF"), CommandFailed(["docker", "exec"], "exit code 1", "No such\n  container")]
)
def test_a_lab_that_is_gone_is_the_reason(error):
    """Killed in the middle of a run: one line that says so, not what followed from it."""
    lab = Lab(name="dead", nodes=("rollsim-no-such-node",), load_container="none", kubeconfig=Path("none"))
    with pytest.raises(ReplayError) as said, replay._in_one_line(Access(lab=lab)):
        raise error
    assert str(said.value) == "the lab 'dead' is gone; rollsim lab up --name dead"


def test_what_docker_refuses_is_one_line():
    """A command's output has many lines; the cluster that it was asked of still runs."""
    with pytest.raises(ReplayError) as said, replay._in_one_line(Access(context="theirs")):
        raise CommandFailed(["docker", "exec"], "exit code 1", "one\ntwo")
    assert len(str(said.value).splitlines()) == 1
