"""One pod of three is deleted under a client; its preStop outlives its endpoint, so only its kept connections die.

What ab counts, or a paced client sees, for each connection that the pod still held when its server was stopped.
"""

import argparse
import csv
import random
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from validation.calibration.kube_api import KubeApi
from validation.calibration.loopback import parse_ab
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, node_process, objects, wait
from validation.calibration.vanishing import pid_in_pod
from validation.lab.cluster import Lab

HOOK_S: Final = 2.5
LOAD_S: Final = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["ab", "paced"])
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--image", default="rollsim/app:red")
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    items = objects("busy", replicas=3, period_s=1, hook=f"sleep {HOOK_S}", image=options.image)
    deploy(lab, items)
    api, node, port = KubeApi(lab.kubeconfig), node_process(lab), NODE_PORTS["busy"]
    path = f"/api/v1/namespaces/{NAMESPACE}/pods"

    def pods() -> list[dict[str, Any]]:
        return [p for p in api.call("GET", path)["items"] if p["metadata"]["labels"]["app"] == "busy"]

    argv = {
        "ab": ["ab", "-q", "-l", "-r", "-k", "-c", "10", "-t", str(LOAD_S), "-n", "5000000",
               f"http://127.0.0.1:{port}/index.html"],
        "paced": [sys.executable, "-m", "validation.calibration.paced", str(port), str(LOAD_S)],
    }[options.client]  # fmt: skip
    rows = []
    for _ in range(options.runs):
        wait(
            lambda: (
                len(pods()) == 3
                and all(
                    c["ready"]
                    for p in pods()
                    for c in p["status"].get("containerStatuses", [{"ready": False}])
                )
            ),
            30,
        )
        time.sleep(3 + random.random())
        victim = random.choice(pods())
        inside = pid_in_pod(victim["metadata"]["uid"])
        client = subprocess.Popen(
            ["nsenter", "-t", str(node), "-n", *argv],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        time.sleep(0.8)
        api.call("DELETE", f"{path}/{victim['metadata']['name']}")
        time.sleep(HOOK_S - 0.3)
        enter = ["nsenter", "-t", str(inside), "-n"]
        listed = subprocess.run([*enter, "ss", "-Htn", "state", "established", "( sport = :80 )"],
                                capture_output=True, text=True, check=False).stdout  # fmt: skip
        out, _ = client.communicate(timeout=30)
        seen = asdict(parse_ab(out)) if options.client == "ab" else {"answer": out.strip()}
        rows.append({"held": len(listed.splitlines()), **seen})
        print(rows[-1], file=sys.stderr, flush=True)
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "--replicas=0")
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
