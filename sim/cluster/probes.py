"""When the kubelet's probes run, and what their counts say.

Source: kubernetes v1.34 pkg/kubelet/prober/worker.go and prober_manager.go; the grid of runs around the
first sync follows from both (a kick of each sync that finds the container running but not ready).
"""

import math
from dataclasses import dataclass

from sim.scenario.model import Probe


@dataclass(slots=True)
class Verdict:
    """Consecutive equal results against the two thresholds (worker.go:329-342)."""

    probe: Probe
    ready: bool
    _last: bool | None = None
    _run: int = 0

    def take(self, success: bool) -> bool:
        """Count one result; returns whether the verdict changed."""
        self._run = self._run + 1 if success == self._last else 1
        self._last = success
        needed = self.probe.success_threshold if success else self.probe.failure_threshold
        if success == self.ready or self._run < needed:
            return False
        self.ready = success
        return True


def earliest_run_s(probe: Probe, started_s: float) -> float:
    """From when on a tick counts: initialDelaySeconds after the start, which is kept in whole seconds.

    worker.go:293-296: skipped while whole seconds since StartedAt (truncated) are fewer than the delay.
    """
    return math.floor(started_s) + probe.initial_delay_s if probe.initial_delay_s else started_s


def first_tick_s(probe: Probe, *, worker_started_s: float, not_before_s: float) -> float:
    """The first tick of the worker's period at or after *not_before_s*."""
    n = max(0, math.ceil((not_before_s - worker_started_s) / probe.period_s - 1e-9))
    return worker_started_s + n * probe.period_s


def killed_at_s(
    probe: Probe, *, worker_started_s: float, seen_s: float, started_s: float, answers_from_s: float
) -> float | None:
    """When a liveness or startup probe gives up on a container that answers it from *answers_from_s* on.

    The container is known to the worker from *seen_s* on. None: it answers in time.
    """
    first_s = first_tick_s(
        probe, worker_started_s=worker_started_s, not_before_s=max(seen_s, earliest_run_s(probe, started_s))
    )
    last_s = first_s + (probe.failure_threshold - 1) * probe.period_s
    return last_s if last_s < answers_from_s else None


def succeeds_at_s(
    probe: Probe, *, worker_started_s: float, seen_s: float, started_s: float, answers_from_s: float
) -> float:
    """The tick whose success ends a startup probe (its successThreshold is 1 by API rule)."""
    return first_tick_s(
        probe,
        worker_started_s=worker_started_s,
        not_before_s=max(seen_s, earliest_run_s(probe, started_s), answers_from_s),
    )
