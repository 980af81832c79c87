"""Random scenarios, built directly from the frozen data; small enough for some 50 ms each."""

from types import MappingProxyType

from builders import (
    BLUE,
    RED,
    container,
    deployment,
    haproxy_container,
    load_of,
    scenario,
    service,
    updated,
)
from hypothesis import strategies as st

from sim.scenario.distributions import Constant, Exponential, Uniform
from sim.scenario.model import (
    ClosedLoop,
    ExitWhen,
    HAProxyCheck,
    HAProxyServer,
    Hook,
    HookKind,
    HttpMode,
    Image,
    NginxConf,
    OnBusy,
    OnIdle,
    OnListener,
    OpenLoop,
    Probe,
    ProbeKind,
    Recreate,
    RollingUpdate,
    ServerKind,
    StopBehaviour,
)

FILE = "/www/healthy.html"
UPDATE_S = 1.0


def seconds(least, most):
    """Times with few digits, so that a failing example can be read."""
    return st.integers(round(least * 100), round(most * 100)).map(lambda n: n / 100)


def probes(**more):
    """Readiness probes of a page that a hook may remove."""
    return st.builds(
        Probe,
        kind=st.just(ProbeKind.HTTP_GET),
        port=st.just(80),
        path=st.just("/healthy.html"),
        file=st.just(FILE),
        period_s=st.integers(1, 3),
        failure_threshold=st.integers(1, 3),
        success_threshold=st.integers(1, 2),
        initial_delay_s=st.integers(0, 2),
        **more,
    )


@st.composite
def hooks(draw, grace_s, *, signals=("SIGQUIT", "SIGTERM")):
    """preStop: a sleep in the kubelet, or a command that may remove the page or send a signal."""
    if draw(st.booleans()):
        return Hook(kind=HookKind.SLEEP, duration_s=float(draw(st.integers(0, max(0, grace_s)))))
    return Hook(
        kind=HookKind.EXEC,
        duration_s=draw(seconds(0, 6)),
        removes=((0.0, FILE),) if draw(st.booleans()) else (),
        signals=draw(st.sampled_from([(), *(((0.5, name),) for name in signals)])),
    )


def stop_behaviours():
    """Everything that a generic server may do on its signal."""
    return st.builds(
        StopBehaviour,
        listener=st.sampled_from(OnListener),
        idle=st.sampled_from(OnIdle),
        busy=st.sampled_from(OnBusy),
        unused=st.sampled_from(OnIdle),
        exit=st.sampled_from(ExitWhen),
        exit_after_s=seconds(0, 3),
        drain_timeout_s=st.none() | seconds(0.5, 3),
    )


def images():
    """Servers that stop in every way, start late or at once, answer quickly or slowly."""
    times = {
        "startup": st.builds(Constant, value_s=seconds(0, 1.5)),
        "service_time": st.one_of(
            st.just(Constant(value_s=0.001)),
            st.builds(Uniform, min_s=st.just(0.001), max_s=seconds(0.01, 0.8)),
            st.builds(Exponential, scale_s=seconds(0.01, 0.2)),
        ),
        "stream_time": st.just(Constant(value_s=0.0)) | st.builds(Constant, value_s=seconds(0.01, 0.5)),
    }
    nginx = st.builds(
        Image,
        reference=st.just(RED),
        server=st.just(ServerKind.NGINX),
        stop_signal=st.sampled_from(["SIGTERM", "SIGQUIT"]),
        **times,
    )
    generic = st.builds(
        Image,
        reference=st.just(RED),
        server=st.just(ServerKind.GENERIC),
        behaviours=stop_behaviours().map(lambda behaviour: MappingProxyType({"SIGTERM": behaviour})),
        keep_alive=st.booleans(),
        **times,
    )
    return nginx | generic


def strategies_of_update():
    """Rolling updates with some room, and now and then Recreate."""
    rolling = st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(any)
    rolling = rolling.map(lambda both: RollingUpdate(max_surge=both[0], max_unavailable=both[1]))
    return st.one_of(rolling, rolling, rolling, st.just(Recreate()))


@st.composite
def apps(draw, image=None, *, strategy=None):
    """An app's Deployment and its image."""
    image = draw(images()) if image is None else image
    nginx = image.server is ServerKind.NGINX
    grace_s = draw(st.sampled_from([0, 1, 2, 5, 8]))
    spec = container(
        nginx=draw(st.sampled_from([NginxConf(), NginxConf(worker_shutdown_timeout_s=1.0)]))
        if nginx
        else None,
        readiness=draw(st.none() | probes()),
        pre_stop=draw(st.none() | hooks(grace_s)),
    )
    d = deployment(
        spec,
        replicas=draw(st.integers(1, 6)),
        strategy=draw(strategies_of_update() if strategy is None else strategy),
        min_ready_s=draw(st.sampled_from([0, 0, 1, 2])),
        grace_s=grace_s,
    )
    return d, image


@st.composite
def proxies(draw):
    """A HAProxy over the Service, in many tempers."""
    check = st.builds(HAProxyCheck, inter_s=st.sampled_from([1.0, 2.0]), fall=st.integers(1, 3))
    line = HAProxyServer(name="app", host="app", port=80, check=draw(st.none() | check))
    mode = draw(st.sampled_from([HttpMode.SERVER_CLOSE, HttpMode.KEEP_ALIVE]))
    spec = haproxy_container(
        line,
        frontend={"http_mode": mode, "timeout_client_s": 50.0},
        backend={
            "http_mode": mode,
            "retries": draw(st.integers(0, 3)),
            "redispatch": draw(st.sampled_from([0, -1])),
            "retry_on": draw(
                st.sampled_from([frozenset({"conn-failure"}), frozenset({"all-retryable-errors"})])
            ),
            "timeout_connect_s": draw(st.sampled_from([0.5, 5.0])),
            "timeout_server_s": draw(st.sampled_from([None, 50.0])),
        },
    )
    image = Image(
        reference="haproxy",
        server=ServerKind.HAPROXY,
        version=draw(st.sampled_from(["2.6", "3.0"])),
        stop_signal=draw(st.sampled_from(["SIGUSR1", "SIGTERM"])),
        startup=Constant(value_s=0.1),
    )
    return deployment(spec, name="proxy", grace_s=5), image


def loads(service_name, *, saturating):
    """Clients of all kinds: paced or not, closed or open loop, with or without keep-alive."""
    arrivals = st.one_of(
        st.builds(ClosedLoop, think_time=st.builds(Exponential, scale_s=seconds(0.01, 0.1))),
        st.builds(ClosedLoop, think_time=st.builds(Constant, value_s=seconds(0.02, 0.2))),
        st.builds(OpenLoop, rate_per_s=st.sampled_from([10.0, 60.0]), poisson=st.booleans()),
    )
    paced = st.fixed_dictionaries(
        {"client": st.sampled_from(["plain", "go-http", "requests"]), "arrivals": arrivals}
    )
    pushing = st.fixed_dictionaries(
        {
            "client": st.sampled_from(["ab", "wrk"]),
            "arrivals": st.just(ClosedLoop()),
            "options": st.sampled_from([{}, {"r": True}, {"l": True, "r": True}]),
        }
    )
    common = st.fixed_dictionaries(
        {
            "service": st.just(service_name),
            "connections": st.integers(1, 6),
            "keep_alive": st.booleans(),
            "duration_s": seconds(3, 6),
            "connect_timeout_s": st.sampled_from([0.5, 5.0]),
            "answer_timeout_s": st.sampled_from([2.0, 30.0]),
            "retries": st.sampled_from([0, 0, 2]),
            "method": st.sampled_from(["GET", "POST"]),
        }
    )
    clients = paced | paced | pushing if saturating else paced
    return st.tuples(common, clients).map(lambda both: load_of(**(both[0] | both[1])))


@st.composite
def scenarios(draw, app=None):
    """An app, often behind HAProxy, updated at 1 s to another template (of another image) or in its tier."""
    d, red = draw(apps() if app is None else app)
    blue = draw(st.sampled_from([red, None])) or draw(images())
    blue = Image(**{name: getattr(blue, name) for name in Image.__slots__} | {"reference": BLUE})
    if (blue.server is ServerKind.NGINX) != (red.server is ServerKind.NGINX):
        blue = Image(**{name: getattr(red, name) for name in Image.__slots__} | {"reference": BLUE})
    known = {RED: red, BLUE: blue}
    to = [updated(d, image=BLUE)]
    deployments, services = [d], [service()]
    behind = draw(st.booleans())
    if behind:
        proxy, image = draw(proxies())
        known["haproxy"] = image
        deployments.append(proxy)
        services.append(service("proxy"))
        to = draw(st.sampled_from([to, [updated(proxy)], [*to, updated(proxy)]]))
    return scenario(
        *deployments,
        services=services,
        images=known,
        updates=[(UPDATE_S, each) for each in to],
        load=draw(loads("proxy" if behind else "app", saturating=not behind)),
        nodes=draw(st.sampled_from([1, 1, 3])),
    )
