"""Source ports that lead to a vanished pod come round again."""

from collections import Counter
from dataclasses import replace

import pytest
from tiny import PLAIN, TIMING, Tiny, causes

from sim.scenario.distributions import Exponential
from sim.scenario.model import ClosedLoop
from sim.scenario.timing import Vanished
from sim.traffic.old_ports import EPHEMERAL_PORTS, P_TAKEN, STEP_MEAN, SYN_SENT_S

CLOSE = "option http-server-close\n  timeout connect 2s\n  retries 0"
ROUND = EPHEMERAL_PORTS / STEP_MEAN
"""Connects from one port to the same region of the range again."""


def rolled(*, duration_s=120.0, timing=TIMING, haproxy=CLOSE, **load):
    """Two pods; one vanishes while the rules still name it for half a second."""
    client = replace(PLAIN, duration_s=duration_s, **load)
    tiny = Tiny(client, pods=2, haproxy=haproxy, timing=timing)
    tiny.at(5.0, tiny.stop, tiny.pods[0], "SIGQUIT")
    tiny.at(6.0, tiny.route, tiny.pods[1:])
    tally = tiny.run()
    starts = [
        f.at_s - 2.0 for f in tally.failures if f.cause.value == "proxy_retries_exhausted" and f.at_s > 7
    ]
    return tally, starts


def test_hung_connects_come_back_round_by_round():
    """Of n dead ports P_TAKEN · n come back in each round of the walk, and hang again: n for ever."""
    _, starts = rolled()
    first = [s for s in starts if s < 6.1]
    assert len(first) == 20  # every connection hangs once, its port is dead from then on
    per_round = [s for s in starts if s > 8.0]
    rate = 20 / (0.02 + 0.0016)
    n_rounds = (120 - 8.0) * rate / ROUND - 1
    expected = 20 * P_TAKEN * n_rounds
    # each of the 20 is met in a round with P_TAKEN: binomial, 4 standard deviations
    assert len(per_round) == pytest.approx(expected, abs=4 * (expected * (1 - P_TAKEN)) ** 0.5 + 8)
    assert min(per_round) > 7.0 + 0.9 * ROUND / rate


def test_nothing_comes_back_where_nothing_is_remembered():
    """Redrawn and unreachable leave no entry; kept connections and pods with lines of their own take no new port."""
    for vanished in (Vanished.SILENCE_REDRAWN, Vanished.UNREACHABLE):
        _, starts = rolled(duration_s=40.0, timing=replace(TIMING, vanished=vanished))
        assert not [s for s in starts if s > 9.0]
    keeps = CLOSE.replace("option http-server-close", "option http-keep-alive\n  http-reuse always")
    _, starts = rolled(duration_s=40.0, haproxy=keeps)
    assert not [s for s in starts if s > 9.0]


def test_the_entry_lasts_two_minutes():
    """A load too slow to come round within SYN_SENT_S meets none of them again."""
    pause = ClosedLoop(think_time=Exponential(scale_s=20 / (ROUND / (1.5 * SYN_SENT_S))))
    tally, starts = rolled(duration_s=400.0, arrivals=pause)
    assert tally.n_requests > 2 * ROUND
    assert not [s for s in starts if s > 30.0]


def test_a_client_on_the_wire_meets_them_too():
    """Without a proxy it is the client's own ports, each source address with a walk of its own."""
    hung = Counter()
    for sources in (1, 20):
        client = replace(PLAIN, keep_alive=False, sources=sources, duration_s=60.0)
        tiny = Tiny(client, pods=2)
        tiny.at(5.0, tiny.stop, tiny.pods[0], "SIGQUIT")
        tiny.at(6.0, tiny.route, tiny.pods[1:])
        hung[sources] = causes(tiny.run()).get("stale_endpoint_silent", 0)
    assert hung[20] == 20  # 20 addresses: 50 requests/s each come round once a minute
    assert hung[1] > 40
