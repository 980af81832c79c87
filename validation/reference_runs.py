"""Seven cases that a real cluster answered before this model was written, held against today's model.

`python -m validation.reference_runs [--timing NAME] [--runs N]` prints the table. The counts are data of
`reference/observed.csv`; nothing of it is read by the model.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from sim import load, predict
from sim.prediction import prediction_interval
from sim.scenario.model import Scenario

_HERE: Final = Path(__file__).parent
TABLE: Final = _HERE / "reference" / "observed.csv"
SCENARIOS: Final = _HERE.parent / "configs" / "observed"


@dataclass(frozen=True, slots=True)
class Case:
    """One scenario with the figure that was counted on the real cluster."""

    scenario: Scenario
    figure: str
    """failed: lost requests; tool_failed: as the client's own report prints it."""
    observed: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    case: Case
    median: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        """Every real count lies inside the predicted 95 % interval."""
        return all(self.low <= count <= self.high for count in self.case.observed)

    @property
    def allowed_width(self) -> float:
        """Three times the range of the real counts, or ± 40 % of the median, or 5 requests: the largest."""
        spread = max(self.case.observed) - min(self.case.observed)
        return max(3.0 * spread, 0.8 * self.median, 5.0)

    @property
    def narrow(self) -> bool:
        return self.high - self.low <= self.allowed_width


def cases() -> list[Case]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return [
        Case(
            scenario,
            next(row["figure"] for row in rows if row["scenario"] == scenario.name),
            tuple(int(row["value"]) for row in rows if row["scenario"] == scenario.name),
        )
        for scenario in load(SCENARIOS)
    ]


def compare(case: Case, *, runs: int, timing: str, seed: int = 1) -> Comparison:
    prediction = predict(replace(case.scenario, timing=timing), runs=runs, seed=seed)
    values = prediction.failed if case.figure == "failed" else prediction.tool_failed
    assert values is not None
    low, high = prediction_interval(values)
    return Comparison(case, float(np.median(values)), low, high)


def _rows(comparisons: Sequence[Comparison]) -> Iterator[str]:
    yield f"{'scenario':32} {'observed':18} {'median':>6} {'95 %':>11} {'width':>6} {'allowed':>7}"
    for c in comparisons:
        observed = " ".join(map(str, c.case.observed))
        verdict = "" if c.holds and c.narrow else "  MISSED" if not c.holds else "  TOO WIDE"
        interval = f"{c.low:.0f} to {c.high:.0f}"
        yield (
            f"{c.case.scenario.name:32} {observed:18} {c.median:6.0f} {interval:>11} {c.high - c.low:6.0f} "
            f"{c.allowed_width:7.0f}{verdict}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--timing", default="defaults", help="timing profile (default: %(default)s)")
    parser.add_argument(
        "--runs", type=int, default=400, help="simulated rollouts a case (default: %(default)s)"
    )
    options = parser.parse_args()
    for row in _rows([compare(case, runs=options.runs, timing=options.timing) for case in cases()]):
        print(row)


if __name__ == "__main__":
    main()
