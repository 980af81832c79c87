"""A client without pause shares its node's cores with the pods that start and end there."""

from dataclasses import replace

import pytest
from tiny import APP, PLAIN, TIMING, Tiny, causes

from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop

NO_WAITS = replace(TIMING, p_time_wait_refuses=0.0)
AB = replace(
    PLAIN,
    client="ab",
    options={"r": True},
    arrivals=ClosedLoop(),
    connections=10,
    keep_alive=False,
    duration_s=4.0,
)
FAST = replace(APP, service_time=Constant(value_s=1e-6))
OWN = 2 * TIMING.node_utilisation
"""Cores that the node's own work wants, of two."""


class PodWork:
    """Wants *wanted* cores from *since_s* on."""

    def __init__(self, env, wanted, since_s=0.0, in_burst=False):
        self._env, self._later, self._told = env, wanted, []
        self.in_burst = in_burst
        self.wanted = 0.0 if since_s else wanted
        if since_s:
            env.process(self._wait(since_s))

    def _wait(self, since_s):
        yield self._env.timeout(since_s)
        for change in self._told:
            change()
        self.wanted = self._later

    def tell(self, change):
        self._told.append(change)


def play(load, *, wanted, since_s=0.0, in_burst=False, stepwise=False, refused=False, image=FAST, **options):
    tiny = Tiny(
        load, image=image, timing=NO_WAITS, stepwise=stepwise,
        pod_work=lambda env: PodWork(env, wanted, since_s, in_burst), **options,
    )  # fmt: skip
    if refused:
        tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0, gone_s=1.0))
    return tiny.run()


def test_a_refused_client_has_its_fair_share():
    """While they want both cores it has a third, the node's own work counted."""
    n = {
        wanted: causes(play(AB, wanted=wanted, refused=True))["stale_endpoint_refused"]
        for wanted in (0.0, 2.0)
    }
    assert n[0.0] == pytest.approx(1.0 / TIMING.refused_cpu_s, rel=0.05)
    assert n[2.0] == pytest.approx(n[0.0] / ((1 + OWN + 2.0) / 2), rel=0.05)


@pytest.mark.parametrize("stepwise", [True, False], ids=["stepwise", "cruise"])
@pytest.mark.parametrize("keep_alive", [True, False])
def test_all_requests_of_a_client_without_pause_slow_down(keep_alive, stepwise):
    """Client and server want a core each: own + 2 + 1.5 on two cores, where own + 2 were."""
    load = replace(
        AB, keep_alive=keep_alive, connections=40, duration_s=1.0
    )  # a round trip is little of a cycle
    n_before, n_after = (play(load, wanted=wanted, stepwise=stepwise).n_ok for wanted in (0.0, 1.5))
    assert n_after == pytest.approx(n_before * (OWN + 2) / (OWN + 2 + 1.5), rel=0.06)


@pytest.mark.parametrize("stepwise", [True, False], ids=["stepwise", "cruise"])
def test_what_is_no_wait_for_the_cpu_takes_as_long_as_ever(stepwise):
    """Answers of 0.1 s: the pods that start and end cost the client next to nothing."""
    late = replace(APP, service_time=Constant(value_s=0.1))
    n_before, n_after = (play(AB, wanted=wanted, stepwise=stepwise, image=late).n_ok for wanted in (0.0, 3.0))
    assert n_after == pytest.approx(n_before, rel=0.02)


@pytest.mark.parametrize("stepwise", [True, False], ids=["stepwise", "cruise"])
def test_servers_are_as_far_behind_as_kube_proxy_while_a_deletion_is_at_work(stepwise):
    """Both have the least weight; what else wants cores meanwhile is among what they wait for."""
    load = replace(AB, connections=40, duration_s=1.0)
    n_before = play(load, wanted=0.0, stepwise=stepwise).n_ok
    for wanted in (0.0, 0.5):
        n_after = play(load, wanted=wanted, in_burst=True, stepwise=stepwise).n_ok
        behind = TIMING.proxy_sync.mean_s / TIMING.proxy_sync_at_rest.mean_s
        assert n_after == pytest.approx(n_before / behind, rel=0.06)


def test_a_refused_connect_waits_for_no_server():
    """A deletion at work changes nothing for a client that is refused."""
    n_before, n_after = (
        causes(play(AB, wanted=1.0, in_burst=in_burst, refused=True))["stale_endpoint_refused"]
        for in_burst in (False, True)
    )
    assert n_after == pytest.approx(n_before, rel=0.05)


def test_only_while_they_want_cores():
    """Half of the time at full speed."""
    n = [play(AB, wanted=1.5, since_s=since_s).n_ok for since_s in (9.0, 2.0, 0.0)]
    assert n[1] == pytest.approx((n[0] + n[2]) / 2, rel=0.01)


def test_a_client_with_pauses_is_hardly_slower():
    """Its pace is that of its pauses."""
    load = replace(PLAIN, duration_s=4.0)
    n_before, n_after = (play(load, wanted=wanted).n_ok for wanted in (0.0, 3.0))
    assert n_after == pytest.approx(n_before, rel=0.05)


def test_a_client_in_a_pod_is_somewhere_else():
    """Nothing is known of the cores of its node."""
    n_before, n_after = (play(AB, wanted=wanted, on_node=False).n_ok for wanted in (0.0, 3.0))
    assert n_after == n_before
