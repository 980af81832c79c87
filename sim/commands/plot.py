"""`rollsim plot OUT.parquet`."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from sim.errors import InputError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

EPILOG = """\b
examples
  rollsim plot out.parquet
  rollsim plot out.parquet --y p_zero --x load.connections --by load.keepAlive -o out.svg
  rollsim plot out.parquet --kind heat --where load.keepAlive=true
"""


@app.command(epilog=EPILOG)
def plot(
    *,
    sweep: Annotated[Path, typer.Argument(metavar="OUT.parquet", help="What `rollsim sweep` wrote.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="FILE", help="The picture (OUT.png).")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="lines|heat|points", help="Lines with interval bands, a heat map, a sample's points."
        ),
    ] = None,
    y: Annotated[
        str, typer.Option(help="failed, mean, p_zero, rollout_s, tool_failed, extra_pods, or a cause.")
    ] = "failed",
    x: Annotated[str | None, typer.Option(metavar="PATH", help="The parameter along the axis.")] = None,
    by: Annotated[
        str | None, typer.Option(metavar="PATH", help="The parameter by line, or along a map.")
    ] = None,
    where: Annotated[
        list[str], typer.Option(metavar="PATH=VALUE", help="Hold a parameter; may be repeated.")
    ] = [],  # noqa: B006 - typer's way
) -> None:
    """Draw a sweep: lines with interval bands, a heat map, or the points of a sample."""
    if find_spec("pyarrow") is None:
        raise InputError("this needs pyarrow: pip install 'rollsim[sweep]'")
    from sim.files import save_figure  # noqa: PLC0415 - heavy
    from sim.scenario.overrides import split_path  # noqa: PLC0415
    from sim.sweep.pictures import KINDS, plot_sweep  # noqa: PLC0415

    if kind is not None and kind not in KINDS:
        raise InputError(f"--kind {kind}: allowed: {', '.join(KINDS)}")
    figure = plot_sweep(sweep, kind=kind, y=y, x=x, by=by, where=dict(split_path(text) for text in where))
    file = out or sweep.with_suffix(".png")
    if file == sweep:
        raise InputError(f"-o {file}: is the sweep itself")
    save_figure(file, figure, option="-o")
    print(file)
