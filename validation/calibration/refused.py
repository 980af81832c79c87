"""What a refused connect costs a client without pause on the cluster: ab against a port on which no pod listens.

Through a NodePort to three pods, in the node's network namespace. On loopback it costs two thirds of that.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

from validation.calibration.loopback import parse_ab, run_client
from validation.calibration.pod_cycles import NAMESPACE, deploy, node_process, objects
from validation.calibration.rows import write_rows
from validation.lab.cluster import Lab

NAME: Final = "closed"
NODE_PORT: Final = 30413
CLOSED_PORT: Final = 81


def service() -> dict[str, Any]:
    """Towards the pods of the Deployment `busy`, at a port of theirs that is closed."""
    ports = [{"port": 80, "targetPort": CLOSED_PORT, "nodePort": NODE_PORT}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {"type": "NodePort", "selector": {"app": "busy"}, "ports": ports},
    }


def run(node: int, requests: int) -> dict[str, float]:
    """One run: requests, wall and CPU time of the client for each of them. [us]"""
    url = f"http://127.0.0.1:{NODE_PORT}/"
    client = ["ab", "-q", "-l", "-r", "-c", "10", "-n", str(requests), url]
    ran = run_client(["nsenter", "-t", str(node), "-n", *client])
    done = parse_ab(ran.out).complete
    return {
        "requests": done,
        "wall_us": round(ran.wall_s / done * 1e6, 2),
        "client_us": round(ran.cpu_s / done * 1e6, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    deploy(lab, objects("busy", replicas=3, period_s=1, hook=None, image="rollsim/app:red"))
    lab.kubectl("apply", "-f", "-", input=json.dumps(service()))
    time.sleep(3)
    rows = []
    for _ in range(options.runs):
        rows.append(run(node_process(lab), options.requests))
        print(rows[-1], file=sys.stderr, flush=True)
    lab.kubectl("-n", NAMESPACE, "delete", f"service/{NAME}")
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "--replicas=0")
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
