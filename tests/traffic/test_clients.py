"""What each client's own report makes of the same fates: ab's table row by row, wrk's, plain's."""

from dataclasses import replace

import numpy as np
import pytest
from tiny import APP, GENERIC, PLAIN, TIMING, Tiny, causes, each, seen

from sim.outcomes import Cause, Failure, Seen
from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop
from sim.scenario.timing import Vanished
from sim.traffic.clients import KINDS, ends_the_run, fin_was_there, hides, polled, report


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


AB = replace(
    PLAIN, client="ab", options={"k": True, "r": True, "l": True}, arrivals=ClosedLoop(), connections=10
)
PLAIN_R, LR, L, NONE = {"r": True}, {"l": True, "r": True}, {"l": True}, {}
FLAGS = {"none": NONE, "l": L, "r": PLAIN_R, "lr": LR}

TABLE = [
    # what was seen, the FIN was there before the request -> failed of one such request by flags; "exit": ab ends
    (Seen.EOF, False, {"none": 1, "l": 0, "r": 1, "lr": 0}),
    (Seen.TRUNCATED, False, {"none": 1, "l": 0, "r": 1, "lr": 0}),
    (Seen.HTTP_502, False, {"none": 1, "l": 0, "r": 1, "lr": 0}),
    (Seen.HTTP_503, False, {"none": 1, "l": 0, "r": 1, "lr": 0}),
    (Seen.HTTP_504, False, {"none": 1, "l": 0, "r": 1, "lr": 0}),
    (Seen.RESET, False, {"none": "exit", "l": "exit", "r": 3, "lr": 2}),
    (Seen.EOF, True, {"none": 2, "l": 1, "r": 2, "lr": 1}),
    (Seen.REFUSED, False, {"none": "exit", "l": "exit", "r": 2.5, "lr": 1.5}),
    (Seen.UNREACHABLE, False, {"none": "exit", "l": "exit", "r": 2.5, "lr": 1.5}),
    (Seen.CONNECT_TIMEOUT, False, {"none": 0, "l": 0, "r": 0, "lr": 0}),
]


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize(("what", "fin_before", "expected"), TABLE)
def test_ab_counts(what, fin_before, expected, flags):
    """ab 2.4.62: Failed is the sum of Connect, Receive, Length and Exceptions; without -r the first reset ends it.

    Per two refused connects: Receive 2, Length 2 (without -l), Exceptions 1, two requests complete.
    """
    options = FLAGS[flags]
    n_polled = polled(2, 1.0) if what is Seen.REFUSED else 0
    printed = report("ab", options, {(what, fin_before): 2}, n_other_length=0, n_polled=n_polled)
    assert printed is not None
    if expected[flags] == "exit":
        assert printed.aborted
        assert ends_the_run("ab", options, what)
        return
    assert not printed.aborted
    assert printed.failed == 2 * expected[flags]


@pytest.mark.parametrize(("options", "failed"), [(NONE, 7), (PLAIN_R, 7), (L, 0), (LR, 0)])
def test_ab_compares_lengths(options, failed):
    """Without -l every answer that is not as long as the first one counts in Length."""
    printed = report("ab", options, {}, n_other_length=7)
    assert printed is not None
    assert printed.failed == failed


def test_wrk_counts():
    """Socket errors, Non-2xx and late answers; a request that never completes is counted nowhere."""
    failures = {
        (Seen.EOF, True): 1,
        (Seen.REFUSED, False): 2,
        (Seen.HTTP_503, False): 4,
        (Seen.TRUNCATED, False): 8,
    }
    never = {(Seen.CONNECT_TIMEOUT, False): 100, (Seen.ANSWER_TIMEOUT, False): 100}
    printed = report("wrk", {}, failures | never, n_other_length=1000, n_late=16)
    assert printed is not None
    assert printed.failed == 31


@pytest.mark.parametrize("client", ["go-http", "requests"])
def test_libraries_print_nothing(client):
    """A library has no report of its own."""
    assert report(client, {}, {(Seen.EOF, False): 1}, n_other_length=0) is None
    assert not KINDS[client].has_report


def test_plain_counts_each_failure():
    """One failure is one."""
    printed = report("plain", {}, {(Seen.EOF, True): 3, (Seen.CONNECT_TIMEOUT, False): 2}, n_other_length=5)
    assert printed is not None
    assert printed.failed == 5


def test_who_hides_is_told():
    """`ab -l` and wrk leave failures out; the others show them all."""
    assert "ab -l" in (hides("ab", LR) or "")
    assert hides("ab", PLAIN_R) is None
    assert "never completes" in (hides("wrk", {}) or "")
    assert hides("plain", {}) is None


@pytest.mark.parametrize(
    ("what", "phase", "there"),
    [(Seen.EOF, "idle", True), (Seen.EOF, "sent", False), (Seen.RESET, "idle", False)],
)
def test_fin_before_the_request(what, phase, there):
    """Only an EOF on a connection that was closed before the request was written."""
    failure = Failure(
        at_s=0.0, cause=Cause.IDLE_CLOSED, seen=what, reused=True, connection=0, pod=None, phase=phase
    )
    assert fin_was_there(failure) == there


# ---------------------------------------------------------------- in a run


def rolled(load, *, image=APP, at_s=2.0, signal="SIGTERM", **more):
    tiny = Tiny(load, pods=2, image=image, **more)
    tiny.route(tiny.pods[:1])
    tiny.at(at_s, tiny.route, tiny.pods[1:])
    tiny.at(at_s, lambda: tiny.stop(tiny.pods[0], signal))
    return tiny, tiny.run()


@pytest.mark.parametrize(("options", "ends"), [(NONE, True), (L, True), (PLAIN_R, False), (LR, False)])
def test_ab_ends_itself_at_the_first_reset(options, ends):
    """A stop resets what waits to be read: without -r the run is over then."""
    slow = replace(TIMING, request_cpu_s={name: 20 * cpu_s for name, cpu_s in TIMING.request_cpu_s.items()})
    load = replace(AB, options={"k": True, **options}, duration_s=6.0)
    tiny, tally = rolled(load, timing=slow)
    assert "rst_reused" in seen(tally)
    assert tiny.traffic.ended_s == pytest.approx(2.002 if ends else 6.0, abs=0.05)
    if ends:
        assert sum(n for f, n in each(tally) if f.seen is Seen.RESET) == 1


def test_ab_without_keep_alive_opens_a_connection_each(stepwise):
    """No -k: HTTP/1.0, one request for each connection; a stop in the deaf window resets what it accepted."""
    slow = replace(TIMING, request_cpu_s={name: 20 * cpu_s for name, cpu_s in TIMING.request_cpu_s.items()})
    load = replace(AB, keep_alive=False, options={"r": True, "l": True}, duration_s=4.0)
    _, tally = rolled(load, timing=slow, stepwise=stepwise)
    assert set(seen(tally)) <= {"rst_first"}
    assert set(causes(tally)) <= {"accept_queue_reset"}


def test_old_and_new_bodies_differ():
    """RED and BLUE pages of other lengths: each BLUE answer counts in Length, from the first RED one on."""
    blue = replace(APP, reference="app:blue", body_bytes=14)
    red = replace(APP, body_bytes=12)
    tiny = Tiny(replace(PLAIN, duration_s=4.0, keep_alive=False), pods=1, image=red)
    container = replace(tiny.pods[0].template.containers[0], image=blue.reference)
    new = tiny.pod("app-blue", container, blue)
    tiny.at(2.0, tiny.route, [*tiny.pods, new])
    tally = tiny.run()
    assert next(iter(tally.n_by_length)) == 12
    assert sum(tally.n_by_length.values()) == tally.n_ok
    assert tally.n_by_length[14] / tally.n_ok == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize("haproxy", [None, "", "option http-server-close"])
def test_lengths_are_those_of_the_app(haproxy):
    """Through a proxy too: ab sees the app's body, kept connections or not."""
    red = replace(APP, body_bytes=12)
    for stepwise in (True, False):
        tiny = Tiny(replace(PLAIN, duration_s=2.0), image=red, haproxy=haproxy, stepwise=stepwise)
        assert set(tiny.run().n_by_length) == {12}


def test_wrk_counts_late_answers():
    """An answer after its time-out (2 s) is an answer; wrk counts it as late too and does not give it up."""
    image = replace(GENERIC, service_time=Constant(value_s=2.5))
    load = replace(
        PLAIN, client="wrk", connections=1, arrivals=ClosedLoop(), answer_timeout_s=2.0, duration_s=10.9
    )
    tally = Tiny(load, image=image).run()
    assert tally.n_failed == 0
    assert tally.n_late == tally.n_ok
    assert tally.n_ok in (3, 4)  # by the phase at which it begins


def test_ab_gives_up_when_nothing_moves():
    """No event on any connection for -s: ab ends itself."""
    load = replace(AB, options={"r": True, "s": 3}, keep_alive=False, duration_s=60.0, connections=4)
    tiny = Tiny(load, timing=replace(TIMING, vanished=Vanished.SILENCE_PINNED))
    tiny.at(2.0, lambda: tiny.stop(tiny.pods[0], gone_s=0.0))
    tally = tiny.run()
    assert tally.gave_up
    assert tiny.traffic.ended_s == pytest.approx(5.0, abs=0.2)


@pytest.mark.parametrize(("retries", "failed"), [(0, True), (1, False)])
def test_retries_of_the_client(retries, failed, stepwise):
    """A request that succeeds when it is sent again is counted as retried, not as failed."""
    load = replace(PLAIN, retries=retries, duration_s=4.0, connections=10)
    _, tally = rolled(load, signal="SIGQUIT", stepwise=stepwise)
    assert (tally.n_failed > 0) == failed
    assert tally.n_retried == (0 if failed else pytest.approx(10, abs=1))  # one may be in the last answer


def test_each_request_has_one_fate():
    """Sent, as the load counts them, is succeeded and failed together; nothing is counted twice."""
    load = replace(PLAIN, duration_s=5.0, connections=50)
    sent = []
    tiny = Tiny(load, pods=3, stepwise=True)
    for connection in tiny.traffic.connections:
        request = connection._request
        connection._request = lambda resume, request=request: (sent.append(1), request(resume))[1]
    tiny.at(2.0, lambda: tiny.stop(tiny.pods[0]))
    tiny.at(2.1, tiny.route, tiny.pods[1:])
    tally = tiny.run()
    assert len(sent) == tally.n_ok + tally.n_failed + tally.n_open


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_every_other_of_those_refused_in_a_row_is_polled(share):
    """The rule itself, connect by connect: after one that the poll showed the next is read at once."""
    rng = np.random.default_rng(1)
    n_polled, shown = 0, False
    refused = rng.random(100_000) < share
    for was_refused in refused:
        shown = bool(was_refused) and not shown
        n_polled += shown
    n = int(refused.sum())
    assert n_polled == pytest.approx(polled(n, share), abs=5 * n**0.5)


@pytest.mark.parametrize("stepwise", [True, False], ids=["stepwise", "cruise"])
@pytest.mark.parametrize("n_dead", [1, 3])
def test_a_load_tells_which_refused_connects_are_polled(n_dead, stepwise):
    """One of three pods refuses, or all do: by the share of the rules that is dead at that time."""
    load = replace(AB, options={"r": True}, keep_alive=False, duration_s=3.0)
    tiny = Tiny(load, pods=3, stepwise=stepwise, timing=replace(TIMING, p_time_wait_refuses=0.0))
    for pod in tiny.pods[:n_dead]:
        tiny.at(1.0, lambda pod=pod: tiny.stop(pod, takes_s=0.0, gone_s=60.0))
    tally = tiny.run()
    n = tally.by_class()[Seen.REFUSED, False]
    assert n > 100
    assert tally.n_polled == pytest.approx(polled(n, n_dead / 3), rel=0.02)
