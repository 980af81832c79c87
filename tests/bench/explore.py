"""How soon 02-explore answers a control: `python tests/bench/explore.py [--json]`, about a minute on two cores.

The notebook's own cells are run, and its controls are moved as a hand would. Nothing is drawn by a browser.

- `change_s`: from a control's move until picture and mean stand there;
- `interval_s`: until all 200 rollouts are counted;
- `change_cpu_s`, `interval_cpu_s`: CPU seconds of that, the second over the cores, which a busy machine delays less.

Of each the median and the worst of the moves.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from multiprocessing import active_children
from pathlib import Path
from statistics import median
from typing import Any

import jupytext

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
MOVES = (
    ("probe", 5),
    ("pre_stop", 0),
    ("keep_alive", False),
    ("replicas", 6),
    ("pre_stop", 10),
    ("client", "go-http"),
    ("signal", "SIGQUIT"),
    ("keep_alive", True),
    ("client", "plain"),
    ("replicas", 3),
)
TARGETS = {"change_s": "at most 0.3", "interval_s": "at most 3"}


def notebook() -> dict[str, Any]:
    """What its cells define, up to the one that waits."""
    names: dict[str, Any] = {}
    for cell in jupytext.read(NOTEBOOKS / "02-explore.py").cells:
        if cell.cell_type == "code" and "await " not in cell.source:
            exec(cell.source, names)
    return names


def cpu_s_of(pids: list[int]) -> float:
    """CPU seconds that these processes have used so far."""
    ticks = 0
    for pid in pids:
        used = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        ticks += sum(map(int, used))
    return ticks / os.sysconf("SC_CLK_TCK")


async def moved(explorer: Any, control: str, value: object) -> dict[str, float]:
    pids = [os.getpid(), *(child.pid for child in active_children() if child.pid)]
    begun_cpu_s, begun_own_s = cpu_s_of(pids), time.process_time()
    explorer.controls[control].widget.value = value
    own_s = time.process_time() - begun_own_s
    await explorer.settled()
    return {
        "change_s": explorer.change_s,
        "change_cpu_s": own_s,
        "interval_s": explorer.interval_s,
        "interval_cpu_s": (cpu_s_of(pids) - begun_cpu_s) / (os.cpu_count() or 1),
    }


async def measure(moves: tuple[tuple[str, object], ...] = MOVES) -> dict[str, dict[str, float]]:
    """Median and worst of every figure over *moves*, after the notebook has come to rest."""
    os.chdir(NOTEBOOKS)
    sys.path.insert(0, str(NOTEBOOKS))
    explorer = notebook()["explorer"]
    await explorer.settled()
    found = [await moved(explorer, *move) for move in moves]
    return {
        name: {
            "median": round(median(each[name] for each in found), 3),
            "worst": round(max(each[name] for each in found), 3),
        }
        for name in found[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one object")
    as_json = parser.parse_args().json
    measured = asyncio.run(measure())
    if as_json:
        print(json.dumps(measured, indent=2))
        return
    for name, each in measured.items():
        target = f"   target: {TARGETS[name]}" if name in TARGETS else ""
        print(f"{name:15} {each['median']:7.3f} s, worst {each['worst']:.3f} s{target}")


if __name__ == "__main__":
    main()
