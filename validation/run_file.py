"""The file of one kept run, as plain data of the declared types: gzipped JSON, checked before anything uses it."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import MISSING, Field
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, NoReturn, get_args, get_origin

from sim.errors import InputError
from sim.scenario.durations import shown

MAX_BYTES: Final = 20_000_000
"""Unpacked; the largest run so far has a hundredth of it."""
LARGEST: Final = 1e15


def read_run(path: Path, declared: tuple[Field[Any], ...]) -> dict[str, Any]:
    """The *declared* fields that the file has; failures as one mapping a row, lists as tuples.

    Raises
    ------
    InputError
        The file cannot be read, a field is missing or not of its type.
    """
    data = _unpacked(path)
    try:
        columns = data["failures"]["columns"]
        data["failures"] = [dict(zip(columns, row, strict=True)) for row in data["failures"]["rows"]]
    except (LookupError, TypeError, ValueError):
        raise InputError(f"{path}: failures: expected columns, and rows that are as long") from None
    ready: dict[str, Any] = {}
    for item in declared:
        if item.name in data:
            value = data[item.name]
            if not _fits(value, item.type):
                raise InputError(f"{path}: {item.name}: got {shown(value)}, expected {_name_of(item.type)}")
            ready[item.name] = tuple(value) if isinstance(value, list) else value
        elif item.default is MISSING and item.default_factory is MISSING:
            raise InputError(f"{path}: {item.name}: missing")
    interval = (ready.get("prediction") or {}).get("interval95") or [0, 0]
    if not isinstance(interval, list) or len(interval) != 2:
        raise InputError(f"{path}: prediction.interval95: got {shown(interval)}, expected two numbers")
    return ready


def _unpacked(path: Path) -> dict[str, Any]:
    try:
        with gzip.open(path) as stream:
            raw = stream.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{path}: cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{path}: larger than {MAX_BYTES // 1_000_000} MB unpacked, the most that is read")
    try:
        data = json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON: {error}") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: got {shown(data)}, expected a mapping")
    return data


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _fits(value: object, kind: Any) -> bool:
    """Whether a value out of JSON can be one of *kind*, as a field is declared."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return any(_fits(value, each) for each in inner)
    if origin is tuple:
        return isinstance(value, list) and all(_fits(each, inner[0]) for each in value)
    if origin is Mapping:
        return isinstance(value, dict) and all(_fits(each, inner[1]) for each in value.values())
    if kind is Any or value is None:
        return kind in (Any, NoneType)
    if kind in (int, float):
        number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
        return number and (kind is float or isinstance(value, int))
    return isinstance(value, kind)


def _name_of(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("collections.abc.", "")
