"""The settings of a scenario that decide how many requests its rollout fails: kinds by name, and numbers.

What is no setting (latencies of the cluster) is not here; nor what cannot change the answer (names, labels).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from sim.scenario.model import (
    ClosedLoop,
    Container,
    Deployment,
    HAProxyConf,
    Hook,
    Image,
    Probe,
    ProbeKind,
    Recreate,
    Scenario,
    ServerKind,
)
from sim.scenario.nginx_location import location_of, stream_for_s
from sim.servers import stop_behaviour

QUICK_S: Final = 0.02
"""Answers, pauses and start-ups shorter than this are alike: a rollout's races last longer."""
STOPS: Final[Mapping[tuple[str, str, str, str], str]] = {
    ("close", "close", "cut", "atOnce"): "stops at once",
    ("close", "close", "finish", "drained"): "drains",
    ("close", "closeAfterNext", "finish", "drained"): "drains and announces it",
}
"""The usual answers to a stop signal, by what becomes of listener, idle and busy connections and process."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deciding:
    """Kinds are equal or not; numbers are near or far. A number of 0 is only like 0."""

    kinds: Mapping[str, str]
    numbers: Mapping[str, float]


def deciding(scenario: Scenario) -> Deciding:
    """The deciding settings of *scenario*.

    Of several Deployments those of the updated one count; of several updates the first one; of several
    containers the first one.
    """
    updated = _updated(scenario)
    old = next((d for d in scenario.deployments if d.name == updated.name), updated)
    container = old.template.containers[0]
    image = scenario.images[container.image]
    kinds = {**_load_kinds(scenario), **_pod_kinds(scenario, updated, old), "proxy": "none"}
    numbers = {**_load_numbers(scenario), **_pod_numbers(scenario, updated, old)}
    if (proxy := _proxy(scenario)) is not None:
        kinds |= _proxy_kinds(*proxy)
        numbers |= _proxy_numbers(proxy[1])
    if image.server is not ServerKind.HAPROXY:
        numbers |= _answer_numbers(container, image, scenario.load.path)
    return Deciding(kinds=kinds, numbers=numbers)


def _updated(scenario: Scenario) -> Deployment:
    if scenario.updates:
        return scenario.updates[0].to
    return scenario.deployments[0]


# ---------------------------------------------------------------- load


def _load_kinds(scenario: Scenario) -> dict[str, str]:
    load, cluster = scenario.load, scenario.cluster
    service = next(service for service in scenario.services if service.name == load.service)
    closed = isinstance(load.arrivals, ClosedLoop)
    paced = isinstance(load.arrivals, ClosedLoop) and load.arrivals.think_time is not None
    return {
        "client": load.client,
        "keep-alive": _yes(load.keep_alive),
        "arrivals": "with a pause" if paced else "without pause" if closed else "on schedule",
        "client runs": "on the node" if cluster.client_on_node else "in a pod",
        "nodes": "one" if cluster.nodes == 1 else "several",
        "session affinity": _yes(service.session_affinity_s is not None),
        "headless": _yes(service.headless),
        "traffic policy": "Local"
        if service.external_traffic_local or service.internal_traffic_local
        else "Cluster",
    }


def _load_numbers(scenario: Scenario) -> dict[str, float]:
    load = scenario.load
    numbers = {"connections": float(load.connections), "client retries": float(load.retries)}
    if not isinstance(load.arrivals, ClosedLoop):
        numbers["rate"] = load.arrivals.rate_per_s
    elif load.arrivals.think_time is not None:
        numbers["pause"] = load.arrivals.think_time.mean_s
    return numbers


# ---------------------------------------------------------------- pods


def _pod_kinds(scenario: Scenario, new: Deployment, old: Deployment) -> dict[str, str]:
    container = old.template.containers[0]
    image = scenario.images[container.image]
    return {
        "server": image.server.value,
        "on its stop signal": _stop(container, image),
        "preStop": _hook(container.pre_stop),
        "strategy": _strategy(new),
        "readiness probe": _probe(new.template.containers[0].readiness),
        "restarting probes": _yes(any(c.liveness or c.startup for c in new.template.containers)),
        "containers": "one" if len(new.template.containers) == 1 else "several",
        "grace ends an answer": _yes(_cut_by_grace(scenario, old)),
        "answer": _answer(container, image, scenario.load.path),
    }


def _pod_numbers(scenario: Scenario, new: Deployment, old: Deployment) -> dict[str, float]:
    container = new.template.containers[0]
    numbers = {"replicas": float(new.replicas), "minReadySeconds": float(new.min_ready_s)}
    if not isinstance(new.strategy, Recreate):
        numbers["maxSurge"] = float(new.strategy.max_surge)
        numbers["maxUnavailable"] = float(new.strategy.max_unavailable)
    if (hook := old.template.containers[0].pre_stop) is not None:
        numbers["preStop lasts"] = hook.duration_s
    if (probe := container.readiness) is not None:
        numbers["readiness period"] = float(probe.period_s)
        numbers["readiness failures"] = float(probe.failure_threshold)
    numbers["start-up"] = max(QUICK_S, scenario.images[container.image].startup.mean_s)
    return numbers


def _stop(container: Container, image: Image) -> str:
    stop = stop_behaviour(container, image, image.stop_signal)
    return f"listener {stop.listener.value}, idle {stop.idle.value}, busy {stop.busy.value}, exit {stop.exit.value}"


def _hook(hook: Hook | None) -> str:
    if hook is None:
        return "none"
    does = [word for word, done in (("removes a file", hook.removes), ("signals", hook.signals)) if done]
    return " and ".join(does) or "waits"


def _strategy(deployment: Deployment) -> str:
    strategy = deployment.strategy
    if isinstance(strategy, Recreate):
        return "Recreate"
    if not strategy.max_unavailable:
        return "new pods first"
    return "new and old pods at once" if strategy.max_surge else "old pods first"


def _probe(probe: Probe | None) -> str:
    if probe is None:
        return "none"
    return "exec" if probe.kind is ProbeKind.EXEC else "asks the server"


def _cut_by_grace(scenario: Scenario, old: Deployment) -> bool:
    container = old.template.containers[0]
    image = scenario.images[container.image]
    hook_s = container.pre_stop.duration_s if container.pre_stop else 0.0
    if image.server is ServerKind.HAPROXY:
        return hook_s >= old.template.termination_grace_period_s
    header_s, body_s = _answer_s(container, image, scenario.load.path)
    return hook_s + header_s + body_s >= old.template.termination_grace_period_s


def _answer_s(container: Container, image: Image, path: str) -> tuple[float, float]:
    """Mean time to the header, and from there to the last byte. [s]"""
    if container.nginx is None:
        return image.service_time.mean_s, image.stream_time.mean_s
    place = location_of(container.nginx, path, None)
    return place.header_delay_s or image.service_time.mean_s, stream_for_s(place, image.body_bytes)


def _answer(container: Container, image: Image, path: str) -> str:
    if image.server is ServerKind.HAPROXY:
        return "passed on"
    header_s, body_s = _answer_s(container, image, path)
    if body_s > QUICK_S:
        return "streamed"
    return "late" if header_s > QUICK_S else "quick"


def _answer_numbers(container: Container, image: Image, path: str) -> dict[str, float]:
    header_s, body_s = _answer_s(container, image, path)
    return {"time to header": max(QUICK_S, header_s), "time to stream": max(QUICK_S, body_s)}


# ---------------------------------------------------------------- proxy


def _proxy(scenario: Scenario) -> tuple[Image, HAProxyConf] | None:
    """The proxy that the load goes to."""
    service = next(s for s in scenario.services if s.name == scenario.load.service)
    for deployment in scenario.deployments:
        if service.selector and service.selector.items() <= deployment.template.labels.items():
            for container in deployment.template.containers:
                if container.haproxy is not None:
                    return scenario.images[container.image], container.haproxy
    return None


def _proxy_kinds(image: Image, conf: HAProxyConf) -> dict[str, str]:
    return {"proxy": f"HAProxy {image.version or 'of unknown version'}", **dict(_backend_kinds(conf))}


def _backend_kinds(conf: HAProxyConf) -> Iterator[tuple[str, str]]:
    frontend = conf.frontends[0]
    yield "proxy's mode", frontend.http_mode.value
    backend = next((b for b in conf.backends if b.name == frontend.backend), None)
    if backend is None:
        return
    yield "proxy's redispatch", _yes(backend.redispatch != 0)
    yield "proxy's retry-on", " ".join(sorted(backend.retry_on))
    servers = backend.servers
    yield "proxy's servers", "pods" if any(s.template_count for s in servers) else "the Service"
    yield "proxy's check", "none" if all(s.check is None for s in servers) else "yes"


def _proxy_numbers(conf: HAProxyConf) -> dict[str, float]:
    frontend = conf.frontends[0]
    backend = next((b for b in conf.backends if b.name == frontend.backend), None)
    if backend is None:
        return {}
    numbers = {"proxy's retries": float(backend.retries)}
    check = next((s.check for s in backend.servers if s.check is not None), None)
    if check is not None:
        numbers |= {"proxy's inter": check.inter_s, "proxy's fall": float(check.fall)}
    return numbers


def _yes(said: bool) -> str:
    return "yes" if said else "no"
