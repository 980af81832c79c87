"""The cluster that a replay runs on: our lab, or any that the user names."""

import fcntl
import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from validation.lab.cluster import Lab, cache_dir
from validation.lab.commands import CommandFailed, run

KIND_CONTEXT_PREFIX = "kind-"
UNREACHABLE: Final = re.compile(
    r"was refused|connection refused|[Uu]nable to connect|no route to host|TLS handshake timeout|EOF|connection reset"
    r"|connection lost|unable to handle the request|apiserver not ready|etcdserver"
)
"""What kubectl says when the API server, or the store behind it, does not answer."""
ASK_AGAIN_S: Final = 1.0
ROLE: Final = "configs/rbac/validate.yaml"
"""The rights that a replay needs where the user is not the administrator."""


class ReplayError(Exception):
    """The replay cannot be made or went wrong; one line for the person who asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """How to reach a cluster. Without `lab` its nodes are out of reach: only the API server is seen."""

    lab: Lab | None = None
    context: str | None = None

    def kubectl_command(self, *args: str) -> list[str]:
        """The command line of `kubectl ARGS`."""
        if self.lab:
            return self.lab.kubectl_command(*args)
        return ["kubectl", *(("--context", self.context) if self.context else ()), *args]

    def kubectl(
        self, *args: str, stdin: str | None = None, timeout_s: float = 120.0, patient_s: float = 0.0
    ) -> str:
        """`kubectl ARGS`; its output. For *patient_s* again and again while the API server does not answer.

        Raises
        ------
        ReplayError
            It failed; the message is its own last line, or that the lab is gone.
        """
        deadline_s = time.monotonic() + patient_s
        while True:
            try:
                return run(self.kubectl_command(*args), stdin=stdin, timeout_s=timeout_s)
            except CommandFailed as error:
                said = error.output.strip().splitlines()
                reason = said[-1] if said else str(error)
                if "(Forbidden)" in reason:
                    reason += f"; {ROLE} holds what it takes"
            self.require_lab()
            if time.monotonic() >= deadline_s or not UNREACHABLE.search(reason):
                raise ReplayError(reason)
            time.sleep(ASK_AGAIN_S)

    def require_lab(self) -> None:
        """Raise ReplayError where the lab's containers run no more: the reason for whatever else went wrong."""
        if self.lab and not self.lab.runs:
            raise ReplayError(f"the lab {self.lab.name!r} is gone; rollsim lab up --name {self.lab.name}")

    def get(self, *args: str) -> dict[str, Any]:
        """`kubectl get ARGS` as data."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *args, "-o", "json"))
        return found


def find_access(context: str | None = None, *, yes: bool = False) -> Access:
    """The running lab, or the cluster of a kube-context.

    Raises
    ------
    ReplayError
        No cluster; or one that is not ours, without *yes*.
    LabError
        No lab is running.
    """
    if context is None:
        return Access(lab=Lab.find())
    if context.startswith(KIND_CONTEXT_PREFIX) and shutil.which("docker"):
        name = context.removeprefix(KIND_CONTEXT_PREFIX)
        try:
            return Access(lab=Lab.find(name), context=context)
        except Exception as error:  # noqa: BLE001 - a kind cluster that is not ours is any other cluster
            if not yes:
                raise ReplayError(f"context {context!r}: {error}; add --yes to use it as it is") from None
    if not yes:
        raise ReplayError(f"context {context!r} is no cluster of ours: add --yes to replay there")
    access = Access(context=context)
    access.kubectl("version", "-o", "json", timeout_s=20)
    return access


@contextmanager
def alone_on(access: Access) -> Iterator[None]:
    """Hold the cluster for this process: two replays would take each other's ports and namespaces.

    Raises
    ------
    ReplayError
        Another process of this user replays there.
    """
    name = access.lab.name if access.lab else (access.context or "current")
    path = cache_dir() / f"replay-{name.replace('/', '_')}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReplayError(f"another replay is running on cluster {name!r}") from None
        yield  # the lock goes with the file, even if the process is killed
