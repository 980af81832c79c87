"""A small event loop for load clients: timers of microseconds, one-shot epoll, deadlines in queues.

asyncio does the same at about four times the cost per request, and rounds its waits up to a millisecond.
"""

import heapq
import itertools
import select
import time
import types
from collections import deque
from collections.abc import Coroutine, Generator

SWEEP_S = 0.01
"""How often deadlines are looked at: a time-out is noticed that much late at most."""
Task = Coroutine[None, None, None]


@types.coroutine
def _suspend() -> Generator[None, None, None]:
    yield


class Loop:
    """Runs coroutines that wait only through `sleep_until` and `ready`."""

    def __init__(self) -> None:
        self._epoll = select.epoll()  # first, so that its number is low enough for select()
        self._registered: set[int] = set()
        self._timers: list[tuple[float, int, Task]] = []
        self._waiting: dict[int, tuple[int, Task]] = {}
        self._deadlines: dict[float, deque[tuple[float, int, int]]] = {}
        self._started: deque[Task] = deque()
        self._order = itertools.count()
        self._current: Task | None = None
        self._n_tasks = 0
        self.now = time.monotonic

    def start(self, task: Task) -> None:
        """Run *task* from the next turn on."""
        self._n_tasks += 1
        self._started.append(task)

    def run(self) -> None:
        """Run until every task has ended; an exception of a task ends the run."""
        next_sweep_s = self.now() + SWEEP_S
        while self._n_tasks:
            while self._started:
                self._step(self._started.popleft())
            now_s = self.now()
            if now_s >= next_sweep_s:
                self._sweep(now_s)
                next_sweep_s = now_s + SWEEP_S
            due = []
            while self._timers and self._timers[0][0] <= now_s:
                due.append(heapq.heappop(self._timers)[2])
            for task in due:  # what they add is for the next turn: sockets have theirs too
                self._step(task)
            if self._started or not self._n_tasks:
                continue
            until_s = min(self._timers[0][0], next_sweep_s) if self._timers else next_sweep_s
            select.select([self._epoll], [], [], max(until_s - self.now(), 0.0))
            for descriptor, _ in self._epoll.poll(0):
                if waiting := self._waiting.pop(descriptor, None):
                    self._step(waiting[1])
        self._epoll.close()

    async def sleep_until(self, at_s: float) -> None:
        """Wait until the loop's clock shows *at_s*."""
        assert self._current is not None
        heapq.heappush(self._timers, (at_s, next(self._order), self._current))
        await _suspend()

    async def ready(self, descriptor: int, events: int, *, until_s: float, timeout_s: float) -> None:
        """Wait for *events* on a descriptor.

        *timeout_s* names the queue of the deadline: within one time-out deadlines come in order.

        Raises
        ------
        TimeoutError
            Nothing until *until_s*.
        """
        assert self._current is not None
        token = next(self._order)
        self._waiting[descriptor] = (token, self._current)
        self._deadlines.setdefault(timeout_s, deque()).append((until_s, descriptor, token))
        if descriptor in self._registered:
            self._epoll.modify(descriptor, events | select.EPOLLONESHOT)
        else:
            self._epoll.register(descriptor, events | select.EPOLLONESHOT)
            self._registered.add(descriptor)
        await _suspend()

    def forget(self, descriptor: int) -> None:
        """The descriptor is about to be closed."""
        self._registered.discard(descriptor)
        self._waiting.pop(descriptor, None)

    def _sweep(self, now_s: float) -> None:
        for queue in self._deadlines.values():
            while queue:
                until_s, descriptor, token = queue[0]
                waiting = self._waiting.get(descriptor)
                over = waiting is None or waiting[0] != token
                if not over and until_s > now_s:
                    break
                queue.popleft()
                if not over and waiting is not None:
                    del self._waiting[descriptor]
                    self._step(waiting[1], TimeoutError())

    def _step(self, task: Task, error: BaseException | None = None) -> None:
        self._current = task
        try:
            if error is None:
                task.send(None)
            else:
                task.throw(error)
        except StopIteration:
            self._n_tasks -= 1
