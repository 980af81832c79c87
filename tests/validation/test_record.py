"""The recorder when its sources fail: what it does not know it does not make up."""

import json
import time

import pytest

from validation import record
from validation.access import ReplayError
from validation.record import Recorder


class Watches:
    """A cluster whose watches are shell commands."""

    lab = None

    def __init__(self, **scripts):
        self.scripts = scripts

    def kubectl_command(self, *args):
        what = next(name for name, path in record.WATCHES.items() if path.split("}")[1] in args[2])
        return ["sh", "-c", self.scripts.get(what, "exec sleep 60")]


def event(kind="ADDED", **thing):
    return json.dumps({"type": kind, "object": thing})


def test_a_watch_that_ends_ends_the_run():
    """The API server has gone away: to wait for what it would have said is in vain, and the run not whole."""
    with Recorder(Watches(pod="exit 0"), "ours", limit_s=60) as recorder:
        begun_s = time.monotonic()
        with pytest.raises(ReplayError, match="ended its watch of pods"):
            recorder.wait_until(lambda: False, within_s=30)
        assert time.monotonic() - begun_s < 10


def test_a_line_cut_in_the_middle_is_no_event():
    """A server that is killed ends in mid-word; the whole lines before it stand."""
    script = f"echo '{event(n=1)}'; printf '{{\"type\": \"MODI'; exec sleep 60"
    with Recorder(Watches(pod=script), "ours", limit_s=60) as recorder:
        assert recorder.wait_until(lambda: bool(recorder.objects("pod")), within_s=30)
    assert [thing for _, _, thing in recorder.objects("pod")] == [{"n": 1}]


def test_a_watch_that_says_an_error_ends_the_run():
    """`410 Gone` and its like come as an event."""
    said = event("ERROR", code=410, message="too old resource version")
    with (
        Recorder(Watches(deployment=f"echo '{said}'; exec sleep 60"), "ours", limit_s=60) as recorder,
        pytest.raises(ReplayError, match="watch of deployments: too old"),
    ):
        recorder.wait_until(lambda: bool(recorder.objects("deployment")), within_s=30)


def test_the_longest_silence_is_that_of_the_lease(monkeypatch):
    """Between two renewals, or since the last one."""
    recorder = Recorder(Watches(), "ours", limit_s=60)
    monkeypatch.setattr(record.time, "time", lambda: 30.0)
    assert recorder.longest_silence_s() == 0
    for beats, silence_s in (((10.0, 12.0, 23.0, 25.0, 27.0, 29.0), 11.0), ((10.0, 12.0), 18.0)):
        lines = [(at_t, "") for at_t in beats]
        monkeypatch.setattr(recorder, "lines", lambda name, lines=lines: lines if name == "lease" else [])
        assert recorder.longest_silence_s() == silence_s
