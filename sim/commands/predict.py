"""`rollsim predict SCENARIO…`."""

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sim.errors import InputError
from sim.scenario import load

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from sim.prediction import Prediction
    from sim.scenario.model import Scenario


@click.command("predict")
@click.argument("scenario", nargs=-1, required=True)
@click.option("--set", "sets", multiple=True, metavar="PATH=VALUE", help="Override a field; may be repeated.")
@click.option(
    "--runs", type=click.IntRange(1, 1_000_000), default=200, show_default=True, help="Simulated rollouts."
)
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="An array with one object for each scenario.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw one rollout's timeline.")
@click.option(
    "--fail-above",
    type=click.IntRange(0),
    metavar="N",
    help="Exit with 1 unless P(failed ≤ N) reaches --confidence in every scenario.",
)
@click.option("--confidence", type=click.FloatRange(0, 1), default=0.95, show_default=True)
def app(
    scenario: tuple[str, ...],
    sets: tuple[str, ...],
    runs: int,
    seed: int,
    as_json: bool,
    plot: Path | None,
    fail_above: int | None,
    confidence: float,
) -> None:
    """Predict the rollouts of SCENARIO: files, folders of files, or - for standard input.

    \b
    Examples:
      rollsim predict configs/tutorial --runs 50
      rollsim predict configs/tutorial/2-keepalive.yaml --json
      rollsim predict configs/tutorial/2-keepalive.yaml --set load.connections=100 --plot out.png
    """
    from sim.prediction import predict  # noqa: PLC0415 - heavy

    scenarios = [each for path in scenario for each in load(path, sets)]
    if plot is not None and len(scenarios) > 1:
        raise InputError(f"--plot draws one scenario, {len(scenarios)} were given")
    predictions = []
    with _progress() as progress:
        for each in scenarios:
            task = progress.add_task(each.name, total=runs)
            predictions.append(
                predict(each, runs=runs, seed=seed, progress=partial(_advance, progress, task))
            )
    if as_json:
        click.echo(json.dumps([p.to_json() for p in predictions], indent=2))
    else:
        for prediction in predictions:
            _print(prediction)
    if plot is not None:
        _plot(scenarios[0], seed, plot)
    if fail_above is not None:
        missed = [p for p in predictions if p.p_at_most(fail_above) < confidence]
        for p in missed:
            click.echo(
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
