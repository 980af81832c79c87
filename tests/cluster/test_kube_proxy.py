"""kube-proxy: when it syncs and what its rules name."""

from dataclasses import replace

import pytest
from builders import constant_timing, container, deployment, scenario, service, updated
from hypothesis import given, settings
from hypothesis import strategies as st
from small_world import SmallWorld

from sim.cluster.api import EndpointView
from sim.cluster.kube_proxy import chosen
from sim.errors import UnsupportedInput
from sim.scenario.model import Hook, HookKind, Probe, ProbeKind, Recreate

SYNC_S, HOP_S = 0.050, 0.002
PROBE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=1)


def e(pod, *, ready=False, serving=False, terminating=False):
    return EndpointView(pod=pod, ready=ready, serving=serving, terminating=terminating)


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        ([], ()),
        ([e("a", ready=True, serving=True), e("b", ready=True, serving=True)], ("a", "b")),
        ([e("a", ready=True, serving=True), e("b", serving=True, terminating=True)], ("a",)),
        ([e("a"), e("b", serving=True, terminating=True)], ("b",)),  # KEP-1669
        ([e("a"), e("b", terminating=True)], ()),
        ([e("a", ready=True, terminating=True)], ("a",)),  # publishNotReadyAddresses
    ],
)
def test_ready_ones_else_those_that_still_serve(endpoints, expected):
    """Ready; without any, serving while terminating; without any, reject."""
    assert chosen(tuple(endpoints)) == expected


# ---------------------------------------------------------------- when


def rules(change_times, *, min_interval_s=1.0, until_s=None):
    """When a node's rules change if the slice changes at the given times, each change another endpoint set."""
    d = deployment(replicas=len(change_times) + 1)
    world = SmallWorld(
        scenario(d),
        timing=constant_timing(watch_hop=HOP_S, proxy_sync=SYNC_S, proxy_min_interval_s=min_interval_s),
    )
    began = len(world.times("rules"))
    for n, at_s in enumerate(change_times, 1):
        world.run(at_s)
        view = world.api.slices["app"]
        world.api.commit(replace(view, generation=view.generation + 1, endpoints=view.endpoints[:-1]))
        assert len(world.api.slices["app"].endpoints) == len(change_times) + 1 - n
    world.run(until_s or change_times[-1] + 20)
    return [round(at_s, 6) for at_s in world.times("rules")[began:]]


def expected_rules(change_times, min_interval_s=1.0):
    """The same by the rule: at once after a quiet interval, else when it is over; changes meanwhile share a sync."""
    arrivals = [at_s + HOP_S for at_s in change_times]
    done, free_s = [], float("-inf")
    while arrivals:
        start_s = max(arrivals[0], free_s)
        arrivals = [at_s for at_s in arrivals if at_s > start_s]
        done.append(round(start_s + SYNC_S, 6))
        free_s = start_s + SYNC_S + min_interval_s
    return done


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ([5.0], [5.052]),  # idle: at once
        ([5.0, 5.5], [5.052, 6.102]),  # inside the interval: end + 1 s, and the sync
        ([5.0, 5.02], [5.052, 6.102]),  # during the sync
        ([5.0, 5.3, 5.6, 5.9], [5.052, 6.102]),  # several share one
        ([5.0, 6.1], [5.052, 6.152]),  # the interval is over
        ([5.0, 5.5, 6.6], [5.052, 6.102, 7.152]),
    ],
)
def test_syncs_are_a_second_apart(changes, expected):
    """From the end of one to the start of the next."""
    assert rules(changes) == expected


@settings(max_examples=30)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=8, unique=True))
def test_any_sequence_of_changes(hundredths):
    """Against the rule in five lines."""
    times = [5.0 + n / 100 + 0.0001 for n in sorted(hundredths)]
    assert rules(times) == expected_rules(times)


def test_the_interval_is_a_setting():
    """minSyncPeriod of another length."""
    assert rules([5.0, 5.01], min_interval_s=3.0) == [5.052, 8.102]


def test_a_not_ready_endpoint_uses_the_interval_up():
    """A change that leaves the rules as they are delays the next one all the same."""
    d = deployment(replicas=2)
    world = SmallWorld(scenario(d), timing=constant_timing(watch_hop=HOP_S, proxy_sync=SYNC_S)).run(5.0)
    view = world.api.slices["app"]
    world.api.commit(replace(view, generation=1, endpoints=(*view.endpoints, e(view.endpoints[0].pod))))
    world.run(5.2)
    world.api.commit(replace(view, generation=2, endpoints=view.endpoints[:1]))
    world.run(20)
    assert world.times("rules")[-1] == pytest.approx(5.0 + HOP_S + SYNC_S + 1.0 + SYNC_S)


def test_a_slice_of_another_service_uses_the_interval_up():
    """One runner serves all Services of a node."""
    d, other = deployment(replicas=2), deployment(name="other", replicas=2)
    services = (service(), service("other"))
    world = SmallWorld(
        scenario(d, other, services=services), timing=constant_timing(watch_hop=HOP_S, proxy_sync=SYNC_S)
    ).run(5.0)
    for name, at_s in (("other", 5.0), ("app", 5.2)):
        world.run(at_s) if at_s > 5.0 else None
        view = world.api.slices[name]
        world.api.commit(replace(view, generation=1, endpoints=view.endpoints[:1]))
    world.run(20)
    assert world.times("rules")[-2:] == [pytest.approx(5.052), pytest.approx(5.002 + 0.05 + 1 + 0.05)]


def test_a_headless_services_slice_does_not():
    """kube-proxy does not watch headless Services (cmd/kube-proxy/app/server.go:566-572)."""
    d = deployment(replicas=2)
    services = (service("headless", app="app", headless=True), service())
    world = SmallWorld(
        scenario(d, services=services), timing=constant_timing(watch_hop=HOP_S, proxy_sync=SYNC_S)
    ).run(5.0)
    for name in ("headless", "app"):
        view = world.api.slices[name]
        world.api.commit(replace(view, generation=1, endpoints=view.endpoints[:1]))
        world.run(world.env.now + 0.2)
    world.run(20)
    assert world.times("rules")[-1] == pytest.approx(5.2 + HOP_S + SYNC_S)
    assert world.ruled(service="headless") == []


def test_every_node_has_its_own_runner():
    """Three nodes see the same event; each one's rules are its own."""
    d = deployment(replicas=3)
    world = SmallWorld(scenario(d, nodes=3), timing=constant_timing(watch_hop=HOP_S, proxy_sync=SYNC_S)).run(
        5.0
    )
    view = world.api.slices["app"]
    world.api.commit(replace(view, generation=1, endpoints=view.endpoints[:1]))
    world.run(6.0)
    assert [(at_s, who) for at_s, who, _ in world.marks("rules") if at_s > 0] == [
        (5.052, f"kube-proxy/{node}") for node in range(3)
    ]


# ---------------------------------------------------------------- the fallback


def test_recreate_goes_on_serving_from_terminating_pods():
    """All pods terminate with a preStop sleep: the rules keep them, and reject only when they are gone."""
    d = deployment(
        container(readiness=PROBE, pre_stop=Hook(kind=HookKind.SLEEP, duration_s=5.0)),
        replicas=2,
        strategy=Recreate(),
    )
    timing = constant_timing(
        api_write=0.01,
        watch_hop=0.002,
        proxy_sync=0.05,
        exit_to_netns_gone=0.2,
        relist_to_removed=0.5,
        sandbox=0.3,
    )
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=timing)
    seen = []
    world.watch(0.05, lambda: seen.append((world.env.now, len(world.ruled()))))
    world.run(20)
    deleted_s, gone_s = min(world.times("deleted")), max(world.times("vanished", "red"))
    assert {n for at_s, n in seen if deleted_s < at_s < gone_s} == {2}
    assert 0 in {n for at_s, n in seen if at_s > gone_s}
    assert seen[-1][1] == 2


def test_local_traffic_on_several_nodes_is_refused():
    """internalTrafficPolicy: Local chooses endpoints by node: by name, not silently."""
    d = deployment(replicas=2)
    local = (service(internal_traffic_local=True),)
    with pytest.raises(UnsupportedInput, match="internalTrafficPolicy"):
        SmallWorld(scenario(d, services=local, nodes=2))
    SmallWorld(scenario(d, services=local, nodes=1)).run(1.0)
