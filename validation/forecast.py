"""A prediction as data to be held against real runs: its samples, kept before the first replay."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from sim.scenario.model import Scenario
from validation.load import TOOLS
from validation.observations import FOLDER, PREDICTION, scenario_hash, write_aside

LOW, HIGH = 0.025, 0.975
SOURCES: Final = "defaults"
"""The timing profile of who has no cluster: every latency from its source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Predicted counts of one scenario, one for each simulated rollout, sorted."""

    scenario: str
    scenario_hash: str
    date: str
    runs: int
    seed: int
    failed: tuple[int, ...]
    tool_failed: tuple[int, ...] | None
    rollout_s: tuple[float, ...]
    causes: Mapping[str, float] = field(default_factory=dict)
    timing: str = SOURCES

    @property
    def counted(self) -> tuple[int, ...]:
        """Samples of the count that real runs give: the tool's own where it prints one."""
        return self.failed if self.tool_failed is None else self.tool_failed

    @property
    def interval95(self) -> tuple[int, int]:
        """Bounds that hold 95 % of the simulated rollouts, both included."""
        low, high = np.quantile(self.counted, [LOW, HIGH], method="inverted_cdf")
        return int(low), int(high)

    @property
    def p_zero(self) -> float:
        """Share of simulated rollouts without a failure."""
        return sum(count == 0 for count in self.counted) / len(self.counted)

    def summary(self) -> dict[str, Any]:
        """What each run's file says of the prediction made before it."""
        return {
            "date": self.date,
            "runs": self.runs,
            "seed": self.seed,
            "timing": self.timing,
            "median": float(np.median(self.counted)),
            "interval95": list(self.interval95),
            "p_zero": self.p_zero,
            "rollout_s_median": float(np.median(self.rollout_s)) if self.rollout_s else None,
            "quantiles": [
                int(q) for q in np.quantile(self.counted, np.linspace(0, 1, 21), method="inverted_cdf")
            ],
        }


def predict(scenario: Scenario, *, runs: int, seed: int, timing: str) -> Forecast:
    """Today's model's prediction for *scenario* with the profile *timing*."""
    import sim  # noqa: PLC0415 - reading kept runs needs no model

    scenario = replace(scenario, timing=timing)
    prediction = sim.predict(scenario, runs=runs, seed=seed)
    tool = prediction.tool_failed if scenario.load.client in TOOLS else None
    if tool is not None and not prediction.tool_aborted.all():
        tool = tool[
            ~prediction.tool_aborted
        ]  # a tool that gives up prints no figure: those runs are not compared
    return Forecast(
        scenario=scenario.name,
        scenario_hash=scenario_hash(scenario),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        runs=runs,
        seed=seed,
        failed=tuple(sorted(int(count) for count in prediction.failed)),
        tool_failed=None
        if tool is None
        else tuple(sorted(int(count) for count in tool if np.isfinite(count))),
        rollout_s=tuple(sorted(round(float(s), 3) for s in prediction.rollout_s if np.isfinite(s))),
        causes={str(getattr(k, "value", k)): round(float(v), 3) for k, v in prediction.causes.items()},
        timing=timing,
    )


def path_of(scenario: str, folder: Path = FOLDER, timing: str = SOURCES) -> Path:
    """Where the prediction made with *timing* before the first replay is kept."""
    name = PREDICTION if timing == SOURCES else f"{Path(PREDICTION).stem}-{Path(timing).name}.json"
    return folder / scenario / name


def keep(forecast: Forecast, folder: Path = FOLDER) -> None:
    """Write *forecast* down, unless one is there already: the first one counts."""
    path = path_of(forecast.scenario, folder, forecast.timing)
    if not path.exists():
        write_aside(path, (json.dumps(asdict(forecast)) + "\n").encode())


def kept(scenario: str, folder: Path = FOLDER, timing: str = SOURCES) -> Forecast | None:
    """The prediction made with *timing* before the first replay, if there is one."""
    path = path_of(scenario, folder, timing)
    if not path.exists():
        return None
    return from_data(json.loads(path.read_text(encoding="utf-8")))


def kept_of(scenario: str, folder: Path, timings: Iterable[str]) -> Forecast | None:
    """The first that was kept before the first replay, of *timings* in turn."""
    found = (kept(scenario, folder, timing) for timing in timings)
    return next((each for each in found if each is not None), None)


def from_data(data: dict[str, Any]) -> Forecast:
    """A forecast as `asdict` gave it and JSON brought it back."""
    for name in ("failed", "tool_failed", "rollout_s"):
        data[name] = None if data[name] is None else tuple(data[name])
    return Forecast(**data)
