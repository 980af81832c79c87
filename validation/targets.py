"""What a prediction shall reach on one scenario's real runs, and whether it does. Arithmetic only."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from validation.compare import Compared, mean_causes

COUNT_SHARE: Final = 0.10
"""Of the real median, where the real mean is MANY or more."""
MANY: Final = 10.0
FEW_REQUESTS: Final = 1.0
"""Where it is less. [requests]"""
CAUSE_SHARE: Final = 0.10
ROLLOUT_SHARE: Final = 0.10
DRAWS: Final = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that was asked of one scenario's prediction."""

    name: str
    reached: bool
    says: str
    """Predicted and real value."""
    by_chance: float = 1.0
    """Probability that it is reached where the prediction is true and so few real runs are drawn from it."""


def targets_of(each: Compared) -> Iterator[Target]:
    """Verdict, count, causes and rollout time, as far as the real runs speak of them."""
    case = each.case
    zero = case.observed == 0
    if zero.all() or not zero.any():
        yield Target(
            name="verdict",
            reached=bool((case.p_zero >= 0.5) == zero[0]),
            says=f"P(zero) {case.p_zero:.2f}, {'no' if zero[0] else 'every'} real run failed requests",
        )
    predicted, real = float(np.median(case.predicted)), float(np.median(case.observed))
    allowed = float(_allowed_count(case.observed[None, :])[0])
    yield Target(
        name="count",
        reached=bool(abs(predicted - real) <= allowed),
        says=f"median {predicted:g}, real {real:g}",
        by_chance=reached_by_chance(case.predicted, len(case.observed), _allowed_count),
    )
    yield from _causes(each)
    yield from _rollout(each)


def _causes(each: Compared) -> Iterator[Target]:
    """The cause whose share is furthest away; only where the client knows each failure."""
    ours, theirs = shares(each.forecast.causes), shares(mean_causes(each.runs))
    if not ours or not theirs:
        return
    worst = max(ours.keys() | theirs.keys(), key=lambda c: (abs(ours.get(c, 0) - theirs.get(c, 0)), c))
    off = abs(ours.get(worst, 0.0) - theirs.get(worst, 0.0))
    yield Target(
        name="causes",
        reached=off <= CAUSE_SHARE,
        says=f"{worst} {ours.get(worst, 0):.0%}, real {theirs.get(worst, 0):.0%}",
    )


def shares(counts: Mapping[str, float]) -> dict[str, float]:
    """Each cause's share of all failures; empty without a failure."""
    total = sum(counts.values())
    return {name: count / total for name, count in counts.items()} if total > 0 else {}


def _rollout(each: Compared) -> Iterator[Target]:
    seen = [run.rollout_s for run in each.runs if run.rollout_s is not None]
    if not seen or not each.forecast.rollout_s:
        return
    predicted, real = float(np.median(each.forecast.rollout_s)), float(np.median(seen))
    yield Target(
        name="rollout",
        reached=abs(predicted - real) <= ROLLOUT_SHARE * real,
        says=f"{predicted:.2f} s, real {real:.2f} s",
        by_chance=reached_by_chance(np.array(each.forecast.rollout_s), len(seen), _allowed_rollout),
    )


def _allowed_count(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    medians = np.median(runs, axis=1)
    return np.where(runs.mean(axis=1) >= MANY, COUNT_SHARE * medians, FEW_REQUESTS)


def _allowed_rollout(runs: NDArray[np.float64]) -> NDArray[np.float64]:
    return ROLLOUT_SHARE * np.median(runs, axis=1)


def reached_by_chance(
    predicted: NDArray[np.float64], n: int, allowed: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> float:
    """How often the median of *n* runs, drawn from *predicted* itself, lies within what they allow of its median.

    Few runs of what varies miss a median even where the prediction is true: with it a share can be held against
    what the best model of all would reach.
    """
    runs = np.random.default_rng(0).choice(predicted, size=(DRAWS, n))
    off = np.abs(np.median(runs, axis=1) - np.median(predicted))
    return float(np.mean(off <= allowed(runs)))
