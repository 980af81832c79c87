"""kube-proxy's syncs from a log of `rule_changes`: durations and spacings. Usage: LOG.csv"""

import sys
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

from sim.cluster.node_cpu import BURST_S
from validation.calibration.milestones import Logged, read_log
from validation.calibration.quantiles import summary

SETTLED_S = 1.1
"""After the end of a sync: the next change is not held back any more."""
LONGEST_S = 3.0
WRITTEN_S = 0.05
"""A commit is told of so much later at most than the process that made it ended."""


@dataclass(frozen=True, slots=True)
class Syncs:
    """Samples. [s]"""

    save_to_commit: list[float]
    save_to_ended: list[float]
    commit_to_ended: list[float]
    ended_to_next: list[float]
    """While changes stream in: restore ended to the next save started."""
    save_to_next: list[float]
    seen_to_commit: list[float]
    """A single change after a pause: its watch event to the nat table committed."""
    seen_to_start: list[float]


def syncs(log: list[Logged]) -> Syncs:
    begins = [e.at_s for e in log if e.kind == "process.exec" and e.detail.endswith("/iptables-save")]
    runs = []
    for begin_s, after_s in pairwise([*begins, float("inf")]):
        until_s = min(after_s, begin_s + 0.9)
        commits = [e.at_s for e in log if e.kind == "rules.commit" and begin_s < e.at_s < until_s]
        ends = [
            e.at_s
            for e in log
            if "iptables-restor" in e.detail and "exit" in e.kind and begin_s < e.at_s < until_s
        ]
        if commits and ends:
            runs.append((begin_s, commits[-1], ends[-1]))
    streaming_s = next(
        (e.at_s for e in log if e.kind == "change.sent" and e.subject == "stream"), float("inf")
    )
    pairs = [(a, b) for a, b in pairwise(runs) if a[0] > streaming_s + 0.5 and b[0] - a[2] < 1.4]
    rested = [
        e.at_s
        for e in log
        if e.kind == "slice.write" and e.at_s < streaming_s
        and not any(e.at_s - SETTLED_S < end_s < e.at_s for _, _, end_s in runs)
    ]  # fmt: skip
    answers = [(w, next((r for r in runs if w - 0.005 < r[0] < w + 0.5), None)) for w in rested]
    return Syncs(
        save_to_commit=[c - b for b, c, _ in runs],
        save_to_ended=[e - b for b, _, e in runs],
        commit_to_ended=[e - c for _, c, e in runs],
        ended_to_next=[b[0] - a[2] for a, b in pairs],
        save_to_next=[b[0] - a[0] for a, b in pairs],
        seen_to_commit=[run[1] - w for w, run in answers if run],
        seen_to_start=[run[0] - w for w, run in answers if run],
    )


def sync_lengths(log: list[Logged]) -> list[float]:
    """iptables-save started to iptables-restore ended, of every sync of a log. [s]"""
    begins = [e.at_s for e in log if e.kind == "process.exec" and e.detail.endswith("/iptables-save")]
    ends = [e.at_s for e in log if e.kind == "process.exit" and "iptables-restor" in e.detail]
    answers = [(b, min((e for e in ends if e > b), default=float("inf"))) for b in begins]
    return [end - begin for begin, end in answers if end - begin < LONGEST_S]


@dataclass(frozen=True, slots=True)
class SyncsOfChanges:
    """A slice written to its rules committed, in a log of pods that come and go; no sync that was held back. [s]

    Apart by whether a pod had been deleted less than BURST_S before.
    """

    in_burst: list[float]
    at_rest: list[float]


def syncs_of_changes(log: list[Logged]) -> SyncsOfChanges:
    """The syncs of *log*, by whether a deletion was at work."""
    deleted = [e.at_s for e in log if e.kind == "pod.deleted"]
    writes = [e.at_s for e in log if e.kind == "slice.write"]
    begins = [e.at_s for e in log if e.kind == "process.exec" and e.detail.endswith("/iptables-save")]
    ends = [e.at_s for e in log if e.kind == "process.exit" and "iptables-restor" in e.detail]
    in_burst: list[float] = []
    at_rest: list[float] = []
    free_from_s = float("-inf")
    for begin_s, after_s in pairwise([*begins, float("inf")]):
        until_s = min(after_s, begin_s + LONGEST_S)
        end_s = min((e for e in ends if begin_s < e < until_s), default=float("nan"))
        commits = [e.at_s for e in log if e.kind == "rules.commit" and begin_s < e.at_s < end_s + WRITTEN_S]
        if not commits:
            continue
        # the change that this sync answers: the first since the one before
        asked = [w for w in writes if free_from_s < w < begin_s]
        if asked and asked[0] > free_from_s + SETTLED_S:
            burst = any(0 < begin_s - d < BURST_S for d in deleted)
            (in_burst if burst else at_rest).append(commits[-1] - asked[0])
        free_from_s = end_s
    return SyncsOfChanges(in_burst, at_rest)


def patches(log: list[Logged]) -> list[tuple[float, float]]:
    """Each PATCH: answered after, and its watch event after. [s]"""
    found = []
    writes = [e.at_s for e in log if e.kind == "slice.write"]
    for sent in (e for e in log if e.kind == "change.sent"):
        seen = [w for w in writes if sent.at_s < w < sent.at_s + 0.5]
        if seen:
            found.append((float(sent.detail), seen[0] - sent.at_s))
    return found


def main() -> None:
    log = read_log(Path(sys.argv[1]))
    found = syncs(log)
    samples = {field.name: getattr(found, field.name) for field in fields(Syncs)}
    samples["patch_answered"] = [answered for answered, _ in patches(log)]
    samples["patch_to_event"] = [seen for _, seen in patches(log)]
    for name, values in samples.items():
        print(f"{name:18}", {key: round(value, 5) for key, value in summary(values).items()})


if __name__ == "__main__":
    main()
