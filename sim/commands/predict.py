"""`rollsim predict SCENARIO…`."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.errors import InputError
from sim.scenario import load

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from sim.prediction import Prediction
    from sim.scenario.model import Scenario


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def predict(
    *,
    scenario: Annotated[list[str], typer.Argument(help="Files, folders of files, or - for standard input.")],
    sets: Annotated[
        list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a field; may be repeated.")
    ] = [],  # noqa: B006 - typer's way
    runs: Annotated[int, typer.Option(min=1, max=1_000_000, help="Simulated rollouts of each.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="An array with one object for each scenario.")
    ] = False,
    plot: Annotated[Path | None, typer.Option(help="Draw one rollout's timeline into this file.")] = None,
    fail_above: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            help="Exit with 1 unless P(failed ≤ N) reaches --confidence in every scenario.",
        ),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0, max=1)] = 0.95,
) -> None:
    """Predict rollouts: failed requests by cause with intervals, and the first thing to change."""
    from sim.prediction import predict as replicate  # noqa: PLC0415 - heavy

    scenarios = [each for path in scenario for each in load(path, sets)]
    if plot is not None and len(scenarios) > 1:
        raise InputError(f"--plot draws one scenario, {len(scenarios)} were given")
    predictions = []
    with _progress() as progress:
        for each in scenarios:
            task = progress.add_task(each.name, total=runs)
            predictions.append(
                replicate(each, runs=runs, seed=seed, progress=partial(_advance, progress, task))
            )
    if as_json:
        typer.echo(json.dumps([p.to_json() for p in predictions], indent=2))
    else:
        for prediction in predictions:
            _print(prediction)
    if plot is not None:
        _plot(scenarios[0], seed, plot)
    if fail_above is not None:
        missed = [p for p in predictions if p.p_at_most(fail_above) < confidence]
        for p in missed:
            typer.echo(
                f"{p.scenario.name}: P(failed ≤ {fail_above}) = {p.p_at_most(fail_above):.3f} "
                f"is below the confidence asked for, {confidence}",
                err=True,
            )
        if missed:
            sys.exit(1)


def _advance(progress: "Progress", task: "TaskID", done: int) -> None:
    progress.update(task, completed=done)


def _progress() -> "Progress":
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415

    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def _plot(scenario: "Scenario", seed: int, file: Path) -> None:
    from sim.simulate import simulate  # noqa: PLC0415

    figure = simulate(scenario, seed=seed).plot_timeline()
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {file}: {' '.join(str(error).split())}") from None


def _print(prediction: "Prediction") -> None:
    from rich.console import Console  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    facts = prediction.to_json()
    failed, rollout = facts["failed"], facts["rollout_s"]
    low, high = failed["interval95"]
    zero_low, zero_high = prediction.p_zero_interval
    console.print(
        f"[bold]{facts['scenario']}[/bold]  ({facts['runs']} simulated rollouts, seed {facts['seed']})"
    )
    console.print(
        f"  failed requests   {failed['median']:.0f} (95 %: {low:.0f} to {high:.0f}) "
        f"of {facts['requests']['mean']:,.0f}"
    )
    console.print(f"  P(none fails)     {prediction.p_zero:.2f} ({zero_low:.2f} to {zero_high:.2f})")
    _print_tool(console, facts)
    if rollout is not None:
        console.print(
            f"  rollout           {rollout['median']:.1f} s (95 %: {rollout['interval95'][0]:.1f} "
            f"to {rollout['interval95'][1]:.1f})"
        )
    if facts["rollout_incomplete"] > 0:
        console.print(
            f"  [bold]rollout never complete in {facts['rollout_incomplete']:.0%} of the runs[/bold]"
        )
    for cause, mean in facts["causes"].items():
        console.print(f"    {mean:10.1f}  {cause}")
    if facts["steady"]["failed"]:
        console.print(f"  without update    {facts['steady']['failed']:.0f} fail all the same")
    if facts["advice"]:
        console.print(f"  change first      {facts['advice']}")
    for warning in facts["warnings"]:
        console.print(f"  [yellow]warning[/yellow]           {warning}")
    console.print()


def _print_tool(console: "Console", facts: dict[str, object]) -> None:
    tool = facts["tool"]
    assert isinstance(tool, dict)
    if tool["failed"] is None or tool["name"] == "plain":
        return
    low, high = tool["failed"]["interval95"]
    console.print(
        f"  as {tool['name']} prints it{'':{max(0, 6 - len(tool['name']))}} {tool['failed']['median']:.0f} "
        f"(95 %: {low:.0f} to {high:.0f})"
        + (f", ended by itself in {tool['aborted']:.0%} of the runs" if tool["aborted"] else "")
    )
