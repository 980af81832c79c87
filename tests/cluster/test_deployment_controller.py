"""The Deployment controller at work: which ReplicaSets have which size, and when."""

from dataclasses import replace

import pytest
from builders import BLUE, RED, constant_timing, container, deployment, nginx_image, scenario, updated
from small_world import SmallWorld

from sim.cluster.api import PodStage, PodView, ReplicaSetView
from sim.cluster.node_cpu import BURST_S
from sim.scenario.deployment import resolve_rolling_update
from sim.scenario.distributions import Constant
from sim.scenario.model import Hook, HookKind, Probe, ProbeKind, Recreate, RollingUpdate

PROBE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=1)
HANGS = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=1000.0)}
"""The blue image never listens."""

STEPS = constant_timing(
    api_write=0.010,
    watch_hop=0.002,
    controller_sync=0.001,
    sandbox=0.3,
    container_start=0.1,
    status_patch=0.010,
)
"""Latencies apart from each other, so that no two steps of a chain share an instant."""


def rollout(d, *updates, until_s=60, timing=STEPS, seed=0, images=None, nodes=1):
    return SmallWorld(scenario(d, updates=updates, images=images, nodes=nodes), timing=timing, seed=seed).run(
        until_s
    )


def sizes(world, *revisions):
    """The sizes of the given sets, step by step, without their times."""
    rows = [tuple(now.get(revision, 0) for revision in revisions) for _, now in world.sizes()]
    return [row for i, row in enumerate(rows) if i == 0 or row != rows[i - 1]]


def test_a_quarter_surge_a_quarter_unavailable_deletes_before_anything_is_ready():
    """4 replicas, 25 %/25 %: the first pass creates one and deletes one, the second grows to two."""
    d = deployment(replicas=4, strategy=resolve_rolling_update("25%", "25%", 4))
    world = rollout(d, (1.0, updated(d)))
    assert sizes(world, "red", "blue")[:3] == [(4, 1), (3, 1), (3, 2)]
    assert world.times("deleted")[0] < world.times("ready", "blue")[0]


def test_surge_only_replaces_one_by_one():
    """4 replicas, surge 1, unavailable 0: each available new pod takes one old away, the next pass adds one."""
    d = deployment(replicas=4)
    world = rollout(d, (1.0, updated(d)))
    assert sizes(world, "red", "blue") == [
        (4, 1), (3, 1), (3, 2), (2, 2), (2, 3), (1, 3), (1, 4), (0, 4),
    ]  # fmt: skip


def test_unavailable_only_creates_an_empty_set_first():
    """Surge 0, unavailable 1: the new set starts with none; an old pod goes, then a new one comes."""
    d = deployment(replicas=3, strategy=RollingUpdate(max_surge=0, max_unavailable=1))
    world = rollout(d, (1.0, updated(d)))
    assert sizes(world, "red", "blue") == [(3, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2), (0, 3)]


def test_terminating_pods_do_not_count():
    """Old pods that take 20 s to stop hold nothing up: the rollout is complete long before."""
    d = deployment(container(pre_stop=Hook(kind=HookKind.SLEEP, duration_s=20.0)), replicas=3)
    world = rollout(d, (1.0, updated(d)))
    assert world.times("complete")[0] < 1.0 + 8
    assert min(world.times("vanished", "red")) > 1.0 + 20


def test_the_chain_from_ready_to_delete_is_a_sum():
    """Ready → ReplicaSet status → Deployment scales → ReplicaSet deletes: four hops, four syncs, three writes."""
    d = deployment(replicas=1)
    world = rollout(d, (1.0, updated(d)))
    ready_s, deleted_s = world.times("ready", "blue")[0], world.times("deleted", "red")[0]
    hops, syncs, writes = 3, 3, 3
    assert deleted_s - ready_s == pytest.approx(hops * 0.002 + syncs * 0.001 + writes * 0.010)


def test_a_deletion_makes_the_next_creation_slow():
    """The next pass begins when the status is written, before the old pod is deleted; the creation's sync after it."""
    timing = replace(STEPS, controller_sync=Constant(value_s=0.050), schedule=Constant(value_s=0.030))
    timing = replace(timing, controller_sync_at_rest=Constant(value_s=0.001))
    d = deployment(replicas=2)
    world = rollout(d, (1.0, updated(d)), timing=timing)
    deleted_s, created_s = world.times("deleted")[0], world.times("created", "blue")[1]
    shrunk_s = deleted_s - (0.002 + 0.001 + 0.010)
    grown_s = shrunk_s + 0.010 + 0.001 + 0.010
    assert created_s == pytest.approx(grown_s + 0.002 + 0.050 + 0.010)
    second = world.pods("blue")[1].name
    pods = [(at_s, view) for at_s, view in world.written if isinstance(view, PodView) and view.name == second]
    bound_s = next(at_s for at_s, view in pods if view.node is not None)
    assert bound_s - created_s == pytest.approx(0.002 + 0.030 + 0.010)
    assert world.times("ready", "blue")[1] - deleted_s > BURST_S
    last_s = world.times("deleted")[1] - world.times("ready", "blue")[1]
    assert last_s == pytest.approx(3 * 0.002 + 3 * 0.001 + 3 * 0.010)


def test_a_deletion_on_another_node_leaves_the_control_plane_its_cores():
    """The control plane runs on the first node: what the kubelet and the runtime of the second do takes none there."""
    slow = replace(STEPS, controller_sync=Constant(value_s=0.050))
    d = deployment(replicas=2, strategy=RollingUpdate(max_surge=0, max_unavailable=1))
    gaps_s = {}
    for seed in range(8):
        world = rollout(d, (1.0, updated(d)), timing=slow, nodes=2, seed=seed)
        first_s, name, _ = world.marks("deleted")[0]
        gaps_s[world.world.pods[name].node] = world.times("created", "blue")[0] - first_s
    assert gaps_s[0] == pytest.approx(gaps_s[1] + 0.049)


# ---------------------------------------------------------------- Recreate


def test_recreate_waits_for_the_last_old_pod_object():
    """All old at once to 0; the new set appears after the last old pod is removed, not when it is terminal."""
    d = deployment(replicas=3, strategy=Recreate())
    slow = constant_timing(relist_to_removed=1.5, exit_to_netns_gone=0.2)
    timing = replace(
        STEPS, relist_to_removed=slow.relist_to_removed, exit_to_netns_gone=slow.exit_to_netns_gone
    )
    world = rollout(d, (1.0, updated(d)), timing=timing)
    assert sizes(world, "red", "blue") == [(0, 0), (0, 3)]
    removed_s = max(world.times("removed", "red"))
    created_s = min(world.times("created", "blue"))
    assert removed_s < created_s < removed_s + 0.1
    assert 1.5 < removed_s - max(world.times("not_ready", "red")) < 1.5 + 1.0 + 0.1


def test_recreate_back_and_forth():
    """A rollback under Recreate scales the first set up again, once the second one's pods are gone."""
    d = deployment(replicas=2, strategy=Recreate())
    world = rollout(d, (1.0, updated(d)), (20.0, d))
    assert sizes(world, "red", "blue") == [(0, 0), (0, 2), (0, 0), (2, 0)]
    assert len(world.api.replica_sets) == 2


# ---------------------------------------------------------------- update during update, rollback


def test_a_rollback_in_mid_rollout_revives_the_old_set():
    """New pods hang unready; the rollback makes the first set the new one: no third set, the hung pods go."""
    strategy = RollingUpdate(max_surge=1, max_unavailable=1)
    d = deployment(container(readiness=PROBE), replicas=4, strategy=strategy)
    blue = updated(d, image=BLUE)
    world = SmallWorld(scenario(d, images=HANGS, updates=[(1.0, blue), (10.0, d)]), timing=STEPS).run(9.9)
    assert sizes(world, "red", "blue")[-1] == (3, 2)
    world.run(60)
    assert sizes(world, "red", "blue")[-1] == (4, 0)
    assert len(world.api.replica_sets) == 2
    assert [view.rollout for view in world.api.replica_sets.values()] == [3, 2]
    deleted = {who for at_s, who, _ in world.marks("deleted") if at_s > 10}
    assert deleted == {pod.name for pod in world.pods("blue")}


def test_an_update_during_an_update_keeps_the_bounds():
    """A third template in mid-rollout: its set starts with what is left, the oldest set shrinks first."""
    d = deployment(replicas=4)
    world = SmallWorld(
        scenario(d, updates=[(1.0, updated(d)), (2.5, updated(d, revision="green"))]), timing=STEPS
    )
    counts = []
    world.watch(
        0.005,
        lambda: counts.append(
            (
                sum(pod.active for pod in world.api.pods.values()),
                sum(pod.active and pod.ready for pod in world.api.pods.values()),
            )
        ),
    )
    world.run(60)
    assert max(active for active, _ in counts) == 5
    assert min(ready for _, ready in counts) == 4
    assert sizes(world, "red", "blue", "green")[-1] == (0, 0, 4)
    at_green = next(now for at_s, now in world.sizes() if "green" in now)
    assert at_green["red"] > 0
    assert at_green["blue"] > 0


def test_replicas_changed_with_the_template_scales_first():
    """4 → 2 replicas and another template at once: the old set takes the new size, then the rollout begins."""
    d = deployment(replicas=4)
    world = rollout(d, (1.0, updated(d, replicas=2)))
    assert sizes(world, "red", "blue") == [(2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
    grown = rollout(d, (1.0, updated(d, replicas=6)))
    assert sizes(grown, "red", "blue")[:2] == [(6, 0), (6, 1)]


def test_scaling_in_mid_rollout_is_proportional():
    """7 pods of 6 replicas and surge 1 (3 old, 4 new) scaled to 12: 13 places shared 3 : 4, then rounding's rest."""
    d = deployment(replicas=6)
    blue = updated(d)
    world = SmallWorld(scenario(d, updates=[(1.0, blue)]), timing=STEPS)
    while not sizes(world, "red", "blue") or sizes(world, "red", "blue")[-1] != (3, 4):
        world.run(world.env.now + 0.005)
    world.plane.deployments["app"].update(replace(blue, replicas=12))
    world.run(world.env.now + 60)
    steps = sizes(world, "red", "blue")
    at = steps.index((3, 4))
    assert steps[at + 1 : at + 3] in ([(3, 7), (6, 7)], [(6, 4), (6, 7)])
    assert steps[-1] == (0, 12)


def test_scaling_alone_is_complete_when_its_pods_are_available():
    """2 → 5 replicas without another template: no second set, complete when five are available."""
    d = deployment(replicas=2)
    world = rollout(d, (1.0, replace(d, replicas=5)))
    assert sizes(world, "red") == [(5,)]
    assert world.times("complete")[0] > max(world.times("ready"))


def test_an_update_that_changes_nothing_rolls_nothing():
    """The same template and size again: no write at all."""
    d = deployment(replicas=2)
    world = rollout(d, (1.0, replace(d)))
    assert [view for _, view in world.written if isinstance(view, ReplicaSetView)] == []
    assert world.plane.deployments["app"].rollout_started_s is None


# ---------------------------------------------------------------- minReadySeconds, status


@pytest.mark.parametrize("seed", range(4))
def test_min_ready_seconds_loses_the_fraction(seed):
    """The transition time is truncated to whole seconds: available minReadySeconds after that, not after Ready."""
    d = deployment(replicas=1, min_ready_s=3)
    world = rollout(d, (1.0, updated(d)), seed=seed)
    ready_s, deleted_s = world.times("ready", "blue")[0], world.times("deleted", "red")[0]
    since_s = world.api.pods[world.pods("blue")[0].name].ready_since_s
    assert since_s <= ready_s < since_s + 1.02
    writes_s, hops_s, syncs_s = 3 * 0.010, 2 * 0.002, 3 * 0.001
    assert deleted_s == pytest.approx(since_s + 3 + writes_s + hops_s + syncs_s, abs=1e-5)


def test_min_ready_seconds_of_the_update_counts():
    """An update of minReadySeconds alone changes the existing set: pods that are ready long enough stay available."""
    d = deployment(replicas=2)
    world = rollout(d, (1.0, replace(d, min_ready_s=5)))
    [view] = world.api.replica_sets.values()
    assert (view.min_ready_s, view.replicas, view.available) == (5, 2, 2)
    assert len(world.api.pods) == 2


def test_complete_needs_the_status_of_every_set():
    """Complete: all updated, all available, no other pod counted; it is a write after the last status."""
    d = deployment(replicas=2)
    world = rollout(d, (1.0, updated(d)))
    complete_s = world.times("complete")[0]
    last = max(at_s for at_s, view in world.written if isinstance(view, ReplicaSetView))
    assert complete_s > last - 0.05
    [old] = [s for s in world.api.replica_sets.values() if s.revision == "red"]
    assert (old.replicas, old.current, old.available) == (0, 0, 0)
    assert all(p.stage is PodStage.REMOVED for p in world.api.pods.values() if p.deleted)
