"""Files and table of real runs: whole after a crash, the same after a round trip."""

import csv
import dataclasses
import errno
import os

import pytest

from sim.outcomes import Cause
from validation import forecast, observations
from validation.forecast import Forecast
from validation.observations import Observation


def observed(run=1, **changed):
    row = {"at_s": 5.2, "connection": 3, "reused": True, "n_on_it": 7, "seen_as": "eof_reused", "bytes": 0}
    row |= {"elapsed_s": 0.1, "idle_s": 0.02, "peer_at_send": "closed", "pod_ip": "10.244.0.8", "tries": 1}
    given = {
        "scenario": "a", "run": run, "date": "2026-01-01T00:00:00+00:00", "scenario_hash": "abc", "client": "plain",
        "requests": 100, "failed": 1, "tool_failed": None, "counted_by": "client", "aborted": False,
        "rollout_s": 3.5, "update_at_s": 4.1, "old_pods_gone_s": 5.0, "load_s": 30.0, "seen": {"eof_reused": 1},
        "causes": {"idle_closed": 1}, "failures": ({**row, "cause": "idle_closed"},),
        "timeline": ({"at_s": 1.0, "what": "link", "event": "gone", "ip": "10.244.0.8"},),
    }  # fmt: skip
    return Observation(**{**given, **changed})


def test_a_run_comes_back_as_it_was(tmp_path):
    """Write, read: the same."""
    kept = observed()
    assert observations.read(observations.write(kept, tmp_path)) == kept


def test_runs_are_numbered_on(tmp_path):
    """The next number follows the highest that is there."""
    assert observations.next_run("a", tmp_path) == 1
    observations.write(observed(run=7), tmp_path)
    assert observations.next_run("a", tmp_path) == 8


def test_a_full_disk_leaves_earlier_runs_whole(tmp_path, monkeypatch):
    """The write fails before the rename: the old file stands, nothing lies about."""
    path = observations.write(observed(), tmp_path)
    before = path.read_bytes()

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left") as said:
        observations.write(observed(requests=1), tmp_path)
    assert said.value.filename == str(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_table_is_made_from_the_files(tmp_path):
    """One row a run, a column for each class and cause; empty, not zero, where only the tool knows."""
    observations.write(observed(), tmp_path)
    tool = observed(run=2, counted_by="tool", tool_failed=4, failed=4, seen={}, causes={}, client="ab")
    observations.write(tool, tmp_path)
    with observations.rebuild_table(tmp_path).open(encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert (first["scenario"], first["run"], first["requests"], first["failed"]) == ("a", "1", "100", "1")
    assert (first["eof_reused"], first["refused"], first["idle_closed"], first["rollout_s"]) == (
        "1",
        "0",
        "1",
        "3.5",
    )
    assert (second["tool_failed"], second["eof_reused"], second["idle_closed"]) == ("4", "", "")
    assert {cause.value for cause in Cause} <= first.keys()


def test_a_file_of_a_later_version_is_still_read(tmp_path, monkeypatch):
    """Fields that this version does not know are left aside."""
    path = observations.write(observed(), tmp_path)
    known = [field for field in dataclasses.fields(Observation) if field.name != "notes"]
    monkeypatch.setattr(observations, "fields", lambda _: known)
    assert observations.read(path).run == 1


def test_the_first_prediction_counts(tmp_path):
    """A prediction made before the first replay is never written over."""

    def made(count):
        return Forecast(
            scenario="a", scenario_hash="abc", date="", runs=2, seed=1, failed=(count, count), tool_failed=None,
            rollout_s=(3.0, 4.0), causes={"idle_closed": 1.0},
        )  # fmt: skip

    forecast.keep(made(5), tmp_path)
    forecast.keep(made(9), tmp_path)
    assert forecast.kept("a", tmp_path) == made(5)
    assert forecast.kept("a", tmp_path).summary()["interval95"] == [5, 5]


def test_each_profile_has_its_own_prediction_file(tmp_path):
    """The whole name of the profile counts, dots included."""
    names = {
        forecast.path_of("a", tmp_path, timing).name for timing in ("defaults", "kind-1.34", "kind-1.35")
    }
    assert names == {"prediction.json", "prediction-kind-1.34.json", "prediction-kind-1.35.json"}


def test_what_a_killed_process_left_half_written_is_no_run(tmp_path):
    """It is not read, and the next campaign removes it; what a living process is writing stays."""
    whole = observations.write(observed(), tmp_path)
    dead = whole.with_name(f".0002.json.gz.{2**22 + 1}.unfinished")  # no process has a number above 2²²
    alive = whole.with_name(f".0003.json.gz.{os.getpid()}.unfinished")
    for path in (dead, alive):
        path.write_bytes(whole.read_bytes()[:-7])
    assert [run.run for run in observations.read_all(tmp_path)] == [1]
    assert observations.next_run("a", tmp_path) == 2
    observations.make_ready(tmp_path)
    assert sorted(whole.parent.iterdir()) == sorted([whole, alive])


def test_a_run_is_not_made_where_it_cannot_be_kept(tmp_path, monkeypatch):
    """A disk that is nearly full is said before a minute of load, with the folder's name."""
    monkeypatch.setattr(observations, "ROOM_BYTES", 2**62)
    with pytest.raises(OSError, match=f"MB are free for runs: '{tmp_path}'"):
        observations.make_ready(tmp_path)
