"""Draws lanes on axes: a bar for each pod's states, strips for what rules and proxies hold, marks, failures.

Whatever colour says, a hatch or the shape of a marker says too: the palette is Okabe and Ito's, safe for the
colour-blind, and print in black and white keeps everything.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection

from sim.lanes import Failed, MarkKind, PodLane, PodState, ServerLane, ServerState, Share, Span, TimelineData
from sim.outcomes import Cause
from sim.rulers import unruled, write

BLACK, GREY = "black", "#555555"
GREEN, BLUE, VERMILLION, PURPLE, BROWN = "#007F5C", "#0072B2", "#D55E00", "#AA4488", "#7A4B00"


Dashes = Any
"""A name or a pattern of dashes: matplotlib's own types for it are not public."""


@dataclass(frozen=True, slots=True)
class Fill:
    colour: str
    hatch: str = ""
    edge: str = GREY
    line: Dashes = "solid"


FILLS: Final[Mapping[Enum, Fill]] = {
    PodState.PENDING: Fill("white", "...."),
    PodState.STARTING: Fill("#FBF6B5", "////"),
    PodState.READY: Fill("#A9D8F3"),
    PodState.TERMINATING: Fill("#F2C76B", "\\\\\\\\"),
    PodState.GONE: Fill("white", "", "#777777", "dotted"),
    ServerState.UP: Fill("#F8F0F5", "", PURPLE),
    ServerState.DOWN: Fill("#444444", "xxxx", "white"),
}

MARKS: Final = {
    MarkKind.PRE_STOP: (">", "white"),
    MarkKind.FILE_REMOVED: ("x", BLACK),
    MarkKind.PROBE_PASSED: ("^", "white"),
    MarkKind.PROBE_FAILED: ("v", "white"),
    MarkKind.STOP_SIGNAL: ("s", BLACK),
    MarkKind.SIGKILL: ("X", BLACK),
    MarkKind.RESTART: ("d", "white"),
}

STRIPS: Final[Mapping[str, tuple[str, Dashes]]] = {
    "rules": (BLACK, "solid"),
    "proxies": (PURPLE, (0, (2.2, 0.8))),
}
"""kube-proxy's and HAProxy's view of a pod: colour and dashes; thinner where only some hold it."""

_FILLED: Final = ("o", "D", "^", "P", "p", "<", "h", ">", "8", "H")
_COLOURS: Final = (VERMILLION, BLUE, BROWN, GREEN, PURPLE)
_NAMED: Final = {
    cause.value: (_FILLED[i // 2], _COLOURS[(i + i // 10) % len(_COLOURS)], i % 2 == 0)
    for i, cause in enumerate(
        (
            Cause.STOP_IN_FLIGHT,
            Cause.STALE_ENDPOINT_REFUSED,
            Cause.IDLE_CLOSED,
            Cause.STALE_ENDPOINT_SILENT,
            Cause.ACCEPT_QUEUE_RESET,
            Cause.STARTING_POD_REFUSED,
            Cause.KILL_IN_FLIGHT,
            Cause.NO_ENDPOINT,
            Cause.DRAIN_TIMEOUT,
            Cause.VANISHED_IN_FLIGHT,
            *(cause for cause in Cause if cause.name.startswith("PROXY_")),
            Cause.SLOW_ANSWER,
            Cause.IDLE_TIMEOUT_RACE,
            Cause.LIVENESS_RESTART,
        )
    )
}
"""Cause → shape, colour, filled: no two share shape and filling."""
_UNNAMED: Final = ("$?$", BLACK, True)

HEADER, POD, SERVER, NOWHERE = 0.62, 1.0, 0.62, 0.7
"""Heights of the kinds of rows, in lanes."""
LABEL: Final = "label"
"""The gid of the names beside the lanes."""
LETTER_WIDTH: Final = 0.62
"""Of the bold digits, in font sizes."""
NEAR: Final = 0.012
"""Failures of one lane and cause that are closer than this share of the width become one mark with a number."""


def cause_marker(cause: str, size: float = 7.0) -> dict[str, Any]:
    """How failures of *cause* look: a shape, and whether it is filled, for each cause alone."""
    shape, colour, filled = _NAMED.get(cause, _UNNAMED)
    return {
        "marker": shape,
        "markersize": size,
        "markerfacecolor": colour if filled else "white",
        "markeredgecolor": colour,
        "markeredgewidth": 0.6 if filled else 1.3,
        "linestyle": "none",
    }


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the lanes' axes, from *top* downwards."""

    top: float
    height: float
    text: str = ""
    lane: PodLane | ServerLane | None = None


def rows_of(data: TimelineData) -> list[Row]:
    """Failures that reached no pod; then every ReplicaSet with its pods; then the proxies with their servers."""
    rows: list[Row] = []

    def add(height: float, text: str = "", lane: PodLane | ServerLane | None = None) -> None:
        top = rows[-1].top + rows[-1].height if rows else 0.0
        rows.append(Row(top, height, text, lane))

    names = {pod.name for pod in data.pods}
    if any(failed.pod not in names for failed in data.failed):
        add(NOWHERE, "no pod")
    groups: dict[str, list[PodLane]] = defaultdict(list)
    for pod in data.pods:
        groups[pod.group].append(pod)
    n_sets = Counter(deployment_of(group) for group in groups)
    for group, pods in _by_deployment(groups):
        age = "  before the update" if pods[0].was_there else "  after the update"
        add(HEADER, group + (age if n_sets[deployment_of(group)] > 1 else ""))
        for pod in pods:
            add(POD, pod.short_name, pod)
    proxies: dict[str, list[ServerLane]] = defaultdict(list)
    for server in data.servers:
        proxies[server.proxy].append(server)
    for proxy, servers in proxies.items():
        add(HEADER, f"HAProxy in {proxy}")
        for server in servers:
            add(SERVER, server.server, server)
    return rows


def deployment_of(group: str) -> str:
    return group.rpartition("-")[0]


def _by_deployment(groups: Mapping[str, list[PodLane]]) -> list[tuple[str, list[PodLane]]]:
    """ReplicaSets in the order of their Deployments' first pods."""
    order = list(dict.fromkeys(deployment_of(group) for group in groups))
    return sorted(groups.items(), key=lambda item: order.index(deployment_of(item[0])))


def height_of(rows: Sequence[Row]) -> float:
    return rows[-1].top + rows[-1].height if rows else 1.0


class LaneAxes:
    """The lanes of one rollout on *axes*; *scale* is a lane's height in inches."""

    def __init__(self, axes: Axes, data: TimelineData, *, scale: float, span: tuple[float, float]) -> None:
        self._axes = axes
        self._data = data
        self._rows = rows_of(data)
        self._from_s, self._to_s = span
        self._small = scale < 0.3
        self._font = 7.0 if self._small else 8.5
        self._mark_size = 5.0 if self._small else 7.0
        figure = axes.get_figure(root=True)
        assert figure is not None
        self._point_s = (self._to_s - self._from_s) * figure.dpi / (72.0 * axes.bbox.width)

    def draw(self) -> None:
        self._prepare()
        self._bars()
        self._strips()
        self._marks()
        self._failures()

    def _prepare(self) -> None:
        axes = self._axes
        axes.set_xlim(self._from_s, self._to_s)
        axes.set_ylim(height_of(self._rows), 0.0)
        unruled(axes, "left", "right", "top")
        for row in self._rows:
            if row.lane is None and row.text != "no pod":
                self._header(row)
            else:
                self._label(row)

    def _header(self, row: Row) -> None:
        axes = self._axes
        axes.axhline(row.top + 0.08, color="#BBBBBB", linewidth=0.6)
        write(
            axes,
            row.text,
            (0.0, row.top + row.height * 0.62),
            axes.get_yaxis_transform(),
            left=-2,
            va="center",
            fontsize=self._font,
            fontweight="bold",
            color="#333333",
            bbox={"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"},
        )

    def _label(self, row: Row) -> None:
        write(
            self._axes,
            row.text,
            (0.0, row.top + row.height * 0.4),
            self._axes.get_yaxis_transform(),
            left=4,
            ha="right",
            va="center",
            fontsize=self._font,
            gid=LABEL,
        )

    # -- bars and strips

    def _bars(self) -> None:
        boxes: dict[Enum, list[list[tuple[float, float]]]] = defaultdict(list)
        for row in self._rows:
            states: Iterable[Span[Any]] = row.lane.states if row.lane is not None else ()
            low, high = self._bar(row)
            for span in states:
                if span.to_s > self._from_s and span.from_s < self._to_s:
                    left, right = max(span.from_s, self._from_s), min(span.to_s, self._to_s)
                    boxes[span.state].append([(left, low), (right, low), (right, high), (left, high)])
        for state, polygons in boxes.items():
            fill = FILLS[state]
            self._axes.add_collection(
                PolyCollection(
                    polygons,
                    facecolors=fill.colour,
                    edgecolors=fill.edge,
                    hatch=fill.hatch,
                    linewidths=0.7,
                    linestyles=fill.line,
                    zorder=2,
                ),
                autolim=False,
            )

    def _bar(self, row: Row) -> tuple[float, float]:
        if isinstance(row.lane, ServerLane):
            return row.top + 0.08, row.top + row.height - 0.08
        return row.top + 0.14, row.top + 0.64

    def _strips(self) -> None:
        lines: dict[tuple[str, Share], list[list[tuple[float, float]]]] = defaultdict(list)
        for row in self._rows:
            if isinstance(row.lane, PodLane):
                for kind, y, spans in (
                    ("rules", row.top + 0.76, row.lane.in_rules),
                    ("proxies", row.top + 0.91, row.lane.up_in_proxies),
                ):
                    for span in spans:
                        lines[kind, span.state].append([(span.from_s, y), (span.to_s, y)])
        for (kind, share), segments in lines.items():
            colour, dashes = STRIPS[kind]
            width = (2.4 if share is Share.ALL else 1.0) * (0.8 if self._small else 1.0)
            self._axes.add_collection(
                LineCollection(segments, colors=colour, linestyles=dashes, linewidths=width, zorder=2),
                autolim=False,
            )

    # -- marks and failures

    def _marks(self) -> None:
        at: dict[MarkKind, list[tuple[float, float]]] = defaultdict(list)
        for row in self._rows:
            if isinstance(row.lane, PodLane):
                for at_s, kind in row.lane.marks:
                    at[kind].append((at_s, row.top + (0.39 if kind is MarkKind.FILE_REMOVED else 0.56)))
        for kind, points in at.items():
            marker, face = MARKS[kind]
            self._axes.plot(
                [x for x, _ in points],
                [y for _, y in points],
                **mark_style(marker, face, 4.0 if self._small else 5.5),
                zorder=4,
            )

    def _failures(self) -> None:
        tops = {row.lane.name: row.top for row in self._rows if isinstance(row.lane, PodLane)}
        by_lane: dict[float, list[Failed]] = defaultdict(list)
        at: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for failed in self._data.failed:
            by_lane[tops.get(failed.pod or "", 0.0)].append(failed)
        for top, group in by_lane.items():
            y = top + (0.14 if top in tops.values() else 0.4)
            taken_to = float("-inf")
            for cluster in clusters(group, (self._to_s - self._from_s) * NEAR):
                at_s, taken_to = self._cluster(cluster, y, taken_to)
                at[cluster.cause].append((at_s, y))
        for cause, points in at.items():
            self._axes.plot(*zip(*points, strict=True), **cause_marker(cause, self._mark_size), zorder=6)

    def _cluster(self, cluster: Failed, y: float, taken_to: float) -> tuple[float, float]:
        """The number of failures, and a line where they took long; where the mark goes and what it takes up.

        It stands right of what is there already.
        """
        step = self._mark_size * self._point_s
        at_s, end_s = max(cluster.from_s, taken_to), cluster.to_s
        if end_s - at_s > step:
            self._axes.hlines(y, at_s, end_s, colors=BLACK, linewidths=1.6, zorder=5)
        else:
            at_s = end_s = max((cluster.from_s + end_s) / 2, taken_to)
        if cluster.n == 1:
            return at_s, at_s + step
        text = f"{cluster.n:,}"
        write(
            self._axes,
            text,
            (end_s, y),
            self._axes.transData,
            left=-0.6 * self._mark_size,
            va="center",
            fontsize=self._font - 1.0,
            fontweight="bold",
            zorder=6,
            bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.8},
        )
        return at_s, end_s + 1.6 * step + len(text) * LETTER_WIDTH * self._font * self._point_s


def mark_style(marker: str, face: str, size: float) -> dict[str, Any]:
    return {
        "marker": marker,
        "markersize": size,
        "markerfacecolor": face,
        "markeredgecolor": BLACK,
        "markeredgewidth": 0.8 if marker != "x" else 1.4,
        "linestyle": "none",
    }


def clusters(failed: Iterable[Failed], near_s: float) -> list[Failed]:
    """Failures of one lane, those of a cause that are close together as one."""
    merged: list[Failed] = []
    last: dict[str, int] = {}
    for each in sorted(failed, key=lambda f: f.from_s):
        index = last.get(each.cause)
        if index is not None and each.from_s - merged[index].to_s <= near_s:
            held = merged[index]
            merged[index] = Failed(
                n=held.n + each.n,
                from_s=held.from_s,
                to_s=max(held.to_s, each.to_s),
                cause=held.cause,
                pod=held.pod,
            )
        else:
            last[each.cause] = len(merged)
            merged.append(each)
    return merged
