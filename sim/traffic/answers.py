"""How long an answer takes inside a server: until its header leaves, and from first to last byte."""

import math

from sim.scenario.distributions import Constant, Distribution
from sim.scenario.model import NginxConf, NginxLocation
from sim.world import Server

HEADER_BYTES = 240
"""Size of nginx's answer header for a static file; it counts for limit_rate."""


def location_for(conf: NginxConf, path: str) -> NginxLocation:
    """nginx's choice: an exact match, else the longest prefix."""
    exact = [loc for loc in conf.locations if loc.exact and loc.path == path]
    prefixes = [loc for loc in conf.locations if not loc.exact and path.startswith(loc.path)]
    return (exact or sorted(prefixes, key=lambda loc: -len(loc.path)) or [NginxLocation()])[0]


def service_time(server: Server, path: str) -> Distribution:
    """Request read to header sent."""
    conf = server.container.nginx
    if conf is not None and (delay_s := location_for(conf, path).header_delay_s):
        return Constant(value_s=delay_s)
    return server.image.service_time


def in_one_batch(server: Server, path: str) -> bool:
    """Whether the server reads a request and answers it without going back to its event loop.

    nginx with a file: a fast stop finishes the event batch already read (ngx_process_cycle.c:723), so such a
    request is never cut between its reading and its answer.
    """
    conf = server.container.nginx
    return conf is not None and location_for(conf, path).header_delay_s == 0


def stream_time(server: Server, path: str) -> Distribution:
    """First to last byte of the answer.

    nginx with limit_rate sends one second's worth at once and then each second the next
    (src/http/ngx_http_write_filter_module.c), so n seconds' worth takes n - 1 seconds.
    """
    conf = server.container.nginx
    if conf is not None and (rate := location_for(conf, path).limit_rate_bytes_per_s):
        total = server.image.body_bytes + HEADER_BYTES
        return Constant(value_s=max(0.0, math.ceil(total / rate) - 1.0))
    return server.image.stream_time
