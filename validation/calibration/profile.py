"""Writes a timing profile from what `rollsim calibrate` measured. Usage: DATA_FOLDER PROFILE.yaml

A step that holds an API write as well is given less the median of one write and its watch event: the model adds
that itself. Where a step cannot be seen alone the split is said in the source line.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from validation.calibration.milestones import columns, read_log, removals, starts, stops, successors_of, waves
from validation.calibration.quantiles import evenly
from validation.calibration.rows import read_rows
from validation.calibration.syncs import patches, syncs, syncs_of_changes
from validation.observations import write_aside

HEAD: Final = """\
# Measured {date} on a kind cluster ({versions})
# with runs of its own: single pods, scale up and down, a Service without pods, nginx on loopback. How, and how many:
# validation/calibration/FINDINGS.md. Nothing here comes from a rollout that a prediction is held against.
# Written by `rollsim calibrate`.
apiVersion: rollsim/v1
kind: TimingProfile
metadata: {{name: {name}}}
base: defaults
spec:
"""
MACHINE: Final = "machine.json"
"""In the data's folder: date, and the versions of what was measured."""
WATCH_HOP_S: Final = 0.001
FIRST_MOUNTS: Final = "first-mounts.csv"
PACED_COST: Final = "paced-cost.csv"
UNBOUNDED: Final = 2.0
"""Cores: as many as any machine has that was measured."""
LATE_MOUNT: Final = "{quantiles: [0ms, 0ms, 0ms, 0ms, 0ms, 0ms, 0ms, 0ms, 200ms, 1s, 1.5s]}"
LATE_S: Final = 0.3
"""A mount later than this was tried again."""
POLL_S: Final = 0.3
"""The kubelet asks so often whether a pod's volumes are there (kubernetes v1.34 pkg/kubelet/volumemanager)."""
BEFORE_CNI_S: Final = 0.050
"""Of RunPodSandbox, before the CNI plugin runs: what bound-to-CNI leaves when the volume wait is taken at 300 ms."""
AB_AND_A_SERVER: Final = 2
"""Processes that a client without pause keeps runnable."""
UNMEASURED_CPU: Final = "requests: 300.0e-6, go-http: 20.0e-6, generic: 30.0e-6"
CLOSE_US: Final = 200.0
"""Two bounds further apart than this say little: the client had been off its core in between."""
RETRIED_S: Final = 2.0
"""A mount that failed is tried again after half a second, and then after ever longer times: another thing than slow."""
STALE_S: Final = 1.0
"""An EndpointSlice that comes so late was held back by a stale cache, and the model holds it back itself."""
LOST_KICK_S: Final = 0.5
"""A pod Ready later than this after its address was not made ready by its first kick."""


Steps = dict[str, list[float]]


def _entry(name: str, samples_s: Sequence[float], source: str) -> str:
    return _value(name, _quantiles(samples_s), f"n={len(samples_s)}; {source}")


def _quantiles(samples_s: Sequence[float]) -> str:
    return f"{{quantiles: [{', '.join(_milliseconds(q) for q in evenly(samples_s))}]}}"


def _milliseconds(value_s: float) -> str:
    text = np.format_float_positional(max(0.0, value_s) * 1e3, precision=3, fractional=False, trim="-")
    return f"{text}ms"


def _value(name: str, value: str, source: str) -> str:
    return f"  {name}:\n    value: {value}\n    source: {json.dumps(f'measured, {source}')}\n"


def _less(samples_s: Iterable[float], taken_s: float) -> list[float]:
    return [max(0.0, s - taken_s) for s in samples_s]


def _server_end(path: Path, suffix: str, which: str) -> list[str]:
    """How nginx in a pod ended: heard of it, closed its sockets, and its master went."""
    rows = _stops(path)
    return [
        _entry(f"signal_heard{suffix}", _heard(rows),
               f"{which}; SIGTERM generated to the master's word read by the worker"),
        _entry(f"core_wait{suffix}", _waited(rows),
               f"{which}; the worker runnable to its reading of the word, without a core between"),
        _entry(f"fast_stop{suffix}", [r["last_close_s"] - _deaf_from(r) for r in rows],
               f"{which}; the worker's last read, or the master's word, to its last socket closed"),
        _entry(f"graceful_exit{suffix}", [r["master_exit_s"] - r["last_close_s"] for r in rows],
               f"{which}; last socket closed to the master gone"),
    ]  # fmt: skip


_SEEN_WHOLE: Final = {"signal_s", "runnable_s", "word_s", "told_s", "last_close_s", "master_exit_s"}
WAKES_WITHIN_S: Final = 50e-6
"""The trace notes the word when its call begins, and the waking somewhat later."""


def _stops(path: Path) -> list[dict[str, float]]:
    """The times of each stop that was seen from its signal to its end. [s]"""
    rows = [{k: float(v) for k, v in row.items() if k.endswith("_s") and v} for row in read_rows(path)]
    return [row for row in rows if set(row) >= _SEEN_WHOLE]


def _heard(rows: Iterable[Mapping[str, float]]) -> list[float]:
    return [row["told_s"] - row["signal_s"] for row in rows]


def _waited(rows: Iterable[Mapping[str, float]]) -> list[float]:
    return [row["told_s"] - row["runnable_s"] for row in rows]


def _word_wakes(data: Path) -> str:
    """How often the worker slept until its master's word."""
    rows = [row for path in sorted(data.glob("pod-stop-*.csv")) for row in _stops(path)]
    n = sum(row["word_s"] <= row["runnable_s"] + WAKES_WITHIN_S for row in rows)
    return _value("p_word_wakes", f"{(n + 1) / (len(rows) + 2):.3f}",
                  f"{n} of {len(rows)} stops: word written as the worker became runnable; (k+1)/(n+2)")  # fmt: skip


def _saturated(data: Path, slowdown: float) -> str:
    """What is slower still under a client that takes all the CPU it gets, and is no matter of sharing it fairly.

    *slowdown*: of one start beside the node's own work, ab and a server, as sharing makes it.
    """
    during, at_rest = (_stops(data / f"pod-stop-ab{end}.csv") for end in ("", "-hook"))
    start, stop = steps_of(data, "cycles-busy-*.csv")
    waits_s = _polled_s(start)
    values = "".join(
        f"      {name}: {_quantiles(samples_s)}\n"
        for name, samples_s in (
            ("volume_wait", waits_s),
            ("sandbox", [s / slowdown + BEFORE_CNI_S for s in start["cni_to_pause"]]),
            ("container_start", [s / slowdown for s in start["pause_to_server"]]),
            ("exit_to_netns_gone", [s / slowdown for s in stop["exit_to_netns_gone"]]),
            ("signal_heard", _heard(during)),
            ("signal_heard_at_rest", _heard(at_rest)),
            ("core_wait", _waited(during)),
            ("core_wait_at_rest", _waited(at_rest)),
        )
    )
    n = f"n={len(during)} and {len(at_rest)}"
    source = json.dumps(
        f"measured, {n}; pods deleted under ab -k -c 10, without preStop and after 2.5 s; volume_wait to "
        f"exit_to_netns_gone: n={len(waits_s)}, pods started and deleted beside its servers; waits in whole polls of "
        f"300 ms, the others less what sharing the cores makes of them, {slowdown:.2f} times as long"
    )
    return f"  saturated:\n    value:\n{values}    source: {source}\n"


def _polled_s(start: Steps) -> list[float]:
    """Volume waits of pods that start under ab: as many whole polls as fit in; mounts that were tried again left out.

    What is left of a poll is the sandbox's, which the load slows down as well.
    """
    polls = [max(1, int(wait_s / POLL_S)) for wait_s in start["bound_to_cni"]]
    return [n * POLL_S for n in polls if n * POLL_S < RETRIED_S]


def _deaf_from(row: Mapping[str, float]) -> float:
    return max(row["told_s"], row.get("last_read_s", 0.0))


def steps_of(data: Path, pattern: str) -> tuple[Steps, Steps]:
    logs = [read_log(path) for path in sorted(data.glob(pattern))]
    return columns([row for log in logs for row in starts(log)]), columns(
        [row for log in logs for row in stops(log)]
    )


def profile(data: Path, name: str) -> str:
    """The cluster left alone; what a deletion makes slower before its signal is from pods that are replaced at once."""
    start, stop = steps_of(data, "cycles-idle-*.csv")
    replaced, stop_of_replaced = steps_of(data, "cycles-replace-*.csv")
    cores, own_share = _cores(data), _own_share(data)
    n_threes, slower = _slower_in_threes(data)
    each_cores = _cores_of_one(slower, cores, own_share)
    by_ab = max(1.0, own_share + (AB_AND_A_SERVER + each_cores) / cores)
    parts = [
        *_controllers(start, stop, data),
        *_beside_a_deletion(replaced, stop_of_replaced, data),
        *_signal(stop_of_replaced),
        _vanishing(stop),
        *_kubelet(start, stop, data),
        *_rest(data, slowdown_by_ab=by_ab),
        *_request_cpu(data),
        _time_wait(data),
        _forgets(data),
    ]
    own = _value("node_utilisation", f"{own_share:.3f}",
                 "CPU of the node's container while pods come and go, of all cores")  # fmt: skip
    found = ", ".join(f"{ratio:.2f}" for ratio in slower)
    each = _value("operation_cores", f"{each_cores:.2f}",
                  f"n={n_threes}; three pods at once against one: sandbox, container and network namespace take "
                  f"{found} times as long on {cores} cores, of which the node's own work wants "
                  f"{own_share * cores:.2f}")  # fmt: skip
    return _head(data, name) + "".join([*parts, own, each])


def _own_share(data: Path) -> float:
    shares = [
        float(event.detail)
        for path in sorted(data.glob("cycles-*.csv"))
        for event in read_log(path)
        if event.kind == "cpu.share" and "busy" not in path.name
    ]
    return float(np.mean(shares))


def _slower_in_threes(data: Path) -> tuple[int, list[float]]:
    """Of how many pods; how much longer sandbox, container and network namespace take of three at once than of one."""
    alone, three = steps_of(data, "cycles-idle-*.csv"), steps_of(data, "cycles-three-*.csv")
    ratios = [
        float(np.median(of_three[step]) / np.median(of_one[step]))
        for of_one, of_three in zip(alone, three, strict=True)
        for step in ("cni_to_pause", "pause_to_server", "exit_to_netns_gone")
        if step in of_one
    ]
    return len(three[0]["cni_to_pause"]), ratios


def _cores_of_one(slower: Sequence[float], cores: int, own_share: float) -> float:
    """Cores that one start or end keeps busy: from how much slower three at once are than one.

    Processor sharing: n operations of k cores each on c cores, of which the node's own work wants w, take
    (n k + w) / c times as long as one.
    """
    return cores * (float(np.median(slower)) - own_share) / 3


def _controllers(start: Steps, stop: Steps, data: Path) -> list[str]:
    """What controllers take when no deletion is at work."""
    to_event = _writes(data)
    write_s = float(np.median(to_event))
    sets = start["replicaset_to_created"] + stop["replicaset_to_deleted"]
    slices = [s for s in start["address_to_slice"] + start["ready_to_slice"] if s < STALE_S]
    return [
        _entry("api_write", _less(to_event, WATCH_HOP_S), "PATCH sent to its watch event, less watch_hop"),
        _value("watch_hop", "{lognormal: {median: 1ms, p95: 3ms}}",
               "with api_write; event and answer come within 1 ms of each other, so their sum is what is known"),
        _entry("controller_sync_at_rest", _less(sets, write_s),
               "ReplicaSet changed to pod created or deleted, less a write"),
        _entry("endpointslice_sync_at_rest", _less(slices, write_s),
               "address or readiness of a new pod to EndpointSlice changed, less a write"),
        _entry("schedule_at_rest", _less(start["created_to_bound"], write_s), "pod created to bound, less a write"),
    ]  # fmt: skip


def _beside_a_deletion(start: Steps, stop: Steps, data: Path) -> list[str]:
    """What the same controllers take for a pod that is replaced, and for its successor."""
    write_s = float(np.median(_writes(data)))
    logs = [read_log(path) for path in sorted(data.glob("cycles-replace-*.csv"))]
    successors = [s for log in logs for s in successors_of(log)]
    return [
        _entry("controller_sync", _less(successors, write_s),
               "a pod that is replaced; deletion to its successor created, less a write"),
        _entry("endpointslice_sync", _less(stop["deleted_to_slice"], write_s),
               "a pod that is replaced; deletion to EndpointSlice changed, less a write"),
        _entry("schedule", _less(start["created_to_bound"], write_s),
               "a pod that replaces another; created to bound, less a write"),
    ]  # fmt: skip


def _writes(data: Path) -> list[float]:
    """PATCH sent to its watch event. [s]"""
    return [seen_s for _, seen_s in patches(read_log(data / "rules-idle.csv"))]


def _signal(stop: Steps) -> list[str]:
    return [
        _entry("kubelet_reaction", stop["deleted_to_runc"], "a pod that is replaced; deletion to runc kill started"),
        _entry("signal_delivery", stop["runc_to_signal"], "the same pods; runc kill started to SIGTERM generated"),
    ]  # fmt: skip


def _vanishing(stop: Steps) -> str:
    """Of a pod alone: what a start beside it costs the model adds itself."""
    return _entry("exit_to_netns_gone", stop["exit_to_netns_gone"],
                  "last process exited to veth gone; connects to the address fall silent 0 to 5 ms later")  # fmt: skip


def _kubelet(start: Steps, stop: Steps, data: Path) -> list[str]:
    before_cni_s = BEFORE_CNI_S + float(np.median(stop["deleted_to_runc"]))
    first_round = [s for s in start["address_to_ready"] if s < LOST_KICK_S]
    all_starts, _ = steps_of(data, "cycles-[irt]*.csv")  # idle, replace, three
    known = [s < LOST_KICK_S for s in all_starts["address_to_ready"]]
    removed = [s for path in sorted(data.glob("cycles-idle-*.csv")) for s in removals(read_log(path))]
    patch_s, write_s = float(np.median(first_round)) - WATCH_HOP_S, float(np.median(_writes(data)))
    return [
        _entry("volume_wait", _less(start["bound_to_cni"], before_cni_s),
               "pod bound to CNI plugin started, less 50 ms of sandbox and the median reaction to a deletion"),
        _late_mount(data),
        _entry("sandbox", [s + BEFORE_CNI_S for s in start["cni_to_pause"]],
               "CNI plugin started to pause running, and 50 ms before it"),
        _entry("container_start", start["pause_to_server"], "pause running to the server's process running"),
        _value("pleg_relist", "{lognormal: {median: 3ms, p95: 16ms}}",
               "n=1524; kubelet_pleg_relist_duration_seconds (78 % under 5 ms, 97 % under 25 ms)"),
        _entry("status_patch", _less(first_round, WATCH_HOP_S), "address published to Ready published, two in a row"),
        _entry("relist_to_removed", _less(removed, write_s - patch_s),
               "address published to an object gone, whole relists left out; with a status patch, less a write"),
        _value("p_first_kick", f"{(sum(known) + 1) / (len(known) + 2):.3f}",
               f"{sum(known)} of {len(known)} pods, alone, three at once or replacing another, Ready within 0.5 s of "
               "their address; (k+1)/(n+2)"),
    ]  # fmt: skip


def _late_mount(data: Path) -> str:
    """Pods that start three at a time where no other has their volumes: late all together, or none of them."""
    path = data / FIRST_MOUNTS
    if not path.exists():
        return f"  late_mount:\n    value: {LATE_MOUNT}\n    source: not measured on this machine; as in defaults\n"
    waits_s = waves(read_log(path))
    usual_s = float(np.median(waits_s))
    late_s = [wait_s - usual_s if wait_s > usual_s + LATE_S else 0.0 for wait_s in waits_s]
    return _entry("late_mount", late_s, "three pods at once, none beside them; median of the three from bound to CNI "
                  "plugin started, less the median of all")  # fmt: skip


def _request_cpu(data: Path) -> list[str]:
    """CPU of one request by part, on the cluster: kept connections, and what a new one adds."""
    steady = read_rows(data / "steady.csv")

    def mean_us(tier: str, client: str, part: str) -> float:
        found = [float(r[f"{part}_us"]) for r in steady if (r["tier"], r["client"]) == (tier, client)]
        return float(np.mean(found))

    connect = sum(mean_us("direct", "ab", p) - mean_us("direct", "ab -k", p) for p in ("client", "nginx")) / 2
    parts = {
        "ab": mean_us("direct", "ab -k", "client"),
        "wrk": mean_us("direct", "wrk", "client"),
        "plain": mean_us("direct", "paced", "client"),
        "nginx": mean_us("direct", "ab -k", "nginx"),
        "haproxy": mean_us("proxy", "ab -k", "haproxy") - connect,
        "connect": connect,
    }
    parts["wakeups"] = _wakeups_us(data, steady, without=parts["plain"] + parts["nginx"])
    most_cores, told = UNBOUNDED, "not measured on this machine: no bound on two cores"
    if (data / PACED_COST).exists():
        each_us, parts["wakeups"], most_cores = _paced(data)
        parts["plain"] = each_us - parts["nginx"]
        told = (
            "measured, our own client at 250 to 4,800 requests/s, connections kept: its CPU, led back to none"
        )
    measured = ", ".join(f"{part}: {us:.1f}e-6" for part, us in parts.items())
    n = sum((r["tier"], r["client"]) == ("direct", "ab -k") for r in steady)
    closed = [float(row["client_us"]) for row in read_rows(data / "refused.csv")]
    return [
        _value("request_cpu_s", f"{{{measured}, {UNMEASURED_CPU}}}",
               f"n={n} runs of each client through a NodePort to three pods; connect, paid on both sides, is half of "
               "what a connection for each request adds to ab and nginx; wakeups, what a request of "
               "a paced client costs the machine beside that; requests, go-http and generic as in defaults"),
        f"  wakeups_cores:\n    value: {most_cores:.3f}\n    source: {json.dumps(told)}\n",
        _value("refused_cpu_s", f"{np.mean(closed):.1f}e-6",
               f"n={len(closed)} runs of ab through a NodePort against a closed port"),
    ]  # fmt: skip


def _paced(data: Path) -> tuple[float, float, float]:
    """Of a paced client of nginx: the CPU of one more request, what one of few takes beyond that [us], and that in all.

    Over the rate the machine's CPU, less that of no load, is a line that does not begin at nothing [cores].
    """
    rows = read_rows(data / PACED_COST)
    idle = np.mean([float(r["machine_us"]) * 1e-6 / float(r["wall_s"]) for r in rows if r["tier"] == "none"])
    paced = sorted((float(r["rate_per_s"]), float(r["machine_us"])) for r in rows
                   if (r["tier"], r["keep_alive"]) == ("direct", "1"))  # fmt: skip
    rates, each_us = (np.array(column) for column in zip(*paced, strict=True))
    cores = rates * each_us * 1e-6 - idle
    slope, most_cores = np.polyfit(rates, cores, 1)
    few_us = cores[0] / rates[0] * 1e6
    return float(slope * 1e6), float(few_us - slope * 1e6), float(most_cores)


def _wakeups_us(data: Path, steady: Sequence[Mapping[str, str]], *, without: float) -> float:
    """Of a paced request the machine's whole CPU, over that of no load, less client and server at full speed.

    Its parts sleep between two requests: what wakes them, interrupts and cold caches come on top.
    """
    cores = _cores(data)
    idle = float(np.mean([float(row["machine_share"]) for row in steady if row["tier"] == "none"]))
    paced = [row for row in steady if (row["tier"], row["client"]) == ("direct", "paced")]
    each_us = [(float(r["machine_share"]) - idle) * cores / float(r["rate_per_s"]) * 1e6 for r in paced]
    return max(0.0, float(np.mean(each_us)) - without)


def _time_wait(data: Path) -> str:
    """Whether a pod lets a SYN in that meets a closed connection: either way it remembers that one no longer."""
    first, *_, last = ({k: float(v) for k, v in row.items()} for row in read_rows(data / "time-waits.csv"))
    n_met = int(last["closed_first"] - (last["remembered"] - first["remembered"]))
    n_refused = int(last["not_let_in"])
    return _value("p_time_wait_refuses", f"{(n_refused + 1) / (n_met + 2):.3f}",
                  f"{n_refused} of {n_met} SYNs of ab without keep-alive, within a minute; (k+1)/(n+2)")  # fmt: skip


def _forgets(data: Path) -> str:
    """Of each deletion the middle of what it may have been, where the bounds lie close together."""
    rows = [{k: float(v) for k, v in row.items()} for row in read_rows(data / "forgets.csv")]
    told = [row for row in rows if row["forgotten"] and row["at_most_us"] - row["at_least_us"] <= CLOSE_US]
    least_us, most_us = (
        float(np.median([row[bound] for row in told])) for bound in ("at_least_us", "at_most_us")
    )
    return _entry("forgets", [(row["at_least_us"] + row["at_most_us"]) / 2e6 for row in told],
                  f"deletions of a veth under connects every 60 us; the middle between at least {least_us:.0f} us and "
                  f"at most {most_us:.0f} us (medians)")  # fmt: skip


def _rest(data: Path, *, slowdown_by_ab: float) -> list[str]:
    proxy = syncs(read_log(data / "rules-idle.csv"))
    replaced = [syncs_of_changes(read_log(path)) for path in sorted(data.glob("cycles-replace-*.csv"))]
    alone = [syncs_of_changes(read_log(path)) for path in sorted(data.glob("cycles-idle-*.csv"))]
    tail_s, gap_s = float(np.median(proxy.commit_to_ended)), float(np.median(proxy.ended_to_next))
    return [
        _entry("proxy_sync", [s for c in replaced for s in c.in_burst],
               "while a pod is replaced; slice written to the nat table committed, of syncs that were not held back"),
        _entry("proxy_sync_at_rest", [s for c in [*alone, *replaced] for s in c.at_rest],
               "half a second after a deletion and later, when a new pod's address is published; as proxy_sync"),
        _value("proxy_min_interval_s", f"{tail_s + gap_s:.3f}",
               f"n={len(proxy.ended_to_next)}; counted from the commit, as proxy_sync ends there. The restore ends "
               f"{tail_s * 1e3:.0f} ms after it, the next sync starts {gap_s:.3f} s after that"),
        *_server_end(data / "pod-stop-paced.csv", "", "pods deleted without preStop"),
        *_server_end(data / "pod-stop-paced-hook.csv", "_at_rest", "preStop of 2.5 s"),
        _word_wakes(data),
        _saturated(data, slowdown_by_ab),
        _value("round_trip", "{lognormal: {median: 100us, p95: 250us}}",
               "n=14076 connects to a pod from a Python loop 160 us (5 to 95 % 112 to 290), some 60 us of it Python's"),
    ]  # fmt: skip


def _machine(data: Path) -> dict[str, str]:
    return dict(json.loads((data / MACHINE).read_text(encoding="utf-8")))


def _cores(data: Path) -> int:
    return int(_machine(data)["cores"])


def _head(data: Path, name: str) -> str:
    """The profile's first lines: when and where it was measured (machine.json beside the data)."""
    machine = _machine(data)
    versions = ", ".join(f"{part} {value}" for part, value in machine.items() if part != "date")
    return HEAD.format(date=machine["date"], versions=versions, name=name)


def write_profile(data: Path, path: Path) -> None:
    """Write the profile of *data* to *path*, whose name without its end is the profile's.

    Raises
    ------
    OSError
        A file of *data* is missing, or *path* cannot be written to.
    """
    write_aside(path, profile(data, path.stem).encode())


def main() -> None:
    write_profile(Path(sys.argv[1]), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
