"""Typed access to a YAML mapping that knows where it stands: a complaint is one line with file and field."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final, TypeVar

from sim.errors import InputError, UnsupportedInput
from sim.scenario.distributions import Distribution
from sim.scenario.durations import parse_distribution, parse_duration, shown

_E = TypeVar("_E", bound=Enum)

_REQUIRED: Final[Any] = object()
INT32: Final = 2**31 - 1
INT64: Final = 2**63


def one_line(message: object) -> str:
    """A message that holds somebody else's words, without their line breaks."""
    return " ".join(str(message).split())


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands: file, document in it, path of the field."""

    file: str
    document: str = ""
    path: str = ""

    def field(self, key: str) -> "Place":
        name = key if key.replace("-", "").replace("_", "").isalnum() else shown(key)
        return replace(self, path=f"{self.path}.{name}" if self.path else name)

    def item(self, index: int) -> "Place":
        return replace(self, path=f"{self.path}[{index}]")

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.document, self.path) if part)


class Fields:
    """One mapping of a document. Reading marks a key as known; `finish` refuses the others.

    A key whose value is null counts as absent, as it does for the API server. Every method raises
    `InputError` where the value has the wrong type or lies outside what is allowed.
    """

    def __init__(self, data: object, place: Place, warnings: list[str]) -> None:
        if not isinstance(data, Mapping):
            raise InputError(f"{place}: got {shown(data)}, expected a mapping")
        self.place = place
        self.warnings = warnings
        self.data: Mapping[str, Any] = data
        self._known: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return self.data.get(key) is not None

    def given(self) -> list[str]:
        """The keys that have a value."""
        return [key for key in self.data if key in self]

    # ------------------------------------------------------------ complaints

    def error(self, key: str, message: str) -> InputError:
        return InputError(one_line(f"{self.place.field(key)}: {message}"))

    def fault(self, message: str) -> InputError:
        """A complaint about the mapping as a whole."""
        return InputError(one_line(f"{self.place}: {message}"))

    def unsupported(self, key: str, message: str) -> UnsupportedInput:
        return UnsupportedInput(one_line(f"{self.place.field(key)}: {message}"))

    def warn(self, key: str, message: str) -> None:
        note = one_line(f"{self.place.field(key)}: {message}")
        if note not in self.warnings:
            self.warnings.append(note)

    def finish(
        self,
        *,
        ignored: Iterable[str] = (),
        refused: Mapping[str, str] | None = None,
        only: str = "known fields",
    ) -> None:
        """Every key must have been read, or be in *ignored*; those in *refused* get its reason."""
        ignored = frozenset(ignored)
        for key in self.given():
            if refused and key in refused:
                raise self.unsupported(key, f"not modelled: {refused[key]}")
        for key in self.data:
            if key in self._known or key in ignored:
                continue
            names = sorted(self._known | ignored | set(refused or ()))
            close = difflib.get_close_matches(str(key), names, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise self.error(str(key), f"unknown field; {hint}{only}: {', '.join(names)}")

    # ------------------------------------------------------------ values

    def raw(self, key: str, default: Any = None) -> Any:
        self._known.add(key)
        value = self.data.get(key)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise self.error(key, "missing")
        return default

    def text(self, key: str, default: Any = _REQUIRED, *, allowed: Iterable[str] = ()) -> Any:
        value = self.raw(key, default)
        if value is default:
            return value
        if not isinstance(value, str):
            raise self.error(key, f"got {shown(value)}, expected a text (in quotes)")
        if (options := list(allowed)) and value not in options:
            raise self.error(key, f"got {shown(value)}, allowed: {', '.join(options)}")
        return value

    def integer(
        self, key: str, default: Any = _REQUIRED, *, least: int | None = None, most: int | None = None
    ) -> Any:
        value = self.raw(key, default)
        if value is default:
            return value
        allowed = "an integer" + _bounds(least, most)
        if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= INT64:
            raise self.error(key, f"got {shown(value)}, expected {allowed}")
        if (least is not None and value < least) or (most is not None and value > most):
            raise self.error(key, f"got {value}, expected {allowed}")
        return value

    def flag(self, key: str, default: Any = _REQUIRED) -> Any:
        value = self.raw(key, default)
        if value is not default and not isinstance(value, bool):
            raise self.error(key, f"got {shown(value)}, expected true or false")
        return value

    def choice(self, key: str, kind: type[_E], default: Any = _REQUIRED) -> Any:
        options = [member.value for member in kind]
        value = self.text(
            key, default if default is _REQUIRED or default is None else default.value, allowed=options
        )
        return None if value is None else kind(value)

    def duration_s(self, key: str, default: Any = _REQUIRED, *, least_s: float = 0.0) -> Any:
        value = self.raw(key, default)
        if value is default:
            return value
        seconds = parse_duration(value, str(self.place.field(key)))
        if seconds < least_s:
            raise self.error(key, f"got {shown(value)}, expected at least {least_s:g} s")
        return seconds

    def distribution(self, key: str, default: Distribution) -> Distribution:
        value = self.raw(key)
        return default if value is None else parse_distribution(value, str(self.place.field(key)))

    # ------------------------------------------------------------ structure

    def mapping(self, key: str) -> "Fields | None":
        value = self.raw(key)
        return None if value is None else Fields(value, self.place.field(key), self.warnings)

    def required(self, key: str) -> "Fields":
        return Fields(self.raw(key, _REQUIRED), self.place.field(key), self.warnings)

    def entries(self, key: str, *, least: int = 0) -> "list[Fields]":
        """The mappings of a list; an absent key is an empty list."""
        place = self.place.field(key)
        values = self._list(key, least)
        return [Fields(value, place.item(index), self.warnings) for index, value in enumerate(values)]

    def texts(self, key: str, *, least: int = 0) -> tuple[str, ...]:
        """The texts of a list; an absent key is an empty list."""
        values = self._list(key, least)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise InputError(
                    f"{self.place.field(key).item(index)}: got {shown(value)}, expected a text (in quotes)"
                )
        return tuple(values)

    def strings(self, key: str) -> dict[str, str]:
        """A mapping of texts (labels, data); an absent key is an empty one."""
        fields = self.mapping(key)
        return {} if fields is None else {name: fields.text(name, "") for name in fields.data}

    def _list(self, key: str, least: int) -> list[Any]:
        value = self.raw(key, [])
        if not isinstance(value, list):
            raise self.error(key, f"got {shown(value)}, expected a list")
        if len(value) < least:
            raise self.error(
                key, f"got {'an empty list' if key in self else 'nothing'}, expected at least {least} item"
            )
        return value


def _bounds(least: int | None, most: int | None) -> str:
    if least is not None and most == INT32:
        return f" of at least {least} in 32 bits"
    if least is not None and most is not None:
        return f" from {least} to {most}"
    if least is not None:
        return f" of at least {least}"
    return f" of at most {most}" if most is not None else ""
