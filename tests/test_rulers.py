"""Numbers and lines of axes that matplotlib's ticks would draw: where they stand and what they say."""

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sim.rulers import ruled_across, ruled_along, unruled


@pytest.fixture
def axes():
    figure = Figure(figsize=(8, 4), dpi=100)
    return [figure.add_axes((0.2, 0.5, 0.7, 0.4)), figure.add_axes((0.2, 0.2, 0.7, 0.2))]


def places(axes):
    """Each text of the axes and the middle of where it stands. [pixels]"""
    canvas = FigureCanvasAgg(axes.figure)
    canvas.draw()
    boxes = {text.get_text(): text.get_window_extent(canvas.get_renderer()) for text in axes.texts}
    return {text: ((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2) for text, box in boxes.items()}


def test_times_stand_under_the_lowest_axes_alone(axes):
    """Each number in the middle under its time; the lines go through all."""
    for each in axes:
        unruled(each)
        each.set_xlim(0.0, 20.0)
    ruled_along(axes, (0.0, 20.0), "seconds")
    upper, lower = axes
    assert not upper.texts
    found = places(lower)
    at_5, bottom = lower.transData.transform((5.0, 0.0))
    assert found["5"] == (pytest.approx(at_5, abs=1.5), pytest.approx(bottom - 9, abs=6))
    assert found["seconds"][1] < found["5"][1]
    lines = [[segment[0][0] for segment in each.collections[0].get_segments()] for each in axes]
    assert lines[0] == lines[1] == [float(text) for text in found if text != "seconds"]


@pytest.mark.parametrize(
    ("top", "said"),
    [
        (1.06, ["0", "1"]),
        (90.0, ["0", "30", "60", "90"]),
        (2120.0, ["0", "800", "1,600"]),
        (21200.0, ["0", "8,000", "16k"]),
    ],
)
def test_levels_are_whole_and_short(axes, top, said):
    """Few numbers, each left of its level; thousands in short from ten of them on."""
    lower = axes[1]
    lower.set_ylim(0.0, top)
    ruled_across(lower, "requests/s")
    found = places(lower)
    assert [text for text in found if text != "requests/s"] == said
    left = lower.bbox.x0
    assert all(x < left for x, _ in found.values())
    _, at_0 = lower.transData.transform((0.0, 0.0))
    assert found["0"][1] == pytest.approx(at_0, abs=2)
    assert found["requests/s"][0] < min(x for text, (x, _) in found.items() if text != "requests/s")
