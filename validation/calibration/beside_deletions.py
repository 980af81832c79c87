"""How much slower a client without pause goes while another pod of its node starts, ends, or is replaced.

Three nginx pods serve ab; a fourth, which it never asks, starts and ends beside them. What the three receive is read
from the counters of their network namespaces, in steps of 20 ms: that is what ab makes of its time, connect and all.
Where ab opens a connection for every request, the three are new each time: they remember no closed connections yet.
"""

import argparse
import contextlib
import itertools
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from validation.calibration.kube_api import KubeApi
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, objects, wait
from validation.calibration.pod_stop_clients import nginx_of
from validation.calibration.rows import write_rows
from validation.lab.cluster import Lab

EVERY_S: Final = 0.02
BEFORE_S: Final = 1.5
"""At most so long before the event the rate is taken, which all others are held against."""
AFTER_S: Final = 3.5
WARM_S: Final = 1.0
"""ab's first second: it and the pods get to know each other."""
CLIENTS: Final = {"ab -k": ["-k"], "ab": []}
_IN_SEGS: Final = "InSegs"


class Counted:
    """TCP segments that some network namespaces have received, read again and again."""

    def __init__(self, pids: Sequence[int]) -> None:
        """*pids*: a process in each of them."""
        self._files = [Path(f"/proc/{pid}/net/snmp") for pid in pids]
        self._over = Event()
        self.read: list[tuple[float, int]] = []
        """(time, segments so far). [s]"""

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                self.read.append((time.monotonic(), sum(_received(file.read_text()) for file in self._files)))
            due_s += EVERY_S
            time.sleep(max(0.0, due_s - time.monotonic()))

    @contextlib.contextmanager
    def running(self) -> Any:
        thread = Thread(target=self._run)
        thread.start()
        try:
            yield self
        finally:
            self._over.set()
            thread.join()


def _received(snmp: str) -> int:
    names, values = [line.split() for line in snmp.splitlines() if line.startswith("Tcp:")]
    return int(values[names.index(_IN_SEGS)])


def relative_rates(read: Sequence[tuple[float, int]], at_s: float) -> list[tuple[float, float]]:
    """(middle of each step, counted from *at_s*; its rate over the mean one before that). [s]"""
    before = [each for each in read if at_s - BEFORE_S <= each[0] <= at_s]
    usual = (before[-1][1] - before[0][1]) / (before[-1][0] - before[0][0])
    steps = itertools.pairwise(read)
    return [
        ((from_s + to_s) / 2 - at_s, (n - n_before) / (to_s - from_s) / usual)
        for (from_s, n_before), (to_s, n) in steps
        if at_s - BEFORE_S <= from_s <= at_s + AFTER_S
    ]


def pods_of(api: KubeApi, app: str) -> list[dict[str, Any]]:
    listed = api.call("GET", f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
    return [pod for pod in listed if pod["metadata"]["labels"]["app"] == app]


class Bystander:
    """The Deployment of the fourth pod."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._path = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/calib/scale"

    def pods(self) -> list[dict[str, Any]]:
        return pods_of(self._api, "calib")

    def rest_at(self, n: int) -> None:
        """Come to *n* ready pods and nothing else.

        Raises
        ------
        TimeoutError
        """
        self.scale(n)
        if not wait(lambda: len(self.pods()) == n and all(map(_is_ready, self.pods())), 60):
            raise TimeoutError(f"{n} pods were not reached within 60 s")

    def scale(self, n: int) -> None:
        self._api.call("PATCH", self._path, {"spec": {"replicas": n}})

    def delete(self) -> None:
        name = self.pods()[0]["metadata"]["name"]
        self._api.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def one(lab: Lab, counted: Counted, happens: Callable[[], None], flags: Sequence[str]) -> float:
    """Let it happen under ab; when it did."""
    seconds = WARM_S + BEFORE_S + AFTER_S + 1
    client = lab.start_in_load(
        ["ab", "-q", "-l", "-r", *flags, "-c", "10", "-t", str(int(seconds)), "-n", "50000000",
         f"http://127.0.0.1:{NODE_PORTS['busy']}/index.html"], stdout=subprocess.DEVNULL)  # fmt: skip
    time.sleep(WARM_S)
    with counted.running():
        time.sleep(BEFORE_S + random.random() * 0.3)
        at_s = time.monotonic()
        happens()
        time.sleep(AFTER_S)
    client.wait(timeout=60)
    return at_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=6, help="of each client beside each event")
    parser.add_argument("--image", default="rollsim/app:red")
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    settings = {"period_s": 1, "hook": None, "image": options.image}
    serving = objects("busy", replicas=3, **settings)
    deploy(lab, [*serving, *objects("calib", replicas=1, **settings)[2:]])
    api, rows = KubeApi(lab.kubeconfig), []
    bystander = Bystander(api)

    def serving_pids() -> list[int]:
        ready = [pod["metadata"] for pod in pods_of(api, "busy") if _is_ready(pod)]
        return [nginx_of(pod["uid"])[1] for pod in ready if not pod.get("deletionTimestamp")]

    happenings: dict[str, tuple[int, Callable[[], None]]] = {
        "start": (0, lambda: bystander.scale(1)),
        "end": (1, lambda: bystander.scale(0)),
        "replace": (1, bystander.delete),
    }
    for run in range(options.runs):
        for client, flags in CLIENTS.items():
            for what, (n_first, happens) in happenings.items():
                bystander.rest_at(n_first)
                if client == "ab":
                    lab.kubectl("-n", NAMESPACE, "rollout", "restart", "deployment/busy")
                    lab.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/busy", "--timeout=60s")
                time.sleep(4)  # syncs of young pods, and what the old ones leave
                counted = Counted(serving_pids())
                at_s = one(lab, counted, happens, flags)
                rows += [
                    {"client": client, "what": what, "run": run, "at_s": round(s, 4), "rate": round(rate, 4)}
                    for s, rate in relative_rates(counted.read, at_s)
                ]
                print(client, what, run, len(counted.read), file=sys.stderr, flush=True)
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "deployment/calib", "--replicas=0")
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
