"""`rollsim explain [CAUSE]`."""

from typing import Annotated

import typer

from sim.advice import EXPLANATIONS
from sim.errors import InputError
from sim.outcomes import Cause

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def explain(
    cause: Annotated[
        str | None, typer.Argument(help="A cause as `predict` names it; without: all of them.")
    ] = None,
) -> None:
    """What a cause of failure is, on the wire, what removes it, and what that costs."""
    for each in [_named(cause)] if cause else list(Cause):
        explanation = EXPLANATIONS[each]
        print(f"{each.value}")
        print(f"  what happens  {explanation.happens}")
        print(f"  change        {explanation.change}")
        print(f"  costs         {explanation.costs}")
        print(f"  source        {explanation.source}")


def _named(cause: str) -> Cause:
    try:
        return Cause(cause)
    except ValueError:
        raise InputError(f"cause {cause!r}; allowed: {', '.join(c.value for c in Cause)}") from None
