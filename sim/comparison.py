"""Two scenarios under common random numbers: what differs, with intervals on the difference.

Replication *i* of both meets the same arrivals and the same delays, so the differences are taken pair by pair.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.prediction import wilson
from sim.sweep.unit import CAUSES, Outcomes

N_RESAMPLES: Final = 4_000
_RESAMPLE_SEED: Final = 20_160


@dataclass(frozen=True, slots=True)
class Change:
    """One figure before and after, and the 95 % confidence interval of the difference."""

    old: float
    new: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        return self.new - self.old

    @property
    def is_clear(self) -> bool:
        """Whether the interval leaves out no change at all."""
        return self.low > 0 or self.high < 0

    def to_json(self) -> dict[str, Any]:
        return {
            "old": self.old,
            "new": self.new,
            "difference": self.difference,
            "interval95": [self.low, self.high],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    runs: int
    failed: Change
    """Means of failed requests."""
    p_zero: Change
    requests: Change
    rollout_s: Change | None
    """Of the pairs that were both complete in time; None: there is none."""
    causes: Mapping[str, Change]
    """Those that failed a request on either side, the largest change first."""
    extra_pods: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "failed": self.failed.to_json(),
            "p_zero": self.p_zero.to_json(),
            "requests": self.requests.to_json(),
            "rollout_s": None if self.rollout_s is None else self.rollout_s.to_json(),
            "causes": {name: change.to_json() for name, change in self.causes.items()},
            "extra_pods": {"old": self.extra_pods[0], "new": self.extra_pods[1]},
        }


def compare(old: Outcomes, new: Outcomes) -> Comparison:
    """Hold *new* against *old*, replication by replication.

    Raises
    ------
    ValueError
        They do not hold the same replications, or fewer than two.
    """
    if old.n < 2 or not np.array_equal(old.replication, new.replication):
        raise ValueError("need the same replications of both, at least two")
    both = ~np.isnan(old.rollout_s) & ~np.isnan(new.rollout_s)
    causes = {
        name: paired_change(old.causes[:, index], new.causes[:, index])
        for index, name in enumerate(CAUSES)
        if old.causes[:, index].any() or new.causes[:, index].any()
    }
    return Comparison(
        runs=old.n,
        failed=paired_change(old.failed, new.failed),
        p_zero=paired_shares(old.failed == 0, new.failed == 0),
        requests=paired_change(old.requests, new.requests),
        rollout_s=paired_change(old.rollout_s[both], new.rollout_s[both]) if both.any() else None,
        causes=dict(sorted(causes.items(), key=lambda item: -abs(item[1].difference))),
        extra_pods=(int(old.extra_pods.max()), int(new.extra_pods.max())),
    )


def paired_change(old: NDArray[Any], new: NDArray[Any]) -> Change:
    """Means, and the bootstrap interval of the mean of the paired differences (percentiles, 4,000 resamples)."""
    differences = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    n = len(differences)
    rng = np.random.default_rng(_RESAMPLE_SEED)
    counts = rng.multinomial(n, np.full(n, 1 / n), size=N_RESAMPLES)
    low, high = np.quantile(counts @ differences / n, [0.025, 0.975])
    return Change(float(np.mean(old)), float(np.mean(new)), float(low), float(high))


def paired_shares(old: NDArray[np.bool_], new: NDArray[np.bool_]) -> Change:
    """Shares of hits, and the 95 % interval of their difference for paired trials.

    Notes
    -----
    Newcombe, Statistics in Medicine 17 (1998) 2635-2650, method 10: the Wilson limits of both shares, with the
    correlation of the pairs. It has a width also where no pair differs.
    """
    n = len(old)
    n_both, n_old, n_new = int(np.sum(old & new)), int(np.sum(old)), int(np.sum(new))
    p_old, p_new = n_old / n, n_new / n
    (old_low, old_high), (new_low, new_high) = wilson(n_old, n), wilson(n_new, n)
    spread = n_old * n_new * (n - n_old) * (n - n_new)
    excess = float(n_both * (n - n_old - n_new + n_both) - (n_old - n_both) * (n_new - n_both))
    if excess > 0:
        excess = max(excess - n / 2, 0.0)
    phi = excess / math.sqrt(spread) if spread else 0.0

    def reach(a: float, b: float) -> float:
        return math.sqrt(max(0.0, a * a - 2 * phi * a * b + b * b))

    difference = p_new - p_old
    return Change(
        p_old,
        p_new,
        max(-1.0, difference - reach(p_new - new_low, old_high - p_old)),
        min(1.0, difference + reach(new_high - p_new, p_old - old_low)),
    )
