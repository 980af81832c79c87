"""`rollsim explain [CAUSE]`."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer

from sim.advice import EXPLANATIONS
from sim.errors import InputError
from sim.outcomes import Cause

EPILOG: Final = """\
Examples

rollsim explain

rollsim explain idle_closed

rollsim explain --markdown
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def _begun(incomplete: str) -> list[str]:
    return [cause.value for cause in Cause if cause.value.startswith(incomplete)]


@app.command(epilog=EPILOG)
def explain(
    cause: Annotated[
        str | None,
        typer.Argument(help="A cause as `predict` names it; without: all of them.", autocompletion=_begun),
    ] = None,
    *,
    markdown: Annotated[bool, typer.Option("--markdown", help="As a table, the one in README.")] = False,
) -> None:
    """What a cause of failure is, on the wire, what removes it, and what that costs."""
    causes = [_named(cause)] if cause else list(Cause)
    for line in _table(causes) if markdown else _texts(causes):
        print(line)


def _texts(causes: list[Cause]) -> Iterator[str]:
    for each in causes:
        explanation = EXPLANATIONS[each]
        yield each.value
        yield f"  what happens  {explanation.happens}"
        yield f"  change        {explanation.change}"
        yield f"  costs         {explanation.costs}"
        yield f"  source        {explanation.source}"


def _table(causes: list[Cause]) -> Iterator[str]:
    yield "| Cause | What happens on the wire | What removes it | What that costs | Where the rule comes from |"
    yield "| --- | --- | --- | --- | --- |"
    for each in causes:
        found = EXPLANATIONS[each]
        cells = (f"`{each.value}`", found.happens, found.change, found.costs, found.source)
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _named(cause: str) -> Cause:
    try:
        return Cause(cause)
    except ValueError:
        raise InputError(f"cause {cause!r}; allowed: {', '.join(c.value for c in Cause)}") from None
