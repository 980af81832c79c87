"""Probes and lifecycle hooks of a container, as the API server takes them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sim.errors import UnsupportedInput
from sim.scenario.durations import parse_duration, shown
from sim.scenario.ignored_fields import HTTP_HEADERS, check_ignored
from sim.scenario.model import Hook, HookKind, Probe, ProbeKind
from sim.scenario.reader import INT32, Fields
from sim.scenario.shell import SHELLS, ContainerFiles, Effects, read_command

_HANDLERS: Final = tuple(kind.value for kind in ProbeKind)
_TESTS: Final = frozenset({"-f", "-e", "-s", "-r"})
_SIGNALS: Final = frozenset(
    {"SIGHUP", "SIGINT", "SIGQUIT", "SIGKILL", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGWINCH", "SIGABRT"}
)
HOW_TO_SAY_IT: Final = (
    'say what it does in the scenario: spec.hooks: {"DEPLOYMENT/CONTAINER/preStop": '
    "{duration: 10s, removes: [/www/healthy.html], signals: {0s: SIGQUIT}}}"
)


@dataclass(slots=True)
class StatedHooks:
    """`spec.hooks` of the scenario: what hooks do that cannot be read. Keeps what was asked for."""

    hooks: Mapping[str, Fields] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def get(self, deployment: str, container: str, name: str) -> Fields | None:
        key = f"{deployment}/{container}/{name}"
        if key in self.hooks:
            self.used.add(key)
        return self.hooks.get(key)


# ---------------------------------------------------------------- probes


def read_probe(
    container: Fields,
    key: str,
    *,
    ports: Mapping[str, int],
    working_dir: str | None = None,
    file_of_path: Callable[[int, str], str | None] = lambda _port, _path: None,
) -> Probe | None:
    """The probe *key* of a container; *file_of_path* gives the file that an HTTP path is served from.

    Notes
    -----
    kubernetes v1.34 pkg/apis/core/v1/defaults.go:236-249 (0 means the default) and
    pkg/apis/core/validation/validation.go, validateProbe and the checks for each kind of probe.
    """
    probe = container.mapping(key)
    if probe is None:
        return None
    kind = _handler(probe)
    numbers = {
        "initial_delay_s": probe.integer("initialDelaySeconds", 0, least=0, most=INT32),
        "timeout_s": probe.integer("timeoutSeconds", 0, least=0, most=INT32) or 1,
        "period_s": probe.integer("periodSeconds", 0, least=0, most=INT32) or 10,
        "success_threshold": probe.integer("successThreshold", 0, least=0, most=INT32) or 1,
        "failure_threshold": probe.integer("failureThreshold", 0, least=0, most=INT32) or 3,
        "termination_grace_period_s": probe.integer("terminationGracePeriodSeconds", None, least=1),
    }
    if key == "readinessProbe" and numbers["termination_grace_period_s"] is not None:
        raise probe.error("terminationGracePeriodSeconds", "must not be set for a readiness probe")
    if key != "readinessProbe" and numbers["success_threshold"] != 1:
        raise probe.error("successThreshold", f"got {numbers['success_threshold']}, must be 1 for a {key}")
    handler = probe.required(kind.value)
    port, path, file = None, None, None
    command: tuple[str, ...] = ()
    match kind:
        case ProbeKind.HTTP_GET:
            port, path = _http(handler, ports)
            file = file_of_path(port, path)
        case ProbeKind.TCP_SOCKET | ProbeKind.GRPC:
            port = _port(handler, ports)
            _no_other_host(handler)
            handler.finish(ignored={"service"} if kind is ProbeKind.GRPC else ())
        case ProbeKind.EXEC:
            command = handler.texts("command", least=1)
            file = _file_of_command(command, handler, working_dir)
            handler.finish()
    probe.finish()
    return Probe(kind=kind, port=port, path=path, command=command, file=file, **numbers)


def _handler(probe: Fields) -> ProbeKind:
    given = [kind for kind in ProbeKind if kind.value in probe]
    if len(given) != 1:
        got = " and ".join(kind.value for kind in given) or "none"
        raise probe.fault(f"got {got}, expected exactly one of {', '.join(_HANDLERS)}")
    return given[0]


def _http(handler: Fields, ports: Mapping[str, int]) -> tuple[int, str]:
    port = _port(handler, ports)
    path = handler.text("path", "/")
    handler.text("scheme", "HTTP", allowed=("HTTP", "HTTPS"))
    _no_other_host(handler)
    check_ignored(handler, HTTP_HEADERS)
    handler.finish(ignored={"httpHeaders"})
    return port, path if path.startswith("/") else f"/{path}"


def _port(handler: Fields, ports: Mapping[str, int]) -> int:
    value = handler.raw("port")
    if isinstance(value, str) and not value.isdigit():
        if value not in ports:
            raise handler.error(
                "port",
                f"got {shown(value)}, expected a number or one of the container's named ports"
                f" ({', '.join(ports) or 'none'})",
            )
        return ports[value]
    return int(handler.integer("port", least=1, most=65535))


def _no_other_host(handler: Fields) -> None:
    if handler.text("host", None) not in (None, ""):
        raise handler.unsupported("host", "not modelled: a probe that asks another address than the pod's")


def _file_of_command(command: tuple[str, ...], handler: Fields, working_dir: str | None) -> str | None:
    """The file that `cat F`, `test -f F`, `[ -f F ]` or `ls F` needs, also inside `sh -c`."""
    words = list(command)
    if words[0].rsplit("/", 1)[-1] in SHELLS and len(words) == 3 and words[1] == "-c":
        words = words[2].split()
    match [words[0].rsplit("/", 1)[-1], *words[1:]]:
        case ["cat" | "ls" | "stat", path] if not path.startswith("-"):
            pass
        case ["test", option, path] | ["[", option, path, "]"] | ["[[", option, path, "]]"] if (
            option in _TESTS
        ):
            pass
        case ["test" | "[" | "[[", *_]:
            raise handler.unsupported(
                "command",
                f"the test {shown(' '.join(command))} cannot be read (known: cat F, test -f F, [ -f F ])",
            )
        case ["true"]:
            return None
        case _:
            handler.warn(
                "command", f"{shown(' '.join(command))} is taken to succeed while the server listens"
            )
            return None
    path = path.strip("'\"")
    if path.startswith("/"):
        return path
    if working_dir is None:
        raise handler.unsupported(
            "command", f"{shown(path)} depends on the image's working directory: write the whole path"
        )
    return f"{working_dir.rstrip('/')}/{path}"


# ---------------------------------------------------------------- hooks


def read_hook(
    lifecycle: Fields,
    key: str,
    *,
    grace_s: int,
    stated: Fields | None,
    files: ContainerFiles,
    ports: Mapping[str, int],
) -> Hook | None:
    """A preStop or postStart hook in time; *stated* is what the scenario says about it.

    Notes
    -----
    kubernetes v1.34 pkg/apis/core/validation/validation.go:3297-3311: a sleep is 0 to the grace period long.
    """
    hook = lifecycle.mapping(key)
    if hook is None:
        return None
    kind = _hook_kind(hook)
    handler = hook.required(kind.value)
    match kind:
        case HookKind.SLEEP:
            seconds = handler.integer("seconds", least=0, most=grace_s)
            handler.finish()
            if stated is not None:
                raise stated.fault("a sleep hook says itself what it does: take this out")
            read = Hook(kind=kind, duration_s=float(seconds))
        case HookKind.EXEC:
            command = handler.texts("command", least=1)
            handler.finish()
            read = _exec_hook(command, handler, key, files, stated)
        case HookKind.HTTP_GET:
            _http(handler, ports)
            if stated is None:
                hook.warn(
                    "httpGet", f"taken to be answered at once and to change nothing; else {HOW_TO_SAY_IT}"
                )
            read = Hook(kind=kind)
    hook.finish()
    return read if stated is None else _stated_hook(kind, stated)


def _hook_kind(hook: Fields) -> HookKind:
    if "tcpSocket" in hook:
        raise hook.unsupported("tcpSocket", "not modelled: Kubernetes takes it, and the hook fails")
    given = [kind for kind in HookKind if kind.value in hook]
    if len(given) != 1:
        got = " and ".join(kind.value for kind in given) or "none"
        raise hook.fault(f"got {got}, expected exactly one of {', '.join(kind.value for kind in HookKind)}")
    return given[0]


def _exec_hook(
    command: tuple[str, ...], handler: Fields, key: str, files: ContainerFiles, stated: Fields | None
) -> Hook:
    if stated is not None:
        return Hook(kind=HookKind.EXEC)
    try:
        effects = read_command(command, files)
    except UnsupportedInput as error:
        raise handler.unsupported("command", f"{error}; {HOW_TO_SAY_IT}") from None
    if key == "postStart" and effects.status:
        raise handler.unsupported(
            "command", "not modelled: a postStart hook that fails restarts the container"
        )
    return _timed(effects, handler)


def _timed(effects: Effects, handler: Fields) -> Hook:
    for warning in effects.warnings:
        handler.warn("command", warning)
    return Hook(
        kind=HookKind.EXEC,
        duration_s=effects.duration_s,
        removes=tuple(effects.removes),
        signals=tuple(effects.signals),
    )


def _stated_hook(kind: HookKind, stated: Fields) -> Hook:
    hook = Hook(
        kind=kind,
        duration_s=stated.duration_s("duration", 0.0),
        removes=tuple(
            (after_s, path) for after_s, paths in _timed_values(stated, "removes") for path in _as_list(paths)
        ),
        signals=tuple(
            (after_s, name) for after_s, names in _timed_values(stated, "signals") for name in _as_list(names)
        ),
    )
    for _, path in hook.removes:
        if not isinstance(path, str) or not path.startswith("/"):
            raise stated.error("removes", f"got {shown(path)}, expected absolute paths")
    for _, name in hook.signals:
        if not isinstance(name, str) or name not in _SIGNALS:
            raise stated.error("signals", f"got {shown(name)}, allowed: {', '.join(sorted(_SIGNALS))}")
    stated.finish()
    return hook


def _timed_values(stated: Fields, key: str) -> list[tuple[float, Any]]:
    """`[a, b]` (at the hook's start) or `{2s: a, 5s: [b, c]}`."""
    value = stated.raw(key, [])
    if isinstance(value, Mapping):
        return sorted(
            (
                (parse_duration(_number(after), str(stated.place.field(key))), given)
                for after, given in value.items()
            ),
            key=lambda pair: pair[0],
        )
    return [(0.0, value)]


def _number(text: str) -> float | str:
    return float(text) if text.isascii() and text.replace(".", "", 1).isdigit() else text


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
