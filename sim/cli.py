"""The command `rollsim`: finds the subcommand, turns bad input into one line and exit code 2."""

import sys
from importlib import import_module
from typing import Final

import click

from sim.errors import InputError

COMMANDS: Final = {
    "predict": (
        "sim.commands.predict",
        "How many requests will the rollout fail, why, and what to change first?",
    ),
    "explain": ("sim.commands.explain", "What a cause of failure is, on the wire, and what removes it."),
    "lab": ("validation.lab.cli", "Bring up, look at and take down a real kind cluster."),
    "validate": ("validation.cli", "Replay scenarios on a real cluster and hold the prediction against it."),
}
"""Subcommand → (module, line of help). A module is imported when its command runs."""


class Rollsim(click.Group):
    """A group whose subcommands are imported on demand: help stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name][0]).app
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


EXAMPLES: Final = """\b
Examples:
  rollsim predict configs/tutorial
  rollsim predict app.yaml --set deployment/web.spec.template.spec.terminationGracePeriodSeconds=60
  rollsim predict app.yaml --fail-above 0
  rollsim explain idle_closed
"""


@click.group(
    cls=Rollsim,
    epilog=EXAMPLES,
    help="Predict how many client requests a Kubernetes rolling update will fail, why, and what to change.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="rollsim")
def app() -> None:
    pass


def main() -> None:
    """Entry point; InputError is one line on standard error and exit code 2."""
    try:
        if sys.argv[1:2] in (["lab"], ["validate"]):
            import_module(COMMANDS[sys.argv[1]][0]).app(prog_name=f"rollsim {sys.argv[1]}", args=sys.argv[2:])
            return
        app(prog_name="rollsim")
    except InputError as error:
        print(f"rollsim: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
