"""What a process waits for: the next time that something happens, or a time that others may cut short.

Both cost one event of SimPy where its conditions (`a | b`) cost three, and waits are most of what a rollout costs.
"""

from typing import Final

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
