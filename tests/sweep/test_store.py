"""Rows on disk: bounded memory, whole parts, one writer."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_sweep import write_scenario

from sim.errors import InputError
from sim.sweep.files import ScenarioFiles
from sim.sweep.parameters import parse_parameter
from sim.sweep.plan import Plan
from sim.sweep.run import run
from sim.sweep.store import store
from sim.sweep.summary import summary
from sim.sweep.unit import Row, outcomes_of

GROWTH = """
import resource, sys
from pathlib import Path
sys.path[:0] = {paths!r}
from test_store import Counting, plan_of
from sim.sweep.run import run
n = int(sys.argv[1])
plan = plan_of(Path({folder!r}, "small.yaml"), f"load.connections=1..{{n // 100}}", "load.retries=0..99", runs=1)
run(plan, Path({folder!r}, f"{{n}}.parquet"), Counting())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


class Counting:
    """An engine that answers at once: what a point costs beside its simulation."""

    def map(self, task, work):
        for unit in work:
            yield unit, outcomes(unit.first, max(1, unit.n), unit.index)


def outcomes(first, n, failed):
    rows = [
        Row(first + i, 100, failed + i, 0, np.nan, False, 1.5, False, 1, [failed + i] + [0] * 19)
        for i in range(n)
    ]
    return outcomes_of(rows)


def plan_of(path, *parameters, runs):
    found = tuple(parse_parameter(text) for text in parameters)
    return Plan(files=ScenarioFiles.read(path), sets={}, parameters=found, runs=runs)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_points(tmp_path):
    """Four times as many points take less than 40 MiB more: rows stream to disk."""
    write_scenario(tmp_path)
    here = Path(__file__).parent
    code = GROWTH.format(paths=[str(here), str(here.parent)], folder=str(tmp_path))
    peak = {}
    for n in (50_000, 200_000):
        done = subprocess.run(
            [sys.executable, "-c", code, str(n)], capture_output=True, text=True, check=True
        )
        peak[n] = int(done.stdout)
    assert pq.read_metadata(tmp_path / "200000.parquet").num_rows == 200_000
    assert peak[200_000] - peak[50_000] < 40


def test_rows_keep_their_order_however_units_finish(small, tmp_path):
    """Units that finish in any order, with an impossible point among them, give the file of those in order."""

    class Shuffled(Counting):
        def map(self, task, work):
            done = list(super().map(task, work))
            bad = [(unit, outcomes_of([], error="no")) for unit, _ in done if unit.index // 2 == 3]
            good = [(unit, found) for unit, found in done if unit.index // 2 != 3]
            both = good + bad
            np.random.default_rng(self.seed).shuffle(both)
            yield from both

    plan = plan_of(small, "load.connections=1..8", runs=70)
    files = []
    for seed in (1, 2):
        engine = Shuffled()
        engine.seed = seed
        files.append(tmp_path / f"{seed}.parquet")
        run(plan, files[-1], engine)
    assert files[0].read_bytes() == files[1].read_bytes()
    points = summary(files[0])
    assert list(points["runs"]) == [70, 70, 70, 0, 70, 70, 70, 70]
    assert points["error"].iloc[3] == "no"
    rows = pq.read_table(files[0]).to_pandas()
    assert list(rows[rows["point"] == 1]["replication"]) == list(range(70))


def test_two_cannot_write_one_sweep(small, tmp_path):
    """The second one is told so; the first goes on."""
    plan = plan_of(small, "load.connections=1..8", runs=1)
    out = tmp_path / "out.parquet"
    with store(plan, out), pytest.raises(InputError, match="another process"), store(plan, out):
        pass


def test_a_full_disk_is_one_line_and_leaves_whole_parts(small, tmp_path, monkeypatch):
    """ENOSPC in a write: earlier parts stay, nothing unfinished is left, and the sweep goes on later."""
    plan = plan_of(small, "load.connections=1..8", runs=1)
    out = tmp_path / "out.parquet"
    write_table = pq.write_table

    def full(table, where, *rest, **options):
        Path(where).write_bytes(b"PAR1 and then the disk is full")
        raise OSError(errno.ENOSPC, "No space left on device")

    with store(plan, out) as kept:
        kept.write({0: outcomes(0, 1, 5), 1: outcomes(0, 1, 6)})
        monkeypatch.setattr(pq, "write_table", full)
        with pytest.raises(InputError, match="No space left"):
            kept.write({2: outcomes(0, 1, 7)})
        assert [path.name for path in kept.parts.iterdir() if path.name != "lock"] == ["units-0-1.parquet"]
    monkeypatch.setattr(pq, "write_table", write_table)
    run(plan, out, Counting())
    assert pq.read_table(out)["failed"].to_pylist() == [5, 6, 2, 3, 4, 5, 6, 7]
