"""The search: combinations from the cheapest on, each dropped as soon as it fails too often.

1. A screen of a few rollouts, the same random numbers for every change; those that have failed others most
   come first, so that most changes cost two or three rollouts.
2. What passes is confirmed on rollouts of its own, which no change was chosen by: P(none fails) reaches the
   target with the confidence asked for (exact lower bound), or the search goes on.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np

from sim.advise.options import Change
from sim.bounds import lower_bound, misses_allowed, runs_needed, screen_allows
from sim.comparison import Comparison, compare
from sim.errors import InputError
from sim.simulate import Result, simulate
from sim.sweep.engines import Engine
from sim.sweep.files import ScenarioFiles
from sim.sweep.replicate import replicate
from sim.sweep.unit import CAUSES, Outcomes, Stopped, loaded, sets_json

MAX_CONFIRMED: Final = 20
"""Changes that pass the screen and are not confirmed, before the search gives up."""
SCREEN_RUNS: Final = 30
SCREEN_FALSE_ALARM: Final = 0.01
BATCH: Final = 32
BASE_RUNS: Final = 100
"""Rollouts by which a change is held against the scenario as it is."""
FRESH: Final = 1_000_000
"""Replications from here on confirm; none of them was ever searched with."""
STEP: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    target: float = 0.99
    confidence: float = 0.95
    runs: int = 500
    """Rollouts that confirm a change, at least."""

    @property
    def confirming(self) -> int:
        return max(self.runs, runs_needed(self.target, self.confidence))


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    n: int
    n_zero: int
    lower: float
    """P(none fails) is at least this, with the goal's confidence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """What the search has found."""

    now: Outcomes
    n_tried: int
    n_changes: int
    change: Change | None = None
    """The cheapest that reaches the goal; without options: the scenario does as it is. None: nothing does."""
    confirmed: Confirmed | None = None
    closest: Change | None = None
    """Where nothing reaches it: what came closest."""
    comparison: Comparison | None = None
    """Of the change, or of what came closest, against the scenario as it is."""
    remaining: Mapping[str, float] = field(default_factory=dict)
    """Mean failed requests by cause, after that."""


def advise(
    files: ScenarioFiles,
    sets: Mapping[str, Any],
    found: Sequence[Change],
    goal: Goal,
    *,
    seed: int,
    engine: Engine,
    progress: Callable[[int], None] = lambda _: None,
) -> Advice:
    """Search *found*, which is sorted by price, for the first that reaches *goal*.

    Raises
    ------
    InputError
        The scenario as it is cannot be modelled.
    """
    [now] = replicate([(files, sets)], runs=BASE_RUNS, seed=seed, engine=engine)
    hunt = _Hunt(files, sets, goal, seed, engine)
    advice = partial(Advice, now=now, n_changes=len(found))
    as_it_is = Change(())
    if now.clean.mean() >= goal.target and (sure := hunt.confirm(as_it_is)) is not None:
        return advice(change=as_it_is, confirmed=sure, n_tried=0)
    for number, change in enumerate(hunt.screened(found, progress), start=1):
        if (sure := hunt.confirm(change)) is not None:
            comparison, left = hunt.hold(now, change)
            return advice(
                change=change, confirmed=sure, comparison=comparison, remaining=left, n_tried=hunt.n_tried
            )
        if number >= MAX_CONFIRMED:
            break
    closest = hunt.closest()
    if closest is None:
        return advice(remaining=_means(now), n_tried=hunt.n_tried)
    comparison, left = hunt.hold(now, closest)
    return advice(closest=closest, comparison=comparison, remaining=left, n_tried=hunt.n_tried)


# ---------------------------------------------------------------- one change


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What a worker gets to screen."""

    index: int
    files: ScenarioFiles
    sets: str
    seed: int
    replications: tuple[int, ...]
    n_allowed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What became of a candidate, up to where it was dropped."""

    n: int
    failing: tuple[int, ...]
    """Replications that were not clean."""
    mean_failed: float
    impossible: bool = False


def screen(candidate: Candidate, stopped: Callable[[], bool] = lambda: False) -> Screened:
    """Replicate until too many rollouts have failed a request."""
    failing: list[int] = []
    failed: list[int] = []
    try:
        scenario, timing = loaded(candidate.files, candidate.sets)
        for replication in candidate.replications:
            if stopped():
                raise Stopped
            result = simulate(scenario, seed=candidate.seed, replication=replication, timing=timing)
            failed.append(result.n_failed)
            if not is_clean(result):
                failing.append(replication)
            if len(failing) > candidate.n_allowed:
                break
    except InputError:
        return Screened(n=0, failing=(), mean_failed=float("inf"), impossible=True)
    return Screened(n=len(failed), failing=tuple(failing), mean_failed=float(np.mean(failed)))


def is_clean(result: Result) -> bool:
    """Complete, no request failed, and the load lasted until the last old pod was gone."""
    return result.n_failed == 0 and result.rollout_s is not None and not result.load_ended_too_soon


class _Hunt:
    """One search: what it has tried, and which replications are the hard ones."""

    def __init__(
        self, files: ScenarioFiles, sets: Mapping[str, Any], goal: Goal, seed: int, engine: Engine
    ) -> None:
        self._files, self._sets, self._goal, self._seed, self._engine = files, sets, goal, seed, engine
        self._hard: Counter[int] = Counter()
        self._tried: list[tuple[Change, Screened]] = []

    @property
    def n_tried(self) -> int:
        return len(self._tried)

    def screened(self, found: Sequence[Change], progress: Callable[[int], None]) -> Iterator[Change]:
        """The changes that pass the screen, in the order of *found*."""
        allowed = screen_allows(SCREEN_RUNS, self._goal.target, SCREEN_FALSE_ALARM)
        rest = iter(found)
        progress(0)
        while batch := list(itertools.islice(rest, BATCH)):
            order = tuple(sorted(range(SCREEN_RUNS), key=lambda r: -self._hard[r]))
            results: dict[int, Screened] = {}
            for candidate, result in self._engine.map(screen, self._candidates(batch, order, allowed)):
                results[candidate.index] = result
                progress(self.n_tried + len(results))
            for index, change in enumerate(batch):
                result = results[index]
                self._hard.update(result.failing)
                self._tried.append((change, result))
            for index, change in enumerate(batch):
                if not results[index].impossible and len(results[index].failing) <= allowed:
                    yield change

    def _candidates(
        self, batch: Sequence[Change], order: tuple[int, ...], allowed: int
    ) -> Iterator[Candidate]:
        for index, change in enumerate(batch):
            yield Candidate(
                index=index,
                files=self._files,
                sets=sets_json({**self._sets, **change.sets}),
                seed=self._seed,
                replications=order,
                n_allowed=allowed,
            )

    def confirm(self, change: Change) -> Confirmed | None:
        """On fresh replications; None as soon as it has failed too often."""
        goal, n = self._goal, self._goal.confirming
        allowed = misses_allowed(n, goal.target, goal.confidence)
        n_zero = n_done = 0
        while n_done < n:
            step = min(STEP, n - n_done)
            outcomes = self._replicate(change, runs=step, first=FRESH + n_done)
            n_done += step
            n_zero += int(np.sum(outcomes.clean))
            if n_done - n_zero > allowed:
                return None
        return Confirmed(n=n, n_zero=n_zero, lower=lower_bound(n_zero, n, goal.confidence))

    def hold(self, now: Outcomes, change: Change) -> tuple[Comparison, dict[str, float]]:
        """*change* against the scenario as it is, on the same random numbers; the causes that are left."""
        then = self._replicate(change, runs=now.n)
        return compare(now, then), _means(then)

    def closest(self) -> Change | None:
        """The change that failed the smallest share of its rollouts, then the fewest requests."""
        possible = [(change, result) for change, result in self._tried if result.n]
        if not possible:
            return None
        return min(possible, key=lambda each: (len(each[1].failing) / each[1].n, each[1].mean_failed))[0]

    def _replicate(self, change: Change, *, runs: int, first: int = 0) -> Outcomes:
        case = (self._files, {**self._sets, **change.sets})
        [outcomes] = replicate([case], runs=runs, seed=self._seed, engine=self._engine, first=first)
        return outcomes


def _means(outcomes: Outcomes) -> dict[str, float]:
    means = {name: float(outcomes.causes[:, index].mean()) for index, name in enumerate(CAUSES)}
    return dict(sorted(((n, m) for n, m in means.items() if m > 0), key=lambda item: -item[1]))
