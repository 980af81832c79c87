"""Replays of scenarios one after another, and what kept runs say of today's model.

Each prediction is made and kept before the first replay of its scenario; each run is kept as it ends.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario import load
from sim.scenario.model import Scenario
from validation import forecast, machines, observations
from validation.access import Access, alone_on, find_access
from validation.compare import Compared, match
from validation.lab.cluster import Lab
from validation.namespace import Say, afterwards, remove_leftovers
from validation.observations import FOLDER, Observation, scenario_hash
from validation.replay import DEFAULT_LIMITS, Limits, replay

CONFIGS: Final = Path(__file__).parent.parent / "configs"
GROUPS: Final = {
    "unseen": "Predicted before the first replay, measured latencies",
    "unseen_sources": "Predicted before the first replay, latencies from sources alone",
    "seen": "Today's model against every kept run, measured latencies",
    "seen_sources": "Today's model against every kept run, latencies from sources alone",
}
Groups = dict[str, list[Compared]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does."""

    runs: int = 8
    predictions: int = 200
    seed: int = 1
    timing: str = machines.PROFILES[0]
    """The profile of that cluster; the one from sources alone is predicted with beside it."""
    folder: Path = FOLDER
    client_image: str | None = None
    limits: Limits = DEFAULT_LIMITS


def cluster(*, name: str | None, context: str | None, yes: bool) -> Access:
    """The lab's cluster of that name, or any by its kube-context.

    Raises
    ------
    ReplayError, LabError
        There is none, or it is not ours and *yes* was not said.
    """
    return Access(lab=Lab.find(name)) if context is None else find_access(context, yes=yes)


def replay_all(
    scenarios: Sequence[Scenario],
    access: Access,
    plan: Plan,
    *,
    measuring: Callable[[], AbstractContextManager[Any]] = nullcontext,
    say: Say = lambda _: None,
) -> Iterator[Observation]:
    """Replay until each scenario has its runs; see `replay_each`."""
    yield from replay_each(
        todo(scenarios, plan.runs, plan.folder), access, plan, measuring=measuring, say=say
    )


def replay_each(
    queue: Iterable[Scenario],
    access: Access,
    plan: Plan,
    *,
    measuring: Callable[[], AbstractContextManager[Any]] = nullcontext,
    say: Say = lambda _: None,
) -> Iterator[Observation]:
    """One run of each scenario in the *queue*; each is kept before it is yielded.

    Raises
    ------
    ReplayError, LabError, OSError
        A run could not be made or kept; those before it are kept, and nothing of it stays on the cluster.
    """
    observations.make_ready(plan.folder)
    with alone_on(access), afterwards(lambda: remove_leftovers(access)):
        for scenario in queue:
            say(f"{scenario.name}: run {observations.next_run(scenario.name, plan.folder)}")
            prepare(scenario, access, plan, say)
            yield run_scenario(scenario, access, plan, measuring=measuring, say=say)


def prepare(scenario: Scenario, access: Access, plan: Plan, say: Say = lambda _: None) -> None:
    """Predict, if nobody has before the first replay, and give the lab the scenario's images."""
    first = observations.next_run(scenario.name, plan.folder) == 1
    for timing in dict.fromkeys((plan.timing, forecast.SOURCES)):
        if first and forecast.kept(scenario.name, plan.folder, timing) is None:
            say(f"predicting {scenario.name} with {timing} before its first replay")
            made = forecast.predict(scenario, runs=plan.predictions, seed=plan.seed, timing=timing)
            forecast.keep(made, plan.folder)
    if access.lab:
        from validation.lab.workload import ensure_images  # noqa: PLC0415 - builds: only a replay needs it

        ensure_images(access.lab, scenario)


def run_scenario(
    scenario: Scenario,
    access: Access,
    plan: Plan,
    *,
    measuring: Callable[[], AbstractContextManager[Any]] = nullcontext,
    say: Say = lambda _: None,
) -> Observation:
    """One replay of *scenario*, kept with the prediction made before.

    Raises
    ------
    ReplayError
        The replay could not be made; nothing is kept.
    """
    name, folder = scenario.name, plan.folder
    before = forecast.kept(name, folder, plan.timing) or forecast.kept(name, folder)
    replayed = replay(
        scenario, access, limits=plan.limits, client_image=plan.client_image, measuring=measuring, say=say
    )
    observation = observations.observe(
        scenario,
        replayed,
        run=observations.next_run(scenario.name, plan.folder),
        prediction=before.summary() if before else None,
    )
    observations.write(observation, plan.folder)
    observations.rebuild_table(plan.folder)
    return observation


def todo(scenarios: Iterable[Scenario], runs: int, folder: Path = FOLDER) -> list[Scenario]:
    """Scenarios in turn, each as often as it lacks of *runs* that count: a campaign that stopped goes on."""
    wanted = list(scenarios)
    have = {scenario.name: _n_counting(scenario, folder) for scenario in wanted}
    return [scenario for n in range(runs) for scenario in wanted if n >= have[scenario.name]]


def _n_counting(scenario: Scenario, folder: Path) -> int:
    """Kept runs of this very scenario that nothing spoiled."""
    kept = observations.read_runs(scenario.name, folder)
    return sum(run.scenario_hash == scenario_hash(scenario) and not run.spoiled for run in kept)


def said_in_short(observation: Observation) -> str:
    """One run in one line."""
    kinds = observation.seen or observation.report.get("reasons", {})
    seen = ", ".join(f"{name} {count}" for name, count in sorted(kinds.items()) if count)
    rollout = (
        f"rollout {observation.rollout_s:.2f} s" if observation.rollout_s is not None else "not complete"
    )
    spoiled = f"  SPOILED: {'; '.join(observation.spoiled)}" if observation.spoiled else ""
    return (
        f"{observation.scenario} run {observation.run}: {observation.counted} failed"
        f" of {observation.requests} ({seen or 'none'}), {rollout}{spoiled}"
    )


# ---------------------------------------------------------------- kept runs


def recorded_groups(
    chosen: Sequence[Scenario],
    *,
    folder: Path = FOLDER,
    predictions: int = 200,
    seed: int = 1,
    timing: str | None = None,
    say: Say = lambda _: None,
) -> Groups:
    """The kept runs of *chosen* (of all, if empty), by group: with measured latencies, then with those from sources.

    Measured on the machine of each run, unless a profile *timing* is named.

    `unseen`: scenarios whose prediction was kept before their first replay, with that prediction.
    `seen`: every scenario that is among our configs or *chosen*, with today's model's prediction.
    """
    names = {scenario.name for scenario in chosen}
    runs = [run for run in observations.read_all(folder) if not names or run.scenario in names]
    recorded = sorted({run.scenario for run in runs})
    known = {scenario.name: scenario for scenario in chosen} or our_scenarios()
    hashes = {(run.scenario, run.scenario_hash) for run in runs}
    current = [
        known[name] for name in recorded if name in known and (name, scenario_hash(known[name])) in hashes
    ]
    for name in set(recorded) - {scenario.name for scenario in current}:
        say(f"{name}: no scenario of that version among the configs; its runs are left out")
    groups: Groups = {name: [] for name in GROUPS}
    measured = machines.PROFILES if timing is None else (timing,)
    for suffix, timings in (("", measured), ("_sources", (forecast.SOURCES,))):
        before = [found for name in recorded if (found := forecast.kept_of(name, folder, timings))]
        groups[f"unseen{suffix}"] = match(before, runs)
        today = []
        for profile in timings:
            replayed = {run.scenario for run in machines.made_there(runs, profile)}
            for scenario in current:
                if scenario.name in replayed:
                    say(f"predicting {scenario.name} with {profile}")
                    today.append(forecast.predict(scenario, runs=predictions, seed=seed, timing=profile))
        groups[f"seen{suffix}"] = machines.match_there(today, runs)
    return groups


def our_scenarios() -> dict[str, Scenario]:
    """Every scenario in the project's configs that can be read, by name."""
    found: dict[str, Scenario] = {}
    for path in sorted(CONFIGS.glob("*/*.yaml")):
        try:
            found |= {scenario.name: scenario for scenario in load(path)}
        except InputError:
            continue  # a file of manifests, or of timing
    return found
