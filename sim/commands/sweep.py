"""`rollsim sweep SCENARIO -p PATH=VALUES … -o OUT.parquet`."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sim.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from sim.sweep.plan import Plan
    from sim.sweep.sweep_file import Request

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

MOST_SHOWN = 30
"""Points in the table that is printed."""
EPILOG = """\b
examples
  rollsim sweep app.yaml -p load.connections=1,10,100 -o out.parquet
  rollsim sweep app.yaml -p deployment/web.spec.template.spec.terminationGracePeriodSeconds=5..60:12
      -p load.keepAlive=true,false --until interval:2 -o out.parquet
  rollsim sweep app.yaml -p load.connections=1..200 -p load.thinkTime=1ms..1000ms --sample sobol:256 -o out.parquet
  rollsim sweep sweep.yaml -o out.parquet --scheduler tcp://10.0.0.1:8786
"""


@app.command(epilog=EPILOG)
def sweep(
    *,
    scenario: Annotated[
        Path | None, typer.Argument(help="The scenario, or a sweep file that names one.")
    ] = None,
    parameters: Annotated[
        list[str],
        typer.Option(
            "-p",
            "--parameter",
            metavar="PATH=VALUES",
            help="What varies: v1,v2,… or LO..HI:N (:log), in a sample LO..HI; may be repeated.",
        ),
    ] = [],  # noqa: B006 - typer's way
    file: Annotated[Path | None, typer.Option("-f", "--file", help="A sweep file (kind: Sweep).")] = None,
    sets: Annotated[
        list[str], typer.Option("--set", metavar="PATH=VALUE", help="Override a field at every point.")
    ] = [],  # noqa: B006
    sample: Annotated[
        str | None,
        typer.Option(metavar="sobol:N|random:N", help="Draw N points instead of every combination."),
    ] = None,
    runs: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Simulated rollouts of each point (100).")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(
            metavar="interval:W",
            help="Instead of --runs: until the 95 % interval of the mean is W requests wide "
            "(p_zero:W: of the share without a failure).",
        ),
    ] = None,
    max_runs: Annotated[
        int, typer.Option(min=20, max=1_000_000, help="The most that --until runs.")
    ] = 10_000,
    seed: Annotated[int | None, typer.Option(min=0)] = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="OUT.parquet", help="One row a rollout.")],
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Use the Dask cluster there.")
    ] = None,
    processes: Annotated[int | None, typer.Option(min=1, help="Instead of one a core.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what OUT.parquet holds.")] = False,
) -> None:
    """Predict many points of one scenario, with common random numbers, into a Parquet file.

    Ctrl-C keeps what is done, and the same command again goes on from there.
    """
    _need("pyarrow")
    from sim.progress import progress_bar  # noqa: PLC0415 - heavy
    from sim.sweep.api import plan_of  # noqa: PLC0415
    from sim.sweep.engines import engine  # noqa: PLC0415
    from sim.sweep.run import run  # noqa: PLC0415

    if scheduler is not None and processes is not None:
        raise InputError("--processes: the cluster of --scheduler has its own workers")
    request = _request(scenario, file, parameters, sets, sample, runs, until, max_runs, seed)
    if request.sample is not None and request.sample.kind == "sobol":
        _need("scipy")
    plan = plan_of(request)
    with (
        _ends_by_signal(out),
        engine(scheduler, processes) as found,
        progress_bar("points", plan.n_points) as show,
    ):
        run(plan, out, found, overwrite=overwrite, progress=lambda done: show(done / plan.units_per_point))
    _report(plan, out)


def _need(library: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec(library) is None:
        raise InputError(f"this needs {library}: pip install 'rollsim[sweep]'")


def _request(
    scenario: Path | None,
    file: Path | None,
    parameters: list[str],
    sets: list[str],
    sample: str | None,
    runs: int | None,
    until: str | None,
    max_runs: int,
    seed: int | None,
) -> "Request":
    from sim.sweep.api import sets_of  # noqa: PLC0415
    from sim.sweep.parameters import parse_parameter  # noqa: PLC0415
    from sim.sweep.sweep_file import (  # noqa: PLC0415
        Request,
        is_sweep_file,
        parse_sample,
        parse_until,
        read_sweep_file,
    )

    if runs is not None and until is not None:
        raise InputError("--until: give --runs or --until, not both")
    if file is None and scenario is not None and is_sweep_file(scenario):
        scenario, file = None, scenario
    line = Request(
        scenario=None if scenario is None else str(scenario),
        sets=sets_of(sets),
        parameters=tuple(parse_parameter(text) for text in parameters),
        sample=None if sample is None else parse_sample(sample),
        runs=runs,
        until=None if until is None else parse_until(until, max_runs),
        seed=seed,
    )
    names = [parameter.name for parameter in line.parameters]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"-p {twice}: stands twice")
    request = line if file is None else read_sweep_file(file).under(line)
    if request.scenario is None:
        raise InputError(f"{file or 'SCENARIO'}: names no scenario; give one: rollsim sweep SCENARIO …")
    return request


# ---------------------------------------------------------------- while it runs


@contextmanager
def _ends_by_signal(out: Path) -> Iterator[None]:
    """SIGTERM ends a sweep as Ctrl-C does: what is done is kept."""

    def end(number: int, _frame: Any) -> None:
        raise _Ended(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    except (KeyboardInterrupt, _Ended) as ended:
        number = ended.number if isinstance(ended, _Ended) else signal.SIGINT
        print(f"stopped; what is done is kept in {out}.parts: the same command goes on", file=sys.stderr)
        sys.exit(128 + number)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Ended(BaseException):
    def __init__(self, number: int) -> None:
        self.number = number


# ---------------------------------------------------------------- when it is done


def _report(plan: "Plan", out: Path) -> None:
    import pyarrow.parquet as pq  # noqa: PLC0415

    from sim.sweep.summary import impossible, summary  # noqa: PLC0415

    n_bad, first = impossible(out)
    if n_bad == plan.n_points:
        raise InputError(f"no point is possible: {first}")
    n_rows = pq.read_metadata(out).num_rows - n_bad
    if plan.n_points <= MOST_SHOWN:
        _table(summary(out), [parameter.name for parameter in plan.parameters])
    print(f"{out}: {plan.n_points:,} points, {n_rows:,} simulated rollouts")
    if n_bad:
        print(f"{n_bad:,} of these points are impossible, the first: {first}", file=sys.stderr)


def _table(points: "pd.DataFrame", names: list[str]) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        table.add_column(name.rpartition(".")[2] if names.count(name) == 1 else name)
    for title in ("failed", "95 %", "P(none fails)", "rollout s"):
        table.add_column(title, justify="right")
    for point in points.to_dict("records"):
        shown = [_shown(point[name]) for name in names]
        if point["runs"] == 0:
            table.add_row(*shown, "impossible", "", "", "")
            continue
        table.add_row(
            *shown,
            f"{point['failed']:,.0f}",
            f"{point['failed_low95']:,.0f} to {point['failed_high95']:,.0f}",
            f"{point['p_zero']:.2f}",
            f"{point['rollout_s']:.1f}",
        )
    Console(highlight=False, soft_wrap=True).print(table)


def _shown(value: object) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN: how pandas keeps null
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value)
