"""What our own client's requests cost the machine at several rates, while nothing changes.

Three nginx pods behind a NodePort, directly and through one HAProxy pod, connections kept and not. The fewer requests
a second, the more each costs: all that serves it sleeps in between.
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Final

from validation.calibration.loopback import run_client
from validation.calibration.request_cost import busy_s
from validation.calibration.rows import write_rows
from validation.calibration.steady import TIERS, cpu_of, idle, served
from validation.clients.plain import Settings
from validation.lab.cluster import Lab

CONNECTIONS: Final = (5, 20, 60, 100)
"""Of 20 ms of pause in the mean: 240 to 4,800 requests/s."""
THINK_S: Final = 0.02


def measured(node: int, uids: Sequence[str], tier: str, settings: Settings) -> dict[str, object]:
    """One load: its requests, and the CPU of one of them by part. [us]"""
    before, busy_before = {c: cpu_of(c, uids) for c in ("nginx", "haproxy")}, busy_s()
    client = [sys.executable, "-m", "validation.clients.plain", "--settings", json.dumps(asdict(settings))]
    ran = run_client(["nsenter", "-t", str(node), "-n", *client])
    told = json.loads(ran.out.splitlines()[-1])
    if told["failed"] or told["client_errors"]:
        raise RuntimeError(f"a load that nothing disturbs failed: {told}")
    n = int(told["requests"])
    used = {c: cpu_of(c, uids) - cpu_s for c, cpu_s in before.items()}
    parts = {"client": ran.cpu_s, **used, "machine": busy_s() - busy_before}
    return {
        "tier": tier, "keep_alive": int(settings.keep_alive), "connections": settings.connections,
        "requests": n, "wall_s": round(ran.wall_s, 3), "rate_per_s": round(n / ran.wall_s, 1),
        **{f"{part}_us": round(cpu_s / n * 1e6, 2) for part, cpu_s in parts.items()},
    }  # fmt: skip


def unloaded(seconds: float) -> dict[str, object]:
    """Without any client: the machine's CPU in that time, as if of one request. [us]"""
    cpu_s, wall_s = idle(seconds)
    zeros = dict.fromkeys(("rate_per_s", "client_us", "nginx_us", "haproxy_us"), 0)
    return {"tier": "none", "keep_alive": 0, "connections": 0, "requests": 1, "wall_s": round(wall_s, 3),
            **zeros, "machine_us": round(cpu_s * 1e6, 2)}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--cluster", help="name of a running lab")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    lab = Lab.find(options.cluster)
    with served(lab) as (node, uids):
        rows = [unloaded(options.seconds)]
        for (tier, port), keep_alive, connections in product(TIERS, (True, False), CONNECTIONS):
            settings = Settings(port=port, connections=connections, keep_alive=keep_alive, think_s=THINK_S,
                                duration_s=options.seconds)  # fmt: skip
            rows.append(measured(node, uids, tier, settings))
            print(rows[-1], file=sys.stderr, flush=True)
            time.sleep(1)
        rows.append(unloaded(options.seconds))
    write_rows(options.out, rows)


if __name__ == "__main__":
    main()
