"""The probe workers of one container: when it is ready, when it is restarted.

Source: kubernetes v1.34 pkg/kubelet/prober/worker.go and prober_manager.go; arithmetic in probes.py.
"""

from typing import Protocol

import simpy

from sim.cluster.container import RunningContainer
from sim.cluster.probes import Verdict, earliest_run_s, first_tick_s, killed_at_s, succeeds_at_s
from sim.delays import Delays
from sim.scenario.model import Probe
from sim.world import Process, ServerPhase, needs_listener

NEXT_TICK_S = 1e-6
"""A tick that has just run is over: the next one is later."""


class ProbedPod(Protocol):
    """What probes can do to their pod."""

    @property
    def terminating(self) -> bool: ...
    @property
    def running(self) -> bool: ...
    def set_ready(self, container: RunningContainer, *, ready: bool) -> None: ...
    def next_sync(self) -> Process: ...
    def restart(self, container: RunningContainer, probe: Probe) -> Process: ...


class Prober:
    """All three probes of one container; their ticks count from *ticks_from_s*."""

    def __init__(
        self,
        env: simpy.Environment,
        delays: Delays,
        pod: ProbedPod,
        container: RunningContainer,
        ticks_from_s: float,
    ) -> None:
        self._env = env
        self._delays = delays
        self._pod = pod
        self._container = container
        self._server = container.server
        self._spec = container.server.container
        self._ticks_from_s = ticks_from_s

    def begin(self) -> Process:
        """From the first sync that sees the container: startup or liveness may end it, then readiness."""
        env, spec = self._env, self._spec
        guard = spec.startup or spec.liveness
        while guard is not None and (fails_s := self._gives_up_s(guard)) is not None:
            yield env.timeout(max(0.0, fails_s - env.now) + self._delays("probe_round"))
            if not self._pod.terminating:
                yield from self._pod.restart(self._container, guard)
            if self._pod.terminating:
                return
        if spec.startup is not None:
            started_s = self._answered_s(spec.startup)
            yield env.timeout(max(0.0, started_s - env.now) + self._delays("probe_round"))
            if self._pod.terminating:
                return  # the startup worker is stopped, and readiness waits for it
            yield from self._pod.next_sync()
        if spec.readiness is None:
            self._pod.set_ready(self._container, ready=True)
            return
        yield from self._first_readiness(spec.readiness, known=spec.startup is not None)

    def _answers_from_s(self, probe: Probe) -> float:
        return self._container.listens_s if needs_listener(probe) else self._container.started_s

    def _gives_up_s(self, probe: Probe) -> float | None:
        return killed_at_s(
            probe,
            worker_started_s=self._ticks_from_s,
            seen_s=float(self._env.now),
            started_s=self._container.started_s,
            answers_from_s=self._answers_from_s(probe),
        )

    def _answered_s(self, probe: Probe) -> float:
        return succeeds_at_s(
            probe,
            worker_started_s=self._ticks_from_s,
            seen_s=float(self._env.now),
            started_s=self._container.started_s,
            answers_from_s=self._answers_from_s(probe),
        )

    # ------------------------------------------------------------------ readiness

    def _first_readiness(self, probe: Probe, *, known: bool) -> Process:
        """The kicks of the first syncs, then ticks (prober_manager.go:301-314, worker.go:186-201).

        A sync that finds the container running but not ready kicks its worker. The first kick races with the
        same sync storing the status: a worker that loses finds no container and only restarts its ticker.
        One that wins publishes a failure, which asks for a sync, so for a second kick at the next relist.
        After a startup probe the container is *known* and nothing races.
        """
        env, delays = self._env, self._delays
        verdict = Verdict(probe, ready=False)
        from_s = earliest_run_s(probe, self._container.started_s)
        self._ticks_from_s = float(env.now)
        won = known or delays.chance(delays.timing.p_first_kick)
        if won and env.now >= from_s:
            yield from self._run(verdict)
        if not verdict.ready and (won or delays.chance(delays.timing.p_second_kick)):
            yield from self._pod.next_sync()
            self._ticks_from_s = float(env.now)
            if env.now >= from_s:
                yield from self._run(verdict)
        yield from self.watch(verdict, from_s=from_s)

    def watch(self, verdict: Verdict, *, from_s: float = 0.0) -> Process:
        """Ticks from *from_s* on, for as long as a result could change the verdict; else waits for a change.

        Readiness goes on through preStop and grace (pkg/kubelet/kubelet.go:2147-2158).
        """
        env = self._env
        while self._pod.running:
            if self._server.answers(verdict.probe) == verdict.ready:
                asleep_from_s = self._tick_s(verdict.probe)
                yield self._server.health_changed.next
                if env.now > asleep_from_s:
                    verdict.take(success=verdict.ready)  # the ticks slept through ended any other run
                continue
            tick_s = self._tick_s(verdict.probe, from_s)
            yield env.timeout(tick_s - env.now)
            yield from self._run(verdict)

    def _tick_s(self, probe: Probe, from_s: float = 0.0) -> float:
        not_before_s = max(from_s, self._env.now + NEXT_TICK_S)
        return first_tick_s(probe, worker_started_s=self._ticks_from_s, not_before_s=not_before_s)

    def _run(self, verdict: Verdict) -> Process:
        success = self._server.answers(verdict.probe)
        if success or self._server.phase is not ServerPhase.VANISHED:
            yield self._env.timeout(self._delays("probe_round"))
        else:
            yield self._env.timeout(verdict.probe.timeout_s)
        if verdict.take(success) and self._pod.running:
            self._pod.set_ready(self._container, ready=verdict.ready)
