"""Sliders for one scenario: each change draws a rollout at once and counts many more while you look.

Every control is an override, as `--set` takes them; the picture is of one rollout, the numbers of many. The
same seed throughout: what differs between two settings is the setting.
"""

import asyncio
import gc
import io
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from time import perf_counter

import ipywidgets as widgets
import numpy as np
from matplotlib import rc_context

from sim import InputError, load_one, simulate
from sim.plots import plot_key, plot_timeline
from sim.prediction import prediction_interval
from sim.scenario.model import Scenario
from sim.scenario.timing import load_timing

RUNS = int(os.environ.get("ROLLSIM_NOTEBOOK_RUNS", "200"))
CHUNK = 4
"""Rollouts that a process simulates before it reports."""
AT_ONCE = CHUNK
"""So many are counted while the picture is drawn; the others would slow it."""
COLLECTS_AFTER = (50_000, 50, 50)
"""Python's collector looks at a rollout's objects once a rollout or so, not dozens of times."""
SEED = 0

Sets = tuple[str, ...]
Counted = list[tuple[int, dict[str, int]]]
"""Failed requests of each rollout, and by cause."""


@lru_cache(maxsize=64)
def _scenario(path: str, sets: Sets) -> Scenario:
    return load_one(path, sets)


@lru_cache(maxsize=8)
def _timing(name: str, beside: Path):
    return load_timing(name, beside=beside)


def count_failed(path: str, sets: Sets, first: int, n: int) -> Counted:
    """Replications *first* … *first* + *n* - 1; runs in a process of its own."""
    scenario = _scenario(path, sets)
    timing = _timing(scenario.timing, scenario.source.parent)
    results = [simulate(scenario, seed=SEED, replication=i, timing=timing) for i in range(first, first + n)]
    return [(result.n_failed, result.causes) for result in results]


def _svg(figure) -> bytes:
    """Takes half the time of a bitmap: the browser draws the letters."""
    out = io.BytesIO()
    with rc_context({"svg.fonttype": "none"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _start_worker() -> None:
    """Behind the picture in turn, deaf to the kernel's interrupts, and gone when the kernel is."""
    os.nice(10)
    _tidy_up()
    gc.set_threshold(*COLLECTS_AFTER)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_kernel, daemon=True).start()


def _tidy_up() -> None:
    """While nobody waits: a look through all that a notebook has loaded takes as long as a picture."""
    gc.collect()
    gc.freeze()


def _end_with_kernel() -> None:
    parent_process().join()
    os._exit(0)


class Control:
    """A widget and what its value sets."""

    def __init__(self, widget: widgets.Widget, sets: Callable[[object], Sequence[str]]) -> None:
        self.widget = widget
        self._sets = sets

    @property
    def sets(self) -> Sequence[str]:
        return self._sets(self.widget.value)


class Explorer:
    """A scenario under controls. Show `panel` in a cell; `await settled()` waits for all rollouts."""

    def __init__(
        self, path: str | Path, controls: Mapping[str, Control], *, base: Sequence[str] = ()
    ) -> None:
        self._path, self._base = str(path), tuple(base)
        self.controls = controls
        self.picture = widgets.Image(format="svg+xml")
        self.numbers = widgets.HTML()
        self.counts: list[int] = []
        self.change_s = 0.0
        """What the last change took until picture and mean stood there."""
        self.interval_s = 0.0
        """… and until all rollouts were counted."""
        self._causes: Counter[str] = Counter()
        self._futures: list[Future[Counted]] = []
        self._gathering: asyncio.Task[None] | None = None
        self._pool = ProcessPoolExecutor(
            os.cpu_count(), mp_context=get_context("spawn"), initializer=_start_worker
        )
        for control in controls.values():
            control.widget.observe(lambda _: self.change(), names="value")
        self.panel = widgets.VBox(
            [widgets.HBox([c.widget for c in controls.values()], layout={"flex_flow": "row wrap"})]
            + [self.numbers, self.picture, widgets.Image(value=_svg(plot_key()), format="svg+xml")]
        )
        self.change()

    @property
    def sets(self) -> Sets:
        """The overrides of the controls as they stand: what to give `rollsim predict --set`."""
        return (*self._base, *(each for control in self.controls.values() for each in control.sets))

    @property
    def mean(self) -> float:
        return float(np.mean(self.counts))

    def change(self) -> None:
        """Draw one rollout of today's settings and start counting the others."""
        self._began_s = perf_counter()
        self._stop()
        sets = self.sets
        try:
            scenario = _scenario(self._path, sets)
        except InputError as error:
            self.numbers.value = f"<b>{error}</b>"
            return
        self._submit(sets, range(1, 1 + AT_ONCE, CHUNK))
        shown = simulate(scenario, seed=SEED, timing=_timing(scenario.timing, scenario.source.parent))
        self.counts, self._causes = [shown.n_failed], Counter(shown.causes)
        self.figure = plot_timeline(shown, key=False)
        self.picture.value = _svg(self.figure)
        self._submit(sets, range(1 + AT_ONCE, RUNS, CHUNK))
        waiting = []
        for future in self._futures:
            if future.done():
                self._take(future.result())
            else:
                waiting.append(future)
        self._tell()
        self.change_s = perf_counter() - self._began_s
        try:
            self._gathering = asyncio.get_running_loop().create_task(self._gather(waiting))
        except RuntimeError:  # outside a kernel nobody waits for more
            self._gathering = None

    async def settled(self) -> None:
        """All rollouts of the last change are counted."""
        if self._gathering is not None:
            await self._gathering

    async def _gather(self, waiting: Sequence[Future[Counted]]) -> None:
        for each in asyncio.as_completed([asyncio.wrap_future(future) for future in waiting]):
            self._take(await each)
            self._tell()
        self.interval_s = perf_counter() - self._began_s
        _tidy_up()

    def _submit(self, sets: Sets, firsts: range) -> None:
        self._futures += [
            self._pool.submit(count_failed, self._path, sets, first, min(CHUNK, RUNS - first))
            for first in firsts
        ]

    def _stop(self) -> None:
        if self._gathering is not None:
            self._gathering.cancel()
        for future in self._futures:
            future.cancel()
        self._futures = []

    def _take(self, counted: Counted) -> None:
        for n_failed, causes in counted:
            self.counts.append(n_failed)
            self._causes.update(causes)

    def _tell(self) -> None:
        n = len(self.counts)
        low, high = prediction_interval(np.array(self.counts))
        none = np.mean(np.array(self.counts) == 0)
        most = sorted(self._causes.items(), key=lambda each: (-each[1], each[0]))[:4]
        causes = ", ".join(f"{cause} {total / n:.1f}" for cause, total in most)
        self.numbers.value = (
            f"<b>{self.mean:.1f}</b> failed requests in the mean"
            f" &nbsp; 95 %: {low:.0f} to {high:.0f} &nbsp; none fails: {none:.0%} &nbsp; {causes}"
            f" &nbsp; <small>({n} rollouts)</small>"
        )
