"""External commands: run to the end or started, with one clear line when one fails."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

TAIL_LINES = 8
"""How much of a failed command's output an error shows."""


class LabError(Exception):
    """The lab cannot do what was asked; the message is for the person who asked."""


class CommandFailed(LabError):
    """A command ended with a code other than 0, or not in time."""

    def __init__(self, argv: Sequence[str], reason: str, output: str = "") -> None:
        self.output = output
        last = output.strip().splitlines()[-TAIL_LINES:]
        super().__init__("\n  ".join([f"{' '.join(argv[:6])}: {reason}", *last]))


def run(
    argv: Sequence[str],
    *,
    stdin: str | None = None,
    timeout_s: float = 120.0,
    log: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> str:
    """Run *argv* to its end and return what it printed on standard output.

    With *log* both outputs are appended to that file instead, and the answer is empty.

    Raises
    ------
    CommandFailed
        The command cannot be found, ended with another code than 0, or took longer than *timeout_s*.
    """
    with log.open("a", encoding="utf-8") if log else nullcontext() as out:
        if out:
            out.write(f"$ {' '.join(argv)}\n")
            out.flush()
        try:
            done = subprocess.run(
                argv,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                stdout=out or subprocess.PIPE,
                stderr=subprocess.STDOUT if out else subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=timeout_s,
                env=env,
                cwd=cwd,
                check=False,
            )
        except FileNotFoundError as error:
            raise CommandFailed(argv, "not found") from error
        except subprocess.TimeoutExpired as error:
            raise CommandFailed(argv, f"no end after {timeout_s:g} s") from error
    if done.returncode != 0:
        raise CommandFailed(argv, f"exit code {done.returncode}", done.stderr or done.stdout or "")
    return done.stdout or ""


def succeeds(argv: Sequence[str], *, timeout_s: float = 30.0) -> bool:
    """Whether *argv* ends with code 0 in time."""
    try:
        run(argv, timeout_s=timeout_s)
    except CommandFailed:
        return False
    return True


def wait_until(
    what: str, holds: Callable[[], bool], *, timeout_s: float = 60.0, every_s: float = 0.2
) -> None:
    """Ask *holds* again and again until it says yes; CommandFailed names *what* was waited for in vain."""
    deadline_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > deadline_s:
            raise CommandFailed(["wait until", what], f"not so after {timeout_s:g} s")
        time.sleep(every_s)
