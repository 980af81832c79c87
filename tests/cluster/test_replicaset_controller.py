"""The ReplicaSet controller at work: batches, expectations, status."""

from dataclasses import replace

import numpy as np
import pytest
from builders import constant_timing, deployment, scenario, updated
from small_world import SmallWorld

from sim.cluster.api import PodView, ReplicaSetView
from sim.scenario.model import Recreate, RollingUpdate

T = {"api_write": 0.010, "watch_hop": 0.002, "controller_sync": 0.001, "exit_to_netns_gone": 0.2}


def grown(replicas, *, timing=None, until_s=30):
    """A Deployment of one that becomes *replicas* at 1 s."""
    d = deployment(replicas=1)
    world = SmallWorld(
        scenario(d, updates=[(1.0, replace(d, replicas=replicas))]), timing=timing or constant_timing(**T)
    )
    return world.run(until_s)


def test_creations_come_in_growing_batches():
    """1, 2, 4, 8 … together, each batch when the last has been answered."""
    created = grown(14).times("created")
    starts = sorted(set(created))
    assert [created.count(at_s) for at_s in starts] == [1, 2, 4, 6]
    assert np.diff(starts) == pytest.approx([T["api_write"]] * 3)


def test_the_token_bucket_slows_the_rest():
    """30 requests at once, then 20 a second: the last of 100 pods waits for all others and 25 Events."""
    created = grown(101).times("created")
    assert len(created) == 100
    n_before = 99 + 25
    # the bucket fills while the first, small batches wait for their answers
    filled = 20 * (created[15] - created[0] + T["api_write"])
    assert created[-1] - created[0] == pytest.approx((n_before - 29 - filled) / 20 + 0.07, abs=0.1)


def test_deletions_go_together():
    """All victims of one sync in one instant."""
    d = deployment(replicas=9)
    world = SmallWorld(scenario(d, updates=[(1.0, replace(d, replicas=2))]), timing=constant_timing(**T)).run(
        30
    )
    assert len(world.times("deleted")) == 7
    assert len(set(world.times("deleted"))) == 1


def test_nothing_is_created_twice():
    """However slow the watch: pods under way are expected, so none is made for them again."""
    slow = constant_timing(api_write=0.010, watch_hop=0.9, controller_sync=0.001)
    world = grown(7, timing=slow)
    assert len(world.times("created")) == 6
    assert len(world.times("deleted")) == 0


@pytest.mark.parametrize("strategy", [RollingUpdate(max_surge=2, max_unavailable=1), Recreate()])
def test_as_many_pods_as_wanted_under_any_delays(strategy):
    """With the shipped profile's chance: at the end exactly the replicas, all of the new template."""
    from builders import shipped_timing

    for seed in range(10):
        d = deployment(replicas=5, strategy=strategy)
        world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=shipped_timing(), seed=seed).run(
            90
        )
        live = [pod for pod in world.api.pods.values() if pod.active]
        assert sorted(world.world.pods[p.name].template.revision for p in live) == ["blue"] * 5
        assert len(world.pods("blue")) == 5


def test_the_status_of_a_sync_counts_what_was_before_it():
    """After a scale-down the first status still counts all: deletions show in the next sync."""
    d = deployment(replicas=4)
    world = SmallWorld(scenario(d, updates=[(1.0, replace(d, replicas=1))]), timing=constant_timing(**T)).run(
        30
    )
    counts = [
        (view.replicas, view.current, view.observed, view.generation)
        for _, view in world.written
        if isinstance(view, ReplicaSetView)
    ]
    assert counts == [(1, 4, 1, 2), (1, 4, 2, 2), (1, 1, 2, 2)]


def test_a_deleted_pod_leaves_the_count_at_once():
    """Its deletionTimestamp is enough, however long it terminates."""
    d = deployment(replicas=2)
    slow = constant_timing(**(T | {"exit_to_netns_gone": 20.0}))
    world = SmallWorld(scenario(d, updates=[(1.0, replace(d, replicas=1))]), timing=slow).run(5)
    [view] = world.api.replica_sets.values()
    assert view.current == 1
    assert len(world.api.pods) == 2


def test_creation_times_are_whole_seconds():
    """The API server stores no fraction."""
    stamps = [view.created_s for _, view in grown(5).written if isinstance(view, PodView)]
    assert all(isinstance(stamp, int) for stamp in stamps)
