"""What a vanished address answers, to a client on a node, in a pod, and to a proxy: three modes."""

from dataclasses import replace

import pytest
from tiny import PLAIN, TIMING, Tiny, causes, seen

from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop
from sim.scenario.timing import Vanished

V = Vanished


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


def vanish(mode, *, on_node, stepwise, stale_s=0.7, load=None, haproxy=None, connections=20, pods=2):
    """One of two pods vanishes at 2 s and stays in the rules for *stale_s*."""
    load = load or replace(PLAIN, keep_alive=False, connections=connections, duration_s=9.0)
    tiny = Tiny(
        load,
        pods=pods,
        timing=replace(TIMING, vanished=mode),
        on_node=on_node,
        haproxy=haproxy,
        stepwise=stepwise,
    )
    tiny.at(2.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0, gone_s=0.0))
    tiny.at(2.0 + stale_s, tiny.route, tiny.pods[1:])
    return tiny, tiny.run()


@pytest.mark.parametrize(
    ("mode", "on_node", "fates"),
    [
        (V.SILENCE_PINNED, True, {"timeout_connect"}),
        (V.SILENCE_PINNED, False, {"timeout_connect"}),
        (V.SILENCE_REDRAWN, True, set()),
        (V.SILENCE_REDRAWN, False, set()),
        (V.UNREACHABLE, True, set()),  # the node's own SYN gets no ICMP: it is drawn anew
        (V.UNREACHABLE, False, {"unreachable"}),
    ],
)
def test_a_client(mode, on_node, fates, stepwise):
    """Pinned: the whole connect time-out; redrawn: the next SYN, 1 s later, meets today's rules; else EHOSTUNREACH."""
    _, tally = vanish(mode, on_node=on_node, stepwise=stepwise)
    stale = {name: n for name, n in seen(tally).items() if not name.startswith(("eof", "rst"))}
    assert set(stale) == fates
    if fates:
        assert causes(tally)["stale_endpoint_silent"] == sum(stale.values())


def test_timeouts_are_at_most_the_connections(stepwise):
    """A pinned connect holds its connection for the time-out: none fails twice within it."""
    _, tally = vanish(V.SILENCE_PINNED, on_node=True, stepwise=stepwise, stale_s=4.0)
    assert seen(tally)["timeout_connect"] <= 20


def test_redrawn_syn_comes_a_second_later(stepwise):
    """The connect that met silence succeeds with its second SYN: a second late, not failed."""
    think = ClosedLoop(think_time=Constant(value_s=0.2))
    load = replace(PLAIN, keep_alive=False, connections=1, duration_s=9.0, arrivals=think)
    tiny = Tiny(load, pods=2, timing=replace(TIMING, vanished=V.SILENCE_REDRAWN), stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(2.05, lambda: tiny.stop(tiny.pods[0], takes_s=0.0, gone_s=0.0))
    tiny.at(2.95, tiny.route, tiny.pods[1:])
    tally = tiny.run()
    assert tally.n_failed == 0
    assert tally.n_ok == pytest.approx((9 - 1) / 0.2014, abs=2)


@pytest.mark.parametrize(
    ("mode", "failed"), [(V.SILENCE_PINNED, True), (V.SILENCE_REDRAWN, False), (V.UNREACHABLE, False)]
)
def test_a_proxy(mode, failed, stepwise):
    """HAProxy waits 5 s where silence is pinned, longer than its client; redrawn and unreachable cost it 1 s."""
    load = replace(PLAIN, duration_s=9.0)
    _, tally = vanish(
        mode, on_node=True, stepwise=stepwise, load=load, haproxy="option http-server-close", stale_s=0.7
    )
    waits = causes(tally).get("proxy_connect_wait", 0)
    assert (waits > 0) == failed
    assert set(seen(tally)) <= {"timeout_response", "eof_reused", "http_502", "truncated_reused"}


def test_kept_connections_end_before_the_address_does(stepwise):
    """The FIN of an exit is there long before its network goes: no kept connection meets silence."""
    _, tally = vanish(
        V.SILENCE_PINNED, on_node=True, stepwise=stepwise, load=replace(PLAIN, duration_s=9.0), stale_s=0.0
    )
    assert set(seen(tally)) <= {"eof_reused", "rst_reused"}


def burning(rules_after_s, *, on_node=True, headless=False, stepwise=False):
    """ab is refused by the only pod for 0.3 s, until its address vanishes; other rules come *rules_after_s* later."""
    load = replace(
        PLAIN, client="ab", options={"r": True}, arrivals=ClosedLoop(), connections=10, keep_alive=False
    )
    timing = replace(TIMING, vanished=V.SILENCE_PINNED, p_time_wait_refuses=0.0)
    tiny = Tiny(
        replace(load, duration_s=6.0), pods=2, timing=timing, on_node=on_node, headless=headless, stepwise=stepwise
    )  # fmt: skip
    tiny.route(tiny.pods[:1])
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0, gone_s=0.3))
    tiny.at(1.3 + rules_after_s, tiny.route, tiny.pods[1:])
    tiny.run(4.0)
    return tiny


def test_what_is_sent_as_the_address_vanishes_is_forgotten(stepwise):
    """Masquerade forgets with the device: a second later the next SYN follows the rules of then."""
    tiny = burning(0.8, stepwise=stepwise)
    assert tiny.traffic.no_pause.n_at_work == 10
    assert causes(tiny.traffic.tally)["stale_endpoint_refused"] > 1000


def test_it_is_forgotten_only_once(stepwise):
    """If the rules are as old as the next SYN, that one is remembered: for good."""
    assert burning(1.2, stepwise=stepwise).traffic.no_pause.n_at_work == 0


def test_only_masquerade_forgets(stepwise):
    """A client in a pod reaches it from its own address."""
    assert burning(0.8, on_node=False, stepwise=stepwise).traffic.no_pause.n_at_work == 0
    assert burning(0.8, headless=True, stepwise=stepwise).traffic.no_pause.n_at_work == 0


def test_a_moment_later_it_is_pinned(stepwise):
    """A connect after the route is gone too: as on stock kind."""
    load = replace(PLAIN, keep_alive=False, connections=20, duration_s=9.0)
    _, tally = vanish(V.SILENCE_PINNED, on_node=True, stepwise=stepwise, load=load)
    early = [f for f in tally.failures if f.seen.value == "timeout_connect"]
    forgotten_s = TIMING.forgets.max_s
    assert early
    assert all(f.at_s - load.connect_timeout_s > 2.0 + forgotten_s - 1e-3 for f in early)
