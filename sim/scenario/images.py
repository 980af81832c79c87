"""`spec.images`: what manifests cannot tell about an image; official images are known by their name."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sim.errors import InputError
from sim.scenario.distributions import Constant, Distribution
from sim.scenario.durations import shown
from sim.scenario.model import (
    ExitWhen,
    Image,
    OnBusy,
    OnIdle,
    OnListener,
    ServerKind,
    StopBehaviour,
)
from sim.scenario.presets import PRESETS, Preset
from sim.scenario.reader import Fields

SIGNALS: Final = (
    "SIGTERM", "SIGQUIT", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGWINCH", "SIGABRT",
    "SIGALRM",
)  # fmt: skip


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
    default = preset or Preset(behaviours=MappingProxyType({}))
    known = official_image(reference)
    official = known[0] if known and known[0].server is kind else Image(reference=reference, server=kind)
    image = Image(
        reference=reference,
        server=kind,
        version=_version(fields, kind, official.version),
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


def _version(fields: Fields, kind: ServerKind, default: str | None) -> str | None:
    version = fields.text("version", default)
    if version is None:
        if kind is ServerKind.HAPROXY:
            fields.warn("version", f"missing: HAProxy {ASSUMED_HAPROXY} is assumed")
            return ASSUMED_HAPROXY
        return None
    if kind is not ServerKind.GENERIC and not _VERSION.fullmatch(version):
        raise fields.error("version", f'got {shown(version)}, expected digits such as "2.6" or "1.22.1"')
    return version if "." in version else f"{version}.0"


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

ASSUMED_HAPROXY: Final = "2.6"
_VERSION: Final = re.compile(r"\d+(?:\.\d+){0,2}")
_OFFICIAL: Final = re.compile(
    r"(?:(?:docker\.io/|index\.docker\.io/|public\.ecr\.aws/docker/)?(?:library/)?)(nginx|haproxy)"
)
_UNPRIVILEGED: Final = re.compile(r"(?:docker\.io/)?nginxinc/nginx-unprivileged")


def official_image(reference: str) -> tuple[Image, str] | None:
    """An official nginx or haproxy image by its reference, and what is assumed of it; None for any other.

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
    found = _VERSION.match(tag)
    version = found[0] if found else None
    if server == "haproxy":
        version = ASSUMED_HAPROXY if version is None else version if "." in version else f"{version}.0"
        image = Image(reference=reference, server=ServerKind.HAPROXY, version=version, stop_signal="SIGUSR1")
    else:
        signal = _nginx_stop_signal(version)
        image = Image(reference=reference, server=ServerKind.NGINX, version=version, stop_signal=signal)
    assumed = (
        f"not described, taken as the official {server}{f' {version}' if version else ''}: "
        f"stop signal {image.stop_signal}, "
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
        f"{place}: got {reference}, which the scenario does not describe; add spec.images: "
        f'{{"{reference}": {{server: SERVER, stopSignal: SIGTERM, startup: 300ms, serviceTime: 1ms}}}}, '
        f"SERVER being one of nginx, haproxy, generic, {', '.join(PRESETS)}"
    )
