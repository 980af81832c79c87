"""Where the requests of a steady load wait: the share of its connections in each phase, from the kernel's sockets.

A connection whose server has bytes to read holds a request that waits for the server; one whose client has bytes to
read, an answer that waits for the client. Three nginx pods behind a NodePort, directly and through one HAProxy pod.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from validation.calibration.rows import write_rows
from validation.calibration.steady import TIERS, pids_of, served
from validation.lab.cluster import Lab

ESTABLISHED: Final = "01"
PROXY_LISTENS: Final = 8080
APP_LISTENS: Final = 80
PARTS: Final = ("connections", "at_client", "at_front", "at_app")


def sockets(pid: int) -> list[tuple[int, int, bool]]:
    """Established TCP connections in the network namespace of *pid*: local port, remote port, has bytes to read."""
    found = []
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]:
            _, local, remote, state, queues, *_ = line.split()
            if state == ESTABLISHED:
                unread = int(queues.partition(":")[2], 16) > 0
                found.append((_port(local), _port(remote), unread))
    return found


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def one_of_each_pod(pids: Sequence[int]) -> list[int]:
    """Of processes that share a network namespace, one."""
    return list({Path(f"/proc/{pid}/ns/net").readlink(): pid for pid in pids}.values())


def look(node: int, servers: Sequence[int], proxies: Sequence[int], port: int) -> dict[str, float]:
    """One look: connections of the client, and the share of them that waits to be read, by who is to read."""
    client = [unread for _, remote, unread in sockets(node) if remote == port]
    front = [unread for pid in proxies for local, _, unread in sockets(pid) if local == PROXY_LISTENS]
    app = [unread for pid in servers for local, _, unread in sockets(pid) if local == APP_LISTENS]
    n = max(1, len(client))
    return {
        "connections": len(client),
        "at_client": sum(client) / n,
        "at_front": sum(front) / n,
        "at_app": sum(app) / n,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    seconds = str(options.seconds)
    with served(lab) as (node, uids):
        servers, proxies = (one_of_each_pod(pids_of(comm, uids)) for comm in ("nginx", "haproxy"))
        bound = ["-q", "-l", "-r", "-c", "10", "-t", seconds, "-n", "5000000"]
        rows = []
        for tier, port in TIERS:
            url = f"http://127.0.0.1:{port}/index.html"
            paced = [sys.executable, "-m", "validation.calibration.paced", str(port), seconds]
            for client, argv in (
                ("ab -k", ["ab", "-k", *bound, url]),
                ("wrk", ["wrk", "-t", "1", "-c", "10", "-d", seconds, url]),
                ("paced", paced),
            ):
                process = subprocess.Popen(
                    ["nsenter", "-t", str(node), "-n", *argv],
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
                time.sleep(1.5)
                looks, ends_s = [], time.monotonic() + options.seconds - 2.5
                while time.monotonic() < ends_s:
                    looks.append(look(node, servers, proxies, port))
                    time.sleep(0.005)
                process.wait()
                means = {part: round(sum(each[part] for each in looks) / len(looks), 4) for part in PARTS}
                rows.append({"tier": tier, "client": client, "looks": len(looks), **means})
                print(rows[-1], file=sys.stderr, flush=True)
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
