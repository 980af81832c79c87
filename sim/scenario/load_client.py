"""`spec.load`: who sends requests, how many and how fast, with the client's own switches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from sim.scenario.durations import parse_distribution, parse_rate, shown
from sim.scenario.model import ClosedLoop, Load, OpenLoop, Service
from sim.scenario.reader import Fields

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS")
MAX_SOURCES: Final = 65_000
MAX_CONNECTIONS: Final = 100_000
MAX_RATE_PER_S: Final = 1_000_000
"""More than one cluster of the modelled size answers; the model's own work grows with both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientRules:
    """What of a load a client's command line can say."""

    flags: frozenset[str] = frozenset()
    numbers: frozenset[str] = frozenset()
    paced: bool = True
    """Think time, or an open loop: ab and wrk send as fast as answers come."""
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0
    elsewhere: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Switches that are fields of the load."""


CLIENTS: Final[Mapping[str, ClientRules]] = MappingProxyType(
    {
        "ab": ClientRules(
            flags=frozenset("klrqdS"),
            numbers=frozenset("s"),
            paced=False,
            connect_timeout_s=30.0,  # its -s counts for both
            elsewhere=MappingProxyType(
                {"c": "connections", "n": "requests", "t": "duration", "m": "method", "i": "method"}
            ),
        ),
        "wrk": ClientRules(
            flags=frozenset({"latency"}),
            numbers=frozenset({"t", "threads"}),
            paced=False,
            answer_timeout_s=2.0,
            elsewhere=MappingProxyType({"c": "connections", "d": "duration", "timeout": "answerTimeout"}),
        ),
        "plain": ClientRules(),
        "go-http": ClientRules(),
        "requests": ClientRules(),
    }
)


def read_load(spec: Fields, services: tuple[Service, ...], *, client_on_node: bool) -> Load:
    """The load of a scenario against one of its *services*.

    Raises
    ------
    InputError
        A client, switch, Service or port that does not exist, or both or neither of duration and requests.
    """
    load = spec.required("load")
    client = load.text("client", allowed=CLIENTS)
    rules = CLIENTS[client]
    options = _options(load, client, rules)
    service, port = _target(load, services, client_on_node=client_on_node)
    duration_s, requests = load.duration_s("duration", None), load.integer("requests", None, least=1)
    if (duration_s is None) == (requests is None):
        got = "neither" if duration_s is None else "both"
        raise load.error("duration", f"got {got} of duration and requests, expected exactly one")
    if duration_s == 0:
        raise load.error("duration", "got 0, expected a positive duration")
    path = load.text("path", "/")
    if not path.startswith("/"):
        raise load.error("path", f"got {shown(path)}, expected a path that starts with /")
    read = Load(
        client=client,
        options=MappingProxyType(options),
        service=service.name,
        port=port,
        path=path,
        method=load.text("method", "GET", allowed=METHODS),
        connections=_connections(load),
        keep_alive=_keep_alive(load, client, options),
        arrivals=_arrivals(load, client, rules),
        duration_s=duration_s,
        requests=requests,
        connect_timeout_s=load.duration_s(
            "connectTimeout", float(options.get("s", rules.connect_timeout_s)), least_s=0.001
        ),
        answer_timeout_s=load.duration_s(
            "answerTimeout", float(options.get("s", rules.answer_timeout_s)), least_s=0.001
        ),
        retries=load.integer("retries", 0, least=0),
        sources=load.integer("sources", 1, least=1, most=MAX_SOURCES),
    )
    load.finish()
    return read


def _connections(load: Fields) -> int:
    connections = load.integer("connections", 1, least=1)
    if connections > MAX_CONNECTIONS:
        raise load.unsupported("connections", f"got {connections}, modelled are up to {MAX_CONNECTIONS}")
    return int(connections)


def _options(load: Fields, client: str, rules: ClientRules) -> dict[str, bool | int | float | str]:
    options: dict[str, bool | int | float | str] = {}
    given = load.mapping("options")
    for name in given.data if given is not None else ():
        assert given is not None
        if name in rules.elsewhere:
            raise given.error(name, f"write it as spec.load.{rules.elsewhere[name]}")
        if name in rules.flags:
            options[name] = given.flag(name, False)
        elif name in rules.numbers:
            options[name] = given.integer(name, least=1)
        else:
            known = ", ".join(sorted(rules.flags | rules.numbers)) or "none"
            raise given.error(name, f"not a switch of {client} that is known here; known: {known}")
    return options


def _keep_alive(load: Fields, client: str, options: dict[str, Any]) -> bool:
    """For ab, keepAlive and its -k are one thing."""
    if client != "ab":
        return bool(load.flag("keepAlive", True))
    stated = load.flag("keepAlive", None)
    if stated is not None and "k" in options and stated != options["k"]:
        raise load.error(
            "keepAlive",
            f"got {shown(stated)}, but options.k is {shown(options['k'])}: for ab they are the same",
        )
    keep_alive = bool(stated if stated is not None else options.get("k", False))
    options["k"] = keep_alive
    return keep_alive


def _arrivals(load: Fields, client: str, rules: ClientRules) -> ClosedLoop | OpenLoop:
    rate, arrivals = load.raw("rate"), load.text("arrivals", None, allowed=("constant", "poisson"))
    think_time = load.raw("thinkTime")
    for key in ("rate", "thinkTime") if not rules.paced else ():
        if key in load:
            raise load.error(key, f"{client} sends as fast as answers come; use client plain for a pace")
    if rate is not None and think_time is not None:
        raise load.error(
            "thinkTime", "got rate too: a load is an open loop (rate) or a closed one (thinkTime)"
        )
    if rate is not None:
        rate_per_s = parse_rate(rate, str(load.place.field("rate")))
        if rate_per_s > MAX_RATE_PER_S:
            raise load.unsupported("rate", f"got {shown(rate)}, modelled are up to {MAX_RATE_PER_S}/s")
        return OpenLoop(rate_per_s=rate_per_s, poisson=arrivals == "poisson")
    if arrivals is not None:
        raise load.error("arrivals", "needs a rate")
    if think_time is None:
        return ClosedLoop()
    return ClosedLoop(think_time=parse_distribution(think_time, str(load.place.field("thinkTime"))))


def _target(load: Fields, services: tuple[Service, ...], *, client_on_node: bool) -> tuple[Service, int]:
    target = load.required("target")
    name = target.text("service")
    service = next((service for service in services if service.name == name), None)
    if service is None:
        names = ", ".join(service.name for service in services) or "none"
        raise target.error("service", f"got {shown(name)}, expected a Service of the manifests ({names})")
    if service.headless:
        raise target.unsupported(
            "service", f"not modelled: {name} is headless, so the client itself would choose pods by DNS"
        )
    if client_on_node and service.external_traffic_local and service.type != "ClusterIP":
        target.warn("service", "externalTrafficPolicy: Local does not hold for a client on the node itself")
    ports = {port.name or str(port.port): port.port for port in service.ports}
    value = target.raw("port", service.ports[0].port if len(service.ports) == 1 else None)
    port = ports.get(value, value) if isinstance(value, str) else value
    if port not in ports.values() or isinstance(port, bool):
        known = ", ".join(str(number) for number in ports.values())
        raise target.error("port", f"got {shown(value)}, expected a port of Service {name} ({known})")
    target.finish()
    return service, int(port)
