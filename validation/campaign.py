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
from validation import forecast, observations
from validation.access import Access, alone_on, find_access
from validation.compare import Compared, match
from validation.lab.cluster import Lab
from validation.observations import FOLDER, Observation, scenario_hash
from validation.replay import DEFAULT_LIMITS, Limits, Say, remove_leftovers, replay

CONFIGS: Final = Path(__file__).parent.parent / "configs"
GROUPS: Final = {
    "unseen": "Predicted before the first replay",
    "seen": "Today's model against every kept run",
}
Groups = dict[str, list[Compared]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a campaign does."""

    runs: int = 8
    predictions: int = 200
    seed: int = 1
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
    """Replay until each scenario has its runs; each run is kept before it is yielded.

    Raises
    ------
    ReplayError, LabError
        A run could not be made; those before it are kept, and nothing of it stays on the cluster.
    """
    with alone_on(access):
        try:
            for scenario in todo(scenarios, plan.runs, plan.folder):
                say(f"{scenario.name}: run {observations.next_run(scenario.name, plan.folder)}")
                prepare(scenario, access, plan, say)
                yield run_scenario(scenario, access, plan, measuring=measuring, say=say)
        finally:
            remove_leftovers(access)


def prepare(scenario: Scenario, access: Access, plan: Plan, say: Say = lambda _: None) -> None:
    """Predict, if nobody has before the first replay, and give the lab the scenario's images."""
    first = observations.next_run(scenario.name, plan.folder) == 1
    if first and forecast.kept(scenario.name, plan.folder) is None:
        say(f"predicting {scenario.name} before its first replay")
        forecast.keep(forecast.predict(scenario, runs=plan.predictions, seed=plan.seed), plan.folder)
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
    before = forecast.kept(scenario.name, plan.folder)
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
    """Scenarios in turn, each as often as it lacks of *runs*: a campaign that stopped goes on."""
    wanted = list(scenarios)
    have = {scenario.name: observations.next_run(scenario.name, folder) - 1 for scenario in wanted}
    return [scenario for n in range(runs) for scenario in wanted if n >= have[scenario.name]]


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
    say: Say = lambda _: None,
) -> Groups:
    """The kept runs of *chosen* (of all, if empty), by group.

    `unseen`: scenarios whose prediction was kept before their first replay, with that prediction.
    `seen`: every scenario that is among our configs or *chosen*, with today's model's prediction.
    """
    names = {scenario.name for scenario in chosen}
    runs = [run for run in observations.read_all(folder) if not names or run.scenario in names]
    recorded = sorted({run.scenario for run in runs})
    before = [found for name in recorded if (found := forecast.kept(name, folder))]
    known = {scenario.name: scenario for scenario in chosen} or our_scenarios()
    today = []
    for name in recorded:
        if name in known and any(
            r.scenario_hash == scenario_hash(known[name]) for r in runs if r.scenario == name
        ):
            say(f"predicting {name}")
            today.append(forecast.predict(known[name], runs=predictions, seed=seed))
        else:
            say(f"{name}: no scenario of that version among the configs; its runs are left out")
    return {"unseen": match(before, runs), "seen": match(today, runs)}


def our_scenarios() -> dict[str, Scenario]:
    """Every scenario in the project's configs that can be read, by name."""
    found: dict[str, Scenario] = {}
    for path in sorted(CONFIGS.glob("*/*.yaml")):
        try:
            found |= {scenario.name: scenario for scenario in load(path)}
        except InputError:
            continue  # a file of manifests, or of timing
    return found
