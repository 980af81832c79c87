"""The piece of work that a worker gets: some replications of one point, and what became of them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.outcomes import Cause
from sim.prediction import Z95, wilson
from sim.scenario.model import Scenario
from sim.scenario.timing import Timing
from sim.simulate import Result, simulate
from sim.sweep.files import ScenarioFiles
from sim.world import Mark

CAUSES: Final = tuple(cause.value for cause in Cause)
MIN_RUNS: Final = 20
"""A width is first looked at after so many replications, and after every further so many."""
MAX_RUNS: Final = 10_000


class Stopped(Exception):
    """The user has ended the sweep: this unit is not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Until:
    """When a point has been replicated enough."""

    what: str
    """`interval`: of the mean of failed requests [requests]; `p_zero`: of the share without a failure."""
    width: float
    max_runs: int = MAX_RUNS

    def reached(self, failed: NDArray[np.int64]) -> bool:
        """Whether the 95 % confidence interval is as narrow as asked for."""
        n = len(failed)
        if n < MIN_RUNS or n % MIN_RUNS:
            return n >= self.max_runs
        if self.what == "p_zero":
            low, high = wilson(int(np.sum(failed == 0)), n)
            return high - low <= self.width or n >= self.max_runs
        width = 2 * Z95 * float(np.std(failed, ddof=1)) / np.sqrt(n)
        return bool(width <= self.width) or n >= self.max_runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Replications *first* … *first + n - 1* of one point, or with *until* as many as it takes."""

    index: int
    files: ScenarioFiles
    sets: str
    """JSON: [[path, value], …]"""
    seed: int
    first: int = 0
    n: int = 0
    until: Until | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcomes:
    """Arrays with one entry a replication; none, with *error*, where the point's settings are impossible."""

    replication: NDArray[np.int64]
    requests: NDArray[np.int64]
    failed: NDArray[np.int64]
    retried: NDArray[np.int64]
    tool_failed: NDArray[np.float64]
    """What the client's own report would print; NaN: no such number."""
    tool_aborted: NDArray[np.bool_]
    rollout_s: NDArray[np.float64]
    """NaN: never complete, or no update."""
    ended_too_soon: NDArray[np.bool_]
    extra_pods: NDArray[np.int64]
    """Most pods at one time, terminating ones too, above the number before the update."""
    causes: NDArray[np.int64]
    """Failed requests; shape (n, len(CAUSES))"""
    error: str | None = None

    @property
    def n(self) -> int:
        return len(self.failed)

    @property
    def clean(self) -> NDArray[np.bool_]:
        """Rollouts that were complete, failed no request, and had the load watching to their end."""
        return np.asarray((self.failed == 0) & ~np.isnan(self.rollout_s) & ~self.ended_too_soon)


def sets_json(sets: Mapping[str, Any]) -> str:
    """As a `Unit` holds them: in their order, which is that of their effect."""
    return json.dumps(list(sets.items()))


def run_unit(unit: Unit, stopped: Callable[[], bool] = lambda: False) -> Outcomes:
    """Replicate one point.

    Raises
    ------
    Stopped
        *stopped* said so between two replications.
    """
    try:
        scenario, timing = loaded(unit.files, unit.sets)
        rows = _replicate(unit, scenario, timing, stopped)
    except InputError as error:
        return outcomes_of([], error=str(error))
    return outcomes_of(rows)


@lru_cache(maxsize=8)
def loaded(files: ScenarioFiles, sets: str) -> tuple[Scenario, Timing]:
    """The scenario of a point; the units of one point mostly follow one another."""
    return files.load(dict(json.loads(sets)))


def _replicate(unit: Unit, scenario: Scenario, timing: Timing, stopped: Callable[[], bool]) -> list["Row"]:
    rows: list[Row] = []
    while not _enough(unit, rows):
        if stopped():
            raise Stopped
        result = simulate(scenario, seed=unit.seed, replication=unit.first + len(rows), timing=timing)
        rows.append(row_of(result))
    return rows


def _enough(unit: Unit, rows: Sequence["Row"]) -> bool:
    if unit.until is None:
        return len(rows) >= unit.n
    return unit.until.reached(np.array([row.failed for row in rows], dtype=np.int64))


class Row(NamedTuple):
    """One replication, as a row of the results."""

    replication: int
    requests: int
    failed: int
    retried: int
    tool_failed: float
    tool_aborted: bool
    rollout_s: float
    ended_too_soon: bool
    extra_pods: int
    causes: list[int]


def row_of(result: Result) -> Row:
    printed = result.report
    return Row(
        replication=result.replication,
        requests=result.n_requests,
        failed=result.n_failed,
        retried=result.tally.n_retried,
        tool_failed=np.nan if printed is None else float(printed.failed),
        tool_aborted=printed is not None and printed.aborted,
        rollout_s=np.nan if result.rollout_s is None else result.rollout_s,
        ended_too_soon=bool(result.scenario.updates) and result.load_ended_too_soon,
        extra_pods=_extra_pods(result.marks),
        causes=[result.causes.get(name, 0) for name in CAUSES],
    )


def _extra_pods(marks: Sequence[Mark]) -> int:
    steps = {"created": 1, "removed": -1}
    more = most = 0
    for mark in marks:
        more += steps.get(mark.what, 0)
        most = max(most, more)
    return most


def outcomes_of(rows: Sequence[Row], *, error: str | None = None) -> Outcomes:
    def column(name: str, kind: Any) -> NDArray[Any]:
        return np.array([getattr(row, name) for row in rows], dtype=kind)

    return Outcomes(
        replication=column("replication", np.int64),
        requests=column("requests", np.int64),
        failed=column("failed", np.int64),
        retried=column("retried", np.int64),
        tool_failed=column("tool_failed", np.float64),
        tool_aborted=column("tool_aborted", np.bool_),
        rollout_s=column("rollout_s", np.float64),
        ended_too_soon=column("ended_too_soon", np.bool_),
        extra_pods=column("extra_pods", np.int64),
        causes=column("causes", np.int64).reshape(len(rows), len(CAUSES)),
        error=error,
    )
