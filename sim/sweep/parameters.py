"""What a sweep varies: `PATH=v1,v2,…`, `PATH=lo..hi:n`, `PATH=lo..hi`, or several fields that move together.

- `a,b,c`: these values, each of them YAML; a comma inside `[]`, `{}` or quotes belongs to its value.
- `lo..hi:n`: n values from lo to hi, both included; `lo..hi:n:log` evenly spaced in their logarithm.
- `lo..hi`: of integers every one of them; in a sample anything in between.

Integers stay integers (rounded, none twice); `0.0..10:5` gives fractions. Both ends may have one unit:
`100ms..500ms:5`, `25%..100%:4`, `500/s..2000/s:4`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.documents import read_value
from sim.scenario.durations import shown
from sim.scenario.overrides import split_path
from sim.scenario.reader import one_line

MAX_VALUES: Final = 100_000
MOST: Final = 1e15
"""Of a number of a range: integers up to it are exact as floating-point numbers."""
_NUMBER: Final = r"[-+]?\d+(?:\.\d+)?"
_UNIT: Final = r"[A-Za-z%]*(?:/[a-z]+)?"
_RANGE: Final = re.compile(rf"({_NUMBER})({_UNIT})\.\.({_NUMBER})({_UNIT})(?::(\d+)(:log)?)?", re.ASCII)
_OPEN, _CLOSE = "[{", "]}"

Value = bool | int | float | str | None
"""How a value is kept in a table: a structure is kept as its JSON."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One value of a parameter: what it is called in the results, and the fields that it sets."""

    value: Value
    sets: tuple[tuple[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """Everything between two numbers, for a sample."""

    low: float
    high: float
    unit: str
    integer: bool

    def at(self, share: float) -> Value:
        """The value at *share* (0 ≤ share < 1) of the way."""
        if self.integer:
            return self.written(self.low + math.floor(share * (self.high - self.low + 1)))
        return self.written(self.low + share * (self.high - self.low))

    def written(self, number: float) -> Value:
        if self.unit:
            digits = f"{number:.9f}".rstrip("0").rstrip(".")
            return f"{digits}{self.unit}"
        return round(number) if self.integer else float(f"{number:.12g}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One thing that varies: a list of choices, or a span that a sample draws from."""

    name: str
    choices: tuple[Choice, ...] = ()
    span: Span | None = None

    def at(self, share: float) -> Choice:
        """The choice at *share* (0 ≤ share < 1) of the way."""
        if self.span is None:
            return self.choices[math.floor(share * len(self.choices))]
        return _choice(self.name, self.span.at(share))


def parse_parameter(text: str) -> Parameter:
    """From `PATH=VALUES` as it stands behind `-p`.

    Raises
    ------
    InputError
        It cannot be read; the line says where.
    """
    try:
        path, values = split_path(text)
        return parameter_of(path, values, f"-p {path}")
    except InputError as error:
        raise InputError(one_line(error).replace("--set ", "-p ", 1)) from None


def parameter_of(path: str, text: str, where: str) -> Parameter:
    """The parameter that sets the field *path* to what *text* lists."""
    items = _items(text, where)
    found = [_RANGE.fullmatch(item.strip()) for item in items]
    if len(items) == 1 and found[0] is not None and found[0][5] is None:
        span = _span(found[0], where)
        if not span.integer:
            return Parameter(name=path, span=span)
        n_values = round(span.high - span.low) + 1
        if n_values > MAX_VALUES:
            raise InputError(f"{where}: got {n_values} values, allowed are {MAX_VALUES}; write LO..HI:N")
        every = tuple(_choice(path, span.written(span.low + step)) for step in range(n_values))
        return Parameter(name=path, choices=every, span=span)
    values: list[Any] = []
    for item, match in zip(items, found, strict=True):
        values += [read_value(item, where)] if match is None else _steps(match, where)
    return listed(path, values, where)


def listed(path: str, values: Sequence[Any], where: str) -> Parameter:
    """The parameter that sets the field *path* to each of *values*.

    Raises
    ------
    InputError
        None at all, or one of them twice.
    """
    return together(path, [_choice(path, value) for value in values], where)


def together(name: str, choices: Sequence[Choice], where: str) -> Parameter:
    """A parameter of given choices, each of which may set several fields.

    Raises
    ------
    InputError
        None at all, or one of them twice.
    """
    if not choices:
        raise InputError(f"{where}: expected at least one value")
    seen: set[str] = set()
    for choice in choices:
        if (shown_as := json.dumps(choice.value)) in seen:
            raise InputError(f"{where}: {shown_as} stands twice")
        seen.add(shown_as)
    return Parameter(name=name, choices=tuple(choices))


def _choice(path: str, value: Any) -> Choice:
    plain = json.dumps(value, sort_keys=True) if isinstance(value, Mapping | list) else value
    return Choice(plain, ((path, value),))


def _items(text: str, where: str) -> list[str]:
    """*text* at its commas, those inside brackets or quotes left alone."""
    items: list[str] = []
    start, depth, quote, escaped, before = 0, 0, "", False, ""
    for at, character in enumerate(text):
        if quote:
            if character == quote and not escaped:
                quote = ""
            escaped = character == "\\" and quote == '"' and not escaped
        elif character in "\"'" and before in ("", *"[{,:"):
            quote = character  # inside a word it is a letter
        elif character in _OPEN:
            depth += 1
        elif character in _CLOSE:
            depth -= 1
        if character == "," and not quote and depth == 0:
            items.append(text[start:at])
            start, before = at + 1, ""
        elif not character.isspace():
            before = character
    items.append(text[start:])
    if quote or depth != 0:
        raise InputError(f"{where}: got {shown(text)}, which leaves {quote or 'a bracket'} open")
    if any(not item.strip() for item in items):
        raise InputError(f"{where}: got {shown(text)}, expected values between commas, or LO..HI:N")
    return items


def _span(match: re.Match[str], where: str) -> Span:
    low, low_unit, high, unit = match[1], match[2], match[3], match[4]
    if low_unit not in ("", unit):
        raise InputError(f"{where}: got {shown(match[0])}, expected the same unit at both ends")
    if max(abs(float(low)), abs(float(high))) > MOST:
        raise InputError(f"{where}: got {shown(match[0])}, expected numbers up to {MOST:g}")
    span = Span(low=float(low), high=float(high), unit=unit, integer="." not in low + high)
    if not span.low < span.high:
        raise InputError(f"{where}: got {shown(match[0])}, expected LO below HI")
    return span


def _steps(match: re.Match[str], where: str) -> list[Value]:
    span = _span(match, where)
    if match[5] is None:
        raise InputError(f"{where}: got {shown(match[0])} among others, expected LO..HI:N")
    digits, log = match[5].lstrip("0"), match[6] is not None
    n = int(digits) if 0 < len(digits) < 10 else 0
    if not 2 <= n <= MAX_VALUES:
        raise InputError(f"{where}: got {shown(match[0])}, expected from 2 to {MAX_VALUES} values")
    if log and span.low <= 0:
        raise InputError(f"{where}: got {shown(match[0])}, expected LO above 0 for a logarithm")
    low, high = (math.log(span.low), math.log(span.high)) if log else (span.low, span.high)
    numbers = [low + (high - low) * step / (n - 1) for step in range(n)]
    if log:
        numbers = [math.exp(number) for number in numbers]
    numbers[0], numbers[-1] = span.low, span.high
    if span.integer:
        numbers = [float(math.floor(number + 0.5)) for number in numbers]
    return list(dict.fromkeys(span.written(number) for number in numbers))
