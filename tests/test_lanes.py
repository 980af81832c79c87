"""A rollout as lanes: the log of a run folded into states, views and failures."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim import load_one, simulate
from sim.lanes import MarkKind, Onlookers, PodState, ServerState, Share, of_result
from sim.lanes import _Fold as Fold
from sim.traffic.answered import Answered
from sim.world import Mark

TUTORIAL = Path(__file__).parent.parent / "configs" / "tutorial"


def log(*marks):
    return [Mark(at_s, subject, what, detail) for at_s, subject, what, detail in marks]


def spans(found):
    return [(span.from_s, span.to_s, span.state) for span in found]


def test_an_old_pod_goes_from_ready_to_gone():
    """A pod that ran before the load is ready at 0, terminating from its deletion, gone from its exit on."""
    marks = log(
        (0.0, "web-a-1", "starting", ""),
        (0.0, "web-a-1", "listening", ""),
        (4.0, "web-a-1", "deleted", ""),
        (4.1, "web-a-1", "pre_stop", "web"),
        (9.0, "web-a-1", "stop_signal", "SIGTERM"),
        (9.1, "web-a-1", "exited", ""),
        (9.5, "web-a-1", "not_ready", ""),
        (9.9, "web-a-1", "removed", ""),
    )
    [lane] = Fold(marks).lanes(20.0)
    assert lane.was_there
    assert spans(lane.states) == [
        (0.0, 4.0, PodState.READY),
        (4.0, 9.1, PodState.TERMINATING),
        (9.1, 9.9, PodState.GONE),
    ]
    assert lane.marks == ((4.1, MarkKind.PRE_STOP), (9.0, MarkKind.STOP_SIGNAL))


def test_a_new_pod_is_pending_then_starting_then_ready():
    """A pod that loses readiness without being deleted is not ready until it is again."""
    marks = log(
        (1.0, "web-b-2", "created", ""),
        (2.0, "web-b-2", "sandbox", ""),
        (2.0, "web-b-2", "starting", ""),
        (3.0, "web-b-2", "ready", ""),
        (5.0, "web-b-2", "not_ready", ""),
        (6.0, "web-b-2", "ready", ""),
    )
    [lane] = Fold(marks).lanes(8.0)
    assert spans(lane.states) == [
        (1.0, 2.0, PodState.PENDING),
        (2.0, 3.0, PodState.STARTING),
        (3.0, 5.0, PodState.READY),
        (5.0, 6.0, PodState.STARTING),
        (6.0, 8.0, PodState.READY),
    ]
    gained, lost = MarkKind.PROBE_PASSED, MarkKind.PROBE_FAILED
    assert lane.marks == ((3.0, gained), (5.0, lost), (6.0, gained))


def test_a_pod_of_two_containers_is_gone_when_both_are():
    """A terminating pod whose first container has exited is still terminating."""
    marks = log(
        *((0.0, "web-a-1", "starting", "") for _ in range(2)),
        (4.0, "web-a-1", "deleted", ""),
        (5.0, "web-a-1", "exited", ""),
        (7.0, "web-a-1", "exited", ""),
        (8.0, "web-a-1", "removed", ""),
    )
    [lane] = Fold(marks).lanes(9.0)
    assert [span.to_s for span in lane.states] == [4.0, 7.0, 8.0]


def test_nodes_that_lag_are_seen_apart():
    """A pod that only one of two nodes still has in its rules is there for some, not for all."""
    view = Onlookers()
    view.see("0", frozenset({"a"}), 0.0)
    view.see("1", frozenset({"a"}), 0.0)
    view.see("0", frozenset(), 2.0)
    view.see("1", frozenset(), 3.0)
    assert spans(view.spans("a", 9.0)) == [(0.0, 2.0, Share.ALL), (2.0, 3.0, Share.SOME)]


def test_a_proxy_that_ends_has_no_view():
    """The servers of an HAProxy that exited are no longer UP anywhere."""
    marks = log(
        (0.0, "proxy-a-1", "starting", ""),
        (0.0, "haproxy/proxy-a-1", "opened", "app"),
        (0.0, "haproxy/proxy-a-1", "sees", "web-a-2"),
        (0.0, "web-a-2", "starting", ""),
        (1.0, "haproxy/proxy-a-1", "server_down", "app"),
        (3.0, "proxy-a-1", "exited", ""),
    )
    fold = Fold(marks)
    [server] = fold.servers(9.0)
    web = next(lane for lane in fold.lanes(9.0) if lane.name == "web-a-2")
    assert spans(server.states) == [(0.0, 1.0, ServerState.UP), (1.0, 3.0, ServerState.DOWN)]
    assert spans(web.up_in_proxies) == [(0.0, 3.0, Share.ALL)]


def test_a_server_that_comes_up_was_down():
    """Only changes are logged: one whose first change is to UP was DOWN from the start."""
    marks = log(
        (0.0, "haproxy/proxy-a-1", "opened", "app spare"), (2.0, "haproxy/proxy-a-1", "server_up", "spare")
    )
    app, spare = Fold(marks).servers(5.0)
    assert spans(app.states) == [(0.0, 5.0, ServerState.UP)]
    assert spans(spare.states) == [(0.0, 2.0, ServerState.DOWN), (2.0, 5.0, ServerState.UP)]


def test_slots_show_haproxys_view_of_each_pod():
    """With a server for each pod: every pod is UP in HAProxy at some time, an old one no longer at the end."""
    scenario = load_one(TUTORIAL.parent / "matrix" / "proxy-pods.yaml")
    lanes = of_result(simulate(scenario, seed=1)).pods
    apps = [lane for lane in lanes if not lane.name.startswith("myapp-proxy-")]
    assert all(lane.up_in_proxies for lane in apps)
    for lane in apps:
        if lane.was_there:
            assert lane.up_in_proxies[-1].to_s < lane.states[-1].to_s + 3
    assert not any(lane.up_in_proxies for lane in lanes if lane not in apps)


@pytest.mark.parametrize(("folder", "name"), [("tutorial", "3-proxy"), ("matrix", "proxy-retries-0")])
def test_a_server_line_has_its_lane(folder, name):
    """Also where it is UP all the time, as a recorded run shows it."""
    [server] = of_result(simulate(load_one(TUTORIAL.parent / folder / f"{name}.yaml"), seed=1)).servers
    assert server.states[0].from_s == 0.0


@pytest.mark.parametrize("stage", ["0-naive", "2-keepalive", "3-proxy", "4-proxy-rollout"])
def test_every_request_is_in_the_picture(stage):
    """Failures by cause and answers over time add up to the run's own counts."""
    result = simulate(load_one(TUTORIAL / f"{stage}.yaml"), seed=3)
    data = of_result(result)
    assert data.causes == dict(sorted(result.causes.items(), key=lambda item: -item[1]))
    assert math.isclose(sum(n for _, _, n in data.answered), result.tally.n_ok, rel_tol=1e-6)


def test_the_load_goes_on_to_its_end():
    """A client without pause is answered in the last second of its load as in the first."""
    result = simulate(load_one(TUTORIAL / "2-keepalive.yaml"), seed=3)
    counts = [n for _, _, n in of_result(result).answered]
    assert sum(counts[390:400]) == pytest.approx(sum(counts[10:20]), rel=0.2)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 1000),
            st.floats(0, 30, allow_nan=False),
            st.floats(0, 10, allow_nan=False),
        ),
        max_size=20,
    )
)
def test_answers_are_neither_lost_nor_made(added):
    """However long a cruise, the bins hold all of its requests, and none before or after it."""
    answered = Answered()
    for n, from_s, for_s in added:
        answered.add(n, from_s, from_s + for_s)
    bins = answered.spans(41.0)
    assert math.isclose(sum(n for _, _, n in bins), sum(n for n, _, _ in added), rel_tol=1e-6, abs_tol=1e-6)
    first_s = min((from_s for _, from_s, _ in added), default=0.0)
    assert sum(n for _, to_s, n in bins if to_s <= first_s) == pytest.approx(0.0, abs=1e-6)


def test_a_cruise_is_spread_evenly():
    """100 requests from 0.05 s to 0.55 s: 10 in the half bin at each end, 20 in each whole one."""
    answered = Answered()
    answered.add(100, 0.05, 0.55)
    assert [round(n, 6) for _, _, n in answered.spans(0.7)] == [10, 20, 20, 20, 20, 10, 0, 0]
