"""Where the units of a sweep are worked on: every core of this machine, or an existing Dask cluster.

Both give the same results, in whatever order they are ready; a worker that dies costs time and no result.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from multiprocessing import connection
from typing import Any, Final, Protocol

from sim.errors import InputError
from sim.sweep.files import model_digest

WAITING_PER_WORKER: Final = 4
"""Pieces handed out at a time: enough that no worker waits, few enough to keep memory bounded."""
MAX_BREAKS: Final = 3
"""So many times in a row the pool may break before anything is finished."""
CONNECT_FOR_S: Final = 10
PRELOADED: Final = "sim.sweep.unit"

Task = Callable[..., Any]
"""A function of a module that takes one piece of work, and, as `stopped`, whether to give up."""


class Engine:
    """Gives pieces of work to workers and takes the results back."""

    def __init__(
        self,
        name: str,
        *,
        n_workers: Callable[[], int],
        new_executor: Callable[[], Executor],
        wrap: Callable[[Task], Task],
        fatal: tuple[type[Exception], ...] = (),
    ) -> None:
        self.name = name
        self.n_workers = n_workers
        self._wrap = wrap
        self._new_executor = new_executor
        self._executor = new_executor()
        self._fatal: tuple[type[Exception], ...] = (CancelledError, OSError, *fatal)

    def map(self, task: Task, work: Iterator[Any]) -> Iterator[tuple[Any, Any]]:
        """Each piece of *work* with its result, as they are ready; *work* is read as it is needed.

        Raises
        ------
        InputError
            Workers die again and again, or the cluster is lost.
        """
        waiting: dict[Future[Any], Any] = {}
        lost: list[Any] = []
        n_breaks = 0
        while True:
            self._hand_out(task, work, waiting, lost)
            if not waiting and not lost:
                return
            for future in wait(waiting, return_when=FIRST_COMPLETED).done if not lost else ():
                piece = waiting.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    lost.append(piece)
                except self._fatal as error:
                    raise InputError(f"{self.name}: {type(error).__name__} {error}".strip()) from None
                else:
                    n_breaks = 0
                    yield piece, result
            if lost:
                n_breaks += 1
                if n_breaks > MAX_BREAKS:
                    raise InputError(f"{self.name}: workers die again and again; is there memory enough?")
                lost += waiting.values()
                waiting.clear()
                self._executor.shutdown(wait=False)
                self._executor = self._new_executor()

    def _hand_out(
        self, task: Task, work: Iterator[Any], waiting: dict[Future[Any], Any], lost: list[Any]
    ) -> None:
        while len(waiting) < WAITING_PER_WORKER * max(1, self.n_workers()):
            piece = lost.pop() if lost else next(work, None)
            if piece is None:
                return
            try:
                waiting[self._executor.submit(self._wrap(task), piece)] = piece
            except BrokenProcessPool:
                lost.append(piece)
                return

    def close(self) -> None:
        """End the workers, or take the work back from those that are not ours."""
        self._executor.shutdown(wait=False)


@contextmanager
def engine(scheduler: str | None = None, n_workers: int | None = None) -> Iterator[Engine]:
    """The Dask cluster at *scheduler*, or *n_workers* processes of this machine (default: one a core).

    Raises
    ------
    InputError
        There is no scheduler at that address.
    """
    with _dask(scheduler) if scheduler is not None else _cores(n_workers or n_cores()) as found:
        yield found


def n_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------- this machine


@contextmanager
def _cores(n_workers: int) -> Iterator[Engine]:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload([PRELOADED])  # imported once, for all workers
    stop: Flag = context.RawValue("b", 0)  # without a lock: a worker may be killed at any time
    new_pool = partial(
        _Pool, max_workers=n_workers, mp_context=context, initializer=begin_worker, initargs=(stop,)
    )
    found = Engine(
        f"{n_workers} processes",
        n_workers=lambda: n_workers,
        new_executor=new_pool,
        wrap=lambda task: partial(_on_core, task),
    )
    try:
        yield found
    finally:
        stop.value = 1  # what runs gives up before its next replication
        found.close()


class _Pool(ProcessPoolExecutor):
    """One that does not wait for what nobody asks for any more."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = True) -> None:
        super().shutdown(wait=wait, cancel_futures=cancel_futures)


class Flag(Protocol):
    """A byte that all workers see."""

    value: int


_stop: Flag | None = None


def begin_worker(stop: Flag) -> None:
    """A worker's first act: Ctrl-C is for the parent alone, and no worker outlives it."""
    global _stop  # noqa: PLW0603 - one a process, set once
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _on_core(task: Task, piece: Any) -> Any:
    return task(piece, stopped=is_stopped)


def is_stopped() -> bool:
    return _stop is not None and bool(_stop.value)


# ---------------------------------------------------------------- a Dask cluster


@contextmanager
def _dask(address: str) -> Iterator[Engine]:
    try:
        from distributed import Client, KilledWorker  # noqa: PLC0415 - heavy, and an extra
    except ImportError:
        raise InputError("--scheduler needs Dask: pip install 'rollsim[dask]'") from None
    try:
        client = Client(address, timeout=CONNECT_FOR_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError) as error:
        raise InputError(f"--scheduler {address}: {' '.join(str(error).split())}") from None
    with client:
        yield from _on(client, address, KilledWorker)


def _on(client: Any, address: str, killed: type[Exception]) -> Iterator[Engine]:
    found = Engine(
        f"--scheduler {address}",
        n_workers=lambda: sum(client.nthreads().values()),
        new_executor=partial(client.get_executor, pure=False),
        wrap=lambda task: partial(_on_dask, task, model_digest()),
        fatal=(killed,),
    )
    try:
        yield found
    finally:
        found.close()


def _on_dask(task: Task, model: str, piece: Any) -> Any:
    if model != model_digest():
        raise InputError(
            "a worker of the cluster has another version of rollsim: install the same on all of them"
        )
    return task(piece)
