"""The JUnit report: a case for each scenario, and what a CI server reads from it."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from sim import load_one, predict
from sim.gate import Gate, Verdict
from sim.junit import Case, junit_xml

TUTORIAL = Path(__file__).parent.parent / "configs" / "tutorial"


@pytest.fixture(scope="module")
def prediction():
    return predict(load_one(TUTORIAL / "2-keepalive.yaml"), runs=2)


def gate(verdict):
    return Gate(fail_above=0, confidence=0.95, n_hits=0, n_runs=2, verdict=verdict)


def test_each_scenario_is_a_case(prediction):
    """Passed, failed with the reason and the whole prediction, and not checked."""
    verdicts = [gate(Verdict.REACHED), gate(Verdict.MISSED), gate(Verdict.UNDECIDED), None]
    root = ET.fromstring(junit_xml([Case(prediction=prediction, gate=g, took_s=0.5) for g in verdicts]))
    [suite] = root
    assert {key: suite.get(key) for key in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "4",
        "failures": "2",
        "errors": "0",
        "skipped": "1",
        "time": "2.000",
    }
    passed, missed, undecided, unchecked = suite
    assert [child.tag for child in passed] == ["system-out"]
    assert "P(failed ≤ 0) = 0.000" in missed.find("failure").get("message")
    assert "idle_closed" in missed.find("failure").text
    assert undecided.find("failure").get("type") == "undecided"
    assert "--fail-above" in unchecked.find("skipped").get("message")
    assert {case.get("name") for case in suite} == {"tutorial-2-keepalive"}


def test_no_character_breaks_it(prediction):
    """A path and a name may hold what XML cannot."""
    odd = replace(prediction.scenario, name='a<b>&"c" é', source=Path("x\x01y"))
    text = junit_xml([Case(prediction=replace(prediction, scenario=odd), gate=None, took_s=0.0)])
    [case] = ET.fromstring(text.encode()).iter("testcase")
    assert case.get("name") == odd.name
    assert case.get("classname") == "x�y"
