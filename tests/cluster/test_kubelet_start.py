"""How a pod starts: instants as sums of latencies and relists, kicks, startup probes, restarts."""

import math
from dataclasses import replace

import numpy as np
import pytest
from builders import BLUE, RED, constant_timing, container, deployment, nginx_image, scenario, updated
from small_world import SmallWorld, relist_after, relist_phase_s

from sim.cluster.api import PodView
from sim.scenario.model import Hook, HookKind, Probe, ProbeKind, Recreate, RollingUpdate

T = {
    "api_write": 0.010,
    "watch_hop": 0.002,
    "controller_sync": 0.001,
    "schedule": 0.005,
    "kubelet_reaction": 0.015,
    "volume_wait": 0.200,
    "sandbox": 0.250,
    "container_start": 0.120,
    "pleg_relist": 0.010,
    "pod_sync": 0.003,
    "probe_round": 0.004,
    "status_patch": 0.020,
    "exec_hook": 0.070,
}
UPDATE_S = 1.0
BOUND_S = UPDATE_S + 4 * T["watch_hop"] + 2 * T["controller_sync"] + 3 * T["api_write"] + T["schedule"]
"""The kubelet's watch shows the new pod: Deployment, ReplicaSet, pod, binding."""
VOLUMES_S = BOUND_S + T["kubelet_reaction"] + T["volume_wait"]
"""Probe workers begin here, before the sandbox."""
SLOW = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=60)


def start(*containers, seed=0, until_s=200, images=None, timing=None, replicas=1, **options):
    """A new pod of *containers* on a quiet node, made by an update at 1 s."""
    d = deployment(replicas=replicas)
    to = replace(d, template=replace(d.template, revision="blue", containers=containers))
    timing = timing or constant_timing(**(T | options))
    images = images or {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=0.3)}
    return SmallWorld(scenario(d, images=images, updates=[(UPDATE_S, to)]), timing=timing, seed=seed).run(
        until_s
    )


def views(world, revision="blue"):
    """(when, view) of every write of the first new pod's object."""
    name = world.pods(revision)[0].name
    return [(at_s, view) for at_s, view in world.written if isinstance(view, PodView) and view.name == name]


def first(world, what):
    return next(at_s for at_s, view in views(world) if getattr(view, what))


def known_s(started_s, seed):
    """End of the first sync that sees containers that run since *started_s*."""
    return relist_after(started_s, relist_phase_s(seed), T["pleg_relist"]) + T["pod_sync"]


# ---------------------------------------------------------------- the start itself


@pytest.mark.parametrize("seed", range(5))
def test_the_start_is_a_chain(seed):
    """Deployment, ReplicaSet, scheduler, kubelet; then a relist newer than the start makes it known."""
    world = start(container(image=BLUE), seed=seed)
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    assert world.times("sandbox") == [pytest.approx(VOLUMES_S + T["sandbox"])]
    assert world.times("listening", "blue") == [pytest.approx(started_s + 0.3)]
    assert first(world, "has_address") == pytest.approx(known_s(started_s, seed) + T["status_patch"])


def test_without_volumes_nothing_waits_for_them():
    """No volume, no service account's token: the sandbox comes at once."""
    d = deployment(replicas=1)
    to = replace(d, template=replace(d.template, revision="blue", has_volumes=False))
    world = SmallWorld(scenario(d, updates=[(UPDATE_S, to)]), timing=constant_timing(**T)).run(10)
    assert world.times("sandbox") == [pytest.approx(BOUND_S + T["kubelet_reaction"] + T["sandbox"])]


@pytest.mark.parametrize(
    ("replicas", "strategy", "late"),
    [
        (3, Recreate(), True),
        (1, Recreate(), False),
        (3, RollingUpdate(max_surge=3, max_unavailable=0), False),
    ],
    ids=["three at once", "one alone", "beside old ones"],
)
def test_pods_that_ask_first_and_together_are_late_together(replicas, strategy, late):
    """Nobody on the node holds their ConfigMaps: one draw for all; a pod that runs there holds them for the others."""
    d = deployment(replicas=replicas, strategy=strategy)
    timing = constant_timing(**T, late_mount=1.5)
    world = SmallWorld(scenario(d, updates=[(UPDATE_S, updated(d))]), timing=timing).run(30)
    bound_s: dict[str, float] = {}
    for at_s, view in world.written:
        if isinstance(view, PodView) and view.node is not None:
            bound_s.setdefault(view.name, at_s)
    waits_s = [world.times("sandbox", pod.name)[0] - bound_s[pod.name] for pod in world.pods("blue")]
    expected_s = T["kubelet_reaction"] + T["volume_wait"] + T["sandbox"] + (1.5 if late else 0.0)
    assert waits_s == pytest.approx([expected_s] * replicas, abs=0.2)  # three share the cores


def test_without_a_readiness_probe_address_and_ready_are_one_write():
    """Ready although nothing listens yet: Kubernetes cannot know."""
    world = start(
        container(image=BLUE), images={RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=50.0)}
    )
    assert first(world, "has_address") == first(world, "ready")
    assert first(world, "ready") < world.times("listening", "blue")[0]


def test_containers_start_one_after_the_other():
    """The second waits for the first one's postStart hook; the pod is known after the last."""
    hook = Hook(kind=HookKind.EXEC, duration_s=2.0)
    world = start(container("a", image=BLUE, post_start=hook), container("b", image=BLUE))
    first_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    second_s = first_s + T["exec_hook"] + 2.0 + T["container_start"]
    assert world.times("listening", "blue") == [pytest.approx(first_s + 0.3), pytest.approx(second_s + 0.3)]
    assert first(world, "has_address") == pytest.approx(known_s(second_s, 0) + T["status_patch"])


def test_a_post_start_hook_has_its_effects():
    """What the hook removes is gone, from its own time on."""
    hook = Hook(kind=HookKind.EXEC, duration_s=1.0, removes=((0.5, "/www/warm"),))
    world = start(container(image=BLUE, post_start=hook))
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    assert world.times("file_removed") == [pytest.approx(started_s + 0.5, abs=0.1)]


# ---------------------------------------------------------------- readiness kicks


@pytest.mark.parametrize("seed", range(5))
def test_the_first_kick_finds_it(seed):
    """The kick of the first sync wins its race: ready one probe later, whatever the period. Two writes."""
    world = start(container(image=RED, readiness=SLOW), seed=seed)
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    known = known_s(started_s, seed)
    assert first(world, "has_address") == pytest.approx(known + T["status_patch"])
    assert first(world, "ready") == pytest.approx(known + 2 * T["status_patch"])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("first_wins", [True, False])
def test_the_second_kick_comes_with_the_next_relist(seed, first_wins):
    """An app too late for the first kick, or a lost first kick: the next relist's sync kicks again."""
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=1.0 if first_wins else 0.0)}
    timing = constant_timing(**T, p_first_kick=float(first_wins))
    world = start(container(image=BLUE, readiness=SLOW), seed=seed, images=images, timing=timing)
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    known = known_s(started_s, seed)
    if first_wins and started_s + 1.0 < known:
        pytest.skip("listens before the first kick")
    second = known_s(known, seed)
    assert first(world, "ready") == pytest.approx(second + T["probe_round"] + T["status_patch"])


@pytest.mark.parametrize("seed", range(3))
def test_without_a_kick_a_whole_period_passes(seed):
    """Both kicks lost: the ticker was re-armed by the first, so the probe runs one period after it."""
    timing = constant_timing(**T, p_first_kick=0.0, p_second_kick=0.0)
    world = start(container(image=RED, readiness=SLOW), seed=seed, timing=timing)
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    expected = known_s(started_s, seed) + 60 + T["probe_round"] + T["status_patch"]
    assert first(world, "ready") == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_after_the_kicks_the_ticks_go_on_from_the_last_one(seed):
    """An app that takes 5 s with period 2: the first tick after it, counted from the second kick."""
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=5.0)}
    world = start(container(image=BLUE, readiness=replace(SLOW, period_s=2)), seed=seed, images=images)
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    second = known_s(known_s(started_s, seed), seed)
    ticks = math.ceil((started_s + 5.0 - second) / 2)
    expected = second + 2 * ticks + T["probe_round"] + T["status_patch"]
    assert first(world, "ready") == pytest.approx(expected)


def test_the_initial_delay_counts_whole_seconds():
    """initialDelaySeconds from the truncated start: kicks before it only re-arm the ticker."""
    probe = replace(SLOW, period_s=1, initial_delay_s=4)
    world = start(container(image=RED, readiness=probe))
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    second = known_s(known_s(started_s, 0), 0)
    not_before_s = math.floor(started_s) + 4
    expected = second + math.ceil(not_before_s - second) + T["probe_round"] + T["status_patch"]
    assert first(world, "ready") == pytest.approx(expected)


def test_success_thresholds_need_so_many_ticks():
    """successThreshold 3: two kicks and one tick, or what is left of them."""
    world = start(container(image=RED, readiness=replace(SLOW, period_s=1, success_threshold=3)))
    started_s = VOLUMES_S + T["sandbox"] + T["container_start"]
    second = known_s(known_s(started_s, 0), 0)
    assert first(world, "ready") == pytest.approx(second + 1 + T["probe_round"] + T["status_patch"])


# ---------------------------------------------------------------- startup and liveness


@pytest.mark.parametrize("lost", [0.0, 1.0])
def test_readiness_waits_for_the_startup_probe(lost):
    """Ticks from before the sandbox; its success asks for a sync, whose kick does not race any more."""
    startup = replace(SLOW, period_s=3, failure_threshold=30)
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=7.0)}
    timing = constant_timing(**T, p_first_kick=lost, p_second_kick=0.0)
    world = start(container(image=BLUE, startup=startup, readiness=SLOW), images=images, timing=timing)
    listens_s = VOLUMES_S + T["sandbox"] + T["container_start"] + 7.0
    tick_s = VOLUMES_S + 3 * math.ceil((listens_s - VOLUMES_S) / 3)
    kick_s = tick_s + T["probe_round"] + T["pod_sync"]
    assert first(world, "ready") == pytest.approx(kick_s + T["probe_round"] + T["status_patch"])


def test_an_exec_probe_on_a_file_does_not_wait_for_the_listener():
    """`cat F` succeeds as soon as the container runs: a slow server is ready before it listens, and lives."""
    cat = Probe(kind=ProbeKind.EXEC, command=("cat", "/ok"), file="/ok", period_s=1, failure_threshold=2)
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=40.0)}
    world = start(container(image=BLUE, readiness=cat, liveness=cat), images=images)
    assert world.times("restarted") == []
    assert first(world, "ready") < 5 < world.times("listening", "blue")[0]


def test_liveness_restarts_until_the_server_is_quick_enough():
    """A server that needs longer than liveness grants never listens: each life begins anew."""
    liveness = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=5, failure_threshold=2)
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=12.0)}
    world = start(container(image=BLUE, liveness=liveness, readiness=SLOW), images=images, until_s=600)
    assert world.times("listening", "blue") == []
    restarts = world.times("restarted")
    first_kill_s = VOLUMES_S + 10 + T["probe_round"]
    assert restarts[0] == pytest.approx(first_kill_s)
    assert np.diff(restarts[:3]).tolist() == [10.0, 10.0]
    assert restarts[5] - restarts[4] > 40
    assert not any(view.ready for _, view in views(world))
    assert views(world)[-1][1].n_restarts >= 5


def test_a_pod_deleted_while_it_starts_never_listens():
    """The start is not interrupted, the process gets its signal before it listens and ends at once."""
    d = deployment(replicas=1)
    blue = updated(d, image=BLUE)
    images = {RED: nginx_image(RED), BLUE: nginx_image(BLUE, startup_s=30.0)}
    for back_s in (1.02, 1.1, 1.25, 1.45, 1.65, 2.0, 5.0):
        world = SmallWorld(
            scenario(d, images=images, updates=[(1.0, blue), (back_s, d)]), timing=constant_timing(**T)
        ).run(60)
        assert world.times("listening", "blue") == []
        assert [view.deleted for view in world.api.pods.values() if "blue" in view.name] in ([], [True])
        assert len(world.times("removed", "blue")) == len(world.times("created", "blue"))
