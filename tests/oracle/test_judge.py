"""The judge itself: what holds for the traffic by closed form holds for it, by the very same tests.

A judge that shared the accused's mistakes would be no judge; what these tests demand comes from sources and tries.
"""

import sys
from pathlib import Path

import numpy as np
import pytest
from builders import shipped_timing
from oracle.clock import NEVER, Clock
from oracle.draws import draws
from oracle.judge import Judge
from oracle.scenarios import slowed, stage

from sim.scenario.distributions import Constant, Empirical, Exponential, LogNormal, Uniform
from sim.simulate import simulate

sys.path.insert(0, str(Path(__file__).parents[1] / "traffic"))

import test_closed_forms
import test_direct
import test_haproxy
import test_nginx_keepalive
import test_old_ports
import test_vanished
import tiny

_OF_THE_TRAFFIC_ALONE = {
    "test_fin_crosses_the_request",  # looks into a connection between two changes: the judge is not there yet
    "test_keepalive_time_closes_with_notice",  # takes the world's clock for the connection's
    "test_worker_shutdown_timeout",  # its bounds are those of one seed
    "test_stale_endpoint_refusals_of_a_closed_loop",  # its number of runs is that of one seed
}
for _module in (
    test_closed_forms,
    test_direct,
    test_haproxy,
    test_nginx_keepalive,
    test_old_ports,
    test_vanished,
):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and callable(_test) and _name not in _OF_THE_TRAFFIC_ALONE:
            globals()[_name] = _test


@pytest.fixture(autouse=True)
def _judge_in_its_place(monkeypatch):
    monkeypatch.setattr(tiny, "Traffic", Judge)


@pytest.fixture
def stepwise():
    """There is no other way here."""
    return True


# ---------------------------------------------------------------- its parts


def test_steps_come_in_order_and_a_wake_replaces_the_wait():
    """Tasks run by their times, however they were started; one that is woken does not wake twice."""
    clock, seen = Clock(), []

    def task(name, *at):
        for at_s in at:
            woken = yield at_s
            seen.append((clock.now_s, name, woken))

    clock.start(task("a", 3.0, 5.0))
    slow = clock.start(task("b", 4.0, NEVER))
    clock.start(task("c", 1.0))
    clock.advance(2.0)
    clock.poke(slow)
    clock.advance(10.0)
    assert seen == [(1.0, "c", None), (2.0, "b", True), (3.0, "a", None), (5.0, "a", None)]
    assert clock.now_s == 10.0
    assert clock.next_s == NEVER


@pytest.mark.parametrize(
    "duration",
    [
        Constant(value_s=2.0),
        Uniform(min_s=1.0, max_s=3.0),
        Exponential(scale_s=2.0),
        LogNormal(median_s=1.0, p95_s=3.0),
        Empirical(quantiles_s=(0.0, 1.0, 5.0)),
    ],
    ids=lambda duration: type(duration).__name__,
)
def test_blocks_have_the_mean_of_single_draws(duration, streams):
    """100,000 draws: five standard errors, so one false alarm in a million."""
    draw = draws(duration, streams.take("draws"))
    sample = np.array([draw() for _ in range(100_000)])
    assert abs(sample.mean() - duration.mean_s) <= 5 * sample.std() / 100_000**0.5
    assert sample.min() >= 0


def test_a_drain_ends_with_its_last_connection():
    """Kept connections that finish what they have: nginx exits one graceful exit after the last, not when asked."""
    image = test_direct.replace(test_direct.APP, stream_time=Constant(value_s=1.0))
    t = tiny.Tiny(image=image, pods=2, load=test_direct.one(think_s=0.5))
    t.route(t.pods[:1])
    t.at(15.0, t.route, t.pods[1:])
    t.at(15.0, lambda: t.stop(t.pods[0], "SIGQUIT"))
    t.run()
    last = t.when(t.pods[0], "exited")
    assert 15.0 <= last <= 16.01
    assert not t.attached()


@pytest.mark.parametrize("name", ["0-naive", "2-keepalive", "4-proxy-rollout"])
def test_the_same_seed_gives_the_same_rows(name):
    """Twice the same failures, and as many requests."""
    runs = [simulate(stage(name), seed=3, timing=slowed(50.0), layer=Judge) for _ in range(2)]
    assert runs[0].tally.failures == runs[1].tally.failures
    assert runs[0].n_requests == runs[1].n_requests > 0


def test_a_load_of_n_requests_ends_with_the_nth():
    """No more, no less; the end is known at its own time."""
    scenario = stage("2-keepalive", "load.duration=null", "load.requests=1000")
    result = simulate(scenario, seed=1, timing=shipped_timing(), layer=Judge)
    assert result.n_requests == 1000
    assert 0 < result.load_ended_s < 0.2
