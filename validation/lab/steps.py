"""The steps of a long job, shown one by one, each with its own log file."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from validation.lab.commands import TAIL_LINES, CommandFailed, LabError


class Steps:
    """Shows what is under way and what is done; a step that breaks says which, and where its log is."""

    def __init__(self, console: Console, logs: Path) -> None:
        self.console = console
        self.logs = logs

    @contextmanager
    def step(self, title: str) -> Iterator[Path]:
        """Run the body as the step *title*; yields the path of its log, begun anew.

        Raises
        ------
        LabError
            The body raised CommandFailed: the same, with the step, its log and the log's last lines.
        """
        log = self.logs / f"{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}.log"
        self.logs.mkdir(parents=True, exist_ok=True)
        log.write_text("", encoding="utf-8")
        begun_s = time.monotonic()
        try:
            with self.console.status(title):
                yield log
        except CommandFailed as error:
            self.console.print(f"[red]✗[/] {title}", highlight=False)
            raise LabError(_broken(title, log, error)) from error
        took_s = time.monotonic() - begun_s
        self.console.print(f"[green]✓[/] {title} [dim]{took_s:.1f} s[/]", highlight=False)

    def note(self, text: str) -> None:
        """One line that is no step."""
        self.console.print(f"[dim]·[/] {text}", highlight=False)


def _broken(title: str, log: Path, error: CommandFailed) -> str:
    last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-TAIL_LINES:]
    return "\n  ".join([f"step {title!r} failed: {error}", f"log: {log}", *last])
