"""What the commands on a cluster say when they cannot do it: one line, and an exit code."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer

from sim.errors import InputError
from validation.access import ReplayError
from validation.lab.commands import LabError

EXIT_FAILED: Final = 1
EXIT_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130


@contextmanager
def one_line_errors(command: str, *, interrupted: str) -> Iterator[None]:
    """Bad input ends with 2, what the cluster cannot do with 1, Ctrl-C and SIGTERM with 130 and *interrupted*."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started ends with us
    try:
        yield
    except InputError as error:
        _end(command, error, EXIT_INPUT, error)
    except (ReplayError, LabError) as error:
        _end(command, error, EXIT_FAILED, error)
    except OSError as error:
        _end(command, _of_the_system(error), EXIT_FAILED, error)
    except KeyboardInterrupt as error:
        _end(command, f"interrupted; {interrupted}", EXIT_INTERRUPTED, error)


def _of_the_system(error: OSError) -> str:
    """The file and the reason, without the number."""
    if not error.strerror:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _end(command: str, says: object, code: int, cause: BaseException) -> None:
    typer.echo(f"{command}: {says}", err=True)
    raise typer.Exit(code) from cause
