"""The report of the validation, made from the kept runs and predictions: `python -m validation.report`.

    python -m validation.report             REPORT.md, its figure and the index of validated scenarios
    python -m validation.report --predict   first makes today's predictions anew where they are stale

The same runs and predictions give the same bytes.
"""

import argparse
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import yaml

from sim.scenario.model import Scenario
from sim.scenario.timing import profile_path
from sim.validated import INDEX
from validation import campaign, compare, forecast, index, machines, observations, today
from validation.compare import Compared, mean_causes
from validation.forecast import Forecast
from validation.observations import FOLDER, Observation, scenario_hash
from validation.scores import Estimate, Scores
from validation.targets import Target, targets_of

REPORT: Final = Path(__file__).with_name("REPORT.md")
FIGURE: Final = "report.svg"
DRAWN: Final = "drawn"
"""Folder of the scenarios that a seed has drawn."""
MEASURED: Final = "measured latencies"
BY_SOURCES: Final = "latencies from sources alone"
TIMINGS: Final = {MEASURED: machines.PROFILES, BY_SOURCES: (forecast.SOURCES,)}
"""What a column's latencies may come from: of the measured profiles that of the runs' machine, where it is there."""
TODAY: Final = "today's model"
VERSIONS: Final = ("kubernetes", "kube_proxy_mode", "containerd", "kernel", "nginx", "haproxy")

Groups = dict[str, list[Compared]]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the report speaks of."""

    runs: tuple[Observation, ...]
    scenarios: Mapping[str, Scenario]
    groups: Groups
    models: Mapping[str, Counter[str]]
    """By profile: how many of today's predictions each version of the model made."""


def gather(folder: Path = FOLDER) -> Evidence:
    """Read the kept runs and predictions, and put each run to the predictions that speak of it."""
    runs = tuple(observations.read_all(folder))
    scenarios = campaign.our_scenarios()
    made = today.kept(folder)
    recorded = sorted({run.scenario for run in runs})
    drawn = {name for name, scenario in scenarios.items() if scenario.source.parent.name == DRAWN}
    groups: Groups = {}
    by_seed = {f"drawn by seed {seed}": names for seed, names in _by_seed(drawn).items()}
    for chosen, names in {**by_seed, "chosen by hand": set(recorded) - drawn}.items():
        for column, timings in TIMINGS.items():
            before = (forecast.kept_of(name, folder, timings) for name in recorded if name in names)
            groups[f"{chosen}, predicted before the first replay, {column}"] = compare.match(
                _with_a_figure(before), runs
            )
    for column, timings in TIMINGS.items():
        now = (
            made[name, timing].forecast for name in recorded for timing in timings if (name, timing) in made
        )
        groups[f"{TODAY} on every kept run, {column}"] = machines.match_there(_with_a_figure(now), runs)
    models: dict[str, Counter[str]] = {}
    for (_, timing), each in made.items():
        models.setdefault(timing, Counter())[each.model] += 1
    return Evidence(runs=runs, scenarios=scenarios, groups=groups, models=models)


def _by_seed(drawn: Iterable[str]) -> dict[int, set[str]]:
    """Each seed is a round of its own: what an earlier one taught is in the model that predicts the next."""
    rounds: dict[int, set[str]] = {}
    for name in sorted(drawn):
        rounds.setdefault(int(name.split("-")[1]), set()).add(name)
    return rounds


def _with_a_figure(forecasts: Iterable[Forecast | None]) -> list[Forecast]:
    """A tool that gave up in every simulated run has no figure to be held against anything."""
    return [each for each in forecasts if each is not None and each.counted]


def recorded_scenarios(runs: Iterable[Observation], scenarios: Mapping[str, Scenario]) -> list[Scenario]:
    """Scenarios of our configs of which a run of that version is kept."""
    have = {(run.scenario, run.scenario_hash) for run in runs}
    return [each for each in scenarios.values() if (each.name, scenario_hash(each)) in have]


# ---------------------------------------------------------------- text


def text(evidence: Evidence) -> str:
    """The whole report as Markdown."""
    return "\n".join(
        [
            "# Predictions against real rollouts",
            "",
            "Made by `python -m validation.report` from the runs in `observations/`; nothing in it is written by hand.",
            *_summary(evidence),
            *_targets(evidence),
            f"\n![Predicted intervals and real runs]({FIGURE})",
            *_misses(evidence),
            *_scenarios(evidence),
            *_left_out(evidence),
            *_versions(evidence),
            *_calibration(),
            *_commands(),
            "",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [" | ".join(row).join(("| ", " |")) for row in (head, *rows)]
    return [
        "",
        lines[0],
        "|" + "|".join(" --- " for _ in head) + "|",
        *lines[1:],
    ]


def _summary(evidence: Evidence) -> Iterator[str]:
    yield "\n## Scores"
    yield (
        "\nA score is followed by its 95 % bootstrap interval over scenarios and runs. *Verdict*: share of runs whose "
        '"zero or not" was predicted. *False safe*: runs with failures where zero was predicted. *Coverage*: share of '
        "runs inside the predicted 95 % interval, ties shared out; scenarios where no run failed a request stand "
        "apart. *Width*: mean width of those intervals. *Skill*: error of the prediction over that of the other real "
        "runs; 1 is the true distribution, 2 a single replay used as the forecast. Where runs are too few or all "
        "alike there is no skill."
    )
    head = (
        "group",
        "scenarios",
        "runs",
        "verdict",
        "false safe",
        "Brier",
        "coverage",
        "without a failure",
        "width",
        "skill",
    )
    yield from _table(head, [_scores_row(name, found) for name, found in evidence.groups.items()])


def _scores_row(name: str, found: Sequence[Compared]) -> tuple[str, ...]:
    if not found:
        return (name, "0", *["–"] * 8)
    scores: Scores = compare.scores_of(found)
    return (
        name,
        str(scores.scenarios),
        str(scores.runs),
        _estimate(scores.verdict, ".0%"),
        str(scores.false_safe),
        _estimate(scores.brier, ".2f"),
        _estimate(scores.coverage, ".0%"),
        _estimate(scores.coverage_all_zero, ".0%"),
        "–" if scores.mean_width is None else f"{scores.mean_width:.1f}",
        _estimate(scores.skill, ".2f"),
    )


def _estimate(estimate: Estimate, form: str) -> str:
    if estimate.value is None:
        return "–"
    interval = estimate.interval
    said = "" if interval is None else f" ({interval[0]:{form}} to {interval[1]:{form}})"
    return f"{estimate.value:{form}}{said}"


def _targets(evidence: Evidence) -> Iterator[str]:
    yield "\n## What was asked of each scenario"
    yield (
        "\nThe verdict where all real runs agree; the median count within 10 % where the real mean is 10 or more, "
        "else within one request; each cause's share of the failures within 10 points; the rollout's median time "
        "within 10 %. Scenarios that reached it, of those that it could be asked of. In brackets how many would "
        "reach it if every prediction were true: the median of few runs misses that of what varies, by chance alone."
    )
    names = ("verdict", "count", "causes", "rollout")
    rows = []
    for group, found in evidence.groups.items():
        asked = [target for each in found for target in targets_of(each)]
        reached = Counter(target.name for target in asked if target.reached)
        n = Counter(target.name for target in asked)
        best = {name: sum(target.by_chance for target in asked if target.name == name) for name in names}
        said = {name: f"{reached[name]} of {n[name]}" for name in names}
        for name in ("count", "rollout"):
            said[name] += f" ({best[name]:.0f})"
        rows.append((group, *(said[name] if n[name] else "–" for name in names)))
    yield from _table(("group", *names), rows)


def _misses(evidence: Evidence) -> Iterator[str]:
    yield "\n## Misses"
    yield (
        "\nEvery scenario that missed something that was asked, or of whose runs fewer than three of four lie inside "
        "the interval, with the measured latencies. `rollsim validate --explain SCENARIO` shows where the model is off."
    )
    for group, found in evidence.groups.items():
        if not group.endswith(MEASURED) or not found:
            continue
        rows = []
        for each in found:
            missed = [target for target in targets_of(each) if not target.reached]
            n_inside = _n_inside(each)
            if missed or n_inside < 0.75 * len(each.runs):
                what = "; ".join(_missed(target) for target in missed)
                rows.append((each.forecast.scenario, f"{n_inside} of {len(each.runs)}", what or "–"))
        yield f"\n### {_capital(group)}: {len(rows)} of {len(found)} scenarios"
        if rows:
            yield from _table(("scenario", "inside", "missed"), rows)


def _missed(target: Target) -> str:
    return f"{target.name}: {target.says}"


def _n_inside(each: Compared) -> int:
    low, high = each.forecast.interval95
    return sum(low <= run.counted <= high for run in each.runs)


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]


def _scenarios(evidence: Evidence) -> Iterator[str]:
    yield "\n## Every scenario"
    head = (
        "scenario", "P(zero)", "median", "95 %", "real runs: failed requests", "inside", "causes, predicted",
        "causes, real", "rollout, s", "real, s",
    )  # fmt: skip
    for group, found in evidence.groups.items():
        if found:
            yield f"\n### {_capital(group)}"
            yield from _table(head, [_scenario_row(each) for each in found])


def _scenario_row(each: Compared) -> tuple[str, ...]:
    low, high = each.forecast.interval95
    rollouts = [run.rollout_s for run in each.runs if run.rollout_s is not None]
    left_out = f" ({each.left_out} left out)" if each.left_out else ""
    return (
        each.forecast.scenario,
        f"{each.forecast.p_zero:.2f}",
        f"{np.median(each.forecast.counted):g}",
        f"{low} to {high}",
        " ".join(str(run.counted) for run in each.runs) + left_out,
        f"{_n_inside(each)} of {len(each.runs)}",
        _causes(each.forecast.causes),
        _causes(mean_causes(each.runs)) if each.runs[0].counted_by == "client" else "not known",
        _median(each.forecast.rollout_s),
        _median(rollouts),
    )


def _causes(means: Mapping[str, float]) -> str:
    """Mean failures a run by cause, most first."""
    ordered = sorted(means.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {mean:.1f}" for name, mean in ordered if mean >= 0.05) or "none"


def _median(values: Sequence[float]) -> str:
    return f"{np.median(values):.2f}" if values else "–"


# ---------------------------------------------------------------- what it rests on


def _left_out(evidence: Evidence) -> Iterator[str]:
    yield "\n## Runs that are left out"
    current = {each.name: scenario_hash(each) for each in evidence.scenarios.values()}
    reasons: Counter[str] = Counter()
    for run in evidence.runs:
        if run.spoiled:
            reasons["spoiled: " + re.sub(r"\d+ ?%?", "n", run.spoiled[0].partition(":")[0])] += 1
        elif run.aborted:
            reasons["the client's tool gave up and printed no figure"] += 1
        elif current.get(run.scenario) != run.scenario_hash:
            reasons["of another version of the scenario"] += 1
    yield (
        f"\n{len(evidence.runs)} runs of {len({run.scenario for run in evidence.runs})} scenarios are kept; "
        f"{sum(reasons.values())} of them say nothing of today's scenarios:"
    )
    yield from _table(("reason", "runs"), [(reason, str(n)) for reason, n in sorted(reasons.items())])


def _versions(evidence: Evidence) -> Iterator[str]:
    yield "\n## Versions"
    rows = []
    for name in VERSIONS:
        found = Counter(version for run in evidence.runs if (version := run.versions.get(name)))
        if found:
            rows.append((name, ", ".join(f"{version} ({n} runs)" for version, n in sorted(found.items()))))
    clients = Counter(
        f"{run.client} {run.report.get('version') or run.report.get('python') or ''}".strip()
        for run in evidence.runs
    )
    rows.append(("clients", ", ".join(f"{client} ({n} runs)" for client, n in sorted(clients.items()))))
    rows.append(("cores", ", ".join(map(str, sorted({run.cores for run in evidence.runs})))))
    if evidence.runs:
        dates = sorted(run.date for run in evidence.runs)
        rows.append(("replayed", f"{dates[0][:16]} to {dates[-1][:16]} UTC"))
    yield from _table(("what", "version"), rows)
    for timing in (*machines.PROFILES, forecast.SOURCES):
        groups = [found for group, found in evidence.groups.items() if group.startswith(TODAY)]
        predicted = {
            each.forecast.runs for found in groups for each in found if each.forecast.timing == timing
        }
        n = ", ".join(map(str, sorted(predicted))) or "no"
        versions = evidence.models.get(timing, Counter()).most_common()
        by = ", ".join(f"{model} {n_made}" for model, n_made in versions)
        said = f"; by version of the model: {by}" if len(versions) > 1 else ""
        yield f"\nToday's predictions with `{timing}`: {n} simulated rollouts of each scenario{said}."


def _calibration() -> Iterator[str]:
    yield "\n## Measured latencies"
    yield (
        "\nEach machine's, with runs of its own (`rollsim calibrate`; what was found: `calibration/FINDINGS.md`). A "
        "run is held against the profile of its machine. What is not in it comes from sources "
        "(`configs/timing/defaults.yaml`)."
    )
    for name in machines.PROFILES:
        document = yaml.safe_load(profile_path(name, beside=Path()).read_text(encoding="utf-8"))
        yield f"\n### `{document['metadata']['name']}`"
        entries = document["spec"].items()
        rows = [(name, _measured(entry["value"]), str(entry["source"])) for name, entry in entries]
        yield from _table(("latency", "5 % / median / 95 %", "source"), rows)


def _measured(value: object) -> str:
    if isinstance(value, dict) and "quantiles" in value:
        quantiles = value["quantiles"]
        last = len(quantiles) - 1
        low, middle, high = (quantiles[round(last * q)] for q in (0.05, 0.5, 0.95))
        return f"{low} / {middle} / {high}"
    if isinstance(value, dict) and "lognormal" in value:
        return f"– / {value['lognormal']['median']} / {value['lognormal']['p95']}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {each}" for name, each in value.items())
    return str(value)


def _commands() -> list[str]:
    return [
        "\n## How it was made",
        "",
        "```",
        "rollsim lab up",
        "rollsim calibrate --data FOLDER --profile FILE     # configs/timing/kind-1.34*.yaml",
        "python -m validation.draw --seed 1 --out configs/drawn  # and every other seed",
        "rollsim validate configs/tutorial configs/matrix configs/drawn --runs 8",
        "python -m validation.report --predict              # this report",
        "rollsim validate --explain SCENARIO                # one scenario, step by step and event by event",
        "```",
    ]


# ---------------------------------------------------------------- files


def write(folder: Path = FOLDER, report: Path = REPORT, table: Path = INDEX) -> None:
    """Write the report, its figure beside it, and the index."""
    evidence = gather(folder)
    observations.write_aside(report, text(evidence).encode())
    observations.write_aside(table, index.text_of_kept(folder).encode())
    _draw(evidence, report.with_name(FIGURE))


def _draw(evidence: Evidence, path: Path) -> None:
    from matplotlib import rc_context  # noqa: PLC0415 - slow to import, and only needed here

    shown = {
        group.partition(",")[0]: found
        for group, found in evidence.groups.items()
        if group.endswith(MEASURED) and found
    }
    with rc_context({"svg.hashsalt": "rollsim"}):
        compare.figure_of(shown).savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--predict", action="store_true", help="make stale predictions of today's model anew first"
    )
    parser.add_argument(
        "--predictions",
        type=int,
        default=today.RUNS,
        help="simulated rollouts of each (default: %(default)s)",
    )
    options = parser.parse_args()
    scenarios = recorded_scenarios(observations.read_all(), campaign.our_scenarios())
    if options.predict:
        today.refresh(scenarios, runs=options.predictions, processes=os.cpu_count() or 1, say=print)
    elif missing := today.stale(scenarios):
        print(
            f"{len(missing)} of {2 * len(scenarios)} predictions are missing or of another model: --predict makes them"
        )
    write()
    print(REPORT)


if __name__ == "__main__":
    main()
