"""How near a scenario is to those whose real rollouts have been held against the model.

The distance counts differences of the settings that decide the answer (`sim.deciding`): each kind that is
another one, and each number that is more than a factor of 2 away (0 is only like 0), is one difference.

- near: none. Every kind is that of one validated scenario, every number within a factor of 2.
- far: one to three.
- no: more; or the nearest one's own real runs disagree with what is predicted for it, fewer than three of
  four inside the 95 % interval.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from sim.deciding import Deciding, deciding
from sim.scenario.model import Scenario

INDEX: Final = Path(__file__).with_name("validated.json")
"""Made from the kept runs by `python -m validation.index`; it is part of the package, the runs are not."""
FACTOR: Final = 2.0
FAR: Final = 3
AGREES: Final = 0.75
"""Share of the real runs inside the predicted 95 % interval from which prediction and runs agree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """One scenario with real runs."""

    name: str
    runs: int
    inside: float
    """Share of the runs inside the predicted 95 % interval, ties shared out."""
    settings: Deciding

    @property
    def agrees(self) -> bool:
        return self.inside >= AGREES


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearness:
    """What a user should know of how sure the model is of a scenario."""

    how: str
    """near, far or no."""
    nearest: Validated | None
    """None: nothing has been validated."""
    differences: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        found = self.nearest
        return {
            "how": self.how,
            "nearest": None if found is None else found.name,
            "runs": 0 if found is None else found.runs,
            "inside": None if found is None else found.inside,
            "differences": list(self.differences),
        }

    def __str__(self) -> str:
        if self.nearest is None:
            return self.how
        runs = f"{self.nearest.runs} real runs, {self.nearest.inside:.0%} inside the interval"
        told = [*self.differences[:FAR]]
        if len(self.differences) > FAR:
            told.append(f"and {len(self.differences) - FAR} more")
        what = f"; differs in {'; '.join(told)}" if told else ""
        return f"{self.how} (nearest {self.nearest.name}: {runs}{what})"


def nearness(scenario: Scenario) -> Nearness:
    """How near *scenario* is to the nearest validated one."""
    return nearest_of(deciding(scenario), index())


def nearest_of(settings: Deciding, validated: Iterable[Validated]) -> Nearness:
    """The same for settings: the fewest differences win, then the smallest ratios, then the name."""
    ranked = sorted(
        validated,
        key=lambda each: (
            len(differences(settings, each.settings)),
            _spread(settings, each.settings),
            each.name,
        ),
    )
    if not ranked:
        return Nearness(how="no", nearest=None)
    found = ranked[0]
    differing = differences(settings, found.settings)
    how = "near" if not differing else "far" if len(differing) <= FAR else "no"
    return Nearness(how=how if found.agrees else "no", nearest=found, differences=differing)


def differences(ours: Deciding, theirs: Deciding) -> tuple[str, ...]:
    """In words: each kind that is not the same, each number that is too far away.

    A number that only one of them has is a difference of kind, which is told there.
    """
    kinds = [
        f"{name}: {ours.kinds[name]}, there {theirs.kinds[name]}"
        for name in ours.kinds
        if name in theirs.kinds and ours.kinds[name] != theirs.kinds[name]
    ]
    numbers = [
        f"{name}: {ours.numbers[name]:g}, there {theirs.numbers[name]:g}"
        for name in ours.numbers
        if name in theirs.numbers and _ratio(ours.numbers[name], theirs.numbers[name]) > FACTOR
    ]
    return (*kinds, *numbers)


def _ratio(a: float, b: float) -> float:
    """At least 1; infinite where one of them is 0."""
    if a == b:
        return 1.0
    low, high = sorted((a, b))
    return high / low if low > 0 else math.inf


def _spread(ours: Deciding, theirs: Deciding) -> float:
    """Sum of the ratios' logarithms, of those that count as alike."""
    both = ours.numbers.keys() & theirs.numbers.keys()
    ratios = sorted(_ratio(ours.numbers[name], theirs.numbers[name]) for name in both)
    return sum(math.log(ratio) for ratio in ratios if ratio <= FACTOR)


@cache
def index() -> tuple[Validated, ...]:
    """The shipped table."""
    return tuple(from_json(each) for each in json.loads(INDEX.read_text(encoding="utf-8")))


def from_json(data: dict[str, Any]) -> Validated:
    settings = Deciding(kinds=data["kinds"], numbers=data["numbers"])
    return Validated(name=data["scenario"], runs=data["runs"], inside=data["inside"], settings=settings)


def to_json(each: Validated) -> dict[str, Any]:
    return {
        "scenario": each.name,
        "runs": each.runs,
        "inside": each.inside,
        "kinds": dict(each.settings.kinds),
        "numbers": dict(each.settings.numbers),
    }
