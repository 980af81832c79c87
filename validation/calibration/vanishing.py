"""A dying pod's address, asked every 5 ms: from the node, from another pod, and through the Service.

Single pods are deleted; the Deployment replaces them. Probes and kernel events share one clock.
"""

import argparse
import csv
import gzip
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from validation.calibration.kube_api import KubeApi
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, node_process, objects, wait
from validation.calibration.recorder import Recorder
from validation.lab.cluster import Lab

PROBE = Path(__file__).with_name("syn_probe.py")


def probe(pid: int, address: str, port: int, seconds: float, every_s: float) -> "subprocess.Popen[str]":
    argv: Sequence[str] = [
        "nsenter", "-t", str(pid), "-n", sys.executable, str(PROBE), address, str(port), str(seconds), str(every_s),
        "0.4",
    ]  # fmt: skip
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument(
        "--out", type=Path, required=True, help="events; probes go beside it as *-probes.csv.gz"
    )
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    items = objects("calib", replicas=2, period_s=1, hook=None, image="rollsim/app:red")
    deploy(lab, items)
    api, recorder = KubeApi(lab.kubeconfig), Recorder(NAMESPACE)
    node = node_process(lab)
    pods_path = f"/api/v1/namespaces/{NAMESPACE}/pods"
    results = []
    with recorder.running(lab.kubeconfig, node):
        for run in range(options.runs):
            time.sleep(4.2 + random.random())
            pods = [p for p in api.call("GET", pods_path)["items"]
                    if p["metadata"]["labels"]["app"] == "calib"
                    and not p["metadata"].get("deletionTimestamp")]  # fmt: skip
            victim, other = random.sample(pods, 2)
            address, uid = victim["status"]["podIP"], victim["metadata"]["uid"]
            inside = pid_in_pod(other["metadata"]["uid"])
            probes = {
                "node": probe(node, address, 80, 2.5, 0.005),
                "pod": probe(inside, address, 80, 2.5, 0.005),
                "service": probe(node, "127.0.0.1", NODE_PORTS["calib"], 2.5, 0.005),
            }
            time.sleep(0.4)
            begun_s = time.monotonic()
            api.call("DELETE", f"{pods_path}/{victim['metadata']['name']}")
            recorder.add(begun_s, "delete.sent", uid, address)
            for name, process in probes.items():
                out, _ = process.communicate(timeout=30)
                results += [(run, uid, name, *line.split(",")) for line in out.splitlines()]
            wait(lambda: uid in recorder.removed, 20)  # noqa: B023
    recorder.write(options.out, lambda event: event.kind not in {"process.exec", "replicaset"})
    with gzip.open(options.out.with_name(options.out.stem + "-probes.csv.gz"), "wt", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["run", "uid", "from", "at_s", "for_s", "result"])
        rows.writerows(results)


def pid_in_pod(uid: str) -> int:
    """A process of the pod, for its network namespace."""
    for path in Path("/proc").glob("[0-9]*/cgroup"):
        try:
            if uid.replace("-", "_") in path.read_text() or uid in path.read_text():
                return int(path.parent.name)
        except OSError:
            continue
    raise LookupError(f"no process of pod {uid}")


if __name__ == "__main__":
    main()
