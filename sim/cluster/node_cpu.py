"""The cores of one node, as far as pods that start and end contend for them."""

from collections.abc import Callable
from typing import Final

import simpy

from sim.waiting import Nap, later
from sim.world import Process

BURST_S: Final = 0.5
"""How long a deletion keeps a node at work: the controllers' and the kubelet's writes, runc, rules, the successor.

A server without requests has the least CPU weight (kubernetes v1.34 pkg/kubelet/cm: BestEffort) and waits for all
of them, and so do kube-proxy and the controllers for the others. Medians measured within it and outside of it: a
server is deaf for 3.2 ms against 1.1, a sync of the rules takes 121 ms against 51, a ReplicaSet's pod follows what
calls for it in 27 ms against 12 (validation/calibration/FINDINGS.md).
"""


class NodeCpu:
    """Processor sharing among the pod operations under way, the node's own work and the load.

    Creating a sandbox, starting a container, delivering a signal, taking a network namespace down: each keeps the
    runtime, its shims and plugins, the kubelet and the API server busy at once. Up to as many as the cores can
    carry none waits; beyond it all slow down alike. Three pods at once take one and a half times as long as
    one and more, and one under ab at full speed 1.7 times (validation/calibration/FINDINGS.md).

    Parameters
    ----------
    cores : int
    operation_cores : float
        Cores that one operation keeps busy while it is alone.
    slowdown : callable
        Cores that operations want, to how many times as long as one alone each of them takes at this moment, beside
        everything else.
    """

    def __init__(
        self,
        env: simpy.Environment,
        *,
        cores: int,
        operation_cores: float,
        slowdown: Callable[[float], float],
    ) -> None:
        self._env = env
        self._cores = cores
        self._operation_cores = operation_cores
        self._slowdown = slowdown
        self._under_way: dict[Nap, None] = {}
        self._told: list[Callable[[], None]] = []
        self._n_bursts = 0

    @property
    def wanted(self) -> float:
        """Cores that the operations under way would keep busy if there were enough."""
        return len(self._under_way) * self._operation_cores

    def speed(self, *, beside_load: bool = True) -> float:
        """Of each operation under way, against one that is alone on an idle node."""
        if beside_load:
            return 1 / self._slowdown(self.wanted)
        return self._cores / max(self.wanted, self._cores)

    def tell(self, change: Callable[[], None]) -> None:
        """Call *change* before `wanted` or `in_burst` changes."""
        self._told.append(change)

    @property
    def in_burst(self) -> bool:
        """Whether a deletion is at work."""
        return self._n_bursts > 0

    def deletion(self) -> None:
        """A pod's deletion has reached the node."""
        self._tell()
        self._n_bursts += 1
        later(self._env, BURST_S, self._calm_down)

    def _calm_down(self) -> None:
        self._tell()
        self._n_bursts -= 1

    def latency(self, name: str) -> str:
        """Which of two latencies of the timing profile holds now: *name*, or that of a node at rest."""
        return name if self.in_burst else f"{name}_at_rest"

    def work(self, alone_s: float, *, beside_load: bool = True) -> Process:
        """An operation that takes *alone_s* when nothing else is under way. [s]

        *beside_load*: False for one that the load does not slow down.
        """
        env, left_s, mine = self._env, alone_s, Nap(self._env)
        self._change(lambda: self._under_way.setdefault(mine))
        try:
            while True:
                began_s, speed = float(env.now), self.speed(beside_load=beside_load)
                if (yield mine.begin(left_s / speed)):
                    return
                left_s = max(0.0, left_s - (float(env.now) - began_s) * speed)
        finally:
            self._change(lambda: self._under_way.pop(mine))

    def _change(self, change: Callable[[], object]) -> None:
        """One operation more or less: the others go on at another speed."""
        self._tell()
        change()
        for nap in self._under_way:
            nap.wake()

    def _tell(self) -> None:
        for tell in self._told:
            tell()
