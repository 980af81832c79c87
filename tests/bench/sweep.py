"""How well a sweep uses the cores, and what Dask costs: whole commands, timed in pairs.

`python tests/bench/sweep.py [--points 100] [--runs 100] [--pairs 3] [--json]`, some 20 minutes a pair: a sweep of
tutorial stage 2 on one process, on one a core, and on a Dask cluster of as many workers on loopback, in turn, so that
a slow spell of the machine hits all of them. `scaling` is the median over the pairs of (one process / all cores) /
cores, 1.0 being ideal; `dask_overhead` that of (Dask / all cores) - 1. All three must write the same bytes.
"""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

STAGE_2 = Path(__file__).parent.parent.parent / "configs" / "tutorial" / "2-keepalive.yaml"
ROLLSIM = (sys.executable, "-c", "from sim.cli import main; main()")
START_WITHIN_S = 60


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", *arguments]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.terminate()
        started.wait(30)


@contextmanager
def cluster(n_workers: int, folder: Path) -> Iterator[str]:
    """A Dask scheduler and its workers on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    with ExitStack() as stack:
        scheduler = ("--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
        stack.enter_context(process("distributed.cli.dask_scheduler", *scheduler))
        for number in range(n_workers):
            options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1")
            where = ("--local-directory", str(folder / str(number)))
            stack.enter_context(process("distributed.cli.dask_worker", address, *options, *where))
        _wait_for_workers(address, n_workers)
        yield address


def _wait_for_workers(address: str, n_workers: int) -> None:
    from distributed import Client

    with Client(address, timeout=START_WITHIN_S) as client:
        client.wait_for_workers(n_workers, timeout=START_WITHIN_S)


def timed(out: Path, points: int, runs: int, *options: str) -> float:
    """Seconds of one whole command."""
    command = [*ROLLSIM, "sweep", str(STAGE_2), "-p", f"load.connections=1..{points}", "--runs", str(runs)]
    begun_s = time.perf_counter()
    subprocess.run([*command, "-o", str(out), *options], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun_s


def measure(points: int, runs: int, pairs: int) -> dict[str, object]:
    cores = len(os.sched_getaffinity(0))
    seconds: dict[str, list[float]] = {"one": [], "all": [], "dask": []}
    with tempfile.TemporaryDirectory() as name, cluster(cores, Path(name)) as address:
        options = {"one": ("--processes", "1"), "all": (), "dask": ("--scheduler", address)}
        for pair in range(pairs):
            files = {kind: Path(name, f"{kind}-{pair}.parquet") for kind in options}
            for kind, more in options.items():
                seconds[kind].append(timed(files[kind], points, runs, *more))
                print(
                    f"pair {pair + 1} of {pairs}: {kind} {seconds[kind][-1]:.1f} s",
                    file=sys.stderr,
                    flush=True,
                )
            if len({file.read_bytes() for file in files.values()}) != 1:
                raise SystemExit("the three do not write the same rows")
    ratios = [one / every / cores for one, every in zip(seconds["one"], seconds["all"], strict=True)]
    overheads = [dask / every - 1 for dask, every in zip(seconds["dask"], seconds["all"], strict=True)]
    return {
        "cores": cores,
        "points": points,
        "runs": runs,
        "seconds": seconds,
        "scaling": statistics.median(ratios),
        "scaling_by_pair": ratios,
        "dask_overhead": statistics.median(overheads),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=100)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.points, asked.runs, asked.pairs)
    if asked.json:
        print(json.dumps(found, indent=2))
        return
    print(
        f"{asked.points} points × {asked.runs} runs of tutorial stage 2, {found['cores']} cores, whole commands"
    )
    for kind, times in found["seconds"].items():  # type: ignore[attr-defined]
        print(f"  {kind:5} " + "  ".join(f"{each:7.1f} s" for each in times))
    print(f"  scaling        {found['scaling']:.2f} of ideal")
    print(f"  Dask overhead  {found['dask_overhead']:+.1%}")


if __name__ == "__main__":
    main()
