"""How long each step of a rollout takes: real runs against simulated ones, to see where the model is wrong."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from sim.lanes import ServerState
from sim.outcomes import Cause
from validation.lives import Life, Moment, Rollout

M = Moment
QUANTILES: Final = (0.05, 0.5, 0.95)
FEWEST_RUNS: Final = 3
"""A median of fewer real values convicts nobody."""
STRAGGLER_S: Final = 0.3
"""How long after a change of the rules a request may still be on its way to the old address."""


@dataclass(frozen=True, slots=True)
class Step:
    """A quantity that a rollout has none, one or several of."""

    name: str
    values: Callable[[Rollout], Iterator[float]]
    unit: str = "s"


def _between(first: Moment, then: Moment) -> Step:
    """Of each pod that saw both. Negative where *then* came first."""

    def values(rollout: Rollout) -> Iterator[float]:
        for life in rollout.lives:
            if first in life.at_s and then in life.at_s:
                yield life.at_s[then] - life.at_s[first]

    return Step(f"{first.value} → {then.value}", values)


def _first_after_update(moment: Moment, lives: Callable[[Rollout], list[Life]], name: str) -> Step:
    def values(rollout: Rollout) -> Iterator[float]:
        found = [life.at_s[moment] for life in lives(rollout) if moment in life.at_s]
        if found:
            yield min(found) - rollout.updated_s

    return Step(name, values)


def _ready_to_deleted(rollout: Rollout) -> Iterator[float]:
    """From the last new pod that became Ready before a deletion; deletions before the first have none."""
    ready_s = sorted(life.at_s[M.READY] for life in rollout.new if M.READY in life.at_s)
    for life in rollout.old:
        before = [at_s for at_s in ready_s if at_s <= life.at_s.get(M.DELETED, -1.0)]
        if before:
            yield life.at_s[M.DELETED] - before[-1]


def _deleted_to_created(rollout: Rollout) -> Iterator[float]:
    """From the last deletion before a creation."""
    deleted_s = sorted(life.at_s[M.DELETED] for life in rollout.old if M.DELETED in life.at_s)
    for life in rollout.new:
        before = [at_s for at_s in deleted_s if at_s <= life.at_s.get(M.CREATED, -1.0)]
        if before:
            yield life.at_s[M.CREATED] - before[-1]


def _rule_spacing(rollout: Rollout) -> Iterator[float]:
    for one, other in pairwise(rollout.rules_s):
        yield other - one


def _complete(rollout: Rollout) -> Iterator[float]:
    if rollout.rollout_s is not None:
        yield rollout.rollout_s


def _last_silent(rollout: Rollout) -> Iterator[float]:
    silent_s = [life.at_s[M.SILENT] for life in rollout.old if M.SILENT in life.at_s]
    if silent_s:
        yield max(silent_s) - rollout.updated_s


def _server_down(rollout: Rollout) -> Iterator[float]:
    """From the update to HAProxy's first DOWN, of each of its server lines."""
    for lane in rollout.picture.servers:
        down = [s.from_s for s in lane.states if s.state is ServerState.DOWN and s.from_s > rollout.updated_s]
        if down:
            yield down[0] - rollout.updated_s


def _server_down_for(rollout: Rollout) -> Iterator[float]:
    for lane in rollout.picture.servers:
        for span in lane.states:
            ends = span.to_s < rollout.picture.ended_s
            if span.state is ServerState.DOWN and span.from_s > rollout.updated_s and ends:
                yield span.to_s - span.from_s


def _failing(rollout: Rollout) -> list[float]:
    return [at_s for failed in rollout.picture.failed for at_s in (failed.from_s, failed.to_s)]


def _first_failure(rollout: Rollout) -> Iterator[float]:
    if found := _failing(rollout):
        yield min(found) - rollout.updated_s


def _failing_for(rollout: Rollout) -> Iterator[float]:
    if found := _failing(rollout):
        yield max(found) - min(found)


def _last_refused(rollout: Rollout) -> Iterator[float]:
    """Of each pod that ended before its rule: the last request that was sent there in vain, to the change.

    Only while the address answers with RST; where recorder and clients agree it is next to nothing.
    """
    refused_s = sorted(
        failed.to_s for failed in rollout.picture.failed if failed.cause == Cause.STALE_ENDPOINT_REFUSED.value
    )
    for life in rollout.old:
        exited_s, unrouted_s = life.at_s.get(M.EXITED), life.at_s.get(M.UNROUTED)
        if exited_s is None or unrouted_s is None:
            continue
        if not exited_s < unrouted_s < life.at_s.get(M.SILENT, float("inf")):
            continue
        mine = [at_s for at_s in refused_s if exited_s <= at_s <= unrouted_s + STRAGGLER_S]
        if mine:
            yield unrouted_s - mine[-1]


def _request_rate(rollout: Rollout) -> Iterator[float]:
    if np.isfinite(rollout.n_failed):
        yield rollout.n_requests / rollout.load_s


def _failed(rollout: Rollout) -> Iterator[float]:
    if np.isfinite(rollout.n_failed):
        yield rollout.n_failed


STEPS: Final = (
    _first_after_update(M.CREATED, lambda r: r.new, "update → first pod created"),
    _first_after_update(M.DELETED, lambda r: r.old, "update → first pod deleted"),
    Step("deletion → next creation", _deleted_to_created),
    _between(M.CREATED, M.STARTED),
    _between(M.STARTED, M.LISTED),
    _between(M.STARTED, M.READY),
    _between(M.CREATED, M.READY),
    _between(M.READY, M.PUBLISHED),
    _between(M.PUBLISHED, M.ROUTED),
    _between(M.READY, M.ROUTED),
    Step("Ready → next deletion", _ready_to_deleted),
    _between(M.DELETED, M.WITHDRAWN),
    _between(M.WITHDRAWN, M.UNROUTED),
    _between(M.DELETED, M.UNROUTED),
    Step("rules changed → changed again", _rule_spacing),
    _between(M.DELETED, M.UNREADY),
    _between(M.DELETED, M.SIGNALLED),
    _between(M.SIGNALLED, M.EXITED),
    _between(M.DELETED, M.EXITED),
    _between(M.EXITED, M.SILENT),
    _between(M.EXITED, M.UNROUTED),
    _between(M.SILENT, M.UNROUTED),
    _between(M.SILENT, M.UNLISTED),
    _between(M.SILENT, M.REMOVED),
    Step("update → server DOWN in HAProxy", _server_down),
    Step("server DOWN for", _server_down_for),
    Step("update → complete", _complete),
    Step("update → last old address silent", _last_silent),
    Step("update → first failure", _first_failure),
    Step("first failure → last failure", _failing_for),
    Step("last refused → out of the rules", _last_refused),
    Step("requests per second", _request_rate, "1/s"),
    Step("failed requests", _failed, ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepComparison:
    """One step in real and in simulated runs."""

    step: Step
    real: NDArray[np.float64]
    simulated: NDArray[np.float64]

    @property
    def off(self) -> int:
        """The real median outside the model's 5 to 95 %: -1 below, 1 above; 0 inside, or nothing to say."""
        if len(self.real) < FEWEST_RUNS or not len(self.simulated):
            return 0
        low, _, high = np.quantile(self.simulated, QUANTILES)
        median = np.median(self.real)
        return int(median > high) - int(median < low)

    def to_json(self) -> dict[str, Any]:
        return {
            "step": self.step.name,
            "unit": self.step.unit,
            "real": _json(self.real),
            "model": _json(self.simulated),
            "off": self.off,
        }


def _json(values: NDArray[np.float64]) -> dict[str, Any] | None:
    if not len(values):
        return None
    low, median, high = (round(float(q), 4) for q in np.quantile(values, QUANTILES))
    return {"n": len(values), "q05": low, "median": median, "q95": high}


def compare_steps(real: Sequence[Rollout], simulated: Sequence[Rollout]) -> list[StepComparison]:
    """Every step that either side has, pooled over the pods of all runs."""
    compared = [
        StepComparison(step=step, real=_pooled(step, real), simulated=_pooled(step, simulated))
        for step in STEPS
    ]
    return [each for each in compared if len(each.real) or len(each.simulated)]


def _pooled(step: Step, rollouts: Sequence[Rollout]) -> NDArray[np.float64]:
    return np.array([value for rollout in rollouts for value in step.values(rollout)], dtype=float)


def steps_table(compared: Sequence[StepComparison], title: str) -> Table:
    """One line a step: 5 %, median and 95 % of real runs and of the model."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("step", no_wrap=True)
    for side in ("real", "model"):
        table.add_column("n", justify="right")
        for name in (f"{side} 5 %", "median", "95 %"):
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("")
    for each in compared:
        signs = {-1: "model too high", 0: "", 1: "model too low"}
        cells = [*_cells(each.real), *_cells(each.simulated)]
        table.add_row(each.step.name, *cells, signs[each.off], style="bold" if each.off else None)
    return table


def off_table(by_scenario: Mapping[str, Sequence[StepComparison]]) -> Table:
    """One line a step: in how many scenarios the model has it too low or too high, and in which."""
    table = Table(title="Steps that are off", title_justify="left", box=None, padding=(0, 1))
    table.add_column("step", no_wrap=True)
    for name in ("told in", "too low in", "too high in", "model less real, median"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("scenarios")
    for step in STEPS:
        told = {
            scenario: each
            for scenario, compared in by_scenario.items()
            for each in compared
            if each.step is step and len(each.real) >= FEWEST_RUNS and len(each.simulated)
        }
        off = {scenario: each for scenario, each in told.items() if each.off}
        if off:
            too_low = sum(each.off > 0 for each in off.values())
            differences = [float(np.median(each.simulated) - np.median(each.real)) for each in told.values()]
            middle = f"{np.median(differences):+.3f}"
            counts = str(len(told)), str(too_low), str(len(off) - too_low)
            table.add_row(step.name, *counts, middle, ", ".join(off))
    return table


def _cells(values: NDArray[np.float64]) -> list[str]:
    if not len(values):
        return ["–"] * 4
    return [str(len(values)), *(_short(float(q)) for q in np.quantile(values, QUANTILES))]


def _short(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
