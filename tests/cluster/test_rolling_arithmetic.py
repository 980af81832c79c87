"""The rollout's arithmetic against what Kubernetes itself computes.

`rolling_steps.csv` holds 2000 random states of a Deployment and what the functions of kubernetes v1.34.4
(deployment/rolling.go, sync.go and util/deployment_util.go, called from a Go test) scaled in each.
"""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
from builders import deployment
from hypothesis import given
from hypothesis import strategies as st

from sim.cluster.api import ReplicaSetView
from sim.cluster.deployment import (
    min_available,
    new_replica_set_replicas,
    scale_down,
    scale_to_size,
)
from sim.scenario.deployment import resolve_rolling_update
from sim.scenario.model import Recreate, RollingUpdate

ROWS = list(csv.DictReader(Path(__file__).with_name("rolling_steps.csv").read_text().splitlines()))


def replica_set(name, replicas, available=0, *, serial=1, desired=1, max_replicas=1, current=0, **more):
    return ReplicaSetView(
        name=name,
        deployment="app",
        revision=name,
        serial=serial,
        replicas=replicas,
        available=available,
        desired=desired,
        max_replicas=max_replicas,
        current=current,
        **more,
    )


def number(text):
    return text if text.endswith("%") else int(text)


def decided(d, new, old):
    """One pass of the model's controller as the table writes it: what it creates and scales."""
    sets = [s for s in (*old, new) if s is not None]
    if any(s.desired != d.replicas for s in sets if s.replicas > 0):
        scaled = scale_to_size(d, new, old)
        return [f"{name} {replicas}" for name, replicas in scaled.items()]
    wanted = new_replica_set_replicas(d, new, sets)
    if new is None:
        new = replica_set("created", wanted, serial=100)
        done = [f"created {wanted}"]
    elif wanted != new.replicas:
        return [f"{new.name} {wanted}"]
    else:
        done = []
    return done + [f"{name} {replicas}" for name, replicas in scale_down(d, new, old).items()]


def test_every_pass_is_the_real_one():
    """Surge and unavailable as numbers and percentages, one to three sets, scaling, lagging status."""
    wrong = []
    for row in ROWS:
        replicas = int(row["replicas"])
        strategy = resolve_rolling_update(number(row["surge"]), number(row["unavailable"]), replicas)
        new, old = None, []
        for serial, text in enumerate(row["sets"].split(";")):
            name, role, spec, available = text.split()
            view = replica_set(
                name,
                int(spec),
                int(available),
                serial=serial,
                desired=int(row["desired"]),
                max_replicas=int(row["max"]),
            )
            if role == "new":
                new = view
            else:
                old.append(view)
        got = decided(deployment(replicas=replicas, strategy=strategy), new, old)
        expected = row["scaled"].split(";") if row["scaled"] else []
        if sorted(got) != sorted(expected):
            wrong.append((row, got))
    assert wrong == []
    assert len(ROWS) == 2000


SIZES = [
    # replicas, surge before and after, sizes (new last; None: no new set), expected
    ("5 → 10", 5, 10, 0, 0, (3, 2), (6, 4)),
    ("5 → 3", 5, 3, 0, 0, (3, 2), (2, 1)),
    ("9 → 4", 9, 4, 0, 0, (1, 8), (0, 4)),
    ("7 → 10", 7, 10, 0, 0, (2, 3, 2), (3, 4, 3)),
    ("13 → 8", 13, 8, 0, 0, (3, 8, 2), (2, 5, 1)),
    ("the rest goes to the newest of equals", 3, 4, 0, 0, (1, 1, 1), (1, 1, 2)),
    ("the rest is taken from the oldest of equals", 3, 2, 0, 0, (1, 1, 1), (0, 1, 1)),
    ("no new set yet", 4, 5, 0, 0, (2, 2, None), (2, 3, None)),
    ("to nothing", 6, 0, 0, 0, (1, 2, 3), (0, 0, 0)),
    ("from nothing", 6, 6, 0, 0, (0, 0, 0), (0, 0, 6)),
    ("with surge", 10, 20, 2, 2, (6, 6), (11, 11)),
    ("size and surge", 10, 50, 3, 6, (8, 5), (34, 22)),
    ("size and template", 10, 14, 0, 0, (3, 7, None), (4, 10, None)),
]


@pytest.mark.parametrize(
    ("before", "after", "surge_before", "surge", "sizes", "expected"),
    [case[1:] for case in SIZES],
    ids=[case[0] for case in SIZES],
)
def test_scaling_in_mid_rollout_is_shared(before, after, surge_before, surge, sizes, expected):
    """The worked cases of kubernetes' own sync_test.go, TestScale."""
    views = [
        None
        if size is None
        else replica_set(
            f"s{serial}", size, serial=serial, desired=before, max_replicas=before + surge_before
        )
        for serial, size in enumerate(sizes)
    ]
    d = deployment(replicas=after, strategy=RollingUpdate(max_surge=surge, max_unavailable=1))
    scaled = scale_to_size(d, views[-1], [s for s in views[:-1] if s is not None])
    assert tuple(None if s is None else scaled.get(s.name, s.replicas) for s in views) == expected


def test_a_saturated_new_set_ends_the_old_ones():
    """All of the new set is available already: scaling takes the rest of the old ones away."""
    d = deployment(replicas=3)
    new = replica_set("new", 3, 3, serial=2, desired=3)
    old = [replica_set("old", 2, 2, desired=5)]
    assert scale_to_size(d, new, old) == {"old": 0}


def test_recreate_is_never_scaled_in_shares():
    """With several sets alive a Recreate Deployment is left to its rollout."""
    d = deployment(replicas=3, strategy=Recreate())
    sets = [replica_set("old", 2, serial=1), replica_set("older", 1, serial=0)]
    assert scale_to_size(d, None, sets) == {}


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 3, (1, 0)),
        ("25%", "25%", 1, (1, 0)),
        ("1%", "99%", 1, (1, 0)),
        (0, "1%", 2, (0, 1)),  # both come to none: one unavailable
        (0, "0%", 1, (0, 1)),
        ("100%", "100%", 5, (5, 5)),
        (0, 10, 3, (0, 3)),  # never more unavailable than there are
    ],
)
def test_percentages(surge, unavailable, replicas, expected):
    """Surge is rounded up, unavailable down."""
    strategy = resolve_rolling_update(surge, unavailable, replicas)
    assert (strategy.max_surge, strategy.max_unavailable) == expected


def test_no_replicas_leave_nothing_available():
    """maxUnavailable of a Deployment without replicas is none, whatever it says."""
    d = deployment(replicas=0, strategy=RollingUpdate(max_surge=1, max_unavailable=1))
    assert min_available(d) == 0


def test_a_drained_old_set_does_not_count_as_available():
    """A set scaled to none whose status lags has nothing to give: else two others would be deleted for it."""
    d = deployment(replicas=4, strategy=RollingUpdate(max_surge=1, max_unavailable=0))
    gone = replica_set("gone", 0, 1, serial=1)
    old = replica_set("old", 3, 3, serial=2)
    new = replica_set("new", 2, 1, serial=3)
    assert scale_down(d, new, [gone, old]) == {}


def test_a_status_that_lags_keeps_what_was_scaled_before_it():
    """The error of the second set ends the pass; the first one's scaling is already written."""
    d = deployment(replicas=4, strategy=RollingUpdate(max_surge=2, max_unavailable=2))
    hung = replica_set("hung", 2, 0, serial=1)
    lagging = replica_set("lagging", 2, 3, serial=2)
    new = replica_set("new", 2, 2, serial=3)
    assert scale_down(d, new, [hung, lagging]) == {"hung": 0}


@given(
    replicas=st.integers(1, 12),
    surge=st.integers(0, 6),
    unavailable=st.integers(0, 6),
    data=st.data(),
)
def test_no_pass_breaks_the_bounds(replicas, surge, unavailable, data):
    """Whatever the state: never more than replicas + surge by growing, never below the minimum by shrinking."""
    strategy = RollingUpdate(max_surge=surge, max_unavailable=unavailable or int(surge == 0))
    d = deployment(replicas=replicas, strategy=strategy)
    sizes = data.draw(st.lists(st.integers(0, replicas), min_size=2, max_size=4))
    views = []
    for serial, size in enumerate(sizes):
        available = data.draw(st.integers(0, size))
        views.append(replica_set(f"s{serial}", size, available, serial=serial, desired=replicas))
    new, old = views[-1], views[:-1]
    total = sum(s.replicas for s in views)
    wanted = new_replica_set_replicas(d, new, views)
    assert wanted <= replicas
    if wanted > new.replicas:
        assert total + wanted - new.replicas <= replicas + surge
        return
    down = scale_down(d, new, old)
    left = {s.name: down.get(s.name, s.replicas) for s in old}
    assert all(0 <= left[s.name] <= s.replicas for s in old)
    removed_available = sum(max(0, s.available - left[s.name]) for s in old)
    available = sum(s.available for s in views if s.replicas > 0)
    if removed_available:
        assert available - removed_available >= min_available(d)


def test_the_recreate_strategy_wants_all_at_once():
    """A Recreate Deployment's new set has all replicas from the start."""
    d = replace(deployment(replicas=4), strategy=Recreate())
    assert new_replica_set_replicas(d, None, []) == 4
