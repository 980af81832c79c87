"""Observations: one file for each real run, written aside and renamed, and one table made from the files."""

import csv
import errno
import gzip
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from sim.files import set_aside
from sim.outcomes import Cause, Seen
from sim.scenario.model import Scenario
from validation.attribute import UNATTRIBUTED, causes_of
from validation.replay import Replayed, cores
from validation.run_file import read_run

FOLDER = Path(__file__).with_name("observations")
TABLE = "runs.csv"
PREDICTION = "prediction.json"
MAX_FAILURES_KEPT = 3000
"""Rows of single failures in one file; the counts by class are always whole."""
ROOM_BYTES: Final = 20_000_000
"""What is free before a run that would be lost on a full disk; a run's file takes some 100 kB."""
UNFINISHED: Final = re.compile(r"\..*\.(\d+)\.unfinished")
"""Name that `set_aside` gives to what a process of that number is writing."""
SIDED = (Seen.RESET, Seen.EOF, Seen.TRUNCATED)
SEEN_COLUMNS = tuple(
    name
    for seen in Seen
    for name in ([f"{seen.value}_first", f"{seen.value}_reused"] if seen in SIDED else [seen.value])
)
CAUSE_COLUMNS = (*(cause.value for cause in Cause), UNATTRIBUTED)
FAILURE_COLUMNS = (
    "at_s", "connection", "reused", "n_on_it", "seen_as", "bytes", "elapsed_s", "idle_s", "peer_at_send",
    "pod_ip", "tries", "cause",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One real run. Instants are seconds from the start of the load."""

    scenario: str
    run: int
    date: str
    scenario_hash: str
    client: str
    requests: int
    failed: int
    """Failed requests; where `counted_by` is the tool, what the tool printed as failed."""
    tool_failed: int | None
    counted_by: str
    """client: each failed request is known; tool: only the tool's own figures are."""
    aborted: bool
    rollout_s: float | None
    """From the update in the API server to the Deployments' status complete. [s]"""
    update_at_s: float
    old_pods_gone_s: float | None
    """From the update to the end of the last old pod's object. [s]"""
    load_s: float
    seen: Mapping[str, int] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)
    spoiled: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    cores: int = 1
    cpu_busy: float | None = None
    cpu_others: float | None = None
    """Share of all cores that neither cluster nor client used."""
    counters: Mapping[str, int] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    prediction: Mapping[str, Any] | None = None
    """The prediction made before, as far as there was one: see `forecast`."""
    failures: tuple[Mapping[str, Any], ...] = ()
    timeline: tuple[Mapping[str, Any], ...] = ()

    @property
    def counted(self) -> int:
        """The count that a prediction is held against."""
        return self.failed if self.tool_failed is None else self.tool_failed


HASHED_LOAD = (
    "client", "service", "port", "path", "method", "connections", "keep_alive", "arrivals", "duration_s",
    "requests", "connect_timeout_s", "answer_timeout_s", "retries", "sources",
)  # fmt: skip
"""Named one by one: a field that the model gains does not make old runs strangers."""


def scenario_hash(scenario: Scenario) -> str:
    """What was replayed, as twelve hex digits: the documents, the updates, the load."""
    said = {
        "objects": [dict(item) for item in scenario.objects],
        "actions": [
            [a.at_s, a.deployment, a.container, a.image, a.restart, [dict(item) for item in a.objects]]
            for a in scenario.actions
        ],
        "load": [str(getattr(scenario.load, name)) for name in HASHED_LOAD],
        "options": sorted(map(str, scenario.load.options.items())),
    }
    return hashlib.sha256(json.dumps(said, sort_keys=True, default=str).encode()).hexdigest()[:12]


def observe(
    scenario: Scenario, replayed: Replayed, *, run: int, prediction: Mapping[str, Any] | None
) -> Observation:
    """One run as an observation: times from the start of the load, each failure with its cause."""
    load, start_t = replayed.load, replayed.load.started_t

    def since_start(at_t: float) -> float:
        return round(at_t - start_t, 4)

    def since_update(at_t: float | None) -> float | None:
        return None if at_t is None else round(at_t - replayed.updated_t, 4)

    timeline = tuple(
        {"at_s": since_start(r["t"]), **{k: v for k, v in r.items() if k != "t"}} for r in replayed.timeline
    )
    causes, failures = causes_of(load.failures, timeline, scenario)
    return Observation(
        scenario=scenario.name,
        run=run,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        scenario_hash=scenario_hash(scenario),
        client=scenario.load.client,
        requests=load.requests,
        failed=load.failed,
        tool_failed=load.tool_failed,
        counted_by="tool" if load.tool_failed is not None or load.aborted else "client",
        aborted=load.aborted,
        rollout_s=since_update(replayed.complete_t),
        update_at_s=since_start(replayed.updated_t),
        old_pods_gone_s=since_update(replayed.old_pods_gone_t),
        load_s=since_start(replayed.ended_t),
        seen=dict(load.seen),
        causes=causes,
        spoiled=replayed.spoiled,
        notes=replayed.notes,
        versions=dict(replayed.versions),
        cores=cores(),
        cpu_busy=replayed.cpu_busy,
        cpu_others=replayed.cpu_others,
        counters=dict(replayed.counters),
        report=dict(load.details),
        prediction=prediction,
        failures=tuple(failures[:MAX_FAILURES_KEPT]),
        timeline=timeline,
    )


# ---------------------------------------------------------------- files


def attribute_again(observation: Observation, scenario: Scenario) -> Observation:
    """The same run with its failures put to causes anew: for kept runs when the rules get better."""
    if len(observation.failures) < observation.failed:
        return observation  # not every row is kept: the counts of then stand
    causes, failures = causes_of(observation.failures, observation.timeline, scenario)
    return replace(observation, causes=causes, failures=tuple(failures))


def next_run(scenario: str, folder: Path = FOLDER) -> int:
    """The number of the next run of *scenario*; numbers start at 1."""
    return max((int(path.name.split(".")[0]) for path in _files(scenario, folder)), default=0) + 1


def _files(scenario: str, folder: Path) -> list[Path]:
    return sorted((folder / scenario).glob("[0-9]*.json.gz"))


def write(observation: Observation, folder: Path = FOLDER) -> Path:
    """Write one run's file: aside, then renamed, so that a crash leaves earlier runs whole."""
    path = folder / observation.scenario / f"{observation.run:04d}.json.gz"
    data = asdict(observation)
    data["failures"] = {
        "columns": FAILURE_COLUMNS,
        "rows": [[failure.get(name) for name in FAILURE_COLUMNS] for failure in observation.failures],
    }
    write_aside(path, gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))
    return path


def write_aside(path: Path, data: bytes) -> None:
    """Write *data* to a file beside *path*, then rename it.

    Raises
    ------
    OSError
        It cannot be written there; what stood there stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with set_aside(path) as aside:
        aside.write_bytes(data)


def make_ready(folder: Path) -> None:
    """Make sure that *folder* can take runs, and remove what a killed process left half written there.

    Raises
    ------
    OSError
        It cannot be written to, or its disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise OSError(errno.EACCES, "cannot be written to", str(folder))
    if shutil.disk_usage(folder).free < ROOM_BYTES:
        raise OSError(errno.ENOSPC, f"less than {ROOM_BYTES // 1_000_000} MB are free for runs", str(folder))
    for left in folder.rglob(".*.unfinished"):
        writer = UNFINISHED.fullmatch(left.name)
        if writer and not Path(f"/proc/{writer[1]}").exists():
            left.unlink(missing_ok=True)


def read(path: Path) -> Observation:
    """The run that *path* holds.

    Raises
    ------
    InputError
        It cannot be read, or is not what `write` writes.
    """
    return Observation(**read_run(path, fields(Observation)))


def read_all(folder: Path = FOLDER) -> Iterator[Observation]:
    """Every kept run, by scenario and number."""
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        if place.is_dir():
            yield from read_runs(place.name, folder)


def read_runs(scenario: str, folder: Path = FOLDER) -> Iterator[Observation]:
    """The kept runs of *scenario*, by number."""
    for path in _files(scenario, folder):
        yield read(path)


# ---------------------------------------------------------------- table


PLAIN_COLUMNS = (
    "scenario", "run", "requests", "failed", "tool_failed", "counted_by", "aborted", "rollout_s",
    "update_at_s", "old_pods_gone_s", "load_s", "cpu_busy", "cpu_others", "scenario_hash", "client", "cores", "date",
)  # fmt: skip
VERSION_COLUMNS = ("kernel", "kubernetes", "kube_proxy_mode", "containerd", "nginx", "haproxy")
PREDICTED_COLUMNS = ("predicted_median", "predicted_low", "predicted_high", "predicted_p_zero")
TABLE_COLUMNS = (
    *PLAIN_COLUMNS, *SEEN_COLUMNS, *CAUSE_COLUMNS, "spoiled", *VERSION_COLUMNS, "client_version",
    *PREDICTED_COLUMNS,
)  # fmt: skip


def table_row(observation: Observation) -> dict[str, Any]:
    """One run as a row of the table. Classes and causes are empty where only the tool's figures are known."""
    known = observation.counted_by == "client"
    forecast = observation.prediction or {}
    low, high = forecast.get("interval95") or (None, None)
    report = observation.report
    row: dict[str, Any] = {name: getattr(observation, name) for name in PLAIN_COLUMNS}
    row |= {name: observation.seen.get(name, 0) if known else None for name in SEEN_COLUMNS}
    row |= {name: observation.causes.get(name, 0) if known else None for name in CAUSE_COLUMNS}
    row |= {name: observation.versions.get(name) for name in VERSION_COLUMNS}
    row |= {
        "spoiled": "; ".join(observation.spoiled),
        "client_version": report.get("version") or report.get("python"),
    }
    predicted = (forecast.get("median"), low, high, forecast.get("p_zero"))
    return row | dict(zip(PREDICTED_COLUMNS, predicted, strict=True))


def rebuild_table(folder: Path = FOLDER) -> Path:
    """Make the table of runs anew from the files."""
    return write_table(read_all(folder), folder)


def write_table(observations: Iterable[Observation], folder: Path = FOLDER) -> Path:
    """Write the table of *observations*."""
    path = folder / TABLE
    path.parent.mkdir(parents=True, exist_ok=True)
    with set_aside(path) as aside, aside.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, TABLE_COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table_row(observation) for observation in observations)
    return path


if __name__ == "__main__":
    rebuild_table()
