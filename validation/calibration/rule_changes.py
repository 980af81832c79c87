"""kube-proxy's rhythm: single EndpointSlice changes after a pause, then a stream of one every 50 ms.

A Service without selector and an EndpointSlice that this writes itself; no pod is touched. A sync shows as
iptables-save (its start), two commits (filter, nat) and the exit of iptables-restore.
"""

import argparse
import json
import random
import sys
import time
from pathlib import Path
from typing import Final

from validation.calibration.kube_api import KubeApi
from validation.calibration.pod_cycles import NAMESPACE, node_process
from validation.calibration.recorder import Event, Recorder
from validation.lab.cluster import Lab

NAME: Final = "stream"
PATH: Final = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices/{NAME}"


def endpoints(last: int) -> list[dict[str, object]]:
    return [
        {
            "addresses": [f"10.244.0.{last}"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
        }
    ]


def is_of_rules(event: Event) -> bool:
    return event.kind in {"slice.write", "change.sent", "rules.commit"} or "iptables" in event.detail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--single", type=int, default=40)
    parser.add_argument("--stream", type=float, default=20.0)
    parser.add_argument("--gap", type=float, default=0.05)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    items = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": NAME, "namespace": NAMESPACE},
         "spec": {"ports": [{"name": "http", "port": 80}]}},
        {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
         "endpoints": endpoints(250),
         "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": NAME}},
         "ports": [{"name": "http", "port": 80}]},
    ]  # fmt: skip
    lab.kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    time.sleep(3)
    api, recorder = KubeApi(lab.kubeconfig), Recorder(NAMESPACE)
    with recorder.running(lab.kubeconfig, node_process(lab)):

        def change(step: int, kind: str) -> None:
            begun_s = time.monotonic()
            api.call("PATCH", PATH, {"endpoints": endpoints(240 + step % 2)})
            recorder.add(begun_s, "change.sent", kind, f"{time.monotonic() - begun_s:.6f}")

        for step in range(options.single):
            change(step, "single")
            time.sleep(1.4 + random.random())
        for step in range(int(options.stream / options.gap)):
            change(step, "stream")
            time.sleep(options.gap)
        time.sleep(2.5)
    lab.kubectl("-n", NAMESPACE, "delete", f"service/{NAME}", f"endpointslice/{NAME}")
    recorder.write(options.out, is_of_rules)
    print(len(recorder.events), file=sys.stderr)


if __name__ == "__main__":
    main()
