"""How sure a share of successes makes: the exact (Clopper-Pearson) lower bound, and the runs that it takes."""

import math


def lower_bound(n_hits: int, n: int, confidence: float) -> float:
    """The probability of a hit is at least this, with *confidence*.

    Notes
    -----
    Clopper and Pearson, Biometrika 26 (1934): the p at which *n_hits* or more of *n* have probability
    1 - confidence. Found by bisection.
    """
    if n_hits == 0:
        return 0.0
    low, high = 0.0, 1.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if at_least(n_hits, n, middle) < 1 - confidence:
            low = middle
        else:
            high = middle
    return low


def misses_allowed(n: int, target: float, confidence: float) -> int:
    """The most misses in *n* with which the lower bound still reaches *target*; -1: not even none is enough."""
    allowed = -1
    while allowed + 1 < n and lower_bound(n - allowed - 1, n, confidence) >= target:
        allowed += 1
    return allowed


def runs_needed(target: float, confidence: float) -> int:
    """The fewest runs that reach *target* when none of them misses."""
    return math.ceil(math.log(1 - confidence) / math.log(target) - 1e-9)


def screen_allows(n: int, target: float, false_alarm: float) -> int:
    """Misses in *n* that a change with P(hit) = *target* exceeds with probability <= *false_alarm* only."""
    allowed = 0
    while at_least(allowed + 1, n, 1 - target) > false_alarm:
        allowed += 1
    return allowed


def at_least(k: int, n: int, p: float) -> float:
    """P(X >= k) of a binomial X, summed from the shorter tail."""
    if k <= 0:
        return 1.0
    if p in (0.0, 1.0):
        return p
    if k > n * p:
        return sum(_mass(i, n, p) for i in range(k, n + 1))
    return 1.0 - sum(_mass(i, n, p) for i in range(k))


def _mass(k: int, n: int, p: float) -> float:
    logs = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return math.exp(logs + k * math.log(p) + (n - k) * math.log1p(-p))
