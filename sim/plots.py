"""Pictures: a rollout's timeline, a simulated one beside a recorded one, and predictions by scenario.

Every picture is a Figure of its own: no pyplot, no shared state, any backend.
"""

import io
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import NDArray

from sim.lane_axes import (
    FILLS,
    MARKS,
    STRIPS,
    LaneAxes,
    cause_marker,
    height_of,
    mark_style,
    rows_of,
)
from sim.lanes import MarkKind, ServerState, TimelineData, of_result
from sim.outcomes import Cause
from sim.prediction import Prediction, prediction_interval
from sim.rulers import GRID, ruled_across, ruled_along, unruled, upright, write
from sim.simulate import Result

MAX_BINS: Final = 160
MANY_LANES: Final = 14
KEY_ROWS: Final = 8


class Picture(Figure):
    """A figure that a notebook shows by itself, also where pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        out = io.BytesIO()
        self.savefig(out, format="png")
        return out.getvalue()


def plot_timeline(rollout: Result | TimelineData, *, key: bool = True) -> Figure:
    """One rollout: its pods as lanes, what rules and proxies held, failures by cause, rates below.

    Without *key* it is quicker: `plot_key` draws that once for many.
    """
    return _draw([_data(rollout)], key=key)


def plot_side_by_side(simulated: Result | TimelineData, observed: Result | TimelineData) -> Figure:
    """Two rollouts of one scenario on the same clock and the same scales."""
    return _draw([_data(simulated), _data(observed)], key=True)


def plot_stacked(upper: Result | TimelineData, lower: Result | TimelineData) -> Figure:
    """Two rollouts of one scenario, one under the other: the same instant stands at the same place."""
    return _draw([_data(upper), _data(lower)], key=True, stacked=True)


def plot_key() -> Figure:
    """What fills, strips and marks of every timeline mean."""
    figure = Picture(figsize=(_Sheet.WIDTH_IN, 1.65), dpi=110)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    strips = [_strip_key("rules", "in kube-proxy's rules"), _strip_key("proxies", "UP in HAProxy")]
    marks = [_mark_key(kind) for kind in MARKS]
    causes = [Line2D([], [], label=c.value, **cause_marker(c.value, 7.0)) for c in Cause]
    fills = [_fill_key(state) for state in FILLS]
    _legends(axes, {"pods": (fills, 0.0), "marks": ([*strips, *marks], 0.25), "failed": (causes, 0.43)})
    return figure


def _data(rollout: Result | TimelineData) -> TimelineData:
    return of_result(rollout) if isinstance(rollout, Result) else rollout


def _draw(rollouts: Sequence[TimelineData], *, key: bool, stacked: bool = False) -> Figure:
    rows = [rows_of(each) for each in rollouts]
    height = max(height_of(each) for each in rows)
    scale = 0.42 if height <= MANY_LANES else max(0.2, 0.42 * MANY_LANES / height)
    n_letters = max((len(row.text) for each in rows for row in each if row.lane is not None), default=0)
    sheet = _Sheet(
        columns=1 if stacked else len(rollouts),
        rows=len(rollouts) if stacked else 1,
        lanes_in=max(1.0, height * scale),
        left_in=0.8 + 0.06 * max(0, n_letters - 2),
        key_in=_Sheet.KEY_IN if key else 0.0,
    )
    span = min(r.from_s for r in rollouts), max(r.to_s for r in rollouts)
    below: list[tuple[Axes, Axes]] = []
    for place, each in enumerate(rollouts):
        lanes = sheet.axes(place, "lanes")
        LaneAxes(lanes, each, scale=scale, span=span).draw()
        lanes.set_ylim(height, 0.0)
        lanes.set_title(_title(each), fontsize=10, loc="left", pad=26)
        rates = (sheet.axes(place, "answered", lanes), sheet.axes(place, "failed", lanes))
        _rates(*rates, each, span)
        ruled_along([lanes, *rates], span, "seconds from the start of the load")
        _events([lanes, *rates], each, span)
        below.append(rates)
    for label, same in zip(("requests/s", "failed/s"), zip(*below, strict=True), strict=True):
        top = max(axes.get_ylim()[1] for axes in same)
        for axes in same:
            axes.set_ylim(0.0, 1.06 * top)
            ruled_across(axes, label)
    if key:
        _key(sheet.axes(0, "key"), rollouts)
    return sheet.figure


class _Sheet:
    """A figure and where its axes stand: the sizes are known, so no layout has to be searched for."""

    WIDTH_IN: Final = 10.2
    TOP_IN, RATE_IN, GAP_IN, AXIS_IN, KEY_IN = 0.6, 0.75, 0.16, 0.55, 1.6

    def __init__(self, *, columns: int, rows: int, lanes_in: float, left_in: float, key_in: float) -> None:
        width_in = self.WIDTH_IN if columns == 1 else 0.8 * self.WIDTH_IN
        self._rollout_in = self.TOP_IN + lanes_in + 2 * (self.RATE_IN + self.GAP_IN) + self.AXIS_IN
        self._size = columns * (left_in + width_in) + 0.15, rows * self._rollout_in + key_in
        self._columns, self._n_rows = columns, rows
        self._left_in, self._width_in = left_in, width_in
        failed_in = key_in + self.AXIS_IN
        answered_in = failed_in + self.RATE_IN + self.GAP_IN
        self._rows = {
            "key": (0.0, key_in),
            "failed": (failed_in, self.RATE_IN),
            "answered": (answered_in, self.RATE_IN),
            "lanes": (answered_in + self.RATE_IN + self.GAP_IN, lanes_in),
        }
        self.figure = Picture(figsize=self._size, dpi=110)

    def axes(self, place: int, row: str, sharex: Axes | None = None) -> Axes:
        """The axes *row* of the rollout at *place*, counted from the left or from above."""
        below, column = self._n_rows - 1 - place // self._columns, place % self._columns
        bottom_in, height_in = self._rows[row]
        if row != "key":
            bottom_in += below * self._rollout_in
        left_in = column * (self._left_in + self._width_in) + self._left_in
        width, height = self._size
        return self.figure.add_axes(
            (left_in / width, bottom_in / height, self._width_in / width, height_in / height), sharex=sharex
        )


def _title(data: TimelineData) -> str:
    shown = sum(failed.n for failed in data.failed)
    hidden = data.n_failed - shown
    text = f"{data.title}: {data.n_failed:,} of {data.n_requests:,} requests failed"
    return f"{text} ({hidden:,} of them at times that are not known)" if hidden > 0 else text


def _events(all_axes: Sequence[Axes], data: TimelineData, span: tuple[float, float]) -> None:
    events = [*data.events]
    if data.load_ended_s < span[1]:
        events.append((data.load_ended_s, "load ends"))
    for axes in all_axes:
        times = [at_s for at_s, _ in events]
        upright(axes, times, color="black", linestyle=(0, (5, 3)), linewidth=0.8, zorder=1)
    lanes, last_s, lift = all_axes[0], float("-inf"), 3
    for at_s, text in sorted(events):
        lift = 13 if at_s - last_s < 0.12 * (data.to_s - data.from_s) and lift == 3 else 3
        last_s = at_s
        write(lanes, text, (at_s, 1.0), lanes.get_xaxis_transform(), below=-lift, ha="center", fontsize=8)


# ---------------------------------------------------------------- rates


def _rates(answered: Axes, failed: Axes, data: TimelineData, span: tuple[float, float]) -> None:
    """Requests that ended and requests that failed, each second."""
    width_s = max(0.1, round((span[1] - span[0]) / MAX_BINS, 1))
    edges = span[0] + width_s * np.arange(int((span[1] - span[0]) / width_s) + 2)
    bad = _binned([(f.from_s, f.to_s, float(f.n)) for f in data.failed], edges) / width_s
    if data.answered:
        good = _binned(data.answered, edges) / width_s
        shown = edges[:-1] < data.load_ended_s
        answered.step(edges[:-1][shown], (good + bad)[shown], where="post", color="black", linewidth=1.0)
    elif data.load_ended_s > 0:
        mean = data.n_requests / data.load_ended_s
        answered.plot([0.0, data.load_ended_s], [mean, mean], color="black", linestyle="dotted")
        answered.annotate("mean", (0.01, 0.7), xycoords="axes fraction", fontsize=8)
    failed.fill_between(edges, np.append(bad, 0.0), step="post", color="black", linewidth=0.0)
    for axes in (answered, failed):
        axes.set_ylim(0.0, max(1.0, axes.get_ylim()[1]))
        unruled(axes, "right", "top")


def _binned(spans: Sequence[tuple[float, float, float]], edges: NDArray[Any]) -> NDArray[Any]:
    """How much of each (from_s, to_s, amount), spread evenly, falls between the edges."""
    if not spans:
        return np.zeros(len(edges) - 1)
    from_s, to_s, amount = (np.array(column, dtype=float) for column in zip(*spans, strict=True))
    lasts = to_s > from_s
    total = np.zeros(len(edges) - 1)
    instants, _ = np.histogram(from_s[~lasts], bins=edges, weights=amount[~lasts])
    total += instants
    if lasts.any():
        rate = amount[lasts] / (to_s[lasts] - from_s[lasts])
        knots = np.unique(np.concatenate([from_s[lasts], to_s[lasts]]))
        steps = np.zeros(len(knots))
        np.add.at(steps, np.searchsorted(knots, from_s[lasts]), rate)
        np.add.at(steps, np.searchsorted(knots, to_s[lasts]), -rate)
        sums = np.concatenate([[0.0], np.cumsum(np.cumsum(steps)[:-1] * np.diff(knots))])
        total += np.diff(np.interp(edges, knots, sums))
    return total


# ---------------------------------------------------------------- key


def _key(axes: Axes, rollouts: Sequence[TimelineData]) -> None:
    """What is in these pictures, with the number of failures by cause."""
    pods = [pod for data in rollouts for pod in data.pods]
    states: set[Enum] = set()
    for data in rollouts:
        states |= {s.state for pod in data.pods for s in pod.states if s.to_s > data.from_s}
        states |= {s.state for lane in data.servers for s in lane.states if s.to_s > data.from_s}
    marks = {kind for pod in pods for _, kind in pod.marks}
    strips = [_strip_key("rules", "in kube-proxy's rules")]
    if any(pod.up_in_proxies for pod in pods):
        strips.append(_strip_key("proxies", "UP in HAProxy"))
    counts: dict[str, list[int]] = {}
    for index, data in enumerate(rollouts):
        for cause, n in data.causes.items():
            counts.setdefault(cause, [0] * len(rollouts))[index] = n
    causes = [
        Line2D([], [], label=f"{cause}  {' / '.join(f'{n:,}' for n in each)}", **cause_marker(cause, 7.5))
        for cause, each in counts.items()
    ]
    _legends(
        axes,
        {
            "pods": ([_fill_key(state) for state in FILLS if state in states], 0.0),
            "marks": ([*strips, *(_mark_key(kind) for kind in MARKS if kind in marks)], 0.28),
            "failed": (causes, 0.56),
        },
    )


def _legends(axes: Axes, columns: Mapping[str, tuple[Sequence[Artist], float]]) -> None:
    axes.set_axis_off()
    for title, (handles, left) in columns.items():
        if handles:
            legend = Legend(
                axes,
                handles,
                [str(handle.get_label()) for handle in handles],
                title=title,
                loc="upper left",
                bbox_to_anchor=(left, 1.0),
                borderaxespad=0.0,
                fontsize=8,
                title_fontproperties={"size": 8, "weight": "bold"},
                alignment="left",
                frameon=False,
                ncols=-(-len(handles) // KEY_ROWS),
            )
            axes.add_artist(legend)


def _fill_key(state: Enum) -> Patch:
    fill = FILLS[state]
    text = f"HAProxy's server {state.value}" if isinstance(state, ServerState) else state.value
    return Patch(
        facecolor=fill.colour, edgecolor=fill.edge, hatch=fill.hatch, linestyle=fill.line, label=text
    )


def _strip_key(kind: str, label: str) -> Line2D:
    colour, dashes = STRIPS[kind]
    return Line2D([], [], color=colour, linestyle=dashes, linewidth=2.4, label=label)


def _mark_key(kind: MarkKind) -> Line2D:
    return Line2D([], [], label=kind.value, **mark_style(*MARKS[kind], 6.0))


# ---------------------------------------------------------------- predictions


def plot_prediction(
    predictions: Sequence[Prediction], observed: dict[str, Sequence[float]] | None = None
) -> Figure:
    """Failed requests of each scenario: 95 % and 50 % intervals, the median, and real counts if there are any.

    Parameters
    ----------
    observed : dict, optional
        Scenario's name → counts of real rollouts. Held against the tool's own figure where it prints one.
    """
    figure = Picture(figsize=(9.0, 1.2 + 0.45 * len(predictions)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    for y, each in enumerate(predictions):
        values = each.failed if each.tool_failed is None or observed is None else each.tool_failed
        outer, inner = prediction_interval(values), prediction_interval(values, 0.5)
        axes.hlines(y, *outer, colors="#0072B2", linewidths=2.0, zorder=2)
        axes.hlines(y, *inner, colors="#0072B2", linewidths=6.0, zorder=2)
        axes.plot([np.median(values)], [y], "|", color="black", markersize=15, markeredgewidth=2.0, zorder=3)
        real = (observed or {}).get(each.scenario.name, ())
        axes.plot(
            real,
            np.full(len(real), y + 0.28),
            "x",
            color="#D55E00",
            markersize=6,
            markeredgewidth=1.4,
            zorder=4,
        )
    axes.set_yticks(range(len(predictions)), [each.scenario.name for each in predictions])
    axes.set_ylim(len(predictions) - 0.4, -0.6)
    axes.set_xscale("symlog", linthresh=10.0)
    axes.set_xlim(left=-0.5)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.set_xlabel("failed requests in one rollout")
    axes.grid(axis="x", color=GRID)
    axes.set_axisbelow(True)
    for side in ("right", "top", "left"):
        axes.spines[side].set_visible(False)
    return figure
