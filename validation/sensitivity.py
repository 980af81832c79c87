"""Which timing parameters decide the answer: Morris' elementary effects, through SALib.

    python -m validation.sensitivity configs/tutorial --write
    python -m validation.sensitivity configs/tutorial/2-keepalive.yaml --json

Every latency is scaled by a factor from 1/2 to 2 (even in its logarithm), a share is moved over its range. All
points meet the same random numbers, so what differs is the parameter's doing; one that is not used has an effect
of exactly 0. A further parameter changes nothing but the random numbers: what does not exceed its effect cannot
be told from chance.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.scenario import load
from sim.scenario.distributions import Distribution
from sim.scenario.model import Scenario
from sim.scenario.timing import Timing, load_timing
from sim.simulate import simulate
from validation.machines import PROFILES
from validation.observations import write_aside

TABLE: Final = Path(__file__).with_name("SENSITIVITY.md")
FACTOR: Final = 2.0
SHARES: Final[Mapping[str, tuple[float, float]]] = {
    "p_first_kick": (0.0, 1.0),
    "p_second_kick": (0.0, 1.0),
    "p_word_wakes": (0.0, 1.0),
    "p_time_wait_refuses": (0.0, 0.5),
    "node_utilisation": (0.0, 0.9),
}
"""Fields that are no durations, with the range that another cluster may have."""
LEVELS: Final = 4
TRAJECTORIES: Final = 6
RUNS: Final = 8
SEED: Final = 1
CHANCE: Final = "other random numbers"

Numbers = NDArray[np.float64]


# ---------------------------------------------------------------- one point


def parameters(timing: Timing) -> list[str]:
    """Every field of the profile that is a number or holds durations."""
    return [
        entry.name for entry in fields(timing) if not isinstance(getattr(timing, entry.name), str) and
        _is_scalable(getattr(timing, entry.name))
    ]  # fmt: skip


def _is_scalable(value: object) -> bool:
    return isinstance(value, float | Mapping | Distribution)


def moved(timing: Timing, place: Mapping[str, float]) -> Timing:
    """*timing* with each named parameter at its *place* in 0…1; 0.5 is a factor of 1."""
    names = [name for name in place if name != CHANCE]
    return replace(timing, **{name: _moved(name, getattr(timing, name), place[name]) for name in names})


def _moved(name: str, value: Any, u: float) -> Any:
    if name in SHARES:
        low, high = SHARES[name]
        return low + (high - low) * u
    return _scaled(value, FACTOR ** (2 * u - 1))


def _scaled(value: Any, factor: float) -> Any:
    """A number, a distribution (all of whose numbers are seconds), or several of them by name."""
    match value:
        case float():
            return value * factor
        case tuple():
            return tuple(each * factor for each in value)
        case Mapping():
            return {name: _scaled(each, factor) for name, each in value.items()}
    return replace(
        value, **{entry.name: _scaled(getattr(value, entry.name), factor) for entry in fields(value)}
    )


def outcome(scenario: Scenario, timing: Timing, runs: int, seed: int = SEED) -> tuple[float, float]:
    """Mean failed requests, and the share of rollouts without one."""
    failed = [simulate(scenario, seed=seed, replication=i, timing=timing).n_failed for i in range(runs)]
    return float(np.mean(failed)), float(np.mean([count == 0 for count in failed]))


# ---------------------------------------------------------------- one scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one parameter does to one scenario over its whole range."""

    parameter: str
    failed: float
    """Mean size of the change of the mean of failed requests (Morris' μ*)."""
    failed_uncertain: float
    """Half width of its 95 % bootstrap interval."""
    failed_signed: float
    """Mean change with its sign (μ): near 0 where it goes either way."""
    p_zero: float
    """μ* of the probability of no failure."""
    counts: bool = True
    """It exceeds chance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """All parameters of one scenario, the strongest first."""

    scenario: str
    timing: str
    failed: float
    """Mean over all points."""
    p_zero: float
    chance: float
    """μ* on failed requests of nothing but other random numbers."""
    effects: tuple[Effect, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "timing": self.timing,
            "failed": round(self.failed, 3),
            "p_zero": round(self.p_zero, 3),
            "chance": round(self.chance, 3),
            "effects": [
                {
                    "parameter": effect.parameter,
                    "failed": round(effect.failed, 3),
                    "failed_uncertain": round(effect.failed_uncertain, 3),
                    "failed_signed": round(effect.failed_signed, 3),
                    "p_zero": round(effect.p_zero, 3),
                    "counts": effect.counts,
                }
                for effect in self.effects
            ],
        }


Evaluate = Callable[[Iterable[dict[str, float]]], Iterable[tuple[float, float]]]


def sensitivity(
    scenario: Scenario, timing: str, *, trajectories: int = TRAJECTORIES, runs: int = RUNS, processes: int = 1
) -> Sensitivity:
    """Morris' screening of *scenario*: trajectories x (parameters + 1) points of *runs* rollouts each.

    Raises
    ------
    InputError
        The profile cannot be read.
    """
    profile = load_timing(timing, beside=scenario.source.parent)
    names = [*parameters(profile), CHANCE]
    with ProcessPoolExecutor(processes, initializer=_begin, initargs=(scenario, profile, runs)) as pool:
        return screen(
            names, lambda places: pool.map(_at, places, chunksize=4), scenario.name, timing, trajectories
        )


_work: tuple[Scenario, Timing, int]


def _begin(scenario: Scenario, timing: Timing, runs: int) -> None:
    global _work  # noqa: PLW0603 - what each process of the pool is given once
    _work = scenario, timing, runs


def _at(place: dict[str, float]) -> tuple[float, float]:
    scenario, timing, runs = _work
    seed = SEED + round(1000 * place[CHANCE])
    return outcome(scenario, moved(timing, place), runs, seed)


def screen(
    names: Sequence[str], evaluate: Evaluate, scenario: str, timing: str, trajectories: int
) -> Sensitivity:
    """The effects of the parameters *names* on whatever *evaluate* says of their places in 0…1.

    Notes
    -----
    Morris (1991), Technometrics 33, 161-174; μ* after Campolongo, Cariboni and Saltelli (2007), Environmental
    Modelling & Software 22, 1509-1518.
    """
    from SALib.analyze import morris as analyze  # noqa: PLC0415 - an extra, slow to import
    from SALib.sample import morris as sample  # noqa: PLC0415

    problem = {"num_vars": len(names), "names": list(names), "bounds": [[0.0, 1.0]] * len(names)}
    places = sample.sample(problem, trajectories, num_levels=LEVELS, seed=SEED)
    said = list(evaluate(dict(zip(names, map(float, row), strict=True)) for row in places))
    failed, p_zero = (np.array(column, dtype=float) for column in zip(*said, strict=True))

    def effects_on(values: Numbers) -> dict[str, Any]:
        found: dict[str, Any] = analyze.analyze(problem, places, values, num_levels=LEVELS, seed=SEED)
        return found

    on_failed, on_p_zero = effects_on(failed), effects_on(p_zero)
    by_chance = dict(zip(names, map(float, on_failed["mu_star"]), strict=True)).get(CHANCE, 0.0)
    effects = [
        Effect(
            parameter=name,
            failed=float(on_failed["mu_star"][i]),
            failed_uncertain=float(on_failed["mu_star_conf"][i]),
            failed_signed=float(on_failed["mu"][i]),
            p_zero=float(on_p_zero["mu_star"][i]),
            counts=float(on_failed["mu_star"][i]) > by_chance,
        )
        for i, name in enumerate(names)
        if name != CHANCE
    ]
    return Sensitivity(
        scenario=scenario,
        timing=timing,
        failed=float(failed.mean()),
        p_zero=float(p_zero.mean()),
        chance=by_chance,
        effects=tuple(sorted(effects, key=lambda effect: (-effect.failed, effect.parameter))),
    )


# ---------------------------------------------------------------- as a table


def ranking(found: Sequence[Sensitivity]) -> dict[str, float]:
    """Parameter → its mean share of all effects on failed requests, the strongest first.

    Scenarios without an effect say nothing. Effects that do not exceed chance count for none.
    """
    shares: dict[str, float] = {}
    speaking = [each for each in found if any(effect.counts for effect in each.effects)]
    for each in speaking:
        total = sum(effect.failed for effect in each.effects if effect.counts)
        for effect in each.effects:
            share = effect.failed / total if effect.counts else 0.0
            shares[effect.parameter] = shares.get(effect.parameter, 0.0) + share / len(speaking)
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def text(found: Sequence[Sensitivity], command: str) -> str:
    """The table as Markdown: a row a parameter, a column a scenario."""
    return "\n".join([*_explained(command), *_rows(found), *_idle(found), ""])


def _explained(command: str) -> Iterator[str]:
    yield "# Which latencies decide the answer"
    yield f"\nMade by `{command}`; nothing in it is written by hand."
    yield (
        "\nEach latency was scaled by a factor from 1/2 to 2, each share moved over its range, around the measured "
        "profile (Morris' elementary effects, common random numbers). A cell is by how much the mean of failed "
        "requests changes over that range, + where more of it loses more, - where less, ± where it goes either way; in "
        "brackets the change of P(no failure) where it has one. Empty: no more than other random numbers change. "
        "*Share*: its part of all changes, mean over the scenarios: what to measure first on another cluster."
    )


def _rows(found: Sequence[Sensitivity]) -> Iterator[str]:
    head = ["parameter", "share", *(each.scenario for each in found)]
    yield ""
    yield f"| {' | '.join(head)} |"
    yield "|" + " --- |" * len(head)
    losses = (f"**{each.failed:.1f}** (P {each.p_zero:.2f})" for each in found)
    yield f"| *mean failed requests* |  | {' | '.join(losses)} |"
    yield f"| *other random numbers* |  | {' | '.join(f'{each.chance:.1f}' for each in found)} |"
    by_name = [{effect.parameter: effect for effect in each.effects} for each in found]
    for name, share in ranking(found).items():
        cells = [_cell(effects.get(name)) for effects in by_name]
        if any(cells):
            yield f"| `{name}` | {share:.0%} | {' | '.join(cells)} |"


def _cell(effect: Effect | None) -> str:
    if effect is None or not effect.counts:
        return ""
    one_way = abs(effect.failed_signed) > effect.failed / 2
    sign = ("+" if effect.failed_signed > 0 else "-") if one_way else "±"
    return f"{sign}{effect.failed:.1f}" + (f" ({effect.p_zero:.2f})" if effect.p_zero >= 0.01 else "")


def _idle(found: Sequence[Sensitivity]) -> Iterator[str]:
    names = sorted({effect.parameter for each in found for effect in each.effects})
    strong = {effect.parameter for each in found for effect in each.effects if effect.counts}
    if idle := [f"`{name}`" for name in names if name not in strong]:
        yield f"\nNo more than chance in any of these scenarios: {', '.join(idle)}."


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("scenarios", nargs="+", help="files or folders of scenarios")
    parser.add_argument(
        "--timing", default=PROFILES[0], help="profile around which is moved (default: %(default)s)"
    )
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES, help="(default: %(default)s)")
    parser.add_argument(
        "--runs", type=int, default=RUNS, help="rollouts of each point (default: %(default)s)"
    )
    parser.add_argument("--json", action="store_true", help="print the effects as data")
    parser.add_argument("--write", action="store_true", help=f"write the table to {TABLE.name}")
    options = parser.parse_args()
    found = [
        sensitivity(
            scenario,
            options.timing,
            trajectories=options.trajectories,
            runs=options.runs,
            processes=os.cpu_count() or 1,
        )
        for path in options.scenarios
        for scenario in load(path)
    ]
    command = f"python -m validation.sensitivity {' '.join(sys.argv[1:])}"
    if options.write:
        write_aside(TABLE, text(found, command).encode())
    if options.json:
        print(json.dumps([each.to_json() for each in found], indent=2))
    elif not options.write:
        print(text(found, command))


if __name__ == "__main__":
    main()
