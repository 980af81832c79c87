"""HAProxy's health checks: the counter as a table, the times as closed forms, DNS and its slots."""

from dataclasses import replace

import pytest
from assertions import assert_distribution
from builders import (
    BLUE,
    RED,
    constant_timing,
    container,
    deployment,
    haproxy_container,
    haproxy_image,
    load_of,
    nginx_image,
    scenario,
    service,
    updated,
)
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from small_world import SmallWorld

from sim.cluster.health_check import Health, check_passes, first_checks_s
from sim.cluster.proxy_dns import Resolution
from sim.errors import UnsupportedInput
from sim.proxies import BackendServer
from sim.scenario.model import (
    HAProxyCheck,
    HAProxyResolvers,
    HAProxyServer,
    Hook,
    HookKind,
    NginxConf,
    NginxLocation,
    Probe,
    ProbeKind,
    Recreate,
)
from sim.scenario.timing import Vanished
from sim.world import RuleTable, ServerPhase

# ---------------------------------------------------------------- the counter

TABLE = [
    # rise, fall, start, results, state after each: U or D
    (2, 3, 2, "-", "D"),  # as it starts, one failure is enough
    (2, 3, 2, "+---", "UUUD"),
    (2, 3, 4, "--+---", "UUUUUD"),  # a success on the way down begins anew
    (2, 3, 0, "+-++", "DDDU"),  # a failure on the way up begins anew
    (3, 1, 0, "++-+++-", "DDDDDUD"),
    (1, 1, 1, "-+-+", "DUDU"),
    (2, 5, 6, "-----", "UUUUD"),
]


@pytest.mark.parametrize(("rise", "fall", "start", "results", "states"), TABLE)
def test_the_counter(rise, fall, start, results, states):
    """Health 0 … rise + fall − 1; consecutive results alone change the state (src/check.c)."""
    health = Health(HAProxyCheck(rise=rise, fall=fall), value=start)
    seen = ""
    for result in results:
        health.take(success=result == "+")
        seen += "U" if health.up else "D"
    assert seen == states


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.booleans(), max_size=30))
def test_the_state_is_that_of_the_last_long_run(rise, fall, results):
    """From settled UP: DOWN after *fall* failures in a row, UP after *rise* successes in a row."""
    health, up, run, last = Health.settled(HAProxyCheck(rise=rise, fall=fall), up=True), True, 0, None
    for result in results:
        run, last = (run + 1 if result == last else 1), result
        if run >= (rise if result else fall):
            up = result
        health.take(success=result)
        assert health.up is up
        assert 0 <= health.value <= rise + fall - 1


@pytest.mark.parametrize(("value", "expected"), [(0, 7.0), (1, 0.5), (2, 0.5), (3, 0.5), (4, 2.0)])
def test_intervals(value, expected):
    """downinter when fully down, fastinter in between and before the first check, inter when fully up."""
    check = HAProxyCheck(inter_s=2.0, fastinter_s=0.5, downinter_s=7.0, rise=2, fall=3)
    assert Health(check, value=value).interval_s == expected
    assert Health(replace(check, fastinter_s=None, downinter_s=None), value=value).interval_s == 2.0


@pytest.mark.parametrize(
    ("inters", "expected"),
    [
        ([2.0], [0.0]),
        ([2.0, 2.0, 2.0, 2.0], [0.0, 0.5, 1.0, 1.5]),
        ([2.0, 8.0], [0.0, 4.0]),
        ([0.2, 2.0], [0.0, 1.0]),
        ([2.0, 0.2], [0.0, 1.0]),  # a short interval is spread over the shortest long one
        ([0.2, 0.2], [0.0, 0.1]),
    ],
)
def test_first_checks_are_spread(inters, expected):
    """max(own interval, shortest of a second or more) × place / number (start_checks)."""
    assert first_checks_s([HAProxyCheck(inter_s=s) for s in inters]) == pytest.approx(expected)


# ---------------------------------------------------------------- what a check asks

STATIC = NginxConf(locations=(NginxLocation(path="/", root="/www"),))
RETURNS = NginxConf(locations=(NginxLocation(path="/", status=204),))
HTTP = {"http_path": "/ok.html", "http_method": "GET"}


@pytest.mark.parametrize(
    ("phase", "conf", "check", "expected"),
    [
        (ServerPhase.STARTING, STATIC, {}, False),
        (ServerPhase.LISTENING, STATIC, {}, True),
        (ServerPhase.DEAF, STATIC, {}, True),  # the kernel accepts
        (ServerPhase.DEAF, STATIC, HTTP, False),
        (ServerPhase.EXITED, STATIC, {}, False),
        (ServerPhase.LISTENING, STATIC, HTTP, True),
        (ServerPhase.LISTENING, STATIC, HTTP | {"http_method": "OPTIONS"}, False),  # 405
        (
            ServerPhase.LISTENING,
            STATIC,
            HTTP | {"http_method": "OPTIONS", "http_expect": ((400, 499),)},
            True,
        ),
        (ServerPhase.LISTENING, RETURNS, HTTP | {"http_method": "OPTIONS"}, True),
        (ServerPhase.LISTENING, RETURNS, HTTP | {"http_expect": ((200, 200),)}, False),
    ],
)
def test_what_passes(phase, conf, check, expected):
    """A connect, or the status that is expected."""
    d = deployment(container(nginx=conf))
    world = SmallWorld(scenario(d))
    server = world.server(next(iter(world.world.pods.values())))
    server.phase = phase
    assert check_passes(server, HAProxyCheck(**check)) is expected


def test_a_removed_file_fails_its_check():
    """The file that preStop removes: 404."""
    world = SmallWorld(scenario(deployment(container(nginx=STATIC))))
    server = world.server(next(iter(world.world.pods.values())))
    server.remove_file("/www/ok.html")
    assert not check_passes(server, HAProxyCheck(**HTTP))
    assert check_passes(server, HAProxyCheck(**(HTTP | {"http_path": "/other.html"})))


# ---------------------------------------------------------------- checks in time

T = {"round_trip": 0.001, "signal_delivery": 0.020, "fast_stop": 0.003, "exit_to_netns_gone": 0.2}
SLEEP = Hook(kind=HookKind.SLEEP, duration_s=4.0)


def proxied(line, app, *updates, services=None, proxies=1, timing=None, seed=0, version="2.6", **conf):
    """App pods behind HAProxy."""
    proxy = deployment(haproxy_container(line, **conf), name="proxy", replicas=proxies)
    services = services or (service(), service("proxy"))
    images = {ref: nginx_image(ref) for ref in (RED, BLUE)} | {"haproxy": haproxy_image(version=version)}
    return SmallWorld(
        scenario(
            app, proxy, services=services, images=images, updates=updates, load=load_of(service="proxy")
        ),
        timing=timing or constant_timing(**T),
        seed=seed,
    )


def cluster_line(**check):
    return HAProxyServer(name="app", host="app", port=80, check=HAProxyCheck(**check))


def test_time_to_down_and_up():
    """After a death: U(0, inter) + (fall − 1) × fastinter to DOWN; U(0, downinter) + (rise − 1) × fastinter to UP."""
    check = {"inter_s": 2.0, "fastinter_s": 0.5, "downinter_s": 1.0, "fall": 3, "rise": 2}
    app = deployment(replicas=1)
    world = proxied(cluster_line(**check), app, proxies=400, timing=constant_timing())
    app_pod = next(p for p in world.world.pods.values() if p.deployment == "app")
    server = world.server(app_pod)
    world.run(10.0)
    server.move(ServerPhase.EXITED)
    world.run(30.0)
    downs = [at_s - 10.0 - 2 * 0.5 for at_s in world.times("server_down")]
    assert_distribution(downs, stats.uniform(0, 2).cdf, false_alarm=1e-6, notices=0.28)
    server.begin_again()
    server.move(ServerPhase.LISTENING)
    world.run(60.0)
    ups = [at_s - 30.0 - 0.5 for at_s in world.times("server_up")]
    assert_distribution(ups, stats.uniform(0, 1).cdf, false_alarm=1e-6, notices=0.28)


def test_a_fresh_proxy_takes_one_failure():
    """HAProxy that starts while the app is dead: DOWN at its first check, at once."""
    app = deployment(replicas=1)
    proxy = deployment(haproxy_container(cluster_line(fall=5)), name="proxy")
    images = {ref: nginx_image(ref) for ref in (RED, BLUE)} | {"haproxy": haproxy_image()}
    world = SmallWorld(
        scenario(
            app,
            proxy,
            services=(service(), service("proxy")),
            images=images,
            updates=[(5.0, replace(proxy, template=replace(proxy.template, revision="blue")))],
            load=load_of(service="proxy"),
        ),
        timing=constant_timing(**T),
    ).run(1.0)
    world.server(next(p for p in world.world.pods.values() if p.deployment == "app")).move(ServerPhase.EXITED)
    world.run(20.0)
    opened_s = world.times("listening", "proxy-blue")[0]
    assert world.times("server_down", "proxy-blue") == [pytest.approx(opened_s + T["round_trip"])]


@pytest.mark.parametrize(
    ("check", "connect_s", "vanished", "expected_s"),
    [
        ({}, 1.0, Vanished.SILENCE_PINNED, 2.0),  # without `timeout check` only inter counts
        ({"timeout_check_s": 5.0}, 1.0, Vanished.SILENCE_PINNED, 1.0),
        ({"timeout_check_s": 5.0}, 9.0, Vanished.SILENCE_PINNED, 2.0),
        ({}, 1.0, Vanished.UNREACHABLE, 0.001),
        ({}, 1.0, Vanished.SILENCE_REDRAWN, 2.0),  # redrawn after 1 s, silent again
    ],
)
def test_how_long_silence_takes(check, connect_s, vanished, expected_s):
    """`inter` bounds the whole check; `timeout connect` counts once `timeout check` is set."""
    timing = replace(constant_timing(**T), vanished=vanished)
    world = proxied(
        cluster_line(fall=1, **check),
        deployment(replicas=1),
        timing=timing,
        backend={"timeout_connect_s": connect_s},
    ).run(3.0)
    app_pod = next(p for p in world.world.pods.values() if p.deployment == "app")
    server = world.server(app_pod)
    server.move(ServerPhase.EXITED)
    server.move(ServerPhase.VANISHED)
    world.run(20.0)
    first_down = world.times("server_down")[0] - 3.0
    assert expected_s < first_down + 1e-9 <= 2.0 + 0.01 + expected_s


@pytest.mark.parametrize(
    ("version", "inter_s", "expected_s"),
    [
        ("2.6", 2.0, 1.001),
        ("2.6", 1.0, 1.0),
        ("2.6.18", 2.0, 0.001),
        ("3.0", 2.0, 0.001),
        ("2.0", 1.0, 0.001),
    ],
)
def test_how_long_a_rejected_check_takes(version, inter_s, expected_s):
    """ICMP in answer to the first SYN is a soft error; 2.6.12 waits on, for the next SYN or until its time is over.

    The times from one failed check to the next, each an interval after the end of the last.
    """
    line = cluster_line(inter_s=inter_s, fall=4, fastinter_s=7.0)
    world = proxied(line, deployment(replicas=1), version=version).run(3.0)
    world.world.set_rules(0, "app", RuleTable())
    world.run(3.0 + inter_s + 3 * (7.0 + expected_s) + expected_s + 0.01)
    [down_s] = world.times("server_down")
    first_s = down_s - 3.0 - 3 * (7.0 + expected_s) - expected_s
    assert -1e-6 <= first_s <= inter_s + 1e-6


def test_a_check_in_time_for_new_rules_passes():
    """A rejected SYN that nothing was heard of is sent again after a second, to whom the rules name by then."""
    world = proxied(cluster_line(inter_s=2.0, fall=1), deployment(replicas=1), version="2.6").run(3.0)
    [proxy] = world.plane.proxy_watch.proxies.values()
    table = world.world.rules(0, "app")
    world.world.set_rules(0, "app", RuleTable())
    world.run(3.9)
    world.world.set_rules(0, "app", table)
    world.run(20.0)
    assert proxy.usable
    assert world.times("server_down") == []


def test_a_check_that_never_passes_is_down_from_the_start():
    """OPTIONS for a file of nginx: 405. HAProxy has held it DOWN for long when the run begins."""
    line = cluster_line(http_path="/ok.html", http_method="OPTIONS")
    world = proxied(line, deployment(container(nginx=STATIC), replicas=1)).run(30.0)
    [proxy] = world.plane.proxy_watch.proxies.values()
    assert proxy.usable == []
    assert world.times("server_down") == []


def test_a_cluster_ip_is_down_only_when_nearly_all_are():
    """Each check hits a random pod: one dead of four never makes five failures in a row here."""
    app = deployment(replicas=4)
    world = proxied(cluster_line(inter_s=1.0, fall=8), app).run(2.0)
    app_pod = next(p for p in world.world.pods.values() if p.deployment == "app")
    world.server(app_pod).move(ServerPhase.EXITED)
    world.run(200.0)
    assert world.times("server_down") == []


def test_a_frontend_without_backend_has_no_server():
    """`frontend` alone: every request is answered with 503, nothing breaks."""
    proxy = haproxy_container(cluster_line())
    conf = replace(proxy.haproxy, frontends=(replace(proxy.haproxy.frontends[0], backend=""),))
    d = deployment(replace(proxy, haproxy=conf), name="proxy")
    images = {"haproxy": haproxy_image()}
    world = SmallWorld(
        scenario(d, services=(service("proxy"),), images=images, load=load_of(service="proxy"))
    )
    [opened] = world.plane.proxy_watch.proxies.values()
    assert opened.usable == []


@pytest.mark.parametrize(
    ("conf", "line", "named"),
    [
        ({"grace_s": 5.0}, {}, "grace"),
        ({"close_spread_time_s": 10.0}, {}, "close-spread-time"),
        ({}, {"shutdown_sessions_on_down": True}, "shutdown-sessions"),
    ],
)
def test_settings_that_are_not_modelled_are_refused(conf, line, named):
    """By name, in one line: they would change who fails."""
    with pytest.raises(UnsupportedInput, match=named) as refused:
        proxied(replace(cluster_line(), **line), deployment(), **conf)
    assert "\n" not in str(refused.value)


# ---------------------------------------------------------------- DNS


class Named:
    """Stands for a pod: slots only keep it."""

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return self.name


A, B, C, D = (Named(name) for name in "ABCD")


def slots(n):
    line = HAProxyServer(name="app", host="app", port=80, template_count=n)
    return [BackendServer(line=line, service="app", is_slot=True) for _ in range(n)]


def held(servers):
    return [s.pod for s in servers]


def test_slots_keep_their_pods():
    """A known address stays where it is, whatever the order of the answer."""
    servers = slots(4)
    resolution = Resolution(servers, hold_obsolete_s=0, hold_nx_s=30)
    assert resolution.take([A, B, C], 0.0)
    assert held(servers) == [A, B, C, None]
    assert not resolution.take([C, A, B], 1.0)
    assert resolution.take([C, A], 2.0)
    assert held(servers) == [A, None, C, None]


def test_a_slot_changes_its_address_in_place():
    """Its pod is gone and another one is free: no maintenance, its health goes on."""
    servers = slots(2)
    resolution = Resolution(servers, hold_obsolete_s=0, hold_nx_s=30)
    resolution.take([A, B], 0.0)
    servers[0].up = False
    assert resolution.take([C, B], 1.0)
    assert held(servers) == [C, B]
    assert (servers[0].up, servers[0].n_returns) == (False, 1)


def test_a_slot_out_of_maintenance_is_up_at_once():
    """`start OK but check immediately`: UP before any check, one failure from DOWN."""
    servers = slots(2)
    resolution = Resolution(servers, hold_obsolete_s=0, hold_nx_s=30)
    resolution.take([A, B], 0.0)
    servers[1].up = False
    resolution.take([A], 1.0)
    assert not servers[1].usable
    resolution.take([A, C], 2.0)
    assert (servers[1].pod, servers[1].up, servers[1].usable, servers[1].n_returns) == (C, True, True, 2)


def test_more_pods_than_slots_wait():
    """The last ones get no slot until one is free."""
    servers = slots(2)
    resolution = Resolution(servers, hold_obsolete_s=0, hold_nx_s=30)
    resolution.take([A, B, C], 0.0)
    assert held(servers) == [A, B]
    resolution.take([B, C], 1.0)
    assert held(servers) == [C, B]


def test_an_obsolete_address_is_held():
    """`hold obsolete` 3 s: the slot keeps the address so long after the last answer that held it."""
    servers = slots(2)
    resolution = Resolution(servers, hold_obsolete_s=3, hold_nx_s=30)
    resolution.take([A, B], 0.0)
    assert not resolution.take([A], 3.0)
    assert resolution.take([A], 4.0)
    assert held(servers) == [A, None]


def test_no_name_is_held_much_longer():
    """No ready pod at all: the name does not exist, and `hold nx` keeps every address."""
    servers = slots(2)
    resolution = Resolution(servers, hold_obsolete_s=0, hold_nx_s=30)
    resolution.take([A, B], 0.0)
    assert not resolution.take([], 29.0)
    assert held(servers) == [A, B]
    assert resolution.take([], 30.0)
    assert held(servers) == [None, None]


@given(
    st.lists(st.lists(st.sampled_from([A, B, C, D]), unique=True), max_size=12),
    st.integers(1, 4),
    st.integers(0, 3),
)
def test_no_two_slots_share_a_pod(answers, n, hold_s):
    """And every slot's pod was in an answer that is not obsolete, or the name was gone."""
    servers = slots(n)
    resolution = Resolution(servers, hold_obsolete_s=hold_s, hold_nx_s=30)
    for at_s, answer in enumerate(answers):
        resolution.take(answer, float(at_s))
        pods = [s.pod for s in servers if s.pod is not None]
        assert len(set(pods)) == len(pods)
        if answer:
            recent = {pod for later in answers[max(0, at_s - hold_s) : at_s + 1] for pod in later}
            assert set(pods) <= recent
            assert len(pods) == min(n, len(recent)) or hold_s


TEMPLATE = HAProxyServer(
    name="app", host="app", port=80, template_count=4, resolvers="dns", check=HAProxyCheck(inter_s=1.0)
)
PROBE = Probe(kind=ProbeKind.HTTP_GET, port=80, path="/", period_s=1)


def test_slots_follow_a_rollout():
    """server-template over a headless Service: each new pod gets a slot within a second of its DNS record."""
    app = deployment(container(readiness=PROBE, pre_stop=SLEEP), replicas=3)
    world = proxied(
        TEMPLATE,
        app,
        (1.0, updated(app, image=BLUE)),
        services=(service(headless=True), service("proxy")),
        resolvers=(HAProxyResolvers(name="dns"),),
        timing=constant_timing(**T, sandbox=0.3, api_write=0.01, watch_hop=0.002),
    )
    [proxy] = world.plane.proxy_watch.proxies.values()
    assert [s.pod.template.revision if s.pod else None for s in proxy.servers] == ["red", "red", "red", None]
    lags = {}

    def look():
        for slot in proxy.servers:
            if slot.pod is not None:
                lags.setdefault(slot.pod.name, world.env.now)

    world.watch(0.01, look)
    world.run(40.0)
    assert sorted(s.pod.template.revision for s in proxy.servers if s.pod) == ["blue"] * 3
    for pod in world.pods("blue"):
        if pod.deployment == "app":
            [ready_s] = world.times("ready", pod.name)
            assert ready_s < lags[pod.name] < ready_s + 1.1


def test_recreate_behind_dns_keeps_the_old_addresses():
    """Nothing is ready, so the name is gone: HAProxy holds its addresses, DNS knows no fallback."""
    app = deployment(container(readiness=PROBE, pre_stop=SLEEP), replicas=2, strategy=Recreate())
    world = proxied(
        TEMPLATE,
        app,
        (1.0, updated(app, image=BLUE)),
        services=(service(headless=True), service("proxy")),
        resolvers=(HAProxyResolvers(name="dns"),),
        timing=constant_timing(**T, sandbox=0.3, api_write=0.01, watch_hop=0.002),
    ).run(3.0)
    [proxy] = world.plane.proxy_watch.proxies.values()
    assert world.world.resolve("app") == ()
    assert [s.pod.template.revision for s in proxy.servers if s.pod] == ["red", "red"]
