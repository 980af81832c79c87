"""The command `rollsim`: finds the subcommand, turns bad input into one line and exit code 2.

A subcommand's module is imported when it runs, so `rollsim --help` imports none of them.
"""

import sys
from importlib import import_module
from importlib.metadata import version
from typing import Final

from sim.errors import InputError

COMMANDS: Final = {
    "predict": (
        "sim.commands.predict",
        "how many requests will the rollout fail, why, and what to change first",
    ),
    "explain": ("sim.commands.explain", "what a cause of failure is, on the wire, and what removes it"),
    "lab": ("validation.lab.cli", "bring up, look at and take down a real kind cluster"),
    "calibrate": ("validation.calibration.cli", "measure the timing profile of the lab with runs of its own"),
    "validate": ("validation.cli", "replay scenarios on a real cluster and hold the prediction against it"),
}
"""Subcommand → (module with its Typer `app`, line of help)."""

HELP: Final = """\
usage: rollsim COMMAND …      (rollsim COMMAND --help)

Predict how many client requests a Kubernetes rolling update will fail, why, and what to change.

commands
{commands}

examples
  rollsim predict configs/tutorial
  rollsim predict app.yaml --set deployment/web.spec.template.spec.terminationGracePeriodSeconds=60
  rollsim predict app.yaml --fail-above 0
  rollsim explain idle_closed"""


def main() -> None:
    """Entry point. Exit codes: 0; 1 a check failed; 2 bad input, with one line that says what."""
    name, *rest = [*sys.argv[1:], ""][:1] + sys.argv[2:]
    if name in COMMANDS:
        _run(name, rest)
    elif name in ("", "-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {c:10} {text}" for c, (_, text) in COMMANDS.items())))
    elif name == "--version":
        print(f"rollsim {version('rollsim')}")
    else:
        print(f"rollsim: no command {name!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        sys.exit(2)


def _run(name: str, arguments: list[str]) -> None:
    app = import_module(COMMANDS[name][0]).app
    try:
        app(args=arguments, prog_name=f"rollsim {name}")
    except InputError as error:
        print(f"rollsim {name}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
