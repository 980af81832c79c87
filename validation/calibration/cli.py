"""`rollsim calibrate`: runs of its own on the lab, then the timing profile made from them.

Each step is a program of its own, so that one that fails leaves the others' files; the same command again goes
on with what is missing.
"""

import json
import os
import shutil
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from validation.calibration.profile import MACHINE, write_profile
from validation.lab.cluster import Lab, cache_dir
from validation.lab.commands import CommandFailed, LabError, run
from validation.lab.steps import Steps
from validation.observations import write_aside
from validation.one_line import one_line_errors

app = typer.Typer(help="Measure the latencies of the timing profile on the lab, with runs of its own.")

STEP_TIMEOUT_S: Final = 900.0
TOOLS: Final = {
    "ab": "apache2-utils",
    "wrk": "wrk",
    "nginx": "nginx",
    "haproxy": "haproxy",
    "ss": "iproute2",
    "conntrack": "conntrack",
    "nft": "nftables",
}
"""What the steps run on the host itself, and Debian's package of it."""


@dataclass(frozen=True, slots=True)
class Step:
    """One program of `validation.calibration` and the file it writes."""

    file: str
    program: str
    arguments: tuple[str, ...] = ()
    on_lab: bool = True
    """It asks the cluster; else loopback is all it needs."""


STEPS: Final = (
    Step("cycles-idle-1.csv", "pod_cycles", ("--idle", "3", "--seconds", "240")),
    Step(
        "cycles-replace-1.csv",
        "pod_cycles",
        ("--replace", "--base", "3", "--period", "1", "--idle", "3.2", "--seconds", "260"),
    ),
    Step("cycles-three-1.csv", "pod_cycles", ("--pods", "3", "--idle", "3", "--seconds", "150")),
    Step(
        "three-replaced.csv",
        "pod_cycles",
        ("--replace", "--base", "4", "--pods", "3", "--period", "1", "--patience", "6", "--seconds", "160"),
    ),
    Step(
        "first-mounts.csv",
        "pod_cycles",
        ("--base", "0", "--pods", "3", "--idle", "3", "--seconds", "150"),
    ),
    Step("pod-stop-paced.csv", "pod_stop_clients", ("paced", "--runs", "28", "--hook", "0")),
    Step("pod-stop-paced-hook.csv", "pod_stop_clients", ("paced", "--runs", "16", "--hook", "2.5")),
    Step("rules-idle.csv", "rule_changes"),
    Step("vanishing.csv", "vanishing"),
    Step("loopback-paced-sigterm.csv", "stops", ("paced", "SIGTERM"), on_lab=False),
    Step("loopback-paced-sigquit.csv", "stops", ("paced", "SIGQUIT"), on_lab=False),
    Step("loopback-ab-sigterm-3.csv", "stops", ("ab", "SIGTERM", "--servers", "3"), on_lab=False),
    Step("loopback-ab-sigquit-3.csv", "stops", ("ab", "SIGQUIT", "--servers", "3"), on_lab=False),
    Step("loopback-cost.csv", "request_cost", ("--repeats", "4"), on_lab=False),
    Step("forgets.csv", "forgets", on_lab=False),
    Step("cycles-busy-1.csv", "pod_cycles", ("--busy", "--patience", "6", "--idle", "3", "--seconds", "150")),
    Step("beside-deletions.csv", "beside_deletions"),
    Step("steady.csv", "steady"),
    Step("paced-cost.csv", "paced_cost"),
    Step("phases.csv", "phases"),
    Step("time-waits.csv", "time_waits"),
    Step("refused.csv", "refused"),
    Step("pod-stop-ab.csv", "pod_stop_clients", ("ab", "--runs", "16", "--hook", "0")),
    Step("pod-stop-ab-hook.csv", "pod_stop_clients", ("ab", "--runs", "16", "--hook", "2.5")),
)
"""The idle cluster first: what loads it comes after."""


@app.command()
def calibrate(
    *,
    name: Annotated[str | None, typer.Option(help="Name of the lab's cluster.")] = None,
    data: Annotated[Path, typer.Option(help="Folder of the measured events; what it has is not redone.")],
    profile: Annotated[
        Path | None, typer.Option(help="File to write the timing profile to; without it none is written.")
    ] = None,
) -> None:
    """Measure on the lab, about an hour on an otherwise quiet machine; then write the timing profile.

    Example: rollsim calibrate --data calibration-2026-12 --profile mine.yaml
    """
    with one_line_errors("rollsim calibrate", interrupted="the steps that ended are kept"):
        lab = Lab.find(name)
        check_tools()
        data.mkdir(parents=True, exist_ok=True)
        if not (data / MACHINE).exists():
            write_aside(data / MACHINE, (json.dumps(machine(lab), indent=1) + "\n").encode())
        measure(lab, data, Steps(Console(stderr=True, soft_wrap=True), cache_dir() / "logs"))
        if profile is not None:
            write_profile(data, profile)
            typer.echo(profile)


def check_tools() -> None:
    """The steps run clients and servers of this host, beside the lab.

    Raises
    ------
    LabError
        Some are missing, by name.
    """
    if missing := [name for name in TOOLS if shutil.which(name) is None]:
        packages = " ".join(sorted({TOOLS[name] for name in missing}))
        raise LabError(f"{', '.join(missing)}: not on this host; apt-get install {packages}")


def machine(lab: Lab) -> dict[str, str]:
    """The date, and the versions of what is measured."""
    node = json.loads(lab.kubectl("get", "nodes", "-o", "json"))["items"][0]["status"]["nodeInfo"]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "Kubernetes": node["kubeletVersion"].removeprefix("v"),
        "containerd": node["containerRuntimeVersion"].rpartition("/")[2],
        "kernel": node["kernelVersion"],
        "nodes": str(len(lab.nodes)),
        "cores": str(os.cpu_count()),
    }


def measure(lab: Lab, data: Path, steps: Steps) -> None:
    """Run every step whose file is not there; a file is renamed into place when its program has ended well.

    Raises
    ------
    CommandFailed
        A program failed: which, and its last lines.
    """
    for step in STEPS:
        if (data / step.file).exists():
            continue
        # The name keeps its end: programs derive the names of further files from it.
        aside = data / f"unfinished-{step.file}"
        cluster = ("--cluster", lab.name) if step.on_lab else ()
        command = [
            sys.executable, "-m", f"validation.calibration.{step.program}", *step.arguments, *cluster,
            "--out", str(aside),
        ]  # fmt: skip
        with steps.step(f"{step.program} {' '.join(step.arguments)}") as log:
            try:
                run(command, timeout_s=STEP_TIMEOUT_S, log=log)
            except CommandFailed:
                _remove_unfinished(data)
                raise
        for written in data.glob("unfinished-*"):
            written.rename(data / written.name.removeprefix("unfinished-"))


def _remove_unfinished(data: Path) -> None:
    for left in data.glob("unfinished-*"):
        left.unlink()
