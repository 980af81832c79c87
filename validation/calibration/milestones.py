"""A log of `pod_cycles` to one row a pod: how long each step took. [s]"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from validation.calibration.rows import read_rows

SUCCESSOR_S = 1.0
"""A pod created later than this after a deletion is not its doing."""


RELIST_S = 1.01
"""Between two relists while pods come and go: a second, and what one takes."""
BEFORE_S = 0.2
"""What comes so much sooner than an address belongs to the same relist."""


@dataclass(frozen=True, slots=True)
class Logged:
    at_s: float
    kind: str
    subject: str
    detail: str


def read_log(path: Path) -> list[Logged]:
    return [Logged(float(r["at_s"]), r["kind"], r["subject"], r["detail"]) for r in read_rows(path)]


def _first(events: list[Logged], after_s: float, before_s: float, *words: str, kind: str = "") -> float:
    """Time of the first event in between whose kind and detail fit; nan where there is none."""
    for e in events:
        if after_s < e.at_s < before_s and (not kind or e.kind == kind) and all(w in e.detail for w in words):
            return e.at_s
    return float("nan")


def starts(log: list[Logged]) -> list[dict[str, float]]:
    """Steps of each pod that was started while the log ran."""
    rows = []
    for mine in _by_pod(log).values():
        at = {e.kind: e.at_s for e in reversed(mine) if e.kind.startswith("pod.")}
        if "pod.created" not in at or "pod.address" not in at:
            continue
        created_s = at["pod.created"]
        sent = [e for e in log if e.kind == "scale.sent" and e.at_s < created_s]
        sets = [e for e in log if e.kind == "replicaset" and sent and sent[-1].at_s < e.at_s < created_s]
        pause_s = _first(mine, 0, 9e9, "/pause", kind="process.exec")
        ready_s = at.get("pod.ready", float("nan"))
        server_s = _first(mine, 0, 9e9, "/nginx", kind="process.exec")
        cni_s = _first(log, at["pod.bound"], pause_s, "/opt/cni/bin/ptp", kind="process.exec")
        address = next(e.detail for e in mine if e.kind == "pod.address")
        slice_s = _first(mine, 0, 9e9, kind="slice.endpoint")
        ready_slice = [e.at_s for e in mine if e.kind == "slice.endpoint" and e.detail == "rs"]
        rows.append({
            "scale_to_replicaset": sets[0].at_s - sent[-1].at_s if sets else float("nan"),
            "replicaset_to_created": created_s - sets[0].at_s if sets else float("nan"),
            "created_to_bound": at["pod.bound"] - created_s,
            "bound_to_cni": cni_s - at["pod.bound"],
            "cni_to_pause": pause_s - cni_s,
            "bound_to_pause": pause_s - at["pod.bound"],
            "pause_to_server": server_s - pause_s,
            "created_to_server": server_s - created_s,
            "server_to_address": at["pod.address"] - server_s,
            "address_to_ready": ready_s - at["pod.address"],
            "created_to_ready": ready_s - created_s,
            "address_to_slice": slice_s - at["pod.address"],
            "ready_to_slice": ready_slice[0] - ready_s if ready_slice else float("nan"),
            "slice_to_rule": _first(log, ready_slice[0], 9e9, f"dnat to {address}:", kind="rules") - ready_slice[0]
            if ready_slice else float("nan"),
        })  # fmt: skip
    return rows


def waves(log: list[Logged]) -> list[float]:
    """From bound to the CNI plugin's start, the median of the pods that each change of a Deployment's size started."""
    sent_s = [e.at_s for e in log if e.kind == "scale.sent"]
    found: dict[int, list[float]] = defaultdict(list)
    for mine in _by_pod(log).values():
        at = {e.kind: e.at_s for e in reversed(mine) if e.kind.startswith("pod.")}
        if "pod.bound" in at and "pod.address" in at:
            pause_s = _first(mine, 0, 9e9, "/pause", kind="process.exec")
            cni_s = _first(log, at["pod.bound"], pause_s, "/opt/cni/bin/ptp", kind="process.exec")
            found[sum(s < at["pod.created"] for s in sent_s)].append(cni_s - at["pod.bound"])
    return [float(np.nanmedian(waits_s)) for waits_s in found.values()]


def stops(log: list[Logged]) -> list[dict[str, float]]:
    """Steps of each pod that was deleted while the log ran."""
    links = {e.subject: e.detail.split(" dev ")[1].split()[0] for e in log if e.kind == "route"}
    rows = []
    for mine in _by_pod(log).values():
        at = {e.kind: e.at_s for e in reversed(mine) if e.kind.startswith("pod.")}
        if "pod.deleted" not in at or "pod.removed" not in at:
            continue
        deleted_s = at["pod.deleted"]
        term_s = _first(mine, deleted_s - 0.05, 9e9, "15 nginx", kind="signal")
        runc_s = max(
            (e.at_s for e in log if e.kind == "process.exec" and e.at_s < term_s and "runc" in e.detail),
            default=float("nan"),
        )
        exits = [
            e.at_s
            for e in log
            if e.kind == "process.exit" and term_s < e.at_s < term_s + 5 and e.detail.startswith("nginx")
        ]
        kill_s = _first(mine, term_s, 9e9, "pause", kind="signal")
        address = next((e.detail for e in mine if e.kind == "pod.address"), "")
        device = links.get(address, "?")
        gone_s = min(
            (e.at_s for e in log if e.kind.startswith("link") and e.subject == device and e.at_s > term_s),
            default=float("nan"),
        )
        exits = [at_s for at_s in exits if not at_s > gone_s]  # a later one is another pod's
        terminating = [e.at_s for e in mine if e.kind == "slice.endpoint" and "t" in e.detail]
        sent = [e for e in log if e.kind == "scale.sent" and e.at_s < deleted_s]
        sets = [e for e in log if e.kind == "replicaset" and sent and sent[-1].at_s < e.at_s < deleted_s]
        hook_s = _first(mine, deleted_s - 0.05, term_s, "/sleep", kind="process.exec")
        hook_end_s = next(
            (
                e.at_s
                for e in log
                if e.kind == "process.exit" and e.detail.startswith("sleep") and hook_s < e.at_s < term_s
            ),
            float("nan"),
        )
        rows.append({
            "scale_to_replicaset": sets[0].at_s - sent[-1].at_s if sets else float("nan"),
            "replicaset_to_deleted": deleted_s - sets[0].at_s if sets else float("nan"),
            "deleted_to_slice": terminating[0] - deleted_s if terminating else float("nan"),
            "deleted_to_runc": runc_s - deleted_s,
            "runc_to_signal": term_s - runc_s,
            "deleted_to_signal": term_s - deleted_s,
            "signal_to_worker_exit": exits[0] - term_s if exits else float("nan"),
            "signal_to_master_exit": exits[1] - term_s if len(exits) > 1 else float("nan"),
            "exit_to_pause_killed": kill_s - exits[1] if len(exits) > 1 else float("nan"),
            "exit_to_netns_gone": gone_s - exits[1] if len(exits) > 1 else float("nan"),
            "netns_gone_to_terminal": at["pod.terminal"] - gone_s if "pod.terminal" in at else float("nan"),
            "exit_to_terminal": at.get("pod.terminal", float("nan")) - exits[1] if len(exits) > 1 else float("nan"),
            "terminal_to_removed": at["pod.removed"] - at["pod.terminal"] if "pod.terminal" in at else float("nan"),
            "deleted_to_hook": hook_s - deleted_s,
            "hook": hook_end_s - hook_s,
            "hook_to_signal": term_s - hook_end_s,
        })  # fmt: skip
    return rows


def successors_of(log: list[Logged]) -> list[float]:
    """From each deletion to the creation of the pod that replaces it."""
    created_s = sorted(e.at_s for e in log if e.kind == "pod.created")
    deleted_s = [e.at_s for e in log if e.kind == "pod.deleted"]
    first_s = [next((at_s for at_s in created_s if at_s > gone_s), float("inf")) for gone_s in deleted_s]
    gaps_s = [at_s - gone_s for at_s, gone_s in zip(first_s, deleted_s, strict=True)]
    return [s for s in gaps_s if s < SUCCESSOR_S]


def removals(log: list[Logged]) -> list[float]:
    """From the nearest address of a pod to each object's end, by the kubelet's rhythm: whole relists left out."""
    addresses_s = [e.at_s for e in log if e.kind == "pod.address"]
    found = []
    for removed_s in (e.at_s for e in log if e.kind == "pod.removed"):
        nearest_s = min(addresses_s, key=lambda at_s: abs(at_s - removed_s))
        found.append((removed_s - nearest_s + BEFORE_S) % RELIST_S - BEFORE_S)
    return found


def _by_pod(log: list[Logged]) -> dict[str, list[Logged]]:
    pods = defaultdict(list)
    for e in log:
        if len(e.subject) == 36:
            pods[e.subject].append(e)
    return {
        uid: mine
        for uid, mine in pods.items()
        if any(e.kind == "pod.created" for e in mine) or any(e.kind == "pod.deleted" for e in mine)
    }


def columns(rows: list[dict[str, float]]) -> dict[str, list[float]]:
    """Durations by step, without those that were not seen."""
    return {name: [r[name] for r in rows if np.isfinite(r[name])] for name in (rows[0] if rows else ())}
