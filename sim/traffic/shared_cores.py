"""The cores of the client's node, which a client without pause shares with the starts and ends of pods.

Fair shares among all that want a core, as in cluster/node_cpu.py, seen from the load's side. What the node's own work
takes is in the load's measured rates already.

The half second after a deletion is worse: the API server, the controllers, the kubelet and runc all work then, and a
server without requests has the least CPU weight (kubernetes v1.34 pkg/kubelet/cm: BestEffort) and waits for them. So
does kube-proxy, which has no requests either (cmd/kubeadm/app/phases/addons/proxy/manifests.go): its rules then take
2.3 and 2.9 times as long as at rest on the two measured machines (`proxy_sync` over `proxy_sync_at_rest`), and so long
does the servers' work take. The client is in no pod: where all refuse it, it waits for no server.
"""

from typing import TYPE_CHECKING

from sim.world import PodWork

if TYPE_CHECKING:
    from sim.traffic.load import Traffic


class SharedCores:
    """How far a client without pause has come: its time goes slower while starts and ends of pods want cores.

    Any other client's time is that of the world.
    """

    def __init__(self, traffic: "Traffic", node: int, cores: int) -> None:
        self._traffic = traffic
        self._cores = cores
        self._own = traffic.timing.node_utilisation * cores
        at_rest_s = traffic.timing.proxy_sync_at_rest.mean_s
        self.in_burst = max(1.0, traffic.timing.proxy_sync.mean_s / at_rest_s) if at_rest_s else 1.0
        """How many times as long as at rest who has the least weight takes while a deletion is at work."""
        self._work: PodWork | None = None
        """None where the client runs elsewhere: in a pod, which is on any node."""
        self._at_s = float(traffic.env.now)
        self._cycles_s = self._refused_s = self._at_s
        self._no_pause = traffic.no_pause
        if self._no_pause is not None and not traffic.forwarded and node in traffic.world.pod_work:
            self._work = traffic.world.pod_work[node]
            self._work.tell(self._go_on)

    @property
    def cycles_s(self) -> float:
        """Time as the client's cycles see it. [s]"""
        self._go_on()
        return self._cycles_s

    @property
    def refused_s(self) -> float:
        """Time as a client sees it that does nothing but connect in vain. [s]"""
        self._go_on()
        return self._refused_s

    @property
    def slowdown(self) -> float:
        """Of what the client waits for on the CPU, now."""
        if self._work is None:
            return 1.0
        shared = self._slowdown(self._work.wanted)
        return max(shared, self.in_burst) if self._work.in_burst else shared

    @property
    def slowdown_of_cycles(self) -> float:
        """Of whole cycles, now: what of them is no wait for the CPU takes as long as ever."""
        slowdown = self.slowdown
        if slowdown == 1.0 or self._no_pause is None:
            return 1.0
        return 1 + (slowdown - 1) * self._no_pause.share_on_cpu

    def _go_on(self) -> None:
        """Up to now, by what has been wanted since the last time: called before that changes."""
        now_s = float(self._traffic.env.now)
        passed_s, self._at_s = now_s - self._at_s, now_s
        if passed_s > 0:
            self._cycles_s += passed_s / self.slowdown_of_cycles
            self._refused_s += passed_s / self._slowdown_of_refused

    def _slowdown(self, wanted: float) -> float:
        if not wanted or self._no_pause is None:
            return 1.0
        alone = self._own + self._no_pause.n_runnable - 1
        return max(alone + wanted, self._cores) / max(alone, self._cores)

    @property
    def _slowdown_of_refused(self) -> float:
        """One core's worth of client.

        Between its proxy's end and the next one's start ab makes one refused connect every 66 to 157 us, of 49 us each
        (validation/observations/tutorial-4-proxy-rollout).
        """
        if self._work is None:
            return 1.0
        return max(1.0, (1 + self._own + self._work.wanted) / self._cores)
