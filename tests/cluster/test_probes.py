"""Probe arithmetic, the verdict's counter and the crash loop: no clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.cluster.crash_loop import CrashLoop
from sim.cluster.probes import Verdict, earliest_run_s, first_tick_s, killed_at_s, succeeds_at_s
from sim.scenario.model import Probe, ProbeKind
from sim.world import needs_listener


def probe(**more):
    return Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", **more)


# ---------------------------------------------------------------- verdict


@pytest.mark.parametrize(
    ("results", "changes"),
    [
        # success 2, failure 3, not ready at first: (+ and − are results, index of each change)
        ("++", [1]),
        ("+-++", [3]),
        ("-----", []),
        ("++---", [1, 4]),
        ("++--+---", [1, 7]),
        ("++---+-++", [1, 4, 8]),
    ],
)
def test_only_consecutive_results_count(results, changes):
    """A change restarts the count at one; below the threshold the verdict stays (worker.go:329-342)."""
    verdict = Verdict(probe(success_threshold=2, failure_threshold=3), ready=False)
    assert [i for i, result in enumerate(results) if verdict.take(result == "+")] == changes


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_a_verdict_follows_its_last_long_run(results, success, failure, ready):
    """The verdict is that of the last run that was long enough, else the first one."""
    verdict = Verdict(probe(success_threshold=success, failure_threshold=failure), ready=ready)
    expected, run, last = ready, 0, None
    for result in results:
        run, last = (run + 1 if result == last else 1), result
        if run >= (success if result else failure):
            expected = result
        verdict.take(result)
        assert verdict.ready == expected


# ---------------------------------------------------------------- ticks


@given(worker_s=st.floats(-3600, 100), before_s=st.floats(-10, 5000), period_s=st.integers(1, 60))
def test_a_tick_is_on_the_workers_grid(worker_s, before_s, period_s):
    """Not before the given time, not a whole period after it (or the worker's own start)."""
    tick_s = first_tick_s(probe(period_s=period_s), worker_started_s=worker_s, not_before_s=before_s)
    assert tick_s >= before_s - 1e-5
    assert tick_s < max(before_s, worker_s) + period_s + 1e-5
    assert math.isclose((tick_s - worker_s) / period_s % 1, 0, abs_tol=1e-6) or math.isclose(
        (tick_s - worker_s) / period_s % 1, 1, abs_tol=1e-6
    )


@pytest.mark.parametrize(
    ("delay_s", "started_s", "expected"), [(0, 7.9, 7.9), (5, 7.9, 12), (5, 7.0, 12), (1, 7.9, 8)]
)
def test_the_initial_delay_runs_from_a_whole_second(delay_s, started_s, expected):
    """StartedAt is truncated: the delay ends up to a second early (worker.go:293-296)."""
    assert earliest_run_s(probe(initial_delay_s=delay_s), started_s) == expected


@pytest.mark.parametrize(
    ("answers_s", "killed", "succeeds"),
    [
        # ticks at 0.2 + 10 k, known from 1.5: 10.2, 20.2, 30.2 are the three that may fail
        (5.0, None, 10.2),
        (10.2, None, 10.2),
        (25.0, None, 30.2),
        (30.2, None, 30.2),
        (30.3, 30.2, 40.2),
    ],
)
def test_a_guard_gives_up_at_its_last_failure(answers_s, killed, succeeds):
    """failureThreshold ticks from the first that knows the container; an answer in time is a success."""
    times = {"worker_started_s": 0.2, "seen_s": 1.5, "started_s": 1.0, "answers_from_s": answers_s}
    assert killed_at_s(probe(), **times) == (None if killed is None else pytest.approx(killed))
    assert succeeds_at_s(probe(), **times) == pytest.approx(succeeds)


@pytest.mark.parametrize(
    ("command", "file", "expected"),
    [
        (("cat", "/ok"), "/ok", False),
        (("/bin/true",), None, False),
        (("sh", "-c", "true"), None, False),
        (("curl", "-f", "localhost"), None, True),
        (("sh", "-c", "wget -q localhost"), None, True),
    ],
)
def test_what_an_exec_probe_needs(command, file, expected):
    """A file or nothing needs the container alone; any other command is taken to ask the server."""
    exec_probe = Probe(kind=ProbeKind.EXEC, command=command, file=file)
    assert needs_listener(exec_probe) is expected


# ---------------------------------------------------------------- crash loop


def crash(life_s, n):
    """When each of *n* restarts comes of a container whose lives end after *life_s*, from its first start on."""
    loop, now_s, ended_s, restarts = CrashLoop(), 0.0, None, []
    for _ in range(n):
        known_s, now_s = ended_s, now_s + life_s
        ended_s = now_s
        if loop.holds(known_s, now_s):
            known_s = ended_s
            now_s = ended_s + loop.delay_s
            assert not loop.holds(known_s, now_s)
        loop.started(known_s, now_s)
        restarts.append(now_s)
    return restarts


def test_quick_crashes_are_held_back():
    """Lives of 2 s: two restarts at once, then 10, 20, 40 … 300 s after the end.

    The sync that kills knows the end of the life before only: after a wait of 300 s that is long enough ago.
    """
    times = crash(2.0, 10)
    gaps = [b - a - 2.0 for a, b in zip([0.0, *times], times, strict=False)]
    assert gaps == [0, 0, 10, 20, 40, 80, 160, 300, 0, 300]


def test_slow_crashes_are_not():
    """The delay counts from the end of the life before: one that lasted longer restarts at once."""
    assert crash(301.0, 8) == [301.0 * (i + 1) for i in range(8)]


def test_the_delay_is_forgotten_after_ten_minutes():
    """A life of more than 600 s begins a new loop."""
    loop = CrashLoop()
    loop.started(0.0, 1.0)
    loop.started(2.0, 3.0)
    assert loop.delay_s == 20.0
    loop.started(604.0, 605.0)
    assert loop.delay_s == 10.0
    assert not loop.holds(2000.0, 2001.0)
