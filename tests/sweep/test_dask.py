"""A sweep on a real Dask cluster: scheduler and workers are processes of their own on loopback."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_sweep import GRID, LONG, parts_of, rollsim, started

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def process(*arguments, **environment):
    """A process with its output in a file, ended at the end."""
    started_ = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | environment,
    )
    try:
        yield started_
    finally:
        started_.terminate()
        started_.wait(30)


@contextmanager
def scheduler():
    port = free_port()
    arguments = (
        "distributed.cli.dask_scheduler",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--no-dashboard",
    )
    with process(*arguments):
        deadline = time.monotonic() + 120
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the scheduler does not listen"
                time.sleep(0.1)
        yield f"tcp://127.0.0.1:{port}"


def worker(address, folder):
    """One worker without a nanny: nobody starts it again when it is killed."""
    return process(
        "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
        "--host", "127.0.0.1", "--local-directory", str(folder),
    )  # fmt: skip


def test_a_cluster_gives_the_same_file(small, tmp_path):
    """Byte for byte what the cores of this machine give; the files travel with the work."""
    local, remote = tmp_path / "local.parquet", tmp_path / "remote.parquet"
    rollsim("sweep", small, *GRID, "--runs", 6, "-o", local)
    with scheduler() as address, worker(address, tmp_path / "a"), worker(address, tmp_path / "b"):
        rollsim("sweep", small, *GRID, "--runs", 6, "-o", remote, "--scheduler", address)
    assert local.read_bytes() == remote.read_bytes()


def test_a_killed_worker_loses_nothing(whole, tmp_path, request):
    """One of two workers is killed in mid-sweep, later the other one too: a third one does the rest."""
    small, remote = whole.with_name("small.yaml"), tmp_path / "remote.parquet"
    with (
        scheduler() as address,
        worker(address, tmp_path / "a") as first,
        worker(address, tmp_path / "b") as second,
    ):
        sweeping = started("sweep", small, *LONG, "-o", remote, "--scheduler", address)
        request.addfinalizer(sweeping.kill)
        deadline = time.monotonic() + 400
        while not parts_of(remote):
            assert sweeping.poll() is None, sweeping.stderr.read()
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.05)
        first.send_signal(signal.SIGKILL)
        first.wait(30)
        done_by_then = len(parts_of(remote))
        while len(parts_of(remote)) == done_by_then and sweeping.poll() is None:
            assert time.monotonic() < deadline, "the other worker does not go on"
            time.sleep(0.05)
        assert sweeping.poll() is None, "too quick a sweep to kill a worker in"
        second.send_signal(signal.SIGKILL)
        second.wait(30)
        with worker(address, tmp_path / "c"):
            _, said = sweeping.communicate(timeout=600)
        assert sweeping.returncode == 0, said
    assert pq.read_table(whole).equals(pq.read_table(remote))
    assert len(pd.read_parquet(remote)) == 24 * 20


def test_ctrl_c_on_a_cluster_keeps_what_is_done(small, tmp_path, request):
    """The work is taken back from the cluster; the cores of this machine go on with the same sweep."""
    out = tmp_path / "out.parquet"
    with scheduler() as address, worker(address, tmp_path / "a"):
        sweeping = started("sweep", small, *LONG, "-o", out, "--scheduler", address)
        request.addfinalizer(sweeping.kill)
        deadline = time.monotonic() + 400
        while not parts_of(out):
            assert sweeping.poll() is None, sweeping.stderr.read()
            assert time.monotonic() < deadline, "no part was written"
            time.sleep(0.05)
        sweeping.send_signal(signal.SIGINT)
        _, said = sweeping.communicate(timeout=60)
    assert sweeping.returncode == 130
    assert "the same command goes on" in said
    assert not out.exists()
    rollsim("sweep", small, *LONG, "-o", out)
    assert len(pd.read_parquet(out)) == 24 * 20
