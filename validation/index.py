"""Writes the table of validated scenarios that `rollsim predict` looks into: `python -m validation.index`.

It is made from the kept runs and from today's predictions for their scenarios (`validation.today`).
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from sim.deciding import deciding
from sim.scenario.model import Scenario
from sim.validated import INDEX, Validated, to_json
from validation import machines, observations, today
from validation.campaign import our_scenarios
from validation.observations import FOLDER, Observation
from validation.scores import inside

FEWEST_RUNS: Final = 3
"""Fewer real runs validate nothing."""


def validated(
    scenarios: Sequence[Scenario], runs: Iterable[Observation], made: dict[today.Key, today.Made]
) -> list[Validated]:
    """Scenarios with enough comparable real runs, by name."""
    by_name = {scenario.name: scenario for scenario in scenarios}
    forecasts = [
        each.forecast
        for (name, timing), each in made.items()
        if timing in machines.PROFILES and name in by_name
    ]
    insides: dict[str, list[float]] = {}
    for compared in machines.match_there(forecasts, runs):
        case = compared.case
        insides.setdefault(case.name, []).extend(inside(case.predicted, count) for count in case.observed)
    return [
        Validated(
            name=name,
            runs=len(found),
            inside=round(float(np.mean(found)), 3),
            settings=deciding(by_name[name]),
        )
        for name, found in sorted(insides.items())
        if len(found) >= FEWEST_RUNS
    ]


def text(found: Iterable[Validated]) -> str:
    """The file: one line a scenario."""
    lines = ",\n".join(json.dumps(to_json(each)) for each in found)
    return f"[\n{lines}\n]\n"


def text_of_kept(folder: Path = FOLDER) -> str:
    """What the file should hold."""
    scenarios = list(our_scenarios().values())
    return text(validated(scenarios, observations.read_all(folder), today.kept(folder)))


if __name__ == "__main__":
    INDEX.write_text(text_of_kept(), encoding="utf-8")
