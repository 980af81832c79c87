"""Servers that are neither nginx nor HAProxy, as they come: what each does on its stop signal."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import ExitWhen, OnBusy, OnIdle, OnListener, StopBehaviour

_QUARTER_SECOND: Final = Constant(value_s=0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A server without settings of the user's own; each of them can be overridden in `spec.images`."""

    behaviours: Mapping[str, StopBehaviour]
    keep_alive: bool = True
    idle_timeout_s: float | None = None
    startup: Distribution = _QUARTER_SECOND
    """Container start to listening, of a small application: an order of magnitude."""


KILLED: Final = StopBehaviour()
"""Every connection ends with the process, at once."""
IGNORED: Final = StopBehaviour(
    listener=OnListener.KEEP,
    idle=OnIdle.KEEP,
    busy=OnBusy.FINISH,
    unused=OnIdle.KEEP,
    exit=ExitWhen.NEVER,
)
"""Served on until SIGKILL."""
DRAIN: Final = StopBehaviour(busy=OnBusy.FINISH, exit=ExitWhen.DRAINED)
"""Closes the listener and what is idle, finishes what is running, then exits."""


def _on_sigterm(behaviour: StopBehaviour) -> Mapping[str, StopBehaviour]:
    return MappingProxyType({"SIGTERM": behaviour, "SIGINT": behaviour})


_SMALL: Final = Constant(value_s=0.05)
_PYTHON: Final = Constant(value_s=0.5)
_JVM: Final = Constant(value_s=3.0)

PRESETS: Final[Mapping[str, Preset]] = MappingProxyType(
    {
        # net/http without signal.Notify: the runtime ends the process, as PID 1 too (Go os/signal, "Default
        # behavior of signals in Go programs"; runtime/signal_unix.go dieFromSignal). No idle time-out.
        "go-http": Preset(behaviours=_on_sigterm(KILLED), startup=_SMALL),
        # Server.Shutdown on the signal and waited for: listeners, then idle connections, then active ones. A
        # connection without a request counts as idle after 5 s, answers say `Connection: close` (Go 1.26
        # net/http/server.go closeIdleConns, doKeepAlives).
        "go-http-shutdown": Preset(
            behaviours=_on_sigterm(replace(DRAIN, unused=OnIdle.KEEP, unused_timeout_s=5.0)), startup=_SMALL
        ),
        # Without a handler and as PID 1 the kernel drops the signal (pid_namespaces(7); docker-node
        # docs/BestPractices.md, "Handling Kernel Signals"). server.keepAliveTimeout is 5 s.
        "node": Preset(behaviours=_on_sigterm(IGNORED), idle_timeout_s=5.0),
        # server.close() in a handler, Node 19 and later: idle connections are closed too (Node.js http,
        # server.close, history of v19.0.0).
        "node-close": Preset(behaviours=_on_sigterm(DRAIN), idle_timeout_s=5.0),
        # Sync workers know no keep-alive. SIGTERM: listeners are closed, workers finish their request, what
        # is left after graceful_timeout 30 s is killed (gunicorn/arbiter.py stop; "Signal Handling").
        "gunicorn": Preset(
            behaviours=_on_sigterm(replace(DRAIN, drain_timeout_s=30.0)), keep_alive=False, startup=_PYTHON
        ),
        # Listening sockets and idle connections are closed, running answers end with `Connection: close`,
        # without a limit (uvicorn/server.py shutdown, timeout_graceful_shutdown unset); keep-alive 5 s.
        "uvicorn": Preset(behaviours=_on_sigterm(DRAIN), idle_timeout_s=5.0, startup=_PYTHON),
        # 3.4 and later, Tomcat: graceful by default; no new requests, on idle connections neither
        # (spring-boot issue 40108); timeout-per-shutdown-phase 30 s; Tomcat's keepAliveTimeout 60 s.
        "spring-boot": Preset(
            behaviours=_on_sigterm(replace(DRAIN, drain_timeout_s=30.0)), idle_timeout_s=60.0, startup=_JVM
        ),
        # Before 3.4, or server.shutdown=immediate: Tomcat is stopped with its requests.
        "spring-boot-immediate": Preset(behaviours=_on_sigterm(KILLED), idle_timeout_s=60.0, startup=_JVM),
    }
)
