"""How an image that a scenario names is built, so that what the scenario says of it is true.

Stop signal, start-up time, answer bodies, the files that probes ask for. What no image can make true
(a service time of nginx's own) is refused: an nginx.conf can.
"""

import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from sim.scenario.distributions import Distribution
from sim.scenario.model import Container, Image, NginxConf, Scenario, ServerKind, StopBehaviour
from validation.lab.commands import LabError

OWN_START_S: Final = {ServerKind.NGINX: 0.015, ServerKind.HAPROXY: 0.03, ServerKind.GENERIC: 0.005}
"""Process start to listening, measured in the images of the lab; a start-up sleep is shorter by it. [s]"""
SHORTEST_SLEEP_S: Final = 0.05
"""A start-up time longer than the server's own by less than this is left to the server alone. [s]"""
NOTABLE_S: Final = 0.01
"""A service or stream time above this that nginx or HAProxy would need from their image is refused. [s]"""

SERVER: Final = "/usr/local/bin/rollsim-server"
SERVER_CONFIG: Final = "/etc/rollsim/server.json"
WEB_ROOT: Final = "/www"
HEALTHY: Final = f"{WEB_ROOT}/healthy.html"
HAPROXY_CONFIGS: Final = ("/usr/local/etc/haproxy/haproxy.cfg", "/etc/haproxy/haproxy.cfg")
"""The official image's path and Debian's: a scenario mounts its own on one of the two."""


def used_images(scenario: Scenario) -> frozenset[str]:
    """References of all images that the scenario's pods run, before or after its updates."""
    return frozenset(container.image for container in _containers(scenario))


def _containers(scenario: Scenario) -> Iterator[Container]:
    for deployment in (*scenario.deployments, *(update.to for update in scenario.updates)):
        yield from deployment.template.containers


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """What an image is built from, beside its base and our server binary."""

    dockerfile: str
    """From the base given as the build argument BASE."""
    files: Mapping[str, str]
    """Name in the build's folder to its text."""
    needs_server: bool
    needs_echo: bool = False


def definition(scenario: Scenario, image: Image) -> Definition:
    """How *image* is built for *scenario*; raises LabError for what no image can make true."""
    containers = [container for container in _containers(scenario) if container.image == image.reference]
    _require_possible(scenario, image, containers)
    texts = {
        path: _body(image) if path != HEALTHY else "ok\n"
        for path in sorted(_web_files(scenario, image, containers))
    }
    command = _command(scenario, image)
    sleep_s = image.startup.mean_s - OWN_START_S[image.server]
    needs_server = image.server is ServerKind.GENERIC or sleep_s >= SHORTEST_SLEEP_S
    files = {f"file{i}": text for i, text in enumerate(texts.values())}
    lines = ["ARG BASE", "FROM ${BASE}", *(f"COPY file{i} {path}" for i, path in enumerate(texts))]
    if needs_server:
        files["server.json"] = json.dumps(_server_config(image, containers), indent=1)
        lines += [f"COPY rollsim-server {SERVER}", f"COPY server.json {SERVER_CONFIG}"]
        command = [SERVER, SERVER_CONFIG, *command]
    lines += [f"STOPSIGNAL {image.stop_signal}", "ENTRYPOINT []", f"CMD {json.dumps(command)}"]
    return Definition(
        dockerfile="\n".join(lines) + "\n",
        files=files,
        needs_server=needs_server,
        needs_echo=any(_has_late_headers(container.nginx) for container in containers),
    )


def _require_possible(scenario: Scenario, image: Image, containers: list[Container]) -> None:
    """Refuse times that only a configuration could give to nginx or HAProxy."""
    if image.server is ServerKind.GENERIC:
        return
    place = f"{scenario.name}: image {image.reference}"
    if image.service_time.mean_s > NOTABLE_S:
        raise LabError(
            f"{place}: {image.server.value} itself has no serviceTime of {image.service_time.mean_s:g} s: "
            "use echo_sleep in nginx.conf, or server: generic"
        )
    if image.stream_time.mean_s > NOTABLE_S and not any(_limits_rate(c.nginx) for c in containers):
        raise LabError(
            f"{place}: a streamTime of {image.stream_time.mean_s:g} s needs limit_rate in nginx.conf and "
            "bodyBytes, or server: generic"
        )


def _limits_rate(conf: NginxConf | None) -> bool:
    return conf is not None and any(
        place.limit_rate_bytes_per_s or place.body_delay_s for place in conf.locations
    )


def _has_late_headers(conf: NginxConf | None) -> bool:
    return conf is not None and any(place.header_delay_s or place.body_delay_s for place in conf.locations)


def _web_files(scenario: Scenario, image: Image, containers: list[Container]) -> set[str]:
    """Every file that the load or a probe may ask for, as an absolute path in the container."""
    if image.server is ServerKind.HAPROXY:
        return set()
    files = {f"{WEB_ROOT}/index.html", HEALTHY}
    for container in containers:
        probes = (container.readiness, container.liveness, container.startup)
        files |= {probe.file for probe in probes if probe and probe.file}
        for place in container.nginx.locations if container.nginx else ():
            if place.root:
                files |= {str(PurePosixPath(place.root, index)) for index in place.index[:1]}
                files |= (
                    {f"{place.root.rstrip('/')}{scenario.load.path}"}
                    if _is_file(scenario.load.path)
                    else set()
                )
            if place.alias:
                files |= {
                    place.alias if _is_file(place.alias) else str(PurePosixPath(place.alias, "index.html"))
                }
    return files


def _is_file(path: str) -> bool:
    return not path.endswith("/")


def _body(image: Image) -> str:
    """A page that tells the tag, as long as the scenario says."""
    text = f"<h1>{image.reference.rpartition(':')[2]}</h1>\n"
    return text[: image.body_bytes or None].ljust(image.body_bytes, ".")


def _command(scenario: Scenario, image: Image) -> list[str]:
    match image.server:
        case ServerKind.NGINX:
            return ["nginx"] if _says_daemon_off(scenario) else ["nginx", "-g", "daemon off;"]
        case ServerKind.HAPROXY:
            official, debian = HAPROXY_CONFIGS
            find = f"f={official}; [ -e $f ] || f={debian}; exec haproxy -W -db -f $f"
            return ["/bin/sh", "-c", find]
        case ServerKind.GENERIC:
            return []


def _says_daemon_off(scenario: Scenario) -> bool:
    texts = [
        text
        for thing in scenario.objects
        if thing.get("kind") == "ConfigMap"
        for text in thing.get("data", {}).values()
    ]
    return any(re.search(r"^\s*daemon\s+off\s*;", str(text), re.MULTILINE) for text in texts)


def _server_config(image: Image, containers: list[Container]) -> dict[str, Any]:
    """The configuration of `images/generic`: the whole server, or only the time before another starts."""
    startup = _distribution(image.startup) | {"shift_s": -OWN_START_S[image.server]}
    if image.server is not ServerKind.GENERIC:
        return {"startup": startup}
    return {
        "port": _port(image, containers),
        "startup": startup,
        "serviceTime": _distribution(image.service_time),
        "streamTime": _distribution(image.stream_time),
        "body": _body(image),
        "bodyBytes": image.body_bytes,
        "keepAlive": image.keep_alive,
        "idleTimeout": image.idle_timeout_s,
        "root": WEB_ROOT,
        "onStop": {signal: _stop_behaviour(stop) for signal, stop in image.behaviours.items()},
    }


def _port(image: Image, containers: list[Container]) -> int:
    ports = {port for container in containers for port in container.ports.values()}
    ports |= {
        container.readiness.port
        for container in containers
        if container.readiness and container.readiness.port
    }
    if len(ports) > 1:
        raise LabError(
            f"image {image.reference}: a generic server has one port, the manifests name {sorted(ports)}"
        )
    return ports.pop() if ports else 80


def _distribution(duration: Distribution) -> dict[str, Any]:
    assert dataclasses.is_dataclass(duration)
    return {"kind": type(duration).__name__, **dataclasses.asdict(duration)}


def _stop_behaviour(stop: StopBehaviour) -> dict[str, Any]:
    return {
        "listener": stop.listener.value,
        "idle": stop.idle.value,
        "busy": stop.busy.value,
        "unused": stop.unused.value,
        "unusedTimeout": stop.unused_timeout_s,
        "exit": stop.exit.value,
        "exitAfter": stop.exit_after_s,
        "drainTimeout": stop.drain_timeout_s,
    }
