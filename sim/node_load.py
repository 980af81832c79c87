"""What the load takes of a node's cores, and what that does to the work that it shares them with."""

from typing import Final

from sim.delays import NO_PRESSURE, Pressure
from sim.scenario.timing import Timing
from sim.traffic.load import Traffic

MOST_UTILISED: Final = 0.95
"""A paced load beyond this would not keep its pace."""


class NodeLoad:
    """The load as the cluster's actors feel it; none before `traffic` is there, and after its end.

    Parameters
    ----------
    cores : int
        Of each node.
    """

    def __init__(self, timing: Timing, cores: int) -> None:
        self._own = timing.node_utilisation
        self._cores = cores
        self.traffic: Traffic | None = None
        self._known = (-1.0, NO_PRESSURE)
        """Of so many runnable processes, or of such a share at work, as it was last asked for."""

    def slowdown(self, wanted: float) -> float:
        """To how many times as long as one alone pod operations take that together want so many cores.

        Fair shares for them, the node's own work and, of a client without pause, as many of its processes, the client
        and one of each tier, as it has connections at work. Those that wait for a dead address, or for HAProxy's next
        attempt after a refusal, take no CPU: while all of them do, a pod starts as on an idle node (measured: 0.8 s
        there, 0.7 s idle, 1.9 s with all at work).

        A paced load holds them up before the cores are full, as its requests come when they come: by the `pressure` of
        a queue, but by no more than if its processes never slept. Beside a paced client that wants 0.26 and 0.36 cores
        a container took 1.14 and 1.10 times as long to start, of the two machines (validation/calibration/FINDINGS.md).
        """
        wanted += self._own * self._cores
        traffic = self._traffic_now
        if traffic is None:
            return self._shared(wanted)
        if traffic.no_pause is not None:
            return self._shared(wanted + traffic.no_pause.n_runnable - 1)
        n_processes = 2 + int(traffic.has_proxy)
        return min(self._shared(wanted) * self.pressure().stretch, self._shared(wanted + n_processes))

    def _shared(self, wanted: float) -> float:
        return max(1.0, wanted / self._cores)

    def pressure(self) -> Pressure:
        """By how much the load stretches what costs CPU on the node, over a node with its own work alone.

        A client without pause: fair shares for the node's own work and the processes of `slowdown`.
        A paced one: the mean stretch of an M/M/c processor-sharing queue is near 1 / (1 - u^c) at utilisation u, which
        is that of the connections at work (validation/observations/drawn-3-05: with all 40 hanging, six addresses at
        once were gone 0.6 to 0.9 s after their servers, not 1.6).
        """
        traffic = self._traffic_now
        if traffic is None:
            return NO_PRESSURE
        at_work = traffic.share_at_work if traffic.no_pause is None else traffic.no_pause.n_runnable
        if at_work != self._known[0]:
            self._known = at_work, self._pressure_of(traffic, at_work)
        return self._known[1]

    def _pressure_of(self, traffic: Traffic, at_work: float) -> Pressure:
        if traffic.no_pause is not None:
            return Pressure(max(1.0, at_work / self._cores), saturated=at_work > self._cores)
        own = min(self._own, MOST_UTILISED)
        both = min(own + traffic.utilisation * at_work, MOST_UTILISED)
        return Pressure((1 - own**self._cores) / (1 - both**self._cores), saturated=False)

    @property
    def _traffic_now(self) -> Traffic | None:
        return None if self.traffic is None or self.traffic.over else self.traffic
