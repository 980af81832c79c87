"""The renewal process of a steady connection: counts and phases against cycles stepped through one by one."""

import math

import numpy as np
import pytest
from assertions import assert_binomial, assert_mean, assert_same_distribution, assert_same_mean
from seeds import seed_of

from sim.scenario.distributions import Constant, Exponential, LogNormal, Uniform
from sim.traffic.links import Stage
from sim.traffic.pace import EXACT_CYCLES, Pace, Route, Segment, saturated

FAST = Route(
    0.7,
    (
        Segment(Stage.IDLE, False, Exponential(scale_s=0.02)),
        Segment(Stage.SENT, False, LogNormal(median_s=0.001, p95_s=0.003)),
        Segment(Stage.IN_SERVICE, False, Uniform(min_s=0.001, max_s=0.009)),
    ),
    "fast",
)
SLOW = Route(
    0.3,
    (
        Segment(Stage.IDLE, False, Exponential(scale_s=0.02)),
        Segment(Stage.IN_SERVICE, False, Constant(value_s=0.05)),
    ),
    "slow",
)
MIXED = Pace([FAST, SLOW])
STEADY = Pace([Route(1.0, (Segment(Stage.IN_SERVICE, False, Constant(value_s=0.01)),))])
RATE = 1e-6 / 20
"""False alarms of this file: one in a million."""


def walked(pace, elapsed_s, rng):
    """Cycle by cycle, whatever the time."""
    n = 0
    while True:
        moment, elapsed_s = pace._walk(pace._route(rng), elapsed_s, n, rng)
        if moment is not None:
            return moment
        n += 1


def test_mean_and_variance_of_a_cycle(streams):
    """Known from the distributions, routes mixed by their shares."""
    rng = streams.take("cycles")
    cycles = np.array([MIXED.cycle_s(rng) for _ in range(20_000)])
    assert_mean(cycles, MIXED.mean_s, false_alarm=RATE, notices=0.06 * MIXED.mean_s)
    squares = (cycles - MIXED.mean_s) ** 2
    assert_mean(squares, MIXED.variance_s2, false_alarm=RATE, notices=0.25 * MIXED.variance_s2)


@pytest.mark.parametrize("n_cycles", [EXACT_CYCLES + 2, 300])
def test_counts_beyond_the_exact_ones(n_cycles, streams):
    """The renewal theorem's count has the mean (to a twentieth of a request) and the spread of stepping."""
    rng = streams.take("counts")
    elapsed_s = n_cycles * MIXED.mean_s
    drawn = [MIXED.after(elapsed_s, rng).n_done for _ in range(6000)]
    stepped = [walked(MIXED, elapsed_s, rng).n_done for _ in range(1500)]
    spread = math.sqrt(elapsed_s * MIXED.variance_s2 / MIXED.mean_s**3)
    assert_same_mean(drawn, stepped, false_alarm=RATE, notices=0.4 * spread)
    assert_same_distribution(drawn, stepped, false_alarm=RATE, notices=0.25)


def test_a_constant_cycle_is_counted_exactly(streams):
    """Without spread the count is the whole number of cycles, to one half cycle at the edges."""
    rng = streams.take("counts")
    counts = {STEADY.after(10.004, rng).n_done for _ in range(50)}
    assert counts == {1000}


@pytest.mark.parametrize("elapsed", [3.3, 200.0])
def test_phase_is_stationary(elapsed, streams):
    """A change meets each segment in proportion to the time spent in it, on each route by its share."""
    rng = streams.take("phases")
    moments = [MIXED.after(elapsed * MIXED.mean_s, rng) for _ in range(6000)]
    if elapsed < EXACT_CYCLES:  # a phase is stationary only after some cycles: compare with stepping
        stepped = [walked(MIXED, elapsed * MIXED.mean_s, rng) for _ in range(6000)]
        assert_same_mean(
            [m.route is SLOW for m in moments], [m.route is SLOW for m in stepped],
            false_alarm=RATE, notices=0.12,
        )  # fmt: skip
        return
    for route in (FAST, SLOW):
        for segment in route.segments:
            share = route.share * segment.duration.mean_s / MIXED.mean_s
            hits = sum(m.route is route and m.segment is segment for m in moments)
            assert_binomial(hits, len(moments), share, false_alarm=RATE, notices=0.08)


def test_remaining_time_of_the_segment_met(streams):
    """What is left of a constant segment is uniform; of an exponential one exponential."""
    rng = streams.take("residuals")
    moments = [MIXED.after(100 * MIXED.mean_s, rng) for _ in range(20_000)]
    left = [m.remaining_s for m in moments if m.route is SLOW and m.segment.stage is Stage.IN_SERVICE]
    assert_mean(left, 0.025, false_alarm=RATE, notices=0.002)
    pauses = [m.remaining_s for m in moments if m.segment.stage is Stage.IDLE]
    assert_mean(pauses, 0.02, false_alarm=RATE, notices=0.003)


def test_one_cycle_of_an_open_loop(streams):
    """`once` follows one cycle and says when it is over."""
    rng = streams.take("once")
    assert STEADY.once(0.011, rng) == (None, pytest.approx(0.001))
    moment, _ = STEADY.once(0.004, rng)
    assert moment is not None
    assert moment.remaining_s == pytest.approx(0.006)
    assert moment.elapsed_s == pytest.approx(0.004)


def test_time_of_many_cycles(streams):
    """The time of n cycles has the mean n·m and the variance n·v, stepped through or drawn."""
    rng = streams.take("times")
    for n in (EXACT_CYCLES, EXACT_CYCLES + 1):
        times = [MIXED.cycles_s(n, rng) for _ in range(4000)]
        assert_mean(times, n * MIXED.mean_s, false_alarm=RATE, notices=0.1 * n * MIXED.mean_s)


def test_no_time_at_all_is_refused():
    """A cycle without any duration would never end."""
    with pytest.raises(ValueError, match="no time"):
        Pace([Route(1.0, (Segment(Stage.SENT, False, Constant(value_s=0.0)),))])


@pytest.mark.parametrize("connections", [1, 2, 10, 500])
@pytest.mark.parametrize("cores", [1, 2, 8])
def test_saturated_cycle_keeps_the_bounds(connections, cores):
    """A closed network's cycle is at least the work and its delay, and at least the queue at the bottleneck."""
    client_s, server_s, delay_s = 14e-6, 10e-6, 1e-4
    cycle_s, at_client_s, at_servers_s = saturated(
        connections=connections,
        cores=cores,
        client_cpu_s=client_s,
        server_cpu_s=[(server_s, 3)],
        delay_s=delay_s,
    )
    assert cycle_s >= client_s + server_s + delay_s - 1e-12
    throughput = connections / cycle_s
    assert throughput <= 1 / client_s * (1 + 1e-9)  # one thread
    assert throughput <= cores / (client_s + server_s) * (1 + 1e-9)  # shared cores
    assert throughput <= 3 / server_s * (1 + 1e-9)  # three servers
    assert at_client_s + at_servers_s + delay_s == pytest.approx(cycle_s)
    assert at_client_s / at_servers_s == pytest.approx(client_s / server_s)


def test_rare_long_cycles_are_drawn_one_by_one():
    """1 cycle in 400 takes a second: in half a second most connections have met none, and none is counted for it."""
    quick = Segment(Stage.SENT, False, Exponential(scale_s=0.001))
    wait = Segment(Stage.CONNECTING, False, Constant(value_s=1.0))
    pace = Pace([Route(399 / 400, (quick,)), Route(1 / 400, (wait, quick))])
    rng = np.random.default_rng(seed_of("rare"))
    moments = [pace.after(0.5, rng) for _ in range(4000)]
    # before its first long cycle a connection does 1000 a second: the time to it is exponential with mean 0.4 s
    expected = 1000 * 0.4 * (1 - math.exp(-0.5 / 0.4))
    n_done = np.array([m.n_done for m in moments])
    assert abs(n_done.mean() - expected) < 5 * n_done.std() / 4000**0.5 + 1
    waits = np.mean([m.segment is wait for m in moments])
    assert abs(waits - (1 - math.exp(-0.5 / 0.4))) < 5 * (0.25 / 4000) ** 0.5
    took = np.array([pace.cycles_s(400, rng) for _ in range(2000)])
    assert abs(took.mean() - 400 * pace.mean_s) < 5 * took.std() / 2000**0.5


def test_a_client_that_others_wait_with():
    """The machine repair model at its ends: alone it waits for nobody, many keep the slowest station busy."""
    alone, *_ = saturated(connections=1, cores=2, client_cpu_s=0.1, server_cpu_s=[(0.2, 1)], delay_s=0.5)
    assert alone == pytest.approx(0.8)
    many, at_client_s, at_servers_s = saturated(
        connections=200, cores=2, client_cpu_s=0.1, server_cpu_s=[(0.2, 1)], delay_s=0.5
    )
    assert many == pytest.approx(200 * 0.2)
    assert at_client_s + at_servers_s == pytest.approx(many - 0.5)
    between = [
        saturated(connections=n, cores=2, client_cpu_s=0.1, server_cpu_s=[(0.2, 1)], delay_s=0.5)[0]
        for n in (3, 3.5, 4)
    ]
    assert between == sorted(between)
    assert 3 / between[0] < min(3 / 0.8, 1 / 0.2)
