"""Scenarios drawn by a seed from a grammar of settings: nobody chose them, so nothing was fitted to them.

    python -m validation.draw --seed 1 --count 15 --out configs/drawn

A scenario's number and the seed fix it; each choice below is as likely as its neighbours.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.random import Generator

from sim.files import objects_yaml
from validation.observations import write_aside

T = TypeVar("T")
UPDATE_AT_S: Final = 4
ROUND_S: Final = 3
"""What one round of pods may take: the load goes on for longer than the rollout."""
APP_PORT: Final = 30300
PROXY_PORT: Final = 30301


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One scenario's choices."""

    answer: str
    """plain (a file), late (0.5 s to the header), streamed (1 s of body), generic (no nginx)."""
    stop_signal: str
    pre_stop: str
    """none, sleep-N (N seconds) or rm (removes the probe's file, then sleeps)."""
    replicas: int
    strategy: str
    """surge/unavailable of a RollingUpdate, or Recreate."""
    readiness_period_s: int
    failure_threshold: int
    start_up_s: float
    keep_alive: bool
    connections: int
    arrivals: str
    proxy: "Proxy | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The HAProxy tier's choices."""

    version: str
    mode: str
    retries: int
    redispatch: bool
    inter_s: int
    fall: int


def draw(rng: Generator) -> Drawn:
    """One scenario from the grammar."""
    answer = _one(rng, ["plain", "plain", "late", "streamed", "generic"])
    return Drawn(
        answer=answer,
        stop_signal="SIGTERM" if answer == "generic" else _one(rng, ["SIGTERM", "SIGQUIT"]),
        pre_stop=_one(
            rng, ["none", "none", "sleep-1", "sleep-2", "sleep-4"] + ["rm"] * (answer != "generic")
        ),
        replicas=_one(rng, [1, 2, 3, 4, 6]),
        strategy=_one(rng, ["1/0", "0/1", "50%/0", "25%/25%", "Recreate"]),
        readiness_period_s=_one(rng, [1, 2, 5]),
        failure_threshold=_one(rng, [1, 2]),
        start_up_s=_one(rng, [0.05, 0.5, 1.5]),
        keep_alive=_one(rng, [True, False]),
        connections=_one(rng, [10, 20, 40]),
        arrivals=_one(rng, ["think-10ms", "think-20ms", "think-50ms", "rate-300", "rate-800"]),
        proxy=_proxy(rng) if rng.random() < 0.4 else None,
    )


def _proxy(rng: Generator) -> Proxy:
    return Proxy(
        version=_one(rng, ["2.6", "3.0"]),
        mode=_one(rng, ["http-server-close", "http-keep-alive"]),
        retries=_one(rng, [0, 1, 3]),
        redispatch=_one(rng, [True, False]),
        inter_s=_one(rng, [1, 2]),
        fall=_one(rng, [1, 2, 5]),
    )


def _one(rng: Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


# ---------------------------------------------------------------- as files


def documents(name: str, drawn: Drawn) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The manifests and the scenario of *drawn*."""
    objects = [_deployment(drawn), _service("myapp", APP_PORT, 80)]
    if drawn.answer != "generic":
        objects.insert(0, _config("myapp-conf", "nginx.conf", _nginx(drawn.answer)))
    if drawn.proxy:
        conf = _config("myapp-proxy-conf", "haproxy.cfg", _haproxy(drawn.proxy))
        objects += [conf, _service("myapp-proxy", PROXY_PORT, 8080), _proxy_deployment(drawn.proxy)]
    return objects, _scenario(name, drawn)


def _image(drawn: Drawn, colour: str) -> str:
    kind = "generic" if drawn.answer == "generic" else "app"
    start = f"{drawn.start_up_s * 1e3:.0f}ms"
    return f"rollsim/{kind}:{colour}-{drawn.stop_signal.removeprefix('SIG').lower()}-{start}"


def _images(drawn: Drawn) -> dict[str, Any]:
    what: dict[str, Any] = {"stopSignal": drawn.stop_signal, "startup": f"{drawn.start_up_s * 1e3:.0f}ms"}
    if drawn.answer == "generic":
        stop = {"listener": "close", "idle": "close", "busy": "finish", "exit": "drained"}
        what |= {
            "server": "generic",
            "serviceTime": {"uniform": ["10ms", "30ms"]},
            "onStop": {"SIGTERM": stop},
        }
    else:
        what |= {"server": "nginx", "version": "1.22", "serviceTime": "20us"}
    images = {_image(drawn, colour): dict(what) for colour in ("red", "blue")}
    if drawn.proxy:
        version = drawn.proxy.version
        images[f"rollsim/proxy:{version}"] = {
            "server": "haproxy", "version": version, "stopSignal": "SIGUSR1", "startup": "50ms",
        }  # fmt: skip
    return images


def _deployment(drawn: Drawn) -> dict[str, Any]:
    surge, _, unavailable = drawn.strategy.partition("/")
    strategy: dict[str, Any] = {"type": "Recreate"}
    if unavailable:
        rolling = {"maxSurge": _share(surge), "maxUnavailable": _share(unavailable)}
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling}
    container: dict[str, Any] = {
        "name": "myapp",
        "image": _image(drawn, "red"),
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 80}],
        "readinessProbe": {
            "httpGet": {"path": "/healthy.html", "port": 80},
            "periodSeconds": drawn.readiness_period_s,
            "failureThreshold": drawn.failure_threshold,
        },
    }
    if drawn.pre_stop == "rm":
        line = f"rm /www/healthy.html && sleep {2 * drawn.readiness_period_s * drawn.failure_threshold + 2}"
        container["lifecycle"] = {"preStop": {"exec": {"command": ["/bin/sh", "-c", line]}}}
    elif drawn.pre_stop != "none":
        seconds = int(drawn.pre_stop.removeprefix("sleep-"))
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": seconds}}}
    spec: dict[str, Any] = {"containers": [container]}
    if drawn.answer != "generic":
        container["volumeMounts"] = [_mount("/etc/nginx/nginx.conf")]
        spec["volumes"] = [{"name": "conf", "configMap": {"name": "myapp-conf"}}]
    return _deployment_of("myapp", drawn.replicas, strategy, spec)


def _proxy_deployment(proxy: Proxy) -> dict[str, Any]:
    container = {
        "name": "haproxy",
        "image": f"rollsim/proxy:{proxy.version}",
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
        "volumeMounts": [_mount("/etc/haproxy/haproxy.cfg")],
    }
    spec = {
        "containers": [container],
        "volumes": [{"name": "conf", "configMap": {"name": "myapp-proxy-conf"}}],
    }
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    return _deployment_of("myapp-proxy", 1, strategy, spec)


def _deployment_of(
    name: str, replicas: int, strategy: Mapping[str, Any], spec: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "strategy": strategy,
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    }


def _share(text: str) -> int | str:
    return text if text.endswith("%") else int(text)


def _mount(path: str) -> dict[str, str]:
    return {"name": "conf", "mountPath": path, "subPath": path.rpartition("/")[2]}


def _config(name: str, file: str, text: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {file: text}}


def _service(name: str, node_port: int, target: int) -> dict[str, Any]:
    port = {"port": 80, "targetPort": target, "nodePort": node_port}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"type": "NodePort", "selector": {"app": name}, "ports": [port]},
    }


def _nginx(answer: str) -> str:
    locations = {
        "plain": "",
        "late": "    location / { echo_sleep 0.5; echo late; }\n    location = /healthy.html { }\n",
        "streamed": (
            "    location / { echo start; echo_flush; echo_sleep 1; echo end; }\n"
            "    location = /healthy.html { }\n"
        ),
    }
    modules = "" if answer == "plain" else "include /etc/nginx/modules-enabled/*.conf;\n"
    return (
        f"worker_processes 1;\npid /run/nginx.pid;\n{modules}events {{ worker_connections 4096; }}\n"
        "http {\n  access_log off;\n  keepalive_timeout 300;\n  keepalive_requests 1000000;\n"
        f"  server {{\n    listen 80 backlog=4096;\n    root /www;\n{locations[answer]}  }}\n}}\n"
    )


def _haproxy(proxy: Proxy) -> str:
    redispatch = "option redispatch" if proxy.redispatch else "no option redispatch"
    check = f"check inter {proxy.inter_s}s rise 2 fall {proxy.fall}"
    return (
        "global\n  maxconn 4096\ndefaults\n  mode http\n  maxconn 2000\n  timeout connect 5s\n"
        "  timeout client 50s\n  timeout server 50s\n"
        f"  option {proxy.mode}\n  {redispatch}\n  retries {proxy.retries}\n"
        "listen myapp\n  bind :8080\n"
        f'  server app "${{MYAPP_SERVICE_HOST}}:${{MYAPP_SERVICE_PORT}}" {check}\n'
    )


def _scenario(name: str, drawn: Drawn) -> dict[str, Any]:
    load: dict[str, Any] = {
        "client": "plain",
        "target": {"service": "myapp-proxy" if drawn.proxy else "myapp", "port": 80},
        "connections": drawn.connections,
        "keepAlive": drawn.keep_alive,
        "duration": f"{_duration_s(drawn)}s",
        "connectTimeout": "5s",
        "answerTimeout": "5s",
        "sources": 20,
    }
    kind, _, value = drawn.arrivals.partition("-")
    load |= {"thinkTime": {"exponential": value}} if kind == "think" else {"rate": f"{value}/s"}
    update = {
        "deployment": "myapp",
        "container": "myapp",
        "image": _image(drawn, "blue"),
        "at": f"{UPDATE_AT_S}s",
    }
    return {
        "apiVersion": "rollsim/v1",
        "kind": "Scenario",
        "metadata": {"name": name},
        "spec": {
            "manifests": [f"manifests/{name}.yaml"],
            "update": update,
            "load": load,
            "images": _images(drawn),
            "cluster": {"nodes": 1, "client": "node", "cores": 2},
        },
    }


def _duration_s(drawn: Drawn) -> int:
    """Long enough for the rollout and the last old pod's end, with some seconds to spare."""
    at_once = {"1/0": 1, "0/1": 1, "50%/0": math.ceil(drawn.replicas / 2), "25%/25%": 2}
    rounds = math.ceil(drawn.replicas / at_once.get(drawn.strategy, drawn.replicas))
    stop_s = {"none": 0, "rm": 2 * drawn.readiness_period_s * drawn.failure_threshold + 2}.get(
        drawn.pre_stop, 4
    )
    return math.ceil(UPDATE_AT_S + rounds * (ROUND_S + drawn.start_up_s) + stop_s + 5)


def write(folder: Path, seed: int, count: int) -> list[str]:
    """Write *count* scenarios into *folder*; their names."""
    names = []
    for number in range(count):
        name = f"drawn-{seed}-{number:02d}"
        objects, scenario = documents(name, draw(np.random.default_rng([seed, number])))
        write_aside(folder / "manifests" / f"{name}.yaml", objects_yaml(objects).encode())
        write_aside(folder / f"{name}.yaml", objects_yaml([scenario]).encode())
        names.append(name)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--count", type=int, default=15)
    parser.add_argument("--out", type=Path, required=True, help="folder of the scenarios")
    options = parser.parse_args()
    print("\n".join(write(options.out, options.seed, options.count)))


if __name__ == "__main__":
    main()
