"""Numbers and lines of axes as texts and one collection: drawn in a tenth of the time that ticks take."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import AutoLocator, Locator, MaxNLocator
from matplotlib.transforms import ScaledTranslation, Transform

GRID: Final = "#DDDDDD"
FONT: Final = 8
LABEL_FONT: Final = 9

Segment = list[tuple[float, float]]


def unruled(axes: Axes, *sides: str) -> None:
    """No ticks, and no line at these *sides*."""
    axes.xaxis.set_visible(False)
    axes.yaxis.set_visible(False)
    for side in sides:
        axes.spines[side].set_visible(False)


def ruled_along(all_axes: Sequence[Axes], span: tuple[float, float], label: str) -> None:
    """Lines at the same times through *all_axes*, which stand one under another; numbers under the last."""
    ticks = _within(AutoLocator(), span)
    for axes in all_axes:
        upright(axes, ticks, color=GRID, linewidth=0.6, zorder=0.5)
    lowest = all_axes[-1]
    for at in ticks:
        write(
            lowest,
            f"{at:g}",
            (at, 0.0),
            lowest.get_xaxis_transform(),
            below=3.5,
            ha="center",
            va="top",
            fontsize=FONT,
        )
    write(lowest, label, (0.5, 0.0), lowest.transAxes, below=15, ha="center", va="top", fontsize=LABEL_FONT)


def ruled_across(axes: Axes, label: str) -> None:
    """Two to four whole numbers on the left, with a line each; the limits are those that stay."""
    ticks = _within(MaxNLocator(3, integer=True, min_n_ticks=2), axes.get_ylim())
    level = [[(0.0, at), (1.0, at)] for at in ticks]
    _across(axes, level, axes.get_yaxis_transform(), color=GRID, linewidth=0.6, zorder=0.5)
    texts = [_short(at) for at in ticks]
    for at, text in zip(ticks, texts, strict=True):
        write(
            axes,
            text,
            (0.0, at),
            axes.get_yaxis_transform(),
            left=3.5,
            ha="right",
            va="center",
            fontsize=FONT,
        )
    left = 8 + 0.6 * FONT * max(map(len, texts))
    write(
        axes,
        label,
        (0.0, 0.5),
        axes.transAxes,
        left=left,
        ha="right",
        va="center",
        rotation="vertical",
        fontsize=LABEL_FONT,
    )


def upright(axes: Axes, at: Iterable[float], **style: Any) -> None:
    """Lines from the bottom to the top."""
    _across(axes, [[(x, 0.0), (x, 1.0)] for x in at], axes.get_xaxis_transform(), **style)


def _across(axes: Axes, segments: Sequence[Segment], where: Transform, **style: Any) -> None:
    """Straight to a collection: no limits are to be found anew, as matplotlib's own vlines do."""
    axes.add_collection(LineCollection(segments, transform=where, **style), autolim=False)


def write(
    axes: Axes,
    text: str,
    at: tuple[float, float],
    where: Transform,
    *,
    left: float = 0.0,
    below: float = 0.0,
    **style: Any,
) -> None:
    """*text* so many points *left* of and *below* a place; an annotation would take twice as long."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    shifted = where + ScaledTranslation(-left / 72, -below / 72, figure.dpi_scale_trans)
    axes.text(*at, text, transform=shifted, **style)


def _within(locator: Locator, span: tuple[float, float]) -> list[float]:
    ticks: Iterable[float] = locator.tick_values(*span)
    return [float(at) for at in ticks if span[0] <= at <= span[1]]


def _short(value: float) -> str:
    """`1,500`, `15k`, `2,000k`."""
    return f"{value / 1000:,g}k" if value >= 10_000 else f"{value:,.0f}"
