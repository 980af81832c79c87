"""One pod of three is deleted under a client. Its preStop outlives its endpoint, so that only kept connections die.

What ab counts, or a paced client sees, for each connection that the pod still held when its server was stopped.
The kernel's trace says as well when nginx learned of its end and when its sockets closed.
"""

import argparse
import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from validation.calibration.kernel_trace import TraceEvent, kernel_trace
from validation.calibration.kube_api import KubeApi
from validation.calibration.loopback import parse_ab
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, node_process, objects, wait
from validation.calibration.rows import write_rows
from validation.lab.cluster import Lab

HOOK_S: Final = 2.5
LOAD_S: Final = 5


def nginx_of(uid: str) -> tuple[int, int]:
    """Master and worker of the nginx in the pod *uid*, as this machine numbers processes.

    Raises
    ------
    LookupError
        No nginx with one worker runs in the pod.
    """
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if uid in (path / "cgroup").read_text().replace("_", "-"):
                found[int(path.name)] = (path / "stat").read_text()
    # pid (comm) state ppid: the worker is the nginx whose parent is one
    servers = {
        pid: int(stat.rpartition(")")[2].split()[1]) for pid, stat in found.items() if "(nginx)" in stat
    }
    pairs = [(parent, pid) for pid, parent in servers.items() if parent in servers]
    if len(pairs) != 1:
        raise LookupError(f"pod {uid}: nginx with one worker expected, its processes are {sorted(found)}")
    return pairs[0]


def stop_events(master: int, worker: int) -> dict[str, str]:
    """Events that tell a stop: signal, the master's word and its reading, the worker's reads, ends of its sockets."""
    return {
        "signal/signal_generate": f"pid == {master}",
        "syscalls/sys_enter_sendmsg": f"common_pid == {master}",
        "sock/inet_sock_set_state": "sport == 80",
        "syscalls/sys_exit_recvfrom": f"common_pid == {worker}",
        "syscalls/sys_exit_recvmsg": f"common_pid == {worker}",
        "sched/sched_waking": f"pid == {worker}",
        "sched/sched_switch": f"next_pid == {worker} || prev_pid == {worker}",
        "sched/sched_process_exit": "",
    }


def stop_times(
    events: Sequence[TraceEvent], deleted_s: float, master: int, worker: int
) -> dict[str, float | str]:
    """Times after the deletion at which the stop of one nginx went on; empty where it was not seen. [s]

    A fast stop is deaf from the master's word (it ends the loop that reads) until its sockets close; what had come
    before that is still read (`late_reads`), and its answer says that the connection closes.
    """
    after = [e for e in events if e.at_s >= deleted_s]

    def at(times: Sequence[float], pick: Callable[[Sequence[float]], float]) -> float | str:
        return round(pick(times) - deleted_s, 6) if times else ""

    news = [e.at_s for e in after if e.event == "sys_recvmsg" and e.pid == worker and _got_something(e)]
    words = [e.at_s for e in after if e.event == "sys_sendmsg" and e.pid == master]
    reads = [e.at_s for e in after if e.event == "sys_recvfrom" and e.pid == worker and _got_something(e)]
    ends = [
        e for e in after
        if e.event == "inet_sock_set_state" and e.pid == worker and e.fields["oldstate"] == "TCP_ESTABLISHED"
        and e.fields["newstate"] in {"TCP_FIN_WAIT1", "TCP_CLOSE"}
    ]  # fmt: skip
    exits = {e.pid: e.at_s for e in after if e.event == "sched_process_exit"}
    last_ends = [e for e in ends if news and e.at_s >= max(news)]
    return {
        "signal_s": at([e.at_s for e in after if e.event == "signal_generate"], min),
        "runnable_s": at([waits_from(after, worker, max(news))] if news else [], max),
        "word_s": at([at_s for at_s in words if news and at_s <= max(news)], max),
        "told_s": at(news, max),
        "late_reads": str(sum(at_s > max(news) for at_s in reads)) if news else "",
        "last_read_s": at(reads, max),
        "first_close_s": at([e.at_s for e in last_ends], min),
        "last_close_s": at([e.at_s for e in last_ends], max),
        "fin": str(sum(e.fields["newstate"] == "TCP_FIN_WAIT1" for e in last_ends)),
        "rst": str(sum(e.fields["newstate"] == "TCP_CLOSE" for e in last_ends)),
        "worker_exit_s": at([exits[worker]] if worker in exits else [], min),
        "master_exit_s": at([exits[master]] if master in exits else [], min),
    }


def waits_from(events: Sequence[TraceEvent], pid: int, at_s: float) -> float:
    """From when on the process that runs at *at_s* had waited for its core before. [s]"""
    switches = [e for e in events if e.event == "sched_switch" and e.at_s <= at_s]
    run_s = max((e.at_s for e in switches if e.fields["next_pid"] == str(pid)), default=at_s)
    left = [e for e in switches if e.fields["prev_pid"] == str(pid) and e.at_s <= run_s]
    if left and left[-1].fields["prev_state"].startswith("R"):
        return left[-1].at_s  # it was sent away, not asleep
    since_s = left[-1].at_s if left else 0.0
    wakings = [e.at_s for e in events if e.event == "sched_waking" and since_s <= e.at_s <= run_s]
    return min(wakings, default=run_s)


def _got_something(event: TraceEvent) -> bool:
    return not event.text.startswith(("-> 0xff", "-> 0x0"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("client", choices=["ab", "paced"])
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--image", default="rollsim/app:red")
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--hook", type=float, default=HOOK_S, help="seconds of the preStop; 0 for none")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    hook = f"sleep {options.hook:g}" if options.hook else None
    items = objects("busy", replicas=3, period_s=1, hook=hook, image=options.image)
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
        master, worker = nginx_of(victim["metadata"]["uid"])
        with kernel_trace(stop_events(master, worker)) as trace:
            client = subprocess.Popen(
                ["nsenter", "-t", str(node), "-n", *argv],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            time.sleep(0.8)
            deleted_s = time.monotonic()
            api.call("DELETE", f"{path}/{victim['metadata']['name']}")
            time.sleep(max(0.0, options.hook - 0.3))
            listed = subprocess.run(
                ["nsenter", "-t", str(worker), "-n", "ss", "-Htn", "state", "established", "( sport = :80 )"],
                capture_output=True, text=True, check=False,
            ).stdout  # fmt: skip
            out, _ = client.communicate(timeout=30)
            seen = asdict(parse_ab(out)) if options.client == "ab" else {"answer": out.strip()}
            stop = stop_times(trace.read(), deleted_s, master, worker)
        rows.append({"held": len(listed.splitlines()), **seen, **stop})
        print(rows[-1], file=sys.stderr, flush=True)
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "--replicas=0")
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
