"""Holds predictions against kept runs: which belong together, a table, a plot, and the scores as data."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from validation.forecast import Forecast
from validation.observations import Observation
from validation.scores import Case, Estimate, Scores, score

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One scenario: a prediction and the real runs that it speaks of."""

    forecast: Forecast
    runs: tuple[Observation, ...]
    left_out: int = 0
    """Spoiled runs, runs whose tool gave up, and runs of another version of the scenario."""

    @property
    def case(self) -> Case:
        """The same as numbers."""
        return Case(
            name=self.forecast.scenario,
            predicted=np.array(self.forecast.counted, dtype=float),
            observed=np.array([run.counted for run in self.runs], dtype=float),
        )


def match(forecasts: Iterable[Forecast], observations: Iterable[Observation]) -> list[Compared]:
    """Each forecast with the kept runs of the very same scenario that nothing spoiled."""
    by_name: dict[str, list[Observation]] = {}
    for observation in observations:
        by_name.setdefault(observation.scenario, []).append(observation)
    compared = []
    for forecast in forecasts:
        all_runs = by_name.get(forecast.scenario, [])
        runs = [run for run in all_runs if _comparable(run, forecast)]
        if runs:
            compared.append(Compared(forecast=forecast, runs=tuple(runs), left_out=len(all_runs) - len(runs)))
    return compared


def _comparable(run: Observation, forecast: Forecast) -> bool:
    """A tool that gave up says no figure; a spoiled run and another version of the scenario say nothing."""
    return run.scenario_hash == forecast.scenario_hash and not run.spoiled and not run.aborted


def scores_of(compared: Sequence[Compared]) -> Scores:
    """The scores of a group."""
    return score([each.case for each in compared])


# ---------------------------------------------------------------- as data


def group_data(compared: Sequence[Compared]) -> dict[str, Any]:
    """Scores and scenarios of a group, as `--json` prints them. Shares, not percent."""
    scores = scores_of(compared)
    data: dict[str, Any] = {"scenarios": scores.scenarios, "runs": scores.runs}
    for name in ("coverage", "verdict", "skill", "brier", "coverage_all_zero"):
        estimate: Estimate = getattr(scores, name)
        data[name] = _rounded(estimate.value)
        data[f"{name}_interval"] = [_rounded(x) for x in estimate.interval] if estimate.interval else None
    data["false_safe"] = scores.false_safe
    data["mean_width"] = _rounded(scores.mean_width)
    data["agreed"] = [
        {"scenario": name, "value": value, "probability": _rounded(p)} for name, value, p in scores.agreed
    ]
    data["by_scenario"] = [_scenario_data(each) for each in compared]
    return data


def _scenario_data(each: Compared) -> dict[str, Any]:
    low, high = each.forecast.interval95
    return {
        "scenario": each.forecast.scenario,
        "predicted": {
            "median": float(np.median(each.forecast.counted)),
            "interval95": [low, high],
            "p_zero": _rounded(each.forecast.p_zero),
            "rollout_s": _rounded(_median(each.forecast.rollout_s)),
            "causes": dict(each.forecast.causes),
        },
        "observed": {
            "failed": [run.counted for run in each.runs],
            "rollout_s": [run.rollout_s for run in each.runs],
            "causes": mean_causes(each.runs),
            "counted_by": each.runs[0].counted_by,
        },
        "left_out": each.left_out,
    }


def mean_causes(runs: Sequence[Observation]) -> dict[str, float]:
    """Mean failed requests by cause; empty where only the tool's own figures are known."""
    names = sorted({name for run in runs for name in run.causes})
    return {name: round(sum(run.causes.get(name, 0) for run in runs) / len(runs), 2) for name in names}


def _median(values: Sequence[float]) -> float | None:
    return float(np.median(values)) if values else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


# ---------------------------------------------------------------- for a person


def table_of(compared: Sequence[Compared], title: str) -> Table:
    """One line a scenario: predicted interval, real counts, how many lie inside."""
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    table.add_column("scenario", no_wrap=True)
    for name in ("P(zero)", "median", "95 %", "runs", "inside", "rollout, s", "seen, s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("failed requests of each real run")
    for each in compared:
        low, high = each.forecast.interval95
        counts = [run.counted for run in each.runs]
        rollouts = [run.rollout_s for run in each.runs if run.rollout_s is not None]
        table.add_row(
            each.forecast.scenario,
            f"{each.forecast.p_zero:.2f}",
            f"{np.median(each.forecast.counted):g}",
            f"{low}–{high}",
            str(len(counts)),
            str(sum(low <= count <= high for count in counts)),
            f"{_median(each.forecast.rollout_s) or float('nan'):.1f}",
            f"{_median(rollouts) or float('nan'):.1f}",
            " ".join(map(str, counts)) + (f"  ({each.left_out} left out)" if each.left_out else ""),
        )
    return table


def scores_text(scores: Scores) -> list[str]:
    """The scores of a group, one line each."""
    n = f"{scores.scenarios} scenarios, {scores.runs} real runs"
    lines = [
        (
            f"{n}: verdict right {_share(scores.verdict)}, false “safe” {scores.false_safe}, "
            f"Brier {_number(scores.brier)}"
        ),
        (
            f"  inside the 95 % interval: {_share(scores.coverage)} (mean width {scores.mean_width or 0:.1f})"
            f"; scenarios without a failure: {_share(scores.coverage_all_zero)}"
        ),
        f"  skill {_number(scores.skill)} (1 is the true distribution, 2 is one replay as the forecast)",
    ]
    lines += [
        f"  {name}: every run gave {value:g}, predicted with probability {probability:.2f}"
        for name, value, probability in scores.agreed
    ]
    return lines


def _share(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    interval = "" if estimate.interval is None else " [{:.0%}, {:.0%}]".format(*estimate.interval)
    return f"{estimate.value:.0%}{interval}"


def _number(estimate: Estimate) -> str:
    if estimate.value is None:
        return "–"
    interval = "" if estimate.interval is None else " [{:.2f}, {:.2f}]".format(*estimate.interval)
    return f"{estimate.value:.2f}{interval}"


def plot(groups: Mapping[str, Sequence[Compared]], path: Path) -> None:
    """Save the figure of *groups*."""
    figure_of(groups).savefig(path, dpi=150)


def figure_of(groups: Mapping[str, Sequence[Compared]]) -> "Figure":
    """Predicted 95 % intervals with their medians, and each real run as a point, by scenario."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import, and only needed here

    rows = [(group, each) for group, compared in groups.items() for each in compared]
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(rows)), layout="constrained")
    axes = figure.subplots()
    rng = np.random.default_rng(0)
    for y, (_, each) in enumerate(rows):
        low, high = each.forecast.interval95
        axes.plot([low, high], [y, y], color="C0", lw=7, alpha=0.35, solid_capstyle="butt")
        axes.plot(np.median(each.forecast.counted), y, "|", color="C0", ms=12, mew=2)
        counts = np.array([run.counted for run in each.runs])
        axes.plot(counts, y + rng.uniform(-0.18, 0.18, len(counts)), "o", color="C3", ms=4, alpha=0.8)
    axes.set_yticks(range(len(rows)), [f"{each.forecast.scenario} ({group})" for group, each in rows])
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=10)
    axes.set_xlim(left=-0.5)
    axes.set_xlabel("failed requests of one rollout")
    axes.set_title("Predicted 95 % interval and median (bars), real runs (points)")
    return figure
