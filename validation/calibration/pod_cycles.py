"""Pods started and stopped one (or three) at a time: every step's time, on one clock.

A Deployment is scaled up and down at random phases of the kubelet's and kube-proxy's one-second rhythms; no client
uses it. `--busy` saturates the node meanwhile with ab against another Service. `--replace` deletes pods instead,
whose successors start at the same time, under a paced client of the pods: what the node does at once in a rollout.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sim.scenario import load
from validation.calibration.kube_api import KubeApi
from validation.calibration.recorder import Event, Recorder
from validation.counters import CPU_USAGE
from validation.lab.cluster import Lab
from validation.lab.workload import ensure_images

NAMESPACE: Final = "rollsim-calibration"
IMAGES_OF: Final = Path(__file__).parents[2] / "configs" / "tutorial" / "3-proxy.yaml"
"""The scenario whose images the pods run: rollsim/app:red and rollsim/proxy:2.6 among them."""
NGINX_CONF: Final = """worker_processes 1;
pid /run/nginx.pid;
events { worker_connections 4096; }
http { access_log off; keepalive_timeout 300; keepalive_requests 1000000;
server { listen 80 backlog=4096; root /www; location / { index index.html; } } }
"""
NODE_PORTS: Final = {"calib": 30410, "busy": 30411}


def objects(name: str, *, replicas: int, period_s: int, hook: str | None, image: str) -> list[dict[str, Any]]:
    labels = {"app": name}
    container: dict[str, Any] = {
        "name": "web", "image": image, "imagePullPolicy": "IfNotPresent", "ports": [{"containerPort": 80}],
        "readinessProbe": {"httpGet": {"path": "/healthy.html", "port": 80}, "periodSeconds": period_s},
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/nginx/nginx.conf", "subPath": "nginx.conf"}],
    }  # fmt: skip
    if hook:
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", hook]}}}
    meta = {"name": name, "namespace": NAMESPACE}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [container], "volumes": [{"name": "conf", "configMap": {"name": "conf"}}]},
    }
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf", "namespace": NAMESPACE},
         "data": {"nginx.conf": NGINX_CONF}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta,
         "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 80, "nodePort": NODE_PORTS[name]}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
         "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}},
    ]  # fmt: skip


def deploy(lab: Lab, items: Sequence[Mapping[str, Any]]) -> None:
    """Apply *items* and wait for their Deployments; the images are built and given to the nodes if need be.

    Raises
    ------
    LabError
        An image cannot be built, or a Deployment is not available in time.
    """
    for scenario in load(IMAGES_OF):
        ensure_images(lab, scenario)
    lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    for item in items:
        if item["kind"] == "Deployment":
            name = item["metadata"]["name"]
            lab.kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=60s")


def node_process(lab: Lab) -> int:
    """The node container's first process, as this machine sees it."""
    return int(
        subprocess.check_output(["docker", "inspect", "-f", "{{.State.Pid}}", lab.node_container], text=True)
    )


def cluster_cpu_s(lab: Lab) -> float:
    """CPU that the nodes have used so far. [s]"""
    return sum(int(lab.in_node("sh", "-c", CPU_USAGE, node=node)) for node in lab.nodes) / 1e9


def wait(until: Callable[[], bool], timeout_s: float) -> bool:
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        if until():
            return True
        time.sleep(0.005)
    return False


def seen(recorder: Recorder, kind: str, since_s: float) -> int:
    """Pods to which *kind* has happened since then."""
    return len({e.subject for e in recorder.events if e.kind == kind and e.at_s > since_s})


def up_and_down(api: KubeApi, recorder: Recorder, options: argparse.Namespace) -> None:
    """One cycle of the Deployment's replicas.

    Raises
    ------
    TimeoutError
        The pods were not removed.
    """
    scale = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/calib/scale"
    begun_s = time.monotonic()
    api.call("PATCH", scale, {"spec": {"replicas": options.base + options.pods}})
    recorder.add(begun_s, "scale.sent", "", f"up {time.monotonic() - begun_s:.6f}")
    wait(lambda: seen(recorder, "pod.ready", begun_s) >= options.pods, options.patience)
    time.sleep(options.idle + random.random() * 1.1)
    sent_s = time.monotonic()
    api.call("PATCH", scale, {"spec": {"replicas": options.base}})
    recorder.add(sent_s, "scale.sent", "", f"down {time.monotonic() - sent_s:.6f}")
    if not wait(lambda: seen(recorder, "pod.removed", begun_s) >= options.pods, 40):
        raise TimeoutError("the pods were not removed within 40 s")


def replace_some(api: KubeApi, recorder: Recorder, options: argparse.Namespace) -> None:
    """Pods are deleted one right after the other, and the ReplicaSet makes others.

    Raises
    ------
    TimeoutError
        They were not removed.
    """
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    time.sleep(options.idle)
    pods = [p["metadata"]["name"] for p in api.call("GET", path)["items"]
            if p["metadata"]["labels"]["app"] == "calib" and not p["metadata"].get("deletionTimestamp")]  # fmt: skip
    begun_s = time.monotonic()
    for name in random.sample(pods, options.pods):
        sent_s = time.monotonic()
        api.call("DELETE", f"{path}/{name}")
        recorder.add(sent_s, "delete.sent", "", f"{time.monotonic() - sent_s:.6f}")
    wait(lambda: seen(recorder, "pod.ready", begun_s) >= options.pods, options.patience)
    if not wait(lambda: seen(recorder, "pod.removed", begun_s) >= options.pods, 40):
        raise TimeoutError("the pods were not removed within 40 s")


def cycles(lab: Lab, options: argparse.Namespace) -> Recorder:
    """Scale up and down until the time is over; the log is in the recorder."""
    bystander = objects(
        "busy", replicas=3 if options.busy else 0, period_s=1, hook=None, image="rollsim/app:red"
    )
    measured = objects(
        "calib", replicas=options.base, period_s=options.period, hook=options.hook, image=options.image
    )
    deploy(lab, [*bystander, *measured])
    time.sleep(5)
    api = KubeApi(lab.kubeconfig)
    recorder = Recorder(NAMESPACE)
    client = None
    with recorder.running(lab.kubeconfig, node_process(lab)):
        used_s, cycles_begun_s = cluster_cpu_s(lab), time.monotonic()
        if options.busy:
            client = lab.start_in_load(
                ["ab", "-q", "-l", "-r", "-k", "-c", "10", "-t", str(int(options.seconds) + 5), "-n", "50000000",
                 f"http://127.0.0.1:{NODE_PORTS['busy']}/index.html"], stdout=subprocess.DEVNULL)  # fmt: skip
            time.sleep(1)
        if options.replace:
            client = subprocess.Popen(
                ["nsenter", "-t", str(node_process(lab)), "-n", sys.executable, "-m", "validation.calibration.paced",
                 str(NODE_PORTS["calib"]), str(options.seconds + 5)], stdout=subprocess.DEVNULL)  # fmt: skip
        end_s = time.monotonic() + options.seconds
        while time.monotonic() < end_s:
            time.sleep(random.random() * 1.1)
            if options.replace:
                replace_some(api, recorder, options)
            else:
                up_and_down(api, recorder, options)
        now_s = time.monotonic()
        share = (cluster_cpu_s(lab) - used_s) / (now_s - cycles_begun_s) / len(os.sched_getaffinity(0))
        recorder.add(now_s, "cpu.share", "cluster", f"{share:.4f}")
        if client:
            client.terminate()
    return recorder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--pods", type=int, default=1)
    parser.add_argument("--base", type=int, default=1, help="pods that stay")
    parser.add_argument(
        "--idle", type=float, default=3.2, help="ready to deleted, at least; a pod's syncs settle in 3 s"
    )
    parser.add_argument("--period", type=int, default=60, help="of the readiness probe")
    parser.add_argument("--patience", type=float, default=3.5, help="how long a pod may take to be ready")
    parser.add_argument("--hook", help="preStop shell line")
    parser.add_argument("--image", default="rollsim/app:red")
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--replace", action="store_true")
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True, help="events as CSV")
    options = parser.parse_args()
    recorder = cycles(Lab.find(options.cluster), options)
    recorder.write(options.out, keep)
    print(f"{len(recorder.removed)} pods, {len(recorder.events)} events", file=sys.stderr)


def keep(event: Event) -> bool:
    return event.kind != "process.exec" or bool(event.subject) or any(
        word in event.detail for word in ("runc", "containerd-shim", "/opt/cni", "iptables", "pause", "nginx")
    )  # fmt: skip


if __name__ == "__main__":
    main()
