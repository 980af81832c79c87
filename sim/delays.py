"""One actor's latencies: drawn from its timing profile, its own random stream and the node's CPU pressure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from numpy.random import Generator

from sim.scenario.distributions import Distribution
from sim.scenario.timing import Timing

WITHOUT_CPU = frozenset({
    "volume_wait", "late_mount", "relist_to_removed", "round_trip", "kubelet_reaction", "signal_delivery",
    "signal_heard", "core_wait", "fast_stop", "graceful_exit",
    "signal_heard_at_rest", "core_wait_at_rest", "fast_stop_at_rest", "graceful_exit_at_rest",
    "sandbox", "container_start", "exit_to_netns_gone",
})  # fmt: skip
"""What a busy client does not stretch here: waits by the clock; the way of a deletion to the signal, 22 ms with ab at
full speed as without (validation/calibration/data/2026-11-24/pod-stop-ab.csv); the end of a server, hardly slower under
ab than without it; and the starts and ends of pods, which share the cores with the load (cluster/node_cpu.py). What is
slower still under a client without pause the profile's `saturated` gives as measured."""


@dataclass(frozen=True, slots=True)
class Pressure:
    """What the load does to the work of the node that it shares."""

    stretch: float
    """Of what costs CPU; 1.0 is a node with its own work alone."""
    saturated: bool
    """A client without pause takes all the CPU that it gets."""


NO_PRESSURE: Final = Pressure(stretch=1.0, saturated=False)


class Delays:
    """Draws of named latencies for one actor, under the *pressure* of that moment."""

    def __init__(
        self, timing: Timing, rng: Generator, pressure: Callable[[], Pressure] = lambda: NO_PRESSURE
    ) -> None:
        self.timing = timing
        self.rng = rng
        self._pressure = pressure
        self._without_pressure = WITHOUT_CPU - timing.saturated.keys()

    def __call__(self, name: str) -> float:
        """A fresh draw of the profile's latency *name*. [s]"""
        latency: Distribution = getattr(self.timing, name)
        if name in self._without_pressure:
            return latency.draw_s(self.rng)
        pressure = self._pressure()
        if pressure.saturated and (measured := self.timing.saturated.get(name)) is not None:
            return measured.draw_s(self.rng)
        return latency.draw_s(self.rng) * (1.0 if name in WITHOUT_CPU else pressure.stretch)

    def share(self) -> float:
        """Any of 0 to 1."""
        return float(self.rng.random())

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)
