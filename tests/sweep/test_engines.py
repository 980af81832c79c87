"""Workers that die, give up, or cannot be reached."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from sim.errors import InputError
from sim.sweep.engines import engine
from sim.sweep.unit import Stopped


def doubled(piece, stopped):
    return 2 * piece


def killed_once(piece, stopped):
    """The first worker that meets the marked piece dies of it, as from the kernel's out-of-memory killer."""
    number, marker = piece
    if number == 7 and not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def killed_always(piece, stopped):
    os.kill(os.getpid(), signal.SIGKILL)


def until_stopped(piece, stopped):
    Path(piece).touch()
    while not stopped():
        pass
    Path(piece).with_suffix(".stopped").touch()
    raise Stopped


def test_every_piece_comes_back_once():
    """More pieces than are handed out at a time, from an iterator that is read as it is needed."""
    read = []

    def work():
        for number in range(100):
            read.append(number)
            yield number

    with engine(n_workers=2) as found:
        results = found.map(doubled, work())
        first = next(results)
        assert first[1] == 2 * first[0]
        assert len(read) < 20
        assert sorted([first, *results]) == [(number, 2 * number) for number in range(100)]


def test_a_worker_that_dies_costs_no_piece(tmp_path):
    """Killed in the middle: what it had is worked on again, nothing comes back twice."""
    pieces = [(number, str(tmp_path / "marker")) for number in range(40)]
    with engine(n_workers=2) as found:
        results = [number for _, number in found.map(killed_once, iter(pieces))]
    assert sorted(results) == list(range(40))
    assert (tmp_path / "marker").exists()


def test_workers_that_always_die_end_the_work():
    """No endless loop: one line."""
    with engine(n_workers=1) as found, pytest.raises(InputError, match="die again and again"):
        list(found.map(killed_always, iter([1])))


def test_leaving_early_stops_what_runs(tmp_path):
    """Ctrl-C leaves the block: a piece that would run for ever gives up at its next look."""
    piece = tmp_path / "piece"
    with pytest.raises(KeyboardInterrupt):
        wait_for(piece)
    deadline = time.monotonic() + 60
    while not piece.with_suffix(".stopped").exists():
        assert time.monotonic() < deadline, "the worker did not stop"
        time.sleep(0.01)


def wait_for(piece):
    with engine(n_workers=1) as found:
        results = found.map(until_stopped, iter([str(piece)]))
        threading.Thread(target=interrupt_when, args=[piece], daemon=True).start()
        next(results)


def interrupt_when(piece):
    """Send this process SIGINT as soon as a worker has begun."""
    while not piece.exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
