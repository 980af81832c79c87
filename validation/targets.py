"""What a prediction shall reach on one scenario's real runs, and whether it does. Arithmetic only."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from validation.compare import Compared, mean_causes

COUNT_SHARE: Final = 0.10
"""Of the real median, where the real mean is MANY or more."""
MANY: Final = 10.0
FEW_REQUESTS: Final = 1.0
"""Where it is less. [requests]"""
CAUSE_SHARE: Final = 0.10
ROLLOUT_SHARE: Final = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One thing that was asked of one scenario's prediction."""

    name: str
    reached: bool
    says: str
    """Predicted and real value."""


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
    allowed = COUNT_SHARE * real if np.mean(case.observed) >= MANY else FEW_REQUESTS
    yield Target(
        name="count",
        reached=bool(abs(predicted - real) <= allowed),
        says=f"median {predicted:g}, real {real:g}",
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
    )
