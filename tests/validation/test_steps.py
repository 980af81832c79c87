"""Steps of a rollout: what is told from a recording, from a simulated run, and which of them are marked."""

import numpy as np
import pytest

from sim.scenario import load_one
from sim.simulate import simulate
from validation.campaign import CONFIGS
from validation.lives import Moment, of_recorded, of_simulated
from validation.observations import Observation
from validation.steps import STEPS, StepComparison, compare_steps, off_table

M = Moment


@pytest.fixture(scope="module")
def scenario():
    return load_one(CONFIGS / "matrix" / "close-all-at-once.yaml")


def pod(at_s, name, ip, *, ready=False, deleting=False, gone=False):
    return {
        "at_s": at_s, "what": "pod", "pod": name, "ip": ip, "phase": "Running", "ready": ready,
        "deleting": deleting, "gone": gone, "image": "app", "restarts": 0,
    }  # fmt: skip


def container(at_s, name, event):
    return {"at_s": at_s, "what": "container", "event": event, "pod": name, "container": "app", "code": 0}


def endpoints(at_s, what, *found):
    return {"at_s": at_s, "what": what, "service": "myapp", "endpoints": list(found)}


ROLLOUT = (
    endpoints(-3.0, "slice", ["10.0.0.1", True, True, False]),
    endpoints(-2.9, "rules", "10.0.0.1"),
    pod(-2.8, "myapp-a-1", "10.0.0.1", ready=True),
    pod(4.1, "myapp-b-2", None),
    container(4.8, "myapp-b-2", "start"),
    pod(5.0, "myapp-b-2", "10.0.0.2"),
    endpoints(5.1, "slice", ["10.0.0.1", True, True, False], ["10.0.0.2", False, False, False]),
    pod(5.5, "myapp-b-2", "10.0.0.2", ready=True),
    endpoints(5.6, "slice", ["10.0.0.1", True, True, False], ["10.0.0.2", True, True, False]),
    pod(5.7, "myapp-a-1", "10.0.0.1", ready=True, deleting=True),
    endpoints(5.75, "slice", ["10.0.0.1", False, True, True], ["10.0.0.2", True, True, False]),
    endpoints(5.9, "rules", "10.0.0.1", "10.0.0.2"),
    container(6.0, "myapp-a-1", "exit"),
    {"at_s": 6.2, "what": "link", "event": "gone", "ip": "10.0.0.1"},
    endpoints(6.3, "slice", ["10.0.0.2", True, True, False]),
    pod(6.35, "myapp-a-1", "10.0.0.1", deleting=True),
    endpoints(7.0, "rules", "10.0.0.2"),
    pod(7.1, "myapp-a-1", "10.0.0.1", deleting=True, gone=True),
    pod(-2.8, "myapp-proxy-x-1", "10.0.0.9", ready=True),
)


def recorded(scenario, **more):
    given = {
        "scenario": "built", "run": 1, "date": "2026-01-01T00:00:00+00:00", "scenario_hash": "0", "client": "plain",
        "requests": 100, "failed": 2, "tool_failed": None, "counted_by": "client", "aborted": False,
        "rollout_s": 3.0, "update_at_s": 4.0, "old_pods_gone_s": 3.1, "load_s": 20.0, "timeline": ROLLOUT,
        "failures": tuple(
            {"at_s": at_s, "cause": "stale_endpoint_refused", "pod_ip": None} for at_s in (6.05, 6.1)
        ),
    }  # fmt: skip
    return of_recorded(Observation(**given | more), scenario)


def steps_of(rollout):
    found = {step.name: [round(value, 6) for value in step.values(rollout)] for step in STEPS}
    return {name: values for name, values in found.items() if values}


def test_a_recording_is_told_as_moments(scenario):
    """Objects, containers, links, slices and rules: each gives its moments to the pod of that address."""
    rollout = recorded(scenario)
    [old], [new] = rollout.old, rollout.new
    assert (old.pod, new.pod) == ("myapp-a-1", "myapp-b-2")  # and not the proxy's, which is not updated
    assert old.at_s == {
        M.DELETED: 5.7, M.WITHDRAWN: 5.75, M.EXITED: 6.0, M.SILENT: 6.2, M.UNLISTED: 6.3, M.UNROUTED: 7.0,
        M.REMOVED: 7.1,
    }  # fmt: skip
    assert new.at_s == {
        M.CREATED: 4.1, M.STARTED: 4.8, M.LISTED: 5.1, M.READY: 5.5, M.PUBLISHED: 5.6, M.ROUTED: 5.9,
    }  # fmt: skip


def test_steps_are_the_time_between_moments(scenario):
    """Closed form of the built rollout; a step that did not happen has no value."""
    found = steps_of(recorded(scenario))
    assert found["created → Ready"] == [1.4]
    assert found["Ready → next deletion"] == [0.2]
    assert found["deleted → exited"] == [0.3]
    assert found["exited → out of the rules"] == [1.0]
    assert found["rules changed → changed again"] == [1.1]
    assert found["update → first failure"] == [2.05]
    assert found["first failure → last failure"] == [0.05]
    assert found["requests per second"] == [5.0]
    assert "deleted → readiness lost" not in found  # what is lost with the terminal status is no probe's word
    assert "last refused → out of the rules" not in found  # the address was silent before the rule was gone


def test_the_last_refusal_is_held_against_the_rules(scenario):
    """While the address still answers, the rules must have been there for the last request that was refused."""
    timeline = [row for row in ROLLOUT if row["what"] != "link"]
    found = steps_of(recorded(scenario, timeline=tuple(timeline)))
    assert found["last refused → out of the rules"] == [0.9]


def test_a_simulated_run_has_the_same_steps(scenario):
    """Every moment that a recording can know, each pod of the model has it, in the order of the rollout."""
    rollout = of_simulated(simulate(scenario, seed=3))
    assert len(rollout.old) == len(rollout.new) == 3
    for life in rollout.new:
        order = [M.CREATED, M.STARTED, M.LISTED, M.READY, M.PUBLISHED, M.ROUTED]
        assert [life.at_s[m] for m in order if m is not M.LISTED] == sorted(
            life.at_s[m] for m in order if m is not M.LISTED
        )
        assert life.at_s.keys() >= set(order)
    for life in rollout.old:
        assert life.at_s.keys() >= {
            M.DELETED,
            M.WITHDRAWN,
            M.UNROUTED,
            M.EXITED,
            M.SILENT,
            M.UNLISTED,
            M.REMOVED,
        }
        assert life.at_s[M.DELETED] < life.at_s[M.EXITED] < life.at_s[M.SILENT] < life.at_s[M.REMOVED]


@pytest.mark.parametrize(("shift_s", "off"), [(0.0, 0), (2.0, 1), (-2.0, -1)])
def test_a_median_outside_the_model_is_marked(shift_s, off):
    """Above the 95 % quantile or below the 5 %: marked; a median of two real runs never is."""
    model = np.linspace(0, 1, 50)
    real = np.array([0.4, 0.5, 0.6]) + shift_s
    assert StepComparison(step=STEPS[0], real=real, simulated=model).off == off
    assert StepComparison(step=STEPS[0], real=real[:2], simulated=model).off == 0


def test_only_steps_that_some_side_has_are_told(scenario):
    """No line for HAProxy where there is none."""
    rollout = recorded(scenario)
    names = {each.step.name for each in compare_steps([rollout], [rollout])}
    assert "deleted → exited" in names
    assert "server DOWN for" not in names


def test_steps_are_counted_over_scenarios():
    """Too low in one, too high in another, inside in a third: told in three, off in two, which are named."""
    model = np.linspace(0, 1, 50)
    by_scenario = {
        name: [StepComparison(step=STEPS[0], real=np.full(3, 0.5 + shift_s), simulated=model)]
        for name, shift_s in (("low", 2.0), ("high", -2.0), ("inside", 0.0))
    }
    table = off_table(by_scenario)
    cells = [list(column.cells) for column in table.columns]
    assert cells == [[STEPS[0].name], ["3"], ["1"], ["1"], ["+0.000"], ["low, high"]]
