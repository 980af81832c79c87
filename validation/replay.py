"""Replays one scenario on a real cluster: its own manifests, a real client, the update at its time.

The order keeps a run clean: nothing of an earlier run, no old conntrack entry, a steady state without a
failure, and only then the load. The namespace is deleted whatever happens.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from sim.scenario.model import ClosedLoop, Load, Scenario, ServerKind, UpdateAction
from validation import load as loads
from validation.access import Access, ReplayError
from validation.counters import cpu_busy, cpu_others, moved, read_counters, spoiling
from validation.lab.commands import CommandFailed
from validation.load import LoadResult, Target
from validation.namespace import Say, apply, own_namespace, start_removing_leftovers, wait_gone
from validation.record import Recorder
from validation.timeline import Row, is_complete, read_timeline

PROXY_SETTLE_S = 6.0
"""HAProxy that starts before its server marks it DOWN and needs rise × inter to come back."""
QUIET_S = 3.0
"""kube-proxy's and the kubelet's last work is over by then."""
SILENT_S = 8.0
"""A control plane that renews its lease every 2 s stood still if nothing was heard for so long."""
CLOCK_SLIP_S = 0.1
"""More than NTP's slewing moves the wall clock during a run (500 ppm: 0.03 s a minute)."""
FORGET = (
    "for state in SYN_SENT SYN_RECV FIN_WAIT CLOSE_WAIT LAST_ACK TIME_WAIT CLOSE; "
    "do conntrack -D -p tcp --state $state; done >/dev/null 2>&1; true"
)
"""Deletes connection tracking's entries of everything but established connections."""
SPAN_AFTER_S = 10.0
"""How long after the rollout and the load the last old pod may take beyond its grace period."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines of a replay. [s]"""

    ready_s: float = 120.0
    rollout_s: float = 240.0
    baseline_s: float = 2.0
    baseline_requests: int = 200
    """Of a client without pause that closes its connections: each one more would hold up the load (time_wait.py)."""


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """One run as it was: what the client counted and what the cluster did."""

    load: LoadResult
    updated_t: float
    """Wall clock at which the API server had the (first) update. [s]"""
    complete_t: float | None
    old_pods_gone_t: float | None
    ended_t: float
    timeline: tuple[Row, ...]
    counters: Mapping[str, int]
    cpu_busy: float | None
    cpu_others: float | None
    """Share of all cores that neither cluster nor client used."""
    spoiled: tuple[str, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]


def replay(
    scenario: Scenario,
    access: Access,
    *,
    limits: Limits = DEFAULT_LIMITS,
    client_image: str | None = None,
    measuring: Callable[[], AbstractContextManager[Any]] = nullcontext,
    say: Say = lambda _: None,
) -> Replayed:
    """Make one run of *scenario*; *measuring* is entered around the part that nothing may disturb.

    Raises
    ------
    ReplayError
        It cannot be replayed there, did not become ready, or its load could not be made.
    """
    check(scenario, access, client_image)
    with measuring(), _in_one_line(access):
        _end_orphans(access)
        left = start_removing_leftovers(access, say)
        with own_namespace(access, scenario) as namespace:
            apply(access, namespace, scenario.objects)
            say("waiting for the Deployments")
            _wait_available(access, namespace, scenario, limits.ready_s)
            for name in left:
                wait_gone(access, name)
            if has_proxy(scenario):
                time.sleep(PROXY_SETTLE_S)
            run = _Run(scenario, access, namespace, limits=limits, client_image=client_image, say=say)
            return run.make()


@contextmanager
def _in_one_line(access: Access) -> Iterator[None]:
    """What docker refuses is said in a line; a lab that is gone, before what followed from it."""
    try:
        yield
    except CommandFailed as error:
        access.require_lab()
        raise ReplayError(" ".join(str(error).split())) from error
    except ReplayError:
        access.require_lab()
        raise


def _end_orphans(access: Access) -> None:
    """End the load client of a replay that was killed: it would load this one's port."""
    if access.lab:
        access.lab.in_load("sh", "-c", "pkill -x timeout || true")  # each client runs under one, see load.py


def check(scenario: Scenario, access: Access, client_image: str | None) -> None:
    """Refuse what cannot be replayed there.

    Raises
    ------
    ReplayError
        With the reason.
    """
    if not scenario.actions:
        raise ReplayError(f"{scenario.name}: no update to make")
    in_pod = access.lab is None or not scenario.cluster.client_on_node
    if in_pod and not client_image:
        raise ReplayError(
            f"{scenario.name}: the client runs in a pod there: name its image with --client-image"
        )
    if access.lab and scenario.cluster.nodes > len(access.lab.nodes):
        n = len(access.lab.nodes)
        raise ReplayError(f"{scenario.name}: cluster.nodes is {scenario.cluster.nodes}, the lab has {n}")


def has_proxy(scenario: Scenario) -> bool:
    """Whether one of the scenario's images is HAProxy."""
    return any(image.server is ServerKind.HAPROXY for image in scenario.images.values())


# ---------------------------------------------------------------- before the run


def _wait_available(access: Access, namespace: str, scenario: Scenario, within_s: float) -> None:
    names = [f"deployment/{deployment.name}" for deployment in scenario.deployments]
    deadline_s = time.monotonic() + within_s
    for name in names:
        left_s = max(deadline_s - time.monotonic(), 1.0)
        try:
            access.kubectl(
                "rollout", "status", name, "-n", namespace, f"--timeout={left_s:.0f}s", timeout_s=left_s + 15
            )
        except ReplayError:
            raise ReplayError(_not_ready(access, namespace, name, within_s)) from None


def _not_ready(access: Access, namespace: str, name: str, within_s: float) -> str:
    status = access.get("-n", namespace, name).get("status", {})
    reasons = {
        state["waiting"].get("reason", "waiting")
        for pod in access.get("-n", namespace, "pods")["items"]
        for container in pod.get("status", {}).get("containerStatuses", ())
        if "waiting" in (state := container["state"])
    }
    ready = f"{status.get('readyReplicas', 0)} of {status.get('replicas', 0)} pods ready"
    why = f" ({', '.join(sorted(reasons))})" if reasons else ""
    return f"{name} did not become ready within {within_s:.0f} s: {ready}{why}"


def opens_all_the_time(load: Load) -> bool:
    """Whether *load* opens connections as fast as answers come."""
    arrivals = load.arrivals
    return isinstance(arrivals, ClosedLoop) and arrivals.think_time is None and not load.keep_alive


def target_of(access: Access, namespace: str, scenario: Scenario, *, in_pod: bool) -> Target:
    """Where the load goes: loopback and the NodePort from the node, else the Service's own address."""
    service = access.get("-n", namespace, "service", scenario.load.service)
    port = next(p for p in service["spec"]["ports"] if p["port"] == scenario.load.port)
    if port.get("nodePort") and not in_pod:
        return Target(host="127.0.0.1", port=port["nodePort"], name=scenario.load.service)
    address = service["spec"]["clusterIP"]
    if address == "None":
        raise ReplayError(f"service {scenario.load.service}: headless; the client needs an address")
    return Target(host=address, port=port["port"], name=scenario.load.service)


# ---------------------------------------------------------------- the run


class _Run:
    """The measured part: from the flushed connection tracking to the last old pod's end."""

    def __init__(
        self,
        scenario: Scenario,
        access: Access,
        namespace: str,
        *,
        limits: Limits,
        client_image: str | None,
        say: Say,
    ) -> None:
        self._scenario = scenario
        self._access = access
        self._namespace = namespace
        self._limits = limits
        self._say = say
        self._lab = access.lab
        self._image = client_image
        self._in_pod = access.lab is None or not scenario.cluster.client_on_node
        self._target = target_of(access, namespace, scenario, in_pod=self._in_pod)
        self._clock_s = 0.0
        self._notes: list[str] = []
        self._spoiled: list[str] = []

    def make(self) -> Replayed:
        load = self._scenario.load
        command = loads.command_for(load, self._target, lookup_pods=not self._in_pod)
        if self._lab:
            self._lab.in_load("mkdir", "-p", loads.IN_CONTAINER)
            self._lab.in_load("rm", "-rf", f"{loads.IN_CONTAINER}/clients")
            self._lab.copy_to_load(loads.CLIENTS, f"{loads.IN_CONTAINER}/clients")
        versions = self._versions()
        self._baseline()
        self._flush()
        longest_s = max(load.duration_s or 0.0, self._limits.rollout_s) + loads.GRACE_S
        with Recorder(self._access, self._namespace, limit_s=longest_s + 180) as recorder:
            recorder.follow_logs(self._proxies())
            time.sleep(QUIET_S)
            before = read_counters(self._lab) if self._lab else {}
            self._clock_s = _clock_offset_s()
            self._say("load")
            running = self._start(command, longest_s, "load")
            try:
                started_t = running.started_t()
                old = self._old_pods(recorder)
                updated_t = self._update(recorder, started_t)
                complete_t = self._complete(recorder)
                gone_t = self._gone(recorder, old)
                output = running.output(within_s=(load.duration_s or self._limits.rollout_s) + loads.GRACE_S)
                ended_t = time.time()
            finally:
                running.stop()
            recorder.require_watches()
            self._require_time(recorder)
            change = moved(before, read_counters(self._lab)) if self._lab else {}
            result = loads.read_output(load.client, output)
            if result.started_t + (load.duration_s or 0.0) < (gone_t or 0.0) and load.duration_s:
                self._notes.append("the load ended before the last old pod was gone")
            time.sleep(0.3)
        timeline = read_timeline(recorder)
        self._spoiled += [*result.troubles, *spoiling(change)]
        return Replayed(
            load=result,
            updated_t=updated_t,
            complete_t=complete_t,
            old_pods_gone_t=gone_t,
            ended_t=ended_t,
            timeline=tuple(timeline),
            counters={k: v for k, v in change.items() if not k.startswith("cpu_")},
            cpu_busy=cpu_busy(change) if change else None,
            cpu_others=cpu_others(change) if change else None,
            spoiled=tuple(self._spoiled),
            notes=tuple(self._notes),
            versions=versions,
        )

    def _require_time(self, recorder: Recorder) -> None:
        """A run is spoiled in which the control plane stood still, or somebody set the clock that all times are of."""
        if (silent_s := recorder.longest_silence_s()) > SILENT_S:
            self._spoiled.append(f"the control plane stood still for {silent_s:.0f} s")
        if abs(slip_s := _clock_offset_s() - self._clock_s) > CLOCK_SLIP_S:
            self._spoiled.append(f"the machine's clock was set by {slip_s:+.1f} s during the run")

    def _start(self, command: list[str], limit_s: float, name: str) -> loads.Running:
        if self._lab and not self._in_pod:
            return loads.OnNode(self._lab, command, limit_s=limit_s)
        assert self._image is not None
        return loads.InPod(
            self._access, self._namespace, command, image=self._image, limit_s=limit_s, name=f"rollsim-{name}"
        )

    def _flush(self) -> None:
        """Old connection tracking entries would send new connections to pods that are gone.

        Those of connections that live stay: a proxy's idle ones to its servers would lose their translation, and
        the first request on each of them would be reset.
        """
        for node in self._lab.nodes if self._lab else ():
            assert self._lab is not None
            self._lab.in_node("sh", "-c", FORGET, node=node)

    def _baseline(self) -> None:
        """A short load without an update: a failure there is not the rollout's."""
        self._flush()
        settings = loads.settings_of(
            self._scenario.load, self._target, lookup_pods=False, duration_s=self._limits.baseline_s
        )
        if opens_all_the_time(self._scenario.load):
            settings = replace(settings, requests=self._limits.baseline_requests)
        running = self._start(loads.own_command(settings), 30.0 + settings.answer_timeout_s, "baseline")
        try:
            result = loads.read_output("plain", running.output(within_s=60.0 + settings.answer_timeout_s))
        finally:
            running.stop()
        if result.failed:
            self._spoiled.append(f"baseline: {result.failed} of {result.requests} failed before any update")

    def _proxies(self) -> list[str]:
        if not has_proxy(self._scenario):
            return []
        proxies = {r for r, image in self._scenario.images.items() if image.server is ServerKind.HAPROXY}
        pods = self._access.get("-n", self._namespace, "pods")["items"]
        return [
            pod["metadata"]["name"]
            for pod in pods
            if any(container["image"] in proxies for container in pod["spec"]["containers"])
        ]

    # ------------------------------------------------------------ update

    def _updated_names(self) -> set[str]:
        names: set[str] = set()
        for action in self._scenario.actions:
            if action.deployment:
                names.add(action.deployment)
            names |= {o["metadata"]["name"] for o in action.objects if o["kind"] == "Deployment"}
        return names

    def _generations(self, recorder: Recorder) -> dict[str, int]:
        return {
            o["metadata"]["name"]: o["metadata"]["generation"] for _, _, o in recorder.objects("deployment")
        }

    def _old_pods(self, recorder: Recorder) -> set[str]:
        """Pods of the Deployments that are about to change."""
        names = self._updated_names()
        if not recorder.wait_until(lambda: bool(self._generations(recorder)), within_s=10):
            raise ReplayError("the API server's watch of Deployments says nothing")
        return {
            pod["metadata"]["name"]
            for _, _, pod in recorder.objects("pod")
            if any(
                owner["kind"] == "ReplicaSet" and owner["name"].rpartition("-")[0] in names
                for owner in pod["metadata"].get("ownerReferences", ())
            )
        }

    def _update(self, recorder: Recorder, started_t: float) -> float:
        """Make every update at its time; the wall clock at which the first was in the API server."""
        before = self._generations(recorder)
        first_t = None
        for action in sorted(self._scenario.actions, key=lambda a: a.at_s):
            due_s = started_t - self._clock_s + action.at_s
            time.sleep(max(due_s - time.monotonic(), 0.0))
            first_t = first_t or time.time()
            self._say("update")
            _make(self._access, self._namespace, action)
        recorder.wait_until(lambda: self._generations(recorder) != before, within_s=5)
        for at_t, _, found in recorder.objects("deployment"):
            if found["metadata"]["generation"] > before.get(found["metadata"]["name"], 0):
                return at_t
        self._notes.append("the update changed no Deployment")
        return first_t or time.time()

    def _complete(self, recorder: Recorder) -> float | None:
        """When the last updated Deployment's status was complete."""
        names = self._updated_names()

        def complete() -> dict[str, float]:
            last: dict[str, tuple[float, bool]] = {}
            for at_t, _, found in recorder.objects("deployment"):
                name, done = found["metadata"]["name"], is_complete(found)
                if not (done and last.get(name, (0.0, False))[1]):
                    last[name] = (at_t, done)
            return {name: at for name, (at, done) in last.items() if done and name in names}

        if not recorder.wait_until(lambda: complete().keys() == names, within_s=self._limits.rollout_s):
            self._notes.append(f"the rollout was not complete within {self._limits.rollout_s:.0f} s")
            return None
        return max(complete().values())

    def _gone(self, recorder: Recorder, old: set[str]) -> float | None:
        """When the last old pod's object was gone."""
        grace_s = max((d.template.termination_grace_period_s for d in self._scenario.deployments), default=30)

        def gone() -> dict[str, float]:
            return {
                pod["metadata"]["name"]: at_t
                for at_t, event, pod in recorder.objects("pod")
                if event == "DELETED"
            }

        within_s = grace_s + SPAN_AFTER_S + self._scenario.load.answer_timeout_s
        if not recorder.wait_until(lambda: old <= gone().keys(), within_s=within_s):
            self._notes.append("not every old pod was gone at the end")
            return None
        return max((at_t for pod, at_t in gone().items() if pod in old), default=None)

    def _versions(self) -> dict[str, str]:
        """What ran there."""
        node = self._access.get("nodes")["items"][0]["status"]["nodeInfo"]
        versions = {
            "kernel": node["kernelVersion"],
            "kubernetes": node["kubeletVersion"],
            "containerd": node["containerRuntimeVersion"].rpartition("/")[2],
            "kube_proxy_mode": self._proxy_mode(),
        }
        for pod in self._access.get("-n", self._namespace, "pods")["items"]:
            image = self._scenario.images.get(pod["spec"]["containers"][0]["image"])
            kind = image.server.value if image else "generic"
            ask = {"nginx": "nginx -v 2>&1", "haproxy": "haproxy -v 2>&1 | head -1"}.get(kind)
            if ask and kind not in versions:
                try:
                    said = self._access.kubectl(
                        "exec", "-n", self._namespace, pod["metadata"]["name"], "--", "sh", "-c", ask
                    )
                    versions[kind] = next(w for w in said.replace("nginx/", "").split() if w[0].isdigit())
                except (ReplayError, StopIteration):
                    versions[kind] = "unknown"
        return versions

    def _proxy_mode(self) -> str:
        try:
            config = self._access.get("-n", "kube-system", "configmap", "kube-proxy")["data"]["config.conf"]
        except (ReplayError, KeyError):
            return "unknown"
        mode = next(
            (line.split(":")[1].strip(' "') for line in config.splitlines() if line.startswith("mode:")), ""
        )
        return mode or "iptables"


def _clock_offset_s() -> float:
    """Wall clock minus the clock that nobody can set. [s]"""
    return time.time() - time.monotonic()


def _make(access: Access, namespace: str, action: UpdateAction) -> None:
    """One update as a user would make it."""
    name = f"deployment/{action.deployment}"
    if action.image:
        access.kubectl("set", "image", name, f"{action.container or '*'}={action.image}", "-n", namespace)
    elif action.restart:
        access.kubectl("rollout", "restart", name, "-n", namespace)
    else:
        apply(access, namespace, action.objects)


def cores() -> int:
    """Cores that cluster and client share."""
    return os.cpu_count() or 1
