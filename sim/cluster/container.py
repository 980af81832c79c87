"""One container on its node: its process starts, hears signals and ends.

What each server does on a signal stands in sim/servers.py.
"""

from collections.abc import Callable
from functools import partial

import simpy

from sim.cluster.crash_loop import CrashLoop
from sim.cluster.node_cpu import NodeCpu
from sim.delays import Delays
from sim.scenario.model import ExitWhen, Hook, HookKind, ServerKind, StopBehaviour
from sim.servers import IGNORED, stop_behaviour
from sim.world import Process, Server, ServerPhase

P = ServerPhase


class RunningContainer:
    def __init__(self, env: simpy.Environment, delays: Delays, server: Server, cpu: NodeCpu) -> None:
        self._env = env
        self._delays = delays
        self._cpu = cpu
        self.server = server
        self.started_s = float(env.now)
        self.listens_s = self.started_s
        self.ended = env.event()
        """Of the present life."""
        self.ended_s: float | None = None
        """End of the last life."""
        self.crash_loop = CrashLoop()

    @property
    def alive(self) -> bool:
        return self.server.phase not in (P.ABSENT, P.EXITED, P.VANISHED) and not self.ended.triggered

    # ------------------------------------------------------------------ start

    def start(self) -> None:
        """The process runs now and listens when its startup is over."""
        server = self.server
        if server.phase is P.EXITED:
            server.begin_again()
            self.ended = self._env.event()
        self.started_s = float(self._env.now)
        self.listens_s = self.started_s + server.image.startup.draw_s(self._delays.rng)
        self._env.process(self._listen(self.ended))
        if (hook := server.container.post_start) is not None:
            self.play(hook, lead_s=0.0)

    def _listen(self, life: simpy.Event) -> Process:
        yield self._env.timeout(self.listens_s - self._env.now)
        if self._lives(life) and self.server.phase is P.STARTING:
            self.server.move(P.LISTENING)

    def _lives(self, life: simpy.Event) -> bool:
        return life is self.ended and not life.triggered

    # ------------------------------------------------------------------ hooks

    def hook_s(self, hook: Hook) -> tuple[float, float]:
        """What a hook costs beside its own duration, and both together. [s]"""
        if hook.kind is HookKind.SLEEP:
            return 0.0, hook.duration_s
        lead_s = self._delays("exec_hook" if hook.kind is HookKind.EXEC else "round_trip")
        return lead_s, lead_s + hook.duration_s

    def play(self, hook: Hook, *, lead_s: float) -> None:
        """Let the hook's effects happen, for as long as the container lives."""
        for after_s, path in hook.removes:
            self._later(lead_s + after_s, partial(self.server.remove_file, path))
        for after_s, signal in hook.signals:
            self._later(lead_s + after_s, partial(self.signal, signal))

    def _later(self, after_s: float, do: Callable[[], None]) -> None:
        def waiting(life: simpy.Event) -> Process:
            yield self._env.timeout(after_s)
            if self._lives(life):
                do()

        self._env.process(waiting(self.ended))

    # ------------------------------------------------------------------ end

    def signal(self, name: str) -> None:
        """The process gets a signal: what its table says happens now, its exit later.

        A signal before it listens ends it; one that adds nothing to a stop under way changes nothing.
        """
        server = self.server
        if not self.alive:
            return
        server.log("stop_signal", name)
        if server.phase is P.STARTING:
            self._end()
            return
        behaviour = stop_behaviour(server.container, server.image, name)
        if behaviour != IGNORED:
            self._env.process(self._stop(behaviour, self.ended))

    def _stop(self, behaviour: StopBehaviour, life: simpy.Event) -> Process:
        """It hears the signal when it gets a core.

        nginx's worker serves on while its master waits, but for its own wait at the end (validation/calibration/
        FINDINGS.md). A server of one process reads nothing meanwhile, and the signal comes before what has arrived: a
        Go server that was to finish its requests lost 7 and 11 of them, sent 50 to 80 ms before it ended
        (validation/observations/drawn-1-05).
        """
        server, at_once = self.server, behaviour.exit is ExitWhen.AT_ONCE
        deaf_s = heard_s = self._end_delay("signal_heard")
        if server.image.server is ServerKind.NGINX:
            deaf_s = min(heard_s, self._end_delay("core_wait")) if at_once else 0.0
        yield self._env.timeout(heard_s - deaf_s)
        if deaf_s > 0 and self._lives(life) and server.phase is P.LISTENING:
            yield from self._wait_for_a_core(deaf_s)
        else:
            yield self._env.timeout(deaf_s)
        if not self._lives(life) or (server.stop is not None and (server.phase is P.DEAF or not at_once)):
            return
        server.hear(behaviour, P.DEAF if at_once else P.DRAINING)
        yield from self._wind_down(behaviour, life)

    def _wait_for_a_core(self, wait_s: float) -> Process:
        """Nothing is read; the word of nginx's master is what wakes its worker, or comes while that waits already."""
        delays, server = self._delays, self.server
        server.move(P.DEAF)
        before_s = 0.0 if delays.chance(delays.timing.p_word_wakes) else delays.share() * wait_s
        yield self._env.timeout(before_s)
        server.word_s = float(self._env.now)
        yield self._env.timeout(wait_s - before_s)

    def _end_delay(self, name: str) -> float:
        return self._delays(self._cpu.latency(name))

    def _wind_down(self, behaviour: StopBehaviour, life: simpy.Event) -> Process:
        env, server = self._env, self.server
        match behaviour.exit:
            case ExitWhen.AT_ONCE:
                yield env.timeout(self._end_delay("fast_stop"))
                if server.image.server is ServerKind.NGINX and self._lives(life):
                    server.cut()  # the master goes after its worker, and the listener with it
                    yield env.timeout(self._end_delay("graceful_exit"))
            case ExitWhen.NEVER:
                return
            case ExitWhen.AFTER:
                yield env.timeout(behaviour.exit_after_s)
            case ExitWhen.DRAINED:
                drained, limit_s = server.when_drained(), behaviour.drain_timeout_s
                yield drained if limit_s is None else drained | env.timeout(limit_s)
                if self._lives(life):
                    server.cut_by_own_limit = not drained.triggered
                if not server.cut_by_own_limit:
                    yield env.timeout(self._end_delay("graceful_exit"))
        if self._lives(life):
            self._end()

    def kill(self) -> Process:
        """SIGKILL: nothing of the process remains, nor does it choose."""
        self.server.killed = True
        self.server.log("sigkill", self.server.container.name)
        yield self._env.timeout(self._delays("sigkill"))
        if not self.ended.triggered:
            self._end()

    def _end(self) -> None:
        self.ended_s = float(self._env.now)
        self.ended.succeed()
        self.server.move(P.EXITED)
