"""What a calibration program measured, as CSV: a row for each run, its columns named by the first."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path


def write_rows(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write *rows*, at least one, to *path*."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of *path*, as they were written."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
