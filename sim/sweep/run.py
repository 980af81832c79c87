"""A sweep from its plan to its file: what is missing is worked on, what is finished is kept at once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from sim.errors import InputError
from sim.sweep.engines import Engine
from sim.sweep.plan import Plan
from sim.sweep.store import Store, store
from sim.sweep.unit import Outcomes, run_unit

KEEP_EVERY_S: Final = 1.0
KEEP_SHARE: Final = 0.01
"""Or after this share of the time that the sweep has taken so far: a long one has hundreds of parts, not 10⁵."""
KEEP_ROWS: Final = 50_000
KEEP_UNITS: Final = 4_000
"""Or so much: what waits in memory is bounded."""
N_TRIED: Final = 10

Progress = Callable[[int], None]
"""Called with the number of units that are kept, those of earlier calls too; at once with these alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """What a call of `run` has done."""

    n_points: int
    n_units_before: int
    """Units that an earlier call had finished."""
    n_units: int


def run(
    plan: Plan,
    out: Path,
    engine: Engine,
    *,
    overwrite: bool = False,
    progress: Progress = lambda _: None,
) -> Swept:
    """Work on every unit of *plan* that *out* and its parts do not hold yet, then write *out*.

    Ctrl-C (KeyboardInterrupt) passes through: what is finished by then is kept, and the same call goes on.

    Raises
    ------
    InputError
        A parameter's path leads nowhere, *out* holds something else, the disk is full, a cluster is lost.
    """
    with store(plan, out, overwrite=overwrite) as kept:
        before = int(kept.done.sum())
        if before == 0:
            check(plan)
        if not kept.complete:
            if before < plan.n_units:
                _work(plan, kept, engine, progress)
            kept.finish()
    return Swept(n_points=plan.n_points, n_units_before=before, n_units=plan.n_units)


def _work(plan: Plan, kept: Store, engine: Engine, progress: Progress) -> None:
    missing = (plan.unit(int(index)) for index in np.flatnonzero(~kept.done))
    n_done = int(kept.done.sum())
    waiting: dict[int, Outcomes] = {}
    n_rows = 0
    begun_s = kept_s = time.monotonic()
    progress(n_done)
    try:
        for unit, outcomes in engine.map(run_unit, missing):
            waiting[unit.index] = outcomes
            now_s = time.monotonic()
            n_rows += outcomes.n
            keep_every_s = max(KEEP_EVERY_S, KEEP_SHARE * (now_s - begun_s))
            if now_s - kept_s >= keep_every_s or n_rows >= KEEP_ROWS or len(waiting) >= KEEP_UNITS:
                kept.write(waiting)
                n_done += len(waiting)
                progress(n_done)  # what was said to be done is there, whatever ends this process
                waiting, n_rows = {}, 0
                kept_s = time.monotonic()
    finally:
        kept.write(waiting)
        progress(n_done + len(waiting))


def check(plan: Plan) -> None:
    """Refuse a parameter none of whose values can be set: its path leads nowhere.

    Raises
    ------
    InputError
        With the line of its first value. A value that is impossible only beside others is a row of the results.
    """
    try:
        plan.files.load(plan.sets_at(0))
    except InputError:
        for parameter in plan.parameters:
            choices = parameter.choices[:N_TRIED] or (parameter.at(0.0),)
            complaints = []
            for choice in choices:
                try:
                    plan.files.load({**plan.sets, **dict(choice.sets)})
                except InputError as error:
                    complaints.append(error)
            if len(complaints) == len(choices):
                raise complaints[0] from None
