"""The kernel's counters and the CPU's before and after a run: do they tell of a spoiled one?"""

import os
from collections.abc import Mapping
from typing import Final

from validation.lab.cluster import Lab

TCP = ("TWRecycled", "ListenOverflows", "ListenDrops", "TCPTimeouts", "TCPSynRetrans", "TCPAbortOnTimeout")
CONNTRACK = ("insert_failed", "drop", "early_drop")
SCRIPT = """cat /proc/net/netstat; echo ==; conntrack -S 2>/dev/null; echo ==; head -1 /proc/stat; echo ==
for n in /run/netns/*; do nsenter --net=$n cat /proc/net/netstat 2>/dev/null; done; true"""
CPU_USAGE = """cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null ||
sed -n 's/^usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat"""
"""Nanoseconds of CPU that a container has used, by cgroup v1 or v2."""
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
SPOILING = {
    "insert_failed": "two connections met on one source port (conntrack insert_failed)",
    "drop": "connection tracking dropped packets (conntrack drop)",
    "early_drop": "connection tracking was full (conntrack early_drop)",
    "ListenOverflows": "a listen queue of the node was full (ListenOverflows)",
    "pods_ListenOverflows": "a pod's listen queue was full (ListenOverflows)",
}
"""Counters that should not move in a run that is about something else."""
OTHER_WORK: Final = 0.15
"""Share of all cores that a run's own recorder never takes: from there on the machine did something else."""

Counters = Mapping[str, int]


def read_counters(lab: Lab) -> Counters:
    """The counters as they stand in the node's network namespace and its pods'."""
    node, conntrack, cpu, pods = lab.in_node("sh", "-c", SCRIPT).split("==\n")
    found = _tcp(node)
    found |= {f"pods_{name}": value for name, value in _tcp(pods).items()}
    for name in CONNTRACK:
        words = conntrack.replace("=", " ").split()
        found[name] = sum(int(words[i + 1]) for i, word in enumerate(words[:-1]) if word == name)
    user, nice, system, idle, waiting, irq, softirq, stolen = (int(word) for word in cpu.split()[1:9])
    busy = user + nice + system + irq + softirq
    ours = [lab.in_node("sh", "-c", CPU_USAGE, node=node) for node in (*lab.nodes, lab.load_container)]
    return found | {
        "cpu_ticks": busy + idle + waiting + stolen,
        "cpu_busy_ticks": busy,
        "cpu_ours_ns": sum(int(usage) for usage in ours),
    }


def _tcp(netstat: str) -> dict[str, int]:
    return {name: tcp_counters(netstat, "TcpExt", name) for name in TCP}


def tcp_counters(text: str, table: str, name: str) -> int:
    """Sum of counter *name* over all tables of that name in *text*: a line of names, then a line of values."""
    lines = [line.split() for line in text.splitlines() if line.startswith(f"{table}: ")]
    return sum(
        int(values[names.index(name)])
        for names, values in zip(lines[::2], lines[1::2], strict=True)
        if name in names
    )


def moved(before: Counters, after: Counters) -> dict[str, int]:
    """By how much each counter has grown; pods that ended in between count as nothing."""
    return {name: max(after[name] - before.get(name, 0), 0) for name in after}


def cpu_busy(change: Counters) -> float:
    """Share of all cores that was busy."""
    return round(change["cpu_busy_ticks"] / max(change["cpu_ticks"], 1), 3)


def cpu_others(change: Counters) -> float:
    """Share of all cores that neither the cluster nor the client used."""
    ours = change["cpu_ours_ns"] / 1e9 * TICKS_PER_S
    return round(max(change["cpu_busy_ticks"] - ours, 0) / max(change["cpu_ticks"], 1), 3)


def spoiling(change: Counters) -> list[str]:
    """What the counters say against a run."""
    found = [f"{reason}: {change[name]}" for name, reason in SPOILING.items() if change.get(name)]
    if "cpu_ticks" in change and (others := cpu_others(change)) > OTHER_WORK:
        found.append(f"the machine had other work: {others:.0%} of all cores")
    return found
