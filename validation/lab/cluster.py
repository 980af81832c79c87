"""A running kind cluster of ours: what runs where, and how to reach into it.

Everything is read from Docker, so a cluster is found whoever made it and nothing can go stale.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from sim.files import set_aside
from validation.lab.commands import CommandFailed, LabError, run

DEFAULT_NAME = "rollsim-lab"
FOUND_TOO = ("rollsim",)
"""Other names that `find` looks for when none is given."""
KIND_CLUSTER_LABEL = "io.x-k8s.kind.cluster"
KIND_ROLE_LABEL = "io.x-k8s.kind.role"
ADMIN_CONF = "/etc/kubernetes/admin.conf"
API_SERVER_PORT = "6443/tcp"
IMPORT_TIMEOUT_S = 600.0


def cache_dir() -> Path:
    """Where the lab keeps what it builds: ROLLSIM_CACHE, or `rollsim` in the user's cache folder."""
    if named := os.environ.get("ROLLSIM_CACHE"):
        return Path(named).expanduser().resolve()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rollsim"


def docker(*args: str, stdin: str | None = None, timeout_s: float = 120.0, log: Path | None = None) -> str:
    """`docker ARGS`; raises CommandFailed."""
    return run(["docker", *args], stdin=stdin, timeout_s=timeout_s, log=log)


def require_right(error: CommandFailed) -> None:
    """Raise LabError where *error* is Docker's refusal of this user: it runs, and what runs on it is not known."""
    if "permission denied" in error.output:
        words = " ".join(error.output.split()).partition(": Get ")[0]
        raise LabError(f"docker refuses this user: join its group, or run as root ({words})") from error


def node_containers(name: str) -> tuple[str, ...]:
    """The running node containers of cluster *name*, control plane first; empty where there is none.

    Raises
    ------
    LabError
        Docker is not there or does not answer.
    """
    try:
        listed = docker(
            "ps", "--filter", f"label={KIND_CLUSTER_LABEL}={name}",
            "--format", '{{.Label "' + KIND_ROLE_LABEL + '"}} {{.Names}}',
        )  # fmt: skip
    except CommandFailed as error:
        require_right(error)
        why = " ".join(error.output.split()) or "no docker on this host"
        raise LabError(
            f"docker does not answer, so no cluster: rollsim lab up starts both ({why})"
        ) from error
    rows = sorted(line.split() for line in listed.splitlines() if line.strip())
    return tuple(container for _, container in rows)


def _load_container(name: str, node: str) -> str:
    """The client's container: ours by name, or any whose network namespace is the node's."""
    node_id = docker("inspect", "--format", "{{.Id}}", node).strip()
    ids = docker("ps", "--quiet").split()
    listed = json.loads(docker("inspect", *ids)) if ids else []
    sharing = [
        str(c["Name"]).lstrip("/") for c in listed if c["HostConfig"]["NetworkMode"] == f"container:{node_id}"
    ]
    if not sharing:
        raise LabError(f"cluster {name!r} has no container for the load client: rollsim lab up --name {name}")
    return min(sharing, key=lambda found: found != f"{name}-load")


def _kubeconfig(name: str, node: str) -> Path:
    """The administrator's kubeconfig of the cluster, for this host; written anew each time."""
    port = docker("port", node, API_SERVER_PORT).split()[0].rpartition(":")[2]
    lines = [
        f"    server: https://127.0.0.1:{port}" if line.strip().startswith("server:") else line
        for line in docker("exec", node, "cat", ADMIN_CONF).splitlines()
    ]
    path = cache_dir() / "clusters" / name / "kubeconfig"
    path.parent.mkdir(parents=True, exist_ok=True)
    with set_aside(path) as aside:
        aside.touch(mode=0o600)
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def hand_images(container: str, *references: str, unpack: bool = True) -> None:
    """Stream images from Docker into the containerd that runs in *container*; raises CommandFailed."""
    how = ["--digests", "--snapshotter=overlayfs"] if unpack else ["--no-unpack"]
    save = ["docker", "save", *references]
    with subprocess.Popen(save, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as saved:
        imported = subprocess.run(
            ["docker", "exec", "-i", container,
             "ctr", "-n", "k8s.io", "images", "import", "--all-platforms", *how, "-"],
            stdin=saved.stdout, capture_output=True, text=True, check=False, timeout=IMPORT_TIMEOUT_S,
        )  # fmt: skip
    if imported.returncode != 0 or saved.returncode != 0:
        raise CommandFailed(save, f"{container} did not take it", imported.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """One running cluster. `kubectl` and the `in_*` methods run to the end, `start_in_*` return at once."""

    name: str
    nodes: tuple[str, ...]
    """Containers of the nodes, control plane first; a container's name is its node's name too."""
    load_container: str
    """Container in the first node's network namespace; it has ab, wrk and python3."""
    kubeconfig: Path

    @classmethod
    def find(cls, name: str | None = None) -> "Lab":
        """The running cluster *name*, or the one that is there when none is named.

        Raises
        ------
        LabError
            No such cluster, or Docker does not answer.
        """
        names = (name,) if name else (DEFAULT_NAME, *FOUND_TOO)
        for candidate in names:
            if nodes := node_containers(candidate):
                return cls(
                    name=candidate,
                    nodes=nodes,
                    load_container=_load_container(candidate, nodes[0]),
                    kubeconfig=_kubeconfig(candidate, nodes[0]),
                )
        raise LabError(f"no cluster {names[0]!r} is running: rollsim lab up")

    @property
    def node_container(self) -> str:
        """The control plane's container: the client shares its network namespace."""
        return self.nodes[0]

    @property
    def runs(self) -> bool:
        """Whether every container of it still runs, the load client's too."""
        ours = (*self.nodes, self.load_container)
        try:
            said = docker("inspect", "--format", "{{.State.Running}}", *ours, timeout_s=20)
        except CommandFailed:
            return False
        return said.split() == ["true"] * len(ours)

    def kubectl_command(self, *args: str) -> list[str]:
        """The command line of `kubectl ARGS`: for Popen, for example of a watch."""
        ours = cache_dir() / "bin" / "kubectl"
        kubectl = str(ours) if os.access(ours, os.X_OK) else shutil.which("kubectl")
        if kubectl:
            return [kubectl, "--kubeconfig", str(self.kubeconfig), *args]
        return ["docker", "exec", "-i", self.node_container, "kubectl", "--kubeconfig", ADMIN_CONF, *args]

    def kubectl(self, *args: str, input: str | None = None, timeout_s: float = 120.0) -> str:  # noqa: A002
        """`kubectl ARGS` as administrator; returns its output. Raises CommandFailed."""
        return run(self.kubectl_command(*args), stdin=input, timeout_s=timeout_s)

    def in_node(
        self,
        *argv: str,
        node: str | None = None,
        input: str | None = None,  # noqa: A002
        timeout_s: float = 120.0,
    ) -> str:
        """Run *argv* in a node (the first, unless named), as root; returns its output."""
        return docker(
            "exec", *(["-i"] if input is not None else []), node or self.node_container, *argv,
            stdin=input, timeout_s=timeout_s,
        )  # fmt: skip

    def in_load(self, *argv: str, input: str | None = None, timeout_s: float = 120.0) -> str:  # noqa: A002
        """Run *argv* in the load client's container, in the first node's network namespace."""
        return self.in_node(*argv, node=self.load_container, input=input, timeout_s=timeout_s)

    def start_in_node(
        self, argv: Sequence[str], *, node: str | None = None, stdout: IO[bytes] | int = subprocess.PIPE
    ) -> "subprocess.Popen[bytes]":
        """Start *argv* in a node and return the running `docker exec`.

        Ending that process does not end what runs inside: bound it by itself (`timeout`, `-t`).
        """
        return subprocess.Popen(
            ["docker", "exec", node or self.node_container, *argv],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
        )

    def start_in_load(
        self, argv: Sequence[str], *, stdout: IO[bytes] | int = subprocess.PIPE
    ) -> "subprocess.Popen[bytes]":
        """Start *argv* in the load client's container; see `start_in_node`."""
        return self.start_in_node(argv, node=self.load_container, stdout=stdout)

    def copy_to_load(self, source: Path, target: str) -> None:
        """Copy a file of this host into the load client's container."""
        docker("cp", str(source), f"{self.load_container}:{target}")

    def load_images(self, *references: str, node: str | None = None) -> None:
        """Hand images of Docker's to a node's containerd: every node's, unless one is named."""
        for each in (node,) if node else self.nodes:
            hand_images(each, *references)
