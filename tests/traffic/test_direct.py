"""A client straight at the pods: each state of its connection against each way a server ends.

Most loads here are one connection that spends nearly all its time in one stage, so the stage that the stop meets
is known. Each holds step by step and in the cruise.
"""

from dataclasses import replace

import pytest
from tiny import APP, GENERIC, PLAIN, TIMING, Tiny, causes, seen

from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop, ExitWhen, OnBusy, OnIdle, OnListener, StopBehaviour

LONG = Constant(value_s=2.0)
NOTHING = Constant(value_s=0.0)
IN_FLIGHT = replace(APP, service_time=LONG)  # late header: not one event batch
STREAMED = replace(APP, service_time=NOTHING, stream_time=LONG)
GENERIC_IN_FLIGHT = replace(GENERIC, service_time=LONG)


def one(client="plain", *, think_s=0.0, keep_alive=True, duration_s=25.0, **more):
    """One connection; without a pause it is always inside its request."""
    return replace(
        PLAIN,
        client=client,
        connections=1,
        keep_alive=keep_alive,
        arrivals=ClosedLoop(think_time=Constant(value_s=think_s)),
        duration_s=duration_s,
        answer_timeout_s=60.0,
        **more,
    )


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


def stopped(load, image, signal, *, stepwise, at_s=15.0, stale=False, **stop):
    """One old pod that gets *signal*; its rules point to a new pod from then on (unless *stale*)."""
    tiny = Tiny(load, pods=2, image=image, stepwise=stepwise)
    old, new = tiny.pods
    tiny.route([old])
    tiny.at(at_s, lambda: None if stale else tiny.route([new]))
    tiny.at(at_s, lambda: tiny.stop(old, signal, **stop))
    return tiny, tiny.run()


@pytest.mark.parametrize(
    ("signal", "image", "fate"),
    [
        ("SIGQUIT", IN_FLIGHT, {}),
        ("SIGQUIT", STREAMED, {"eof_reused": 1}),  # complete; the FIN behind it meets the next request
        ("SIGTERM", STREAMED, {"truncated_reused": 1}),
        ("SIGTERM", GENERIC_IN_FLIGHT, {"eof_reused": 1}),
    ],
    ids=["quit-in-service", "quit-streaming", "term-streaming", "term-in-service"],
)
def test_in_flight(signal, image, fate, stepwise):
    """QUIT finishes what it has read; a fast stop cuts it: EOF before the header, a cut body after it."""
    _, tally = stopped(one(), image, signal, stepwise=stepwise)
    assert seen(tally) == fate
    if signal == "SIGQUIT":
        assert not {"stop_in_flight", "accept_queue_reset"} & causes(tally).keys()


def test_a_file_in_one_event_batch_is_never_cut(stepwise):
    """nginx reads a request for a file and answers it in one pass: TERM does not come between."""
    image = replace(APP, service_time=Constant(value_s=0.010))
    load = one(think_s=0.0, duration_s=15.5)
    timing = replace(TIMING, round_trip=Constant(value_s=1e-6))  # else it may be on the wire
    cut = 0
    for replication in range(8):
        tiny = Tiny(load, pods=2, image=image, timing=timing, stepwise=stepwise, replication=replication)
        tiny.route(tiny.pods[:1])
        tiny.at(15.0, tiny.route, tiny.pods[1:])
        tiny.at(15.0, lambda tiny=tiny: tiny.stop(tiny.pods[0], takes_s=0.02))
        cut += sum(c == "stop_in_flight" for f in tiny.run().failures for c in [f.cause.value])
    assert cut == 0


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGQUIT"])
@pytest.mark.parametrize(
    ("client", "failed", "retried"), [("plain", 1, 0), ("requests", 0, 0), ("go-http", 0, 0)]
)
def test_idle(client, failed, retried, signal, stepwise):
    """The FIN has long arrived when the next request is due: who looks at the socket first opens a new one."""
    _, tally = stopped(one(client, think_s=2.0), APP, signal, stepwise=stepwise)
    assert (tally.n_failed, tally.n_retried) == (failed, retried)
    assert seen(tally) == ({"eof_reused": 1} if failed else {})
    assert causes(tally) == ({"idle_closed": 1} if failed else {})


@pytest.mark.parametrize(
    ("client", "method", "failed", "retried"),
    [
        ("plain", "GET", 1, 0),
        ("requests", "GET", 1, 0),
        ("go-http", "GET", 0, 1),
        ("go-http", "POST", 1, 0),
    ],
)
def test_fin_crosses_the_request(client, method, failed, retried):
    """A request written before the FIN arrived is lost; Go repeats an idempotent one on a new connection."""
    timing = replace(TIMING, round_trip=Constant(value_s=1.0))
    tiny = Tiny(
        one(client, think_s=2.0, method=method, duration_s=14.0), pods=2, timing=timing, stepwise=True
    )
    old, new = tiny.pods
    tiny.route([old])
    connection = tiny.traffic.connections[0]

    def watch():
        while connection.link is None or tiny.traffic.tally.n_ok == 0:
            yield tiny.env.timeout(0.01)
        yield tiny.env.timeout(1.8)  # of a pause of 2 s; the FIN travels for 0.5 s
        tiny.route([new])
        tiny.stop(old, "SIGQUIT")

    tiny.env.process(watch())
    tally = tiny.run()
    assert (tally.n_failed, tally.n_retried) == (failed, retried)


@pytest.mark.parametrize("client", ["plain", "go-http", "requests"])
def test_connecting_to_a_stale_endpoint(client, stepwise):
    """Refused is one failure for every client: none repeats a fresh connection."""
    _, tally = stopped(
        one(client, think_s=1.0, keep_alive=False), APP, "SIGQUIT", stepwise=stepwise, stale=True, gone_s=60.0
    )
    assert set(seen(tally)) == {"refused"}
    assert causes(tally).keys() == {"stale_endpoint_refused"}
    assert tally.n_failed == pytest.approx(10, abs=1)
    assert tally.n_retried == 0


def test_go_fails_when_its_repeat_fails(stepwise):
    """The repeat goes to a fresh connection: what that meets is the request's fate, not on a reused one."""
    load = one("go-http", duration_s=15.2)
    _, tally = stopped(load, GENERIC_IN_FLIGHT, "SIGTERM", stepwise=stepwise, stale=True, gone_s=60.0)
    first = tally.failures[0]
    assert first.seen_as == "refused"
    assert not first.reused
    assert first.phase == "connecting"
    assert tally.n_retried == 1  # at 15 s; the later ones are fresh


def test_sigkill_cuts_what_a_deaf_signal_left(stepwise):
    """A server that ignores its signal serves until SIGKILL; then what is inside is cut."""
    tiny = Tiny(one(), pods=2, image=GENERIC_IN_FLIGHT, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(15.0, tiny.route, tiny.pods[1:])
    tiny.at(15.0, tiny.kill, tiny.pods[0])
    tally = tiny.run()
    assert causes(tally) == {"kill_in_flight": 1}


def test_starting_pod_refuses(stepwise):
    """Without a readiness probe a pod is an endpoint before it listens."""
    tiny = Tiny(one(think_s=1.0, keep_alive=False, duration_s=10.0), pods=1, stepwise=stepwise)
    new = tiny.pod("app-new", tiny.pods[0].template.containers[0], APP, listening=False)
    tiny.at(5.0, tiny.route, [new])
    tally = tiny.run()
    assert causes(tally).keys() == {"starting_pod_refused"}


def test_no_endpoint_refuses(stepwise):
    """An empty Service is rejected at once."""
    tiny = Tiny(one(think_s=1.0, keep_alive=False, duration_s=10.0), pods=1, stepwise=stepwise)
    tiny.at(5.0, tiny.route, [])
    tally = tiny.run()
    assert causes(tally).keys() == {"no_endpoint"}
    assert {f.pod for f in tally.failures} == {None}


def test_listener_outlives_the_worker(stepwise):
    """Connects between worker's and master's end are accepted and reset at the master's end."""
    load = one(think_s=0.01, keep_alive=False, duration_s=20.0)
    _, tally = stopped(
        load, APP, "SIGTERM", stepwise=stepwise, stale=True, takes_s=0.001, master_s=1.0, gone_s=60
    )
    resets = [f for f in tally.failures if f.seen_as == "rst_first"]
    assert len(resets) == 1
    assert resets[0].at_s == pytest.approx(16.001, abs=0.01)


def test_the_drain_waits_for_the_last_answer(stepwise):
    """The exit is when the last connection has ended: here with the answer of 2 s that was under way."""
    tiny, tally = stopped(one(), STREAMED, "SIGQUIT", stepwise=stepwise)
    exited_s = tiny.when(tiny.pods[0], "exited")
    assert 15.0 < exited_s <= 17.0
    assert causes(tally) == {"idle_closed": 1}
    assert tiny.attached() == {}


def test_streaming_meets_the_drain_without_notice(stepwise):
    """A header that left before SIGQUIT promised keep-alive: FIN at the end, found by the next request."""
    _, tally = stopped(one(think_s=0.5, duration_s=40.0), STREAMED, "SIGQUIT", stepwise=stepwise)
    assert seen(tally) == {"eof_reused": 1}


def test_header_after_the_signal_announces_the_close(stepwise):
    """An answer whose header is built while draining says `Connection: close`: no client loses the next one."""
    _, tally = stopped(one(think_s=0.5, duration_s=40.0), IN_FLIGHT, "SIGQUIT", stepwise=stepwise)
    assert tally.n_failed == 0


BEHAVIOURS = [
    StopBehaviour(listener=listener, idle=idle, busy=busy, unused=idle, exit=exit_, exit_after_s=3.0)
    for listener in OnListener
    for idle in OnIdle
    for busy in OnBusy
    for exit_ in ExitWhen
    if not (exit_ is ExitWhen.AT_ONCE and busy is OnBusy.FINISH)
]


@pytest.mark.parametrize(
    "behaviour", BEHAVIOURS, ids=lambda b: f"{b.listener.value}-{b.idle.value}-{b.busy.value}-{b.exit.value}"
)
def test_every_generic_server(behaviour, stepwise):
    """Each combination ends when it says, loses what it says, and holds no connection after the load."""
    image = replace(GENERIC, service_time=Constant(value_s=0.010), behaviours={"SIGTERM": behaviour})
    load = replace(PLAIN, duration_s=5.0, arrivals=ClosedLoop(think_time=Constant(value_s=0.03)))
    tiny, tally = stopped(load, image, "SIGTERM", stepwise=stepwise, at_s=1.0, takes_s=0.001)
    old = tiny.pods[0]
    exits = [m.at_s for m in tiny.world.marks if m.subject == old.name and m.what == "exited"]
    names = causes(tally)
    match behaviour.exit:
        case ExitWhen.NEVER:
            assert exits == []
        case ExitWhen.AFTER:
            assert exits == [4.0]
        case ExitWhen.AT_ONCE:
            assert exits == [1.001]
        case ExitWhen.DRAINED if behaviour.idle is OnIdle.KEEP and behaviour.busy is OnBusy.FINISH:
            assert exits == [pytest.approx(5.0, abs=0.1)]  # connections end with the load
        case ExitWhen.DRAINED:
            assert 1.0 <= exits[0] <= 1.2
    cut = behaviour.exit is ExitWhen.AT_ONCE or behaviour.busy is OnBusy.CUT
    serves_on = behaviour.idle is OnIdle.KEEP and behaviour.busy is OnBusy.FINISH
    ends_serving = serves_on and behaviour.exit is ExitWhen.AFTER
    assert ("stop_in_flight" in names) == (cut or ends_serving)
    closed = behaviour.idle is OnIdle.CLOSE or behaviour.exit is ExitWhen.AT_ONCE or ends_serving
    assert ("idle_closed" in names) == closed
    assert "stale_endpoint_refused" not in names
    assert tally.n_failed <= 2 * load.connections
    assert tiny.attached() == {}
