"""One actor's latencies: drawn from its timing profile, its own random stream and the node's CPU pressure."""

from collections.abc import Callable

from numpy.random import Generator

from sim.scenario.distributions import Distribution
from sim.scenario.timing import Timing

WITHOUT_CPU = frozenset({
    "volume_wait", "terminal_to_removed", "round_trip",
    "signal_heard", "fast_stop", "graceful_exit",
    "signal_heard_at_rest", "fast_stop_at_rest", "graceful_exit_at_rest",
})  # fmt: skip
"""What a busy client does not stretch: waits by the clock, and the end of a server, a burst of a millisecond of a
process that slept before, which Linux runs before one that has had its share."""


class Delays:
    """Draws of named latencies for one actor.

    *pressure* stretches what costs CPU on a machine shared with a saturating client; 1.0 is an idle node.
    """

    def __init__(self, timing: Timing, rng: Generator, pressure: Callable[[], float] = lambda: 1.0) -> None:
        self.timing = timing
        self.rng = rng
        self._pressure = pressure

    def __call__(self, name: str) -> float:
        """A fresh draw of the profile's latency *name*. [s]"""
        latency: Distribution = getattr(self.timing, name)
        stretch = 1.0 if name in WITHOUT_CPU else self._pressure()
        return latency.draw_s(self.rng) * stretch

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)
