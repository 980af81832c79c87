"""What every reader owes to any input: an answer or one clear line, within 2 s of CPU and 500 MiB.

CPU time, not the clock: a machine that has other work to do does not fail a test.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from sim.errors import InputError

CPU_S = 2.0
MEMORY_BYTES = 500 * 2**20
LONGEST_LINE = 2000


class _TooSlowError(BaseException):
    """Past every `except Exception` of a reader."""


def said(read: Callable[..., Any], *args: Any, **options: Any) -> str | None:
    """What *read* complains of its input; None where it takes it.

    Any other exception, more than 2 s of CPU or more than one line is a failure of the test.
    """
    try:
        with _cpu_limit():
            read(*args, **options)
    except InputError as error:
        return one_clear_line(str(error))
    except _TooSlowError as slow:
        raise AssertionError(f"more than {CPU_S:g} s of CPU") from slow
    return None


def one_clear_line(message: str) -> str:
    assert message.strip()
    assert len(message.splitlines()) == 1, message
    assert message.isprintable(), ascii(message)
    assert len(message) <= LONGEST_LINE, message[:200]
    return message


@contextmanager
def _cpu_limit() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise _TooSlowError

    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextmanager
def memory_limit() -> Iterator[None]:
    """The body may not raise this process's memory by more than 500 MiB at any time (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _memory_bytes("VmRSS")
    yield
    grown = _memory_bytes("VmHWM") - before
    assert grown < MEMORY_BYTES, f"{grown / 2**20:.0f} MiB more than before"


def _memory_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))
