"""What holds for every rollout, whatever the scenario: outcomes, causes, seeds, availability."""

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import strategies
from builders import (
    BLUE,
    RED,
    constant_timing,
    container,
    deployment,
    generic_image,
    load_of,
    nginx_image,
    scenario,
    shipped_timing,
    updated,
)
from cluster.small_world import SmallWorld
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from sim.cluster.api import PodStage, PodView, ReplicaSetView
from sim.outcomes import STEADY_STATE, Cause, Seen
from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop, ExitWhen, OpenLoop, Recreate, RollingUpdate
from sim.simulate import simulate

TIMING = shipped_timing()
SEEDS = st.integers(0, 2**32 - 1)


def of_the_night(test):
    """Of the long form, which takes hours on a small machine."""
    return pytest.mark.nightly(pytest.mark.timeout(8 * 3600)(test))


def rows(result):
    """Everything that a result is made of, comparable."""
    tally = result.tally
    return (
        tally.n_ok,
        tally.n_open,
        tally.n_retried,
        tally.failures,
        tally.bursts,
        dict(tally.n_by_length),
        result.marks,
        result.load_ended_s,
        result.rollout_s,
        result.last_old_pod_gone_s,
    )


# ---------------------------------------------------------------- requests


def check_fates(s, seed):
    """Counts agree however they are summed; every failure has a cause, a time within the load, a connection of it.

    Nor does time run backwards: marks are in order, a rollout takes time, old pods go after the update.
    """
    result = simulate(s, seed=seed, timing=TIMING)
    tally, load = result.tally, s.load
    assert result.n_requests == tally.n_ok + result.n_failed
    assert sum(result.causes.values()) == sum(result.seen.values()) == result.n_failed == len(result.failures)
    assert min(tally.n_ok, tally.n_open, tally.n_retried) >= 0
    assert sum(tally.n_by_length.values()) in (0, tally.n_ok)
    if isinstance(load.arrivals, ClosedLoop):
        assert tally.n_open <= load.connections
    for failure in tally.failures:
        assert isinstance(failure.cause, Cause)
        assert isinstance(failure.seen, Seen)
        assert 0 <= failure.at_s <= result.load_ended_s
        assert failure.connection >= 0
        if isinstance(load.arrivals, ClosedLoop):  # an open loop opens more when all are in use
            assert failure.connection < load.connections
        assert failure.pod is None or failure.pod.startswith(("app-", "proxy-"))
    for burst in tally.bursts:
        assert 0 <= burst.from_s <= burst.to_s <= result.load_ended_s
        assert burst.n > 0
    times = [mark.at_s for mark in result.marks]
    assert times == sorted(times)
    assert times[0] >= 0
    assert result.rollout_s is None or result.rollout_s > 0
    assert result.last_old_pod_gone_s in (None, 0.0) or result.last_old_pod_gone_s > strategies.UPDATE_S


@settings(max_examples=300)
@given(strategies.scenarios(), SEEDS)
def test_every_request_has_one_fate_with_a_cause(s, seed):
    """In every rollout: see the check."""
    check_fates(s, seed)


@of_the_night
@settings(max_examples=10_000)
@given(strategies.scenarios(), SEEDS)
def test_every_request_of_ten_thousand_rollouts_has_one_fate(s, seed):
    """The long form."""
    check_fates(s, seed)


@settings(max_examples=40)
@given(strategies.scenarios(), SEEDS)
def test_without_an_update_only_the_steady_state_fails(s, seed):
    """Nothing changes, so nothing that a rollout causes can happen; and no pod comes or goes."""
    result = simulate(s, seed=seed, timing=TIMING, update=False)
    causes = {Cause(name) for name in result.causes}
    assert causes <= STEADY_STATE | {Cause.PROXY_SERVER_TIMEOUT}
    assert not [mark for mark in result.marks if mark.what in ("created", "deleted", "stop_signal")]
    assert result.rollout_s is None


@settings(max_examples=25)
@given(
    strategies.scenarios(),
    st.sampled_from([10.0, 50.0]),
    st.booleans(),
    SEEDS,
)
def test_an_open_loop_starts_what_it_should(s, rate, keep_alive, seed):
    """Rate × time requests, none lost between the fates: exact to one for each change of the calm."""
    load = replace(
        s.load,
        client="plain",
        options={},
        arrivals=OpenLoop(rate_per_s=rate),
        connections=400,
        keep_alive=keep_alive,
        retries=0,
    )
    result = simulate(replace(s, load=load), seed=seed, timing=TIMING, stepwise=True)
    started = result.n_requests + result.tally.n_open
    assert started == pytest.approx(rate * load.duration_s, abs=1)


def test_a_client_that_has_ended_itself_sees_nothing_more():
    """ab without -r exits at the first reset: what hits its other connections a moment later is no failure of it."""
    d = deployment(replicas=1, strategy=Recreate(), grace_s=0)
    load = load_of(client="ab", arrivals=ClosedLoop(), connections=6, keep_alive=False, duration_s=3.0)
    for seed in range(40):
        result = simulate(scenario(d, updates=[(1.0, updated(d))], load=load), seed=seed, timing=TIMING)
        failures = result.tally.failures
        assert [f.at_s for f in failures if f.seen in (Seen.RESET, Seen.REFUSED)] == [result.load_ended_s]
        assert all(f.at_s <= result.load_ended_s for f in failures)


def test_an_open_loop_meets_a_service_that_loses_all_its_pods():
    """A request under way when the rules become empty is on a pod of before, with a connection for each request."""
    d = deployment(replicas=2, strategy=Recreate(), grace_s=0)
    slow = {ref: nginx_image(ref, startup_s=1.5, stream_time=Constant(value_s=0.39)) for ref in (RED, BLUE)}
    load = load_of(arrivals=OpenLoop(rate_per_s=4.0), connections=20, keep_alive=False, duration_s=3.0)
    s = scenario(d, images=slow, updates=[(1.0, updated(d, image=BLUE))], load=load)
    for seed in range(40):
        result = simulate(s, seed=seed, timing=TIMING)
        assert result.n_requests + result.tally.n_open == pytest.approx(11.5, abs=1.5)


# ---------------------------------------------------------------- seeds


@settings(max_examples=20)
@given(strategies.scenarios(), SEEDS, st.integers(0, 3))
def test_the_same_seed_gives_the_same_rows(s, seed, replication):
    """Twice in one process, whatever was simulated in between."""
    first = rows(simulate(s, seed=seed, replication=replication, timing=TIMING))
    simulate(s, seed=seed + 1, timing=TIMING)
    assert rows(simulate(s, seed=seed, replication=replication, timing=TIMING)) == first


STAGES = ("2-keepalive", "3-proxy", "4-proxy-rollout")
CODE = """
import hashlib, sys
from sim.scenario import load_one
from sim.simulate import simulate
for name in sys.argv[1:]:
    result = simulate(load_one(name), seed=5, replication=2)
    text = result.failures.to_csv() + result.timeline.to_csv() + result.summary.to_csv()
    print(hashlib.sha256(text.encode()).hexdigest())
"""
RANDOM = """
import sys
from test_simulate_invariants import print_digests
print_digests(int(sys.argv[1]))
"""


def print_digests(n):
    """A line for each of *n* random scenarios that are the same in every process: a hash of all its rows."""

    @settings(max_examples=n, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    @given(strategies.scenarios(), SEEDS)
    def each(s, seed):
        found = repr(rows(simulate(s, seed=seed, timing=TIMING)))
        print(hashlib.sha256(found.encode()).hexdigest())

    each()


def printed_with(hash_seed, code, *arguments):
    """What a process of its own prints, with that seed of Python's hashes."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parent,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


def test_another_process_gives_the_same_rows():
    """Neither the process nor Python's hash seed decides anything."""
    folder = Path(__file__).parent.parent / "configs" / "tutorial"
    stages = [folder / f"{stage}.yaml" for stage in STAGES]
    first, second = (printed_with(seed, CODE, *stages) for seed in ("1", "2"))
    assert first == second
    assert len(set(first)) == len(STAGES)


@pytest.mark.parametrize("n", [30, pytest.param(1000, marks=pytest.mark.nightly)])
def test_another_process_gives_the_same_rows_of_random_scenarios(n):
    """Bit for bit, in the very order: what a set or a dict of strings decided would differ."""
    first, second = (printed_with(seed, RANDOM, n) for seed in ("1", "2"))
    assert first == second
    assert len(set(first)) > n / 2


def test_another_seed_gives_other_rows(tutorial):
    """The seed does decide: not one run like the other."""
    s = tutorial("0-naive")
    digests = {hashlib.sha256(repr(rows(simulate(s, seed=seed))).encode()).hexdigest() for seed in range(3)}
    assert len(digests) == 3


# ---------------------------------------------------------------- the cluster's promises

HEALTHY = strategies.apps(
    image=generic_image(RED, startup_s=0.4),
    strategy=st.builds(RollingUpdate, max_surge=st.integers(0, 3), max_unavailable=st.integers(0, 3)).filter(
        lambda rolling: rolling.max_surge + rolling.max_unavailable > 0
    ),
)
STEADY = constant_timing(
    api_write=0.010, watch_hop=0.002, controller_sync=0.003, status_patch=0.015, sandbox=0.2, proxy_sync=0.05
)


def available(pod, min_ready_s, now_s):
    return pod.active and pod.ready and (min_ready_s == 0 or pod.ready_since_s + min_ready_s <= now_s)


def history(world, pods, sets, min_ready_s):
    """After each write: (pods that do not terminate, those available, spec.replicas of all sets)."""
    for at_s, view in world.written:
        if isinstance(view, PodView):
            pods[view.name] = view
        elif isinstance(view, ReplicaSetView):
            sets[view.name] = view
        yield (
            sum(pod.active for pod in pods.values()),
            sum(available(pod, min_ready_s, at_s) for pod in pods.values()),
            sum(each.replicas for each in sets.values()),
        )


def check_promises(app, seed, nodes, latencies):
    """Never fewer available than replicas − unavailable; never more wanted than replicas + surge.

    With steady latencies the pods that do not terminate keep to that too; else a creation may overtake the
    deletion that made room for it, for two ReplicaSets are reconciled side by side.
    """
    d, image = app
    world = SmallWorld(
        scenario(d, images={RED: image}, updates=[(1.0, updated(d))], nodes=nodes),
        timing=STEADY if latencies == "steady" else TIMING,
        seed=seed,
    )
    pods, sets = dict(world.api.pods), dict(world.api.replica_sets)
    world.run(90.0)
    ceiling = d.replicas + d.strategy.max_surge
    floor = d.replicas - min(d.strategy.max_unavailable, d.replicas)
    for n_pods, n_available, n_wanted in history(world, pods, sets, d.min_ready_s):
        assert n_available >= floor
        assert n_wanted <= ceiling
        assert n_pods <= ceiling or latencies == "shipped"
    live = [view for view in pods.values() if view.active]
    assert [world.world.pods[view.name].template.revision for view in live] == ["blue"] * d.replicas
    assert world.plane.deployments["app"].rollout_complete_s is not None
    assert all(view.stage is PodStage.REMOVED for view in pods.values() if view.deleted)


UPDATES = (HEALTHY, SEEDS, st.sampled_from([1, 3]), st.sampled_from(["shipped", "steady"]))


@settings(max_examples=60)
@given(*UPDATES)
def test_a_rolling_update_keeps_its_promises(app, seed, nodes, latencies):
    """Whatever the update: see the check."""
    check_promises(app, seed, nodes, latencies)


@of_the_night
@settings(max_examples=10_000)
@given(*UPDATES)
def test_ten_thousand_rolling_updates_keep_their_promises(app, seed, nodes, latencies):
    """The long form."""
    check_promises(app, seed, nodes, latencies)


@settings(max_examples=40)
@given(
    strategies.apps(),
    SEEDS,
    st.lists(st.tuples(strategies.seconds(1, 12), st.sampled_from("abc")), max_size=4),
)
def test_any_sequence_of_updates_settles(app, seed, steps):
    """Updates in the middle of updates, rollbacks, other sizes: at the end exactly what was asked last."""
    d, image = app
    wanted = d
    updates = []
    for n, (at_s, revision) in enumerate(sorted(steps)):
        wanted = updated(d, revision=revision, replicas=1 + (d.replicas + n) % 4)
        updates.append((at_s, wanted))
    world = SmallWorld(scenario(d, images={RED: image}, updates=updates), timing=TIMING, seed=seed).run(240.0)
    live = [world.world.pods[p.name] for p in world.api.pods.values() if p.active]
    assert [pod.template.revision for pod in live] == [wanted.template.revision] * wanted.replicas
    sets = world.api.replica_sets.values()
    assert all(isinstance(s, ReplicaSetView) and s.current == s.replicas for s in sets)
    assert len({s.revision for s in sets}) == len(sets)


@settings(max_examples=60)
@given(
    strategies.stop_behaviours(),
    st.none() | strategies.hooks(3, signals=("SIGTERM",)),
    st.integers(0, 6),
    st.integers(0, 20),
    st.integers(0, 2),
)
def test_a_longer_grace_never_kills_earlier(behaviour, hook, grace_s, more_s, n_open):
    """The end of the container with a longer grace is not before its end with a shorter one."""
    ends = []
    for grace in (grace_s, grace_s + more_s):
        d = deployment(container(nginx=None, pre_stop=hook), replicas=1, grace_s=grace)
        timing = constant_timing(sandbox=0.2, signal_delivery=0.01, exec_hook=0.05, sigkill=0.001)
        images = {RED: generic_image(RED, behaviour)}
        world = SmallWorld(scenario(d, images=images, updates=[(1.0, updated(d))]), timing=timing)
        [old] = world.pods("red")
        for _ in range(n_open):
            world.server(old).attach(object())
        world.run(60.0)
        [exited_s] = world.times("exited", old.name)
        ends.append(exited_s - world.times("deleted", old.name)[0])
        killed = bool(world.times("sigkill", old.name))
        assert killed or behaviour.exit is not ExitWhen.NEVER or (hook and hook.signals)
    assert ends[1] >= ends[0] - 1e-9


# ---------------------------------------------------------------- size


def test_many_replicas_are_feasible():
    """300 pods roll in the time of a test: no step costs all pods for each pod."""
    d = deployment(replicas=300, strategy=RollingUpdate(max_surge=75, max_unavailable=75))
    s = scenario(
        d, updates=[(1.0, updated(d))], load=load_of(think_s=0.5, connections=4, duration_s=5.0), nodes=5
    )
    result = simulate(s, seed=1, timing=TIMING)
    assert result.rollout_s is not None
    created = [mark for mark in result.marks if mark.what == "created"]
    assert len(created) == 300
