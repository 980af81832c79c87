"""Predictions as JUnit XML: one test case for each scenario, failed where the gate was not reached."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree as ET

from sim.gate import Gate
from sim.prediction import Prediction
from sim.told import told

_NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One scenario of the report."""

    prediction: Prediction
    gate: Gate | None
    """None: no `--fail-above` was given, so nothing was checked."""
    took_s: float


def junit_xml(cases: Sequence[Case]) -> str:
    """The report, in the form that CI servers read (`testsuites/testsuite/testcase`)."""
    missed = sum(case.gate is not None and not case.gate.passed for case in cases)
    unchecked = sum(case.gate is None for case in cases)
    counts = {
        "name": "rollsim",
        "tests": str(len(cases)),
        "failures": str(missed),
        "errors": "0",
        "skipped": str(unchecked),
        "time": f"{sum(case.took_s for case in cases):.3f}",
    }
    root = ET.Element("testsuites", counts)
    suite = ET.SubElement(root, "testsuite", counts)
    for case in cases:
        _add(suite, case)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _add(suite: ET.Element, case: Case) -> None:
    scenario = case.prediction.scenario
    element = ET.SubElement(
        suite,
        "testcase",
        {
            "classname": _clean(str(scenario.source)),
            "name": _clean(scenario.name),
            "time": f"{case.took_s:.3f}",
        },
    )
    text = _clean(told(case.prediction))
    if case.gate is None:
        ET.SubElement(element, "skipped", {"message": "no --fail-above: predicted, not checked"})
    elif not case.gate.passed:
        ET.SubElement(
            element, "failure", {"type": case.gate.verdict.value, "message": str(case.gate)}
        ).text = text
    ET.SubElement(element, "system-out").text = text


def _clean(text: str) -> str:
    """*text* without the characters that XML cannot hold."""
    return _NOT_XML.sub("\ufffd", text)
