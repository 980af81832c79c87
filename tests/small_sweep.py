"""A scenario that takes a few milliseconds, and the command that sweeps it, as processes of their own."""

import os
import subprocess
import sys
from pathlib import Path

from web_app import APP

SCENARIO = """\
apiVersion: rollsim/v1
kind: Scenario
metadata: {name: small}
spec:
  manifests: [app.yaml]
  update: {deployment: web, container: web, image: "web:2", at: 1s}
  load:
    client: plain
    target: {service: web, port: 80}
    connections: 4
    thinkTime: {exponential: 50ms}
    duration: 10s
  images:
    "web:1": {server: go-http, startup: 50ms, serviceTime: 1ms}
    "web:2": {server: go-http, startup: 50ms, serviceTime: 1ms}
"""
GRID = ("-p", "load.connections=2,4,8", "-p", "deployment/web.spec.replicas=1..3")
LONG = ("-p", "load.connections=1..24", "--runs", 20)
"""Some seconds of work: long enough to be stopped in."""
ROLLSIM = (sys.executable, "-c", "from sim.cli import main; main()")


def write_scenario(folder: Path) -> Path:
    (folder / "app.yaml").write_text(APP, encoding="utf-8")
    (folder / "small.yaml").write_text(SCENARIO, encoding="utf-8")
    return folder / "small.yaml"


def rollsim(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    done = subprocess.run(
        [*ROLLSIM, *map(str, arguments)], capture_output=True, text=True, timeout=250, check=False, cwd=cwd
    )
    assert done.returncode == code, done.stderr
    return done


def started(*arguments: object) -> subprocess.Popen[str]:
    """Start the command, in a process group of its own."""
    return subprocess.Popen(
        [*ROLLSIM, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def parts_of(out: Path) -> list[Path]:
    return sorted(Path(f"{out}.parts").glob("*/units-*.parquet"))


def processes_of_group(group: int) -> list[int]:
    """Those that still run."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and os.getpgid(int(entry.name)) == group:
                found.append(int(entry.name))
        except ProcessLookupError:
            continue
    return found
