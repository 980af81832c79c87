"""What the lab needs of this host: Docker (started here if need be), tools, rights, space."""

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

from validation.lab.cluster import cache_dir, docker, require_right
from validation.lab.commands import CommandFailed, LabError, run, wait_until
from validation.lab.steps import Steps

IMAGES = Path(__file__).parent / "images"

BUILD_TOOLS = {"iptables": "iptables", "mmdebstrap": "mmdebstrap"}
"""Command to the Debian package that has it: what an air-gapped build needs beside Docker and Go."""
BUILD_SPACE_BYTES = 12 * 1024**3
"""Measured for a build from nothing: 7.4 GB of Go caches, 2.5 GB of images, 0.7 GB of binaries."""
NODE_SPACE_BYTES = 3 * 1024**3
"""Measured: what a node copies from its image."""
DOCKER_TIMEOUT_S = 60.0
"""For dockerd to start, and for it to end."""

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
    "LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
    "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
    "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL",
    "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ",
    "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""By bit number: linux/capability.h."""


def lacking_capabilities(status: str) -> list[str]:
    """Capabilities whose bit is missing in the CapBnd line of a /proc/PID/status text."""
    bounding = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:"))
    return [f"CAP_{name}" for bit, name in enumerate(CAPABILITIES) if not bounding >> bit & 1]


def docker_answers() -> bool:
    """Whether a Docker daemon answers; LabError where one runs that refuses this user."""
    try:
        docker("version", "--format", "{{.Server.Version}}", timeout_s=30)
    except CommandFailed as error:
        require_right(error)
        return False
    return True


def ensure_docker(steps: Steps) -> None:
    """Use the Docker daemon that answers; else, as root, start one that `stop_docker` ends again.

    Raises
    ------
    LabError
        Docker is not installed, or does not answer and cannot be started.
    """
    if shutil.which("docker") is None:
        raise LabError("no docker on this host; on Debian: apt-get install docker.io containerd runc")
    if docker_answers():
        return
    if os.geteuid() != 0:
        raise LabError("docker does not answer: start it, or run as root")
    if shutil.which("dockerd") is None:
        raise LabError("docker does not answer, and there is no dockerd to start: start Docker first")
    with steps.step("start dockerd") as log:
        _start_docker(log)


def _start_docker(log: Path) -> None:
    with log.open("a", encoding="utf-8") as out:
        daemon = subprocess.Popen(
            ["dockerd", *_bounded_runtime()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    _pid_file().write_text(str(daemon.pid), encoding="utf-8")
    try:
        wait_until("dockerd answers", lambda: docker_answers() or _ended(daemon), timeout_s=DOCKER_TIMEOUT_S)
    except CommandFailed:
        daemon.terminate()
        _pid_file().unlink()
        raise


def _ended(daemon: "subprocess.Popen[bytes]") -> bool:
    """False while *daemon* runs; raises CommandFailed once it has ended: there is nothing to wait for."""
    if daemon.poll() is None:
        return False
    raise CommandFailed(["dockerd"], f"ended with code {daemon.returncode}")


def _bounded_runtime() -> list[str]:
    """Options for dockerd: where this host lacks a capability, the runtime that asks for no more."""
    lacking = lacking_capabilities(Path("/proc/self/status").read_text(encoding="utf-8"))
    runc, jq = shutil.which("runc"), shutil.which("jq")
    if not lacking:
        return []
    if runc is None or jq is None:
        raise LabError(
            f"this host lacks {', '.join(lacking)}: the lab then needs runc and jq (apt-get install)"
        )
    wrapper = cache_dir() / "runc-bounded"
    text = (IMAGES / "runc-bounded").read_text(encoding="utf-8")
    wrapper.write_text(
        text.replace("@LACKING@", json.dumps(lacking)).replace("@RUNC@", runc), encoding="utf-8"
    )
    wrapper.chmod(0o755)
    return ["--add-runtime", f"bounded={wrapper}", "--default-runtime", "bounded"]


def _pid_file() -> Path:
    cache_dir().mkdir(parents=True, exist_ok=True)
    return cache_dir() / "dockerd.pid"


def _started_dockerd() -> int | None:
    """Process id of a dockerd that `ensure_docker` started and that still runs."""
    try:
        pid = int(_pid_file().read_text(encoding="utf-8"))
        name, _, state = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").partition("(")[2].partition(") ")
        )
    except (OSError, ValueError):
        return None
    return pid if name == "dockerd" and not state.startswith("Z") else None


def stop_docker(steps: Steps) -> None:
    """End the dockerd that `ensure_docker` started; kept while any container still runs on it."""
    pid = _started_dockerd()
    if pid is None:
        _pid_file().unlink(missing_ok=True)
        return
    if running := docker("ps", "--format", "{{.Names}}").split():
        steps.note(f"dockerd stays up: it still runs {', '.join(running)}")
        return
    with steps.step("stop dockerd"):
        os.kill(pid, signal.SIGTERM)
        wait_until("dockerd has ended", lambda: _started_dockerd() is None, timeout_s=DOCKER_TIMEOUT_S)
        _pid_file().unlink(missing_ok=True)


def require_build_tools() -> None:
    """Raise LabError unless this host can build a lab from Debian packages and Go modules."""
    if os.geteuid() != 0:
        raise LabError("an air-gapped lab is built by root (mmdebstrap makes Debian roots): run as root")
    missing = sorted({package for tool, package in BUILD_TOOLS.items() if shutil.which(tool) is None})
    if missing:
        raise LabError(
            f"an air-gapped lab needs Debian's {' '.join(missing)}: apt-get install {' '.join(missing)}"
        )
    if shutil.which("go") is None:
        raise LabError("an air-gapped lab builds Kubernetes from Go modules: install Go 1.24 or newer")


def require_space(needed_bytes: int) -> None:
    """Raise LabError where the cache or Docker's data would run out of disk."""
    for folder in (cache_dir(), Path(docker("info", "--format", "{{.DockerRootDir}}").strip())):
        require_free(folder, needed_bytes)


def require_free(folder: Path, needed_bytes: int) -> None:
    """Raise LabError unless so much can be written below *folder*, which need not exist yet."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free_bytes = shutil.disk_usage(existing).free
    if free_bytes < needed_bytes:
        raise LabError(
            f"{folder}: {free_bytes / 1e9:.1f} GB free, the lab needs {needed_bytes / 1e9:.1f} GB; "
            "free some, or set ROLLSIM_CACHE"
        )


def on_host(*argv: str, image: str | None) -> str:
    """Run *argv* in the host's network namespace: as root, or else in a privileged container of *image*.

    Raises
    ------
    CommandFailed
        The command failed, or neither way is open.
    """
    if os.geteuid() == 0 and shutil.which(argv[0]):
        return run(list(argv))
    if image is None:
        raise CommandFailed(argv, "needs root on this host")
    return docker(
        "run", "--rm", "--privileged", "--network", "host", "--entrypoint", argv[0], image, *argv[1:]
    )
