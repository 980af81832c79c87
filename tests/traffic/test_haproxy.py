"""HAProxy between client and pods: retries, redispatch, what the client is told, by version and mode."""

from dataclasses import replace

import numpy as np
import pytest
from assertions import assert_binomial
from tiny import APP, GENERIC, HAPROXY, PLAIN, TIMING, Tiny, causes, seen

from sim.outcomes import Cause, Seen
from sim.scenario.distributions import Constant
from sim.scenario.model import ClosedLoop
from sim.scenario.timing import Vanished
from sim.world import ServerPhase

CLOSE = "option http-server-close"
V15, V22, V26, V30 = (replace(HAPROXY, version=v) for v in ("1.5.19", "2.2.0", "2.6.12", "3.0.5"))
SILENT = replace(TIMING, vanished=Vanished.SILENCE_PINNED)


@pytest.fixture(params=[True, False], ids=["stepwise", "cruise"])
def stepwise(request):
    return request.param


def load(*, think_s=1.0, connections=1, **more):
    return replace(
        PLAIN,
        connections=connections,
        arrivals=ClosedLoop(think_time=Constant(value_s=think_s)),
        **{"duration_s": 30.0, "answer_timeout_s": 60.0, **more},
    )


def gone(tiny, pod, *, silent):
    """A stale endpoint: its pod refuses, or its address answers nothing."""
    server = tiny.server(pod)
    server.stop = None
    server.move(ServerPhase.EXITED)
    if silent:
        server.move(ServerPhase.VANISHED)


def dead(cfg, *, silent=False, at_s=10.25, version=V26, pods=1, n_dead=1, client=None, until_s=None, **more):
    """Pods of which *n_dead* are dead from *at_s* on, still in the rules; until the load's end or *until_s*."""
    tiny = Tiny(client or load(), haproxy=cfg, pods=pods, proxy_image=version, timing=SILENT, **more)
    for pod in tiny.pods[:n_dead]:
        tiny.at(at_s, lambda pod=pod: gone(tiny, pod, silent=silent))
    return tiny, tiny.run(until_s)


# ---------------------------------------------------------------- retries and pauses


@pytest.mark.parametrize(
    ("retries", "connect", "pause_s"), [(0, "5s", 0), (1, "5s", 1), (3, "5s", 3), (3, "500ms", 1.5)]
)
def test_refused_retries_pause(retries, connect, pause_s, stepwise):
    """`retries` n means n + 1 attempts, min(1 s, timeout connect) apart where there is no other server: then 503."""
    _, tally = dead(f"{CLOSE}\n  retries {retries}\n  timeout connect {connect}", stepwise=stepwise)
    gaps = np.diff([f.at_s for f in tally.failures])
    assert set(causes(tally)) == {"proxy_retries_exhausted"}
    assert {f.seen for f in tally.failures} == {Seen.HTTP_503}
    assert gaps == pytest.approx(1.0 + pause_s, abs=0.01)


def test_silent_attempts_pay_the_connect_timeout_and_no_pause(stepwise):
    """4 attempts of 2 s each: 8 s; a later request then ends without a byte."""
    _, tally = dead(f"{CLOSE}\n  timeout connect 2s", silent=True, stepwise=stepwise)
    gaps = np.diff([f.at_s for f in tally.failures])
    assert gaps[0] == pytest.approx(9.0, abs=0.02)
    assert tally.failures[0].seen_as == "eof_reused"
    assert tally.failures[1].seen is Seen.HTTP_503  # the first of its client connection


def rejected(version, *, connections=1, stepwise=True, until_s=None, **more):
    """No endpoint from 10.25 s on."""
    client = load(connections=connections, **more)
    cfg = f"{CLOSE}\n  retries 3\n  timeout connect 5s"
    tiny = Tiny(client, haproxy=cfg, proxy_image=version, stepwise=stepwise)
    tiny.at(10.25, tiny.route, [])
    return tiny, tiny.run(until_s)


@pytest.mark.parametrize(("version", "takes_s"), [(V26, 7.0), (V30, 3.0)])
def test_a_rejected_connect(version, takes_s, stepwise):
    """Of the first SYN's ICMP 2.6.12 hears nothing: each of 4 attempts ends with the next one, 1 s later.

    Tried on 2.6.12: 503 after 7.08 s.
    """
    _, tally = rejected(version, stepwise=stepwise, answer_timeout_s=60.0)
    assert set(causes(tally)) == {"proxy_retries_exhausted"}
    assert {f.seen for f in tally.failures} == {Seen.HTTP_503}
    assert tally.n_failed > 1
    assert np.diff([f.at_s for f in tally.failures]) == pytest.approx(1.0 + takes_s, abs=0.02)


@pytest.mark.parametrize("version", [V26, V30])
def test_most_rejections_are_silent(version, stepwise):
    """A node sends one address 6 ICMP errors at once and then one a second: all others wait for `timeout connect`.

    Tried on 2.6.12 beside its checks: of 20 requests 5 failed before 19 s had passed.
    """
    _, tally = rejected(version, connections=40, stepwise=stepwise, until_s=27.0, answer_timeout_s=60.0)
    assert tally.n_failed <= 6 + 17  # heard of, were each the last of its request's 4


def test_new_rules_end_the_silence(stepwise):
    """The SYN a second later meets the rules of then; an answer takes that much longer, and nothing fails."""
    tiny = Tiny(load(connections=40), haproxy=CLOSE, proxy_image=V26, stepwise=stepwise)
    tiny.at(10.25, tiny.route, [])
    tiny.at(13.25, tiny.route, tiny.pods)
    tally = tiny.run()
    assert tally.n_failed == 0


def test_connect_timeout_unset_waits_for_the_kernel(stepwise):
    """Without `timeout connect` an attempt ends when the kernel gives its SYN up, after 131 s."""
    client = load(duration_s=400.0, answer_timeout_s=1000.0)
    cfg = f"{CLOSE}\n  retries 0\n  timeout connect 0"
    _, tally = dead(cfg, silent=True, client=client, stepwise=stepwise)
    gaps = np.diff([f.at_s for f in tally.failures])
    assert gaps == pytest.approx(132.0, abs=0.1)


def test_no_retry_without_conn_failure(stepwise):
    """`retry-on` without conn-failure: the first refused connect is the last (src/backend.c, PR_RE_CONN_FAILED)."""
    _, tally = dead(f"{CLOSE}\n  retry-on empty-response", stepwise=stepwise)
    assert np.diff([f.at_s for f in tally.failures]) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("redispatch", "late_s"), [("option redispatch", 0.0), ("", 3.0)])
def test_redispatch_leaves_at_once(redispatch, late_s, stepwise):
    """With a second server up a refused connect moves there without a pause; else it stays and fails."""
    _, tally = dead(
        f"{CLOSE}\n  {redispatch}",
        pods=2,
        lines="server-template app 2 app:80",
        headless=True,
        stepwise=stepwise,
    )
    if redispatch:
        assert tally.n_failed == 0
        assert tally.n_ok >= 27
        return
    assert set(causes(tally)) == {"proxy_retries_exhausted"}
    assert tally.failures[0].at_s >= 13.2


@pytest.mark.parametrize(
    ("balance", "fails"),
    [("roundrobin", False), ("random", False), ("leastconn", False), ("first", False), ("source", True)],
)
def test_redispatch_by_algorithm(balance, fails, stepwise):
    """Every algorithm but a hash finds the other server; a hashed client stays with the dead one, if it has it."""
    failed = []
    for replication in range(6):
        tiny = Tiny(
            load(), haproxy=f"{CLOSE}\n  option redispatch\n  balance {balance}", pods=2, replication=replication,
            lines="server-template app 2 app:80", headless=True, timing=SILENT, stepwise=stepwise,
        )  # fmt: skip
        assert tiny.proxy is not None
        tiny.proxy.rng = np.random.default_rng(replication)
        tiny.at(10.25, lambda tiny=tiny: gone(tiny, tiny.pods[0], silent=False))
        failed.append(tiny.run().n_failed > 0)
    assert any(failed) == fails
    if fails:
        assert not all(failed)


def test_silent_redispatch_costs_one_timeout(stepwise):
    """A silent server with a second one up: other server after exactly one `timeout connect`."""
    client = load(think_s=3.0)
    _, tally = dead(
        f"{CLOSE}\n  option redispatch\n  timeout connect 2s", pods=2, silent=True, client=client,
        lines="server-template app 2 app:80", headless=True, stepwise=stepwise,
    )  # fmt: skip
    assert tally.n_failed == 0
    assert tally.n_ok in (6, 7)  # three of 3 s each, then 5 s each: the turn comes back to the silent one


def test_all_attempts_fail_as_p_to_the_fourth(streams):
    """One ClusterIP server, one of two endpoints dead: each retry draws anew, so P(503) = p⁴."""
    client = load(think_s=0.05, connections=200, duration_s=4.0)
    cfg = f"{CLOSE}\n  timeout connect 10ms"  # also the pause between the attempts
    tiny = Tiny(client, haproxy=cfg, pods=2, timing=SILENT, seed=streams.seed)
    gone(tiny, tiny.pods[0], silent=False)
    tally = tiny.run()
    n = tally.n_requests
    assert_binomial(tally.n_failed, n, 0.5**4, false_alarm=1e-6, notices=0.4 * 0.5**4)
    assert seen(tally) == {"http_503": tally.n_failed}


def test_down_server_is_not_used():
    """503 at once when no server is up; the client's connection goes on."""
    tiny = Tiny(load(), haproxy=CLOSE)
    assert tiny.proxy is not None

    def down():
        tiny.proxy.servers[0].up = False
        tiny.world.rules_touched(0)

    tiny.at(10.25, down)
    tally = tiny.run()
    assert set(causes(tally)) == {"proxy_no_server"}
    assert np.diff([f.at_s for f in tally.failures]) == pytest.approx(1.0, abs=0.01)
    assert {f.reused for f in tally.failures} == {True}


def test_weight_zero_gets_nothing():
    """`weight 0`: a server for nobody."""
    tiny = Tiny(load(), haproxy=CLOSE, lines="server a app:80 weight 0\n  server b app:80")
    assert tiny.proxy is not None
    assert [s.line.name for s in tiny.proxy.usable] == ["b"]


def test_weights_share_the_requests(stepwise):
    """Requests are spread in proportion to the weights: here one of four to the dead line's pods."""
    lines = "server-template a 1 app:80 weight 1\n  server-template b 1 app:80 weight 3"
    client = load(think_s=0.02, connections=20, duration_s=8.0)
    tiny = Tiny(
        client,
        haproxy=f"{CLOSE}\n  retries 0",
        pods=2,
        lines=lines,
        headless=True,
        timing=SILENT,
        stepwise=stepwise,
    )
    gone(tiny, tiny.pods[0], silent=False)
    tally = tiny.run()
    assert_binomial(tally.n_failed, tally.n_requests, 0.25, false_alarm=1e-6, notices=0.06)


# ---------------------------------------------------------------- what the client is told

FIRST, LATER = False, True
TOLD = [
    # version, mode, request of its client connection, backend reused -> what the client sees
    (V15, CLOSE, FIRST, "http_502"),
    (V15, CLOSE, LATER, "eof_reused"),
    (V26, CLOSE, FIRST, "http_502"),
    (V26, CLOSE, LATER, "eof_reused"),
    (V26, "", LATER, "eof_reused"),
    (V30, CLOSE, FIRST, "http_502"),
    (V30, CLOSE, LATER, "http_502"),
    (V30, "", LATER, "eof_reused"),  # a reused backend connection
]


@pytest.mark.parametrize(("version", "mode", "later", "told"), TOLD)
def test_broken_before_the_header(version, mode, later, told, stepwise):
    """EOF or RST of the pod before a complete header: 502 or silent EOF by version, request index and reuse."""
    image = replace(GENERIC, service_time=Constant(value_s=2.0))
    client = load(think_s=0.0, keep_alive=later)
    tiny = Tiny(client, haproxy=mode, pods=2, image=image, proxy_image=version, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(15.0, tiny.route, tiny.pods[1:])
    tiny.at(15.0, lambda: tiny.stop(tiny.pods[0]))
    tally = tiny.run()
    assert seen(tally) == {told: 1}
    assert causes(tally) == {"proxy_backend_broken": 1}
    assert tiny.attached() == {}


@pytest.mark.parametrize("version", [V15, V26, V30])
def test_broken_after_the_header(version, stepwise):
    """Once the header is forwarded the client gets a cut body and FIN; nothing is tried again."""
    image = replace(APP, service_time=Constant(value_s=0.0), stream_time=Constant(value_s=2.0))
    cfg = f"{CLOSE}\n  retry-on all-retryable-errors"
    tiny = Tiny(load(think_s=0.0), haproxy=cfg, pods=2, image=image, proxy_image=version, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(15.0, tiny.route, tiny.pods[1:])
    tiny.at(15.0, lambda: tiny.stop(tiny.pods[0]))
    tally = tiny.run()
    assert seen(tally) == {"truncated_reused": 1}
    assert causes(tally) == {"proxy_backend_truncated": 1}


@pytest.mark.parametrize(("version", "keeps"), [(V15, False), (V22, True), (V26, True), (V30, True)])
def test_error_answers_keep_the_client_connection(version, keeps, stepwise):
    """From 2.2 on a 503 has a length and the client's connection goes on; before it is closed."""
    _, tally = dead(f"{CLOSE}\n  retries 0", version=version, stepwise=stepwise)
    assert [f.reused for f in tally.failures[1:]] == [keeps] * (tally.n_failed - 1)


def test_a_client_without_keep_alive_leaves_after_an_error(stepwise):
    """Each request of a closing client is the first of its connection, after a 503 too."""
    _, tally = dead(f"{CLOSE}\n  retries 0", client=load(keep_alive=False), stepwise=stepwise)
    assert {f.reused for f in tally.failures} == {False}
    assert tally.n_failed > 5


@pytest.mark.parametrize(("version", "told"), [(V15, "eof_reused"), (V26, "http_504"), (V30, "http_504")])
def test_timeout_server(version, told):
    """No header within `timeout server`: 504; 1.5 closed a later request's connection without a byte."""
    image = replace(GENERIC, service_time=Constant(value_s=3.0))
    tiny = Tiny(load(think_s=1.0), haproxy=f"{CLOSE}\n  timeout server 2s", image=image, proxy_image=version)
    tally = tiny.run()
    assert causes(tally) == {"proxy_server_timeout": tally.n_failed}
    assert {f.seen_as for f in tally.failures[1:2]} == {
        told if version is V26 or version is V30 else "http_504"
    }
    assert np.diff([f.at_s for f in tally.failures]) == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(("limit", "failed"), [("2s", 0), ("1s", 5)])
def test_timeout_server_in_the_middle_of_an_answer(limit, failed):
    """A silent gap inside an answer beyond `timeout server` cuts it."""
    from sim.scenario.nginx_conf import parse_nginx

    conf = parse_nginx(
        "events {} http { server { listen 80; location / { echo a; echo_flush; echo_sleep 1.5; echo b; } } }",
        where="c",
    )
    cfg = f"{CLOSE}\n  timeout server {limit}"
    tiny = Tiny(load(think_s=0.5, duration_s=10.0), haproxy=cfg, nginx=conf)
    tally = tiny.run()
    assert (tally.n_failed >= failed) if failed else (tally.n_failed == 0)
    assert set(seen(tally)) <= {"truncated_first", "truncated_reused"}


# ---------------------------------------------------------------- L7 retries


def l7(retry_on, *, version=V26, pods=2, lines="server app app:80", signal="SIGTERM", stepwise=True, **more):
    image = replace(GENERIC, service_time=Constant(value_s=2.0))
    cfg = f"{CLOSE}\n  option redispatch\n  retry-on {retry_on}"
    tiny = Tiny(
        load(think_s=0.0, **more), haproxy=cfg, pods=pods, image=image, proxy_image=version, lines=lines,
        stepwise=stepwise,
    )  # fmt: skip
    tiny.route(tiny.pods[:1])
    tiny.at(15.0, tiny.route, tiny.pods[1:])
    tiny.at(15.0, lambda: tiny.stop(tiny.pods[0], signal))
    return tiny, tiny.run()


@pytest.mark.parametrize("retry_on", ["empty-response conn-failure", "all-retryable-errors"])
def test_empty_response_is_repeated(retry_on, stepwise):
    """A broken request goes to the same ClusterIP again, without a pause, and succeeds there."""
    _, tally = l7(retry_on, stepwise=stepwise)
    assert tally.n_failed == 0


@pytest.mark.parametrize(("version", "failed"), [("2.6.9", 1), ("2.6.10", 0), ("2.6", 0), ("3.0", 0)])
def test_a_reset_counts_as_empty_from_2_6_10(version, failed):
    """RST before the first byte is an empty response only from 2.6.10 on."""
    timing = replace(TIMING, round_trip=Constant(value_s=1.0))
    image = replace(APP, service_time=Constant(value_s=0.0))
    cfg = f"{CLOSE}\n  retry-on empty-response conn-failure\n  retries 3"
    n = 0
    for replication in range(12):
        tiny = Tiny(
            load(think_s=0.0), haproxy=cfg, pods=2, image=image, proxy_image=replace(HAPROXY, version=version),
            timing=timing, replication=replication,
        )  # fmt: skip
        tiny.route(tiny.pods[:1])
        tiny.at(15.0, tiny.route, tiny.pods[1:])
        tiny.at(15.0, lambda t=tiny: t.stop(t.pods[0]))
        n += tiny.run().n_failed
    assert (n > 0) == bool(failed)


def test_response_timeout_is_repeated():
    """`retry-on response-timeout`: another attempt after each `timeout server`, 504 when they are used up."""
    image = replace(GENERIC, service_time=Constant(value_s=3.0))
    cfg = f"{CLOSE}\n  timeout server 2s\n  retries 2\n  retry-on response-timeout conn-failure"
    tally = Tiny(load(think_s=1.0), haproxy=cfg, image=image).run()
    assert np.diff([f.at_s for f in tally.failures]) == pytest.approx(7.0, abs=0.01)


def test_attempts_are_counted_together():
    """Connect and L7 retries share one counter: two lost to broken answers leave one for a refused connect."""
    image = replace(GENERIC, service_time=Constant(value_s=1.0))
    cfg = f"{CLOSE}\n  retries 1\n  retry-on empty-response conn-failure"
    tiny = Tiny(load(think_s=0.0), haproxy=cfg, pods=1, image=image)
    tiny.at(15.0, lambda: tiny.stop(tiny.pods[0], gone_s=100.0))
    tally = tiny.run()
    first = tally.failures[0]
    assert first.cause is Cause.PROXY_RETRIES_EXHAUSTED
    assert first.at_s == pytest.approx(15.002, abs=0.01)  # broken, repeated at once, refused: no attempt left


# ---------------------------------------------------------------- connections to the pods


def test_kept_connections_are_reused(stepwise):
    """http-keep-alive: one connection to the pod serves the requests of a client connection but its first."""
    tiny = Tiny(load(think_s=0.1, duration_s=10.0), haproxy="", stepwise=stepwise)
    opened = []
    server = tiny.server(tiny.pods[0])
    attach = server.attach
    server.attach = lambda link: (opened.append(link), attach(link))
    tiny.run()
    assert len(opened) == 1


@pytest.mark.parametrize(
    ("reuse", "n_opened"), [("safe", 20), ("always", 1), ("aggressive", 1), ("never", 20)]
)
def test_first_requests_and_reuse(reuse, n_opened):
    """`safe`: the first request of a client connection opens a connection of its own; `always` takes a kept one."""
    tiny = Tiny(
        load(think_s=0.1, duration_s=2.2, keep_alive=False), haproxy=f"http-reuse {reuse}", stepwise=True
    )
    opened = []
    server = tiny.server(tiny.pods[0])
    attach = server.attach
    server.attach = lambda link: (opened.append(link), attach(link))
    tally = tiny.run()
    assert len(opened) == pytest.approx(n_opened if n_opened == 1 else tally.n_ok, abs=1)


def test_idle_kept_connections_cost_nothing(stepwise):
    """HAProxy sees the FIN on its idle connections at once: a stop between two requests loses none."""
    tiny = Tiny(load(think_s=2.0), haproxy="", pods=2, stepwise=stepwise)
    tiny.route(tiny.pods[:1])
    tiny.at(15.0, tiny.route, tiny.pods[1:])
    tiny.at(15.0, lambda: tiny.stop(tiny.pods[0], "SIGQUIT"))
    assert tiny.run().n_failed == 0


def test_a_slot_with_another_pod_loses_its_pool():
    """DNS gives a slot another address: its kept connections are closed, requests go to the new pod at once."""
    tiny = Tiny(
        load(think_s=0.5),
        haproxy="",
        pods=2,
        lines="server-template app 1 app:80",
        headless=True,
        stepwise=True,
    )
    slot = tiny.proxy.servers[0]

    def moved():
        slot.pod = tiny.pods[1]
        tiny.world.rules_touched(0)

    tiny.at(15.0, moved)
    tiny.at(15.5, lambda: tiny.stop(tiny.pods[0]))
    assert tiny.run().n_failed == 0


# ---------------------------------------------------------------- queue, client side, stops of the proxy


def test_full_server_queues():
    """`maxconn 1`: requests are served one after the other; none fails within `timeout queue`."""
    image = replace(GENERIC, service_time=Constant(value_s=0.1))
    tiny = Tiny(
        load(think_s=0.0, connections=5, duration_s=10.0), haproxy=f"{CLOSE}\n  timeout queue 5s", image=image,
        lines="server app app:80 maxconn 1",
    )  # fmt: skip
    tally = tiny.run()
    assert tally.n_failed == 0
    assert tally.n_ok == pytest.approx(100, abs=6)


@pytest.mark.parametrize("queue", ["timeout queue 150ms", "timeout connect 150ms"])
def test_queue_timeout(queue):
    """Longer than `timeout queue` (unset: timeout connect) in the queue is a 503."""
    image = replace(GENERIC, service_time=Constant(value_s=0.1))
    tiny = Tiny(
        load(think_s=0.0, connections=5, duration_s=10.0), haproxy=f"{CLOSE}\n  {queue}", image=image,
        lines="server app app:80 maxconn 1",
    )  # fmt: skip
    tally = tiny.run()
    assert set(causes(tally)) == {"proxy_queue_timeout"}
    assert set(seen(tally)) == {"http_503"}
    assert tally.n_ok == pytest.approx(100, abs=8)
    assert tiny.proxy.waiting == []
    assert tiny.proxy.servers[0].n_running == 0


def test_a_free_server_is_taken_before_the_queue():
    """Two servers of one request each serve two at once."""
    image = replace(GENERIC, service_time=Constant(value_s=0.1))
    tiny = Tiny(
        load(think_s=0.0, connections=2, duration_s=10.0), haproxy=CLOSE, image=image,
        lines="server a app:80 maxconn 1\n  server b app:80 maxconn 1",
    )  # fmt: skip
    assert tiny.run().n_ok == pytest.approx(198, abs=6)


@pytest.mark.parametrize(
    ("timeouts", "client", "failed"),
    [
        ("timeout http-keep-alive 500ms", "plain", True),
        ("timeout http-request 500ms", "plain", True),
        ("timeout client 500ms", "plain", True),
        ("timeout http-keep-alive 5s\n  timeout http-request 500ms", "plain", False),
        ("timeout http-keep-alive 500ms", "requests", False),
    ],
)
def test_idle_client_connections(timeouts, client, failed):
    """http-keep-alive, else http-request, else client: a pause beyond it meets a silent FIN."""
    tiny = Tiny(load(think_s=1.0, client=client, duration_s=10.0), haproxy=f"{CLOSE}\n  {timeouts}")
    tally = tiny.run()
    assert (tally.n_failed > 3) == failed
    assert set(causes(tally)) <= {"idle_timeout_race"}


@pytest.mark.parametrize("mode", ["option httpclose", CLOSE, ""])
def test_httpclose_closes_the_client_too(mode, stepwise):
    """`httpclose`: one request for each client connection; the other modes keep it."""
    tiny = Tiny(load(think_s=0.1, duration_s=5.0), haproxy=mode, stepwise=stepwise)
    opened = []
    server = next(iter(tiny.proxies))
    attach = server.attach
    server.attach = lambda link: (opened.append(link), attach(link))
    tally = tiny.run()
    assert tally.n_failed == 0
    assert tiny.traffic.keeps == (mode != "option httpclose")
    if mode != "option httpclose":
        assert len(opened) == 1


@pytest.mark.parametrize(
    ("stage", "signal", "option", "failed"),
    [
        ("idle", "SIGUSR1", "", 1),
        ("idle", "SIGUSR1", "option idle-close-on-response", 0),
        ("in-flight", "SIGUSR1", "", 0),
        ("idle", "SIGTERM", "", 1),
        ("in-flight", "SIGTERM", "", 1),
    ],
)
def test_stop_of_the_proxy(stage, signal, option, failed, stepwise):
    """SIGUSR1: idle clients get FIN at once (unless idle-close-on-response), what runs completes; SIGTERM cuts."""
    image = replace(GENERIC, service_time=Constant(value_s=2.0 if stage == "in-flight" else 0.0))
    client = load(think_s=0.0 if stage == "in-flight" else 2.0)
    tiny = Tiny(client, haproxy=f"{CLOSE}\n  {option}", image=image, stepwise=stepwise)
    old = next(iter(tiny.proxies)).pod
    new = tiny.pod("proxy-1", old.template.containers[0], HAPROXY)
    from sim.proxies import open_proxy

    tiny.proxies[tiny.server(new)] = open_proxy(tiny.world, tiny.server(new))
    tiny.at(15.0, tiny.route, [new], "proxy")
    tiny.at(15.0, lambda: tiny.stop(old, signal))
    tally = tiny.run()
    assert tally.n_failed == failed
    assert tiny.attached() == {}
    if signal == "SIGUSR1":
        assert tiny.when(old, "exited") <= 17.01 + (2.0 if option else 0.0)


def test_session_affinity_of_the_proxy():
    """A proxy's pod is one source address: with ClientIP affinity all its connects meet one endpoint."""
    tiny = Tiny(load(think_s=0.02, duration_s=5.0), haproxy=f"{CLOSE}\n  retries 0", pods=3, affinity_s=10800)
    tiny.proxy.rng = np.random.default_rng(1)
    line = tiny.proxy.servers[0]
    met = {tiny.proxy.targets(tiny.world, line) for _ in range(20)}
    assert len(met) == 1
    (server,) = met.pop()
    tiny.route([pod for pod in tiny.pods if tiny.server(pod) is not server])
    assert tiny.proxy.targets(tiny.world, line)[0] is not server


@pytest.mark.parametrize("stepwise", [False, True])
def test_a_client_that_closes_uses_no_connection_of_an_earlier_request(stepwise):
    """http-reuse safe: each of its requests is a first one; what the proxy keeps to a pod long gone harms none."""
    image = replace(APP, service_time=Constant(value_s=0.2))
    client = load(think_s=0.05, duration_s=6.0, keep_alive=False, connections=10)
    tiny = Tiny(client, haproxy="", pods=2, image=image, stepwise=stepwise)
    tiny.at(1.0, tiny.route, tiny.pods[1:])
    tiny.at(2.0, lambda: tiny.stop(tiny.pods[0], takes_s=0.0))
    for at_s in (3.0, 3.1, 4.0):
        tiny.at(at_s, tiny.route, tiny.pods[1:])
    assert not tiny.run().failures
