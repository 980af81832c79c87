"""The rows of a sweep, point by point: what a table or a picture shows of it."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim.errors import InputError
from sim.prediction import Z95, prediction_interval, wilson
from sim.sweep.store import description_of
from sim.sweep.unit import CAUSES

ROWS_AT_A_TIME: Final = 100_000


def parameters_of(path: Path) -> list[str]:
    """The names of what was swept into *path*."""
    return [str(each["name"]) for each in description_of(path)["parameters"]]


def summary(path: Path | str) -> pd.DataFrame:
    """One row a point, in their order.

    Returns
    -------
    DataFrame
        `point`, the parameters, `runs`; `failed_mean` with its 95 % confidence interval `mean_low`, `mean_high`;
        `failed` (median) with the prediction intervals `failed_low95`, `failed_high95`, `failed_low50`,
        `failed_high50`; `p_zero` with `p_zero_low`, `p_zero_high` (95 %, Wilson); `tool_failed`, `requests`,
        `rollout_s` (medians), `rollout_low95`, `rollout_high95`, `rollout_incomplete`, `ended_too_soon`
        (shares), `extra_pods` (most); the mean of each cause; `error`, for a point whose settings are impossible.

    Raises
    ------
    InputError
        The file is not one of a sweep.
    """
    path = Path(path)
    names = parameters_of(path)
    rows = [_point(rows, names) for rows in _points(path)]
    if not rows:
        raise InputError(f"{path}: holds no row")
    return pd.DataFrame(rows)


def impossible(path: Path) -> tuple[int, str]:
    """How many points have impossible settings, and what the first of them is told."""
    n, first = 0, ""
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME, columns=["error"]):
        errors = batch.column(0).drop_null()
        n += len(errors)
        first = first or (str(errors[0]) if len(errors) else "")
    return n, first


def _points(path: Path) -> Iterator[pa.Table]:
    """The rows of each point: they stand together."""
    kept: pa.Table | None = None
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_A_TIME):
        table = pa.Table.from_batches([batch])
        if kept is not None:
            table = pa.concat_tables([kept, table]).combine_chunks()
        points = table.column("point").to_numpy()
        starts = np.flatnonzero(np.diff(points, prepend=points[0] - 1))
        for start, end in pairwise(starts):
            yield table.slice(int(start), int(end - start))
        kept = table.slice(int(starts[-1]))
    if kept is not None:
        yield kept


def _point(rows: pa.Table, names: list[str]) -> dict[str, Any]:
    first = rows.slice(0, 1).to_pylist()[0]
    point = {"point": first["point"], **{name: first[name] for name in names}}
    if first["error"] is not None:
        return point | {"runs": 0, "error": first["error"]}

    def values(name: str) -> NDArray[Any]:
        return np.asarray(rows.column(name).to_numpy())

    failed, rollout_s = values("failed"), values("rollout_s").astype(float)
    n, n_zero = len(failed), int(np.sum(failed == 0))
    half = Z95 * float(np.std(failed, ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    low95, high95 = prediction_interval(failed)
    low50, high50 = prediction_interval(failed, 0.5)
    finished = rollout_s[~np.isnan(rollout_s)]
    tool = values("tool_failed").astype(float)
    whole = prediction_interval(finished) if finished.size else (np.nan, np.nan)
    return {
        **point,
        "runs": n,
        "requests": float(np.median(values("requests"))),
        "failed_mean": float(np.mean(failed)),
        "mean_low": max(0.0, float(np.mean(failed)) - half),
        "mean_high": float(np.mean(failed)) + half,
        "failed": float(np.median(failed)),
        "failed_low95": low95,
        "failed_high95": high95,
        "failed_low50": low50,
        "failed_high50": high50,
        "p_zero": n_zero / n,
        "p_zero_low": wilson(n_zero, n)[0],
        "p_zero_high": wilson(n_zero, n)[1],
        "tool_failed": float(np.median(tool)),
        "rollout_s": float(np.median(finished)) if finished.size else np.nan,
        "rollout_low95": whole[0],
        "rollout_high95": whole[1],
        "rollout_incomplete": float(np.mean(np.isnan(rollout_s))),
        "ended_too_soon": float(np.mean(values("ended_too_soon"))),
        "extra_pods": int(np.max(values("extra_pods"))),
        **{cause: float(np.mean(values(cause))) for cause in CAUSES},
        "error": None,
    }
