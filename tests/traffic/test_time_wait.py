"""A client that opens a connection for every request is held up by its own old ones."""

from dataclasses import replace

import pytest
from tiny import PLAIN, TIMING, Tiny

from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop
from sim.traffic.old_ports import CONNECTS_A_ROUND, EPHEMERAL_PORTS, P_TAKEN, PARITY
from sim.traffic.time_wait import MASQUERADED_PORTS

AB = replace(PLAIN, client="ab", options={"r": True}, arrivals=ClosedLoop(), connections=10, keep_alive=False)
OFF = replace(TIMING, p_time_wait_refuses=0.0)


def played(until_s: float, *, load=AB, **world) -> Tiny:
    tiny = Tiny(replace(load, duration_s=until_s + 1), **world)
    tiny.run(until_s)
    return tiny


def test_as_many_as_are_closed_and_forgotten():
    """One pod, connection by connection: known to tracking until its port comes round, then met by one of the next."""
    all_n = []
    for seed in range(8):
        tiny = played(3.0, seed=seed)
        tiny.traffic.look()
        all_n.append(tiny.traffic.tally.n_ok)
    tiny.traffic.time_waits.count()
    tiny.traffic.time_waits.tell()
    n = round(sum(all_n) / len(all_n))
    assert n > 10_000
    known = forgotten = 0.0
    for _ in range(n):
        lost = known * (1 - (1 - P_TAKEN) ** (1 / CONNECTS_A_ROUND))
        forgotten += lost - forgotten / (MASQUERADED_PORTS - known)
        known += 1 - lost
    assert known < EPHEMERAL_PORTS / PARITY
    expected = 0.5 * forgotten / (MASQUERADED_PORTS - known)
    assert tiny.traffic.time_waits.known.p_refused == pytest.approx(expected, rel=0.1)


def test_the_client_becomes_slow():
    """The first seconds at full speed, later ones at a fraction of it; without the rule always at full speed."""
    rates = {}
    for name, timing in (("on", TIMING), ("off", OFF)):
        tiny = Tiny(replace(AB, duration_s=20.0), pods=3, timing=timing)
        spans = tiny.run().answered.spans(20.0)
        rates[name] = [sum(n for at_s, _, n in spans if int(at_s) == s) for s in (0, 1, 18)]
    first, second, late = rates["on"]
    assert second == pytest.approx(first, rel=0.1)
    assert late < first / 4
    assert rates["off"][2] == pytest.approx(rates["off"][1], rel=0.1)


def test_who_waits_takes_no_cpu():
    traffic = played(15.0, pods=3).traffic
    assert traffic.no_pause.n_at_work < 3
    assert traffic.requests_per_s > 2 * traffic.no_pause.connects_per_s(1.0, traffic.time_waits.now)
    assert played(15.0, pods=3, timing=OFF).traffic.no_pause.n_at_work == 10


def test_new_pods_remember_nothing():
    tiny = Tiny(replace(AB, duration_s=20.0), pods=4)
    tiny.route(tiny.pods[:1])
    tiny.at(8.0, tiny.route, tiny.pods[1:])
    tiny.run(7.9)
    before = tiny.traffic.time_waits.known.p_refused
    tiny.run(8.1)
    assert before > 0.01
    assert tiny.traffic.time_waits.known.p_refused == 0


def test_a_minute_later_all_is_forgotten():
    tiny = Tiny(replace(AB, duration_s=100.0), pods=2)
    tiny.at(8.0, tiny.route, tiny.pods[1:])
    tiny.at(69.0, tiny.route, tiny.pods[:1])
    tiny.run(7.9)
    assert tiny.traffic.time_waits.known.p_refused > 0.01
    tiny.run(69.1)
    assert tiny.traffic.time_waits.known.p_refused < 1e-3


@pytest.mark.parametrize(
    ("load", "world"),
    [
        (replace(AB, keep_alive=True), {}),
        (replace(AB, arrivals=ClosedLoop(think_time=Constant(value_s=0.001))), {}),
        (AB, {"on_node": False}),
        (AB, {"headless": True}),
        (AB, {"timing": OFF}),
    ],
    ids=["kept", "paced", "from a pod", "headless", "older kernel"],
)
def test_not_met(load, world):
    assert played(6.0, load=load, **world).traffic.time_waits.known.p_refused == 0


def test_step_by_step_it_is_the_same():
    """Without a cruise each SYN draws for itself. A run varies by 9 %, so a difference of 10 % is 4 deviations."""
    load = replace(AB, duration_s=5.0)
    slow = replace(TIMING, request_cpu_s={part: 4 * cpu_s for part, cpu_s in TIMING.request_cpu_s.items()})
    slow = replace(slow, time_wait_again=Constant(value_s=1.0))  # what a SYN too many costs shows at once
    counts = [
        [Tiny(load, timing=slow, seed=seed, stepwise=stepwise).run().n_ok for seed in range(30)]
        for stepwise in (False, True)
    ]
    means = [sum(each) / len(each) for each in counts]
    assert means[0] == pytest.approx(means[1], rel=0.1)
    assert means[0] < 0.8 * Tiny(load, timing=replace(slow, p_time_wait_refuses=0.0)).run().n_ok
