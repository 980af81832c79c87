"""How a client that opens a connection for every request is held up by its own old ones (sim/traffic/time_wait.py).

ab without keep-alive against three pods through their NodePort, in the node's network namespace; twice a second the
kernel's counters of the node and of its pods. No pod is touched, and the load ends before the pods begin to forget.
"""

import argparse
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

from sim.traffic.time_wait import TIME_WAIT_S
from validation.calibration.pod_cycles import NAMESPACE, NODE_PORTS, deploy, node_process, objects
from validation.calibration.rows import write_rows
from validation.counters import tcp_counters
from validation.lab.cluster import Lab

EVERY_S: Final = 0.5
LOOK: Final = """looks=$1; every=$2; shift 2
for look in $(seq $looks); do date +%s.%N; cat /proc/net/snmp /proc/net/netstat; echo ==
for pod in "$@"; do nsenter --net="/run/netns/$pod" cat /proc/net/netstat /proc/net/sockstat; done; echo ====
sleep $every; done"""
"""Arguments: how many looks, seconds between two, the pods' network namespaces."""
NODE: Final = {"opened": ("Tcp", "ActiveOpens"), "syn_again": ("TcpExt", "TCPSynRetrans")}
PODS: Final = {"closed_first": ("TcpExt", "TW"), "not_let_in": ("TcpExt", "PAWSTimewait")}


def row(look: str, first_s: float | None) -> dict[str, float]:
    """One look: sums over all tables in the node's namespace and in those of its pods."""
    head, pods = look.split("==\n", 1)
    at_s, node = head.split("\n", 1)
    counted = {name: tcp_counters(node, *field) for name, field in NODE.items()}
    counted |= {name: tcp_counters(pods, *field) for name, field in PODS.items()}
    remembered = sum(int(n) for n in re.findall(r"^TCP: .*\btw (\d+)", pods, re.MULTILINE))
    return {"at_s": round(float(at_s) - (first_s or float(at_s)), 3), **counted, "remembered": remembered}


def rows_of(output: str) -> list[dict[str, float]]:
    """All looks of LOOK's output, counted from the first one on."""
    looks = [look for look in output.split("====\n") if look.strip()]
    first_s = float(looks[0].split("\n", 1)[0])
    found = [row(look, first_s) for look in looks]
    counters = (*NODE, *PODS)
    return [{**each, **{name: each[name] - found[0][name] for name in counters}} for each in found]


def namespaces(lab: Lab) -> set[str]:
    """The network namespaces of the node's pods."""
    return set(lab.in_node("ls", "/run/netns").split())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    assert options.seconds < TIME_WAIT_S
    lab = Lab.find(options.cluster)
    # new pods: what earlier connections left behind is gone with those that had it
    deploy(lab, objects("busy", replicas=0, period_s=1, hook=None, image="rollsim/app:red"))
    others = namespaces(lab)
    deploy(lab, objects("busy", replicas=3, period_s=1, hook=None, image="rollsim/app:red"))
    n_looks, pods = int((options.seconds + 1) / EVERY_S), sorted(namespaces(lab) - others)
    looks = lab.start_in_node(["sh", "-c", LOOK, "sh", str(n_looks), str(EVERY_S), *pods])
    client = ["ab", "-q", "-l", "-r", "-c", "10", "-t", str(options.seconds), "-n", "5000000"]
    url = f"http://127.0.0.1:{NODE_PORTS['busy']}/index.html"
    subprocess.run(
        ["nsenter", "-t", str(node_process(lab)), "-n", *client, url],
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=options.seconds + 60,
    )
    output, _ = looks.communicate(timeout=60)
    lab.kubectl("-n", NAMESPACE, "scale", "deployment/busy", "--replicas=0")
    rows = rows_of(output.decode())
    write_rows(options.out, rows)
    for before, after in pairwise(rows):
        print(after["at_s"], after["opened"] - before["opened"], file=sys.stderr)


if __name__ == "__main__":
    main()
