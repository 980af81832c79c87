"""A cluster without traffic, run to an instant: what its actors did and when."""

import math
from collections.abc import Callable

import simpy
from builders import constant_timing

from sim.cluster.api import EndpointSliceView, PodView, ReplicaSetView, View
from sim.cluster.control_plane import ControlPlane
from sim.delays import NO_PRESSURE, Delays
from sim.scenario.model import Scenario
from sim.streams import Streams
from sim.world import Pod, Server, World


class SmallWorld:
    """All actors of *scenario*; time stands at zero."""

    def __init__(self, scenario: Scenario, *, timing=None, seed=0) -> None:
        self.env = simpy.Environment()
        self.world = World(self.env, {s.name: s for s in scenario.services})
        timing, streams = timing or constant_timing(), Streams(seed)
        self.plane = ControlPlane(
            self.env,
            self.world,
            scenario,
            timing,
            streams,
            lambda: NO_PRESSURE,
            lambda wanted: max(1.0, wanted / scenario.cluster.cores),
        )
        self.api = self.plane.api
        self.written: list[tuple[float, View]] = []
        """Every object as it was committed, with its time."""
        at_once = Delays(constant_timing(), Streams(seed).take("watch"))
        for kind in (PodView, ReplicaSetView, EndpointSliceView):
            self.api.watch(
                kind, "test", at_once, lambda view: self.written.append((round(self.env.now, 6), view))
            )
        self._first_sizes = {s.revision: s.replicas for s in self.api.replica_sets.values()}
        for update in scenario.updates:
            self.plane.schedule(update)

    def run(self, until_s: float) -> "SmallWorld":
        self.env.run(until=until_s)
        return self

    def watch(self, period_s: float, look: Callable[[], None]) -> None:
        """Call *look* every *period_s* from now on."""

        def watching():
            while True:
                look()
                yield self.env.timeout(period_s)

        self.env.process(watching())

    # ------------------------------------------------------------------ what happened

    def marks(self, *whats: str, subject: str = "") -> list[tuple[float, str, str]]:
        """(when, who, what) of every mark called one of *whats* whose subject contains *subject*."""
        return [
            (round(m.at_s, 6), m.subject, m.what)
            for m in self.world.marks
            if m.what in whats and subject in m.subject
        ]

    def times(self, what: str, subject: str = "") -> list[float]:
        return [at_s for at_s, _, _ in self.marks(what, subject=subject)]

    def sizes(self) -> list[tuple[float, dict[str, int]]]:
        """spec.replicas of each ReplicaSet by its revision, whenever one changes."""
        now = dict(self._first_sizes)
        history = []
        for at_s, view in self.written:
            if isinstance(view, ReplicaSetView) and now.get(view.revision) != view.replicas:
                now = {**now, view.revision: view.replicas}
                history.append((at_s, now))
        return history

    def pods(self, revision: str) -> list[Pod]:
        """Pods of one template, in the order of their creation."""
        return [pod for pod in self.world.pods.values() if pod.template.revision == revision]

    def server(self, pod: Pod) -> Server:
        return next(iter(pod.servers.values()))

    def ruled(self, node: int = 0, service: str = "app") -> list[str]:
        """Names of the pods that the rules of *node* send new connections to."""
        return sorted(pod.name for pod in self.world.rules(node, service).pods)


def relist_phase_s(seed: int, node: int = 0) -> float:
    """Start of a kubelet's first relist: the first draw of its stream."""
    return float(Streams(seed).take(f"kubelet/{node}").random())


def relist_after(at_s: float, phase_s: float, relist_s: float) -> float:
    """End of the first relist that began at or after *at_s*; each begins 1 s after the end of the last."""
    cycle_s = 1.0 + relist_s
    return phase_s + cycle_s * max(0, math.ceil((at_s - phase_s) / cycle_s - 1e-9)) + relist_s
