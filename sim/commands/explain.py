"""`rollsim explain CAUSE`."""

import click

from sim.advice import EXPLANATIONS
from sim.outcomes import Cause


@click.command("explain")
@click.argument("cause", type=click.Choice([cause.value for cause in Cause]), required=False)
def app(cause: str | None) -> None:
    """What CAUSE is, on the wire, what removes it and what that costs. Without CAUSE: all of them.

    \b
    Example:
      rollsim explain stale_endpoint_silent
    """
    for each in [Cause(cause)] if cause else list(Cause):
        explanation = EXPLANATIONS[each]
        click.echo(f"{each.value}")
        click.echo(f"  what happens  {explanation.happens}")
        click.echo(f"  change        {explanation.change}")
        click.echo(f"  costs         {explanation.costs}")
        click.echo(f"  source        {explanation.source}")
