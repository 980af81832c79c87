"""One scenario's real runs beside its simulated ones: where the model is wrong, step by step and event by event."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from sim.errors import InputError
from sim.scenario import load
from sim.scenario.model import Scenario
from sim.scenario.timing import load_timing
from sim.simulate import Result, simulate
from validation import campaign, observations
from validation.access import ReplayError
from validation.forecast import MEASURED
from validation.lives import Rollout, of_recorded, of_simulated
from validation.observations import FOLDER, Observation, scenario_hash
from validation.steps import StepComparison, compare_steps, steps_table

RUNS: Final = 50
"""Simulated rollouts whose quantiles are held against the real ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is held against what."""

    folder: Path = FOLDER
    runs: int = RUNS
    seed: int = 1
    timing: str = MEASURED
    run: int | None = None
    """The kept run whose events are told; None: the one with the median of failures."""


@dataclass(frozen=True, kw_only=True)
class Explained:
    """One scenario's rollouts, real and simulated."""

    scenario: Scenario
    kept: tuple[Observation, ...]
    real: tuple[Rollout, ...]
    results: tuple[Result, ...]
    simulated: tuple[Rollout, ...]

    @cached_property
    def steps(self) -> list[StepComparison]:
        return compare_steps(self.real, self.simulated)

    def steps_table(self) -> Table:
        return steps_table(
            self.steps,
            f"{self.scenario.name}: steps of {len(self.real)} real and {len(self.simulated)} simulated runs",
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.name,
            "timing": self.scenario.timing,
            "runs": {"real": len(self.real), "model": len(self.simulated)},
            "steps": [each.to_json() for each in self.steps],
        }


def find_scenarios(paths: Sequence[str], sets: Sequence[str]) -> list[Scenario]:
    """Those of files and folders; a name that is neither is looked for among our configs.

    Raises
    ------
    InputError
        There is no such file and no such name.
    """
    ours: dict[str, Scenario] = {}
    found: list[Scenario] = []
    for path in paths:
        if Path(path).exists() or sets:
            found += load(path, sets)
            continue
        ours = ours or campaign.our_scenarios()
        if path not in ours:
            raise InputError(
                f"{path}: neither a file or folder nor a scenario; ours: {', '.join(sorted(ours))}"
            )
        found.append(ours[path])
    return found


def explain(scenario: Scenario, plan: Plan) -> Explained:
    """Read what is kept of *scenario* and simulate it as *plan* says.

    Raises
    ------
    ReplayError
        No run of this very scenario is kept that nothing spoiled.
    """
    scenario = replace(scenario, timing=plan.timing)
    kept = tuple(
        run
        for run in observations.read_runs(scenario.name, plan.folder)
        if run.scenario_hash == scenario_hash(scenario) and not run.spoiled
    )
    if not kept:
        raise ReplayError(f"{plan.folder}: no kept run of {scenario.name} that nothing spoiled")
    profile = load_timing(plan.timing, beside=scenario.source.parent)
    results = tuple(
        simulate(scenario, seed=plan.seed, replication=i, timing=profile) for i in range(plan.runs)
    )
    return Explained(
        scenario=scenario,
        kept=kept,
        real=tuple(of_recorded(run, scenario) for run in kept),
        results=results,
        simulated=tuple(of_simulated(result) for result in results),
    )
