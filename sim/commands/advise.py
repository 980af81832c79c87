"""`rollsim advise SCENARIO`."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.advise.options import Setting
    from sim.advise.search import Advice, Goal
    from sim.comparison import Comparison
    from sim.sweep.files import ScenarioFiles
    from sim.sweep.parameters import Parameter

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MOST_CHANGES = 50_000
WATCHING_S = 60.0
"""The load lasts so much longer while a change is searched: a longer sleep must not hide what comes after it."""
EPILOG = """\b
examples
  rollsim advise scenario.yaml
  rollsim advise scenario.yaml --allow preStop,grace --target 0.999 --patch fix.patch && git apply fix.patch
  rollsim advise scenario.yaml --also load.connections=1,2
"""


@app.command(epilog=EPILOG)
def advise(
    *,
    scenario: Annotated[Path, typer.Argument(help="The scenario.")],
    sets: Annotated[
        list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a field beforehand.")
    ] = [],  # noqa: B006 - typer's way
    allow: Annotated[
        str,
        typer.Option(
            metavar="SETTING,…",
            help="What may be changed: preStop, grace, readiness, strategy, signal, retries, mode (all of them).",
        ),
    ] = "preStop,grace,readiness,strategy,signal,retries,mode",
    also: Annotated[
        list[str],
        typer.Option(
            metavar="PATH=VALUES", help="A further field that may be changed, as behind `sweep -p`."
        ),
    ] = [],  # noqa: B006
    target: Annotated[float, typer.Option(help="P(no request fails) to reach, below 1.")] = 0.99,
    confidence: Annotated[float, typer.Option(help="How sure it must be, below 1.")] = 0.95,
    runs: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Rollouts that confirm it, at least.")
    ] = 500,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    patch: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the patch there instead of printing it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Instead of one a core.")] = None,
) -> None:
    """Search the cheapest change after which no request fails, say what it costs, and print it as a patch.

    Exit code 1: nothing allowed reaches the target.
    """
    from sim.advise.options import changes, n_changes  # noqa: PLC0415 - heavy
    from sim.advise.search import Goal  # noqa: PLC0415
    from sim.advise.search import advise as search  # noqa: PLC0415
    from sim.progress import ends_quietly, progress_bar  # noqa: PLC0415
    from sim.sweep.api import sets_of  # noqa: PLC0415
    from sim.sweep.engines import engine  # noqa: PLC0415
    from sim.sweep.files import ScenarioFiles  # noqa: PLC0415

    for name, share in (("--target", target), ("--confidence", confidence)):
        if not 0 < share < 1:
            raise InputError(f"{name}: got {share:g}, expected a number between 0 and 1")
    overrides = sets_of(sets)
    files = ScenarioFiles.read(scenario, [overrides])
    watching = _watching(files, overrides)
    settings = _settings(files, {**overrides, **watching}, allow, also)
    if n_changes(settings) > MOST_CHANGES:
        raise InputError(
            f"--allow: {n_changes(settings):,} combinations, the most that is searched is {MOST_CHANGES:,}; "
            "allow fewer settings"
        )
    goal = Goal(target=target, confidence=confidence, runs=runs)
    found = changes(settings)
    with (
        ends_quietly(),
        engine(n_workers=processes) as workers,
        progress_bar("combinations", len(found)) as progress,
    ):
        advice = search(
            files, {**overrides, **watching}, found, goal, seed=seed, engine=workers, progress=progress
        )
    diff, trouble = _patch(files, advice, overrides)
    if as_json:
        print(json.dumps(_facts(advice, goal, diff), indent=2))
    else:
        _print(scenario, advice, goal, settings)
    if trouble:
        print(f"no patch: {trouble}; use --set as above", file=sys.stderr)
    elif patch is not None and diff:
        _write(patch, diff)
    elif diff and not as_json:
        print(f"\n{diff}", end="")
    if advice.change is None:
        sys.exit(1)


def _watching(files: "ScenarioFiles", overrides: dict[str, Any]) -> dict[str, Any]:
    """A load that is long enough to see the end of an old pod that sleeps longer."""
    read, _ = files.load(overrides)
    if not read.updates:
        raise InputError(f"{files.given}: spec.update: missing; there is no rollout to make safe")
    if read.load.duration_s is None:
        return {}
    return {"load.duration": f"{read.load.duration_s + WATCHING_S:g}s"}


def _settings(
    files: "ScenarioFiles", overrides: dict[str, Any], allow: str, also: list[str]
) -> "list[Setting]":
    from sim.advise.options import SETTINGS, Option, Setting, effective, settings_of  # noqa: PLC0415
    from sim.scenario.documents import read_documents  # noqa: PLC0415
    from sim.scenario.overrides import Overrides  # noqa: PLC0415
    from sim.sweep.parameters import parse_parameter  # noqa: PLC0415

    allowed = [name.strip() for name in allow.split(",") if name.strip()]
    if unknown := next((name for name in allowed if name not in SETTINGS), None):
        raise InputError(f"--allow {unknown}: allowed: {', '.join(SETTINGS)}")
    read, _ = files.load(overrides)
    [document] = [each for each in read_documents(files.given) if each.kind == "Scenario"]
    spec = Overrides.parse(overrides).for_scenario(document).data["spec"]
    settings = settings_of(read, spec.get("images") or {}, allowed)
    for text in also:
        parameter = parse_parameter(text)
        if not parameter.choices:
            raise InputError(f"--also {parameter.name}: expected values or LO..HI:N")
        _one_is_possible(files, overrides, parameter)
        options = [
            Option(
                text=f"{parameter.name} = {choice.value}", sets=choice.sets, price=1.0, costs="yours to judge"
            )
            for choice in parameter.choices
        ]
        settings.append(Setting(name=parameter.name, options=tuple(options)))
    return effective(settings, lambda sets: files.load({**overrides, **sets})[0])


def _one_is_possible(files: "ScenarioFiles", overrides: dict[str, Any], parameter: "Parameter") -> None:
    """Refuse a path that leads nowhere; a value that is impossible beside others is left out of the search."""
    complaints = []
    for choice in parameter.choices:
        try:
            files.load({**overrides, **dict(choice.sets)})
        except InputError as error:
            complaints.append(error)
        else:
            return
    raise complaints[0]


def _patch(files: "ScenarioFiles", advice: "Advice", overrides: dict[str, Any]) -> tuple[str, str]:
    """The patch, or why there is none."""
    from sim.advise.patch import patch_for  # noqa: PLC0415
    from sim.advise.text_edit import CannotEdit  # noqa: PLC0415

    if advice.change is None or not advice.change.options:
        return "", ""
    try:
        return patch_for(files, {**overrides, **advice.change.sets}), ""
    except CannotEdit as error:
        return "", str(error)


def _write(path: Path, diff: str) -> None:
    from sim.files import write_whole  # noqa: PLC0415

    write_whole(path, diff, option="--patch")


# ---------------------------------------------------------------- what is said


def _facts(advice: "Advice", goal: "Goal", diff: str) -> dict[str, Any]:
    best = advice.change if advice.change is not None else advice.closest
    return {
        "reached": advice.change is not None,
        "target": goal.target,
        "confidence": goal.confidence,
        "now": {
            "failed": float(advice.now.failed.mean()),
            "p_zero": float((advice.now.failed == 0).mean()),
            "runs": advice.now.n,
        },
        "change": None
        if best is None
        else [
            {
                "text": option.text,
                "set": dict(option.sets),
                "costs": option.costs,
                "needs": option.needs or None,
            }
            for option in best.options
        ],
        "confirmed": None
        if advice.confirmed is None
        else {
            "runs": advice.confirmed.n,
            "without_failure": advice.confirmed.n_zero,
            "p_zero_at_least": advice.confirmed.lower,
        },
        "comparison": None if advice.comparison is None else advice.comparison.to_json(),
        "remaining": dict(advice.remaining),
        "tried": advice.n_tried,
        "combinations": advice.n_changes,
        "patch": diff or None,
    }


def _print(scenario: Path, advice: "Advice", goal: "Goal", settings: "list[Setting]") -> None:
    now = advice.now
    print(
        f"{scenario}: now {now.failed.mean():,.1f} requests fail in the mean, none in "
        f"{(now.failed == 0).mean():.0%} of {now.n} simulated rollouts"
    )
    if now.ended_too_soon.any():
        print(
            f"the load ends before the last old pod is gone in {now.ended_too_soon.mean():.0%} of them: "
            "these count as failed, give it a duration or more requests"
        )
    if (never := float((now.rollout_s != now.rollout_s).mean())) > 0:
        print(f"the rollout is never complete in {never:.0%} of them: these count as failed")
    if advice.change is not None and not advice.change.options:
        print(f"nothing to change: {_sure(advice, goal)}")
        return
    if advice.change is None:
        _print_remaining(advice, goal, settings)
        return
    print(
        f"\ncheapest change ({advice.n_tried} of {advice.n_changes:,} combinations tried): {_sure(advice, goal)}"
    )
    for option in advice.change.options:
        print(f"  {option.text}: {option.costs}")
        if option.needs:
            print(f"    the patch is not enough: it takes {option.needs}")
    for path, value in advice.change.sets.items():
        print(f"    --set '{path}={json.dumps(value)}'")
    _print_costs(advice.comparison)


def _sure(advice: "Advice", goal: "Goal") -> str:
    assert advice.confirmed is not None
    return (
        f"P(none fails) is at least {advice.confirmed.lower:.4f} with {goal.confidence:.0%} confidence "
        f"({advice.confirmed.n_zero} of {advice.confirmed.n} fresh rollouts without a failure)"
    )


def _print_costs(found: "Comparison | None") -> None:
    if found is None:
        return
    print("what it costs, measured in pairs of rollouts:")
    if found.rollout_s is not None:
        change = found.rollout_s
        print(
            f"  rollout time   {change.old:.1f} s, then {change.new:.1f} s "
            f"({change.difference:+.1f}; 95 %: {change.low:+.1f} to {change.high:+.1f})"
        )
    print(
        f"  extra pods     {found.extra_pods[0]}, then {found.extra_pods[1]} at most, terminating ones counted"
    )
    share = found.requests.difference / found.requests.old if found.requests.old else 0.0
    print(
        f"  latency        {share:+.1%} requests in the same time: what a client that waits for answers notices"
    )


def _print_remaining(advice: "Advice", goal: "Goal", settings: "list[Setting]") -> None:
    from sim.advice import EXPLANATIONS  # noqa: PLC0415
    from sim.outcomes import Cause  # noqa: PLC0415

    names = ", ".join(dict.fromkeys(setting.name for setting in settings)) or "none that has an effect"
    print(
        f"\nnothing allowed reaches P(none fails) ≥ {goal.target:g} ({advice.n_tried} of {advice.n_changes:,} "
        f"combinations tried; settings: {names})"
    )
    if advice.closest is not None and advice.comparison is not None:
        print(f"closest: {'; '.join(option.text for option in advice.closest.options)}")
        found = advice.comparison
        print(
            f"  {found.failed.new:,.1f} requests fail in the mean, "
            f"none in {found.p_zero.new:.0%} of {found.runs} rollouts"
        )
    print("what remains:")
    for name, mean in advice.remaining.items():
        explanation = EXPLANATIONS[Cause(name)]
        print(f"  {mean:10.1f}  {name}: {explanation.happens}")
        print(f"  {'':10}  {explanation.change}")
