"""The kubelet of one node: starts pods, has them probed, reports their status, ends them.

Source: kubernetes v1.34 pkg/kubelet (the files stand beside each rule).
"""

import math
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import simpy

from sim.cluster.api import Api, PodStage, PodView
from sim.cluster.container import RunningContainer
from sim.cluster.crash_loop import RETRY_S
from sim.cluster.node_cpu import NodeCpu
from sim.cluster.pleg import RELIST_PERIOD_S, Pleg
from sim.cluster.prober import Prober
from sim.cluster.probes import Verdict
from sim.cluster.shutdown import effective_grace_s, plan_shutdown
from sim.cluster.status_manager import PodStatus, StatusManager
from sim.delays import Delays
from sim.scenario.model import Hook, HookKind, Probe
from sim.waiting import Turn, all_of
from sim.world import Pod, Process, ServerPhase, World

OLD_PROBES_S = 3600.0
"""Probes of a pod that runs since long before tick at any phase: their worker began within this time."""


class Kubelet:
    """One node's agent; it takes the pods that are bound to its node."""

    def __init__(
        self, env: simpy.Environment, world: World, api: Api, delays: Delays, node: int, cpu: NodeCpu
    ) -> None:
        self.env = env
        self.world = world
        self.api = api
        self.delays = delays
        self.node = node
        self.cpu = cpu
        self.pleg = Pleg(env, delays, first_s=float(delays.rng.random()) * RELIST_PERIOD_S)
        self.status = StatusManager(env, world, api, delays)
        self._workers: dict[str, PodWorker] = {}
        self._first_mounts: dict[str, FirstMounts] = {}
        """By Deployment."""
        name = f"kubelet/{node}"
        api.watch(PodView, name, delays, self._on_pod, wants=self._is_mine, wakes=self._calls_for_work)

    def adopt(self, pod: Pod, view: PodView) -> None:
        """A pod that has run since long before."""
        self._workers[pod.name] = PodWorker(self, pod, running_since_s=view.ready_since_s)

    def _is_mine(self, view: PodView) -> bool:
        """It asks for those whose spec.nodeName is its own (pkg/kubelet/config/apiserver.go)."""
        return view.node == self.node

    def _calls_for_work(self, view: PodView) -> bool:
        """A pod without a worker, a deletion, a removal; the rest of a status is its own word come back."""
        return view.name not in self._workers or view.deleted or view.stage is PodStage.REMOVED

    def _on_pod(self, view: PodView) -> None:
        worker = self._workers.get(view.name)
        if worker is None and view.active:
            pod = self.world.pods[view.name]
            pod.node = self.node
            worker = self._workers[view.name] = PodWorker(self, pod, running_since_s=None)
        if worker is not None and (view.deleted or view.stage is PodStage.REMOVED):
            worker.terminate()
        if view.stage is PodStage.REMOVED:
            self._workers.pop(view.name, None)

    def first_mounts(self, pod: Pod) -> "FirstMounts | None":
        """What *pod* belongs to if no pod of its Deployment has its volumes here; None: one has."""
        if any(w.has_volumes for w in self._workers.values() if w.pod.deployment == pod.deployment):
            self._first_mounts.pop(pod.deployment, None)
            return None
        if pod.deployment not in self._first_mounts:
            self._first_mounts[pod.deployment] = FirstMounts(self.delays)
        return self._first_mounts[pod.deployment]


class FirstMounts:
    """Pods that start together on a node where nobody holds their ConfigMaps.

    The kubelet watches an object for as long as a pod refers to it (pkg/kubelet/util/manager/watch_based_manager.go).
    Of several pods that ask first at once the mounts may fail, "not registered" or "timed out waiting" for its cache,
    and are tried again after 500 ms: all of them are late, or none (measured, `late_mount`). One alone never was.
    """

    def __init__(self, delays: Delays) -> None:
        self._delays = delays
        self._late_s: float | None = None
        self.n = 0

    @property
    def late_s(self) -> float:
        """How much later they have their volumes. [s]"""
        if self.n > 1 and self._late_s is None:
            self._late_s = self._delays("late_mount")
        return self._late_s or 0.0


class PodWorker:
    """One pod on its node, from its first sync to the removal of its object.

    It does one thing at a time (`_turn`): a deletion waits for the sync under way, for the start of the pod
    too (pkg/kubelet/kubelet.go:2091-2097). Each sync waits for a relist that began after the last one's end.
    """

    def __init__(self, kubelet: Kubelet, pod: Pod, *, running_since_s: int | None) -> None:
        self._kubelet = kubelet
        self._env = env = kubelet.env
        self._delays = kubelet.delays
        self.pod = pod
        running = running_since_s is not None
        self.stage = PodStage.RUNNING if running else PodStage.PENDING
        self.has_address = self.has_volumes = running
        self.ready_since_s = running_since_s or 0
        self.terminating = False
        self._turn = Turn(env)
        self._synced_s = float("-inf")
        self._containers = [RunningContainer(env, self._delays, s, kubelet.cpu) for s in pod.servers.values()]
        self._ready = dict.fromkeys(pod.servers, running)
        if running:
            self._go_on_probing()
        else:
            env.process(self._start())

    @property
    def running(self) -> bool:
        return self.stage is PodStage.RUNNING

    @property
    def ready(self) -> bool:
        return self.running and all(self._ready.values())

    def _log(self, what: str, detail: str = "") -> None:
        self._kubelet.world.log(self.pod.name, what, detail)

    def set_ready(self, container: RunningContainer, *, ready: bool) -> None:
        """A readiness result goes straight to the status and asks for a sync (kubelet.go:2571-2579)."""
        name = container.server.container.name
        if self._ready[name] == ready:
            return
        was_ready = self.ready
        self._ready[name] = ready
        if self.ready and not was_ready:
            self.ready_since_s = math.floor(self._env.now)
        self._report()
        if not self.terminating:
            self._env.process(self.next_sync())

    def next_sync(self) -> Process:
        """The pod's next sync, which waits for its relist with the worker in hand."""
        with (yield from self._turn.mine()):
            yield from self._kubelet.pleg.newer_than(self._synced_s)
            if not self.terminating:
                yield self._env.timeout(self._delays("pod_sync"))
                self._synced_s = float(self._env.now)
                self._report()

    def _report(self) -> None:
        status = PodStatus(
            stage=self.stage,
            has_address=self.has_address,
            ready=self.ready,
            ready_since_s=self.ready_since_s,
            n_restarts=max(server.n_restarts for server in self.pod.servers.values()),
        )
        self._kubelet.status.put(self.pod.name, status)

    # ------------------------------------------------------------------ start

    def _start(self) -> Process:
        """pkg/kubelet/kubelet.go SyncPod: volumes, sandbox, containers one after the other; then a relist."""
        env, delays = self._env, self._delays
        yield env.timeout(delays("kubelet_reaction"))
        with (yield from self._turn.mine()):
            if self.terminating:
                return
            if self.pod.template.has_volumes:  # the service account's token is one
                yield from self._mount()
            probes_from_s = float(env.now)
            yield from self._kubelet.cpu.work(delays("sandbox"))
            self._log("sandbox")
            for container in self._containers:
                container.server.move(ServerPhase.STARTING)
            for container in self._containers:
                yield from self._start_container(container)
            self._synced_s = float(env.now)
        yield from self._kubelet.pleg.newer_than(self._synced_s)
        if self.terminating:
            return
        yield env.timeout(delays("pod_sync"))
        self._synced_s = float(env.now)
        self.stage = PodStage.RUNNING
        self.has_address = True
        for container in self._containers:
            env.process(Prober(env, delays, self, container, probes_from_s).begin())
        yield env.timeout(0)  # a container without a readiness probe is ready in this very status
        self._report()

    def _mount(self) -> Process:
        first = self._kubelet.first_mounts(self.pod)
        if first is not None:
            first.n += 1
        yield self._env.timeout(self._delays("volume_wait"))
        if first is not None:
            yield self._env.timeout(first.late_s)
        self.has_volumes = True

    def _start_container(self, container: RunningContainer) -> Process:
        yield from self._kubelet.cpu.work(self._delays("container_start"))
        container.start()
        if (hook := container.server.container.post_start) is not None:
            _, hook_s = container.hook_s(hook)
            yield self._env.timeout(hook_s)

    def _go_on_probing(self) -> None:
        """The phase of a probe's ticks is whatever it became when the pod started."""
        env = self._env
        began_s = env.now - float(self._delays.rng.random()) * OLD_PROBES_S
        for container in self._containers:
            if (probe := container.server.container.readiness) is not None:
                prober = Prober(env, self._delays, self, container, began_s)
                env.process(prober.watch(Verdict(probe, ready=True)))

    def restart(self, container: RunningContainer, probe: Probe) -> Process:
        """*probe* has failed: one sync kills and starts the container, unless it has to back off.

        kuberuntime_manager.go:1151-1160, 1607-1638. A sync that backs off fails and comes again.
        """
        env, delays, loop = self._env, self._delays, container.crash_loop
        with (yield from self._turn.mine()):
            yield from self._kubelet.pleg.newer_than(self._synced_s)
            if self.terminating:
                return
            self._log("restarted", container.server.container.name)
            known_end_s = container.ended_s
            grace_s = probe.termination_grace_period_s or self.pod.template.termination_grace_period_s
            container.server.restarting = True
            yield from self._stop(container, effective_grace_s(grace_s))
        if loop.holds(known_end_s, env.now):
            known_end_s = container.ended_s
            yield from self._kubelet.pleg.newer_than(env.now)
            while loop.holds(known_end_s, env.now) and not self.terminating:
                yield env.timeout(RETRY_S[0] + (RETRY_S[1] - RETRY_S[0]) * float(delays.rng.random()))
        with (yield from self._turn.mine()):
            if self.terminating:
                return
            loop.started(known_end_s, env.now)
            yield from self._start_container(container)
            self._synced_s = float(env.now)
        yield from self.next_sync()

    # ------------------------------------------------------------------ end

    def terminate(self) -> None:
        if not self.terminating:
            self.terminating = True
            self._kubelet.cpu.deletion()
            self._kubelet.world.deletion(self._kubelet.node)
            self._env.process(self._terminate())

    def _terminate(self) -> Process:
        """All containers at once, then the sandbox, the terminal status and the object."""
        env, delays = self._env, self._delays
        yield env.timeout(delays("kubelet_reaction"))
        with (yield from self._turn.mine()):
            yield from self._kubelet.pleg.newer_than(self._synced_s)
            grace_s = effective_grace_s(self.pod.template.termination_grace_period_s)
            yield from all_of(env, [self._stop(c, grace_s) for c in self._containers if c.alive])
            yield from self._kubelet.cpu.work(delays("exit_to_netns_gone"))
            self.stage = PodStage.TERMINAL
            for container in self._containers:
                container.server.move(ServerPhase.VANISHED)
        self._report()
        # its last sync, like any other: volumes, cgroup and the DELETE follow it (kubelet.go:2266-2332)
        yield from self._kubelet.pleg.newer_than(float(env.now))
        yield env.timeout(delays("relist_to_removed"))
        if self._kubelet.api.pods[self.pod.name].stage is not PodStage.REMOVED:
            yield from self._kubelet.api.write(delays, self._removed)
        self._log("removed")

    def _removed(self) -> PodView:
        view = self._kubelet.api.pods[self.pod.name]
        return replace(view, stage=PodStage.REMOVED, ready=False)

    def _stop(self, container: RunningContainer, grace_s: int) -> Process:
        """preStop within the grace, the stop signal, SIGKILL (kuberuntime_container.go:738-869)."""
        env, server = self._env, container.server
        hook = server.container.pre_stop
        pre_stop_s = 0.0
        if hook is not None:
            self._log("pre_stop", server.container.name)
            pre_stop_s = yield from self._run_pre_stop(container, hook, grace_s)
        if not container.alive:
            return
        plan = plan_shutdown(pre_stop_s=pre_stop_s, grace_s=grace_s)
        # 22 ms with ab at full speed as without (validation/calibration/data/2026-11-24/pod-stop-ab.csv)
        yield from self._kubelet.cpu.work(self._delays("signal_delivery"), beside_load=False)
        container.signal(server.image.stop_signal)
        yield container.ended | env.timeout(plan.sigkill_after_signal_s)
        if container.alive:
            yield from container.kill()

    def _run_pre_stop(
        self, container: RunningContainer, hook: Hook, grace_s: int
    ) -> Generator[simpy.Event, Any, float]:
        """Its duration, at most the grace. [s]

        An exec hook dies with its container, a sleep hook is waited out (lifecycle/handlers.go:73-145).
        """
        lead_s, hook_s = container.hook_s(hook)
        container.play(hook, lead_s=lead_s)
        waited_s = min(hook_s, float(grace_s))
        end = self._env.timeout(waited_s)
        yield end if hook.kind is HookKind.SLEEP else end | container.ended
        return waited_s
