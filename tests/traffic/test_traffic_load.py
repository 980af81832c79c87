"""The load itself: when it ends, how it is paced, whom its connects meet; and what is refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from assertions import assert_mean, assert_poisson
from tiny import APP, GENERIC, NGINX, PLAIN, TIMING, Tiny, causes, seen

from sim.cluster.node_cpu import NodeCpu
from sim.errors import InputError, UnsupportedInput
from sim.scenario.distributions import Constant, Exponential
from sim.scenario.model import ClosedLoop, NginxLocation, OpenLoop
from sim.scenario.timing import Vanished


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


# ---------------------------------------------------------------- its end


@pytest.mark.parametrize("n", [1, 37, 1000, 20_000])
@pytest.mark.parametrize("haproxy", [None, "option http-server-close"])
def test_requests_end_the_load(n, haproxy):
    """`requests: N` ends when N are done, to the connections that finish at that moment."""
    load = replace(PLAIN, duration_s=None, requests=n)
    tiny = Tiny(load, pods=2, haproxy=haproxy)
    tally = tiny.run(500.0)
    assert tiny.traffic.over
    assert n <= tally.n_requests <= n + load.connections


def test_requests_end_an_outage():
    """A client without pause burns through the rest while everything refuses, and stops at N."""
    load = replace(
        PLAIN, client="wrk", arrivals=ClosedLoop(), connections=10, duration_s=None, requests=50_000
    )
    tiny = Tiny(load)
    tiny.at(0.05, lambda: tiny.stop(tiny.pods[0], gone_s=1000.0))
    tally = tiny.run(100.0)
    assert 50_000 <= tally.n_requests <= 50_010
    assert tiny.traffic.ended_s < 2.0


def test_looking_for_the_end_does_not_end_a_connect():
    """A connect that waits for a silent address waits its whole time-out, whoever wakes it meanwhile."""
    load = replace(PLAIN, duration_s=None, requests=6000, connections=10, keep_alive=False)
    tiny = Tiny(load, pods=2, timing=replace(TIMING, vanished=Vanished.SILENCE_PINNED))
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], gone_s=0.0))
    tiny.at(1.5, tiny.route, tiny.pods[1:])
    tally = tiny.run(100.0)
    late = [f.at_s for f in tally.failures if f.seen_as == "timeout_connect"]
    assert late
    assert min(late) > 6.0


def test_what_is_on_its_way_to_nobody_at_the_end_fails_then(stepwise):
    """A connect that has just begun hangs like those before it; nothing fails after the end."""
    load = replace(
        PLAIN,
        arrivals=OpenLoop(rate_per_s=100.0, poisson=False),
        connections=1,
        keep_alive=False,
        duration_s=2.0,
    )
    timing = replace(TIMING, vanished=Vanished.SILENCE_PINNED, round_trip=Constant(value_s=0.035))
    tiny = Tiny(load, pods=1, timing=timing, stepwise=stepwise)
    tiny.at(0.5, lambda: tiny.stop(tiny.pods[0], gone_s=0.0))
    tally = tiny.run()
    hung_s = [f.at_s for f in tally.failures if f.seen_as == "timeout_connect"]
    assert len(hung_s) > 100
    assert max(hung_s) == tiny.traffic.ended_s == 2.0


def test_load_ends_with_its_connections(stepwise):
    """When it is over no server holds a connection of it, whatever they were doing."""
    image = replace(GENERIC, service_time=Constant(value_s=0.5))
    for haproxy in (None, "", "option http-server-close"):
        tiny = Tiny(replace(PLAIN, duration_s=3.2), pods=2, image=image, haproxy=haproxy, stepwise=stepwise)
        tally = tiny.run()
        assert tiny.attached() == {}
        assert tally.n_open > 0


# ---------------------------------------------------------------- its pace


@pytest.mark.parametrize("poisson", [False, True])
def test_open_loop_keeps_its_rate(poisson, stepwise, streams):
    """Requests start on schedule: constant or Poisson, changes or not."""
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=200.0, poisson=poisson), duration_s=20.0)
    tiny = Tiny(load, pods=2, stepwise=stepwise, seed=streams.seed)
    for k in range(150):  # changes that do not matter
        tiny.at(1.0 + 0.1 * k, tiny.world.rules_touched, 0)
    tally = tiny.run()
    started = tally.n_requests + tally.n_open
    assert tally.n_failed == 0
    if poisson:
        assert_poisson(started, 4000, false_alarm=1e-6, notices=0.2)
    else:
        assert started == pytest.approx(4000, abs=1)


@pytest.mark.parametrize("stepwise", [False, True])
def test_open_loop_goes_on_while_answers_are_slow(stepwise):
    """Requests start whatever became of the earlier ones, on one more connection where none of the pool is idle."""
    image = replace(GENERIC, service_time=Constant(value_s=1.0))
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=20.0), connections=10, duration_s=10.0)
    tiny = Tiny(load, image=image, stepwise=stepwise)
    tally = tiny.run()
    assert tally.n_ok == pytest.approx(180, abs=1)  # those that began in the first nine seconds
    assert tally.n_ok + tally.n_open == pytest.approx(200, abs=1)


def test_a_stop_meets_more_requests_of_an_open_loop_than_its_pool_has_connections():
    """Little's law holds beyond the pool: 100 requests a second of one second each are a hundred under way."""
    image = replace(GENERIC, service_time=Constant(value_s=1.0))
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=100.0), connections=10, duration_s=4.0)
    tiny = Tiny(load, pods=2, image=image)
    tiny.route(tiny.pods[:1])
    tiny.at(2.0, tiny.route, tiny.pods[1:])
    tiny.at(2.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0))
    assert causes(tiny.run())["stop_in_flight"] == pytest.approx(100, abs=2)


@pytest.mark.parametrize("held_s", [0.0, 0.05])
def test_a_deletion_that_holds_answers_fills_the_pool(held_s):
    """An open loop opens connections for what is held; they are idle afterwards, and the next stop closes them.

    500/s over answers of 0.2 s keep 100 connections at work and none idle. Held for 50 ms, 25 more are opened; as
    many answers come at once, 10 of their connections stay in the pool.
    """
    image = replace(APP, service_time=Constant(value_s=0.2))
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=500.0), connections=10, duration_s=4.0)
    timing = replace(TIMING, signal_heard=Constant(value_s=held_s))
    tiny = Tiny(load, image=image, timing=timing)
    tiny.at(1.0, tiny.world.deletion, 0)
    tiny.at(2.0, tiny.world.deletion, 1)  # of another node: no server of ours waits
    tiny.at(3.0, lambda: tiny.stop(tiny.pods[0], "SIGQUIT"))
    lost = causes(tiny.run()).get("idle_closed", 0)
    assert lost in ((9, 10) if held_s else (0, 1))


def idle_node(env):
    return NodeCpu(env, cores=2, operation_cores=1.0, slowdown=lambda _: 1.0)


@pytest.mark.parametrize(("at_work", "n_opened"), [(False, 125), (True, 185)])
def test_a_deletion_holds_answers_for_as_long_as_it_is_at_work(at_work, n_opened):
    """As above, 25 are opened for the first wait of 50 ms, and for each later one 15: the pool has 10 idle by then.

    A server that has half of the time on its core waits five times in half a second.
    """
    image = replace(APP, service_time=Constant(value_s=0.2))
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=500.0), connections=10, duration_s=4.0)
    timing = replace(
        TIMING,
        signal_heard=Constant(value_s=0.05),
        proxy_sync=Constant(value_s=0.1),
        proxy_sync_at_rest=Constant(value_s=0.05),
    )
    tiny = Tiny(load, image=image, timing=timing, pod_work=idle_node)
    if at_work:
        tiny.at(1.0, tiny.world.pod_work[0].deletion)
    tiny.at(1.0, tiny.world.deletion, 0)
    tiny.run()
    assert tiny.traffic.open_one_more().index == pytest.approx(n_opened, abs=2)


def test_open_loop_in_flight_at_a_stop(streams):
    """Little's law: a fast stop cuts rate · time in the pod requests, in the mean."""
    image = replace(GENERIC, service_time=Constant(value_s=0.05))
    load = replace(
        PLAIN,
        arrivals=OpenLoop(rate_per_s=100.0, poisson=True),
        connections=100,
        duration_s=2.5,
        keep_alive=False,
    )
    cut = []
    for replication in range(300):
        tiny = Tiny(load, pods=2, image=image, seed=streams.seed, replication=replication)
        tiny.route(tiny.pods[:1])
        tiny.at(2.0, tiny.route, tiny.pods[1:])
        tiny.at(2.0, lambda tiny=tiny: tiny.stop(tiny.pods[0], takes_s=0.0))
        cut.append(causes(tiny.run()).get("stop_in_flight", 0))
    assert_mean(cut, 5.0, false_alarm=1e-6, notices=1.4)
    assert np.var(cut) == pytest.approx(5.0, rel=0.5)  # Poisson: as many as its mean


def test_idle_limit_of_an_open_loop():
    """The pool comes round in 0.1 s, the longest idle first: a shorter idle time-out ends all, a longer one none."""
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=100.0), connections=10, duration_s=30.0)
    assert Tiny(load, nginx=replace(NGINX, keepalive_timeout_s=0.11)).run().n_failed == 0
    tally = Tiny(load, nginx=replace(NGINX, keepalive_timeout_s=0.09)).run()
    assert set(causes(tally)) == {"idle_timeout_race"}
    assert tally.n_failed == pytest.approx(
        3000 / 2, abs=10
    )  # each one found closed is followed by a fresh one


def test_idle_limit_of_poisson_arrivals(streams):
    """A kept connection is found closed where ten gaps are longer than the time-out: P(Poisson(15) < 10) = 0.0699."""
    arrivals = OpenLoop(rate_per_s=100.0, poisson=True)
    load = replace(PLAIN, arrivals=arrivals, connections=10, duration_s=300.0)
    tally = Tiny(load, nginx=replace(NGINX, keepalive_timeout_s=0.15), seed=streams.seed).run()
    p = 0.0699
    expected = tally.n_requests * p / (1 + p)
    assert tally.n_failed == pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("poisson", [False, True])
def test_answers_that_outlast_the_pool_are_counted_in_calm(poisson, streams):
    """100 under way of a pool of 10: drawn in calm as stepped, in number and in connections; far fewer events."""
    load = replace(
        PLAIN, arrivals=OpenLoop(rate_per_s=500.0, poisson=poisson), connections=10, duration_s=20.0
    )
    image = replace(APP, service_time=Exponential(scale_s=0.2))
    n_ok, n_kept, n_events = {}, {}, {}
    for stepwise in (False, True):
        ends = []
        for replication in range(10):
            tiny = Tiny(load, image=image, stepwise=stepwise, seed=streams.seed, replication=replication)
            tiny.at(19.0, tiny.traffic.look)
            tiny.at(19.0, lambda tiny=tiny, ends=ends: ends.append(len(tiny.traffic.connections)))
            n_ok[stepwise] = n_ok.get(stepwise, 0) + tiny.run().n_ok
        n_kept[stepwise] = np.mean(ends)
        n_events[stepwise] = next(tiny.env._eid)
    assert n_ok[False] == pytest.approx(n_ok[True], rel=0.01)
    assert n_kept[False] == pytest.approx(n_kept[True], rel=0.1)
    assert n_events[False] < n_events[True] / 20


def test_closed_loop_counts_match_its_cycle(stepwise, streams):
    """Connections · time / cycle, to the spread of a renewal process."""
    load = replace(PLAIN, duration_s=30.0)
    tally = Tiny(load, stepwise=stepwise, seed=streams.seed).run()
    cycle_s = 0.02 + 0.0002 + 0.001
    assert tally.n_ok == pytest.approx(20 * 30 / cycle_s, rel=0.03)


def test_no_time_at_all_is_refused():
    """Neither pause nor latency nor service: such a load would never get past its first instant."""
    timing = replace(TIMING, round_trip=Constant(value_s=0.0))
    image = replace(APP, service_time=Constant(value_s=0.0))
    load = replace(PLAIN, arrivals=ClosedLoop(think_time=Constant(value_s=0.0)))
    with pytest.raises(InputError, match="no time at all"):
        Tiny(load, image=image, timing=timing)


# ---------------------------------------------------------------- whom it meets


@pytest.mark.parametrize("sources", [1, 4])
def test_session_affinity(sources, stepwise):
    """ClientIP: each source stays on one endpoint while it is in the rules, and is drawn anew when it leaves."""
    load = replace(PLAIN, keep_alive=False, sources=sources, duration_s=6.0, connections=8)
    tiny = Tiny(load, pods=5, affinity_s=10800, stepwise=stepwise)
    met = {}

    def look(name):
        met[name] = [tiny.traffic.targets(source) for source in range(sources)]

    tiny.at(2.0, look, "before")
    tiny.at(3.0, tiny.route, tiny.pods[1:])
    tiny.at(4.0, look, "after")
    tally = tiny.run()
    assert tally.n_failed == 0
    first = tiny.server(tiny.pods[0])
    for before, after in zip(met["before"], met["after"], strict=True):
        assert len(before) == len(after) == 1
        assert before in (after, (first,))


def test_affine_connections_all_fail_together():
    """One source, one endpoint: while it is stale every connect is refused."""
    load = replace(PLAIN, keep_alive=False, duration_s=3.0, connections=5)
    tiny = Tiny(load, pods=2, affinity_s=10800)
    stale = {}

    def stop():
        (server,) = tiny.traffic.targets(0)
        stale["n"] = tiny.traffic.tally.n_requests
        tiny.stop(server.pod, "SIGQUIT", gone_s=10.0)

    tiny.at(1.0, stop)
    tally = tiny.run()
    refused = [f.at_s for f in tally.failures if f.seen_as == "refused"]
    assert len(refused) > 300
    assert tally.answered.spans(3.0)[-2][2] == 0


# ---------------------------------------------------------------- steady failures, refusals by name


def test_slow_answers_fail_without_any_update(stepwise):
    """An answer time-out below the service time fails every request, with its own cause."""
    image = replace(GENERIC, service_time=Constant(value_s=0.5))
    load = replace(PLAIN, answer_timeout_s=0.2, duration_s=5.0)
    tally = Tiny(load, image=image, stepwise=stepwise).run()
    assert tally.n_ok == 0
    assert causes(tally) == {"slow_answer": tally.n_failed}
    assert seen(tally) == {"timeout_response": tally.n_failed}


def test_a_slow_new_image_is_noticed():
    """Steady failures that only the new pods cause are not skipped by the cruise."""
    slow = replace(GENERIC, reference="generic:slow", service_time=Constant(value_s=0.5))
    load = replace(PLAIN, answer_timeout_s=0.2, duration_s=6.0, keep_alive=False)
    tiny = Tiny(load, image=GENERIC)
    container = replace(tiny.pods[0].template.containers[0], image=slow.reference)
    new = tiny.pod("app-new", container, slow)
    tiny.at(3.0, tiny.route, [new])
    tally = tiny.run()
    assert min(f.at_s for f in tally.failures) == pytest.approx(3.2, abs=0.1)
    assert tally.n_failed > 100


def test_mixed_images_share_the_time(streams):
    """Old and new answer at other speeds: a change meets each in proportion to the time spent in it."""
    slow = replace(GENERIC, reference="generic:slow", service_time=Constant(value_s=0.06))
    load = replace(PLAIN, duration_s=3.0, keep_alive=False, connections=200)
    shares = []
    for replication in range(60):
        tiny = Tiny(load, image=GENERIC, seed=streams.seed, replication=replication)
        container = replace(tiny.pods[0].template.containers[0], image=slow.reference)
        new = tiny.pod("app-new", container, slow)
        tiny.route([*tiny.pods, new])
        tiny.at(2.0, lambda tiny=tiny, new=new: tiny.stop(new, takes_s=0.0))
        tiny.at(2.0, tiny.route, tiny.pods)
        cut = sum(f.cause.value == "stop_in_flight" for f in tiny.run().failures)
        shares.append(cut / 200)
    cycle_s = 0.02 + 2 * 0.0002 + (0.001 + 0.06) / 2
    assert_mean(shares, 0.5 * 0.06 / cycle_s, false_alarm=1e-6, notices=0.06)


REFUSED = [
    ({"nginx": replace(NGINX, worker_connections=16)}, "worker_connections: 16"),
    ({"nginx": replace(NGINX, locations=(NginxLocation(status=404),))}, "with 404"),
    ({"haproxy": "maxconn 10"}, "frontend app: maxconn: 10"),
    ({"haproxy": "monitor-uri /"}, "monitor-uri"),
]


@pytest.mark.parametrize(("more", "message"), REFUSED)
def test_refused_by_name(more, message):
    """What changes the answer and is not modelled says so in one line."""
    with pytest.raises(UnsupportedInput, match=message) as refused:
        Tiny(PLAIN, **more)
    assert "\n" not in str(refused.value)


def wrk_before_a_stop(*, pods, gone_s):
    """New connections without pause; one pod stops after a second, and its address vanishes *gone_s* later."""
    load = replace(PLAIN, client="wrk", arrivals=ClosedLoop(), connections=10, keep_alive=False)
    tiny = Tiny(load, pods=pods, timing=replace(TIMING, p_time_wait_refuses=0.0))
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], gone_s=gone_s))
    return tiny


def test_connections_that_wait_for_a_dead_address_are_not_at_work():
    """A client without pause: every connection meets the address that has vanished, and takes no CPU from then on."""
    tiny = wrk_before_a_stop(pods=2, gone_s=0.0)
    tiny.run(0.9)
    assert tiny.traffic.no_pause.n_at_work == 10
    tiny.run(1.9)
    assert tiny.traffic.no_pause.n_at_work == 0


def test_only_the_client_works_where_every_connect_is_refused():
    """Beside the node's own work two processes want a core, client and server; of a dead pod's address one."""
    tiny = wrk_before_a_stop(pods=1, gone_s=1000.0)
    tiny.run(0.9)
    assert tiny.traffic.no_pause.n_runnable == 3
    tiny.run(1.9)
    assert tiny.traffic.no_pause.n_runnable == 2


def test_connections_that_pause_before_the_next_attempt_are_not_at_work():
    """HAProxy waits a second after a refusal before it asks the only server again."""
    load = replace(PLAIN, client="wrk", arrivals=ClosedLoop(), connections=10)
    tiny = Tiny(load, pods=2, haproxy="option http-server-close")
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], gone_s=1000.0))
    tiny.run(1.5)
    assert tiny.traffic.no_pause.n_at_work == 0
    tiny.at(1.6, tiny.route, tiny.pods[1:])
    tiny.run(5.0)
    assert tiny.traffic.no_pause.n_at_work == 10


@pytest.mark.parametrize(("arrivals", "share"), [(ClosedLoop(think_time=Constant(value_s=0.01)), 0.0),
                                                 (OpenLoop(rate_per_s=100.0), 1.0)])  # fmt: skip
def test_hanging_connections_of_a_paced_client_take_no_cpu(arrivals, share):
    """A closed loop falls silent with its last connection; an open one sends its requests whatever waits."""
    load = replace(PLAIN, arrivals=arrivals, connections=10, keep_alive=False)
    tiny = Tiny(load, pods=1)
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], gone_s=0.0))
    tiny.run(0.9)
    assert tiny.traffic.share_at_work == 1.0
    tiny.run(2.0)
    assert tiny.traffic.share_at_work == share


@pytest.mark.parametrize("on_node", [True, False])
def test_utilisation_is_rate_times_cpu_over_cores(on_node):
    """A paced load's share of the cores; a client elsewhere takes none of them."""
    cpu = TIMING.request_cpu_s
    client = replace(PLAIN, arrivals=OpenLoop(rate_per_s=400.0), connections=10, keep_alive=False)
    tiny = Tiny(client, on_node=on_node, cores=2)
    server_s = cpu["nginx"] + cpu["connect"] + cpu["wakeups"]
    client_s = cpu["plain"] + cpu["connect"] if on_node else 0.0
    assert tiny.traffic.utilisation == pytest.approx(400 * (server_s + client_s) / 2)


def test_a_newcomer_of_the_calm_that_a_stop_ends():
    """All connections are busy when the only pod stops: those that had to be opened before it are thought of then."""
    slow = replace(APP, service_time=Constant(value_s=0.2))
    load = replace(
        PLAIN,
        arrivals=OpenLoop(rate_per_s=100.0, poisson=False),
        connections=1,
        keep_alive=False,
        duration_s=3.0,
    )
    tiny = Tiny(load, image=slow)
    tiny.at(1.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0, gone_s=0.5))
    tally = tiny.run()
    assert tally.n_ok == pytest.approx(80, abs=3)  # those of the first second that had 0.2 s left
    assert tally.n_requests + tally.n_open == 300


def test_nothing_rests_for_a_calm_that_does_not_come():
    """A small pool, kept connections behind a proxy: no calm. Other rules then meet nobody in a request of its own."""
    slow = replace(APP, service_time=Constant(value_s=0.03))
    load = replace(PLAIN, arrivals=OpenLoop(rate_per_s=300.0), connections=20, duration_s=4.0)
    tiny = Tiny(load, image=slow, pods=4, haproxy="option http-keep-alive")
    for at_s, pods in ((1.0, tiny.pods[:3]), (2.0, tiny.pods[1:]), (3.0, tiny.pods[:2])):
        tiny.at(at_s, tiny.route, pods)
    tiny.at(3.5, lambda: _no_link_is_lost(tiny))
    tally = tiny.run()
    assert tally.n_requests + tally.n_open == pytest.approx(1200, abs=1)
    assert tiny.attached() == {}


def _no_link_is_lost(tiny):
    """Whatever a server holds is somebody's."""
    known = {
        link
        for conn in tiny.traffic.connections
        for link in (conn.link, conn.hop.link, *conn.hop.kept.values())
    }
    for pod in tiny.pods:
        assert set(tiny.server(pod).connections) <= known
