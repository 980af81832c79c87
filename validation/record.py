"""Records what the cluster does during a replay: every source on the machine's one clock, as raw lines.

No source is polled, and nothing is read into meaning while the load runs; `timeline` does that afterwards.
"""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

from validation.access import Access, ReplayError
from validation.lab.commands import CommandFailed

NODE_SCRIPT = Path(__file__).with_name("record_node.sh")
WATCHES = {
    "pod": "/api/v1/namespaces/{namespace}/pods",
    "slice": "/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
    "deployment": "/apis/apps/v1/namespaces/{namespace}/deployments",
}
HEARTBEAT: Final = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
HEART: Final = "kube-controller-manager"
"""It renews its lease every 2 s through the API server: silence means that one of the two stands still."""

Line = tuple[float, str]
"""Time of arrival (wall clock, s) and text."""

Event = tuple[float, str, dict[str, Any]]
"""Time of arrival, ADDED | MODIFIED | DELETED, object."""


@dataclass
class _Stream:
    """One running command and its lines."""

    name: str
    process: "subprocess.Popen[bytes]"
    lines: list[Line] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    """The first lines, read as a watch's events: each is read once."""

    def follow(self, changed: threading.Condition) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as printed:
            for raw in printed:
                now_s = time.time()
                if not raw.endswith(b"\n"):
                    return  # cut in the middle: its source is gone
                with changed:
                    self.lines.append((now_s, raw.decode(errors="replace").rstrip("\n")))
                    changed.notify_all()


class Recorder:
    """Follows the API server's watches of one namespace and, where there is a node to reach, the node."""

    def __init__(self, access: Access, namespace: str, *, limit_s: float) -> None:
        self.namespace = namespace
        self._access = access
        self._limit_s = limit_s
        self._changed = threading.Condition()
        self._streams: list[_Stream] = []
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for name, path in WATCHES.items():
            query = f"{path.format(namespace=self.namespace)}?watch=1&timeoutSeconds={round(self._limit_s)}"
            self._start(name, self._access.kubectl_command("get", "--raw", query))
        if self._access.lab:
            query = f"{HEARTBEAT}?watch=1&timeoutSeconds={round(self._limit_s)}&fieldSelector=metadata.name%3D{HEART}"
            self._start("lease", self._access.kubectl_command("get", "--raw", query))
            script = NODE_SCRIPT.read_text(encoding="utf-8")
            argv = ["bash", "-c", script, "record", str(round(self._limit_s))]
            self._start("node", ["docker", "exec", self._access.lab.node_container, *argv])
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(CommandFailed):  # a node that is gone has taken its script along
            self._end_node_script()
        for stream in self._streams:
            stream.process.terminate()
        for stream in self._streams:
            stream.process.wait()
        for thread in self._threads:
            thread.join(timeout=5)

    def follow_logs(self, pods: Iterable[str]) -> None:
        """Follow the logs of *pods*: of proxies, which may be gone when the run ends."""
        for pod in pods:
            argv = ("logs", "-f", "--timestamps", "--all-containers", "-n", self.namespace, pod)
            self._start(f"log {pod}", self._access.kubectl_command(*argv))

    def _start(self, name: str, argv: list[str]) -> None:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        stream = _Stream(name, process)
        self._streams.append(stream)
        thread = threading.Thread(target=stream.follow, args=(self._changed,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end_node_script(self) -> None:
        for _, line in self.lines("node"):
            if self._access.lab and line.startswith("pid "):
                self._access.lab.in_node("sh", "-c", f"pkill -P {int(line[4:])} || true")
                return

    def lines(self, name: str) -> list[Line]:
        """What the source *name* has given so far: pod, slice, deployment or node."""
        with self._changed:
            return [line for stream in self._streams if stream.name == name for line in stream.lines]

    def logs(self) -> dict[str, list[str]]:
        """Lines of each followed log, by pod."""
        with self._changed:
            return {
                s.name.removeprefix("log "): [text for _, text in s.lines]
                for s in self._streams
                if s.name.startswith("log ")
            }

    def objects(self, name: str) -> list[Event]:
        """What the watch *name* has given so far."""
        with self._changed:
            stream = next(stream for stream in self._streams if stream.name == name)
            for at_s, line in stream.lines[len(stream.events) :]:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ReplayError(f"the watch of {name}s: {event['object'].get('message', 'ended')}")
                stream.events.append((at_s, event["type"], event["object"]))
            return list(stream.events)

    def wait_until(self, holds: Callable[[], bool], *, within_s: float) -> bool:
        """Wait until *holds()*, looking again whenever a source says something; False after *within_s*.

        Raises
        ------
        ReplayError
            A watch has ended: what it would have said is not known.
        """
        deadline_s = time.monotonic() + within_s
        while not holds():
            self.require_watches()
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            with self._changed:
                self._changed.wait(min(left_s, 0.5))
        return True

    def require_watches(self) -> None:
        """Raise ReplayError where the API server has ended a watch, as it does when it goes away."""
        for stream in self._streams:
            if stream.name in WATCHES and stream.process.poll() is not None:
                raise ReplayError(
                    f"the API server ended its watch of {stream.name}s in the middle of the run"
                )

    def longest_silence_s(self) -> float:
        """The longest time between two signs of life of the control plane; 0 where it gives none. [s]"""
        beats = [at_t for at_t, _ in self.lines("lease")]
        return max((later - earlier for earlier, later in pairwise([*beats, time.time()])), default=0.0)
