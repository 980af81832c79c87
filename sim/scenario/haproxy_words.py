"""The lines of a haproxy.cfg as words, and their values as HAProxy reads them.

Quoting, escapes and environment follow HAProxy 2.6 `src/tools.c` (`parse_line`) and configuration.txt 2.2
and 2.3; times follow 2.5.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from sim.errors import InputError, UnsupportedInput
from sim.scenario.conf_text import check_text

_ESCAPES: Final = {
    " ": " ",
    "\\": "\\",
    "t": "\t",
    "n": "\n",
    "r": "\r",
    "#": "#",
    "'": "'",
    '"': '"',
    "$": "$",
}
_VARIABLE: Final = re.compile(r"(?P<brace>\{)?(?P<name>\.?[A-Za-z_]\w*)(?P<spread>\[\*\])?", re.ASCII)
_MAX_WORDS: Final = 64  # MAX_LINE_ARGS
_MAX_FROM_VARIABLES: Final = 100_000
"""Characters that variables may add to one line: `setenv A "$A$A"` doubles with every line."""
_MAX_TIME_MS: Final = 2**31 - 1
_UNITS_MS: Final = {"us": 0.001, "ms": 1.0, "s": 1e3, "m": 60e3, "h": 3600e3, "d": 86400e3}
_NEGATABLE_IN_GLOBAL: Final = frozenset(
    {"log", "busy-polling", "set-dumpable", "strict-limits", "insecure-fork-wanted", "numa-cpu-mapping"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line that says something."""

    words: tuple[str, ...]
    number: int
    where: str
    negated: bool = False
    """It began with `no`."""
    reset: bool = False
    """It began with `default`."""

    @property
    def name(self) -> str:
        return self.words[0]

    @property
    def args(self) -> tuple[str, ...]:
        return self.words[1:]

    def reject(self, why: str) -> NoReturn:
        """HAProxy itself does not take it."""
        raise InputError(f"{self.where} line {self.number}: {self.name}: {why}")

    def wrong(self, read: str, allowed: str) -> NoReturn:
        self.reject(f"{read!r} is not allowed; allowed: {allowed}")

    def refuse(self, why: str) -> NoReturn:
        """HAProxy takes it, the model does not cover it."""
        raise UnsupportedInput(f"{self.where} line {self.number}: {self.name}: {why}")


def read_lines(text: str, where: str, env: Mapping[str, str]) -> Iterator[Line]:
    """The lines that hold words; *env* is asked as each line is reached, so `setenv` acts on later ones."""
    check_text(text, where)
    if text and not text.endswith("\n"):
        number = text.count("\n") + 1
        raise InputError(
            f"{where} line {number}: no newline at the end: HAProxy takes the file for truncated"
        )
    for number, raw in enumerate(text.split("\n"), start=1):
        words = _words(raw, f"{where} line {number}", env)
        prefix = words[0] if len(words) > 1 and words[0] in ("no", "default") else ""
        words = words[1:] if prefix else words
        if not words:
            continue
        line = Line(
            words=tuple(words),
            number=number,
            where=where,
            negated=prefix == "no",
            reset=prefix == "default",
        )
        if prefix and words[0] != "option" and words[0] not in _NEGATABLE_IN_GLOBAL:
            line.reject(f"{prefix} stands before options only")
        if words[0].startswith("."):
            line.refuse("conditional blocks are not read")
        yield line


def _words(raw: str, where: str, env: Mapping[str, str]) -> list[str]:
    """The words of one line."""
    words: list[str] = []
    letters: list[str] = []
    begun = False  # so that "" is a word
    quote, at, n_from_variables = "", 0, 0
    raw = raw.removesuffix("\r")
    while at < len(raw):
        char = raw[at]
        if char in "\"'" and quote in ("", char):
            quote = "" if quote else char
            begun, at = True, at + 1
        elif char == "#" and not quote:
            break
        elif char in " \t\v\f\r" and not quote:
            if begun:
                words.append("".join(letters))
            letters, begun, at = [], False, at + 1
        elif char == "\\" and quote != "'":
            text, at = _escape(raw, at, where)
            letters.append(text)
            begun = True
        elif char == "$" and quote == '"':
            value, spread, at = _variable(raw, at + 1, where, env)
            head, *rest = re.split(r"\s+", value) if spread else [value]
            n_from_variables += len(value)
            if n_from_variables > _MAX_FROM_VARIABLES:
                raise UnsupportedInput(f"{where}: more than {_MAX_FROM_VARIABLES} characters from variables")
            letters.append(head)
            begun = True
            for text in rest:
                words.append("".join(letters))
                letters = [text]
        else:
            letters.append(char)
            begun, at = True, at + 1
    if quote:
        raise InputError(f"{where}: unmatched quote {quote}")
    if begun:
        words.append("".join(letters))
    if len(words) > _MAX_WORDS:
        raise InputError(f"{where}: {len(words)} words; allowed: up to {_MAX_WORDS}")
    return words


def _escape(raw: str, at: int, where: str) -> tuple[str, int]:
    """What the backslash at *at* stands for, and where to go on."""
    following = raw[at + 1 : at + 2]
    if following == "x":
        digits = raw[at + 2 : at + 4]
        if not re.fullmatch("[0-9A-Fa-f]{2}", digits):
            raise InputError(f"{where}: truncated or invalid hexadecimal sequence {raw[at : at + 4]!r}")
        return chr(int(digits, 16)), at + 4
    if following in _ESCAPES and following:
        return _ESCAPES[following], at + 2
    return "\\", at + 1


def _variable(raw: str, at: int, where: str, env: Mapping[str, str]) -> tuple[str, bool, int]:
    """Value, whether it spreads into several words, and where to go on; *at* is behind the dollar."""
    found = _VARIABLE.match(raw, at)
    if found is None:
        raise InputError(
            f"{where}: forbidden first character in environment variable name {raw[at : at + 8]!r}"
        )
    name, end = found["name"], found.end()
    if name.startswith("."):
        raise UnsupportedInput(f"{where}: {name}: HAProxy's own variables are not read")
    value = env.get(name)
    if found["brace"]:
        close = raw.find("}", end)
        if close < 0 or (close > end and raw[end] != "-"):
            raise InputError(f"{where}: missing closing brace in environment variable {name}")
        if close > end and value is None:
            value = raw[end + 1 : close]
        end = close + 1
    if value is None:  # HAProxy goes on with nothing in its place, which no user means
        raise UnsupportedInput(f"{where}: environment variable {name} is not set for this container")
    return value, bool(found["spread"]), end


# ---------------------------------------------------------------- values


def time_s(line: Line, text: str, *, unit: str = "ms") -> float:
    """A duration; a bare number is in *unit*. Milliseconds are HAProxy's own step, rounded up. [s]"""
    found = re.fullmatch(r"0*(\d{1,19})(us|ms|s|m|h|d)?", text, re.ASCII)
    if found is None:
        line.wrong(text, "a time such as 5000, 5s, 500ms, 1m")
    ms = int(found[1]) * _UNITS_MS[found[2] or unit]
    if ms > _MAX_TIME_MS:
        line.wrong(text, "at most 2147483647 ms (24.8 days)")
    return -(-ms // 1) / 1e3


def number(line: Line, text: str, *, at_least: int = 0, at_most: int | None = None) -> int:
    """A whole number. In some places HAProxy reads `x` as 0 and `3x` as 3; here both are errors."""
    allowed = f"a whole number of at least {at_least}" + (
        "" if at_most is None else f" and at most {at_most}"
    )
    if not re.fullmatch(r"-?0*\d{1,19}", text, re.ASCII):
        line.wrong(text, allowed)
    if int(text) < at_least or (at_most is not None and int(text) > at_most):
        line.wrong(text, allowed)
    return int(text)


def only_arg(line: Line, allowed: str) -> str:
    """The single value of a line."""
    if len(line.args) != 1:
        line.wrong(" ".join(line.args), allowed)
    return line.args[0]
