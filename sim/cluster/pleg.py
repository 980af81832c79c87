"""The kubelet's pod lifecycle event generator: what the container runtime did becomes known at its relists.

Source: kubernetes v1.34 pkg/kubelet/pleg/generic.go and pkg/kubelet/container/cache.go.
"""

from typing import Final

import simpy

from sim.delays import Delays
from sim.waiting import Change
from sim.world import Process

RELIST_PERIOD_S: Final = 1.0
"""Between the end of one relist and the start of the next (pkg/kubelet/kubelet.go:206)."""


class Pleg:
    """One relist after the other; those that nobody waits for are looked up when somebody asks."""

    def __init__(self, env: simpy.Environment, delays: Delays, first_s: float) -> None:
        self._env = env
        self._delays = delays
        self._finished = Change(env)
        self.newest_s = float("-inf")
        """Start of the newest finished relist."""
        self._starts_s = float(env.now) + first_s
        self._ends_s: float | None = None
        """Of the relist that starts then; None: nobody has had to know."""
        self._n_waiting = 0
        self._runs = False

    def newer_than(self, at_s: float) -> Process:
        """Wait for a finished relist that began at or after *at_s* (pkg/kubelet/pod_workers.go:1271-1279)."""
        self._catch_up()
        while self.newest_s < at_s:
            self._n_waiting += 1
            if not self._runs:
                self._runs = True
                self._env.process(self._run())
            yield self._finished.next
            self._n_waiting -= 1

    def _run(self) -> Process:
        """For as long as anybody waits."""
        while self._n_waiting:
            yield self._env.timeout(self._next_end_s() - self._env.now)
            self._catch_up()
            self._finished.happens()
            yield self._env.timeout(0)  # whoever has what it waited for is gone
        self._runs = False

    def _catch_up(self) -> None:
        """All relists that are over by now; each takes what one begun now would."""
        while self._next_end_s() <= self._env.now:
            self.newest_s, self._starts_s = self._starts_s, self._next_end_s() + RELIST_PERIOD_S
            self._ends_s = None

    def _next_end_s(self) -> float:
        if self._ends_s is None:
            self._ends_s = self._starts_s + self._delays("pleg_relist")
        return self._ends_s
