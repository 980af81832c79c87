"""Samples to the figures that a profile and FINDINGS.md give."""

from collections.abc import Sequence

import numpy as np

MANY = 100


def summary(samples_s: Sequence[float]) -> dict[str, float]:
    """n, mean and quantiles of durations. [s]"""
    values = np.asarray(samples_s, dtype=float)
    low, median, high = np.quantile(values, [0.05, 0.5, 0.95])
    return {
        "n": len(values),
        "p5": float(low),
        "p50": float(median),
        "p95": float(high),
        "mean": float(values.mean()),
        "max": float(values.max()),
    }


def evenly(samples_s: Sequence[float], n: int = 11) -> list[float]:
    """The *n* evenly spaced quantiles that a profile's `quantiles` takes. [s]

    They reach from the smallest to the largest sample of a few; of many, from the 1 % to the 99 % quantile, or one
    outlier would be drawn towards in every tenth draw.
    """
    cut = 0.01 if len(samples_s) > MANY else 0.0
    values = np.quantile(np.asarray(samples_s, dtype=float), np.clip(np.linspace(0, 1, n), cut, 1 - cut))
    return [float(q) for q in values]
