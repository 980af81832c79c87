"""The readiness worker of a pod that has run for long: ticks at a random phase, runs of equal results."""

import pytest
from assertions import assert_distribution
from builders import constant_timing, container, deployment, scenario
from scipy import stats
from small_world import SmallWorld

from sim.scenario.model import Probe, ProbeKind


def probe(**more):
    return Probe(kind=ProbeKind.HTTP_GET, port=80, path="/ok", file="/ok", **more)


def world_with(readiness, *, seed=0, replicas=1):
    d = deployment(container(readiness=readiness), replicas=replicas)
    return SmallWorld(scenario(d), timing=constant_timing(probe_round=0.001, status_patch=0.001), seed=seed)


def test_the_phase_of_old_pods_is_uniform():
    """A file that vanishes is noticed after U(0, period)."""
    world = world_with(probe(period_s=10, failure_threshold=1), replicas=600)
    world.run(1.0)
    for pod in world.world.pods.values():
        world.server(pod).remove_file("/ok")
    world.run(20.0)
    noticed = [at_s - 1.0 for at_s in world.times("not_ready")]
    assert_distribution(noticed, stats.uniform(0, 10).cdf, false_alarm=1e-6, notices=0.25)


def test_a_success_between_failures_ends_their_run():
    """Two failures, a success, two failures: never three in a row, so the pod stays ready."""
    world = world_with(probe(period_s=2, failure_threshold=3))
    [pod] = world.world.pods.values()
    server = world.server(pod)
    world.run(10.0)
    for _ in range(6):
        server.remove_file("/ok")
        world.run(world.env.now + 4.0)  # two ticks
        server.removed_files.clear()
        server.health_changed.happens()
        world.run(world.env.now + 2.0)  # one tick
    assert world.times("not_ready") == []


def test_three_failures_in_a_row_are_enough():
    """The same file gone for three ticks, and back for one: not ready, then ready."""
    world = world_with(probe(period_s=2, failure_threshold=3))
    [pod] = world.world.pods.values()
    server = world.server(pod)
    world.run(10.0)
    server.remove_file("/ok")
    world.run(16.1)
    [not_ready_s] = world.times("not_ready")
    assert 14.0 < not_ready_s <= 16.1
    server.removed_files.clear()
    server.health_changed.happens()
    world.run(30.0)
    [ready_s] = world.times("ready")
    assert ready_s - not_ready_s == pytest.approx(2.0)
