"""Some settings of a scenario, replicated on all cores: what `diff` and `advise` compare."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from sim.errors import InputError
from sim.sweep.engines import Engine
from sim.sweep.files import ScenarioFiles
from sim.sweep.plan import RUNS_PER_UNIT
from sim.sweep.unit import Outcomes, Unit, run_unit, sets_json

Case = tuple[ScenarioFiles, Mapping[str, Any]]


def replicate(
    cases: Sequence[Case],
    *,
    runs: int,
    seed: int,
    engine: Engine,
    first: int = 0,
    progress: Callable[[int], None] = lambda _: None,
) -> list[Outcomes]:
    """Replications *first* … *first + runs - 1* of every case, the same random numbers in all of them.

    Raises
    ------
    InputError
        A case cannot be read or modelled.
    """
    per_case = -(-runs // RUNS_PER_UNIT)
    parts: dict[int, Outcomes] = {}
    n_done = 0
    for unit, outcomes in engine.map(run_unit, _units(cases, runs, seed, first)):
        if outcomes.error is not None:
            raise InputError(outcomes.error)
        parts[unit.index] = outcomes
        n_done += outcomes.n
        progress(n_done)
    return [
        _joined([parts[index] for index in range(case * per_case, (case + 1) * per_case)])
        for case in range(len(cases))
    ]


def _units(cases: Sequence[Case], runs: int, seed: int, first: int) -> Iterator[Unit]:
    index = 0
    for files, sets in cases:
        for start in range(0, runs, RUNS_PER_UNIT):
            yield Unit(
                index=index,
                files=files,
                sets=sets_json(sets),
                seed=seed,
                first=first + start,
                n=min(RUNS_PER_UNIT, runs - start),
            )
            index += 1


def _joined(parts: Sequence[Outcomes]) -> Outcomes:
    names = [entry.name for entry in fields(Outcomes) if entry.name != "error"]
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in names
    }
    return Outcomes(**columns)
