"""Numbers that can be written down beforehand: windows, shares and rates, without a control plane."""

from dataclasses import replace
from math import exp

import pytest
from assertions import assert_mean, assert_poisson
from tiny import PLAIN, ROUND_TRIP_S, TIMING, Tiny, causes, seen

from sim.scenario.distributions import Constant, Exponential
from sim.scenario.model import ClosedLoop, OpenLoop
from sim.world import ServerPhase

RATE = 1e-6 / 4
"""False alarms of this file: one in a million."""


@pytest.mark.parametrize("stepwise", [False, True])
def test_stale_endpoint_refusals(stepwise, streams):
    """One of four endpoints is gone, its rule stays: new connects fail as Poisson(rate · share · window)."""
    rate_per_s, window_s = (400.0, 6.0) if stepwise else (2000.0, 20.0)
    load = replace(
        PLAIN, arrivals=OpenLoop(rate_per_s=rate_per_s, poisson=True), connections=200, keep_alive=False,
        duration_s=window_s + 2.0,
    )  # fmt: skip
    tiny = Tiny(load, pods=4, stepwise=stepwise, seed=streams.seed)
    tiny.at(1.0, tiny.server(tiny.pods[0]).move, ServerPhase.EXITED)
    tiny.at(1.0 + window_s, tiny.route, tiny.pods[1:])
    tally = tiny.run()
    mean = rate_per_s / 4 * window_s
    assert_poisson(seen(tally)["refused"], mean, false_alarm=RATE, notices=12 / mean**0.5)


def test_stale_endpoint_refusals_of_a_closed_loop(streams):
    """A closed loop's rate follows from its cycles: a refused one is shorter by the answer."""
    think_s, n, window_s, runs = 0.02, 50, 2.0, 50
    load = replace(
        PLAIN, arrivals=ClosedLoop(think_time=Exponential(scale_s=think_s)), connections=n, keep_alive=False,
        duration_s=4.0,
    )  # fmt: skip
    failed = []
    for replication in range(runs):
        tiny = Tiny(load, pods=4, seed=streams.seed, replication=replication)
        tiny.at(1.0, tiny.server(tiny.pods[0]).move, ServerPhase.EXITED)
        tiny.at(1.0 + window_s, tiny.route, tiny.pods[1:])
        failed.append(seen(tiny.run()).get("refused", 0))
    good_s, bad_s = think_s + 2 * ROUND_TRIP_S + 0.001, think_s + ROUND_TRIP_S
    expected = n * window_s * 0.25 / (0.75 * good_s + 0.25 * bad_s)
    assert_mean(failed, expected, false_alarm=RATE, notices=0.07 * expected)


def test_accept_queue_window(streams):
    """SIGQUIT resets what is in the accept queue: rate · half of the wait to be read, per stop."""
    wait_s, rate_per_s, runs = 0.02, 1000.0, 100
    load = replace(
        PLAIN, arrivals=OpenLoop(rate_per_s=rate_per_s, poisson=True), connections=200, keep_alive=False,
        duration_s=1.5,
    )  # fmt: skip
    timing = replace(TIMING, round_trip=Constant(value_s=wait_s))
    reset, other = [], 0
    for replication in range(runs):
        tiny = Tiny(load, pods=2, timing=timing, seed=streams.seed, replication=replication)
        tiny.route(tiny.pods[:1])
        tiny.at(1.0, tiny.route, tiny.pods[1:])
        tiny.at(1.0, lambda tiny=tiny: tiny.stop(tiny.pods[0], "SIGQUIT"))
        names = causes(tiny.run())
        reset.append(names.pop("accept_queue_reset", 0))
        other += sum(names.values())
    assert_mean(reset, rate_per_s * wait_s / 2, false_alarm=RATE, notices=4.0)
    assert other == 0  # what it has accepted it serves


def test_fast_stop_loses_what_arrives_while_it_is_deaf(streams):
    """From the last read to the closed sockets the kernel still accepts: rate · window resets, per stop.

    Of those before, half have been accepted by then (unseen).
    """
    window_s, rate_per_s, runs = 0.02, 1000.0, 100
    load = replace(
        PLAIN, arrivals=OpenLoop(rate_per_s=rate_per_s, poisson=True), connections=200, keep_alive=False,
        duration_s=1.5,
    )  # fmt: skip
    reset = []
    for replication in range(runs):
        tiny = Tiny(load, pods=2, seed=streams.seed, replication=replication)
        tiny.route(tiny.pods[:1])
        tiny.at(1.0 + window_s, tiny.route, tiny.pods[1:])
        tiny.at(1.0, lambda tiny=tiny: tiny.stop(tiny.pods[0], takes_s=window_s))
        names = causes(tiny.run())
        assert set(names) <= {"accept_queue_reset"}
        reset.append(names.get("accept_queue_reset", 0))
    assert_mean(reset, rate_per_s * (window_s + ROUND_TRIP_S / 2), false_alarm=RATE, notices=6.0)


@pytest.mark.parametrize("stepwise", [False, True])
def test_fast_stop_tells_those_it_reads_after_the_word(stepwise, streams):
    """A request that comes while the worker has yet to read its word is answered with a notice: it fails nothing.

    A kept connection writes at rate 1 / cycle, and once at most before its answer.
    """
    think_s, word_s, n, runs = 0.02, 0.01, 20, 400
    load = replace(
        PLAIN, connections=n, arrivals=ClosedLoop(think_time=Exponential(scale_s=think_s)), duration_s=0.8
    )
    failed = []
    for replication in range(runs):
        tiny = Tiny(load, pods=2, seed=streams.seed, replication=replication, stepwise=stepwise)
        tiny.route(tiny.pods[:1])
        tiny.at(0.5, tiny.route, tiny.pods[1:])
        tiny.at(0.6, lambda tiny=tiny: tiny.stop(tiny.pods[0], "SIGTERM", word_s=word_s))
        failed.append(tiny.run().n_failed)
    p_idle = think_s / (think_s + ROUND_TRIP_S + 0.001)
    p_told = p_idle * (1 - exp(-word_s / think_s))
    assert_mean(failed, n * (1 - p_told), false_alarm=RATE, notices=1.3)


def test_proxy_connect_wait_is_at_most_a_connection_each(streams):
    """Each client connection can hang once on a vanished pod, until the dead ports come round (old_ports.py)."""
    for replication in range(5):
        tiny = Tiny(
            replace(PLAIN, duration_s=8.0, answer_timeout_s=4.0), pods=3, haproxy="option http-server-close",
            seed=streams.seed, replication=replication,
        )  # fmt: skip
        tiny.at(2.0, lambda tiny=tiny: tiny.stop(tiny.pods[0], gone_s=0.01))
        tiny.at(3.0, tiny.route, tiny.pods[1:])
        assert causes(tiny.run()).get("proxy_connect_wait", 0) <= 20
