"""The pictures: nothing is missing, nothing says it by colour alone, and labels can be read."""

import io
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb

from sim import load_one, predict, simulate
from sim.lane_axes import FILLS, LABEL, MARKS, cause_marker, clusters, rows_of
from sim.lanes import Failed, of_result
from sim.outcomes import Cause
from sim.plots import _binned as binned
from sim.plots import plot_prediction, plot_side_by_side, plot_timeline

CONFIGS = Path(__file__).parent.parent / "configs"
SMALLEST_PT = 5.5


@pytest.fixture(scope="module", params=[3, 30])
def rollout(request):
    """A rollout of 3 and of 30 pods that fails some requests."""
    sets = [f"deployment/myapp.spec.replicas={request.param}", "load.connections=30"]
    return simulate(load_one(CONFIGS / "observed" / "ka-sleep5-term.yaml", sets), seed=5)


@pytest.fixture(scope="module")
def figure(rollout):
    """Its timeline."""
    return plot_timeline(rollout)


@pytest.fixture(scope="module")
def renderer(figure):
    """What has drawn it, and knows the size of everything."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return canvas.get_renderer()


def luminance(colour):
    return float(np.dot(to_rgb(colour), (0.2126, 0.7152, 0.0722)))


def test_every_pod_has_a_lane(rollout, figure):
    """Each pod that the log names is a row, and each of its rows has a label."""
    data = of_result(rollout)
    pods = {mark.subject for mark in rollout.marks if "/" not in mark.subject}
    rows = [row for row in rows_of(data) if row.lane is not None]
    labels = figure.axes[0].findobj(lambda artist: artist.get_gid() == LABEL)
    assert {row.lane.name for row in rows} == pods
    assert [label.get_text() for label in labels] == [row.text for row in rows]


def test_labels_can_be_read(figure, renderer):
    """Pods' labels do not touch each other and stand on the sheet; no text is below 5.5 points."""
    labels = figure.axes[0].findobj(lambda artist: artist.get_gid() == LABEL)
    boxes = [label.get_window_extent(renderer) for label in labels]
    assert len(boxes) >= 6
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
    assert all(box.x0 >= 0 and box.y0 >= 0 for box in boxes)
    texts = figure.findobj(lambda artist: hasattr(artist, "get_fontsize") and artist.get_text())
    assert min(text.get_fontsize() for text in texts) >= SMALLEST_PT


def test_axis_labels_stand_on_the_sheet(figure, renderer):
    """What the axes say beside them is not cut off."""
    sheet = figure.bbox
    for axes in figure.axes:
        box = axes.get_tightbbox(renderer)
        assert box.x0 >= sheet.x0 - 1
        assert box.y0 >= sheet.y0 - 1
        assert box.y1 <= sheet.y1 + 1


def test_counts_are_told(rollout, figure):
    """Title and legend give the run's own numbers."""
    texts = [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]
    assert any(f"{rollout.n_failed:,} of {rollout.n_requests:,} requests failed" in text for text in texts)
    assert {f"{cause}  {n:,}" for cause, n in rollout.causes.items()} <= set(texts)


def test_states_differ_without_colour():
    """Any two fills differ by their hatch, their outline, or clearly in grey."""
    for a, b in combinations(FILLS.values(), 2):
        grey_apart = abs(luminance(a.colour) - luminance(b.colour)) > 0.1
        assert a.hatch != b.hatch or a.line != b.line or grey_apart, (a, b)


def test_marks_and_causes_differ_without_colour():
    """No two causes, and no two marks, share shape and filling; every cause has its own."""
    looks = []
    for cause in Cause:
        marker = cause_marker(cause.value)
        looks.append((marker["marker"], marker["markerfacecolor"] == "white"))
    assert len(set(looks)) == len(Cause)
    assert len(set(MARKS.values())) == len(MARKS)
    assert cause_marker("unattributed")["marker"] == "$?$"


@settings(deadline=None)
@given(
    st.lists(
        st.builds(
            lambda n, at_s, for_s, cause: Failed(n=n, from_s=at_s, to_s=at_s + for_s, cause=cause, pod="a"),
            st.integers(1, 50),
            st.floats(0, 20),
            st.sampled_from([0.0, 0.01, 3.0]),
            st.sampled_from(["idle_closed", "no_endpoint"]),
        ),
        max_size=30,
    )
)
def test_merged_marks_keep_their_numbers(failed):
    """Marks that are close become one with the sum of their failures, by cause."""
    merged = clusters(failed, near_s=0.2)
    for cause in ("idle_closed", "no_endpoint"):
        assert sum(f.n for f in merged if f.cause == cause) == sum(f.n for f in failed if f.cause == cause)
    same = [f for f in merged if f.cause == "idle_closed"]
    assert all(b.from_s - a.to_s > 0.2 for a, b in pairwise(same))


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(0, 9, width=32), st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 100)),
        max_size=20,
    )
)
def test_rates_keep_the_amounts(spans):
    """What is spread over bins adds up to what was there."""
    edges = np.arange(0.0, 11.0, 0.1)
    total = binned([(from_s, from_s + for_s, float(n)) for from_s, for_s, n in spans], edges)
    assert total.sum() == pytest.approx(sum(n for _, _, n in spans))


def test_side_by_side_shares_its_scales(rollout):
    """Two rollouts stand on one clock, with lanes of one height and rates of one scale."""
    other = replace(rollout, seed=6)
    figure = plot_side_by_side(rollout, other)
    left, right = figure.axes[0:3], figure.axes[3:6]
    for a, b in zip(left, right, strict=True):
        assert a.get_xlim() == b.get_xlim()
        assert a.get_ylim() == b.get_ylim()


def test_a_run_with_unknown_times_says_so(rollout):
    """Failures that only a tool's report counted are named in the title."""
    data = replace(of_result(rollout), failed=(), answered=(), n_failed=7)
    title = plot_timeline(data).axes[0].get_title(loc="left")
    assert "7 of them at times that are not known" in title


def test_predictions_by_scenario():
    """Each scenario is a row, and real counts are points in it."""
    predictions = [
        predict(load_one(CONFIGS / "tutorial" / name), runs=3)
        for name in ("2-keepalive.yaml", "3-proxy.yaml")
    ]
    figure = plot_prediction(predictions, observed={"tutorial-3-proxy": [0, 0, 1]})
    [axes] = figure.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["tutorial-2-keepalive", "tutorial-3-proxy"]
    assert [0, 0, 1] in [list(line.get_xdata()) for line in axes.lines]


@pytest.mark.parametrize("form", ["png", "svg", "pdf"])
def test_forms(figure, form):
    """The picture can be written in each usual form."""
    out = io.BytesIO()
    figure.savefig(out, format=form)
    assert len(out.getvalue()) > 10_000


def test_pyplot_stays_out():
    """Drawing needs no global state: pyplot is never imported."""
    code = "import sys, sim.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
