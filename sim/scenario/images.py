"""`spec.images`: what manifests cannot tell about an image, presets for common servers, images known by name."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sim.errors import InputError
from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import (
    ExitWhen,
    Image,
    OnBusy,
    OnIdle,
    OnListener,
    ServerKind,
    StopBehaviour,
)
from sim.scenario.reader import Fields

SIGNALS: Final = (
    "SIGTERM", "SIGQUIT", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGWINCH", "SIGABRT", "SIGALRM",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A server that is neither nginx nor HAProxy, as it comes without code of the user's own."""

    source: str
    behaviours: Mapping[str, StopBehaviour]
    keep_alive: bool = True
    idle_timeout_s: float | None = None
    startup: Distribution = Constant(value_s=0.3)
    """Process start to listening on an unloaded core: order of magnitude, meant to be overridden."""


_KILLED: Final = StopBehaviour(
    listener=OnListener.CLOSE, idle=OnIdle.CLOSE, busy=OnBusy.CUT, unused=OnIdle.CLOSE, exit=ExitWhen.AT_ONCE
)
_IGNORED: Final = StopBehaviour(
    listener=OnListener.KEEP, idle=OnIdle.KEEP, busy=OnBusy.FINISH, unused=OnIdle.KEEP, exit=ExitWhen.NEVER
)
_GO_SHUTDOWN: Final = StopBehaviour(
    listener=OnListener.CLOSE,
    idle=OnIdle.CLOSE,
    busy=OnBusy.FINISH,
    unused=OnIdle.KEEP,
    unused_timeout_s=5.0,
    exit=ExitWhen.DRAINED,
)
_DRAIN: Final = StopBehaviour(
    listener=OnListener.CLOSE,
    idle=OnIdle.CLOSE,
    busy=OnBusy.FINISH,
    unused=OnIdle.CLOSE,
    exit=ExitWhen.DRAINED,
)


def _preset(source: str, behaviour: StopBehaviour, **settings: object) -> Preset:
    both = {"SIGTERM": behaviour, "SIGINT": behaviour}
    return Preset(source=source, behaviours=MappingProxyType(both), **settings)  # type: ignore[arg-type]


PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        "go-http": _preset(
            "net/http without signal.Notify: the runtime ends the process, as PID 1 too (os/signal documentation, "
            "'Default behavior of signals'; runtime/signal_unix.go dieFromSignal)",
            _KILLED,
            startup=Constant(value_s=0.05),
        ),
        "go-http-shutdown": _preset(
            "net/http Server.Shutdown on the signal, waited for: closes listeners, then idle connections, waits for "
            "active ones, a connection without a request counts as idle after 5 s (net/http/server.go closeIdleConns)",
            _GO_SHUTDOWN,
            startup=Constant(value_s=0.05),
        ),
        "node": _preset(
            "http.createServer without a signal handler, as PID 1: the kernel drops signals without a handler for "
            "PID 1, so it serves until SIGKILL (docker-node docs/BestPractices.md 'Handling Kernel Signals'; "
            "pid_namespaces(7)); idle connections: server.keepAliveTimeout 5 s",
            _IGNORED,
            idle_timeout_s=5.0,
        ),
        "node-close": _preset(
            "server.close() on the signal, Node >= 19: stops listening, closes idle connections, the process ends "
            "when the last answer is out (Node.js documentation of http server.close); keepAliveTimeout 5 s",
            _DRAIN,
            idle_timeout_s=5.0,
        ),
        "gunicorn": _preset(
            "sync worker: no keep-alive; SIGTERM closes the listener, workers finish their request, killed after "
            "graceful_timeout 30 s (gunicorn/arbiter.py stop(), documentation 'Signal Handling' and 'Settings')",
            replace(_DRAIN, drain_timeout_s=30.0),
            keep_alive=False,
            startup=Constant(value_s=0.5),
        ),
        "uvicorn": _preset(
            "SIGTERM closes the listener and idle connections, finishes running answers with Connection: close, waits "
            "without limit (uvicorn/server.py shutdown(), h11_impl.py shutdown()); timeout_keep_alive 5 s",
            _DRAIN,
            idle_timeout_s=5.0,
            startup=Constant(value_s=0.5),
        ),
        "spring-boot": _preset(
            "3.4 and later, Tomcat: graceful shutdown is on; no new requests, also none on idle connections, running "
            "ones have spring.lifecycle.timeout-per-shutdown-phase 30 s (Spring Boot reference 'Graceful Shutdown', "
            "3.4 release notes); Tomcat's keepAliveTimeout 60 s",
            replace(_DRAIN, drain_timeout_s=30.0),
            idle_timeout_s=60.0,
            startup=Constant(value_s=3.0),
        ),
        "spring-boot-immediate": _preset(
            "before 3.4, or server.shutdown=immediate: Tomcat is stopped with its requests",
            _KILLED,
            idle_timeout_s=60.0,
            startup=Constant(value_s=3.0),
        ),
    }
)


def read_images(spec: Fields) -> dict[str, Image]:
    """The images that the scenario describes, by reference."""
    images = spec.mapping("images")
    return (
        {}
        if images is None
        else {reference: _image(reference, images.required(reference)) for reference in images.data}
    )


def _image(reference: str, fields: Fields) -> Image:
    kinds = [kind.value for kind in ServerKind]
    server = fields.text("server", allowed=[*kinds, *PRESETS])
    preset = PRESETS.get(server)
    kind = ServerKind.GENERIC if preset else ServerKind(server)
    default = preset or Preset(source="", behaviours=MappingProxyType({}))
    known = official_image(reference)
    official = known[0] if known and known[0].server is kind else Image(reference=reference, server=kind)
    image = Image(
        reference=reference,
        server=kind,
        version=fields.text("version", official.version),
        stop_signal=fields.text("stopSignal", official.stop_signal, allowed=SIGNALS),
        startup=fields.distribution("startup", default.startup),
        service_time=_service_time(fields),
        stream_time=fields.distribution("streamTime", Constant(value_s=0.0)),
        body_bytes=fields.integer("bodyBytes", 0, least=0),
        keep_alive=fields.flag("keepAlive", default.keep_alive) if kind is ServerKind.GENERIC else True,
        idle_timeout_s=fields.duration_s("idleTimeout", default.idle_timeout_s)
        if kind is ServerKind.GENERIC
        else None,
        behaviours=_behaviours(fields, default) if kind is ServerKind.GENERIC else MappingProxyType({}),
        preset=server if preset else None,
    )
    fields.finish()
    if (
        kind is ServerKind.GENERIC
        and image.stop_signal not in image.behaviours
        and image.stop_signal != "SIGKILL"
    ):
        fields.warn("onStop", f"{image.stop_signal} is not described: it ends the process at once")
    return image


def _service_time(fields: Fields) -> Distribution:
    if "serviceTime" in fields and "headerDelay" in fields:
        raise fields.error("headerDelay", "the same as serviceTime: give one of the two")
    default = fields.distribution("headerDelay", Image(reference="", server=ServerKind.GENERIC).service_time)
    return fields.distribution("serviceTime", default)


def _behaviours(fields: Fields, default: Preset) -> Mapping[str, StopBehaviour]:
    behaviours = dict(default.behaviours)
    if on_stop := fields.mapping("onStop"):
        for signal in on_stop.data:
            if signal not in SIGNALS or signal == "SIGKILL":
                raise on_stop.error(
                    signal, f"unknown signal; allowed: {', '.join(s for s in SIGNALS if s != 'SIGKILL')}"
                )
            behaviours[signal] = _behaviour(on_stop.required(signal), behaviours.get(signal, StopBehaviour()))
    return MappingProxyType(behaviours)


def _behaviour(fields: Fields, default: StopBehaviour) -> StopBehaviour:
    behaviour = StopBehaviour(
        listener=fields.choice("listener", OnListener, default.listener),
        idle=fields.choice("idle", OnIdle, default.idle),
        busy=fields.choice("busy", OnBusy, default.busy),
        unused=fields.choice("unused", OnIdle, fields.choice("idle", OnIdle, default.unused)),
        unused_timeout_s=fields.duration_s("unusedTimeout", default.unused_timeout_s),
        exit=fields.choice("exit", ExitWhen, default.exit),
        exit_after_s=fields.duration_s("exitAfter", default.exit_after_s),
        drain_timeout_s=fields.duration_s("drainTimeout", default.drain_timeout_s),
    )
    fields.finish()
    if behaviour.exit is ExitWhen.AFTER and "exitAfter" not in fields:
        raise fields.error("exitAfter", "missing: `exit: after` needs it")
    if behaviour.exit is ExitWhen.AT_ONCE and behaviour.busy is OnBusy.FINISH:
        raise fields.error("busy", "got finish, but `exit: atOnce` cuts every answer: write `exit: drained`")
    return behaviour


# ---------------------------------------------------------------- images known by their name

_OFFICIAL: Final = re.compile(
    r"(?:(?:docker\.io/|index\.docker\.io/|public\.ecr\.aws/docker/)?(?:library/)?)(nginx|haproxy)"
)
_UNPRIVILEGED: Final = re.compile(r"(?:docker\.io/)?nginxinc/nginx-unprivileged")


def official_image(reference: str) -> tuple[Image, str] | None:
    """An official nginx or haproxy image that the scenario does not describe, and what was assumed; else None.

    Notes
    -----
    Stop signals: docker-nginx commits ec7ff8c (1.12.0, 1.13.0 SIGQUIT), 16ec71e (1.13.1 SIGTERM), 3fb70dd
    (1.19.5 SIGQUIT); docker-haproxy 063fd36 (2018-08-25, SIGUSR1).
    """
    name, tag = _split(reference)
    match = _OFFICIAL.fullmatch(name)
    server = match[1] if match else "nginx" if _UNPRIVILEGED.fullmatch(name) else None
    if server is None:
        return None
    found = re.match(r"\d+(?:\.\d+){0,2}", tag)
    version = found[0] if found else None
    if server == "haproxy":
        image = Image(reference=reference, server=ServerKind.HAPROXY, version=version, stop_signal="SIGUSR1")
    else:
        signal = _nginx_stop_signal(version)
        image = Image(reference=reference, server=ServerKind.NGINX, version=version, stop_signal=signal)
    assumed = (
        f"official {server} image{f' {version}' if version else ''} assumed: stop signal {image.stop_signal}, "
        f"startup {image.startup.mean_s:g} s, service time {image.service_time.mean_s:g} s"
    )
    return image, assumed


def _split(reference: str) -> tuple[str, str]:
    """Name and tag ("latest" where there is none) of an image reference."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (name, "latest")


def _nginx_stop_signal(version: str | None) -> str:
    if version is None:
        return "SIGQUIT"
    parts = tuple(int(part) for part in version.split("."))
    newest = (*parts, *(999,) * (3 - len(parts)))  # "1.19" is today the last 1.19.x
    if newest >= (1, 19, 5) or (newest[:2] == (1, 12)) or version == "1.13.0":
        return "SIGQUIT"
    return "SIGTERM"


def undescribed(reference: str, place: object) -> InputError:
    return InputError(
        f"{place}: image {reference} is not described; add to the scenario: spec.images: "
        f'{{"{reference}": {{server: nginx|haproxy|generic|{"|".join(PRESETS)}, stopSignal: SIGTERM, startup: 300ms, '
        "serviceTime: 1ms}}"
    )
