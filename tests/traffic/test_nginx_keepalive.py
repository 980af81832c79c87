"""nginx's limits on a client's connection, and what of them a drain races with."""

import itertools
from dataclasses import replace

import pytest
from tiny import APP, NGINX, PLAIN, TIMING, Tiny, causes, seen

from sim.scenario.distributions import Constant, Exponential, Uniform
from sim.scenario.model import ClosedLoop, NginxLocation
from sim.traffic.keepalive import idle_limit_s, requests_per_link

TENTH = Constant(value_s=0.1)


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


def load(think=TENTH, *, connections=1, duration_s=10.0, **more):
    return replace(
        PLAIN,
        connections=connections,
        arrivals=ClosedLoop(think_time=think),
        duration_s=duration_s,
        **{"answer_timeout_s": 60.0, **more},
    )


def opened_by(tiny):
    """Instants at which connections to the pods were opened."""
    instants = []
    for pod in tiny.pods:
        server = tiny.server(pod)
        attach = server.attach
        server.attach = lambda link, attach=attach: (instants.append(tiny.env.now), attach(link))
    return instants


def test_keepalive_requests_close_with_notice(stepwise):
    """The Nth answer says `Connection: close`: a new connection, no failure."""
    tiny = Tiny(load(), nginx=replace(NGINX, keepalive_requests=7), stepwise=stepwise)
    opened = opened_by(tiny)
    tally = tiny.run()
    assert tally.n_failed == 0
    assert len(opened) == pytest.approx(tally.n_ok / 7, abs=1)  # the last one may be under way


def test_keepalive_time_closes_with_notice(stepwise):
    """The first answer after that age says `Connection: close`."""
    tiny = Tiny(load(), nginx=replace(NGINX, keepalive_time_s=1.0), stepwise=stepwise)
    opened = opened_by(tiny)
    tally = tiny.run()
    assert tally.n_failed == 0
    gaps = [later - earlier for earlier, later in itertools.pairwise(opened)]
    assert len(gaps) >= 6
    assert all(1.0 < gap < 1.35 for gap in gaps)


def test_keepalive_timeout_closes_without_notice():
    """A pause beyond keepalive_timeout meets a FIN: lost by who does not look, a new connection for who does."""
    think = Uniform(min_s=0.0, max_s=1.0)
    failed = {}
    for client in ("plain", "requests", "go-http"):
        conf = replace(NGINX, keepalive_timeout_s=0.8)
        tally = Tiny(load(think, duration_s=400.0, client=client), nginx=conf).run()
        failed[client] = tally.n_failed / tally.n_requests
        assert set(causes(tally)) <= {"idle_timeout_race"}
        assert tally.n_retried == 0
    assert failed["plain"] == pytest.approx(0.2, abs=0.06)  # the share of pauses beyond it
    assert failed["requests"] == failed["go-http"] == 0


def test_keepalive_timeout_zero_is_a_connection_for_every_request(stepwise):
    """`keepalive_timeout 0` closes after each answer."""
    tiny = Tiny(load(), nginx=replace(NGINX, keepalive_timeout_s=0.0), stepwise=stepwise)
    opened = opened_by(tiny)
    tally = tiny.run()
    assert not tiny.traffic.keeps
    assert tally.n_failed == 0
    if stepwise:
        assert len(opened) == pytest.approx(tally.n_ok, abs=1)


def test_a_location_has_its_own_timeout():
    """keepalive_timeout of the location that answers counts."""
    places = (NginxLocation(path="/api", keepalive_timeout_s=2.0), NginxLocation(path="/"))
    tiny = Tiny(load(), nginx=replace(NGINX, locations=places))
    server = tiny.server(tiny.pods[0])
    assert idle_limit_s(server, "/api/x?y=1") == 2.0
    assert idle_limit_s(server, "/") == NGINX.keepalive_timeout_s
    assert requests_per_link(server, "/") == NGINX.keepalive_requests


@pytest.mark.parametrize("limit_s", [None, 0.5])
def test_worker_shutdown_timeout(limit_s, stepwise):
    """On expiry every connection is closed, answers are cut; unset, the drain takes as long as the answer."""
    image = replace(APP, service_time=Constant(value_s=0.0), stream_time=Constant(value_s=3.0))
    conf = replace(NGINX, worker_shutdown_timeout_s=limit_s)
    client = load(Constant(value_s=0.0), connections=10, duration_s=18.0)
    tiny = Tiny(client, pods=2, image=image, nginx=conf, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(11.0, tiny.route, tiny.pods[1:])
    tiny.at(11.0, lambda: tiny.stop(tiny.pods[0], "SIGQUIT"))
    tally = tiny.run()
    exited_s = tiny.when(tiny.pods[0], "exited")
    if limit_s is None:
        assert causes(tally) == {"idle_closed": 10}  # the FIN behind each answer meets the next request
        assert 13.0 < exited_s <= 14.01
    else:
        assert exited_s == pytest.approx(11.5)
        assert causes(tally)["drain_timeout"] >= 5
        assert seen(tally)["truncated_reused"] == causes(tally)["drain_timeout"]
        assert tally.n_failed == 10


@pytest.mark.parametrize(("min_s", "loses"), [(0.0, True), (0.05, True), (1.0, False)])
def test_keepalive_min_timeout_waits_for_the_next_request(min_s, loses, stepwise):
    """Idle for less than keepalive_min_timeout: SIGQUIT does not close it, its next request says close."""
    conf = replace(NGINX, keepalive_min_timeout_s=min_s)
    think = Uniform(min_s=0.1, max_s=0.3)
    tiny = Tiny(load(think, connections=20), pods=2, nginx=conf, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(5.0, tiny.route, tiny.pods[1:])
    tiny.at(5.0, lambda: tiny.stop(tiny.pods[0], "SIGQUIT"))
    tally = tiny.run()
    assert (tally.n_failed > 0) == loses
    waited_s = tiny.when(tiny.pods[0], "exited") - 5.0
    assert waited_s <= 0.31
    assert waited_s >= (0.1 if min_s == 1.0 else 0.0)


def test_min_timeout_closes_in_the_end(stepwise):
    """A client that does not come back holds the drain for as long as keepalive_min_timeout, no longer."""
    conf = replace(NGINX, keepalive_min_timeout_s=0.5)
    tiny = Tiny(load(Constant(value_s=4.0)), pods=2, nginx=conf, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(8.2, tiny.route, tiny.pods[1:])
    tiny.at(8.2, lambda: tiny.stop(tiny.pods[0], "SIGQUIT"))
    tally = tiny.run()
    assert tiny.when(tiny.pods[0], "exited") <= 8.7
    assert set(seen(tally)) <= {"eof_reused"}


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGQUIT"])
def test_one_loss_for_each_kept_connection(signal, stepwise):
    """A client that keeps its connections and does not look loses exactly one request for each, per stop."""
    timing = replace(TIMING, round_trip=Constant(value_s=1e-7))
    client = load(Exponential(scale_s=0.02), connections=20, duration_s=4.0)
    at_once = replace(APP, service_time=Constant(value_s=1e-7))  # no request in service, which SIGQUIT spares
    tiny = Tiny(client, pods=3, image=at_once, timing=timing, stepwise=stepwise)
    n_held = []
    for i, pod in enumerate(tiny.pods[:2]):
        tiny.at(1.0 + i, tiny.route, tiny.pods[i + 1 :])
        tiny.at(1.4999 + i, lambda pod=pod: n_held.append(len(tiny.server(pod)._connections)))
        tiny.at(1.5 + i, lambda pod=pod: tiny.stop(pod, signal))
    tally = tiny.run()
    assert tally.n_failed == sum(n_held) > 10
    assert set(causes(tally)) == {"idle_closed"}
