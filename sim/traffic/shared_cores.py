"""The cores of the client's node, which a client without pause shares with the starts and ends of pods.

Fair shares among all that want a core, as in cluster/node_cpu.py, seen from the load's side. What the node's own work
takes is in the load's measured rates already.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sim.world import PodWork

if TYPE_CHECKING:
    from sim.traffic.load import Traffic


@dataclass(frozen=True, slots=True)
class Reading:
    """What starts and ends of pods had wanted of the cores by an instant. [s, core seconds]"""

    at_s: float
    core_seconds: float


class SharedCores:
    def __init__(self, traffic: "Traffic", node: int, cores: int) -> None:
        self._traffic = traffic
        self._node = node
        self._cores = cores
        self._own = traffic.timing.node_utilisation * cores

    def reading(self) -> Reading:
        work = self._work
        return Reading(float(self._traffic.env.now), 0.0 if work is None else work.core_seconds())

    def wanted_since(self, then: Reading) -> float:
        """Cores that starts and ends of pods have wanted since *then*, on average."""
        now = self.reading()
        lasted_s = now.at_s - then.at_s
        return (now.core_seconds - then.core_seconds) / lasted_s if lasted_s > 0 else 0.0

    def slowdown(self, wanted: float) -> float:
        """Of what a client without pause waits for on the CPU, while starts and ends of pods want so many cores."""
        if not wanted or not self._traffic.saturating:
            return 1.0
        alone = self._own + self._traffic.n_runnable - 1
        return max(alone + wanted, self._cores) / max(alone, self._cores)

    @property
    def slowdown_now(self) -> float:
        work = self._work
        return 1.0 if work is None else self.slowdown(work.wanted)

    def slowdown_of_cycles(self, wanted: float) -> float:
        """Of whole cycles: what of them is no wait for the CPU takes as long as ever."""
        return 1 + (self.slowdown(wanted) - 1) * self._traffic.share_on_cpu

    def slowdown_of_cycles_since(self, then: Reading) -> float:
        return self.slowdown_of_cycles(self.wanted_since(then)) if self._traffic.saturating else 1.0

    @property
    def slowdown_of_cycles_now(self) -> float:
        work = self._work
        return 1.0 if work is None else self.slowdown_of_cycles(work.wanted)

    def slowdown_of_refused(self, wanted: float) -> float:
        """Of a client that does nothing but connect in vain, on one core.

        Between its proxy's end and the next one's start ab makes one refused connect every 66 to 157 us, of 49 us each
        (validation/observations/tutorial-4-proxy-rollout).
        """
        return max(1.0, (1 + self._own + wanted) / self._cores)

    @property
    def _work(self) -> PodWork | None:
        """None where the client runs elsewhere: in a pod, which is on any node."""
        return None if self._traffic.forwarded else self._traffic.world.pod_work.get(self._node)
