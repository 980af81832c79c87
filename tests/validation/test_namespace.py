"""The namespace of a replay: made, filled, and gone whatever happens."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sim.scenario import load_one
from tests.validation.kubectl import Kubectl
from validation import namespace
from validation.access import ReplayError

CONFIGS = Path(__file__).parents[2] / "configs"
DIRECT = load_one(CONFIGS / "observed" / "ka-noprestop-term.yaml")
PROXIED = load_one(CONFIGS / "observed" / "proxy-noprestop-term.yaml")


def test_services_are_applied_before_pods_in_our_namespace():
    """A container's environment holds the addresses of the Services that exist when it starts."""
    cluster = Kubectl()
    namespace.apply(cluster, "ours", tuple(reversed(PROXIED.objects)))
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
        namespace.apply(cluster, "ours", DIRECT.objects)


def test_leftovers_of_a_killed_replay_are_removed():
    """Services first (their ports), then what runs, then the namespace; only namespaces with our label."""
    cluster = Kubectl(get_namespaces="namespace/rollsim-a-1\n")
    namespace.remove_leftovers(cluster)
    assert cluster.asked[0][0] == ("get", "namespaces", "-l", namespace.LABEL, "-o", "name")
    deleted = [args[1] for args, _ in cluster.asked if args[0] == "delete"]
    assert deleted == ["services", "deployments", "jobs", "pods", "namespace"]


def test_namespace_is_a_name_that_kubernetes_takes():
    """Dots and capitals of a scenario's name become dashes."""
    with namespace.own_namespace(Kubectl(), replace(DIRECT, name="proxy-Keep_alive-2.6")) as name:
        assert name.startswith("rollsim-proxy-keep-alive-2-6-")


def test_namespace_goes_whatever_happens():
    """An error inside, or Ctrl-C, and the deletion is made all the same."""
    cluster = Kubectl()
    with pytest.raises(KeyboardInterrupt), namespace.own_namespace(cluster, DIRECT):
        raise KeyboardInterrupt
    assert ("delete", "namespace") in [args[:2] for args, _ in cluster.asked]


def test_what_others_made_is_left_alone():
    """A namespace that only carries our label is not ours: its name does not begin as ours do."""
    cluster = Kubectl(get_namespaces="namespace/shop\n")
    assert namespace.start_removing_leftovers(cluster) == []
    assert [args[0] for args, _ in cluster.asked] == ["get"]


def test_both_errors_are_said():
    """The reason why a run ended is not lost when the API server that ended it cannot be cleaned up either."""
    cluster = Kubectl(delete=ReplayError("The connection to the server was refused"))
    with (
        pytest.raises(ReplayError, match=r"ended its watch.*not cleaned up: The connection.*refused"),
        namespace.own_namespace(cluster, DIRECT),
    ):
        raise ReplayError("the API server ended its watch")
