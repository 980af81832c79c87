"""Replications of one scenario, on every core where they take long: the same ones, in the same order."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from time import perf_counter
from typing import Final

from sim.errors import InputError
from sim.scenario.model import Scenario
from sim.scenario.timing import Timing
from sim.simulate import Result, simulate
from sim.sweep.engines import Flag, begin_worker, is_stopped
from sim.sweep.engines import n_cores as cores_of_this_process

AT_ONCE: Final = 10
"""So many are simulated here before it is known whether the rest takes long."""
PATIENCE_S: Final = 2.0
"""What is expected to take longer is shared among the cores."""
PIECES_PER_CORE: Final = 4


@dataclass(frozen=True, slots=True)
class Rollout:
    """What a prediction keeps of one replication."""

    n_failed: int
    n_requests: int
    n_retried: int
    rollout_s: float | None
    tool_failed: float | None
    """What the client's own report would print; None: it prints no such number."""
    tool_aborted: bool
    causes: dict[str, int]
    seen: dict[str, int]
    load_ended_too_soon: bool


def rollout_of(result: Result) -> Rollout:
    report = result.report
    return Rollout(
        n_failed=result.n_failed,
        n_requests=result.n_requests,
        n_retried=result.tally.n_retried,
        rollout_s=result.rollout_s,
        tool_failed=None if report is None else report.failed,
        tool_aborted=report is not None and report.aborted,
        causes=result.causes,
        seen=result.seen,
        load_ended_too_soon=result.load_ended_too_soon,
    )


@dataclass(frozen=True, slots=True)
class Replications:
    """Of *scenario*, each fixed by *seed* and its number."""

    scenario: Scenario
    seed: int
    timing: Timing

    def one(self, number: int) -> Rollout:
        return rollout_of(simulate(self.scenario, seed=self.seed, replication=number, timing=self.timing))

    def all(self, n: int, *, n_cores: int | None = None, done: Callable[[int], None]) -> list[Rollout]:
        """The first *n*; *done* hears how many there are.

        Parameters
        ----------
        n_cores : int, optional
            Default: as many as this process may use.
        """
        n_cores = _usable_cores() if n_cores is None else n_cores
        began_s, found = perf_counter(), list[Rollout]()
        numbers = iter(range(n))
        for number in islice(numbers, AT_ONCE if n_cores > 1 else n):
            found.append(self.one(number))
            done(len(found))
        rest = list(numbers)
        if (perf_counter() - began_s) / AT_ONCE * len(rest) <= PATIENCE_S:
            n_cores = 1
        for more in self._shared(rest, n_cores) if n_cores > 1 else ([self.one(each)] for each in rest):
            found += more
            done(len(found))
        return found

    def _shared(self, numbers: Sequence[int], n_cores: int) -> Iterator[list[Rollout]]:
        """In pieces, by forked processes: a scenario holds what cannot be sent to another one.

        Raises
        ------
        InputError
            A process was killed.
        """
        length = max(1, len(numbers) // (n_cores * PIECES_PER_CORE))
        pieces = [numbers[i : i + length] for i in range(0, len(numbers), length)]
        fork = multiprocessing.get_context("fork")
        stop: Flag = fork.RawValue("b", 0)
        with ProcessPoolExecutor(n_cores, mp_context=fork, initializer=_begin, initargs=(self, stop)) as pool:
            try:
                yield from pool.map(_play, pieces)
            except BrokenProcessPool:
                raise InputError("a process that simulates was killed; is there memory enough?") from None
            finally:
                stop.value = 1  # what runs gives up before its next replication


_mine: Replications | None = None


def _begin(replications: Replications, stop: Flag) -> None:
    global _mine  # noqa: PLW0603 - one a forked process, set once
    begin_worker(stop)
    _mine = replications


def _play(numbers: Sequence[int]) -> list[Rollout]:
    assert _mine is not None
    return [_mine.one(number) for number in numbers if not is_stopped()]


def _usable_cores() -> int:
    """One where processes cannot be forked safely (not Linux), or where this is one of several already."""
    if not sys.platform.startswith("linux") or multiprocessing.parent_process() is not None:
        return 1
    return cores_of_this_process()
