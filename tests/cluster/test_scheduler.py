"""Which node a pod gets."""

from collections import Counter
from dataclasses import replace

import pytest
from assertions import assert_binomial
from builders import constant_timing, deployment, scenario, service, shipped_timing, updated
from small_world import SmallWorld

T = {"api_write": 0.050, "watch_hop": 0.002, "controller_sync": 0.001, "schedule": 0.001}


def nodes_of(world, revision):
    return Counter(world.api.pods[p.name].node for p in world.pods(revision) if world.api.pods[p.name].active)


@pytest.mark.parametrize(("replicas", "nodes"), [(6, 3), (4, 4), (9, 2)])
def test_a_sets_pods_are_spread(replicas, nodes):
    """Pods created together go to different nodes, although none of them is bound yet when the next is chosen."""
    d = deployment(replicas=1)
    for seed in range(8):
        world = SmallWorld(
            scenario(d, updates=[(1.0, replace(d, replicas=replicas))], nodes=nodes),
            timing=constant_timing(**T),
            seed=seed,
        ).run(20)
        counts = nodes_of(world, "red")
        assert sum(counts.values()) == replicas
        assert max(counts.values()) - min(counts.values()) <= 1


def test_the_set_is_spread_not_the_deployment():
    """The default constraints count pods of the same ReplicaSet: old ones elsewhere do not push."""
    d = deployment(replicas=3)
    for seed in range(5):
        world = SmallWorld(
            scenario(d, updates=[(1.0, updated(d))], nodes=3), timing=shipped_timing(), seed=seed
        ).run(60)
        assert sorted(nodes_of(world, "blue").values()) == [1, 1, 1]


def test_equal_nodes_are_chosen_at_random():
    """One pod, two empty nodes."""
    hits = 0
    for seed in range(400):
        d = deployment(replicas=0)
        world = SmallWorld(
            scenario(d, updates=[(0.1, replace(d, replicas=1))], nodes=2),
            timing=constant_timing(**T),
            seed=seed,
        ).run(1.0)
        hits += nodes_of(world, "red")[0]
    assert_binomial(hits, 400, 0.5, false_alarm=1e-6, notices=0.25)


def test_the_emptier_node_wins_between_equals():
    """Another Deployment's pods count when the set's own do not tell nodes apart."""
    other = deployment(name="other", replicas=1)
    d = deployment(replicas=0)
    world = SmallWorld(
        scenario(other, d, services=(service(),), updates=[(0.1, replace(d, replicas=1))], nodes=2),
        timing=constant_timing(**T),
    ).run(1.0)
    [taken] = {v.node for v in world.api.pods.values() if v.deployment == "other"}
    assert nodes_of(world, "red") == {1 - taken: 1, None: 0} or nodes_of(world, "red")[1 - taken] == 1


def test_a_pod_deleted_before_it_is_scheduled_is_gone_at_once():
    """An unscheduled pod has no node to say goodbye to."""
    d = deployment(replicas=1)
    slow = constant_timing(**(T | {"schedule": 3.0}))
    world = SmallWorld(scenario(d, updates=[(1.0, replace(d, replicas=3)), (1.5, d)]), timing=slow).run(20)
    assert len(world.times("deleted")) == 2
    assert world.times("sandbox") == []
    assert all(view.node is None for view in world.api.pods.values() if view.deleted)
