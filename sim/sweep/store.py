"""A sweep on disk: parts while it runs, one Parquet file when it is done. One row a replication.

`OUT.parts/KEY/units-FIRST-LAST.parquet` holds the rows of those units and no others. Every file is written
aside, synced and renamed, so a name that is there stands for a whole file; KEY is a hash of all that decides
the rows, so parts of another scenario, sweep or model are never taken for this one's.
"""

import fcntl
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sim.errors import InputError
from sim.files import set_aside
from sim.sweep.parameters import Value
from sim.sweep.plan import Plan
from sim.sweep.unit import CAUSES, Outcomes

METADATA: Final = b"rollsim"
ROWS_PER_GROUP: Final = 50_000
_PART: Final = re.compile(r"units-(\d+)-(\d+)\.parquet")
_COUNTS: Final = (
    ("replication", pa.int64()),
    ("requests", pa.int64()),
    ("failed", pa.int64()),
    ("retried", pa.int64()),
    ("tool_failed", pa.float64()),
    ("tool_aborted", pa.bool_()),
    ("rollout_s", pa.float64()),
    ("ended_too_soon", pa.bool_()),
    ("extra_pods", pa.int64()),
)
OWN_COLUMNS: Final = frozenset({"point", "error", *(name for name, _ in _COUNTS), *CAUSES})


def schema_of(plan: Plan) -> pa.Schema:
    """`point`, a column for each parameter, counts, a column for each cause, and `error` (else null)."""
    return pa.schema(
        [
            ("point", pa.int64()),
            *(
                (p.name, _type([choice.value for choice in p.choices] or [p.at(0.5).value]))
                for p in plan.parameters
            ),
            *_COUNTS,
            *((cause, pa.int64()) for cause in CAUSES),
            ("error", pa.string()),
        ],
        metadata={METADATA: json.dumps({**plan.description, "key": plan.key}).encode()},
    )


def description_of(path: Path) -> dict[str, Any]:
    """What was swept into the file at *path*.

    Raises
    ------
    InputError
        It is no Parquet file, or not one of a sweep.
    """
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {' '.join(str(error).split())}") from None
    if METADATA not in metadata:
        raise InputError(f"{path}: was not written by `rollsim sweep`")
    found: dict[str, Any] = json.loads(metadata[METADATA])
    return found


@dataclass
class Store:
    """The parts of one plan, and its file when they are all there."""

    plan: Plan
    out: Path
    schema: pa.Schema
    done: NDArray[np.bool_]
    """By unit."""
    complete: bool = False
    """The file is there already."""

    # ------------------------------------------------------------ writing parts

    def write(self, finished: Mapping[int, Outcomes]) -> None:
        """Keep the rows of *finished* units: each run of neighbours becomes a part.

        Raises
        ------
        InputError
            The disk takes no more.
        """
        for first, last in _runs(sorted(finished)):
            units = range(first, last + 1)
            with self._aside(self.parts / f"units-{first}-{last}.parquet") as aside:
                pq.write_table(self._rows(units, [finished[unit] for unit in units]), aside)
            self.done[first : last + 1] = True

    def finish(self) -> None:
        """Join the parts into the file, row for row in the order of points and replications.

        Raises
        ------
        InputError
            The disk takes no more.
        """
        with self._aside(self.out) as aside, pq.ParquetWriter(aside, self.schema) as writer:
            for table in _regrouped(self._in_order(), ROWS_PER_GROUP):
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        self.remove_parts()

    def remove_parts(self) -> None:
        """What the file holds is not kept twice."""
        for part in self.parts.glob("*"):
            part.unlink(missing_ok=True)
        for folder in (self.parts, self.parts.parent):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()

    @property
    def parts(self) -> Path:
        return self.out.with_name(f"{self.out.name}.parts") / self.plan.key

    @contextmanager
    def _aside(self, path: Path) -> Iterator[Path]:
        try:
            with set_aside(path) as aside:
                yield aside
        except OSError as error:
            raise InputError(f"{path}: cannot be written: {error.strerror or error}") from None

    # ------------------------------------------------------------ rows

    def _rows(self, units: Sequence[int], outcomes: Sequence[Outcomes]) -> pa.Table:
        """The rows of neighbouring units; of an impossible point one row that says why."""
        tables = []
        pairs = zip(units, outcomes, strict=True)
        for error, some in groupby(pairs, key=lambda pair: pair[1].error):
            kept = list(some)
            if error is None:
                tables.append(self._counted(*zip(*kept, strict=True)))
            else:
                tables.append(self._impossible([unit for unit, _ in kept], error))
        return pa.concat_tables(tables)

    def _counted(self, units: Sequence[int], outcomes: Sequence[Outcomes]) -> pa.Table:
        columns = self._point_columns(units, [each.n for each in outcomes])
        for name, kind in _COUNTS:
            values = np.concatenate([getattr(each, name) for each in outcomes])
            columns[name] = pa.array(values, kind, from_pandas=True)  # NaN is null
        causes = np.concatenate([each.causes for each in outcomes])
        columns |= {cause: causes[:, index] for index, cause in enumerate(CAUSES)}
        columns["error"] = pa.nulls(len(causes), pa.string())
        return pa.table(columns, schema=self.schema)

    def _impossible(self, units: Sequence[int], error: str) -> pa.Table:
        firsts = [unit for unit in units if unit % self.plan.units_per_point == 0]
        columns = self._point_columns(firsts, [1] * len(firsts))
        for name, kind in (*_COUNTS, *((cause, pa.int64()) for cause in CAUSES)):
            columns[name] = pa.nulls(len(firsts), kind)
        columns["error"] = [error] * len(firsts)
        return pa.table(columns, schema=self.schema)

    def _point_columns(self, units: Sequence[int], lengths: Sequence[int]) -> dict[str, Any]:
        points = [self.plan.point_of(unit) for unit in units]
        chosen = [self.plan.point(point) for point in points]
        columns: dict[str, Any] = {"point": np.repeat(np.array(points, dtype=np.int64), lengths)}
        for index, parameter in enumerate(self.plan.parameters):
            kind = self.schema.field(parameter.name).type
            values = [
                _stored(choices[index].value, kind)
                for choices, n in zip(chosen, lengths, strict=True)
                for _ in range(n)
            ]
            columns[parameter.name] = pa.array(values, kind)
        return columns

    def _in_order(self) -> Iterator[pa.Table]:
        for _, _, path in sorted(_parts_in(self.parts)):
            yield pq.read_table(path)


@contextmanager
def store(plan: Plan, out: Path, *, overwrite: bool = False) -> Iterator[Store]:
    """The store of *plan* for the file *out*, for this process alone.

    Raises
    ------
    InputError
        *out* holds something else, its folder is missing, or another process is writing it.
    """
    if taken := next((p.name for p in plan.parameters if p.name in OWN_COLUMNS), None):
        raise InputError(f"-p {taken}: is a column of the results; name the parameter otherwise")
    schema = schema_of(plan)
    found = Store(plan=plan, out=out, schema=schema, done=np.zeros(plan.n_units, dtype=np.bool_))
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out}: expected the name of a file in a folder that exists")
    if out.exists() and not overwrite and description_of(out)["key"] == plan.key:
        found.done[:] = found.complete = True
        found.remove_parts()  # a process killed before it came to that
        yield found
        return
    if out.exists() and not overwrite:
        raise InputError(
            f"{out}: holds another sweep, or one of other files or another model; name another file, or --overwrite"
        )
    try:
        found.parts.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{found.parts}: cannot be written: {error.strerror}") from None
    with _locked(found.parts / "lock", out):
        for left in found.parts.glob(".*.unfinished"):
            left.unlink()
        for first, last, _ in _parts_in(found.parts):
            found.done[first : last + 1] = True
        yield found


@contextmanager
def _locked(path: Path, out: Path) -> Iterator[None]:
    with path.open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"{out}: another process is at this very sweep") from None
        yield


def _parts_in(folder: Path) -> Iterator[tuple[int, int, Path]]:
    """(first unit, last unit, file) of each part."""
    for path in folder.iterdir():
        if match := _PART.fullmatch(path.name):
            yield int(match[1]), int(match[2]), path


def _runs(units: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Neighbours together, as (first, last)."""
    first = last = None
    for unit in units:
        if first is None or last is None:
            first = last = unit
        elif unit == last + 1:
            last = unit
        else:
            yield first, last
            first = last = unit
    if first is not None and last is not None:
        yield first, last


def _regrouped(tables: Iterator[pa.Table], size: int) -> Iterator[pa.Table]:
    """The same rows in tables of *size* rows, so that the file does not depend on how its parts were cut."""
    kept: list[pa.Table] = []
    n_kept = 0
    for table in tables:
        kept.append(table)
        n_kept += table.num_rows
        while n_kept >= size:
            together = pa.concat_tables(kept)
            yield together.slice(0, size).combine_chunks()
            kept, n_kept = [together.slice(size)], n_kept - size
    if n_kept:
        yield pa.concat_tables(kept).combine_chunks()


def _type(values: Sequence[Value]) -> pa.DataType:
    """The column for *values*; what is not of one kind is kept as text."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return pa.bool_()
    if kinds == {int}:
        return pa.int64()
    return pa.float64() if kinds and kinds <= {int, float} else pa.string()


def _stored(value: Value, kind: pa.DataType) -> Value:
    if value is None or kind != pa.string():
        return value
    return value if isinstance(value, str) else json.dumps(value)
