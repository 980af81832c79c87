"""Replays of scenarios one after another: predict before, replay, keep each run as it ends."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from sim.scenario.model import Scenario
from validation import forecast, observations
from validation.access import Access
from validation.observations import FOLDER, Observation
from validation.replay import DEFAULT_LIMITS, Limits, Say, replay


def run_scenario(
    scenario: Scenario,
    access: Access,
    *,
    folder: Path = FOLDER,
    prediction: forecast.Forecast | None = None,
    limits: Limits = DEFAULT_LIMITS,
    client_image: str | None = None,
    measuring: Callable[[], AbstractContextManager[Any]] = nullcontext,
    say: Say = lambda _: None,
) -> Observation:
    """One replay of *scenario*, kept in *folder* with the prediction made before.

    Raises
    ------
    ReplayError
        The replay could not be made; nothing is kept.
    """
    if prediction and observations.next_run(scenario.name, folder) == 1:
        forecast.keep(prediction, folder)
    replayed = replay(
        scenario, access, limits=limits, client_image=client_image, measuring=measuring, say=say
    )
    observation = observations.observe(
        scenario,
        replayed,
        run=observations.next_run(scenario.name, folder),
        prediction=prediction.summary() if prediction else None,
    )
    observations.write(observation, folder)
    observations.rebuild_table(folder)
    return observation


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


def todo(scenarios: Iterable[Scenario], runs: int, folder: Path = FOLDER) -> list[Scenario]:
    """Scenarios in turn, each as often as it lacks of *runs*: one that stopped goes on."""
    wanted = list(scenarios)
    have = {scenario.name: observations.next_run(scenario.name, folder) - 1 for scenario in wanted}
    return [scenario for n in range(runs) for scenario in wanted if n >= have[scenario.name]]
