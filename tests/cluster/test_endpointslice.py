"""The EndpointSlice controller: conditions, writes, coalescing, the stale cache."""

from dataclasses import replace

import pytest
from builders import constant_timing, container, deployment, scenario, service, updated
from small_world import SmallWorld

from sim.cluster.api import EndpointSliceView, PodStage, PodView
from sim.cluster.endpointslice import endpoint
from sim.scenario.distributions import Constant
from sim.scenario.model import Hook, HookKind, Probe, ProbeKind

T = {
    "api_write": 0.010,
    "watch_hop": 0.002,
    "controller_sync": 0.001,
    "endpointslice_sync": 0.005,
    "status_patch": 0.015,
    "probe_round": 0.004,
    "sandbox": 0.3,
    "exit_to_netns_gone": 0.2,
    "relist_to_removed": 0.5,
    "pleg_relist": 0.010,
}
PROBE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=1)


def pod(**more):
    more = {"stage": PodStage.RUNNING, "has_address": True, "ready": True} | more
    return PodView(name="p", deployment="app", replica_set="s", created_s=0, uid=0.0, node=0, **more)


def slices(world):
    """(when, {pod: condition}) of each write."""

    def condition(e):
        if e.terminating:
            return "terminating" if e.serving else "terminating, not serving"
        return "ready" if e.ready else "not ready"

    return [
        (at_s, {e.pod: condition(e) for e in view.endpoints})
        for at_s, view in world.written
        if isinstance(view, EndpointSliceView)
    ]


# ---------------------------------------------------------------- conditions


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        (pod(), (True, True, False)),
        (pod(ready=False), (False, False, False)),
        (pod(deleted=True), (False, True, True)),
        (pod(deleted=True, ready=False), (False, False, True)),
        (pod(stage=PodStage.PENDING, ready=False), (False, False, False)),
        (pod(has_address=False), None),
        (pod(stage=PodStage.TERMINAL), None),
        (pod(stage=PodStage.REMOVED), None),
    ],
)
def test_conditions(view, expected):
    """serving: Ready; terminating: deletionTimestamp; ready: serving, not terminating; no address: not in."""
    got = endpoint(view, service())
    assert expected == (None if got is None else (got.ready, got.serving, got.terminating))


def test_not_ready_addresses_can_be_published():
    """publishNotReadyAddresses makes `ready` true for every member."""
    got = endpoint(pod(ready=False, deleted=True), service(publish_not_ready=True))
    assert (got.ready, got.serving, got.terminating) == (True, False, True)


# ---------------------------------------------------------------- writes


def test_the_writes_of_one_replaced_pod():
    """Address known, ready, old one terminating, old one gone."""
    d = deployment(container(readiness=PROBE, pre_stop=Hook(kind=HookKind.SLEEP, duration_s=4.0)), replicas=1)
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=constant_timing(**T)).run(60)
    [old], [new] = world.pods("red"), world.pods("blue")
    assert [state for _, state in slices(world)] == [
        {old.name: "ready", new.name: "not ready"},
        {old.name: "ready", new.name: "ready"},
        {old.name: "terminating", new.name: "ready"},
        {new.name: "ready"},
    ]


def test_without_a_probe_known_and_ready_are_one_write():
    """Ready from its first status on."""
    d = deployment(replicas=1)
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=constant_timing(**T)).run(60)
    assert len(slices(world)) == 3


def test_a_write_follows_its_event():
    """Hop, sync, write: 17 ms after the status."""
    d = deployment(replicas=1)
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=constant_timing(**T)).run(60)
    delay_s = slices(world)[0][0] - world.times("ready", "blue")[0]
    assert delay_s == pytest.approx(T["watch_hop"] + T["endpointslice_sync"] + T["api_write"], abs=1e-5)


def test_events_during_a_sync_share_the_next_one():
    """Seven pods deleted in one instant: one write for the first sync's view, no more than one further."""
    d = deployment(container(pre_stop=Hook(kind=HookKind.SLEEP, duration_s=20.0)), replicas=9)
    world = SmallWorld(scenario(d, updates=[(1.0, replace(d, replicas=2))]), timing=constant_timing(**T)).run(
        10
    )
    [(_, state)] = slices(world)
    assert list(state.values()).count("terminating") == 7


def test_a_pod_of_another_service_is_nobodys_business():
    """Events of pods that the selector does not choose cost nothing."""
    other = deployment(name="other", replicas=1)
    d = deployment(replicas=1)
    world = SmallWorld(scenario(d, other, updates=[(1.0, updated(other))]), timing=constant_timing(**T)).run(
        30
    )
    assert slices(world) == []


# ---------------------------------------------------------------- the stale cache


def stale(second_after_s, *, hop_s):
    """Two pods become not ready *second_after_s* apart; the watch of slices takes *hop_s*."""
    probe = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/ok", file="/ok", period_s=1, failure_threshold=1)
    d = deployment(container(readiness=probe), replicas=2)
    timing = constant_timing(**(T | {"watch_hop": hop_s, "endpointslice_sync": 0.0, "status_patch": 0.0}))
    world = SmallWorld(scenario(d), timing=timing)
    first, second = (world.api.pods[p.name] for p in world.world.pods.values())
    world.run(5.0)
    world.api.commit(replace(first, ready=False))
    world.run(5.0 + second_after_s)
    world.api.commit(replace(second, ready=False))
    world.run(20.0)
    return [round(at_s - 5.0, 4) for at_s, _ in slices(world)]


def test_an_event_after_its_own_write_is_seen_is_written_at_once():
    """The second event finds a fresh cache."""
    hop_s, write_s = 0.002, T["api_write"]
    assert stale(0.5, hop_s=hop_s) == [pytest.approx(hop_s + write_s), pytest.approx(0.5 + hop_s + write_s)]


def test_an_event_during_the_write_is_written_next():
    """Answer and event of the write travel equally long here: the follow-up sync is in time."""
    times = stale(0.005, hop_s=0.002)
    assert times == [pytest.approx(0.012), pytest.approx(0.012 + 0.002 + 0.010)]


def test_a_stale_cache_backs_off_a_second():
    """If the write's own event has not come yet the sync fails and is repeated 1 s later; then 2 s, 4 s."""
    probe = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/ok", file="/ok", period_s=1, failure_threshold=1)
    d = deployment(container(readiness=probe), replicas=2)
    world = SmallWorld(scenario(d), timing=constant_timing(**(T | {"endpointslice_sync": 0.0})))
    first = world.api.pods[next(iter(world.world.pods))]
    last = world.api.slices["app"]
    world.api.store(replace(last, generation=last.generation + 1))  # a write whose event is still under way
    world.run(5.0)
    world.api.commit(replace(first, ready=False))
    world.run(11.5)
    assert slices(world) == []
    world.api.commit(world.api.slices["app"])  # its event arrives at last
    world.run(30.0)
    times = [at_s for at_s, _ in slices(world)]
    assert times == [11.5, pytest.approx(5.002 + 1 + 2 + 4 + 0.010)]


def test_a_deletion_is_published_more_slowly_than_a_new_pod():
    """The slice of a pod that goes competes with the work of its deletion, from the deletion's commit on."""
    timing = replace(constant_timing(**T), endpointslice_sync=Constant(value_s=0.030))
    d = deployment(replicas=1)
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=timing).run(10)
    [deleted_s], [ready_s] = world.times("deleted"), world.times("ready", "blue")
    withdrawn_s = next(at_s for at_s, now in slices(world) if "terminating" in now.values())
    published_s = next(at_s for at_s, now in slices(world) if list(now.values()).count("ready") == 2)
    assert withdrawn_s - deleted_s == pytest.approx(0.002 + 0.030 + 0.010)
    assert published_s - ready_s == pytest.approx(0.002 + 0.005 + 0.010)
