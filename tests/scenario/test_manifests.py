"""Which objects are modelled, ignored or refused, and what the API server says to bad Services."""

import pytest

from sim.errors import InputError, UnsupportedInput
from sim.scenario.manifests import IGNORED_KINDS, IGNORED_WITH_WARNING, REFUSED_KINDS


def refused(files, part, error=InputError):
    with pytest.raises(error) as caught:
        files.load()
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


def an_object(kind, **fields):
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "x"}, **fields}


# ---------------------------------------------------------------- kinds


@pytest.mark.parametrize("kind", sorted(REFUSED_KINDS))
def test_refused_kinds(files, kind):
    """Each by its name and with a reason."""
    files.more.append(an_object(kind))
    refused(files, f"{kind} x: {kind} is not modelled: ", UnsupportedInput)


@pytest.mark.parametrize("kind", [*sorted(REFUSED_KINDS), "SomebodysOwnKind"])
def test_a_kind_that_the_scenario_leaves_out(files, kind):
    """Predicted without it, and each prediction says so."""
    files.more.append(an_object(kind))
    refused(files, f"spec.leaveOut: [{kind}] predicts without it", UnsupportedInput)
    files.spec["leaveOut"] = [kind]
    [warning] = files.load().warnings
    assert f"{kind} x: left out" in warning


def test_a_modelled_kind_cannot_be_left_out(files):
    """It would be another cluster."""
    files.spec["leaveOut"] = ["Service"]
    refused(files, "spec.leaveOut: Service is modelled")


@pytest.mark.parametrize("kind", sorted(IGNORED_KINDS))
def test_ignored_kinds(files, kind):
    """Kinds that cannot change the answer are taken without a word."""
    files.more.append(an_object(kind, spec={"anything": 1}))
    assert files.load().warnings == ()


@pytest.mark.parametrize("kind", sorted(IGNORED_WITH_WARNING))
def test_kinds_ignored_knowingly(files, kind):
    """A PodDisruptionBudget has no say in a rolling update: ignored, and said."""
    files.more.append(an_object(kind))
    assert any(f"{kind} x: ignored: " in note for note in files.load().warnings)


def test_unknown_kind(files):
    """It may change the answer, so it is not passed over."""
    files.more.append(an_object("Teapot"))
    refused(files, 'kind "Teapot" is not known, so it may change the answer', UnsupportedInput)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (
            {"apiVersion": "extensions/v1beta1"},
            'apiVersion: got "extensions/v1beta1", allowed for a Deployment: apps/v1',
        ),
        ({"apiVersion": None}, "got apiVersion nothing"),
        ({"metadata": {}}, "metadata.name: missing"),
        ({"metadata": {"name": "My_App"}}, 'metadata.name: got "My_App", expected lower case'),
        ({"metadata": {"name": "app", "lables": {}}}, "metadata.lables: unknown field; did you mean labels?"),
        ({"sepc": {}}, "sepc: unknown field; did you mean spec?"),
    ],
)
def test_envelope(files, change, part):
    """apiVersion, kind and metadata are checked as strictly as the API server does."""
    files.deployment.update(change)
    refused(files, part)


def test_an_object_stands_once(files):
    """Two of one kind and name are a mistake."""
    files.more.append(files.service)
    refused(files, "Service app: stands twice")


def test_one_namespace(files):
    """Services find pods of their own namespace only; one is modelled."""
    for document in (files.config_map, files.service, files.deployment):
        document["metadata"]["namespace"] = "shop"
    assert all("namespace" not in found["metadata"] for found in files.load().objects)
    files.service["metadata"]["namespace"] = "other"
    refused(files, "objects in several namespaces (shop, other)", UnsupportedInput)


# ---------------------------------------------------------------- Services


def service_of(files, **spec):
    files.service["spec"].update(spec)
    return files.load().services[0]


def test_service_defaults(files):
    """ClusterIP, every node's endpoints, no affinity, the port as target."""
    service = service_of(files)
    assert (service.type, service.headless, service.session_affinity_s) == ("ClusterIP", False, None)
    assert not service.external_traffic_local
    assert not service.publish_not_ready
    assert (service.ports[0].port, service.ports[0].target_port) == (80, 80)


def test_node_port_with_everything(files):
    """All fields that decide where a connection goes."""
    service = service_of(
        files,
        type="NodePort",
        externalTrafficPolicy="Local",
        internalTrafficPolicy="Local",
        sessionAffinity="ClientIP",
        publishNotReadyAddresses=True,
        ports=[
            {"name": "http", "port": 80, "nodePort": 30300},
            {"name": "dns", "port": 53, "protocol": "UDP"},
        ],
    )
    assert service.session_affinity_s == 10800
    assert service.external_traffic_local
    assert service.internal_traffic_local
    assert service.publish_not_ready
    assert [(port.name, port.node_port) for port in service.ports] == [("http", 30300)]


def test_affinity_timeout(files):
    """1 s to one day, as the API server has it."""
    config = {"clientIP": {"timeoutSeconds": 60}}
    assert (
        service_of(files, sessionAffinity="ClientIP", sessionAffinityConfig=config).session_affinity_s == 60
    )
    config["clientIP"]["timeoutSeconds"] = 86401
    refused(files, "timeoutSeconds: got 86401, expected an integer from 1 to 86400")


def test_named_target_port(files):
    """A name that one of the pod's containers declares."""
    files.container["ports"] = [{"name": "http", "containerPort": 80}]
    assert service_of(files, ports=[{"port": 80, "targetPort": "http"}]).ports[0].target_port == "http"
    files.service["spec"]["ports"] = [{"port": 80, "targetPort": "https"}]
    refused(files, "targetPort: got https, but no container of Deployment app listens there (web: 80, http)")


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ({"type": "Cluster"}, 'type: got "Cluster", allowed: ClusterIP, NodePort'),
        ({"type": "ExternalName"}, "type: not modelled"),
        ({"selector": None}, "selector: not modelled: a Service without a selector"),
        ({"selector": {"app": "nobody"}}, "which matches the pods of no Deployment"),
        ({"ports": []}, "ports: got an empty list"),
        ({"ports": [{"port": 0}]}, "ports[0].port: got 0"),
        ({"ports": [{"port": 80, "nodePort": 30300}]}, "may not be used when type is ClusterIP"),
        ({"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]}, "expected 30000 to 32767"),
        ({"ports": [{"port": 80}, {"port": 81}]}, "ports[0].name: missing"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "a", "port": 81}]}, "that stands once"),
        ({"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 80}]}, "port: got 80, stands twice"),
        ({"ports": [{"port": 80, "targetPort": 8080}]}, "targetPort: got 8080, but no container"),
        ({"ports": [{"port": 80, "targetPort": -1}]}, "targetPort: got -1"),
        ({"clusterIP": "None"}, "app is headless"),
        ({"type": "NodePort", "clusterIP": "None"}, "may not be None for a NodePort Service"),
        ({"externalTrafficPolicy": "Local"}, "may only be set for NodePort and LoadBalancer"),
        ({"externalIPs": ["1.2.3.4"]}, "externalIPs: not modelled"),
        ({"trafficDistribution": "PreferSameNode"}, "trafficDistribution: not modelled"),
        ({"portz": []}, "did you mean ports?"),
    ],
)
def test_bad_service(files, spec, part):
    """One line with the field, as the API server would refuse it, or by name where it is not modelled."""
    files.service["spec"].update(spec)
    refused(files, part)


def test_load_balancer(files):
    """Its Service inside the cluster is modelled, the machine outside is not: said."""
    files.service["spec"]["type"] = "LoadBalancer"
    assert any("external load balancer is not modelled" in note for note in files.load().warnings)
