"""How long a server keeps a client's connection: its limits on requests, on age and on idle time.

Sources: nginx release-1.26.2 src/http/ngx_http_core_module.c (keepalive_*), 1.31.5 ngx_http_request.c:3047
(keepalive_min_timeout); HAProxy 2.6 configuration manual 4.2 (`timeout http-keep-alive`).
"""

from sim.proxies import frontend_of
from sim.scenario.model import HttpMode, ServerKind
from sim.traffic.answers import location_for
from sim.waiting import NEVER
from sim.world import Server


def requests_per_link(server: Server, path: str) -> float:
    """After how many requests the server closes a connection, announced; infinite where it does not."""
    container, image = server.container, server.image
    match image.server:
        case ServerKind.NGINX if container.nginx is not None:
            if idle_limit_s(server, path) == 0 or container.nginx.keepalive_time_s == 0:
                return 1
            return max(1, container.nginx.keepalive_requests)
        case ServerKind.HAPROXY if container.haproxy is not None:
            return 1 if frontend_of(server).http_mode is HttpMode.CLOSE else NEVER
    return NEVER if image.keep_alive else 1


def age_limit_s(server: Server) -> float:
    """From what age on a connection is closed with its next answer, announced. [s]"""
    conf = server.container.nginx
    return NEVER if conf is None else conf.keepalive_time_s


def idle_limit_s(server: Server, path: str) -> float:
    """After what pause the server closes an idle connection. [s]"""
    container, image = server.container, server.image
    limit_s: float | None
    match image.server:
        case ServerKind.NGINX if container.nginx is not None:
            here_s = location_for(server, path).keepalive_timeout_s
            limit_s = container.nginx.keepalive_timeout_s if here_s is None else here_s
        case ServerKind.HAPROXY if container.haproxy is not None:
            front = frontend_of(server)
            limit_s = (
                front.timeout_http_keep_alive_s or front.timeout_http_request_s or front.timeout_client_s
            )
        case _:
            limit_s = image.idle_timeout_s
    return NEVER if limit_s is None else limit_s


def min_idle_s(server: Server) -> float:
    """How long a drain still waits for a request on a connection that has just become idle. [s]"""
    conf = server.container.nginx
    return 0.0 if conf is None else conf.keepalive_min_timeout_s
