"""Pictures of a sweep: lines with interval bands, heat maps, and the points of a sample."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis, XAxis
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sim.errors import InputError
from sim.plots import Picture
from sim.scenario.durations import parse_duration, parse_rate
from sim.sweep.store import description_of
from sim.sweep.summary import parameters_of, summary
from sim.sweep.unit import CAUSES

KINDS: Final = ("lines", "heat", "points")
MAX_LINES: Final = 8
MAX_PANELS: Final = 9
MAX_NUMBERS: Final = 150
"""Cells of a heat map that have their number written in them."""
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7F7F7F")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: Final = ("solid", "dashed", "dotted", "dashdot")


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of the summary, with the bands around it."""

    column: str
    label: str
    bands: tuple[tuple[str, str], ...] = ()
    share: bool = False

    @property
    def alone(self) -> str:
        """The label of a picture without bands."""
        name, middle, _ = self.label.partition("; ")
        return f"{name})" if middle else self.label.removesuffix(" (95 % confidence)")


METRICS: Final[Mapping[str, Metric]] = {
    "failed": Metric(
        "failed",
        "failed requests of a rollout (median; 50 % and 95 % of rollouts)",
        (("failed_low95", "failed_high95"), ("failed_low50", "failed_high50")),
    ),
    "mean": Metric("failed_mean", "mean of failed requests (95 % confidence)", (("mean_low", "mean_high"),)),
    "p_zero": Metric(
        "p_zero", "P(no request fails) (95 % confidence)", (("p_zero_low", "p_zero_high"),), True
    ),
    "rollout_s": Metric(
        "rollout_s", "rollout, s (median; 95 % of rollouts)", (("rollout_low95", "rollout_high95"),)
    ),
    "tool_failed": Metric("tool_failed", "failed requests as the client's tool prints them (median)"),
    "extra_pods": Metric("extra_pods", "most pods above the usual number"),
    **{cause: Metric(cause, f"{cause}: mean failed requests") for cause in CAUSES},
}


def plot_sweep(
    path: Path | str,
    *,
    kind: str | None = None,
    y: str = "failed",
    x: str | None = None,
    by: str | None = None,
    where: Mapping[str, str] | None = None,
) -> Figure:
    """What a sweep has found.

    Parameters
    ----------
    kind : `lines` with interval bands, `heat` map, or `points` of a sample; left out: what fits
    y : a key of METRICS
    x, by : parameters along the axis and by line (of a heat map, along the other axis)
    where : parameter → value that others are held at

    Raises
    ------
    InputError
        The file is no sweep, a name is unknown, or there is too much for one picture.
    """
    path = Path(path)
    names = parameters_of(path)
    if y not in METRICS:
        raise InputError(f"--y {y}: allowed: {', '.join(METRICS)}")
    for option, name in (("--x", x), ("--by", by)):
        if name is not None and name not in names:
            raise InputError(f"{option} {name}: the sweep varies {', '.join(names)}")
    points = _held(summary(path), names, where or {})
    free = [name for name in names if name not in (where or {})]
    order = [*dict.fromkeys(name for name in (x, by, *free) if name is not None)]
    if not order:
        raise InputError("--where: leaves nothing to draw")
    kind = kind or _fitting(points, order, sampled=description_of(path)["sample"] is not None)
    if kind == "heat" and len(order) < 2:
        raise InputError("--kind heat: needs two parameters")
    picture = {"lines": _lines, "heat": _heat, "points": _scatter}[kind]
    return picture(points, order, METRICS[y])


def _held(points: pd.DataFrame, names: Sequence[str], where: Mapping[str, str]) -> pd.DataFrame:
    for name, value in where.items():
        if name not in names:
            raise InputError(f"--where {name}: the sweep varies {', '.join(names)}")
        there = [_text(each) for each in points[name].unique()]
        if value not in there:
            raise InputError(f"--where {name}={value}: there are {', '.join(there[:20])}")
        points = points[points[name].map(_text) == value]
    points = points[points["runs"] > 0]
    if points.empty:
        raise InputError("no point is possible")
    return points


def _fitting(points: pd.DataFrame, order: Sequence[str], *, sampled: bool) -> str:
    if sampled:
        return "points"
    counts = [points[name].nunique(dropna=False) for name in order[:2]]
    return "heat" if len(order) == 2 and min(counts) > 2 else "lines"


# ---------------------------------------------------------------- values on an axis


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64] | None:
    """Numbers, durations (in seconds), rates and percentages on one scale; None where they are names."""
    return next((found for read in _READERS if (found := _read(values, read)) is not None), None)


def _read(values: Sequence[Any], read: Any) -> NDArray[np.float64] | None:
    try:
        return np.array([read(value) for value in values], dtype=float)
    except (InputError, ValueError, TypeError):
        return None


def _plain(value: Any) -> float:
    if isinstance(value, bool | np.bool_):
        raise TypeError("a name, not a number")
    return float(value)


def _percent(value: Any) -> float:
    if not str(value).endswith("%"):
        raise ValueError(value)
    return float(str(value)[:-1])


_READERS: Final = (_plain, lambda v: parse_duration(v, ""), _percent, lambda v: parse_rate(v, ""))


def _text(value: Any) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN: how pandas keeps null
        return "null"
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _positions(values: Sequence[Any]) -> NDArray[np.float64]:
    numbers = numbers_of(values)
    if numbers is not None:
        return numbers
    names = list(dict.fromkeys(_text(value) for value in values))
    return np.array([names.index(_text(value)) for value in values], dtype=float)


def _mark_axis(axes: Axes, name: str, values: Sequence[Any]) -> None:
    numbers = numbers_of(values)
    axes.set_xlabel(_short(name), fontsize=9)
    if numbers is None:
        _name_ticks(axes.xaxis, list(dict.fromkeys(_text(value) for value in values)))
    elif isinstance(values[0], str):
        shown = dict(zip(numbers, values, strict=True))
        if len(shown) <= 6:
            axes.set_xticks(list(shown), list(shown.values()))
        else:
            axes.set_xlabel(f"{_short(name)}, {_unit(values[0])}", fontsize=9)


def _name_ticks(axis: Axis, names: Sequence[str]) -> None:
    """Names along an axis; long ones are shortened, and aslant where they would touch."""
    shown = [_label(name) for name in names]
    every = math.ceil(len(shown) / 20)
    axis.set_ticks(range(0, len(shown), every), shown[::every])
    if isinstance(axis, XAxis) and sum(map(len, shown[::every])) > 45:
        axis.set_tick_params(rotation=20)


def _label(name: str) -> str:
    """A structure without its brackets and quotes: `preStop: sleep: seconds: 5`."""
    plain = name.translate({ord(mark): None for mark in '{}"'}) if name[:1] in "{[" else name
    return plain if len(plain) <= 30 else f"{plain[:14]}…{plain[-15:]}"


def _unit(value: str) -> str:
    return "%" if value.endswith("%") else "per second" if "/" in value else "s"


def _short(name: str) -> str:
    """The end of a long path: `…containers[app].lifecycle.preStop`."""
    return name if len(name) <= 48 else f"…{name[-46:]}"


# ---------------------------------------------------------------- the three kinds


def _lines(points: pd.DataFrame, order: Sequence[str], metric: Metric) -> Figure:
    x, by, over = order[0], list(order[1:2]), list(order[2:])
    panels = _groups(points, over)
    if len(panels) > MAX_PANELS or (by and points[by[0]].nunique(dropna=False) > MAX_LINES):
        raise InputError(
            f"too much for one picture ({len(panels)} panels): hold some of {', '.join(order[1:])} "
            "with --where, or choose --x and --by"
        )
    columns = math.ceil(math.sqrt(len(panels)))
    rows = math.ceil(len(panels) / columns)
    figure = Picture(figsize=(4.2 + 3.4 * columns, 1.2 + 3.2 * rows), layout="constrained", dpi=110)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for axes, (held, some) in zip(grid.flat, panels, strict=False):
        for index, (key, line) in enumerate(_groups(some, by)):
            _line(axes, line, x, metric, index, _label(_text(key[0])) if by else "")
        axes.set_title(
            "  ".join(f"{_short(n)} = {_label(_text(v))}" for n, v in zip(over, held, strict=True)),
            fontsize=9,
        )
        _mark_axis(axes, x, list(points[x]))
        _finish(axes, metric)
    if by:
        grid.flat[0].legend(title=_short(by[0]), fontsize=8, title_fontsize=8, frameon=False)
    return figure


def _groups(points: pd.DataFrame, by: list[str]) -> list[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The points by the values of *by*; all of them where that is empty."""
    if not by:
        return [((), points)]
    return [(tuple(key), some) for key, some in points.groupby(by, sort=False, dropna=False)]


def _line(axes: Axes, line: pd.DataFrame, x: str, metric: Metric, index: int, label: str) -> None:
    """Lines differ in colour, marker and dashes, so that they can be told apart without colours."""
    at = _positions(list(line[x]))
    order = np.argsort(at, kind="stable")
    line, at = line.iloc[order], at[order]
    colour = COLOURS[index % len(COLOURS)]
    for low, high in metric.bands:
        axes.fill_between(at, line[low], line[high], color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        at,
        line[metric.column],
        color=colour,
        marker=MARKERS[index % len(MARKERS)],
        linestyle=DASHES[index % len(DASHES)],
        markersize=4.5,
        label=label,
    )


def _heat(points: pd.DataFrame, order: Sequence[str], metric: Metric) -> Figure:
    x, y, *over = order
    if over:
        raise InputError(f"--kind heat: hold {', '.join(over)} with --where")
    columns, rows = (_sorted(points[name].unique()) for name in (x, y))
    cells = np.full((len(rows), len(columns)), np.nan)
    at_x, at_y = ({_text(value): index for index, value in enumerate(each)} for each in (columns, rows))
    for column, row, value in zip(points[x], points[y], points[metric.column], strict=True):
        cells[at_y[_text(row)], at_x[_text(column)]] = value
    figure = Picture(
        figsize=(3.0 + min(9.0, 0.7 * len(columns)), 1.8 + min(8.0, 0.42 * len(rows))),
        layout="constrained",
        dpi=110,
    )
    axes = figure.add_subplot()
    image = axes.imshow(cells, origin="lower", aspect="auto", cmap="cividis")
    if cells.size <= MAX_NUMBERS:
        middle = (np.nanmin(cells) + np.nanmax(cells)) / 2
        for (row, column), value in np.ndenumerate(cells):
            text = "impossible" if np.isnan(value) else f"{value:.2f}" if metric.share else f"{value:,.4g}"
            colour = "black" if np.isnan(value) or value > middle else "white"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    for axis, values, name in ((axes.xaxis, columns, x), (axes.yaxis, rows, y)):
        _name_ticks(axis, [_text(value) for value in values])
        axis.set_label_text(_short(name), fontsize=9)
    axes.tick_params(labelsize=8)
    bar = figure.colorbar(image, ax=axes)
    bar.set_label(_folded(metric.alone), fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return figure


def _sorted(values: Any) -> list[Any]:
    found = list(values)
    numbers = numbers_of(found)
    return found if numbers is None else [found[index] for index in np.argsort(numbers, kind="stable")]


def _scatter(points: pd.DataFrame, order: Sequence[str], metric: Metric) -> Figure:
    """One panel for each parameter: every point with its widest band."""
    n = len(order)
    if n > MAX_PANELS:
        raise InputError(
            f"too much for one picture ({n} panels): name one with --x, and hold others with --where"
        )
    columns = min(3, n)
    rows = math.ceil(n / columns)
    figure = Picture(figsize=(1.0 + 3.6 * columns, 0.8 + 3.0 * rows), layout="constrained", dpi=110)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[n:]:
        axes.set_axis_off()
    value = points[metric.column]
    for axes, name in zip(grid.flat, order, strict=False):
        at = _positions(list(points[name]))
        if metric.bands:
            low, high = metric.bands[0]
            axes.vlines(at, points[low], points[high], color=COLOURS[0], alpha=0.35, linewidth=1.2)
        axes.plot(at, value, "o", color="black", markersize=2.5)
        _mark_axis(axes, name, list(points[name]))
        if pd.api.types.is_integer_dtype(points[name]):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _finish(axes, metric)
    return figure


def _folded(label: str) -> str:
    return label if len(label) < 40 else label.replace(" (", "\n(")


def _finish(axes: Axes, metric: Metric) -> None:
    axes.set_ylabel(_folded(metric.label), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.set_ylim(bottom=0.0)
    if metric.share:
        axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.grid(color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("right", "top"):
        axes.spines[side].set_visible(False)
