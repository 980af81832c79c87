"""A live cluster's objects through the real client, against an API server of canned objects on loopback."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from sim import InputError, UnsupportedInput, load_one
from sim.from_cluster import read_cluster
from sim.scenario.documents import read_documents

CONFIGS = Path(__file__).parent.parent / "configs"
ROLE = CONFIGS / "rbac" / "from-cluster.yaml"
PATHS = {
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Pod": ("/api/v1", "pods"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v1", "horizontalpodautoscalers"),
    "Ingress": ("/apis/networking.k8s.io/v1", "ingresses"),
}


class ApiServer:
    """Answers GETs of one namespace from `objects`; keeps what it was asked."""

    def __init__(self):
        folder = CONFIGS / "tutorial" / "manifests"
        self.objects = [
            as_stored(found.data)
            for file in ("app.yaml", "proxy.yaml")
            for found in read_documents(folder / file)
        ]
        self.asked = []
        self.forbidden = set()
        self.broken = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                server.answer(self)

            def do_POST(self):
                server.asked.append(("POST", self.path))
                self.send_error(405)

            do_PUT = do_PATCH = do_DELETE = do_POST  # noqa: N815

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        Thread(target=self.http.serve_forever, daemon=True).start()

    def answer(self, request):
        path = urlsplit(request.path)
        self.asked.append(("GET", path.path))
        status, body = (200, self.found(path)) if not self.broken else (200, None)
        resource = path.path.split("/namespaces/shop/")[-1].split("/")[0]
        if resource in self.forbidden:
            status, body = 403, {"kind": "Status", "code": 403}
        elif body is None and not self.broken:
            status, body = 404, {"kind": "Status", "code": 404}
        data = b"<html>" if self.broken else json.dumps(body).encode()
        request.send_response(status)
        request.send_header("Content-Type", "application/json")
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data)

    def found(self, path):
        for kind, (group, resource) in PATHS.items():
            prefix = f"{group}/namespaces/shop/{resource}"
            mine = [each for each in self.objects if each["kind"] == kind]
            if path.path == prefix:
                wanted = parse_qs(path.query).get("labelSelector", [""])[0]
                pairs = [pair.split("=") for pair in wanted.split(",") if pair]
                items = [
                    {key: value for key, value in each.items() if key not in ("kind", "apiVersion")}
                    for each in mine
                    if all(each["metadata"].get("labels", {}).get(key) == value for key, value in pairs)
                ]
                version = group.removeprefix("/apis/").removeprefix("/api/")
                return {"kind": f"{kind}List", "apiVersion": version, "items": items}
            for each in mine:
                if path.path == f"{prefix}/{each['metadata']['name']}":
                    return each
        return None


def as_stored(data):
    """As an API server gives it back: with a namespace, an address, a status."""
    stored = json.loads(json.dumps(data))
    stored["metadata"] |= {"namespace": "shop", "uid": "u", "resourceVersion": "7", "managedFields": []}
    stored["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": "{}"}
    if stored["kind"] == "Service":
        stored["spec"] |= {
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "internalTrafficPolicy": "Cluster",
        }
    if stored["kind"] == "Deployment":
        stored["spec"]["template"]["spec"] |= {
            "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler",
        }
        stored["status"] = {"replicas": 3, "conditions": []}
    return stored


@pytest.fixture
def server():
    api = ApiServer()
    yield api
    api.http.shutdown()
    api.http.server_close()


@pytest.fixture
def kubeconfig(server, tmp_path, monkeypatch):
    path = tmp_path / "kubeconfig"
    here = {"cluster": "c", "user": "u", "namespace": "shop"}
    path.write_text(
        yaml.safe_dump(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": {"server": server.url}}],
                "users": [{"name": "u", "user": {}}],
                "contexts": [{"name": "here", "context": here}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(path))
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    return path


@pytest.fixture
def cluster(server, kubeconfig):
    return server


def kinds(found):
    return sorted((each["kind"], each["metadata"]["name"]) for each in found.objects)


def test_what_belongs_to_a_deployment_is_found(cluster):
    """Its Service and ConfigMap, the proxy in front with its own; nothing that the cluster added, no other app."""
    other = as_stored(yaml.safe_load(json.dumps(cluster.objects[-1])))
    other["metadata"]["name"] = "other"
    other["spec"]["template"]["metadata"]["labels"] = {"app": "other"}
    other["spec"]["template"]["spec"]["containers"][0] |= {"image": "other:1", "volumeMounts": []}
    other["spec"]["template"]["spec"]["volumes"] = []
    cluster.objects.append(other)
    found = read_cluster("deployment/myapp")
    assert kinds(found) == sorted((each["kind"], each["metadata"]["name"]) for each in cluster.objects[:-1])
    assert found.namespace == "shop"
    assert found.notes == []
    for each in found.objects:
        assert set(each["metadata"]) <= {"name", "labels"}
        assert "status" not in each
        assert "10.96" not in json.dumps(each)


def test_it_only_reads_what_the_role_allows(cluster):
    """GETs alone, each of them in the Role that is shipped, and none of a Secret."""
    read_cluster("deploy/myapp")
    [rules] = [each.data["rules"] for each in read_documents(ROLE)]
    allowed = {(resource, verb) for rule in rules for resource in rule["resources"] for verb in rule["verbs"]}
    used = set()
    for method, path in cluster.asked:
        assert method == "GET"
        resource, _, name = path.split("/namespaces/shop/")[1].partition("/")
        used.add((resource, "get" if name else "list"))
    assert used == allowed
    assert "secrets" not in {resource for resource, _ in allowed}


SECRETS = {
    "env": [
        {"name": "DB_PASSWORD", "value": "hunter2"},
        {"name": "API_TOKEN", "valueFrom": {"secretKeyRef": {"name": "db", "key": "token"}}},
        {"name": "COLOUR", "value": "red"},
    ],
    "envFrom": [{"secretRef": {"name": "db"}}],
    "volumeMounts": [{"name": "keys", "mountPath": "/keys"}],
}


def test_no_secret_is_read_or_written(cluster, kubeconfig, tmp_path):
    """Of a Secret only its name is in the file, wherever the pods use it; of a password in the Deployment, no value."""
    deployment = next(each for each in cluster.objects if each["kind"] == "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    for key, more in SECRETS.items():
        spec["containers"][0][key] = [*spec["containers"][0].get(key, []), *more]
    spec["volumes"] = [*spec.get("volumes", []), {"name": "keys", "secret": {"secretName": "tls"}}]
    spec["imagePullSecrets"] = [{"name": "registry"}]
    last = json.dumps({"data": {"password": "hunter2"}})
    deployment["metadata"]["annotations"] = {"kubectl.kubernetes.io/last-applied-configuration": last}
    secret = {"metadata": {"name": "db"}, "kind": "Secret", "data": {"token": "aHVudGVyMg=="}}
    cluster.objects.append({**secret, "apiVersion": "v1"})
    done = subprocess.run(
        [sys.executable, "-c", "from sim.cli import main; main()", "predict", "--runs", "2",
         "--from-cluster", "deployment/myapp", "-n", "shop", "--context", "here"],
        capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path,
        env=os.environ | {"KUBECONFIG": str(kubeconfig)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = (tmp_path / "myapp.rollsim.yaml").read_text()
    assert "secretName: tls" in written
    assert "value: red" in written
    assert "the value of DB_PASSWORD in container" in written
    for word in ("hunter2", "aHVudGVyMg"):
        assert word not in written + done.stdout + done.stderr
    assert not [path for _, path in cluster.asked if "secrets" in path]


def test_what_else_could_change_the_answer_is_said(cluster):
    """An autoscaler of the Deployment and an Ingress to its Service are notes."""
    cluster.objects += [
        {
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "scaler"},
            "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "myapp"}},
        },
        {
            "kind": "Ingress",
            "metadata": {"name": "door"},
            "spec": {"rules": [{"http": {"paths": [{"backend": {"service": {"name": "myapp-proxy"}}}]}}]},
        },
    ]
    notes = read_cluster("deployment/myapp").notes
    assert [note.split(":")[0] for note in notes] == ["HorizontalPodAutoscaler scaler", "Ingress door"]


def test_what_may_not_be_looked_at_is_said(cluster):
    """Without the right to list pods it goes on, and says so once for each."""
    cluster.forbidden = {"pods", "ingresses"}
    notes = read_cluster("deployment/myapp").notes
    assert set(notes) == {"no right to list ingress: not looked at", "no right to list pod: not looked at"}


def test_injected_containers_are_refused(cluster):
    """A mesh's sidecar is in the pods and not in the Deployment: it would change the answer."""
    deployment = next(each for each in cluster.objects if each["kind"] == "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    containers = [{"name": "myapp"}, {"name": "istio-proxy"}]
    cluster.objects.append(
        {"kind": "Pod", "metadata": {"name": "myapp-1", "labels": labels}, "spec": {"containers": containers}}
    )
    with pytest.raises(UnsupportedInput, match="istio-proxy"):
        read_cluster("deployment/myapp")


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ({"target": "deployment/nowhere"}, "there is no deployment nowhere in namespace shop"),
        ({"target": "deployment/myapp", "namespace": "else"}, "namespace else"),
        ({"target": "deployment/myapp", "context": "no-such"}, "no-such"),
        ({"target": "pod/myapp"}, "expected deployment/NAME"),
        ({"target": "deployment/"}, "expected deployment/NAME"),
    ],
)
def test_what_is_not_there_is_one_line(cluster, arguments, part):
    with pytest.raises(InputError) as caught:
        read_cluster(**arguments)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_right_names_the_role(cluster):
    cluster.forbidden = {"services"}
    with pytest.raises(InputError, match="no right to list services in namespace shop; configs/rbac"):
        read_cluster("deployment/myapp")


def test_an_answer_that_is_none_is_one_line(cluster):
    cluster.broken = True
    with pytest.raises(InputError, match="does not answer"):
        read_cluster("deployment/myapp")


def test_the_command_keeps_what_it_read(cluster, kubeconfig, tmp_path):
    """The file is written, predicted, and predicts again by itself; a second time it is not overwritten."""
    command = [sys.executable, "-c", "from sim.cli import main; main()", "predict", "--runs", "3", "--json"]
    command += ["--from-cluster", "deployment/myapp", "-n", "shop", "--context", "here"]
    env = os.environ | {"KUBECONFIG": str(kubeconfig)}

    def run(*more):
        return subprocess.run(
            [*command, *more], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path, env=env
        )

    done = run()
    assert done.returncode == 0, done.stderr
    kept = load_one(tmp_path / "myapp.rollsim.yaml")
    assert (kept.load.service, kept.name) == ("myapp-proxy", "myapp")
    assert json.loads(done.stdout)[0]["scenario"] == "myapp"
    again = run()
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert run("--force").returncode == 0
