"""Shell completion, Typer's own, over commands whose modules are imported only when they are completed."""

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sim.cli import COMMANDS


class _Commands(TyperGroup):
    """Lists every command without importing one."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name][1], callback=_never)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, *rest = args
        if name not in COMMANDS:
            return super().resolve_command(ctx, args)
        return name, typer.main.get_command(import_module(COMMANDS[name][0]).app), rest


def _never() -> None:
    """A name in a list; what runs is found by `resolve_command`."""


def complete() -> None:
    """Answer the shell (variable `_ROLLSIM_COMPLETE`), or `--install-completion`, `--show-completion`."""
    app = typer.Typer(cls=_Commands, add_completion=True)
    app.callback()(_never)
    app(prog_name="rollsim")
