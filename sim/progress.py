"""The progress bar of the commands: on standard error, where that is a terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def progress_bar(what: str, total: int | None) -> Iterator[Callable[[float], None]]:
    """A bar of *what* with its rate and the time left; yields what is told how many are done.

    The rate is that of this run: the first call says what was there before.
    """
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{what}, {{task.fields[rate]}}"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total, rate="")
        started = False

        def show(done: float) -> None:
            nonlocal started
            if not started:
                bar.reset(task, total=total, completed=int(done), rate="")
                started = True
            speed = bar.tasks[0].speed
            bar.update(task, completed=int(done), rate=f"{speed:.3g}/s" if speed else "")

        yield show


@contextmanager
def ends_quietly() -> Iterator[None]:
    """Ctrl-C ends a command that has nothing to keep: no traceback, exit code 130."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(130)
