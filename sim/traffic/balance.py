"""Which server line HAProxy sends a request to: its balancing algorithms over the lines that are UP.

Source: HAProxy 2.6 configuration manual 4.2 (`balance`), src/lb_fwrr.c, lb_fas.c, lb_map.c, lb_fwlc.c.
"""

from math import gcd
from typing import Final

from numpy.random import Generator

from sim.proxies import BackendServer, Proxy

HASHED: Final = frozenset({"source"})
"""The same client always meets the same server: a redispatch finds nothing else."""
_GOLDEN: Final = 0.6180339887498949


def choose(proxy: Proxy, avoid: BackendServer | None, rng: Generator) -> BackendServer | None:
    """The line for one more request; None: every one is full, or there is none.

    A redispatch leaves out the one just tried (*avoid*) where there is another.
    """
    free = [line for line in proxy.usable if not line.full]
    if proxy.backend.balance not in HASHED:
        free = [line for line in free if line is not avoid] or free
    if not free:
        return None
    match proxy.backend.balance:
        case "first":
            return free[0]
        case "source":
            return free[proxy.source_hash % len(free)]
        case "random":
            return _weighted(free, float(rng.random()))
        case "leastconn":
            least = min(line.n_running / line.line.weight for line in free)
            free = [line for line in free if line.n_running / line.line.weight == least]
    proxy.turn += 1
    return _in_turn(free, proxy.turn)


def _in_turn(lines: list[BackendServer], turn: int) -> BackendServer:
    """Round robin; by a stride over the weights, so that a heavy line's turns are spread."""
    weights = [line.line.weight for line in lines]
    if len(set(weights)) == 1:
        return lines[turn % len(lines)]
    total = sum(weights)
    stride = max(1, round(total * _GOLDEN))
    while gcd(stride, total) > 1:
        stride += 1
    return _weighted(lines, (turn * stride % total + 0.5) / total)


def _weighted(lines: list[BackendServer], at: float) -> BackendServer:
    left = at * sum(line.line.weight for line in lines)
    for line in lines:
        left -= line.line.weight
        if left < 0:
            return line
    return lines[-1]


def shares(proxy: Proxy) -> list[tuple[BackendServer, float]]:
    """How the requests of a steady time are spread over the lines."""
    lines = proxy.usable
    if not lines:
        return []
    match proxy.backend.balance:
        case "first":
            return [(lines[0], 1.0)]
        case "source":
            return [(lines[proxy.source_hash % len(lines)], 1.0)]
    total = sum(line.line.weight for line in lines)
    return [(line, line.line.weight / total) for line in lines]


def is_steady(proxy: Proxy) -> bool:
    """Whether those shares also hold while a server fails: leastconn favours one that fails fast."""
    return proxy.backend.balance != "leastconn"
