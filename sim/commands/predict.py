"""`rollsim predict SCENARIO…`."""

import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sim.errors import InputError
from sim.scenario import from_documents, load

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sim.gate import Gate
    from sim.junit import Case
    from sim.prediction import Prediction
    from sim.scenario.model import Scenario

STANDARD: Final = "-"
EPILOG: Final = """\
Examples

rollsim predict scenario.yaml --plot rollout.png

rollsim predict configs/tutorial --set load.connections=100 --json

helm template . --skip-tests | rollsim predict - --fail-above 0 --junit rollouts.xml

rollsim predict --from-cluster deployment/web -n shop
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def predict(
    *,
    scenario: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SCENARIO",
            help="Files, folders of files, or - for standard input: there manifests alone will do.",
        ),
    ] = None,
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
    confidence: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="P that --fail-above asks for; more rollouts than --runs are made where it takes them to be sure.",
        ),
    ] = 0.95,
    junit: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write JUnit XML: a test case for each scenario."),
    ] = None,
    from_cluster: Annotated[
        str | None,
        typer.Option(
            metavar="deployment/NAME", help="Read the scenario from a live cluster; nothing is changed."
        ),
    ] = None,
    namespace: Annotated[str | None, typer.Option("--namespace", "-n", help="Of --from-cluster.")] = None,
    context: Annotated[str | None, typer.Option(help="Kube-context of --from-cluster.")] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Where --from-cluster writes the scenario; else NAME.rollsim.yaml."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite that file if it is there.")] = False,
) -> None:
    """Predict rollouts: failed requests by cause with intervals, and the first thing to change."""
    scenarios = [each for path in scenario or () for each in _scenarios(path, sets)]
    if from_cluster is not None:
        scenarios += _from_cluster(from_cluster, namespace, context, write, sets, force=force)
    elif namespace or context or write or force:
        raise InputError("--namespace, --context, --write and --force belong to --from-cluster")
    if not scenarios:
        raise InputError("no SCENARIO given: name files or folders, - for standard input, or --from-cluster")
    if plot is not None and len(scenarios) > 1:
        raise InputError(f"--plot draws one scenario, {len(scenarios)} were given")
    if plot is not None:  # first: if it cannot be written, nobody has waited for the rest
        _plot(scenarios[0], seed, plot)
    cases = [_case(each, runs, seed, fail_above, confidence) for each in scenarios]
    if as_json:
        typer.echo(json.dumps([_facts(case) for case in cases], indent=2))
    else:
        _tell([case.prediction for case in cases])
    if junit is not None:
        _write_junit(cases, junit)
    missed = [case for case in cases if case.gate is not None and not case.gate.passed]
    for case in missed:
        typer.echo(f"{case.prediction.scenario.name}: {case.gate}", err=True)
    if missed:
        sys.exit(1)


# ---------------------------------------------------------------- what to predict


def _scenarios(path: str, sets: Sequence[str]) -> "list[Scenario]":
    """Those of a file or folder; of standard input also where only manifests come."""
    if path != STANDARD:
        return load(path, sets)
    from sim.scenario.documents import STDIN, read_documents  # noqa: PLC0415

    documents = read_documents(STDIN)
    if any(each.kind == "Scenario" for each in documents):
        return from_documents(STDIN, documents, sets)
    from sim.init_guess import guess_scenario, guessed_scenario  # noqa: PLC0415 - only here
    from sim.init_text import in_short  # noqa: PLC0415

    if not documents:
        raise InputError("-: nothing came on standard input, expected Kubernetes manifests")
    guess = guess_scenario(documents)
    _say("no Scenario on standard input: assumed (rollsim init writes it to a file)", in_short(guess))
    return from_documents(STDIN, guessed_scenario(guess, documents), sets)


def _from_cluster(
    target: str,
    namespace: str | None,
    context: str | None,
    write: Path | None,
    sets: Sequence[str],
    *,
    force: bool,
) -> "list[Scenario]":
    """The live Deployment, through the file that is kept of it."""
    from sim.files import objects_yaml, write_whole  # noqa: PLC0415 - only here
    from sim.from_cluster import read_cluster  # noqa: PLC0415
    from sim.init_guess import guess_scenario  # noqa: PLC0415
    from sim.init_text import in_short, scenario_text  # noqa: PLC0415

    found = read_cluster(target, namespace=namespace, context=context)
    file = write or Path(f"{found.deployment}.rollsim.yaml")
    if file.exists() and not force:
        raise InputError(f"--write {file}: is there already; predict it, name another file, or add --force")
    guess = guess_scenario(found.documents(), deployment=found.deployment)
    notes = "".join(f"# Not in it: {note}\n" for note in found.notes)
    write_whole(file, notes + scenario_text(guess, ()) + objects_yaml(found.objects), option="--write")
    _say(f"read namespace {found.namespace}, wrote {file}; assumed", [*in_short(guess), *found.notes])
    return load(file, sets)


def _say(head: str, lines: Sequence[str]) -> None:
    typer.echo(f"rollsim predict: {head}", err=True)
    for line in lines:
        typer.echo(f"  {line}", err=True)


# ---------------------------------------------------------------- prediction and gate


def _case(scenario: "Scenario", runs: int, seed: int, fail_above: int | None, confidence: float) -> "Case":
    from sim.junit import Case  # noqa: PLC0415 - heavy
    from sim.prediction import predict as replicate  # noqa: PLC0415

    began_s = perf_counter()
    with _progress() as progress:
        task = progress.add_task(scenario.name, total=runs)
        prediction = replicate(scenario, runs=runs, seed=seed, progress=partial(_advance, progress, task))
        gate = None if fail_above is None else _gate(prediction, fail_above, confidence, progress)
    return Case(prediction=prediction, gate=gate, took_s=perf_counter() - began_s)


def _gate(prediction: "Prediction", fail_above: int, confidence: float, progress: "Progress") -> "Gate":
    from sim.gate import hold_gate  # noqa: PLC0415
    from sim.scenario.timing import load_timing  # noqa: PLC0415
    from sim.simulate import simulate  # noqa: PLC0415

    scenario = prediction.scenario
    timing = load_timing(scenario.timing, beside=scenario.source.parent)

    def more(first: int, n: int) -> list[int]:
        indices = progress.track(range(first, first + n), description=f"{scenario.name}, to be sure")
        return [
            simulate(scenario, seed=prediction.seed, replication=i, timing=timing).n_failed for i in indices
        ]

    return hold_gate([int(n) for n in prediction.failed], fail_above, confidence, more)


def _facts(case: "Case") -> dict[str, object]:
    facts = case.prediction.to_json()
    return facts if case.gate is None else facts | {"gate": case.gate.to_json()}


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


# ---------------------------------------------------------------- what comes out


def _tell(predictions: "Sequence[Prediction]") -> None:
    from rich.console import Console  # noqa: PLC0415

    from sim.told import tell  # noqa: PLC0415

    console = Console(highlight=False, soft_wrap=True)
    for each in predictions:
        tell(each, console)


def _write_junit(cases: "Sequence[Case]", file: Path) -> None:
    from sim.files import write_whole  # noqa: PLC0415
    from sim.junit import junit_xml  # noqa: PLC0415

    write_whole(file, junit_xml(cases), option="--junit")


def _plot(scenario: "Scenario", seed: int, file: Path) -> None:
    from sim.files import save_figure  # noqa: PLC0415
    from sim.simulate import simulate  # noqa: PLC0415

    save_figure(file, simulate(scenario, seed=seed).plot_timeline(), option="--plot")
