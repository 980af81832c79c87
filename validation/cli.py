"""`rollsim validate`: reads the options, calls, prints."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from sim.errors import InputError
from sim.scenario import load
from sim.scenario.model import Scenario
from validation import campaign, compare, explain, machines
from validation.access import Access, ReplayError
from validation.observations import FOLDER
from validation.one_line import one_line_errors
from validation.steps import off_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

app = typer.Typer(help="Replay scenarios on a real cluster and hold the prediction against it.")

FILE_WIDTH = 150
"""Columns of the table where the output is no terminal."""
PREDICTIONS = 200
"""Simulated rollouts of a prediction, where nothing else is asked for."""


EPILOG = """\
Examples

rollsim validate configs/tutorial --runs 8

rollsim validate --recorded --json

rollsim validate --explain tutorial-2-keepalive --plot beside.png
"""


@app.command(epilog=EPILOG)
def validate(
    scenarios: Annotated[
        list[str] | None, typer.Argument(metavar="SCENARIO…", help="Files or folders of scenarios.")
    ] = None,
    *,
    runs: Annotated[int, typer.Option(min=1, help="Real runs that each scenario shall have in the end.")] = 8,
    recorded: Annotated[
        bool, typer.Option("--recorded", help="Only compare with the runs that are kept: needs no cluster.")
    ] = False,
    explained: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Hold kept runs of SCENARIO… against simulated ones, step by step and event by event.",
        ),
    ] = False,
    run: Annotated[
        int | None, typer.Option(min=1, help="The kept run whose events --explain prints.")
    ] = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="Print the groups `seen` and `unseen` (or what --explain finds) as data."
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Draw predicted intervals and real runs (or both timelines of --explain) to this file."
        ),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="PATH=VALUE", help="Override a field; may be repeated."),
    ] = None,
    predictions: Annotated[
        int | None,
        typer.Option(min=2, help="Simulated rollouts of each prediction (200), or of --explain (50)."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the predictions.")] = 1,
    timing: Annotated[
        str | None,
        typer.Option(
            help="Timing profile measured on that cluster (default: the newest of ours; of kept runs that of "
            "their machine); the sources' is the second column."
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the lab's cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="A kube-context instead of the lab.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Use that cluster though it is not one of ours.")
    ] = False,
    client_image: Annotated[
        str | None, typer.Option(help="Image of the client's pod where it cannot run on the node.")
    ] = None,
    observations: Annotated[Path, typer.Option(help="Folder of the kept runs.")] = FOLDER,
) -> None:
    """Replay SCENARIO… on the lab until each has --runs real runs, and compare; or compare what is kept.

    Every prediction is made before the first replay and kept beside the runs.
    """
    console = Console(highlight=False, width=None if sys.stdout.isatty() else FILE_WIDTH)
    with one_line_errors("rollsim validate", interrupted="the runs that ended are kept"):
        if explained:
            _explain(
                console,
                explain.find_scenarios(scenarios or (), sets or ()),
                explain.Plan(
                    folder=observations, runs=predictions or explain.RUNS, seed=seed, timing=timing, run=run
                ),
                as_json=as_json,
                plot=plot,
            )
            return
        if run is not None:
            raise InputError("--run belongs to --explain")
        predictions = predictions or PREDICTIONS
        chosen = [each for path in scenarios or () for each in load(path, sets or ())]
        if not recorded:
            _replay(
                chosen,
                campaign.Plan(
                    runs=runs,
                    predictions=predictions,
                    seed=seed,
                    timing=timing or machines.PROFILES[0],
                    folder=observations,
                    client_image=client_image,
                ),
                campaign.cluster(name=name, context=context, yes=yes),
            )
        groups = campaign.recorded_groups(
            chosen, folder=observations, predictions=predictions, seed=seed, timing=timing, say=_say
        )
        if not any(groups.values()):
            raise ReplayError(f"{observations}: no kept run to compare with")
        if as_json:
            typer.echo(json.dumps({g: compare.group_data(found) for g, found in groups.items()}, indent=2))
        else:
            _print(console, groups)
        if plot is not None:
            compare.plot(groups, plot)


def _explain(
    console: Console, chosen: Sequence[Scenario], plan: explain.Plan, *, as_json: bool, plot: Path | None
) -> None:
    if not chosen:
        raise InputError("no SCENARIO given: name files, folders or scenarios of the configs")
    if len(chosen) > 1 and (plot is not None or plan.run is not None):
        raise InputError(f"--plot and --run speak of one scenario, {len(chosen)} were given")
    data = []
    steps = {}
    for scenario in chosen:
        try:
            found = explain.explain(scenario, plan)
        except ReplayError as error:
            if len(chosen) == 1:
                raise
            _say(str(error))
            continue
        if as_json:
            data.append(found.to_json())
        else:
            if len(chosen) == 1:
                console.print(found.events_table())
                console.print()
            console.print(found.steps_table())
            console.print()
            steps[scenario.name] = found.steps
        if plot is not None:
            _save(found.figure(), plot)
    if as_json:
        typer.echo(json.dumps(data, indent=2))
    elif len(steps) > 1:
        console.print(off_table(steps))


def _save(figure: "Figure", file: Path) -> None:
    try:
        figure.savefig(file)
    except (OSError, ValueError) as error:
        raise InputError(f"--plot {file}: {' '.join(str(error).split())}") from None


def _replay(chosen: Sequence[Scenario], plan: campaign.Plan, access: Access) -> None:
    if not chosen:
        raise InputError("no SCENARIO given: name files or folders, or ask for --recorded")
    for observation in campaign.replay_all(chosen, access, plan, say=_say):
        typer.echo(campaign.said_in_short(observation), err=True)


def _say(text: str) -> None:
    typer.echo(f"  {text}", err=True)


def _print(console: Console, groups: campaign.Groups) -> None:
    for group, found in groups.items():
        if found:
            console.print(compare.table_of(found, campaign.GROUPS[group]))
            for line in compare.scores_text(compare.scores_of(found)):
                console.print(line)
            console.print()
