"""What a prediction says to a person."""

from io import StringIO
from typing import Any

from rich.console import Console
from rich.markup import escape

from sim.prediction import Prediction
from sim.validated import nearness


def told(prediction: Prediction) -> str:
    """The same as plain text."""
    out = StringIO()
    tell(prediction, Console(file=out, highlight=False, soft_wrap=True, width=120, no_color=True))
    return out.getvalue()


def tell(prediction: Prediction, console: Console) -> None:
    """Counts by cause with intervals, P(none fails), rollout time, the first thing to change."""
    facts = prediction.to_json()
    failed, rollout = facts["failed"], facts["rollout_s"]
    low, high = failed["interval95"]
    zero_low, zero_high = prediction.p_zero_interval
    console.print(
        f"[bold]{escape(facts['scenario'])}[/bold]  ({facts['runs']} simulated rollouts, seed {facts['seed']})"
    )
    console.print(
        f"  failed requests   {failed['median']:.0f} (95 %: {low:.0f} to {high:.0f}) "
        f"of {facts['requests']['mean']:,.0f}"
    )
    console.print(f"  P(none fails)     {prediction.p_zero:.2f} ({zero_low:.2f} to {zero_high:.2f})")
    _tell_tool(facts["tool"], console)
    if rollout is not None:
        console.print(
            f"  rollout           {rollout['median']:.1f} s (95 %: {rollout['interval95'][0]:.1f} "
            f"to {rollout['interval95'][1]:.1f})"
        )
    if facts["rollout_incomplete"] > 0:
        console.print(
            f"  [bold]rollout never complete in {facts['rollout_incomplete']:.0%} of the runs[/bold]"
        )
    for cause, mean in facts["causes"].items():
        console.print(f"    {mean:10.1f}  {cause}")
    if facts["steady"]["failed"]:
        console.print(f"  without update    {facts['steady']['failed']:.0f} fail all the same")
    console.print(f"  validated         {escape(str(nearness(prediction.scenario)))}")
    if facts["advice"]:
        console.print(f"  change first      {escape(facts['advice'])}")
    for warning in facts["warnings"]:
        console.print(f"  [yellow]warning[/yellow]           {escape(warning)}")
    console.print()


def _tell_tool(tool: dict[str, Any], console: Console) -> None:
    if tool["failed"] is None or tool["name"] == "plain":
        return
    low, high = tool["failed"]["interval95"]
    console.print(
        f"  as {tool['name']} prints it{'':{max(0, 6 - len(tool['name']))}} {tool['failed']['median']:.0f} "
        f"(95 %: {low:.0f} to {high:.0f})"
        + (f", ended by itself in {tool['aborted']:.0%} of the runs" if tool["aborted"] else "")
    )
