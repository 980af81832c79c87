"""Signals, exits and socket states as the kernel saw them: tracefs, in an instance of our own.

Times are CLOCK_MONOTONIC in seconds, the clock of `time.monotonic()`, so kernel and harness share one clock.
"""

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TRACEFS: Final = Path("/sys/kernel/tracing")
_LINE: Final = re.compile(
    r"^\s*(?P<comm>.*)-(?P<pid>\d+)\s+\[\d+\]\s+\S+\s+(?P<at>\d+\.\d+): (?P<event>\w+)(?:: | ?\(| )(?P<rest>.*)$"
)
_FIELD: Final = re.compile(r"(\w+)=(\S+)")


@dataclass(frozen=True, slots=True)
class TraceEvent:
    at_s: float
    comm: str
    pid: int
    """Of the task that ran, which for a signal is the sender."""
    event: str
    fields: Mapping[str, str]
    text: str


def parse_line(line: str) -> TraceEvent | None:
    """One line of a trace; None for a comment or what is no event."""
    match = _LINE.match(line)
    if not match:
        return None
    rest = match["rest"]
    return TraceEvent(
        float(match["at"]),
        match["comm"].strip(),
        int(match["pid"]),
        match["event"],
        dict(_FIELD.findall(rest)),
        rest,
    )


class KernelTrace:
    """A running trace of some events; `read` gives what was recorded and empties the buffer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._going = True

    def read(self) -> list[TraceEvent]:
        text = (self.path / "trace").read_text(errors="replace")
        (self.path / "trace").write_text("")
        return [event for line in text.splitlines() if (event := parse_line(line))]

    def pipe(self) -> Iterator[TraceEvent]:
        """Events as they come, until the trace is closed; for a thread."""
        pipe = os.open(self.path / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)
        rest = ""
        try:
            while self._going:
                select.select([pipe], [], [], 0.2)
                try:
                    text = rest + os.read(pipe, 1 << 16).decode(errors="replace")
                except BlockingIOError:
                    continue
                *lines, rest = text.split("\n")
                for line in lines:
                    if event := parse_line(line):
                        yield event
        finally:
            os.close(pipe)

    def close(self) -> None:
        """Lets `pipe` end: the kernel keeps an instance as long as it is read."""
        self._going = False
        time.sleep(0.4)


@contextmanager
def kernel_trace(
    events: Mapping[str, str], *, name: str = "rollsim", buffer_kb: int = 8192
) -> Iterator[KernelTrace]:
    """Trace *events* (`group/event` to a filter, empty for all) until the block ends.

    Raises
    ------
    OSError
        No tracefs, no right to it, or an event or filter that this kernel does not know.
    """
    if not (TRACEFS / "instances").is_dir():
        subprocess.run(["mount", "-t", "tracefs", "nodev", str(TRACEFS)], check=False, capture_output=True)
    path = TRACEFS / "instances" / name
    with suppress(OSError):
        path.rmdir()  # of a run that was killed
    path.mkdir()
    trace: KernelTrace | None = None
    try:
        (path / "trace_clock").write_text("mono")
        (path / "buffer_size_kb").write_text(str(buffer_kb))
        for event, condition in events.items():
            if condition:
                (path / "events" / event / "filter").write_text(condition)
            (path / "events" / event / "enable").write_text("1")
        trace = KernelTrace(path)
        yield trace
    finally:
        if trace:
            trace.close()
        with suppress(OSError):
            (path / "tracing_on").write_text("0")
            path.rmdir()
