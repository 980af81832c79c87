"""Makes a scenario's load with a real client: ab, wrk or our own, on the node or in a pod."""

import json
import math
import subprocess
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sim.scenario.distributions import Constant, Exponential
from sim.scenario.model import ClosedLoop, Load, OpenLoop
from validation.access import Access, ReplayError
from validation.clients.plain import Settings
from validation.clients.reports import Report, UnreadableReport, read_ab, read_wrk
from validation.lab.cluster import Lab
from validation.lab.commands import CommandFailed

CLIENTS = Path(__file__).with_name("clients")
IN_CONTAINER = "/opt/rollsim"
OWN_CLIENTS: Mapping[str, Mapping[str, bool]] = {
    "plain": {},
    "requests": {"looks": True},
    "go-http": {"looks": True, "repeats_reused": True},
}
"""Clients that our own one plays, by its switches; `requests` and Go notice a closed connection first."""
TOOLS = {"ab": read_ab, "wrk": read_wrk}
ENOUGH_REQUESTS = 50_000_000
"""ab ends at -t or -n, whichever is first, and -t alone sets -n to 50,000."""
GRACE_S = 60.0
ANNOUNCED = 'echo "pid $$"; echo "start $(date +%s.%N)"; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where the load goes."""

    host: str
    port: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadResult:
    """What the client says about its run."""

    started_t: float
    """Wall clock of the first request. [s]"""
    requests: int
    failed: int
    tool_failed: int | None
    """As the tool's report says; None for our own client, and for a tool that gave up: they print none."""
    aborted: bool = False
    seen: Mapping[str, int] = field(default_factory=dict)
    failures: tuple[Mapping[str, Any], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()
    """What the client could not hold: pacing, ports."""


def settings_of(
    load: Load, target: Target, *, lookup_pods: bool, duration_s: float | None = None
) -> Settings:
    """The settings of our own client for *load*; with *duration_s* for that long instead.

    Raises
    ------
    ReplayError
        A pause that the client cannot draw.
    """
    think_s: float | None = None
    rate_per_s: float | None = None
    think, poisson = "exponential", False
    match load.arrivals:
        case OpenLoop(rate_per_s=rate_per_s, poisson=poisson):
            pass
        case ClosedLoop(think_time=Exponential(scale_s=think_s)):
            pass
        case ClosedLoop(think_time=Constant(value_s=think_s)):
            think = "constant"
        case ClosedLoop(think_time=None):
            pass
        case _:
            raise ReplayError("load.thinkTime: the real client draws exponential or constant pauses only")
    local = target.host.startswith("127.")
    return Settings(
        host=target.host,
        port=target.port,
        host_header=target.name,
        path=load.path,
        method=load.method,
        connections=load.connections,
        keep_alive=load.keep_alive,
        think_s=think_s or None,
        think=think,
        rate_per_s=rate_per_s,
        poisson=poisson,
        duration_s=duration_s or load.duration_s,
        requests=None if duration_s else load.requests,
        connect_timeout_s=load.connect_timeout_s,
        answer_timeout_s=load.answer_timeout_s,
        retries=load.retries,
        sources=load.sources if local else 1,
        lookup_pods=lookup_pods,
        **OWN_CLIENTS.get(load.client, {}),
    )


def command_for(load: Load, target: Target, *, lookup_pods: bool) -> list[str]:
    """The command that makes *load*, to be run where the client is.

    Raises
    ------
    ReplayError
        No real client of that name, or one that cannot do what is asked.
    """
    url = f"http://{target.host}:{target.port}{load.path}"
    if load.client in OWN_CLIENTS:
        return own_command(settings_of(load, target, lookup_pods=lookup_pods))
    if load.client not in TOOLS:
        known = ", ".join(sorted([*OWN_CLIENTS, *TOOLS]))
        raise ReplayError(f"load.client: {load.client!r} has no real client here; replays know {known}")
    if isinstance(load.arrivals, OpenLoop) or load.arrivals.think_time is not None:
        raise ReplayError(f"load.client: {load.client} sends as fast as answers come; no rate, no thinkTime")
    return _ab(load, url) if load.client == "ab" else _wrk(load, url)


def own_command(settings: Settings) -> list[str]:
    """The command of our own client."""
    given = {k: v for k, v in asdict(settings).items() if v != getattr(Settings(), k)}
    command = ["env", f"PYTHONPATH={IN_CONTAINER}", "python3", "-m", "clients.plain"]
    return [*command, "--settings", json.dumps(given)]


def _ab(load: Load, url: str) -> list[str]:
    command = ["ab", "-q", "-c", str(load.connections), "-s", str(math.ceil(load.answer_timeout_s))]
    command += [f"-{name}" for name in ("l", "r") if load.options.get(name)]
    command += ["-k"] if load.keep_alive else []
    if load.duration_s:
        command += ["-t", str(math.ceil(load.duration_s)), "-n", str(ENOUGH_REQUESTS)]
    else:
        command += ["-n", str(load.requests)]
    if load.method != "GET":
        command += ["-m", load.method]
    return [*command, url]


def _wrk(load: Load, url: str) -> list[str]:
    if not load.duration_s:
        raise ReplayError("load.requests: wrk knows only a duration")
    threads = str(load.options.get("t", 1))
    command = ["wrk", "-t", threads, "-c", str(load.connections), "-d", f"{math.ceil(load.duration_s)}s"]
    command += ["--timeout", f"{math.ceil(load.answer_timeout_s)}s"]
    command += [] if load.keep_alive else ["-H", "Connection: close"]
    return [*command, url]


class Running(Protocol):
    """A load under way."""

    def started_t(self) -> float:
        """Wall clock of its start; waits for it. [s]"""

    def output(self, within_s: float) -> str:
        """Everything it printed, once it has ended."""

    def stop(self) -> None:
        """End it now."""


class OnNode:
    """A client in the first node's network namespace, in the lab's load container."""

    def __init__(self, lab: Lab, command: list[str], *, limit_s: float) -> None:
        self._lab = lab
        argv = ["timeout", "-k", "5", str(math.ceil(limit_s)), "sh", "-c", ANNOUNCED, "load", *command]
        self._process = subprocess.Popen(
            ["docker", "exec", "--privileged", lab.load_container, *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as printed:
            for raw in printed:
                with self._changed:
                    self._lines.append(raw.decode(errors="replace"))
                    self._changed.notify_all()

    def _word(self, name: str) -> str | None:
        return next((line.split()[1] for line in self._lines if line.startswith(f"{name} ")), None)

    def started_t(self) -> float:
        with self._changed:
            self._changed.wait_for(
                lambda: self._word("start") or self._process.poll() is not None, timeout=20
            )
            if not (started := self._word("start")):
                raise ReplayError(f"the load client did not start: {''.join(self._lines).strip()[-200:]}")
            return float(started)

    def output(self, within_s: float) -> str:
        try:
            self._process.wait(timeout=within_s)
        except subprocess.TimeoutExpired:
            self.stop()
            raise ReplayError(f"the load client did not end within {within_s:.0f} s") from None
        self._thread.join(timeout=10)
        return "".join(self._lines)

    def stop(self) -> None:
        if self._process.poll() is None:
            if pid := self._word("pid"):
                with suppress(CommandFailed):  # its container may be gone, and it itself may just have ended
                    self._lab.in_load("sh", "-c", f"kill {int(pid)} 2>/dev/null || true")
            self._process.terminate()
            self._process.wait()


class InPod:
    """A client in a Job of the replay's namespace; the user names an image that has it."""

    def __init__(
        self, access: Access, namespace: str, command: list[str], *, image: str, limit_s: float, name: str
    ) -> None:
        self._access, self._namespace, self._name = access, namespace, name
        files = {path.name: path.read_text(encoding="utf-8") for path in sorted(CLIENTS.glob("*.py"))}
        access.kubectl(
            "apply",
            "-f",
            "-",
            stdin=json.dumps(_job(namespace, name, command, image=image, limit_s=limit_s, files=files)),
        )
        self._started_t = 0.0

    def _log(self) -> str:
        return self._access.kubectl("logs", "-n", self._namespace, f"job/{self._name}")

    def started_t(self) -> float:
        deadline_s = time.monotonic() + GRACE_S
        while not self._started_t:
            try:
                lines = self._log().splitlines()
            except ReplayError:
                lines = []
            self._started_t = next((float(x.split()[1]) for x in lines if x.startswith("start ")), 0.0)
            if time.monotonic() > deadline_s:
                raise ReplayError(f"the client's pod did not start within {GRACE_S:.0f} s")
            time.sleep(0.2)
        return self._started_t

    def output(self, within_s: float) -> str:
        condition = ("--for=condition=Complete", f"job/{self._name}")
        try:
            self._access.kubectl(
                "wait",
                "-n",
                self._namespace,
                *condition,
                f"--timeout={within_s:.0f}s",
                timeout_s=within_s + 10,
            )
        except ReplayError:
            raise ReplayError(f"the client's pod did not end within {within_s:.0f} s") from None
        return self._log()

    def stop(self) -> None:
        self._access.kubectl("delete", "job", "-n", self._namespace, self._name, "--wait=false")


def _job(
    namespace: str, name: str, command: list[str], *, image: str, limit_s: float, files: Mapping[str, str]
) -> dict[str, Any]:
    meta = {"name": name, "namespace": namespace}
    container = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", ANNOUNCED, "load", *command],
        "volumeMounts": [{"name": "clients", "mountPath": f"{IN_CONTAINER}/clients"}],
    }
    pod = {
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "clients", "configMap": {"name": name}}],
    }
    job = {"backoffLimit": 0, "activeDeadlineSeconds": math.ceil(limit_s), "template": {"spec": pod}}
    return {
        "apiVersion": "v1",
        "kind": "List",
        "items": [
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": dict(files)},
            {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job},
        ],
    }


def read_output(client: str, text: str) -> LoadResult:
    """The client's output as numbers.

    Raises
    ------
    ReplayError
        It is not what that client prints.
    """
    started_t = next((float(x.split()[1]) for x in text.splitlines() if x.startswith("start ")), 0.0)
    if client in TOOLS:
        try:
            return _from_report(TOOLS[client](text), started_t)
        except UnreadableReport as error:
            raise ReplayError(str(error)) from None
    rows = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    summary = next((row for row in rows if row["kind"] == "summary"), None)
    if summary is None:
        raise ReplayError(f"the load client ended without a summary: {text.strip()[-200:]}")
    started_t = next((row["t"] for row in rows if row["kind"] == "start"), started_t)
    troubles = []
    if not summary["pacing_kept"]:
        late_ms = 1000 * summary["lag_s"]["mean"]
        troubles.append(f"the client lost its pacing: requests started {late_ms:.1f} ms late on average")
    if summary["client_errors"]:
        troubles.append(f"the client ran out of {summary['client_errors']}")
    return LoadResult(
        started_t=started_t,
        requests=summary["requests"],
        failed=summary["failed"],
        tool_failed=None,
        seen=summary["seen"],
        failures=tuple(row for row in rows if row["kind"] == "failure"),
        details={k: v for k, v in summary.items() if k != "kind"},
        troubles=tuple(troubles),
    )


def _from_report(report: Report, started_t: float) -> LoadResult:
    return LoadResult(
        started_t=started_t,
        requests=report.requests,
        failed=report.failed,
        tool_failed=None if report.aborted else report.failed,
        aborted=report.aborted,
        details=asdict(report),
    )
