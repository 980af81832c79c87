"""The command `rollsim`: finds the subcommand, turns bad input into one line and exit code 2.

A subcommand's module is imported when it runs, so `rollsim --help` imports none of them.
"""

import os
import sys
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from sim.errors import InputError

COMMANDS: Final = {
    "predict": (
        "sim.commands.predict",
        "how many requests will the rollout fail, why, and what to change first",
    ),
    "init": ("sim.commands.init", "write a first scenario for your manifests"),
    "explain": ("sim.commands.explain", "what a cause of failure is, on the wire, and what removes it"),
    "sweep": ("sim.commands.sweep", "many points of one scenario, on all cores or a Dask cluster"),
    "plot": ("sim.commands.plot", "draw what a sweep has found"),
    "diff": ("sim.commands.diff", "what a change of scenario or settings changes, with an interval"),
    "advise": ("sim.commands.advise", "the cheapest change after which no request fails, as a patch"),
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
  rollsim init app.yaml                                  writes scenario.yaml, to be looked through
  rollsim predict scenario.yaml
  rollsim predict scenario.yaml --set deployment/web.spec.template.spec.terminationGracePeriodSeconds=60
  helm template . --skip-tests | rollsim predict - --fail-above 0
  rollsim advise scenario.yaml --patch fix.patch         the cheapest change, as a patch of your files
  rollsim sweep scenario.yaml -p load.connections=1..100:5 -o out.parquet
  rollsim explain idle_closed

completion for your shell: rollsim --install-completion"""

EXIT_PIPE: Final = 141
"""As the shell says of a process that SIGPIPE has ended."""

COMPLETION: Final = ("--install-completion", "--show-completion")


def main() -> None:
    """Entry point. Exit codes: 0; 1 a check failed or the system refused; 2 bad input, said in one line."""
    name, *rest = [*sys.argv[1:], ""][:1] + sys.argv[2:]
    try:
        code = _run(name, rest)
        sys.stdout.flush()
    except BrokenPipeError:  # who read it has enough
        code = EXIT_PIPE
    except OSError as error:  # a full disk, a folder that is gone, a terminal that is closed
        where = f"{error.filename or 'the output'}: " if error.strerror else ""
        print(f"rollsim {name}: {where}{error.strerror or error or type(error).__name__}", file=sys.stderr)
        code = 1
    else:
        sys.exit(code)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python would write the rest again, and say that it cannot
    sys.exit(code)


def _run(name: str, arguments: list[str]) -> int:
    if "_ROLLSIM_COMPLETE" in os.environ or name in COMPLETION:
        import_module("sim.completion").complete()
    elif name in COMMANDS:
        return _command(name, arguments)
    elif name in ("", "-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {c:10} {text}" for c, (_, text) in COMMANDS.items())))
    elif name == "--version":
        print(f"rollsim {version('rollsim')}")
    else:
        print(f"rollsim: no command {name!r}; allowed: {', '.join(COMMANDS)}", file=sys.stderr)
        return 2
    return 0


def _command(name: str, arguments: list[str]) -> int:
    app = import_module(COMMANDS[name][0]).app
    try:
        code = app(args=arguments, prog_name=f"rollsim {name}", standalone_mode=False)
    except InputError as error:
        return _bad(name, str(error))
    except Exception as error:
        if type(error).__name__ == "Abort":  # Typer's own, for Ctrl-C
            print(f"rollsim {name}: interrupted", file=sys.stderr)
            return 130
        if not _is_usage(error):
            raise
        return _bad(name, _usage(error))
    return code if isinstance(code, int) else 0


def _bad(name: str, message: str) -> int:
    print(f"rollsim {name}: {message}", file=sys.stderr)
    return 2


def _is_usage(error: Exception) -> bool:
    """A wrong option or argument: click's own error, which Typer may carry under a name of its own."""
    return any(kind.__name__ == "ClickException" for kind in type(error).__mro__)


def _usage(error: Any) -> str:
    """One line; a command that needs a subcommand gets its whole help, as Typer gives it."""
    message = str(error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        return message
    return f"{' '.join(message.split())} (see --help)"
