"""`sim.sweep`: a sweep from Python, for notebooks."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sim.scenario.overrides import Overrides
from sim.sweep.engines import engine
from sim.sweep.files import ScenarioFiles
from sim.sweep.parameters import Choice, Parameter, listed, parameter_of, together
from sim.sweep.plan import Plan, variants
from sim.sweep.sweep_file import Request, parse_sample, parse_until
from sim.sweep.unit import MAX_RUNS

if TYPE_CHECKING:
    import pandas as pd

DEFAULT_RUNS = 100

Values = str | Sequence[Any] | Mapping[str, Mapping[str, Any]]


def sweep(
    scenario: Path | str,
    parameters: Mapping[str, Values],
    *,
    sets: Sequence[str] | Mapping[str, Any] = (),
    sample: str | None = None,
    runs: int = DEFAULT_RUNS,
    until: str | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    scheduler: str | None = None,
    processes: int | None = None,
) -> "pd.DataFrame":
    """Replicate *scenario* at every point and sum up each of them.

    Parameters
    ----------
    scenario : path
    parameters : mapping
        Path of a field → its values: a list, or a text as behind `rollsim sweep -p` (`0..10:5`). Or a name →
        {label: {path: value, …}}, for fields that move together.
    sets : overrides of every point
    sample : `sobol:N` or `random:N`; without it every combination
    runs : int
        Replications of each point; *until* (`interval:W`, `p_zero:W`) instead of it.
    out : path, optional
        Where the rows are kept, one a replication; a sweep that was interrupted goes on from there.
    scheduler : address of a Dask scheduler; without it *processes* of this machine (default: one a core)

    Returns
    -------
    DataFrame
        One row a point, see `sim.sweep.summary.summary`.

    Raises
    ------
    InputError
        As the command.
    """
    from sim.sweep.run import run  # noqa: PLC0415 - needs pyarrow; whoever asks for `sets_of` does not
    from sim.sweep.summary import summary  # noqa: PLC0415

    request = Request(
        scenario=str(scenario),
        sets=sets if isinstance(sets, Mapping) else sets_of(sets),
        parameters=tuple(_parameter(name, values) for name, values in parameters.items()),
        sample=None if sample is None else parse_sample(sample, "sample"),
        runs=None if until else runs,
        until=None if until is None else parse_until(until, MAX_RUNS, "until"),
        seed=seed,
    )
    plan = plan_of(request)
    with tempfile.TemporaryDirectory() as folder, engine(scheduler, processes) as found:
        path = Path(folder, "sweep.parquet") if out is None else Path(out)
        run(plan, path, found)
        return summary(path)


def sets_of(texts: Sequence[str]) -> dict[str, Any]:
    """`PATH=VALUE` texts as a mapping; a later one for the same path counts."""
    return {item.path: item.value for item in Overrides.parse(texts).items}


def plan_of(request: Request) -> Plan:
    """The plan of a request that names a scenario.

    Raises
    ------
    InputError
        The scenario cannot be read.
    """
    assert request.scenario is not None
    return Plan(
        files=ScenarioFiles.read(request.scenario, list(variants(request.sets, request.parameters))),
        sets=request.sets,
        parameters=request.parameters,
        sample=request.sample,
        runs=request.runs or DEFAULT_RUNS,
        until=request.until,
        seed=request.seed or 0,
    )


def _parameter(name: str, values: Values) -> Parameter:
    if isinstance(values, str):
        return parameter_of(name, values, name)
    if isinstance(values, Mapping):
        return together(name, [Choice(label, tuple(each.items())) for label, each in values.items()], name)
    return listed(name, list(values), name)
