"""The kubelet's pod lifecycle event generator: what the container runtime did becomes known at its relists.

Source: kubernetes v1.34 pkg/kubelet/pleg/generic.go and pkg/kubelet/container/cache.go.
"""

from typing import Final

import simpy

from sim.delays import Delays
from sim.waiting import later
from sim.world import Process

RELIST_PERIOD_S: Final = 1.0
"""Between the end of one relist and the start of the next (pkg/kubelet/kubelet.go:206)."""


class Pleg:
    """One relist after the other; those that nobody waits for are looked up when somebody asks."""

    def __init__(self, env: simpy.Environment, delays: Delays, first_s: float) -> None:
        self._env = env
        self._delays = delays
        self.newest_s = float("-inf")
        """Start of the newest finished relist."""
        self._starts_s = float(env.now) + first_s
        self._ends_s: float | None = None
        """Of the relist that starts then; None: nobody has had to know."""
        self._waiting: list[tuple[float, simpy.Event]] = []
        """Who waits for a relist that began at that time or after it."""

    def newer_than(self, at_s: float) -> Process:
        """Wait for a finished relist that began at or after *at_s* (pkg/kubelet/pod_workers.go:1271-1279)."""
        self._catch_up()
        if self.newest_s < at_s:
            relisted = simpy.Event(self._env)
            self._waiting.append((at_s, relisted))
            if len(self._waiting) == 1:
                self._look_again()
            yield relisted

    def _look_again(self) -> None:
        """At the end of the relist under way or the next one."""
        later(self._env, self._next_end_s() - self._env.now, self._look)

    def _look(self) -> None:
        self._catch_up()
        waiting, self._waiting = self._waiting, []
        for at_s, relisted in waiting:
            if self.newest_s >= at_s:
                relisted.succeed()
            else:
                self._waiting.append((at_s, relisted))
        if self._waiting:
            self._look_again()

    def _catch_up(self) -> None:
        """All relists that are over by now; each takes what one begun now would."""
        while self._next_end_s() <= self._env.now:
            self.newest_s, self._starts_s = self._starts_s, self._next_end_s() + RELIST_PERIOD_S
            self._ends_s = None

    def _next_end_s(self) -> float:
        if self._ends_s is None:
            self._ends_s = self._starts_s + self._delays("pleg_relist")
        return self._ends_s
