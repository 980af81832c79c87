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
    def __init__(self, env: simpy.Environment, delays: Delays, first_s: float) -> None:
        self._env = env
        self._delays = delays
        self._relisted = Change(env)
        self.newest_s = float("-inf")
        """Start of the newest finished relist."""
        env.process(self._run(first_s))

    def _run(self, first_s: float) -> Process:
        yield self._env.timeout(first_s)
        while True:
            started_s = float(self._env.now)
            yield self._env.timeout(self._delays("pleg_relist"))
            self.newest_s = started_s
            self._relisted.happens()
            yield self._env.timeout(RELIST_PERIOD_S)

    def newer_than(self, at_s: float) -> Process:
        """Wait for a finished relist that began at or after *at_s* (pkg/kubelet/pod_workers.go:1271-1279)."""
        while self.newest_s < at_s:
            yield self._relisted.next
