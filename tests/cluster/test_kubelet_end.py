"""How a pod ends: every instant a sum, counted from the kubelet's start of killing."""

from dataclasses import replace

import pytest
from builders import (
    BLUE,
    RED,
    constant_timing,
    container,
    deployment,
    generic_image,
    nginx_image,
    scenario,
    updated,
)
from hypothesis import given
from hypothesis import strategies as st
from small_world import SmallWorld, relist_after, relist_phase_s

from sim.cluster.api import EndpointSliceView
from sim.cluster.shutdown import effective_grace_s, plan_shutdown
from sim.scenario.model import (
    ExitWhen,
    Hook,
    HookKind,
    NginxConf,
    OnBusy,
    OnIdle,
    OnListener,
    Probe,
    ProbeKind,
    Recreate,
    StopBehaviour,
)
from sim.servers import IGNORED

T = {
    "api_write": 0.010,
    "watch_hop": 0.002,
    "controller_sync": 0.001,
    "kubelet_reaction": 0.015,
    "exec_hook": 0.070,
    "round_trip": 0.0001,
    "signal_delivery": 0.020,
    "fast_stop": 0.003,
    "graceful_exit": 0.005,
    "sigkill": 0.002,
    "exit_to_netns_gone": 0.200,
    "relist_to_removed": 0.500,
    "status_patch": 0.015,
    "probe_round": 0.004,
}
FAST_STOP_S = T["fast_stop"] + T["graceful_exit"]
"""The worker leaves with its connections, then the master with the listener."""
KILLING = T["watch_hop"] + T["kubelet_reaction"]
"""From the DELETE's commit to the kubelet's start of killing a pod that was idle for a second."""
STUBBORN = generic_image(RED, IGNORED)
SLEEP, EXEC, HTTP = HookKind.SLEEP, HookKind.EXEC, HookKind.HTTP_GET


def end(*containers, image=None, until_s=120, **pod):
    """One old pod of *containers*, deleted by a Recreate update at 1 s; times count from its killing."""
    d = deployment(*containers, replicas=1, strategy=Recreate(), **pod)
    images = {RED: image or nginx_image(RED), BLUE: nginx_image(BLUE)}
    world = SmallWorld(
        scenario(d, images=images, updates=[(1.0, updated(d, image=BLUE))]), timing=constant_timing(**T)
    )
    [world.old] = world.pods("red")
    world.run(until_s)
    world.zero_s = world.times("deleted", "red")[0] + KILLING
    return world


def since(world, what):
    return [round(at_s - world.zero_s, 4) for at_s in world.times(what, "red")]


# ---------------------------------------------------------------- the plan


@pytest.mark.parametrize(
    ("pre_stop_s", "grace_s", "signal_s", "sigkill_s"),
    [
        (0.0, 30, 0.0, 30.0),
        (0.0, 1, 0.0, 2.0),  # never less than 2 s
        (5.0, 30, 5.0, 30.0),
        (5.9, 30, 5.9, 30.9),  # whole seconds of the hook are charged
        (28.5, 30, 28.5, 30.5),
        (29.0, 30, 29.0, 31.0),
        (10.0, 10, 10.0, 12.0),
        (25.0, 10, 10.0, 12.0),  # the hook is not waited for any longer
    ],
)
def test_the_plan_in_numbers(pre_stop_s, grace_s, signal_s, sigkill_s):
    """Signal at min(hook, grace); SIGKILL max(2, grace − whole seconds of the hook) later."""
    plan = plan_shutdown(pre_stop_s=pre_stop_s, grace_s=grace_s)
    assert (plan.stop_signal_after_s, plan.stop_signal_after_s + plan.sigkill_after_signal_s) == (
        signal_s,
        sigkill_s,
    )


@given(st.floats(0, 100), st.integers(1, 100), st.integers(0, 100))
def test_a_longer_grace_never_kills_earlier(pre_stop_s, grace_s, more_s):
    """Neither the signal nor SIGKILL comes earlier."""
    short = plan_shutdown(pre_stop_s=pre_stop_s, grace_s=grace_s)
    long = plan_shutdown(pre_stop_s=pre_stop_s, grace_s=grace_s + more_s)
    assert long.stop_signal_after_s >= short.stop_signal_after_s
    assert (
        long.stop_signal_after_s + long.sigkill_after_signal_s
        >= short.stop_signal_after_s + short.sigkill_after_signal_s
    )
    assert long.sigkill_after_signal_s >= 2


@pytest.mark.parametrize(("pre_stop_s", "grace_s"), [(-1.0, 30), (0.0, 0)])
def test_the_plan_needs_sane_numbers(pre_stop_s, grace_s):
    """A negative hook or a grace of none is the caller's mistake."""
    with pytest.raises(ValueError, match="need pre_stop_s"):
        plan_shutdown(pre_stop_s=pre_stop_s, grace_s=grace_s)


def test_the_kubelet_gives_at_least_a_second():
    """Grace 0 and negatives."""
    assert [effective_grace_s(s) for s in (-5, 0, 1, 30)] == [1, 1, 1, 30]


# ---------------------------------------------------------------- the plan at work

STOPS = [
    # hook, grace, preStop lasts, SIGKILL after the signal
    (None, 30, 0.0, 30.0),
    (None, 1, 0.0, 2.0),
    (None, 0, 0.0, 2.0),
    (Hook(kind=SLEEP, duration_s=5.0), 30, 5.0, 25.0),
    (Hook(kind=SLEEP, duration_s=10.0), 10, 10.0, 2.0),
    (Hook(kind=SLEEP, duration_s=0.0), 5, 0.0, 5.0),
    (Hook(kind=EXEC, duration_s=5.0), 30, 5.0 + T["exec_hook"], 25.0),
    (Hook(kind=EXEC, duration_s=4.95), 30, 4.95 + T["exec_hook"], 25.0),
    (Hook(kind=EXEC, duration_s=60.0), 10, 10.0, 2.0),
    (Hook(kind=EXEC, duration_s=60.0), 0, 1.0, 2.0),
    (Hook(kind=HTTP), 10, T["round_trip"], 10.0),
]


@pytest.mark.parametrize(("hook", "grace_s", "hook_s", "rest_s"), STOPS)
def test_a_process_that_ignores_its_signal(hook, grace_s, hook_s, rest_s):
    """Signal after hook and delivery; SIGKILL when the rest of the grace is over; then the address goes."""
    world = end(container(nginx=None, pre_stop=hook), image=STUBBORN, grace_s=grace_s)
    signal_s = hook_s + T["signal_delivery"]
    assert since(world, "stop_signal") == [pytest.approx(signal_s)]
    assert since(world, "sigkill") == [pytest.approx(signal_s + rest_s)]
    exited_s = signal_s + rest_s + T["sigkill"]
    assert since(world, "exited") == [pytest.approx(exited_s)]
    assert since(world, "vanished") == [pytest.approx(exited_s + T["exit_to_netns_gone"])]
    vanished_s = world.times("vanished", "red")[0]
    gone_s = relist_after(vanished_s, relist_phase_s(0), 0.0) + T["relist_to_removed"] + T["api_write"]
    assert world.times("removed", "red")[0] == pytest.approx(gone_s, abs=T["api_write"] + 1e-6)


def test_an_object_goes_in_step_with_the_relists():
    """Whenever its process ends: the worker's last sync waits for a relist as every sync does."""
    phases_s = set()
    for lasts_s in (0.2, 0.5, 0.8, 1.1):
        world = end(container(nginx=None, pre_stop=Hook(kind=SLEEP, duration_s=lasts_s)))
        phases_s.add(round(world.times("removed", "red")[0] % 1.0, 3))
    assert len(phases_s) == 1


@pytest.mark.parametrize("grace_s", [1, 30])
def test_a_fast_stop_takes_no_grace(grace_s):
    """SIGTERM to nginx: deaf at once, gone when the stop is done."""
    world = end(container(), grace_s=grace_s)
    assert since(world, "deaf") == [pytest.approx(T["signal_delivery"])]
    assert since(world, "exited") == [pytest.approx(T["signal_delivery"] + FAST_STOP_S)]
    assert since(world, "sigkill") == []


def test_grace_zero_removes_the_object_at_once():
    """The API server removes it with the DELETE; the node still runs its hook for a second and stops it."""
    hook = Hook(kind=SLEEP, duration_s=0.0)
    world = end(container(pre_stop=hook), grace_s=0)
    slices = [v for at_s, v in world.written if isinstance(v, EndpointSliceView)]
    assert [e for e in slices[0].endpoints if e.pod == world.old.name] == []
    assert since(world, "exited")[0] > 0


# ---------------------------------------------------------------- hooks and containers that end early


def test_an_exec_hook_dies_with_its_container():
    """`nginx -s quit; sleep 20` with nothing open: the container ends, the hook with it, no signal is sent."""
    hook = Hook(kind=EXEC, duration_s=20.0, signals=((0.0, "SIGQUIT"),), removes=((10.0, "/www/late"),))
    world = end(container(pre_stop=hook))
    exited_s = T["exec_hook"] + T["graceful_exit"]
    assert since(world, "draining") == [pytest.approx(T["exec_hook"])]
    assert since(world, "exited") == [pytest.approx(exited_s)]
    assert since(world, "vanished") == [pytest.approx(exited_s + T["exit_to_netns_gone"])]
    assert since(world, "file_removed") == []
    assert [what for _, _, what in world.marks("stop_signal", subject="red")] == [
        "stop_signal"
    ]  # the hook's own


def test_a_sleep_hook_is_waited_out():
    """It sleeps in the kubelet: the container may be long dead, its address stays until the hook is over."""
    hook = Hook(kind=SLEEP, duration_s=8.0, signals=((1.0, "SIGQUIT"),))
    world = end(container(pre_stop=hook))
    assert since(world, "exited") == [pytest.approx(1.0 + T["graceful_exit"])]
    assert since(world, "vanished") == [pytest.approx(8.0 + T["exit_to_netns_gone"])]


def test_quit_in_pre_stop_drains_within_the_grace():
    """A connection that ends after 6 s holds nginx that long; the hook's end brings no second stop."""
    hook = Hook(kind=EXEC, duration_s=60.0, signals=((0.0, "SIGQUIT"),))
    d = deployment(container(pre_stop=hook), replicas=1, strategy=Recreate(), grace_s=30)
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=constant_timing(**T))
    [old] = world.pods("red")
    server, connection = world.server(old), object()
    server.attach(connection)
    world.run(8.0)
    server.detach(connection)
    world.run(60)
    assert world.times("exited", "red") == [pytest.approx(8.0 + T["graceful_exit"])]


def test_a_fast_signal_ends_a_drain():
    """preStop quits and sleeps 3 s, a connection stays: the SIGTERM that follows ends nginx at once."""
    hook = Hook(kind=EXEC, duration_s=3.0, signals=((0.0, "SIGQUIT"),))
    d = deployment(container(pre_stop=hook), replicas=1, strategy=Recreate())
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=constant_timing(**T))
    [world.old] = world.pods("red")
    world.server(world.old).attach(object())
    world.run(60)
    world.zero_s = world.times("deleted", "red")[0] + KILLING
    signal_s = T["exec_hook"] + 3.0 + T["signal_delivery"]
    assert since(world, "deaf") == [pytest.approx(signal_s)]
    assert since(world, "exited") == [pytest.approx(signal_s + FAST_STOP_S)]


def test_a_second_fast_signal_changes_nothing():
    """preStop sends SIGTERM itself; the kubelet's own comes while the process is still leaving."""
    hook = Hook(kind=EXEC, duration_s=0.0, signals=((0.0, "SIGTERM"),))
    d = deployment(container(pre_stop=hook), replicas=1, strategy=Recreate())
    slow = constant_timing(**(T | {"fast_stop": 0.5}))
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=slow).run(60)
    assert len(world.times("stop_signal", "red")) == 2
    assert world.times("exited", "red") == [
        pytest.approx(world.times("stop_signal", "red")[0] + 0.5 + T["graceful_exit"])
    ]


def test_the_drain_has_its_own_limit():
    """worker_shutdown_timeout 4 s: whatever is open then is cut."""
    d = deployment(container(nginx=NginxConf(worker_shutdown_timeout_s=4.0)), replicas=1, strategy=Recreate())
    images = {RED: nginx_image(RED, stop_signal="SIGQUIT")}
    world = SmallWorld(scenario(d, images=images, updates=[(1.0, updated(d))]), timing=constant_timing(**T))
    [world.old] = world.pods("red")
    server = world.server(world.old)
    server.attach(object())
    world.run(60)
    world.zero_s = world.times("deleted", "red")[0] + KILLING
    assert since(world, "exited") == [pytest.approx(T["signal_delivery"] + 4.0)]
    assert server.cut_by_own_limit


def test_sigkill_ends_a_drain():
    """A connection that never ends: SIGKILL at the end of the grace, and the traffic can tell."""
    d = deployment(replicas=1, strategy=Recreate(), grace_s=5)
    images = {RED: nginx_image(RED, stop_signal="SIGQUIT")}
    world = SmallWorld(scenario(d, images=images, updates=[(1.0, updated(d))]), timing=constant_timing(**T))
    [world.old] = world.pods("red")
    server = world.server(world.old)
    server.attach(object())
    world.run(60)
    world.zero_s = world.times("deleted", "red")[0] + KILLING
    assert since(world, "sigkill") == [pytest.approx(T["signal_delivery"] + 5.0)]
    assert server.killed
    assert not server.cut_by_own_limit


def test_a_server_may_leave_after_a_fixed_time():
    """A generic server that closes its listener and exits 2.5 s after the signal, whatever is open."""
    leaving = StopBehaviour(
        listener=OnListener.CLOSE, idle=OnIdle.KEEP, busy=OnBusy.FINISH, exit=ExitWhen.AFTER, exit_after_s=2.5
    )
    world = end(container(nginx=None), image=generic_image(RED, leaving))
    assert since(world, "exited") == [pytest.approx(T["signal_delivery"] + 2.5)]


HEARD_S = 0.04
"""From the signal to the server that acts on it."""


@pytest.mark.parametrize("at_once", [True, False])
def test_a_server_of_one_process_reads_nothing_while_it_waits_for_its_core(at_once):
    """It is deaf from the signal on, hears of it, and only then does what its behaviour says."""
    drains = StopBehaviour(
        listener=OnListener.CLOSE, idle=OnIdle.CLOSE, busy=OnBusy.FINISH, exit=ExitWhen.DRAINED
    )
    d = deployment(container(nginx=None), replicas=1, strategy=Recreate())
    images = {RED: generic_image(RED, None if at_once else drains), BLUE: nginx_image(BLUE)}
    updates = [(1.0, updated(d, image=BLUE))]
    world = SmallWorld(
        scenario(d, images=images, updates=updates), timing=constant_timing(**T, signal_heard=HEARD_S)
    )
    world.run(30)
    [signal_s], [deaf_s] = world.times("stop_signal", "red"), world.times("deaf", "red")
    assert deaf_s == signal_s
    assert world.times("draining", "red") == ([] if at_once else [pytest.approx(signal_s + HEARD_S)])
    ends_s = T["fast_stop"] if at_once else T["graceful_exit"]
    assert world.times("exited", "red") == [pytest.approx(signal_s + HEARD_S + ends_s)]


@pytest.mark.parametrize("wait_s", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("wakes", [True, False])
def test_a_worker_of_nginx_serves_on_while_its_master_waits(wait_s, wakes):
    """Two processes: the worker stops to read when it waits for its core with the master's word before it.

    That word wakes it, or comes while it waits; it never waits since before the signal.
    """
    d = deployment(replicas=1, strategy=Recreate())
    timing = constant_timing(**T, signal_heard=HEARD_S, core_wait=wait_s, p_word_wakes=float(wakes))
    world = SmallWorld(scenario(d, updates=[(1.0, updated(d))]), timing=timing).run(0.9)
    [server] = [each for pod in world.world.pods.values() for each in pod.servers.values()]
    word_s: list[float | None] = []
    world.watch(0.0005, lambda: word_s.append(server.word_s))
    world.run(30)
    [signal_s] = world.times("stop_signal", "red")
    deaf_s = min(wait_s, HEARD_S)
    assert world.times("deaf", "red") == [pytest.approx(signal_s + HEARD_S - deaf_s)]
    assert world.times("exited", "red") == [pytest.approx(signal_s + HEARD_S + FAST_STOP_S)]
    written_s = {each for each in word_s if each is not None}
    if deaf_s == 0:
        assert not written_s
    elif wakes:
        assert list(written_s) == [pytest.approx(signal_s + HEARD_S - deaf_s)]
    else:
        assert all(signal_s + HEARD_S - deaf_s < each < signal_s + HEARD_S for each in written_s)
        assert len(written_s) == 1


# ---------------------------------------------------------------- several containers


def test_containers_stop_together_and_the_address_goes_with_the_last():
    """One is gone at once, the other sleeps 6 s: the first refuses meanwhile, then both are silent."""
    quick, slow = container("quick"), container("slow", pre_stop=Hook(kind=SLEEP, duration_s=6.0))
    world = end(quick, slow)
    stop_s = T["signal_delivery"] + FAST_STOP_S
    assert since(world, "exited") == [pytest.approx(stop_s), pytest.approx(6.0 + stop_s)]
    gone_s = 6.0 + stop_s + T["exit_to_netns_gone"]
    assert since(world, "vanished") == [pytest.approx(gone_s)] * 2


# ---------------------------------------------------------------- while terminating

FILE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/ok", file="/www/ok", period_s=2, failure_threshold=3)


def test_readiness_goes_on_through_pre_stop():
    """The hook removes the probe's file: three ticks later the pod is not ready, and `serving` ends."""
    hook = Hook(kind=EXEC, duration_s=20.0, removes=((0.0, "/www/ok"),))
    world = end(container(readiness=FILE, pre_stop=hook))
    [not_ready_s] = [at_s for at_s in since(world, "not_ready") if at_s < 20]
    report_s = T["probe_round"] + T["status_patch"]
    assert T["exec_hook"] + 4.0 < not_ready_s - report_s <= T["exec_hook"] + 6.0
    serving = [
        (at_s, e.serving, e.terminating)
        for at_s, view in world.written
        if isinstance(view, EndpointSliceView)
        for e in view.endpoints
        if e.pod == world.old.name
    ]
    assert [(s, t) for _, s, t in serving] == [(True, True), (False, True)]


def test_without_a_removed_file_a_terminating_pod_keeps_serving():
    """Deletion does not clear Ready."""
    world = end(container(readiness=FILE, pre_stop=Hook(kind=SLEEP, duration_s=20.0)))
    assert min(since(world, "not_ready")) > 20


def test_liveness_stops_with_the_deletion():
    """A liveness probe that asks for the removed file restarts nothing."""
    hook = Hook(kind=EXEC, duration_s=20.0, removes=((0.0, "/www/ok"),))
    world = end(container(liveness=replace(FILE, failure_threshold=1), pre_stop=hook))
    assert world.times("restarted") == []


# ---------------------------------------------------------------- the relist before

NEVER = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=60, initial_delay_s=1000)


def test_a_pod_synced_within_the_last_second_waits_for_a_relist():
    """Synced and deleted at once: the kubelet starts to kill it only after a relist newer than that sync."""
    d = deployment(replicas=1)
    hung = replace(d, template=replace(d.template, revision="hung", containers=(container(readiness=NEVER),)))
    waits = []
    for seed in range(12):
        world = SmallWorld(
            scenario(d, updates=[(1.0, hung), (1.2 + seed / 8, d)]),
            timing=constant_timing(**T, sandbox=0.1),
            seed=seed,
        ).run(60)
        [pod] = world.pods("hung")
        wait_s = world.times("stop_signal", pod.name)[0] - world.times("deleted", pod.name)[0]
        waits.append(wait_s - KILLING - T["signal_delivery"])
    assert min(waits) > -1e-6
    assert 0.5 < max(waits) < 1.02 + T["kubelet_reaction"]
