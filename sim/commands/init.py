"""`rollsim init MANIFESTS…`."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.scenario.documents import Document

STANDARD: Final = "-"
EPILOG: Final = """\
Examples

rollsim init app.yaml proxy.yaml

rollsim init k8s/ -o rollouts/web.yaml

helm template . --skip-tests | rollsim init - -o web.yaml
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
def init(
    manifests: Annotated[
        list[str],
        typer.Argument(
            metavar="MANIFESTS", help="Files or folders of Kubernetes objects, or - for standard input."
        ),
    ],
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The scenario file; - for standard output.")
    ] = Path("scenario.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite it if it is there.")] = False,
) -> None:
    """Write a first scenario for manifests: what is rolled out, who asks, what the images hold.

    It is guessed, each line has its comment, and it predicts as it is: `rollsim predict scenario.yaml`.
    """
    from sim.files import objects_yaml, write_whole  # noqa: PLC0415
    from sim.init_guess import guess_scenario  # noqa: PLC0415 - heavy
    from sim.init_text import in_short, scenario_text  # noqa: PLC0415

    to_file = str(output) != STANDARD
    if to_file and output.exists() and not force:
        raise InputError(f"--output {output}: is there already; name another file, or add --force")
    documents = [found for name in manifests for found in _read(name)]
    guess = guess_scenario(documents)
    folder = output.parent if to_file else Path()
    beside = [os.path.relpath(name, folder) for name in manifests if name != STANDARD]
    text = scenario_text(guess, beside)
    text += objects_yaml(found.data for found in documents if found.file == STANDARD)
    if not to_file:
        sys.stdout.write(text)
        return
    write_whole(output, text, option="--output")
    for line in in_short(guess):
        typer.echo(f"  {line}", err=True)
    typer.echo(f"wrote {output}; now: rollsim predict {output}", err=True)


def _read(name: str) -> "list[Document]":
    """The objects of one argument; of a folder those of its files, but no Scenario that is there already."""
    from sim.scenario.documents import read_documents  # noqa: PLC0415

    path = Path(name)
    if name == STANDARD or not path.is_dir():
        return read_documents(name)
    files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    if not files:
        raise InputError(f"{name}: no *.yaml file directly in it")
    found = [each for file in files for each in read_documents(file)]
    return [each for each in found if each.kind != "Scenario"]
