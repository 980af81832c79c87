"""How long SYNs to an address that vanishes are forgotten: from its device's last packet to the end of its route.

One network namespace for the node and one for its pod, with the lab's rules: DNAT, masquerade, and a device that
swallows what goes to a pod that is gone. A client in the node's connects every 60 us, is refused, and the pod's device
is deleted as the CNI plugin does it. Who is not refused any more, and of whom connection tracking knows nothing a
moment later, was forgotten with the device. Nothing leaves the namespaces.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from validation.calibration.rows import write_rows
from validation.lab.commands import run

NODE_PORT: Final = 30410
POD_RANGE, GATEWAY, POD, VOID = "198.18.0.0/24", "198.18.0.1", "198.18.0.2", "198.18.1.1/24"
HAMMER_S: Final = 0.12
DELETED_AFTER_S: Final = 0.04
MOST: Final = 8000


def _ip(namespace: str, *argv: str) -> None:
    run(["ip", "-n", namespace, *argv])


def _in(namespace: str, *argv: str) -> str:
    return run(["ip", "netns", "exec", namespace, *argv])


@contextmanager
def node_and_pod() -> Iterator[tuple[str, str]]:
    """Their namespaces' names; both are gone afterwards."""
    node, pod = (f"rollsim-{name}-{os.getpid()}" for name in ("node", "pod"))
    for name in (node, pod):
        run(["ip", "netns", "add", name])
    try:
        _node(node)
        _pod(node, pod)
        yield node, pod
    finally:
        for name in (node, pod):
            run(["ip", "netns", "del", name])


def _node(node: str) -> None:
    _ip(node, "link", "set", "lo", "up")
    _in(node, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=1")
    _ip(node, "link", "add", "void", "type", "bridge")
    _ip(node, "link", "set", "void", "up")
    _ip(node, "address", "add", VOID, "dev", "void")
    _ip(node, "route", "add", POD_RANGE, "dev", "void")
    tcp = ["-p", "tcp", "--dport", str(NODE_PORT)]
    rules = (
        ["OUTPUT", *tcp, "-j", "MARK", "--set-xmark", "0x4000/0x4000"],
        ["OUTPUT", *tcp, "-j", "DNAT", "--to-destination", f"{POD}:80"],
        ["POSTROUTING", "-m", "mark", "--mark", "0x4000/0x4000", "-j", "MASQUERADE", "--random-fully"],
    )
    for rule in rules:
        _in(node, "iptables", "--wait", "10", "-t", "nat", "-A", *rule)


def _pod(node: str, pod: str) -> None:
    _ip(node, "link", "add", "veth", "type", "veth", "peer", "name", "eth0", "netns", pod)
    _ip(node, "address", "add", f"{GATEWAY}/32", "dev", "veth")
    _ip(node, "link", "set", "veth", "up")
    _ip(node, "route", "add", f"{POD}/32", "dev", "veth")
    _ip(pod, "link", "set", "lo", "up")
    _ip(pod, "address", "add", f"{POD}/32", "dev", "eth0")
    _ip(pod, "link", "set", "eth0", "up")
    _ip(pod, "route", "add", GATEWAY, "dev", "eth0")
    _ip(pod, "route", "add", "default", "via", GATEWAY)


def hammer(pod: str) -> dict[str, float]:
    """In the node's namespace: connect without pause while *pod*'s device is deleted. [us]

    Returns
    -------
    forgotten : number of connects that are in nobody's memory
    at_least_us, at_most_us : bounds of the time in which they were made
    """
    delete = threading.Timer(DELETED_AFTER_S, run, (["ip", "-n", pod, "link", "delete", "eth0"],))
    delete.start()
    began_s, tries = time.monotonic(), list[tuple[float, socket.socket]]()
    while time.monotonic() - began_s < HAMMER_S and len(tries) < MOST:
        client = socket.socket()
        client.setblocking(False)
        tries.append((time.monotonic(), client))
        client.connect_ex(("127.0.0.1", NODE_PORT))
    delete.join()
    time.sleep(0.2)
    listed = run(["conntrack", "-L", "-p", "tcp", "--state", "SYN_SENT"])
    known = {int(port) for port in re.findall(rf"sport=(\d+) dport={NODE_PORT}", listed)}
    return bounds([(at_s, _fate(client, known)) for at_s, client in tries])


def _fate(client: socket.socket, known: set[int]) -> str:
    if client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
        return "refused"
    return "kept" if client.getsockname()[1] in known else "forgotten"


def bounds(fates: list[tuple[float, str]]) -> dict[str, float]:
    """Of the times, in seconds, of connects with their fates: see `hammer`."""
    times = {
        fate: [at_s for at_s, each in fates if each == fate] for fate in ("refused", "forgotten", "kept")
    }
    forgotten = times["forgotten"]
    return {
        "forgotten": len(forgotten),
        "at_least_us": round((forgotten[-1] - forgotten[0]) * 1e6, 1) if forgotten else 0.0,
        "at_most_us": round((times["kept"][0] - times["refused"][-1]) * 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--hammer", metavar="POD", help="what runs inside; not for you")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.hammer:
        print(json.dumps(hammer(options.hammer)))
        return
    if options.out is None:
        parser.error("--out is missing")
    rows = []
    for _ in range(options.runs):
        with node_and_pod() as (node, pod):
            command = [sys.executable, "-m", "validation.calibration.forgets", "--hammer", pod]
            found = subprocess.run(
                ["ip", "netns", "exec", node, *command],
                stdout=subprocess.PIPE, text=True, check=True, timeout=60,
            )  # fmt: skip
        rows.append(json.loads(found.stdout))
        print(rows[-1], file=sys.stderr, flush=True)
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
