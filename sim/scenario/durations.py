"""Durations and rates as people write them in YAML: `300ms`, `5s`, `1m30s`, 1.5; `500/s`; distributions."""

import itertools
import json
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final

from sim.errors import InputError
from sim.scenario.distributions import Constant, Distribution, Empirical, Exponential, LogNormal, Uniform

_UNITS_S: Final = {
    "us": Decimal("1e-6"),
    "ms": Decimal("1e-3"),
    "s": Decimal(1),
    "m": Decimal(60),
    "h": Decimal(3600),
}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h)", re.ASCII)
_RATE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*/\s*(s|m|h)", re.ASCII)
_LARGEST: Final = 1e12
"""Seconds, or requests a second: beyond any use, and small enough to be added up exactly to microseconds."""
_SHOWN: Final = 60

_DURATION: Final = "a duration such as 300ms, 5s, 1m30s, or a number of seconds"
_DISTRIBUTION: Final = (
    "a duration, or one of {uniform: [MIN, MAX]}, {exponential: MEAN}, {lognormal: {median: M, p95: P}}, "
    "{quantiles: [Q0, ..., Q100]}"
)


def shown(value: object) -> str:
    """*value* as it is quoted in a message: one line, short."""
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=False)
    elif isinstance(value, bool):
        text = "true" if value else "false"
    elif value is None:
        text = "nothing"
    else:
        text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def parse_duration(value: object, where: str) -> float:
    """Seconds of `300ms`, `5s`, `1m30s`, or of a plain number (seconds). Never negative.

    Raises
    ------
    InputError
        Anything else; a text without a unit too.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
        return float(value)
    if isinstance(value, str):
        text = value.strip()
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            seconds = float(sum(Decimal(number) * _UNITS_S[unit] for number, unit in parts))
            if seconds <= _LARGEST:
                return seconds
    raise InputError(f"{where}: got {shown(value)}, expected {_DURATION}")


def parse_rate(value: object, where: str) -> float:
    """Requests per second of `500/s`, `30000/m`, or of a plain number (per second). Positive.

    Raises
    ------
    InputError
        Anything else.
    """
    rate = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _LARGEST:
        rate = float(value)
    elif isinstance(value, str) and (match := _RATE.fullmatch(value.strip())):
        rate = float(Decimal(match[1]) / _UNITS_S[match[2]])
    if not 0 < rate <= _LARGEST:
        raise InputError(f"{where}: got {shown(value)}, expected a positive rate such as 500/s")
    return rate


def parse_distribution(value: object, where: str) -> Distribution:
    """A duration that varies: a constant, or a mapping with the name of its distribution.

    Raises
    ------
    InputError
        Neither, or parameters that name no distribution (an upper bound below the lower one).
    """
    if not isinstance(value, Mapping):
        try:
            return Constant(value_s=parse_duration(value, where))
        except InputError:
            raise InputError(f"{where}: got {shown(value)}, expected {_DISTRIBUTION}") from None
    if len(value) != 1:
        raise InputError(f"{where}: got {shown(dict(value))}, expected {_DISTRIBUTION}")
    ((name, given),) = value.items()
    field = f"{where}.{name}"
    match name:
        case "constant":
            return Constant(value_s=parse_duration(given, field))
        case "uniform":
            low, high = _ascending(given, field, exactly=2)
            return Uniform(min_s=low, max_s=high)
        case "exponential":
            return Exponential(scale_s=parse_duration(given, field))
        case "lognormal":
            return _lognormal(given, field)
        case "quantiles":
            return Empirical(quantiles_s=_ascending(given, field))
    raise InputError(f"{where}: got {shown(name)}, expected {_DISTRIBUTION}")


def _lognormal(given: object, where: str) -> Distribution:
    if not isinstance(given, Mapping) or set(given) != {"median", "p95"}:
        raise InputError(f"{where}: got {shown(given)}, expected {{median: DURATION, p95: DURATION}}")
    median_s = parse_duration(given["median"], f"{where}.median")
    p95_s = parse_duration(given["p95"], f"{where}.p95")
    if not 0 < median_s <= p95_s:
        raise InputError(
            f"{where}: got median {median_s:g} s and p95 {p95_s:g} s, expected 0 < median <= p95"
        )
    return LogNormal(median_s=median_s, p95_s=p95_s)


def _ascending(given: object, where: str, exactly: int | None = None) -> tuple[float, ...]:
    count = "two" if exactly else "at least two"
    if not isinstance(given, list | tuple) or len(given) < 2 or (exactly and len(given) != exactly):
        raise InputError(f"{where}: got {shown(given)}, expected a list of {count} durations")
    values = tuple(parse_duration(item, f"{where}[{index}]") for index, item in enumerate(given))
    if any(later < earlier for earlier, later in itertools.pairwise(values)):
        raise InputError(f"{where}: got {shown(given)}, expected durations that never go down")
    return values
