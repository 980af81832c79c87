"""The renewal process of a steady connection: counts and phases against cycles stepped through one by one."""

import math

import numpy as np
import pytest
from assertions import assert_binomial, assert_mean, assert_same_distribution, assert_same_mean

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
