"""The model, with latencies from sources alone, against seven cases that a real cluster answered before."""

import pytest

from validation.reference_runs import Case, cases, compare

RUNS = 200
KNOWN_MISSES = {
    "close-noprestop-term": "one run of 36 lies below, and too wide: slow starts in the profile lengthen rollouts",
    "proxy-noprestop-term": "too wide by a few: how many of the hung connects come round again, old ports and all",
    "tutorial-ab-direct": "too wide by 2: seven replays of the same stage on the lab gave 7 to 18",
}
"""Named in README with their likely reasons; a case that is met again must leave this list."""


def test_every_case_has_its_scenario():
    """Seven cases, each with real counts."""
    assert len(cases()) == 7
    assert all(len(case.observed) >= 3 for case in cases())


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.scenario.name)
def test_interval_holds_the_real_counts(case: Case):
    """The 95 % interval holds every real count and is not wider than allowed, but for the named misses."""
    found = compare(case, runs=RUNS, timing="defaults")
    if case.scenario.name in KNOWN_MISSES:
        # a miss stays near: the median within a factor of two of the mean of the real counts
        mean = sum(case.observed) / len(case.observed)
        assert mean / 2 <= found.median <= mean * 2
    else:
        assert found.holds
        assert found.narrow
