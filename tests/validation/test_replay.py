"""A replay's decisions on a cluster that is only a recording of kubectl's answers."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sim.scenario import load_one
from validation import replay
from validation.access import ReplayError

CONFIGS = Path(__file__).parents[2] / "configs"
DIRECT = load_one(CONFIGS / "observed" / "ka-noprestop-term.yaml")
PROXIED = load_one(CONFIGS / "observed" / "proxy-noprestop-term.yaml")


class Kubectl:
    """Answers by the start of the arguments; keeps what was asked."""

    lab = None

    def __init__(self, **answers):
        self.answers = {tuple(name.split("_")): answer for name, answer in answers.items()}
        self.asked = []

    def kubectl(self, *args, stdin=None, timeout_s=0):
        self.asked.append((args, stdin))
        for start, answer in self.answers.items():
            if args[: len(start)] == start:
                if isinstance(answer, Exception):
                    raise answer
                return answer
        return ""

    def get(self, *args):
        return json.loads(self.kubectl("get", *args))


def test_services_are_applied_before_pods_in_our_namespace():
    """A container's environment holds the addresses of the Services that exist when it starts."""
    cluster = Kubectl()
    replay._apply(cluster, "ours", tuple(reversed(PROXIED.objects)))
    items = json.loads(cluster.asked[0][1])["items"]
    kinds = [item["kind"] for item in items]
    assert kinds.index("Deployment") > max(
        i for i, kind in enumerate(kinds) if kind in ("Service", "ConfigMap")
    )
    assert {item["metadata"]["namespace"] for item in items} == {"ours"}
    assert all("namespace" not in item["metadata"] for item in PROXIED.objects)


def test_a_taken_port_names_its_holder():
    """The API server only says that it is taken."""
    service = {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"ports": [{"nodePort": 30300}]}}
    taken = ReplayError("spec.ports[0].nodePort: Invalid value: 30300: provided port is already allocated")
    cluster = Kubectl(apply=taken, get_services=json.dumps({"items": [service]}))
    with pytest.raises(ReplayError, match="NodePort taken: 30300 belongs to service shop/web"):
        replay._apply(cluster, "ours", DIRECT.objects)


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


def test_leftovers_of_a_killed_replay_are_removed():
    """Services first (their ports), then what runs, then the namespace; only namespaces with our label."""
    cluster = Kubectl(get_namespaces="namespace/rollsim-a-1\n")
    replay.remove_leftovers(cluster)
    assert cluster.asked[0][0] == ("get", "namespaces", "-l", replay.LABEL, "-o", "name")
    deleted = [args[1] for args, _ in cluster.asked if args[0] == "delete"]
    assert deleted == ["services", "deployments", "jobs", "pods", "namespace"]


def test_namespace_is_a_name_that_kubernetes_takes():
    """Dots and capitals of a scenario's name become dashes."""
    with replay._namespace(Kubectl(), replace(DIRECT, name="proxy-Keep_alive-2.6")) as name:
        assert name.startswith("rollsim-proxy-keep-alive-2-6-")


def test_namespace_goes_whatever_happens():
    """An error inside, or Ctrl-C, and the deletion is made all the same."""
    cluster = Kubectl()
    with pytest.raises(KeyboardInterrupt), replay._namespace(cluster, DIRECT):
        raise KeyboardInterrupt
    assert ("delete", "namespace") in [args[:2] for args, _ in cluster.asked]


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
