"""A sweep as data: its points, how often each is replicated, and the pieces that workers get."""

import hashlib
import json
import math
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sim.errors import InputError
from sim.sweep.files import ScenarioFiles, model_digest
from sim.sweep.parameters import Choice, Parameter
from sim.sweep.unit import Unit, Until, sets_json

RUNS_PER_UNIT: Final = 50
"""A second or so of work: a point of many replications is spread over workers, and little is lost on Ctrl-C."""
SAMPLES: Final = ("sobol", "random")
MAX_POINTS: Final = 10_000_000
_NAMES_FILES: Final = ("manifests", "update", "timing")


@dataclass(frozen=True, slots=True)
class Sample:
    """Points drawn from the parameters' ranges instead of every combination."""

    kind: str
    n: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is swept. The same plan gives the same rows, whoever works on it."""

    files: ScenarioFiles
    sets: Mapping[str, Any]
    """Overrides of every point."""
    parameters: tuple[Parameter, ...]
    sample: Sample | None = None
    runs: int = 100
    until: Until | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.parameters:
            raise InputError("nothing to vary: give at least one -p PATH=VALUES")
        names = [parameter.name for parameter in self.parameters]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise InputError(f"-p {twice}: stands twice")
        if self.sample is None and (open_ := next((p.name for p in self.parameters if not p.choices), None)):
            raise InputError(f"-p {open_}: expected values or LO..HI:N; LO..HI alone needs --sample")
        if self.n_points > MAX_POINTS:
            raise InputError(f"got {self.n_points:,} points, allowed are {MAX_POINTS:,}")

    @property
    def n_points(self) -> int:
        if self.sample is not None:
            return self.sample.n
        return math.prod(len(parameter.choices) for parameter in self.parameters)

    def point(self, index: int) -> tuple[Choice, ...]:
        """The parameters' choices at that point; of a grid the last parameter varies fastest."""
        if self.sample is not None:
            shares = self._shares[index]
            return tuple(p.at(float(share)) for p, share in zip(self.parameters, shares, strict=True))
        chosen: list[Choice] = []
        for parameter in reversed(self.parameters):
            index, at = divmod(index, len(parameter.choices))
            chosen.append(parameter.choices[at])
        return tuple(reversed(chosen))

    @cached_property
    def _shares(self) -> NDArray[np.float64]:
        """shape (n_points, n_parameters), each in [0, 1); a longer sample begins with the shorter one."""
        assert self.sample is not None
        n, d = self.sample.n, len(self.parameters)
        if self.sample.kind == "random":
            return np.random.default_rng(self.seed).random((n, d))
        from scipy.stats import qmc  # noqa: PLC0415 - heavy

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # n need not be a power of two
            return np.asarray(qmc.Sobol(d, scramble=True, rng=self.seed).random(n))

    def sets_at(self, index: int) -> dict[str, Any]:
        """All overrides of that point."""
        sets = dict(self.sets)
        for choice in self.point(index):
            sets |= dict(choice.sets)
        return sets

    # ------------------------------------------------------------ units of work

    @property
    def units_per_point(self) -> int:
        return 1 if self.until is not None else math.ceil(self.runs / RUNS_PER_UNIT)

    @property
    def n_units(self) -> int:
        return self.n_points * self.units_per_point

    def point_of(self, unit: int) -> int:
        return unit // self.units_per_point

    def unit(self, index: int) -> Unit:
        point, part = divmod(index, self.units_per_point)
        first = part * RUNS_PER_UNIT
        return Unit(
            index=index,
            files=self.files,
            sets=sets_json(self.sets_at(point)),
            seed=self.seed,
            first=first,
            n=0 if self.until else min(RUNS_PER_UNIT, self.runs - first),
            until=self.until,
        )

    # ------------------------------------------------------------ identity

    @cached_property
    def description(self) -> dict[str, Any]:
        """What is kept with the results."""
        return {
            "scenario": self.files.given,
            "set": dict(self.sets),
            "parameters": [
                {
                    "name": p.name,
                    "values": [[c.value, c.sets] for c in p.choices],
                    "span": None
                    if p.span is None
                    else [p.span.low, p.span.high, p.span.unit, p.span.integer],
                }
                for p in self.parameters
            ],
            "sample": None if self.sample is None else [self.sample.kind, self.sample.n],
            "runs": None if self.until else self.runs,
            "until": None if self.until is None else [self.until.what, self.until.width, self.until.max_runs],
            "seed": self.seed,
        }

    @cached_property
    def key(self) -> str:
        """Changes with whatever changes a row: files, overrides, points, replications, seed and the model."""
        text = json.dumps(
            [{**self.description, "scenario": self.files.digest}, model_digest()], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:20]


def variants(sets: Mapping[str, Any], parameters: tuple[Parameter, ...]) -> Iterator[dict[str, Any]]:
    """The overrides that decide which files are read: the fixed ones, and each choice that names files."""
    yield dict(sets)
    for parameter in parameters:
        for choice in parameter.choices:
            if any(path.split(".")[0].split("[")[0] in _NAMES_FILES for path, _ in choice.sets):
                yield {**sets, **dict(choice.sets)}
