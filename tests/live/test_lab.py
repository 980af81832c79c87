"""The lab on itself: what stays inside, what a vanished pod's address answers, what its images do."""

import json
import re
import subprocess
import sys
import time

import pytest
import yaml

from sim.scenario import load_one
from validation.lab import bases, kind, network
from validation.lab.commands import run, wait_until
from validation.lab.network import Vanished
from validation.lab.workload import ensure_images, hand_over

pytestmark = pytest.mark.timeout(300)

DEAD = "10.244.0.250"
"""An address of the first node's pod range that no pod has: host-local hands them out from .2 upwards."""
NODE_PORT = 30999
ATTEMPT_S = 3.5
"""A connect lasts so long: SYNs at 0, 1, 2 and 3 s (kernel 6.5 and newer; older ones 0, 1 and 3 s)."""

CONNECT = f"""
import errno, socket, sys, time
begun = time.monotonic()
with socket.socket() as client:
    client.settimeout({ATTEMPT_S})
    try:
        client.connect((sys.argv[1], int(sys.argv[2])))
        seen = "connected"
    except TimeoutError:
        seen = "timeout"
    except OSError as error:
        seen = errno.errorcode[error.errno]
print(seen, time.monotonic() - begun)
"""


@pytest.fixture
def dead_service(lab, namespace):
    """A Service whose only endpoint is an address that no pod has any more."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "dead", "namespace": namespace},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": NODE_PORT}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "dead-1",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": "dead"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": [DEAD], "conditions": {"ready": True}}],
    }
    lab.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([service, endpoints]))
    wait_until("kube-proxy knows the dead endpoint", lambda: dnat_hits(lab) is not None, timeout_s=30)
    address = "jsonpath={.spec.clusterIP}"
    return lab.kubectl("-n", namespace, "get", "service", "dead", "-o", address).strip()


@pytest.fixture
def restored(lab):
    """What a vanished address answers is as before, after the test."""
    before = network.vanished(lab) or Vanished.PINNED
    yield
    network.set_vanished(lab, before)


@pytest.fixture
def client_pod(lab, namespace):
    """A pod with Python: its packets are forwarded by the node."""
    hand_over(lab, [bases.LOAD])
    lab.kubectl(
        "-n", namespace, "run", "client", f"--image={bases.LOAD}", "--image-pull-policy=Never",
        "--overrides", json.dumps({"spec": {"nodeName": lab.node_container, "terminationGracePeriodSeconds": 0}}),
        "--command", "--", "sleep", "300",
    )  # fmt: skip
    lab.kubectl("-n", namespace, "wait", "--for=condition=Ready", "pod/client", "--timeout=60s")
    return "client"


def dnat_hits(lab):
    """Packets that the first node's rules sent to the dead endpoint; None while there is no such rule."""
    rules = lab.in_node("iptables-save", "-c", "-t", "nat")
    found = re.findall(rf"^\[(\d+):\d+\] .*-j DNAT --to-destination {DEAD}:80", rules, re.MULTILINE)
    return int(found[0]) if found else None


def attempt(lab, *client):
    """What one connect saw, how long it took, and how often a SYN was given the dead endpoint."""
    before = dnat_hits(lab)
    seen, took_s = run([*client, "python3", "-c", CONNECT, *attempt.target], timeout_s=30).split()
    return seen, float(took_s), dnat_hits(lab) - before


def local(lab):
    """A client in the node's network namespace, as the load runs."""
    attempt.target = ("127.0.0.1", str(NODE_PORT))
    return attempt(lab, "docker", "exec", lab.load_container)


def forwarded(lab, namespace, pod, address):
    """A client in a pod, against the Service's own address."""
    attempt.target = (address, "80")
    return attempt(lab, *lab.kubectl_command("-n", namespace, "exec", pod, "--"))


@pytest.mark.usefixtures("restored")
def test_pinned_silence_keeps_every_syn_at_the_dead_address(lab, namespace, dead_service, client_pod):
    """conntrack has confirmed the flow: one draw, however often the SYN is sent; local and forwarded alike."""
    network.set_vanished(lab, Vanished.PINNED)
    assert [local(lab)[::2], forwarded(lab, namespace, client_pod, dead_service)[::2]] == [("timeout", 1)] * 2


@pytest.mark.usefixtures("restored")
def test_redrawn_silence_gives_every_syn_a_new_endpoint(lab, namespace, dead_service, client_pod):
    """The flow is forgotten: each SYN is a new draw, local and forwarded alike."""
    network.set_vanished(lab, Vanished.REDRAWN)
    for seen, _, hits in (local(lab), forwarded(lab, namespace, client_pod, dead_service)):
        assert seen == "timeout"
        assert 3 <= hits <= 4


@pytest.mark.usefixtures("restored")
def test_unreachable_is_seen_by_a_forwarded_client_alone(lab, namespace, dead_service, client_pod):
    """ICMP ends a pod's connect at once; for a client of the node itself it is silence, drawn anew."""
    network.set_vanished(lab, Vanished.UNREACHABLE)
    seen, _, hits = local(lab)
    assert seen == "timeout"
    assert 3 <= hits <= 4
    seen, took_s, hits = forwarded(lab, namespace, client_pod, dead_service)
    assert (seen, hits) == ("EHOSTUNREACH", 1)
    assert took_s < 0.5


@pytest.mark.usefixtures("restored", "dead_service")
def test_no_packet_to_a_vanished_address_leaves_the_machine(lab):
    """Counters: what is sent to it is swallowed in the node, the host forwards nothing and has nothing to reject."""
    network.set_vanished(lab, Vanished.PINNED)
    swallowed, escaped = network.swallowed_packets(lab), network.escaped_packets(lab)
    local(lab)
    assert network.swallowed_packets(lab) - swallowed >= 3
    assert network.escaped_packets(lab) == escaped


def test_the_host_rejects_whatever_else_would_leave(lab):
    """The rule stands, and before every rule of Docker's that would let a packet pass."""
    assert network.rejected_packets(lab) is not None


def test_dns_does_not_ask_outside(lab):
    """A name that is not the cluster's is answered without a packet to anywhere else."""
    corefile = lab.kubectl(
        "-n", "kube-system", "get", "configmap", "coredns", "-o", "jsonpath={.data.Corefile}"
    )
    assert "kubernetes cluster.local" in corefile
    assert "forward" not in corefile


def test_a_second_up_keeps_the_cluster_that_runs(lab):
    """Nothing is built or made again, and it is quick."""
    before = run(["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *lab.nodes])
    begun_s = time.monotonic()
    command = [
        sys.executable,
        "-m",
        "validation.lab.cli",
        "up",
        "--name",
        lab.name,
        "--nodes",
        str(len(lab.nodes)),
    ]
    subprocess.run(command, check=True, capture_output=True)
    assert time.monotonic() - begun_s < 60
    assert run(["docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", *lab.nodes]) == before


def test_every_node_hands_out_addresses_of_its_own(lab):
    """Ranges do not overlap; on several nodes each has a route to every other's."""
    ranges = network.pod_cidrs(lab)
    assert len(set(ranges.values())) == len(lab.nodes)
    for node in lab.nodes:
        routes = lab.in_node("ip", "route", node=node)
        for other in set(lab.nodes) - {node}:
            assert f"{ranges[other]} via {network.node_address(other)}" in routes


RETRY = ("--retry", "10", "--retry-connrefused", "--retry-delay", "1")
"""kube-proxy may still wait for its second after the rollout is complete."""

SCENARIO = """
apiVersion: rollsim/v1
kind: Scenario
metadata: {{name: workload}}
spec:
  update: {{restart: true, deployment: web, at: 1s}}
  load: {{client: ab, target: {{service: web, port: 80}}, connections: 1, requests: 10}}
  images:
    "rollsim-test/web:{tag}": {image}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: conf}}
data:
  nginx.conf: |
    events {{}}
    http {{ server {{ listen 80; root /www; location / {{ index index.html; }} }} }}
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec: {{type: NodePort, selector: {{app: web}}, ports: [{{port: 80, nodePort: 30998}}]}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 1
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
        - name: web
          image: "rollsim-test/web:{tag}"
          imagePullPolicy: Never
          readinessProbe: {{httpGet: {{path: /healthy.html, port: 80}}, periodSeconds: 1}}
          volumeMounts: [{{name: conf, mountPath: /etc/nginx/nginx.conf, subPath: nginx.conf}}]
      volumes: [{{name: conf, configMap: {{name: conf}}}}]
"""


@pytest.mark.parametrize(
    ("tag", "image", "server"),
    [
        ("old", '{server: nginx, version: "1.22", stopSignal: SIGQUIT, bodyBytes: 3000}', "nginx/1.22"),
        (
            "new",
            '{server: nginx, version: "1.26", stopSignal: SIGTERM, startup: 2s, bodyBytes: 3000}',
            "nginx/1.26",
        ),
        ("api", "{server: go-http-shutdown, startup: 2s, bodyBytes: 3000}", ""),
    ],
)
def test_what_a_scenario_says_of_an_image_is_true(lab, namespace, tmp_path, tag, image, server):
    """Version, stop signal, length of the body, and start-up time from the container's start to its first answer."""
    path = tmp_path / "scenario.yaml"
    path.write_text(SCENARIO.format(tag=tag, image=image))
    scenario = load_one(path)
    ensure_images(lab, scenario)
    described = scenario.images[f"rollsim-test/web:{tag}"]
    lab.kubectl("-n", namespace, "apply", "-f", "-", input=yaml.safe_dump_all(map(plain, scenario.objects)))
    lab.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s")
    answer = lab.in_load("curl", "-si", *RETRY, "http://127.0.0.1:30998/")
    head, _, body = answer.replace("\r\n", "\n").partition("\n\n")
    assert server in head
    assert len(body) == 3000
    config = json.loads(run(["docker", "image", "inspect", described.reference]))[0]["Config"]
    assert config["StopSignal"] == described.stop_signal
    assert abs(ready_after_s(lab, namespace) - described.startup.mean_s) < 1.5


def ready_after_s(lab, namespace):
    """From the container's start to Ready, to the second: the API's own times, and a probe each second."""
    pod = json.loads(lab.kubectl("-n", namespace, "get", "pods", "-l", "app=web", "-o", "json"))["items"][0]
    started = pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"]
    ready = next(c for c in pod["status"]["conditions"] if c["type"] == "Ready")["lastTransitionTime"]
    seconds = [time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")) for text in (started, ready)]
    return seconds[1] - seconds[0]


def plain(thing):
    """A document as built-in types, for the YAML writer."""
    return json.loads(json.dumps(thing, default=dict))


def test_both_versions_of_haproxy_are_there(lab):
    """The pinned ones, by what they say of themselves."""
    airgapped = not run(["docker", "inspect", "--format", "{{.Config.Image}}", lab.node_container]).count(
        "kindest"
    )
    if not airgapped:
        pytest.skip("from a registry they are pulled when a scenario names them")
    for version in ("2.6", "3.0"):
        image = bases.server_base("haproxy", version, airgapped=True, registry=None)
        assert f"version {version}" in run(
            ["docker", "run", "--rm", "--network", "none", image, "haproxy", "-v"]
        )


def test_the_names_of_the_cluster_are_its_own(lab):
    """All that `down` will remove carries the cluster's name."""
    assert set(lab.nodes) | {lab.load_container} == set(kind.containers_of(lab.name))
