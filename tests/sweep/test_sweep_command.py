"""`rollsim sweep` as a user calls it: processes of their own, real files, real signals."""

import json
import os
import signal
import time

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_sweep import GRID, LONG, parts_of, processes_of_group, rollsim, started

from sim.scenario import load_one
from sim.simulate import simulate
from sim.sweep.api import sweep
from sim.sweep.pictures import plot_sweep
from sim.sweep.summary import summary

KEPT_COLUMNS = ["point", "load.connections", "deployment/web.spec.replicas", "replication", "failed", "error"]


def swept(small, out, *more, code=0):
    return rollsim("sweep", small, *GRID, "--runs", 6, "-o", out, *more, code=code)


def test_rows_are_the_replications_of_simulate(small, tmp_path):
    """One row a replication, in order; each is what `simulate` gives for the same seed and overrides."""
    out = tmp_path / "out.parquet"
    done = swept(small, out, "--seed", 3)
    assert "9 points, 54 simulated rollouts" in done.stdout
    rows = pd.read_parquet(out)
    assert list(rows["point"]) == [point for point in range(9) for _ in range(6)]
    assert list(rows["replication"]) == list(range(6)) * 9
    assert list(rows["load.connections"].unique()) == [2, 4, 8]
    some = rows[(rows["load.connections"] == 8) & (rows["deployment/web.spec.replicas"] == 2)]
    scenario = load_one(small, ["load.connections=8", "deployment/web.spec.replicas=2"])
    results = [simulate(scenario, seed=3, replication=i) for i in range(6)]
    assert list(some["failed"]) == [result.n_failed for result in results]
    assert list(some["rollout_s"]) == [result.rollout_s for result in results]
    assert list(some["stale_endpoint_refused"]) == [
        r.causes.get("stale_endpoint_refused", 0) for r in results
    ]


def test_any_number_of_workers_gives_the_same_file(small, tmp_path):
    """Byte for byte: one process, three processes, and a file that was made in two goes."""
    one, three = tmp_path / "one.parquet", tmp_path / "three.parquet"
    swept(small, one, "--processes", 1)
    swept(small, three, "--processes", 3)
    assert one.read_bytes() == three.read_bytes()


def test_points_share_their_random_numbers(small, tmp_path):
    """A setting that changes nothing leaves every replication as it is: the streams are those of the seed."""
    out = tmp_path / "out.parquet"
    rollsim(
        "sweep", small, "-p", "deployment/web.spec.progressDeadlineSeconds=500,600", "--runs", 5, "-o", out
    )
    rows = pd.read_parquet(out)
    first, second = rows[rows["point"] == 0], rows[rows["point"] == 1]
    assert list(first["failed"]) == list(second["failed"])
    assert len(set(first["rollout_s"])) > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_goes_on(whole, tmp_path, request, number):
    """Killed half-way: no file, whole parts only, no worker left; the same command does the rest alone."""
    small, grid, out = whole.with_name("small.yaml"), (*LONG, "--processes", 2), tmp_path / "out.parquet"
    process = started("sweep", small, *grid, "-o", out)
    request.addfinalizer(process.kill)
    deadline = time.monotonic() + 200
    while not parts_of(out):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline, "no part was written"
        time.sleep(0.05)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal sends it: to parent and workers
    else:
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    while processes_of_group(process.pid):
        assert time.monotonic() < deadline, "workers outlive their parent"
        time.sleep(0.05)
    assert not out.exists()
    if number != signal.SIGKILL:
        assert said.strip().splitlines() == [
            f"stopped; what is done is kept in {out}.parts: the same command goes on"
        ]
    done = sum(pq.read_table(part).num_rows for part in parts_of(out))
    assert 0 < done < 24 * 20
    half = parts_of(out)[0].with_name(".units-90-95.parquet.1.unfinished")
    half.write_bytes(parts_of(out)[0].read_bytes()[:-7])

    rollsim("sweep", small, *grid, "-o", out)
    assert not parts_of(out)
    assert not (tmp_path / "out.parquet.parts").exists()
    assert out.read_bytes() == whole.read_bytes()


def test_a_finished_sweep_is_not_done_again(small, tmp_path):
    """The same command leaves the file as it is; another sweep is refused, unless told to replace it."""
    out = tmp_path / "out.parquet"
    swept(small, out)
    before = out.stat().st_mtime_ns
    assert "9 points, 54 simulated rollouts" in swept(small, out).stdout
    assert out.stat().st_mtime_ns == before
    refused = swept(small, out, "--seed", 9, code=2)
    assert "holds another sweep" in refused.stderr
    assert out.stat().st_mtime_ns == before
    swept(small, out, "--seed", 9, "--overwrite")
    assert json.loads(pq.read_schema(out).metadata[b"rollsim"])["seed"] == 9


def test_a_changed_manifest_is_another_sweep(small, tmp_path):
    """Parts and files are known by what was read: an edit of a manifest makes them another sweep's."""
    out = tmp_path / "out.parquet"
    swept(small, out)
    app = tmp_path / "app.yaml"
    app.write_text(app.read_text().replace("periodSeconds: 1", "periodSeconds: 2"))
    assert "holds another sweep" in swept(small, out, code=2).stderr


def test_until_goes_on_until_the_interval_is_narrow(small, tmp_path):
    """Each point runs until the 95 % interval of its mean is as narrow as asked, and not much longer."""
    out = tmp_path / "out.parquet"
    rollsim("sweep", small, "-p", "load.connections=1,24", "--until", "interval:8", "-o", out)
    points = summary(out)
    assert (points["mean_high"] - points["mean_low"] <= 8 + 1e-9).all()
    assert points["runs"].iloc[0] < points["runs"].iloc[1]
    rows = pd.read_parquet(out)
    for _, point in rows.groupby("point"):
        shorter = point["failed"].to_numpy()[:-20]
        if len(shorter) >= 20:
            assert 2 * 1.96 * np.std(shorter, ddof=1) / np.sqrt(len(shorter)) > 8


def test_a_sample_begins_like_a_shorter_one(small, tmp_path):
    """sobol:N and random:N: the same seed, the same points; values inside their ranges, rows of every point."""
    for kind in ("sobol", "random"):
        points = [
            sweep(
                small,
                {"load.connections": "1..8", "load.thinkTime": "20.0ms..90ms"},
                sample=f"{kind}:{n}",
                runs=1,
                processes=1,
            )
            for n in (3, 5)
        ]
        assert list(points[0]["load.connections"]) == list(points[1]["load.connections"])[:3]
        assert list(points[0]["load.thinkTime"]) == list(points[1]["load.thinkTime"])[:3]
        assert points[1]["load.thinkTime"].nunique() == 5
        assert points[1]["load.connections"].between(1, 8).all()


def test_an_impossible_point_is_a_row_that_says_why(small, tmp_path):
    """maxSurge 0 with maxUnavailable 0 is refused by Kubernetes: that point has an error, the others counts."""
    out = tmp_path / "out.parquet"
    strategy = "deployment/web.spec.strategy.rollingUpdate"
    done = rollsim(
        "sweep", small, "-p", f"{strategy}.maxSurge=0,1", "-p", f"{strategy}.maxUnavailable=0,1",
        "--runs", 2, "-o", out,
    )  # fmt: skip
    assert "1 of these points are impossible" in done.stderr
    rows = pd.read_parquet(out)
    assert len(rows) == 3 * 2 + 1
    bad = rows[rows["error"].notna()]
    assert list(bad["point"]) == [0]
    assert "maxSurge" in bad["error"].iloc[0]
    assert str(tmp_path / "app.yaml") in bad["error"].iloc[0]
    assert bad["failed"].isna().all()


def test_a_sweep_file_says_what_a_line_says(small, tmp_path):
    """kind: Sweep, with fields that move together; the command line overrides it."""
    (tmp_path / "sweep.yaml").write_text("""\
apiVersion: rollsim/v1
kind: Sweep
metadata: {name: both}
spec:
  scenario: small.yaml
  set: {load.duration: 8s}
  parameters:
    load.connections: [2, 4]
    stop:
      at once: {}
      late:
        deployment/web.spec.template.spec.containers[web].lifecycle: {preStop: {sleep: {seconds: 3}}}
        deployment/web.spec.template.spec.terminationGracePeriodSeconds: 20
  runs: 3
""")
    out = tmp_path / "out.parquet"
    rollsim("sweep", tmp_path / "sweep.yaml", "-o", out)
    rows = pd.read_parquet(out)
    assert list(rows["stop"].unique()) == ["at once", "late"]
    late = rows[(rows["stop"] == "late") & (rows["load.connections"] == 4)]
    scenario = load_one(
        small,
        [
            "load.duration=8s",
            "load.connections=4",
            "deployment/web.spec.template.spec.containers[web].lifecycle.preStop={sleep: {seconds: 3}}",
            "deployment/web.spec.template.spec.terminationGracePeriodSeconds=20",
        ],
    )
    assert list(late["failed"]) == [simulate(scenario, replication=i).n_failed for i in range(3)]
    rollsim(
        "sweep",
        small,
        "-f",
        tmp_path / "sweep.yaml",
        "--runs",
        1,
        "-p",
        "load.connections=6",
        "-o",
        tmp_path / "2.parquet",
    )
    assert list(pd.read_parquet(tmp_path / "2.parquet")["load.connections"]) == [6, 6]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ((), "nothing to vary"),
        (("-p", "load.conections=1,2"), "conections"),
        (("-p", "load.connections"), "PATH=VALUE"),
        (("-p", "load.thinkTime=1.5ms..9ms"), "--sample"),
        (("-p", "load.connections=1,2", "-p", "load.connections=3"), "twice"),
        (("-p", "load.connections=0,-1"), "connections"),
        (("-p", "load.connections=1", "--sample", "halton:3"), "halton"),
        (("-p", "load.connections=1", "--until", "interval:0"), "interval:W"),
        (("-p", "load.connections=1", "--runs", "5", "--until", "interval:1"), "not both"),
        (("-p", "load.connections=1", "--scheduler", "tcp://127.0.0.1:9"), "127.0.0.1:9"),
        (("-p", "timing=kind-1.34,nowhere"), "nowhere"),
        (("-p", "load.connections=1", "-o", "no/such/folder.parquet"), "folder"),
    ],
)
def test_bad_input_is_one_line_and_code_2(small, tmp_path, arguments, part):
    """No traceback, nothing written."""
    out = () if "-o" in arguments else ("-o", tmp_path / "out.parquet")
    done = rollsim("sweep", small, *arguments, *out, code=2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert part in done.stderr
    assert not (tmp_path / "out.parquet").exists()


def test_a_file_of_somebody_else_is_left_alone(small, tmp_path):
    """-o names something that is no sweep: refused, untouched."""
    out = tmp_path / "notes.txt"
    out.write_text("mine")
    assert "Parquet" in swept(small, out, code=2).stderr
    assert out.read_text() == "mine"


def test_plot_draws_every_kind(small, tmp_path):
    """Lines, heat map and points; a name that is not there is one line."""
    out = tmp_path / "out.parquet"
    swept(small, out)
    for kind in ("lines", "heat", "points"):
        for y in ("failed", "p_zero", "rollout_s", "idle_closed"):
            assert plot_sweep(out, kind=kind, y=y).axes
        picture = tmp_path / f"{kind}.png"
        rollsim("plot", out, "--kind", kind, "-o", picture)
        assert picture.read_bytes().startswith(b"\x89PNG")
    assert "load.connections" in rollsim("plot", out, "--x", "load.nothing", code=2).stderr
    assert "no.parquet" in rollsim("plot", tmp_path / "no.parquet", code=2).stderr
