"""One log, on one clock, of what a pod goes through: API watches, the kernel's trace, the node's rules and links.

Runs on the machine that carries the kind node (its namespaces are entered), as root.
"""

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from validation.calibration.kernel_trace import KernelTrace, kernel_trace
from validation.calibration.kube_api import KubeApi
from validation.calibration.rows import write_rows
from validation.lab.commands import LabError

EXITS: Final = ("nginx", "haproxy", "pause", "sleep", "iptables-save", "iptables-restor")
TRACED: Final = {
    "signal/signal_generate": "sig == 15 || sig == 3 || sig == 9",
    "sched/sched_process_exec": "",
    "sched/sched_process_exit": " || ".join(f'comm == "{name}"' for name in EXITS),
}
_POD_UID: Final = re.compile(r"pod([0-9a-f]{8}[-_][0-9a-f_-]{27})")
_PRIORITY: Final = 10


@dataclass(frozen=True, slots=True)
class Event:
    at_s: float
    kind: str
    """Such as pod.ready, slice, process.exec, signal, rules, link."""
    subject: str
    """Pod uid, address or device, whatever the kind is about."""
    detail: str = ""


@dataclass
class Recorder:
    """Collects while its block runs; `events` is in order of arrival."""

    namespace: str
    events: list[Event] = field(default_factory=list)
    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Last seen object, by uid."""
    removed: set[str] = field(default_factory=set)
    uid_of_pid: dict[int, str] = field(default_factory=dict)
    _seen: set[tuple[str, str, str]] = field(default_factory=set)

    def add(self, at_s: float, kind: str, subject: str, detail: str = "") -> None:
        self.events.append(Event(at_s, kind, subject, detail))

    def write(self, path: Path, keep: Callable[[Event], bool]) -> None:
        """The events that *keep* holds of, in the order of their times, to *path*."""
        write_rows(path, [asdict(e) for e in sorted(self.events, key=lambda e: e.at_s) if keep(e)])

    def once(self, at_s: float, kind: str, subject: str, detail: str = "") -> None:
        if (kind, subject, detail) not in self._seen:
            self._seen.add((kind, subject, detail))
            self.add(at_s, kind, subject, detail)

    def on_pod(self, at_s: float, event: dict[str, Any]) -> None:
        pod = event["object"]
        meta, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        uid = meta["uid"]
        self.pods[uid] = pod
        self.once(at_s, "pod.created", uid)
        if spec.get("nodeName"):
            self.once(at_s, "pod.bound", uid)
        if status.get("podIP"):
            self.once(at_s, "pod.address", uid, status["podIP"])
        if any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ())):
            self.once(at_s, "pod.ready", uid)
        if meta.get("deletionTimestamp"):
            self.once(at_s, "pod.deleted", uid)
        if status.get("phase") in {"Succeeded", "Failed"}:
            self.once(at_s, "pod.terminal", uid)
        if event["type"] == "DELETED":
            self.once(at_s, "pod.removed", uid)
            self.removed.add(uid)

    def on_slice(self, at_s: float, event: dict[str, Any]) -> None:
        for endpoint in event["object"].get("endpoints") or ():
            uid = (endpoint.get("targetRef") or {}).get("uid") or endpoint["addresses"][0]
            state = "".join(
                letter
                for letter, name in (("r", "ready"), ("s", "serving"), ("t", "terminating"))
                if endpoint["conditions"].get(name)
            )
            self.once(at_s, "slice.endpoint", uid, state)
        self.add(
            at_s,
            "slice.write",
            event["object"]["metadata"]["name"],
            event["object"]["metadata"]["resourceVersion"],
        )

    def on_replicaset(self, at_s: float, event: dict[str, Any]) -> None:
        item = event["object"]
        status = item.get("status", {})
        self.add(
            at_s, "replicaset", item["metadata"]["name"],
            f"spec={item['spec']['replicas']} replicas={status.get('replicas', 0)} "
            f"ready={status.get('readyReplicas', 0)}",
        )  # fmt: skip

    def _watch(self, api: KubeApi, path: str, handler: Any, started: threading.Event) -> None:
        version = api.call("GET", path)["metadata"]["resourceVersion"]
        with suppress(OSError):
            for at_s, event in api.watch(path, version, started):
                handler(at_s, event)

    def _kernel(self, trace: KernelTrace) -> None:
        with suppress(OSError):
            for event in trace.pipe():
                name, fields = event.event, event.fields
                if name == "sched_process_exec":
                    uid = self._uid(int(fields["pid"]))
                    self.add(event.at_s, "process.exec", uid, fields["filename"])
                elif name == "sched_process_exit":
                    self.add(
                        event.at_s,
                        "process.exit",
                        self.uid_of_pid.get(event.pid, ""),
                        f"{event.comm} {event.pid}",
                    )
                elif name == "signal_generate":
                    target = int(fields["pid"])
                    uid = self.uid_of_pid.get(target) or self._uid(target)
                    self.add(event.at_s, "signal", uid, f"{fields['sig']} {fields['comm']} from {event.comm}")

    def _uid(self, pid: int) -> str:
        try:
            match = _POD_UID.search(Path(f"/proc/{pid}/cgroup").read_text())
        except OSError:
            return ""
        if not match:
            return ""
        self.uid_of_pid[pid] = match[1].replace("_", "-")
        return self.uid_of_pid[pid]

    def _lines(self, process: "subprocess.Popen[str]", kind: str) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            at_s = time.monotonic()
            if kind == "link":
                if " dev veth" in line and line.startswith(("10.", "Deleted 10.")):
                    self.add(
                        at_s,
                        "route.gone" if line.startswith("Deleted") else "route",
                        line.split()[0 if line[0] == "1" else 1],
                        line.strip(),
                    )
                elif "veth" in line and ": " in line:
                    self.add(
                        at_s,
                        "link.gone" if line.startswith("Deleted") else "link",
                        line.split(": ")[1].split("@")[0],
                        line.strip(),
                    )
            elif line.startswith("# new generation"):
                self.add(at_s, "rules.commit", "", line.strip())
            elif "dnat to" in line or "KUBE-SEP" in line:
                self.add(at_s, "rules", "", line.strip())

    @contextmanager
    def running(self, kubeconfig: Path, node_pid: int) -> Iterator["Recorder"]:
        """Record until the block ends. *node_pid* is the node container's first process."""
        with suppress(OSError):
            os.sched_setscheduler(
                0, os.SCHED_FIFO, os.sched_param(_PRIORITY)
            )  # its clock must not lag under load
        enter = ["nsenter", "-t", str(node_pid), "-n"]
        children = [
            (subprocess.Popen([*enter, "stdbuf", "-oL", *argv], stdout=subprocess.PIPE, text=True), kind)
            for argv, kind in ((["nft", "monitor"], "rules"), (["ip", "monitor", "link", "route"], "link"))
        ]
        try:
            with kernel_trace(TRACED, name=f"rollsim-{os.getpid()}") as trace:
                threads = [threading.Thread(target=self._kernel, args=(trace,), daemon=True)]
                threads += [
                    threading.Thread(target=self._lines, args=child, daemon=True) for child in children
                ]
                started = []
                for path, handler in (
                    (f"/api/v1/namespaces/{self.namespace}/pods", self.on_pod),
                    (f"/apis/discovery.k8s.io/v1/namespaces/{self.namespace}/endpointslices", self.on_slice),
                    (f"/apis/apps/v1/namespaces/{self.namespace}/replicasets", self.on_replicaset),
                ):
                    started.append(threading.Event())
                    arguments = (KubeApi(kubeconfig), path, handler, started[-1])
                    threads.append(threading.Thread(target=self._watch, args=arguments, daemon=True))
                for thread in threads:
                    thread.start()
                for begun in started:
                    begun.wait(10)
                yield self
                for process, kind in children:
                    if process.poll() is not None:
                        raise LabError(f"what tells of every change of {kind} has ended by itself")
                (trace.path / "tracing_on").write_text("0")
        finally:
            with suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
            for process, _ in children:
                process.terminate()
                process.wait(5)
