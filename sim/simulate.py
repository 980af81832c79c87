"""One rollout, once: a scenario and a seed in, every failed request and every pod's life out."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import simpy

from sim.cluster.control_plane import ControlPlane
from sim.node_load import NodeLoad
from sim.outcomes import Failure
from sim.scenario.model import Scenario
from sim.scenario.timing import Timing, load_timing
from sim.streams import Streams
from sim.traffic.clients import Report, report
from sim.traffic.load import Traffic
from sim.traffic.tally import Tally
from sim.world import Mark, World

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

LOOKS_EVERY_S: Final = 1.0
"""Whether all is over."""
LONGEST_AFTER_LOAD_S: Final = 180.0
"""The run goes on after the load until the last old pod is gone, at most so long."""


@dataclass(frozen=True)
class Result:
    """One simulated rollout."""

    scenario: Scenario
    seed: int
    replication: int
    tally: Tally
    marks: tuple[Mark, ...]
    load_ended_s: float
    rollout_s: float | None
    """Update to the status complete, the slowest Deployment. [s] None: no update, or never complete."""
    ab_spin_cpu_s: float
    """CPU of one round of ab's poll loop. [s]"""
    last_old_pod_gone_s: float | None
    """When the last pod of an old template was gone. [s from the start of the load] None: it was not."""

    @property
    def n_requests(self) -> int:
        return self.tally.n_requests

    @property
    def n_failed(self) -> int:
        return self.tally.n_failed

    @property
    def load_ended_too_soon(self) -> bool:
        """The load was over before the last old pod was gone: it cannot show all failures."""
        return self.last_old_pod_gone_s is None or self.load_ended_s < self.last_old_pod_gone_s

    @cached_property
    def causes(self) -> dict[str, int]:
        """Failed requests by cause."""
        counts: dict[str, int] = {}
        for failure in self.tally.failures:
            counts[failure.cause.value] = counts.get(failure.cause.value, 0) + 1
        for burst in self.tally.bursts:
            counts[burst.like.cause.value] = counts.get(burst.like.cause.value, 0) + burst.n
        return counts

    @cached_property
    def seen(self) -> dict[str, int]:
        """Failed requests by what the client saw, named as the observations name it."""
        counts: dict[str, int] = {}
        for failure in self.tally.failures:
            counts[failure.seen_as] = counts.get(failure.seen_as, 0) + 1
        for burst in self.tally.bursts:
            counts[burst.like.seen_as] = counts.get(burst.like.seen_as, 0) + burst.n
        return counts

    @cached_property
    def report(self) -> Report | None:
        """What the client's own tool would print; None: it prints no number of failures."""
        load = self.scenario.load
        lengths = self.tally.n_by_length
        first = next(iter(lengths), 0)
        n_other = sum(n for length, n in lengths.items() if length != first)
        printed = report(
            load.client,
            load.options,
            self.tally.by_class(),
            n_other_length=n_other,
            n_polled=self.tally.n_polled,
            n_spins=round(self.tally.spun_s / self.ab_spin_cpu_s),
            n_late=self.tally.n_late,
        )
        return replace(printed, aborted=True) if printed is not None and self.tally.gave_up else printed

    @cached_property
    def failures(self) -> "pd.DataFrame":
        """One row for each failed request: at_s, cause, seen, seen_as, reused, connection, pod, phase."""
        import pandas as pd  # noqa: PLC0415 - heavy

        rows = [_row(failure) for failure in self._each_failure()]
        columns = ["at_s", "cause", "seen", "seen_as", "reused", "connection", "pod", "phase"]
        return pd.DataFrame(rows, columns=columns).sort_values("at_s", ignore_index=True)

    def _each_failure(self) -> list[Failure]:
        spread = [
            replace(b.like, at_s=b.from_s + (b.to_s - b.from_s) * (i + 0.5) / b.n)
            for b in self.tally.bursts
            for i in range(b.n)
        ]
        return self.tally.failures + spread

    @cached_property
    def timeline(self) -> "pd.DataFrame":
        """What happened to pods, rules and proxies: at_s, subject, what, detail."""
        import pandas as pd  # noqa: PLC0415

        rows = [(m.at_s, m.subject, m.what, m.detail) for m in self.marks]
        return pd.DataFrame(rows, columns=["at_s", "subject", "what", "detail"])

    @cached_property
    def summary(self) -> "pd.Series[Any]":
        """Counts and times of this rollout."""
        import pandas as pd  # noqa: PLC0415

        return pd.Series(
            {
                "requests": self.n_requests,
                "failed": self.n_failed,
                "retried": self.tally.n_retried,
                "open_at_end": self.tally.n_open,
                "rollout_s": self.rollout_s,
                "load_ended_s": self.load_ended_s,
                **self.causes,
            }
        )

    def plot_timeline(self) -> "Figure":
        """Pods as lanes, rules and proxies over them, failures as marks by cause."""
        from sim.plots import plot_timeline  # noqa: PLC0415

        return plot_timeline(self)


def _row(f: Failure) -> tuple[object, ...]:
    return (f.at_s, f.cause.value, f.seen.value, f.seen_as, f.reused, f.connection, f.pod, f.phase)


def simulate(
    scenario: Scenario,
    *,
    seed: int = 0,
    replication: int = 0,
    timing: Timing | None = None,
    stepwise: bool = False,
    update: bool = True,
    layer: type[Traffic] = Traffic,
) -> Result:
    """Play *scenario* once.

    Parameters
    ----------
    scenario : Scenario
    seed, replication : int
        Both together fix every draw.
    timing : Timing, optional
        Instead of the scenario's own profile.
    stepwise : bool
        Every request as an event of its own: slow, the judge of the cruise.
    update : bool
        False: the same load without any update, for the steady-state failure rate.
    layer : type
        The traffic layer; the tests put a request-by-request judge in its place.

    Raises
    ------
    InputError
        The timing profile cannot be read, or the scenario holds something that is not modelled.
    """
    env = simpy.Environment()
    streams = Streams(seed, replication)
    timing = timing or load_timing(scenario.timing, beside=scenario.source.parent)
    world = World(env, {s.name: s for s in scenario.services})
    load = NodeLoad(timing, scenario.cluster.cores)
    plane = ControlPlane(env, world, scenario, timing, streams, load.pressure, load.slowdown)
    traffic = layer(env, world, scenario, timing, streams, plane.proxy_watch.proxies, stepwise=stepwise)
    load.traffic = traffic
    traffic.start()
    updates = scenario.updates if update else ()
    for each in updates:
        plane.schedule(each)
    old_pods = _old_pods(plane, scenario, updates)
    env.run(
        until=env.process(_until_quiet(env, plane, traffic, old_pods, [u.to.name for u in updates], updates))
    )
    return Result(
        scenario=scenario,
        seed=seed,
        replication=replication,
        tally=traffic.tally,
        marks=tuple(world.marks),
        load_ended_s=traffic.ended_s,
        rollout_s=_rollout_s(plane, [u.to.name for u in updates]),
        ab_spin_cpu_s=timing.ab_spin_cpu_s,
        last_old_pod_gone_s=_gone_s(world, old_pods),
    )


def _old_pods(plane: ControlPlane, scenario: Scenario, updates: Any) -> list[str]:
    """Pods whose template an update replaces."""
    templates = {d.name: d.template.revision for d in scenario.deployments}
    changed = {u.to.name for u in updates if u.to.template.revision != templates[u.to.name]}
    return [name for name, pod in plane.api.pods.items() if pod.deployment in changed]


def _until_quiet(
    env: simpy.Environment,
    plane: ControlPlane,
    traffic: Traffic,
    old_pods: list[str],
    names: list[str],
    updates: Any,
) -> Any:
    """Until the load is over, the rollouts are complete and their old pods gone (or it takes too long)."""
    while not traffic.over:
        yield env.timeout(LOOKS_EVERY_S)
    yield env.timeout(0.5)  # connections that were woken at the very end count what they have finished
    last_update_s = max((u.at_s for u in updates), default=0.0)
    limit_s = max(traffic.ended_s, last_update_s) + LONGEST_AFTER_LOAD_S
    while env.now < limit_s:
        complete = all(
            plane.deployments[n].rollout_started_s is None
            or plane.deployments[n].rollout_complete_s is not None
            for n in names
        )
        gone = all(plane.api.pods[name].stage.name in ("TERMINAL", "REMOVED") for name in old_pods)
        if env.now >= last_update_s and complete and gone:
            return
        yield env.timeout(LOOKS_EVERY_S)


def _rollout_s(plane: ControlPlane, names: list[str]) -> float | None:
    times = []
    for name in names:
        controller = plane.deployments[name]
        if controller.rollout_started_s is None:
            continue
        if controller.rollout_complete_s is None:
            return None
        times.append(controller.rollout_complete_s - controller.rollout_started_s)
    return max(times, default=None)


def _gone_s(world: World, old_pods: list[str]) -> float | None:
    if not old_pods:
        return 0.0
    gone = {m.subject: m.at_s for m in world.marks if m.what == "vanished"}
    return max(gone[name] for name in old_pods) if all(name in gone for name in old_pods) else None
