"""What can go wrong with nothing changing, and what of a load is refused because it is not modelled."""

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from sim.errors import UnsupportedInput
from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import OpenLoop, ServerKind
from sim.scenario.nginx_location import file_of
from sim.traffic.answers import location_for
from sim.traffic.keepalive import idle_limit_s
from sim.traffic.residual import p_longer
from sim.world import Server

if TYPE_CHECKING:
    from sim.traffic.load import Traffic

EXPECTED_AT_MOST: Final = 1e-3
"""So many steady failures in a whole load may be missed by counting requests together."""
_DRAWS: Final = 4096


def is_hazardous(traffic: "Traffic", server: Server) -> bool:
    """Whether requests of *server*'s own connections or answers may fail with nothing changing."""
    p = _p_idle_too_long(traffic, server) + _p_slow(traffic, server)
    load = traffic.load
    n_requests = load.requests or traffic.longest_s / traffic.request_every_s
    return p * n_requests > EXPECTED_AT_MOST


def _p_idle_too_long(traffic: "Traffic", server: Server) -> float:
    """A kept connection's pause is longer than the server's idle time-out."""
    if not traffic.keeps or server not in traffic.targets(0):
        return 0.0
    limit_s = idle_limit_s(server, traffic.load.path)
    if isinstance(traffic.load.arrivals, OpenLoop):
        return _p_round_longer(traffic.load.connections, traffic.load.arrivals, limit_s)
    pause = traffic.load.arrivals.think_time
    return 0.0 if pause is None else p_longer(pause, limit_s)


def _p_round_longer(n: int, arrivals: OpenLoop, limit_s: float) -> float:
    """A pool of *n* connections, the longest idle first, comes round later than *limit_s*: *n* arrivals take longer."""
    mean = limit_s * arrivals.rate_per_s
    if not arrivals.poisson or mean == float("inf"):
        return float(n > mean)
    ln_p, p = -mean, 0.0
    for k in range(1, n + 1):  # Poisson: fewer than n arrivals in the time
        p += math.exp(ln_p)
        ln_p += math.log(mean / k) if mean > 0 else -float("inf")
    return min(1.0, p) if mean > 0 else 1.0


def _p_slow(traffic: "Traffic", server: Server) -> float:
    """The answer is later than who waits for it: the client, a proxy before it, or wrk's report."""
    answer = traffic.answer(server)
    p_header = max(
        (
            p_longer(answer.service, proxy.backend.timeout_server_s)
            for proxy in traffic.proxies.values()
            if proxy.backend.timeout_server_s is not None
        ),
        default=0.0,
    )
    limits_s = [proxy.backend.timeout_server_s for proxy in traffic.proxies.values()]
    p_gap = float(any(limit_s is not None and answer.longest_gap_s > limit_s for limit_s in limits_s))
    return max(p_header, p_gap, _p_sum_longer(answer.service, answer.stream, traffic.load.answer_timeout_s))


def _p_sum_longer(one: Distribution, other: Distribution, limit_s: float) -> float:
    if isinstance(one, Constant):
        return p_longer(other, limit_s - one.value_s)
    if isinstance(other, Constant):
        return p_longer(one, limit_s - other.value_s)
    rng = np.random.default_rng(0)  # an integral, not a draw of the run
    return sum(p_longer(other, limit_s - one.draw_s(rng)) for _ in range(_DRAWS)) / _DRAWS


def check(traffic: "Traffic", server: Server) -> None:
    """Refuse by name what would change the answer and is not modelled.

    Raises
    ------
    UnsupportedInput
    """
    match server.image.server:
        case ServerKind.NGINX:
            _check_nginx(traffic, server)
        case ServerKind.HAPROXY:
            _check_haproxy(traffic, server)


def _check_nginx(traffic: "Traffic", server: Server) -> None:
    conf, load = server.container.nginx, traffic.load
    if conf is None:
        return
    if conf.worker_processes == 1 and load.connections >= conf.worker_connections:
        raise UnsupportedInput(
            f"nginx.conf: worker_connections: {conf.worker_connections} is not above the load's "
            f"{load.connections} connections; connections closed for want of room are not modelled"
        )
    place = location_for(server, load.path)
    if place.status >= 400:
        raise UnsupportedInput(
            f"spec.load.path: nginx answers {load.path} with {place.status}; "
            "a load that fails by itself is not modelled"
        )
    hook = server.container.pre_stop
    file = file_of(place, load.path)
    if hook is not None and file in {path for _, path in hook.removes}:
        raise UnsupportedInput(
            f"spec.load.path: the preStop hook removes {file}, which answers {load.path}; that is not modelled"
        )


def _check_haproxy(traffic: "Traffic", server: Server) -> None:
    conf, load = server.container.haproxy, traffic.load
    proxy = traffic.proxies.get(server)
    if conf is None or proxy is None:
        return
    for where, limit in (
        ("global", conf.maxconn),
        (f"frontend {proxy.frontend.name}", proxy.frontend.maxconn),
    ):
        if limit is not None and limit < load.connections:
            raise UnsupportedInput(
                f"haproxy.cfg: {where}: maxconn: {limit} is below the load's {load.connections} connections; "
                "connections that wait to be accepted are not modelled"
            )
    if proxy.frontend.monitor_uri is not None and proxy.frontend.monitor_uri == load.path.partition("?")[0]:
        raise UnsupportedInput(
            f"spec.load.path: HAProxy itself answers {load.path} (monitor-uri); that is not modelled"
        )
