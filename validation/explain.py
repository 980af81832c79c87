"""One scenario's real runs beside its simulated ones: where the model is wrong, step by step and event by event."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.table import Table

from sim.errors import InputError
from sim.scenario import load
from sim.scenario.model import Scenario
from sim.scenario.timing import load_timing
from sim.simulate import Result, simulate
from validation import campaign, machines, observations
from validation.access import ReplayError
from validation.events import Pair, events_table, pairs
from validation.lives import Rollout, of_recorded, of_simulated
from validation.observations import FOLDER, Observation, scenario_hash
from validation.steps import StepComparison, compare_steps, steps_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RUNS: Final = 50
"""Simulated rollouts whose quantiles are held against the real ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is held against what."""

    folder: Path = FOLDER
    runs: int = RUNS
    seed: int = 1
    timing: str | None = None
    """None: the profile of the machine that made the newest kept run, and the runs of that machine."""
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
    told: int
    """Index of the real run whose events are told."""

    @property
    def median(self) -> int:
        """Index of the simulated run whose failures are the median."""
        return _median_of([rollout.n_failed for rollout in self.simulated])

    @cached_property
    def events(self) -> list[Pair]:
        return pairs(self.real[self.told], self.simulated[self.median])

    def events_table(self) -> Table:
        run, i = self.kept[self.told], self.median
        real, ours = self.real[self.told].n_failed, self.simulated[i].n_failed
        title = (
            f"{self.scenario.name}: real run {run.run} ({real:g} failed) and the simulated one with the median of "
            f"failures (seed {self.results[i].seed}, replication {self.results[i].replication}: {ours:g} failed)"
        )
        return events_table(self.events, title)

    def figure(self) -> "Figure":
        """The real timeline above the simulated one."""
        from sim.plots import plot_stacked  # noqa: PLC0415 - slow to import, and only needed here

        return plot_stacked(self.real[self.told].picture, self.results[self.median])

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
            "run": self.kept[self.told].run,
            "replication": self.results[self.median].replication,
            "events": [pair.to_json() for pair in self.events],
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
    InputError
        The run that *plan* names is not among them.
    """
    found = [
        run
        for run in observations.read_runs(scenario.name, plan.folder)
        if run.scenario_hash == scenario_hash(scenario) and not run.spoiled
    ]
    if not found:
        raise ReplayError(f"{plan.folder}: no kept run of {scenario.name} that nothing spoiled")
    timing = plan.timing or machines.profile_of(max(found, key=lambda run: run.date))
    kept = tuple(machines.made_there(found, timing))
    scenario = replace(scenario, timing=timing)
    profile = load_timing(timing, beside=scenario.source.parent)
    results = tuple(
        simulate(scenario, seed=plan.seed, replication=i, timing=profile) for i in range(plan.runs)
    )
    return Explained(
        scenario=scenario,
        kept=kept,
        real=tuple(of_recorded(run, scenario) for run in kept),
        results=results,
        simulated=tuple(of_simulated(result) for result in results),
        told=_told(kept, plan),
    )


def _told(kept: Sequence[Observation], plan: Plan) -> int:
    if plan.run is None:
        return _median_of([run.counted for run in kept])
    numbers = [run.run for run in kept]
    if plan.run not in numbers:
        raise InputError(
            f"--run {plan.run}: of {kept[0].scenario} these runs are kept and not spoiled: "
            f"{', '.join(map(str, numbers))}"
        )
    return numbers.index(plan.run)


def _median_of(counts: Sequence[float]) -> int:
    """Index of the median; of an even number the upper one. A tool that gave up counts nothing."""
    known = [i for i, count in enumerate(counts) if np.isfinite(count)] or list(range(len(counts)))
    return sorted(known, key=lambda i: counts[i])[len(known) // 2]
