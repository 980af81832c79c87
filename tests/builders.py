"""Scenarios and timing profiles built directly from the frozen data: no file is read."""

from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import (
    ClosedLoop,
    Cluster,
    Container,
    Deployment,
    HAProxyBackend,
    HAProxyConf,
    HAProxyFrontend,
    HAProxyServer,
    Image,
    Load,
    NginxConf,
    PodTemplate,
    RollingUpdate,
    Scenario,
    ServerKind,
    Service,
    ServicePort,
    Update,
)
from sim.scenario.timing import Timing, load_timing

SOURCE = Path("built.yaml")
RED, BLUE, GREEN = "app:red", "app:blue", "app:green"


@cache
def shipped_timing(name="defaults") -> Timing:
    return load_timing(name, beside=SOURCE)


def constant_timing(
    *, p_first_kick=1.0, p_second_kick=1.0, p_word_wakes=1.0, proxy_min_interval_s=1.0, **seconds
) -> Timing:
    """A profile without chance: every latency is constant, zero unless given; at rest as otherwise. [s]"""
    base = shipped_timing()
    latencies = [f.name for f in fields(Timing) if isinstance(getattr(base, f.name), Distribution)]
    assert set(seconds) <= set(latencies), set(seconds) - set(latencies)
    return replace(
        base,
        name="constant",
        p_first_kick=p_first_kick,
        p_second_kick=p_second_kick,
        p_word_wakes=p_word_wakes,
        proxy_min_interval_s=proxy_min_interval_s,
        p_time_wait_refuses=0.0,
        saturated={},
        **{name: Constant(value_s=seconds.get(name.removesuffix("_at_rest"), 0.0)) for name in latencies},
    )


def nginx_image(reference, *, stop_signal="SIGTERM", startup_s=0.0, service_s=0.001, **more) -> Image:
    return Image(
        reference=reference,
        server=ServerKind.NGINX,
        stop_signal=stop_signal,
        startup=Constant(value_s=startup_s),
        service_time=Constant(value_s=service_s),
        **more,
    )


def generic_image(reference, behaviour=None, *, stop_signal="SIGTERM", startup_s=0.0, **more) -> Image:
    """A server that does *behaviour* on its stop signal; None: it ends at once."""
    return Image(
        reference=reference,
        server=ServerKind.GENERIC,
        stop_signal=stop_signal,
        startup=Constant(value_s=startup_s),
        behaviours=MappingProxyType({} if behaviour is None else {stop_signal: behaviour}),
        **more,
    )


def container(name="app", *, image=RED, **more) -> Container:
    more.setdefault("nginx", NginxConf())
    return Container(name=name, image=image, ports=MappingProxyType({"http": 80}), **more)


def template(*containers, app="app", revision="red", grace_s=30, **more) -> PodTemplate:
    return PodTemplate(
        labels=MappingProxyType({"app": app}),
        containers=containers or (container(),),
        termination_grace_period_s=grace_s,
        revision=revision,
        **({"has_volumes": True} | more),
    )


def deployment(*containers, name="app", replicas=1, strategy=None, min_ready_s=0, **pod) -> Deployment:
    return Deployment(
        name=name,
        template=template(*containers, app=name, **pod),
        replicas=replicas,
        selector=MappingProxyType({"app": name}),
        strategy=strategy or RollingUpdate(max_surge=1, max_unavailable=0),
        min_ready_s=min_ready_s,
    )


def service(name="app", *, app=None, **more) -> Service:
    return Service(
        name=name,
        selector=MappingProxyType({"app": app or name}),
        ports=(ServicePort(port=80, target_port=80),),
        **more,
    )


def updated(to: Deployment, *, revision="blue", image=None, **changes) -> Deployment:
    """*to* with another template (its first container runs *image*) and other fields changed."""
    first, *others = to.template.containers
    containers = (replace(first, image=image or first.image), *others)
    return replace(to, template=replace(to.template, revision=revision, containers=containers), **changes)


def load_of(**more) -> Load:
    more = {"client": "plain", "service": "app", "port": 80, "duration_s": 5.0} | more
    if "think_s" in more:
        more["arrivals"] = ClosedLoop(think_time=Constant(value_s=more.pop("think_s")))
    return Load(**more)


def scenario(
    *deployments,
    services=None,
    images=None,
    updates=(),
    load=None,
    nodes=1,
    name="built",
) -> Scenario:
    images = images or {ref: nginx_image(ref) for ref in (RED, BLUE, GREEN)}
    return Scenario(
        name=name,
        source=SOURCE,
        deployments=deployments,
        services=(service(),) if services is None else services,
        images=MappingProxyType(dict(images)),
        updates=tuple(Update(at_s=at_s, to=to) for at_s, to in updates),
        load=load or load_of(),
        cluster=Cluster(nodes=nodes),
    )


def haproxy_container(
    *servers, name="haproxy", image="haproxy", frontend=None, backend=None, **conf
) -> Container:
    """HAProxy listening on 80; *servers* default to one line with the Service `app`."""
    lines = servers or (HAProxyServer(name="app", host="app", port=80),)
    return Container(
        name=name,
        image=image,
        ports=MappingProxyType({"http": 80}),
        haproxy=HAProxyConf(
            frontends=(HAProxyFrontend(name="in", binds=(80,), backend="out", **(frontend or {})),),
            backends=(HAProxyBackend(name="out", servers=lines, **(backend or {})),),
            **conf,
        ),
    )


def haproxy_image(reference="haproxy", *, version="2.6", stop_signal="SIGUSR1", **more) -> Image:
    return Image(
        reference=reference,
        server=ServerKind.HAPROXY,
        version=version,
        stop_signal=stop_signal,
        startup=Constant(value_s=0.0),
        **more,
    )
