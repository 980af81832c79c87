"""Many rollouts on the lab in a row: does anything leak? `python -m validation.soak --rollouts 200`.

Before, after and every so many rollouts the cluster and the machine are counted, each count against a stated
bound. The runs join the kept ones; how many of them the model's interval holds is printed. What is done is kept in
a ledger: the same command goes on where one ended.
"""

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Final, Self

from sim.errors import InputError
from sim.scenario import load
from sim.scenario.model import Scenario
from validation import compare, forecast, observations
from validation.access import Access, ReplayError, alone_on
from validation.campaign import Plan, replay_each, said_in_short
from validation.lab.cluster import Lab, docker
from validation.lab.commands import LabError
from validation.namespace import remove_leftovers
from validation.observations import FOLDER, Observation

MB: Final = 1_000_000
COUNTED_IN_NODE: Final = """ls -d /proc/[0-9]* | wc -l
ls -d /proc/[0-9]*/fd/* 2>/dev/null | wc -l
df --output=used -B1 /var | tail -1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What is there between two rollouts."""

    pods: int
    namespaces: int
    containers: int
    """Docker's, running or not."""
    node_processes: int
    node_file_handles: int
    node_disk_bytes: int
    processes: int
    """Of the machine; those in the node are among them."""
    file_handles: int
    """Of this program."""
    disk_bytes: int
    """Used where Docker and the observations are."""

    @classmethod
    def now(cls, lab: Lab) -> Self:
        """Count; nothing of a replay is there at that time.

        Raises
        ------
        LabError
            The lab does not answer.
        """
        processes, handles, disk = lab.in_node("sh", "-c", COUNTED_IN_NODE).split()
        return cls(
            pods=len(lab.kubectl("get", "pods", "--all-namespaces", "-o", "name").split()),
            namespaces=len(lab.kubectl("get", "namespaces", "-o", "name").split()),
            containers=len(docker("ps", "--all", "--quiet").split()),
            node_processes=int(processes),
            node_file_handles=int(handles),
            node_disk_bytes=int(disk),
            processes=sum(entry.name.isdecimal() for entry in Path("/proc").iterdir()),
            file_handles=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - the listing itself is one of them
            disk_bytes=shutil.disk_usage(FOLDER.parent).used,
        )


BOUNDS: Final[Mapping[str, int]] = {
    "pods": 0,
    "namespaces": 0,
    "containers": 0,
    "node_processes": 10,
    "node_file_handles": 400,  # of some 5,000: watches of the API server and containerd's sockets come and go
    "node_disk_bytes": 400 * MB,  # etcd keeps five minutes of revisions, the kubelet rotates its logs
    "processes": 30,  # the machine's own, too
    "file_handles": 3,
    "disk_bytes": 800 * MB,  # the node's writes, and some 100 kB for each run kept
}
"""How much more there may be than before the first rollout, however many there were."""


def leaks(before: Counted, after: Counted) -> list[str]:
    """What has grown beyond its bound."""
    grown = {name: getattr(after, name) - getattr(before, name) for name in BOUNDS}
    return [
        f"{name}: {grown[name]:+,} (bound {bound:+,})"
        for name, bound in BOUNDS.items()
        if grown[name] > bound
    ]


# ---------------------------------------------------------------- what is done


@dataclass(frozen=True, slots=True)
class Ledger:
    """One line for each rollout and each count, written as they come: a JSON line a thing."""

    path: Path

    def _lines(self) -> Iterator[dict[str, object]]:
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):  # else it was cut by a kill
                    yield json.loads(line)

    def _add(self, thing: Mapping[str, object]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = "".join(json.dumps(line) + "\n" for line in [*self._lines(), thing])
        observations.write_aside(self.path, whole.encode())

    def rollouts(self) -> list[tuple[str, int]]:
        """Scenario and number of each run made so far."""
        return [(str(x["scenario"]), int(str(x["run"]))) for x in self._lines() if "scenario" in x]

    def counts(self) -> list[tuple[int, Counted]]:
        """Each count, with the number of rollouts before it."""
        return [
            (int(str(x["rollouts"])), Counted(**{name: int(str(x[name])) for name in BOUNDS}))
            for x in self._lines()
            if "rollouts" in x
        ]

    def made(self, run: Observation) -> None:
        self._add({"scenario": run.scenario, "run": run.run})

    def counted(self, found: Counted) -> None:
        self._add({"rollouts": len(self.rollouts()), **asdict(found)})


# ---------------------------------------------------------------- the soak


def soak(
    scenarios: Sequence[Scenario], access: Access, ledger: Ledger, *, rollouts: int, every: int, plan: Plan
) -> None:
    """Replay the *scenarios* in turn until *rollouts* are in the *ledger*, counting every so many.

    Raises
    ------
    ReplayError, LabError, OSError
        As a replay does; the same call goes on.
    """
    assert access.lab is not None
    done = len(ledger.rollouts())
    _count(access, ledger)
    while done < rollouts:
        n = min(every - done % every, rollouts - done)
        turn = islice(cycle(scenarios), done % len(scenarios), done % len(scenarios) + n)
        for run in replay_each(turn, access, plan, say=_say):
            ledger.made(run)
            _say(said_in_short(run))
        _count(access, ledger)
        done += n


def _count(access: Access, ledger: Ledger) -> None:
    assert access.lab is not None
    with alone_on(access):
        remove_leftovers(access)
        ledger.counted(Counted.now(access.lab))
    if found := leaks(ledger.counts()[0][1], ledger.counts()[-1][1]):
        _say(f"after {ledger.counts()[-1][0]} rollouts: {'; '.join(found)}")


def report(ledger: Ledger) -> list[str]:
    """What was counted, and its verdict."""
    counts = ledger.counts()
    before, after = counts[0][1], counts[-1][1]
    lines = [f"{len(ledger.rollouts())} rollouts in a row, counted {len(counts)} times"]
    for name, bound in BOUNDS.items():
        values = [getattr(each, name) for _, each in counts]
        lines.append(
            f"  {name:18} {values[0]:>16,} before, at most {max(values):>16,}, {values[-1]:>16,} after"
            f"  (bound {bound:+,})"
        )
    lines.append(f"leaks: {'; '.join(leaks(before, after)) or 'none'}")
    return lines


def made_in(ledger: Ledger, folder: Path) -> list[Observation]:
    """The runs that the *ledger* names."""
    wanted = set(ledger.rollouts())
    names = sorted({name for name, _ in wanted})
    return [
        run for name in names for run in observations.read_runs(name, folder) if (name, run.run) in wanted
    ]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def main() -> int:
    """0 where nothing leaked, 1 where something did or the lab failed, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.soak", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("scenarios", nargs="*", default=["configs/tutorial", "configs/matrix"])
    parser.add_argument("--rollouts", type=int, default=200)
    parser.add_argument("--every", type=int, default=20, help="count after so many rollouts")
    parser.add_argument("--predictions", type=int, default=200, help="simulated rollouts of today's model")
    parser.add_argument("--name", help="the lab's cluster")
    parser.add_argument("--ledger", type=Path, default=Path(".nightly/soak.jsonl"))
    parser.add_argument("--observations", type=Path, default=FOLDER)
    given = parser.parse_args()
    ledger, plan = Ledger(given.ledger), Plan(folder=given.observations, predictions=given.predictions)
    try:
        scenarios = [scenario for path in given.scenarios for scenario in load(path)]
        access = Access(lab=Lab.find(given.name))
        soak(scenarios, access, ledger, rollouts=given.rollouts, every=given.every, plan=plan)
    except InputError as error:
        _say(f"soak: {error}")
        return 2
    except (ReplayError, LabError, OSError) as error:
        _say(f"soak: {error}; the same command goes on")
        return 1
    except KeyboardInterrupt:
        _say("soak: interrupted; the same command goes on")
        return 130
    runs = made_in(ledger, given.observations)
    print("\n".join([*report(ledger), *_scores(scenarios, runs, plan)]))
    return 1 if leaks(ledger.counts()[0][1], ledger.counts()[-1][1]) else 0


def _scores(scenarios: Sequence[Scenario], runs: Sequence[Observation], plan: Plan) -> list[str]:
    """These runs alone, held against what was predicted before the first replay and against today's model."""
    made = {run.scenario for run in runs}
    before = [kept for name in sorted(made) if (kept := forecast.kept(name, plan.folder, plan.timing))]
    today = [
        forecast.predict(scenario, runs=plan.predictions, seed=plan.seed, timing=plan.timing)
        for scenario in scenarios
        if scenario.name in made
    ]
    lines = []
    for title, forecasts in (("predicted before the first replay", before), ("today's model", today)):
        if compared := compare.match(forecasts, runs):
            lines += [f"these runs against {title}:", *compare.scores_text(compare.scores_of(compared))]
    return lines


if __name__ == "__main__":
    sys.exit(main())
