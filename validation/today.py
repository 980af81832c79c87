"""Today's model's predictions for the recorded scenarios, kept beside the runs: made once, read many times.

They are stale where the scenario or the model's code or profile has changed since; `refresh` makes those anew.
"""

import ast
import gzip
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import sim
from sim.scenario import load
from sim.scenario.model import Scenario
from sim.scenario.timing import profile_path
from validation import forecast, machines
from validation.forecast import Forecast
from validation.observations import FOLDER, read_runs, scenario_hash, write_aside

FILE: Final = "today.json.gz"
RUNS: Final = 200
SEED: Final = 1
MODEL: Final = ("scenario", "cluster", "traffic", "world.py", "servers.py", "proxies.py", "delays.py", "streams.py",
                "simulate.py", "node_load.py", "outcomes.py", "waiting.py")  # fmt: skip
"""What of the package decides a count."""

Key = tuple[str, str]
"""Scenario and timing profile."""


@dataclass(frozen=True, slots=True)
class Made:
    """A prediction, and the model that made it."""

    forecast: Forecast
    model: str


def model_hash(timing: str) -> str:
    """The model's code without comments and docstrings, and the profile, as twelve hex digits."""
    digest = hashlib.sha256()
    package = Path(sim.__file__).parent
    for name in MODEL:
        place = package / name
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(ast.dump(_bare(ast.parse(file.read_text(encoding="utf-8")))).encode())
    for profile in dict.fromkeys((timing, forecast.SOURCES)):  # a measured one is based on the sources'
        digest.update(profile_path(profile, beside=package).read_bytes())
    return digest.hexdigest()[:12]


def _models() -> dict[str, str]:
    """By profile."""
    return {timing: model_hash(timing) for timing in (*machines.PROFILES, forecast.SOURCES)}


def _bare(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            strings = (isinstance(each, ast.Expr) and isinstance(each.value, ast.Constant) for each in body)
            node.body = [each for each, is_string in zip(body, strings, strict=True) if not is_string]  # type: ignore[attr-defined]
    return tree


def kept(folder: Path = FOLDER) -> dict[Key, Made]:
    """What was made last, by scenario and profile."""
    path = folder / FILE
    if not path.exists():
        return {}
    found = [
        Made(forecast.from_data(each["forecast"]), each["model"])
        for each in json.loads(gzip.decompress(path.read_bytes()))
    ]
    return {(made.forecast.scenario, made.forecast.timing): made for made in found}


def keep(made: Mapping[Key, Made], folder: Path = FOLDER) -> None:
    """Write all of *made*, in order of their keys: the same predictions give the same bytes."""
    data = [{"model": made[key].model, "forecast": asdict(made[key].forecast)} for key in sorted(made)]
    write_aside(folder / FILE, gzip.compress(json.dumps(data, separators=(",", ":")).encode(), mtime=0))


def timings_of(scenario: Scenario, folder: Path = FOLDER) -> list[str]:
    """The profiles of the machines that *scenario* was replayed on, and the sources'."""
    replayed_on = {machines.profile_of(run) for run in read_runs(scenario.name, folder)}
    return [*(name for name in machines.PROFILES if name in replayed_on), forecast.SOURCES]


def stale(scenarios: Iterable[Scenario], folder: Path = FOLDER) -> list[Key]:
    """Which predictions *scenarios* lack, or have of another version of the scenario or the model."""
    have = kept(folder)
    models = _models()
    missing = []
    for scenario in scenarios:
        for timing in timings_of(scenario, folder):
            made = have.get((scenario.name, timing))
            current = made is not None and made.model == models[timing]
            if not current or made is None or made.forecast.scenario_hash != scenario_hash(scenario):
                missing.append((scenario.name, timing))
    return missing


def refresh(
    scenarios: Sequence[Scenario],
    *,
    folder: Path = FOLDER,
    runs: int = RUNS,
    processes: int = 2,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Make what is stale anew, each kept as it ends; what belongs to no scenario or machine any more is left out."""
    names = {scenario.name: scenario for scenario in scenarios}
    wanted = {(scenario.name, timing) for scenario in scenarios for timing in timings_of(scenario, folder)}
    have = {key: made for key, made in kept(folder).items() if key in wanted}
    todo = stale(scenarios, folder)
    models = _models()
    with ProcessPoolExecutor(processes) as pool:
        jobs = [(str(names[name].source), name, timing, runs) for name, timing in todo]
        for (name, timing), made in zip(todo, pool.map(_make, jobs), strict=True):
            have[name, timing] = Made(made, models[timing])
            keep(have, folder)
            say(f"predicted {name} with {timing}")
    keep(have, folder)


def _make(job: tuple[str, str, str, int]) -> Forecast:
    source, name, timing, runs = job
    scenario = next(each for each in load(source) if each.name == name)
    return forecast.predict(scenario, runs=runs, seed=SEED, timing=timing)
