"""What clients reach on the cluster while nothing changes, and what one request costs there.

Three nginx pods behind a NodePort, directly and through one HAProxy pod (http-server-close); the client runs in the
node's network namespace against loopback. CPU per request by part from the scheduler's statistics.
"""

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from validation.calibration.loopback import cpu_s, parse_ab, run_client
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, node_process, objects
from validation.calibration.request_cost import busy_s
from validation.calibration.rows import write_rows
from validation.lab.cluster import Lab

PROXY_PORT: Final = 30412
TIERS: Final = (("direct", NODE_PORTS["busy"]), ("proxy", PROXY_PORT))
"""What a client asks, and the NodePort for it."""
HAPROXY_CFG: Final = """global
  maxconn 4096
defaults
  mode http
  retries 3
  option redispatch
  option http-server-close
  maxconn 2000
  timeout connect 5s
  timeout client 50s
  timeout server 50s
listen app
  bind 0.0.0.0:8080
  server app "${BUSY_SERVICE_HOST}:80" check inter 2s
"""


def proxy_objects() -> list[dict[str, Any]]:
    meta, labels = {"name": "proxy", "namespace": NAMESPACE}, {"app": "proxy"}
    container = {
        "name": "proxy", "image": "rollsim/proxy:2.6", "imagePullPolicy": "IfNotPresent",
        "volumeMounts": [{"name": "conf", "mountPath": "/etc/haproxy/haproxy.cfg", "subPath": "haproxy.cfg"}],
    }  # fmt: skip
    template = {"metadata": {"labels": labels},
                "spec": {"containers": [container],
                         "volumes": [{"name": "conf", "configMap": {"name": "proxy"}}]}}  # fmt: skip
    return [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"haproxy.cfg": HAPROXY_CFG}},
        {"apiVersion": "v1", "kind": "Service", "metadata": meta,
         "spec": {"type": "NodePort", "selector": labels, "ports": [{"port": 8080, "nodePort": PROXY_PORT}]}},
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta,
         "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}},
    ]  # fmt: skip


def pod_uids(lab: Lab) -> list[str]:
    """Of the pods that serve here."""
    pods = json.loads(lab.kubectl("-n", NAMESPACE, "get", "pods", "-o", "json"))["items"]
    return [p["metadata"]["uid"] for p in pods if p["metadata"]["labels"]["app"] in {"busy", "proxy"}]


def pids_of(comm: str, uids: Sequence[str]) -> list[int]:
    """Processes of that name inside the pods."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == comm:
                group = (path.parent / "cgroup").read_text().replace("_", "-")
                if any(uid in group for uid in uids):
                    found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def cpu_of(comm: str, uids: Sequence[str]) -> float:
    """CPU of all processes of that name inside the pods. [s]"""
    total_s = 0.0
    for pid in pids_of(comm, uids):
        with suppress(OSError):
            total_s += cpu_s(pid)
    return total_s


@contextmanager
def served(lab: Lab) -> Iterator[tuple[int, list[str]]]:
    """Three nginx pods, and one HAProxy pod before them: a process of the node, and the pods' UIDs."""
    deploy(lab, objects("busy", replicas=3, period_s=1, hook=None, image="rollsim/app:red"))
    deploy(lab, proxy_objects())
    time.sleep(5)
    yield node_process(lab), pod_uids(lab)
    lab.kubectl("-n", NAMESPACE, "delete", "deployment/proxy", "service/proxy", "configmap/proxy")
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "--replicas=0")


def idle(seconds: float) -> tuple[float, float]:
    """The machine's CPU without any client, and the time that it took. [s]"""
    busy_before, began_s = busy_s(), time.monotonic()
    time.sleep(seconds)
    return busy_s() - busy_before, time.monotonic() - began_s


def _nothing(seconds: float) -> dict[str, object]:
    """What the machine does without any client."""
    cpu_s, wall_s = idle(seconds)
    names = ("requests", "rate_per_s", "client_us", "nginx_us", "haproxy_us", "machine_us")
    share = round(cpu_s / wall_s / (os.cpu_count() or 1), 3)
    return {
        "tier": "none",
        "client": "none",
        **dict.fromkeys(names, 0),
        "machine_share": share,
        "latency": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)

    with served(lab) as (node, uids):
        rows = []
        bound = ["-q", "-l", "-r", "-c", "10", "-t", str(options.seconds), "-n", "5000000"]
        seconds = str(options.seconds)
        for _ in range(options.repeats):
            rows.append(_nothing(options.seconds))
            for tier, port in TIERS:
                url = f"http://127.0.0.1:{port}/index.html"
                paced = [sys.executable, "-m", "validation.calibration.paced", str(port), seconds]
                for client, argv in (
                    ("ab -k", ["ab", "-k", *bound, url]), ("ab", ["ab", *bound, url]),
                    ("wrk", ["wrk", "-t", "1", "-c", "10", "-d", seconds, "--latency", url]), ("paced", paced),
                ):  # fmt: skip
                    before, busy_before = {c: cpu_of(c, uids) for c in ("nginx", "haproxy")}, busy_s()
                    ran = run_client(["nsenter", "-t", str(node), "-n", *argv])
                    out, wall_s = ran.out, ran.wall_s
                    if client.startswith("ab"):
                        requests, latency = parse_ab(out).complete, ""
                    elif client == "wrk":
                        found = re.search(r"(\d+) requests in", out)
                        requests = int(found[1]) if found else 0
                        latency = " ".join(re.findall(r"(\d+%\s+\S+)", out))
                    else:
                        answer = json.loads(out)
                        requests, latency = answer.pop("requests"), json.dumps(answer)
                    rows.append({
                        "tier": tier, "client": client, "requests": requests, "rate_per_s": round(requests / wall_s, 1),
                        "client_us": round(ran.cpu_s / requests * 1e6, 2),
                        "nginx_us": round((cpu_of("nginx", uids) - before["nginx"]) / requests * 1e6, 2),
                        "haproxy_us": round((cpu_of("haproxy", uids) - before["haproxy"]) / requests * 1e6, 2),
                        "machine_us": round((busy_s() - busy_before) / requests * 1e6, 2),
                        "machine_share": round((busy_s() - busy_before) / wall_s / (os.cpu_count() or 1), 3),
                        "latency": latency,
                    })  # fmt: skip
                    print(rows[-1], file=sys.stderr, flush=True)
                    time.sleep(1)
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
