"""CPU of one request by part, and what a saturating client reaches, on loopback.

Each row: one client run; the client's CPU from its rusage, the servers' from their scheduler statistics.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from validation.calibration.loopback import Server, haproxy, nginx, parse_ab, run_client
from validation.calibration.rows import write_rows
from validation.clients.plain import Settings

APP: Final = 18080
PROXY: Final = 18081
CLOSED: Final = 18099


def busy_s() -> float:
    """CPU time of the whole machine spent on anything. [s]"""
    fields = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def run(name: str, argv: Sequence[str], servers: dict[str, Server]) -> dict[str, Any]:
    before = {part: server.cpu_s() for part, server in servers.items()}
    busy_before = busy_s()
    ran = run_client(argv, stderr=subprocess.DEVNULL)
    out, wall_s = ran.out, ran.wall_s
    if argv[0] == "ab":
        requests = float(parse_ab(out).complete)
    elif argv[0] == sys.executable:
        requests = float(json.loads(out.splitlines()[-1])["requests"])
    else:
        requests = float(re.search(r"(\d+) requests in", out)[1])  # type: ignore[index]
    row: dict[str, Any] = {
        "name": name, "requests": int(requests), "wall_s": round(wall_s, 4), "rate_per_s": round(requests / wall_s, 1),
        "client_us": round(ran.cpu_s / requests * 1e6, 2), "nginx_us": "", "haproxy_us": "",
        "machine_us": round((busy_s() - busy_before) / requests * 1e6, 2),
    }  # fmt: skip
    for part, server in servers.items():
        row[f"{part}_us"] = round((server.cpu_s() - before[part]) / requests * 1e6, 2)
    print(row, file=sys.stderr, flush=True)
    return row


def measure(seconds: int) -> list[dict[str, Any]]:
    rows = []
    with nginx(APP) as app, haproxy(PROXY, APP) as proxy:
        only, both = {"nginx": app}, {"nginx": app, "haproxy": proxy}
        bound = ["-t", str(seconds), "-n", "5000000"]
        for name, client, port, servers in (
            ("ab -k direct", ["ab", "-q", "-l", "-r", "-k", "-c", "10", *bound], APP, only),
            ("ab direct", ["ab", "-q", "-l", "-r", "-c", "10", *bound], APP, only),
            ("ab -k haproxy", ["ab", "-q", "-l", "-r", "-k", "-c", "10", *bound], PROXY, both),
            ("ab haproxy", ["ab", "-q", "-l", "-r", "-c", "10", *bound], PROXY, both),
            ("wrk direct", ["wrk", "-t", "1", "-c", "10", "-d", str(seconds)], APP, only),
            ("wrk haproxy", ["wrk", "-t", "1", "-c", "10", "-d", str(seconds)], PROXY, both),
        ):
            rows.append(run(name, [*client, f"http://127.0.0.1:{port}/index.html"], servers))
            time.sleep(0.5)
        settings = Settings(port=APP, connections=20, think_s=0.02, duration_s=seconds)
        own = [sys.executable, "-m", "validation.clients.plain", "--settings", json.dumps(asdict(settings))]
        rows.append(run("plain direct", own, only))
    refused = ["ab", "-q", "-l", "-r", "-c", "10", "-n", "100000", f"http://127.0.0.1:{CLOSED}/"]
    rows.append(run("ab refused", refused, {}))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows = [row for _ in range(options.repeats) for row in measure(options.seconds)]
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
