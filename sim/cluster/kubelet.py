"""The kubelet of one node: starts pods, probes them, reports their status, ends them.

Source: kubernetes v1.34 pkg/kubelet (the files stand beside each rule).
"""

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import simpy

from sim.cluster.api import Api, PodStage, PodView
from sim.cluster.probes import Verdict, earliest_run_s, first_tick_s, killed_at_s, startup_done_s
from sim.cluster.shutdown import effective_grace_s, plan_shutdown
from sim.delays import Delays
from sim.scenario.model import ExitWhen, Hook, HookKind, Probe
from sim.servers import stop_behaviour
from sim.world import Pod, Process, Server, ServerPhase, World

RELIST_PERIOD_S = 1.0
"""Between the end of one relist and the start of the next (pkg/kubelet/kubelet.go:206)."""
RESTART_BACKOFF_S = (0.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Before the n-th restart of a container (pkg/kubelet/kubelet.go:157-164)."""


class Pleg:
    """The pod lifecycle event generator: what the runtime did becomes known at its relists."""

    def __init__(self, env: simpy.Environment, delays: Delays, first_s: float) -> None:
        self._env = env
        self._delays = delays
        self._next = env.event()
        self.newest_s = float("-inf")
        """Start of the newest finished relist."""
        env.process(self._run(first_s))

    def _run(self, first_s: float) -> Process:
        yield self._env.timeout(first_s)
        while True:
            started_s = float(self._env.now)
            yield self._env.timeout(self._delays("pleg_relist"))
            self.newest_s = started_s
            finished, self._next = self._next, self._env.event()
            finished.succeed()
            yield self._env.timeout(RELIST_PERIOD_S)

    def newer_than(self, at_s: float) -> Process:
        """Wait for a finished relist that began at or after *at_s* (pkg/kubelet/pod_workers.go:1271-1279)."""
        while self.newest_s < at_s:
            yield self._next


class StatusManager:
    """Writes pod statuses: one goroutine, one GET and one PATCH a pod, in order (status_manager.go)."""

    def __init__(self, env: simpy.Environment, api: Api, delays: Delays) -> None:
        self._env = env
        self._api = api
        self._delays = delays
        self._pending: dict[str, PodWorker] = {}
        self._wake = env.event()
        env.process(self._run())

    def put(self, worker: "PodWorker") -> None:
        self._pending[worker.pod.name] = worker
        if not self._wake.triggered:
            self._wake.succeed()

    def _run(self) -> Process:
        while True:
            yield self._wake
            self._wake = self._env.event()
            while self._pending:
                worker = self._pending.pop(next(iter(self._pending)))
                yield self._env.timeout(self._delays("status_patch"))
                view = self._api.pods[worker.pod.name]
                if view.stage is PodStage.REMOVED:
                    continue
                ready = worker.ready
                since_s = float(self._env.now) if ready and not view.ready else view.ready_since_s
                new = replace(
                    view,
                    stage=worker.stage,
                    has_address=worker.has_address,
                    ready=ready,
                    ready_since_s=since_s,
                    n_restarts=sum(s.n_restarts for s in worker.pod.servers.values()),
                )
                if new != view:
                    if new.ready != view.ready:
                        worker.pod_log("ready" if new.ready else "not_ready")
                    self._api.commit(new)


class Kubelet:
    """One node's agent; it takes the pods that are bound to its node."""

    def __init__(self, env: simpy.Environment, world: World, api: Api, delays: Delays, node: int) -> None:
        self.env = env
        self.world = world
        self.api = api
        self.delays = delays
        self.node = node
        self.pleg = Pleg(env, delays, first_s=float(delays.rng.random()) * RELIST_PERIOD_S)
        self.status = StatusManager(env, api, delays)
        self._workers: dict[str, PodWorker] = {}
        api.watch(PodView, delays, self._on_pod)

    def adopt(self, pod: Pod) -> None:
        """A pod that has run since long before."""
        self._workers[pod.name] = PodWorker(self, pod, running=True)

    def _on_pod(self, view: PodView) -> None:
        if view.node != self.node:
            return
        worker = self._workers.get(view.name)
        if worker is None and view.active:
            pod = self.world.pods[view.name]
            pod.node = self.node
            worker = self._workers[view.name] = PodWorker(self, pod, running=False)
        if worker is not None and (view.deleted or view.stage is PodStage.REMOVED):
            worker.terminate()


class PodWorker:
    """One pod on its node, from its first sync to the removal of its object."""

    def __init__(self, kubelet: Kubelet, pod: Pod, *, running: bool) -> None:
        self._kubelet = kubelet
        self._env = kubelet.env
        self._delays = kubelet.delays
        self.pod = pod
        self.stage = PodStage.RUNNING if running else PodStage.PENDING
        self.has_address = running
        self._container_ready = dict.fromkeys(pod.servers, running)
        self._exited = {name: self._env.event() for name in pod.servers}
        self._terminating = False
        self._probes_from_s = float(self._env.now)
        self._last_sync_end_s = float("-inf")
        if running:
            # the phase of a probe's ticks is whatever it became when the pod started
            self._probes_from_s -= float(self._delays.rng.random()) * 3600.0
            self._started: simpy.Event = self._env.timeout(0)
            for server in pod.servers.values():
                if server.container.readiness is not None:
                    verdict = Verdict(server.container.readiness, ready=True)
                    self._env.process(self._watch_readiness(server, verdict, self._probes_from_s))
        else:
            self._started = self._env.process(self._start())

    @property
    def ready(self) -> bool:
        return self.stage is PodStage.RUNNING and all(self._container_ready.values())

    def pod_log(self, what: str, detail: str = "") -> None:
        self._kubelet.world.log(self.pod.name, what, detail)

    # ------------------------------------------------------------------ start

    def _start(self) -> Process:
        """pkg/kubelet/kubelet.go SyncPod: volumes, sandbox, containers one after the other, then a relist."""
        env, delays = self._env, self._delays
        yield env.timeout(delays("kubelet_reaction"))
        yield env.timeout(delays("volume_wait"))
        self._probes_from_s = float(env.now)
        yield env.timeout(delays("sandbox"))
        self.pod_log("sandbox")
        for server in self.pod.servers.values():
            server.move(ServerPhase.STARTING)
        started_s: dict[str, float] = {}
        listens_s: dict[str, float] = {}
        for name, server in self.pod.servers.items():
            yield env.timeout(delays("container_start"))
            started_s[name] = float(env.now)
            listens_s[name] = started_s[name] + self._boot_s(server)
            env.process(self._listen(server, listens_s[name]))
            if server.container.post_start is not None:
                yield env.timeout(self._hook_s(server.container.post_start))
        yield from self._kubelet.pleg.newer_than(env.now)
        yield env.timeout(delays("pod_sync"))
        self._last_sync_end_s = float(env.now)
        self.stage = PodStage.RUNNING
        self.has_address = True
        for name, server in self.pod.servers.items():
            env.process(self._follow(server, started_s[name], listens_s[name]))
        self._kubelet.status.put(self)

    def _boot_s(self, server: Server) -> float:
        return server.image.startup.draw_s(self._delays.rng)

    def _hook_s(self, hook: Hook) -> float:
        overhead_s = 0.0 if hook.kind is HookKind.SLEEP else self._delays("exec_hook")
        return hook.duration_s + overhead_s

    def _listen(self, server: Server, at_s: float) -> Process:
        yield self._env.timeout(at_s - self._env.now)
        if server.phase is ServerPhase.STARTING:
            server.move(ServerPhase.LISTENING)

    def _follow(self, server: Server, started_s: float, listens_s: float) -> Process:
        """Probes of one container from the first sync that sees it: startup, liveness, readiness."""
        container = server.container
        seen_s = float(self._env.now)
        while True:
            guard = container.startup or container.liveness
            gives_up_s = (
                None
                if guard is None
                else killed_at_s(
                    guard,
                    worker_started_s=self._probes_from_s,
                    seen_s=seen_s,
                    started_s=started_s,
                    listens_s=listens_s,
                )
            )
            if gives_up_s is None:
                break
            yield self._env.timeout(max(0.0, gives_up_s - self._env.now))
            if self._terminating:
                return
            started_s, listens_s = yield from self._restart(server)
            seen_s = float(self._env.now)
        if container.startup is not None:
            done_s = startup_done_s(
                container.startup,
                worker_started_s=self._probes_from_s,
                seen_s=seen_s,
                started_s=started_s,
                listens_s=listens_s,
            )
            yield self._env.timeout(max(0.0, done_s - self._env.now) + self._delays("probe_round"))
            yield from self._kubelet.pleg.newer_than(self._last_sync_end_s)
        if container.readiness is None:
            self._set_ready(server, ready=True)
            return
        yield from self._first_readiness(server, container.readiness, started_s)

    def _restart(self, server: Server) -> Generator[simpy.Event, Any, tuple[float, float]]:
        """A liveness or startup probe has failed: kill and start anew (kuberuntime_manager.go:1607-1638)."""
        self._set_ready(server, ready=False)
        self.pod_log("restarted", server.container.name)
        probe = server.container.startup or server.container.liveness
        grace_s = (probe and probe.termination_grace_period_s) or self.pod.template.termination_grace_period_s
        yield from self._stop(server, effective_grace_s(grace_s))
        yield from self._kubelet.pleg.newer_than(self._env.now)
        backoff = RESTART_BACKOFF_S[min(server.n_restarts, len(RESTART_BACKOFF_S) - 1)]
        server.n_restarts += 1
        yield self._env.timeout(backoff + self._delays("container_start"))
        self._exited[server.container.name] = self._env.event()
        server.stop, server.killed = None, False
        server.move(ServerPhase.STARTING)
        started_s = float(self._env.now)
        listens_s = started_s + self._boot_s(server)
        self._env.process(self._listen(server, listens_s))
        yield from self._kubelet.pleg.newer_than(self._env.now)
        return started_s, listens_s

    # ------------------------------------------------------------------ readiness

    def _first_readiness(self, server: Server, probe: Probe, started_s: float) -> Process:
        """The kicks of the first syncs, then ticks (prober_manager.go:301-314, worker.go:186-201).

        A sync that finds the container running but not ready kicks its worker. The first kick races with the
        same sync storing the status: a worker that loses finds no container and only restarts its ticker.
        One that wins publishes a failure, which asks for a sync, so for a second kick at the next relist.
        """
        verdict = Verdict(probe, ready=False)
        from_s = earliest_run_s(probe, started_s)
        kicked_s = float(self._env.now)
        won = self._delays.chance(self._delays.timing.p_first_kick)
        if won and kicked_s >= from_s:
            yield from self._run_probe(server, verdict)
        if not verdict.ready and (won or self._delays.chance(self._delays.timing.p_second_kick)):
            yield from self._kubelet.pleg.newer_than(self._last_sync_end_s)
            yield self._env.timeout(self._delays("pod_sync"))
            self._last_sync_end_s = kicked_s = float(self._env.now)
            if kicked_s >= from_s:
                yield from self._run_probe(server, verdict)
        ticks_from_s = kicked_s
        if from_s > self._env.now:
            yield self._env.timeout(from_s - self._env.now)
        yield from self._watch_readiness(server, verdict, ticks_from_s)

    def _watch_readiness(self, server: Server, verdict: Verdict, ticks_from_s: float) -> Process:
        """Ticks for as long as a result could change the verdict; else sleeps until the server changes.

        Readiness goes on through preStop and grace (pkg/kubelet/kubelet.go:2147-2158).
        """
        env = self._env
        while self.stage is PodStage.RUNNING:
            if server.answers(verdict.probe) == verdict.ready:
                yield server.when_health_changes()
                continue
            tick_s = first_tick_s(verdict.probe, worker_started_s=ticks_from_s, not_before_s=env.now + 1e-6)
            yield env.timeout(tick_s - env.now)
            yield from self._run_probe(server, verdict)

    def _run_probe(self, server: Server, verdict: Verdict) -> Process:
        success = server.answers(verdict.probe)
        if success or server.phase is not ServerPhase.VANISHED:
            yield self._env.timeout(self._delays("probe_round"))
        else:
            yield self._env.timeout(verdict.probe.timeout_s)
        if verdict.take(success) and self.stage is PodStage.RUNNING:
            self._set_ready(server, ready=verdict.ready)

    def _set_ready(self, server: Server, *, ready: bool) -> None:
        if self._container_ready[server.container.name] != ready:
            self._container_ready[server.container.name] = ready
            self._kubelet.status.put(self)

    # ------------------------------------------------------------------ end

    def terminate(self) -> None:
        if not self._terminating:
            self._terminating = True
            self._env.process(self._terminate())

    def _terminate(self) -> Process:
        """All containers at once, then the sandbox, the terminal status and the object.

        A pod that was synced within the last second waits for the next relist (pod_workers.go:1271-1279).
        """
        env, delays = self._env, self._delays
        yield env.timeout(delays("kubelet_reaction"))
        if not self._started.processed:
            yield self._started
        yield from self._kubelet.pleg.newer_than(self._last_sync_end_s)
        grace_s = effective_grace_s(self.pod.template.termination_grace_period_s)
        yield env.all_of([env.process(self._stop(server, grace_s)) for server in self.pod.servers.values()])
        yield env.timeout(delays("exit_to_netns_gone"))
        self.stage = PodStage.TERMINAL
        for server in self.pod.servers.values():
            server.move(ServerPhase.VANISHED)
        self._kubelet.status.put(self)
        yield env.timeout(delays("terminal_to_removed"))
        yield from self._kubelet.api.write(delays, self._removed)
        self.pod_log("removed")

    def _removed(self) -> PodView:
        view = self._kubelet.api.pods[self.pod.name]
        return replace(view, stage=PodStage.REMOVED, ready=False)

    def _stop(self, server: Server, grace_s: int) -> Process:
        """preStop within the grace, the stop signal, SIGKILL (kuberuntime_container.go:738-869)."""
        env = self._env
        began_s = float(env.now)
        hook = server.container.pre_stop
        if hook is not None:
            self.pod_log("pre_stop", server.container.name)
            yield from self._run_hook(server, hook, grace_s)
        plan = plan_shutdown(pre_stop_s=min(float(env.now) - began_s, float(grace_s)), grace_s=grace_s)
        exited = self._exited[server.container.name]
        if not exited.triggered:
            yield env.timeout(self._delays("signal_delivery"))
            self._signal(server, server.image.stop_signal)
            yield exited | env.timeout(plan.sigkill_after_signal_s)
        if not exited.triggered:
            self.pod_log("sigkill", server.container.name)
            server.killed = True
            yield env.timeout(self._delays("sigkill"))
            self._exit(server)

    def _run_hook(self, server: Server, hook: Hook, grace_s: int) -> Process:
        """An exec hook dies with its container, a sleep hook is waited out (lifecycle/handlers.go:73-145)."""
        env = self._env
        hook_s = self._hook_s(hook)
        lead_s = hook_s - hook.duration_s
        for after_s, path in hook.removes:
            env.process(self._later(lead_s + after_s, lambda path=path: server.remove_file(path)))
        for after_s, signal in hook.signals:
            env.process(self._later(lead_s + after_s, lambda signal=signal: self._signal(server, signal)))
        end = env.timeout(min(hook_s, float(grace_s)))
        yield end if hook.kind is HookKind.SLEEP else end | self._exited[server.container.name]

    def _later(self, after_s: float, do: Any) -> Process:
        yield self._env.timeout(after_s)
        do()

    def _signal(self, server: Server, signal: str) -> None:
        if server.phase not in (ServerPhase.EXITED, ServerPhase.VANISHED, ServerPhase.ABSENT):
            self.pod_log("stop_signal", signal)
            self._env.process(self._react(server, signal))

    def _react(self, server: Server, signal: str) -> Process:
        """The server's own side of a signal: what its table says, in time."""
        env, delays = self._env, self._delays
        if server.phase is ServerPhase.STARTING:
            self._exit(server)
            return
        behaviour = stop_behaviour(server.container, server.image, signal)
        if behaviour.exit is ExitWhen.NEVER or (
            server.stop is not None and behaviour.exit is not ExitWhen.AT_ONCE
        ):
            return
        server.stop = behaviour
        match behaviour.exit:
            case ExitWhen.AT_ONCE:
                server.move(ServerPhase.DEAF)
                yield env.timeout(delays("fast_stop"))
            case ExitWhen.AFTER:
                server.move(ServerPhase.DRAINING)
                yield env.timeout(behaviour.exit_after_s)
            case ExitWhen.DRAINED:
                server.move(ServerPhase.DRAINING)
                yield env.timeout(delays("graceful_exit"))
                if behaviour.drain_timeout_s is None:
                    yield server.when_drained()
                else:
                    limit = env.timeout(behaviour.drain_timeout_s)
                    yield server.when_drained() | limit
                    server.cut_by_own_limit = limit.processed
        self._exit(server)

    def _exit(self, server: Server) -> None:
        exited = self._exited[server.container.name]
        if not exited.triggered:
            exited.succeed()
            server.move(ServerPhase.EXITED)
