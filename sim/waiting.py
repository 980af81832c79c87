"""What a process waits for: the next time that something happens, a time that others may cut short, its turn.

They cost one event of SimPy, or none, where its conditions (`a | b`) and resources cost three, and waits are most of
what a rollout costs.
"""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, Self

import simpy

NEVER: Final = float("inf")


class Change:
    """Something that happens again and again."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._next = simpy.Event(env)

    @property
    def next(self) -> simpy.Event:
        """Its next time, for whoever waits from now on."""
        return self._next

    def happens(self) -> None:
        """Wake all who wait."""
        if self._next.callbacks:
            happened, self._next = self._next, simpy.Event(self._env)
            happened.succeed()


class Nap:
    """One process asleep, until its time is over or it is woken."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._asleep: simpy.Event | None = None

    def begin(self, for_s: float) -> simpy.Event:
        """What to yield. Its value: True when the time is over, False when woken before. [s]"""
        endless = for_s == NEVER
        self._asleep = simpy.Event(self._env) if endless else simpy.Timeout(self._env, max(0.0, for_s), True)
        return self._asleep

    def wake(self) -> None:
        """End it now; nothing happens to one that is over."""
        if self._asleep is not None and self._asleep.callbacks:
            woken = simpy.Event(self._env)
            woken.callbacks, self._asleep.callbacks = self._asleep.callbacks, []
            woken.succeed(value=False)
            self._asleep = None


def later(env: simpy.Environment, after_s: float, do: Callable[[], None]) -> None:
    """Call *do* when that time is over: one event, and no process. [s]"""
    timeout = simpy.Timeout(env, after_s)
    assert timeout.callbacks is not None
    timeout.callbacks.append(lambda _: do())


class Turn:
    """One at a time, in the order in which they asked: `with (yield from turn.mine()): ...`."""

    def __init__(self, env: simpy.Environment) -> None:
        self._env = env
        self._taken = False
        self._waiting: deque[simpy.Event] = deque()

    def mine(self) -> Generator[simpy.Event, Any, Self]:
        """Wait for it; the end of the `with` block passes it on."""
        if self._taken:
            passed_on = simpy.Event(self._env)
            self._waiting.append(passed_on)
            yield passed_on
        self._taken = True
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._waiting.popleft().succeed()
        else:
            self._taken = False


def all_of(
    env: simpy.Environment, steps: Sequence[Generator[simpy.Event, Any, Any]]
) -> Generator[simpy.Event, Any, None]:
    """Go through all of them at once, until the last has ended."""
    if len(steps) == 1:
        yield from steps[0]
    elif steps:
        yield env.all_of([env.process(each) for each in steps])
