"""What each kind of server does on a signal: one table per kind, the same form for all.

nginx: release 1.26.2 src/os/unix/ngx_process_cycle.c:690-760 (1.22 and 1.31 alike), tried on 1.22.1.
HAProxy: 2.6 management manual, "Stopping and restarting HAProxy", tried on 2.6.12.
"""

from dataclasses import replace
from typing import Final

from sim.scenario.model import (
    Container,
    ExitWhen,
    Image,
    OnBusy,
    OnIdle,
    OnListener,
    ServerKind,
    StopBehaviour,
)

FAST_STOP: Final = StopBehaviour(
    listener=OnListener.CLOSE, idle=OnIdle.CLOSE, busy=OnBusy.CUT, unused=OnIdle.CLOSE, exit=ExitWhen.AT_ONCE
)
IGNORED: Final = StopBehaviour(
    listener=OnListener.KEEP, idle=OnIdle.KEEP, busy=OnBusy.FINISH, unused=OnIdle.KEEP, exit=ExitWhen.NEVER
)

_NGINX_QUIT: Final = StopBehaviour(
    listener=OnListener.CLOSE,
    idle=OnIdle.CLOSE,
    busy=OnBusy.FINISH,
    unused=OnIdle.KEEP,  # a connection that never sent a request is not idle: client_header_timeout ends it
    exit=ExitWhen.DRAINED,
)
_HAPROXY_USR1: Final = replace(_NGINX_QUIT, unused=OnIdle.KEEP)


def stop_behaviour(container: Container, image: Image, signal: str) -> StopBehaviour:
    """What the server of *container* does from *signal* on.

    A signal that a generic server does not name ends it at once. SIGKILL from inside a container does not reach
    its process 1 (pid_namespaces(7)); the kubelet's own comes from outside and asks nobody.
    """
    if signal == "SIGKILL":
        return IGNORED
    match image.server:
        case ServerKind.NGINX:
            return _nginx(container, signal)
        case ServerKind.HAPROXY:
            return _haproxy(container, signal)
        case ServerKind.GENERIC:
            return image.behaviours.get(signal, FAST_STOP)


def _nginx(container: Container, signal: str) -> StopBehaviour:
    if signal == "SIGQUIT":
        conf = container.nginx
        assert conf is not None
        return replace(
            _NGINX_QUIT,
            drain_timeout_s=conf.worker_shutdown_timeout_s,
            unused_timeout_s=conf.client_header_timeout_s,
        )
    if signal in ("SIGTERM", "SIGINT"):
        return FAST_STOP
    return IGNORED  # HUP reloads, USR1 reopens logs, USR2 upgrades, WINCH: none of them stops the pod


def _haproxy(container: Container, signal: str) -> StopBehaviour:
    if signal == "SIGUSR1":
        conf = container.haproxy
        assert conf is not None
        frontend = conf.frontends[0]
        unused_s = frontend.timeout_http_request_s or frontend.timeout_client_s
        return replace(
            _HAPROXY_USR1,
            idle=OnIdle.CLOSE_AFTER_NEXT if frontend.idle_close_on_response else OnIdle.CLOSE,
            drain_timeout_s=conf.hard_stop_after_s,
            unused_timeout_s=float("inf") if unused_s is None else unused_s,
        )
    if signal in ("SIGTERM", "SIGINT"):
        return FAST_STOP
    return IGNORED
