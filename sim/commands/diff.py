"""`rollsim diff OLD NEW`, `rollsim diff SCENARIO --set …`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sim.errors import InputError

if TYPE_CHECKING:
    from sim.comparison import Change, Comparison

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EPILOG = """\b
examples
  rollsim diff old/scenario.yaml new/scenario.yaml
  rollsim diff scenario.yaml --set deployment/web.spec.strategy.rollingUpdate.maxUnavailable=0
"""


@app.command(epilog=EPILOG)
def diff(
    *,
    old: Annotated[Path, typer.Argument(help="A scenario.")],
    new: Annotated[
        Path | None, typer.Argument(help="Another one; without it OLD is held against itself with --set.")
    ] = None,
    sets: Annotated[
        list[str],
        typer.Option(
            "--set", metavar="PATH=VALUE", help="Override a field: of OLD for the other side, or of both."
        ),
    ] = [],  # noqa: B006 - typer's way
    runs: Annotated[int, typer.Option(min=2, max=1_000_000, help="Simulated rollouts of each.")] = 200,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One object.")] = False,
    processes: Annotated[int | None, typer.Option(min=1, help="Instead of one a core.")] = None,
) -> None:
    """What changes from one scenario to another, with common random numbers and intervals on the difference."""
    if new is None and not sets:
        raise InputError("nothing to compare: give NEW, or --set PATH=VALUE")
    from sim.comparison import compare  # noqa: PLC0415 - heavy
    from sim.progress import ends_quietly, progress_bar  # noqa: PLC0415
    from sim.sweep.api import sets_of  # noqa: PLC0415
    from sim.sweep.engines import engine  # noqa: PLC0415
    from sim.sweep.files import ScenarioFiles  # noqa: PLC0415
    from sim.sweep.replicate import replicate  # noqa: PLC0415

    changed = sets_of(sets)
    before = changed if new is not None else {}
    cases = [
        (ScenarioFiles.read(old, [before]), before),
        (ScenarioFiles.read(new or old, [changed]), changed),
    ]
    with (
        ends_quietly(),
        engine(n_workers=processes) as found,
        progress_bar("rollouts", 2 * runs) as progress,
    ):
        outcomes = replicate(cases, runs=runs, seed=seed, engine=found, progress=progress)
    comparison = compare(*outcomes)
    names = [str(old), str(new) if new is not None else f"with {' '.join(sets)}"]
    if as_json:
        print(json.dumps({"old": names[0], "new": names[1], "seed": seed, **comparison.to_json()}, indent=2))
    else:
        _print(comparison, names, seed)


def _print(found: "Comparison", names: list[str], seed: int) -> None:
    print(
        f"old  {names[0]}\nnew  {names[1]}\n({found.runs} simulated rollouts of each, seed {seed}, in pairs)\n"
    )
    print(f"{'':26}{'old':>12}{'new':>12}{'change':>12}   95 % interval")
    _line("failed requests (mean)", found.failed, "{:,.1f}")
    _line("P(none fails)", found.p_zero, "{:.3f}")
    if found.rollout_s is not None:
        _line("rollout, s (mean)", found.rollout_s, "{:.1f}")
    _line("requests (mean)", found.requests, "{:,.0f}")
    if found.extra_pods[0] != found.extra_pods[1]:
        print(f"{'extra pods (most)':26}{found.extra_pods[0]:>12}{found.extra_pods[1]:>12}")
    for name, change in found.causes.items():
        _line(f"  {name}", change, "{:,.1f}")
    print()
    if found.failed.is_clear:
        print(f"{'fewer' if found.failed.difference < 0 else 'more'} requests fail")
    else:
        print("no difference in failed requests is seen; more --runs would see a smaller one")


def _line(title: str, change: "Change", form: str) -> None:
    old, new = form.format(change.old), form.format(change.new)
    sign = "+" if change.difference >= 0 else ""
    print(
        f"{title:26}{old:>12}{new:>12}{sign + form.format(change.difference):>12}"
        f"   {form.format(change.low)} to {form.format(change.high)}"
    )
