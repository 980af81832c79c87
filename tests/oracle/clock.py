"""Steps of many tasks in the order of their times, in plain Python: what SimPy's events would cost is the point.

A task is a generator. It yields the instant at which it wants to go on and gets back whether something else woke
it before. The caller says how far the clock may run, so nothing happens until somebody asks.
"""

from collections.abc import Generator
from heapq import heappop, heappush, heapreplace

Steps = Generator[float, bool | None, None]
NEVER = float("inf")


class Task:
    """One generator and the number of its only valid place in the queue."""

    __slots__ = ("place", "steps")

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.place = 0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0
        self.halted = False
        """Set by a task that ends everything: no further step is made."""
        self._queue: list[tuple[float, int, Task]] = []
        self._n = 0

    def start(self, steps: Steps) -> Task:
        """Begin *steps* now; they run up to their first wait."""
        task = Task(steps)
        self._resume(task, None)
        return task

    def poke(self, task: Task) -> None:
        """Wake *task* before its time."""
        self._resume(task, True)

    def advance(self, until_s: float) -> None:
        """Make every step that is due at *until_s*, in order."""
        queue = self._queue
        while queue and queue[0][0] <= until_s and not self.halted:
            entry = queue[0]
            at_s, place, task = entry
            if task.place != place:
                heappop(queue)
                continue
            self.now_s = at_s
            self._n = task.place = n = self._n + 1
            try:
                next_s = task.steps.send(None)
            except StopIteration:
                continue
            if task.place != n:
                continue
            if queue[0] is entry:
                heapreplace(queue, (next_s, n, task))
            else:
                heappush(queue, (next_s, n, task))
        if not self.halted:
            self.now_s = until_s

    @property
    def next_s(self) -> float:
        """When the next step is due."""
        queue = self._queue
        while queue and queue[0][2].place != queue[0][1]:
            heappop(queue)
        return queue[0][0] if queue else NEVER

    def _resume(self, task: Task, woken: bool | None) -> None:
        self._n = task.place = n = self._n + 1
        try:
            next_s = task.steps.send(woken)
        except StopIteration:
            return
        if task.place == n:
            heappush(self._queue, (next_s, n, task))
