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

    def cores_wanted(self) -> float:
        """By the node's own work and by the load.

        Of a client without pause: as many of its processes, the client and one of each tier, as it has connections at
        work. Those that wait for a dead address, or for HAProxy's next attempt after a refusal, take no CPU: while all
        of them do, a pod starts as on an idle node (measured: 0.8 s there, 0.7 s idle, 1.9 s with all at work).
        """
        own, traffic = self._own * self._cores, self._traffic_now
        if traffic is None:
            return own
        if traffic.saturating:
            return own + traffic.n_runnable - 1
        return own + traffic.utilisation * traffic.share_at_work * self._cores

    def pressure(self) -> Pressure:
        """By how much the load stretches what costs CPU on the node, over a node with its own work alone.

        A client without pause: fair shares for the node's own work and the processes of `cores_wanted`.
        A paced one: the mean stretch of an M/M/c processor-sharing queue is near 1 / (1 - u^c) at utilisation u, which
        is that of the connections at work (validation/observations/drawn-3-05: with all 40 hanging, six addresses at
        once were gone 0.6 to 0.9 s after their servers, not 1.6).
        """
        traffic = self._traffic_now
        if traffic is None:
            return NO_PRESSURE
        at_work = traffic.n_runnable if traffic.saturating else traffic.share_at_work
        if at_work != self._known[0]:
            self._known = at_work, self._pressure_of(traffic, at_work)
        return self._known[1]

    def _pressure_of(self, traffic: Traffic, at_work: float) -> Pressure:
        if traffic.saturating:
            return Pressure(max(1.0, at_work / self._cores), saturated=at_work > self._cores)
        own = min(self._own, MOST_UTILISED)
        both = min(own + traffic.utilisation * at_work, MOST_UTILISED)
        return Pressure((1 - own**self._cores) / (1 - both**self._cores), saturated=False)

    @property
    def _traffic_now(self) -> Traffic | None:
        return None if self.traffic is None or self.traffic.over else self.traffic
