"""The directives of an nginx.conf as a tree with line numbers, and their values as nginx reads them.

Syntax is nginx-crossplane's; times and sizes follow nginx release-1.26.2 `src/core/ngx_parse.c`.
"""

import fnmatch
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import crossplane

from sim.errors import InputError, UnsupportedInput
from sim.scenario.conf_text import check_text

PREFIX: Final = "/usr/share/nginx"  # nginx -V of Debian: --prefix; a relative root is looked up there
_CONF_PREFIX: Final = "/etc/nginx"  # a relative include
_HARMLESS_INCLUDES: Final = ("*mime.types", "*modules-enabled/*.conf", "*modules/*.conf")
_MAX_INCLUDE_DEPTH: Final = 8
_MAX_INCLUDED: Final = 1000
MAX_BLOCKS: Final = 100
_LARGEST: Final = 2**63 - 1  # NGX_MAX_INT_T_VALUE, and of a time_t and an off_t


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    name: str
    args: tuple[str, ...]
    line: int
    where: str
    """The file's name in messages."""
    block: tuple["Directive", ...] = ()

    def reject(self, why: str) -> NoReturn:
        """nginx itself does not take it."""
        raise InputError(f"{self.where} line {self.line}: {self.name}: {why}")

    def wrong(self, read: str, allowed: str) -> NoReturn:
        self.reject(f"{read!r} is not allowed; allowed: {allowed}")

    def refuse(self, why: str) -> NoReturn:
        """nginx takes it, the model does not cover it."""
        raise UnsupportedInput(f"{self.where} line {self.line}: {self.name}: {why}")


_Tree = Iterator[Directive]


def read_directives(
    text: str, where: str, includes: Mapping[str, str] | None = None
) -> tuple[Directive, ...]:
    """The tree of directives; each `include` is replaced by what it names in *includes*."""
    return tuple(_read(text, where, _Includes(includes or {}), ()))


@dataclass(slots=True)
class _Includes:
    """The files that can be included, and how many have been: files that name each other multiply."""

    files: Mapping[str, str]
    n_read: int = 0


def _read(text: str, where: str, includes: _Includes, blocks: tuple[str, ...], depth: int = 0) -> _Tree:
    """The directives of one file, which stands inside *blocks*: crossplane checks contexts by them."""
    check_text(text, where)
    depth_of_blocks = 0
    for brace in re.findall(r"[{}]", text):  # crossplane recurses into blocks
        depth_of_blocks += 1 if brace == "{" else -1
        if depth_of_blocks > MAX_BLOCKS:
            raise UnsupportedInput(f"{where}: blocks nested more than {MAX_BLOCKS} deep")
    opening, closing = "".join(f"{block} {{ " for block in blocks), "\n}" * len(blocks)
    payload = crossplane.parse_string(opening + text + closing, single=True, catch_errors=False)
    if payload["errors"]:
        error = payload["errors"][0]
        what = str(error["error"]).rsplit(" in ", 1)[0]
        raise InputError(f"{where} line {error['line']}: {what}")
    statements = payload["config"][0]["parsed"]
    for _ in blocks:
        statements = statements[0]["block"]
    yield from _tree(statements, where, includes, blocks, depth)


def _tree(
    statements: Iterable[dict[str, Any]],
    where: str,
    includes: _Includes,
    blocks: tuple[str, ...],
    depth: int,
) -> _Tree:
    for statement in statements:
        name, args = statement["directive"], tuple(statement["args"])
        inner = (
            () if name == "types" else statement.get("block", ())
        )  # its lines are file types, not directives
        header = f"{name} /" if name == "location" else name
        block = tuple(_tree(inner, where, includes, (*blocks, header), depth))
        directive = Directive(name=name, args=args, line=statement["line"], where=where, block=block)
        if name == "include":
            yield from _included(directive, includes, blocks, depth)
        else:
            yield directive


def _included(directive: Directive, includes: _Includes, blocks: tuple[str, ...], depth: int) -> _Tree:
    if len(directive.args) != 1 or directive.block:  # crossplane counts only in blocks that it knows
        directive.reject("expected the name of one file, or one pattern")
    (pattern,) = directive.args
    if depth == _MAX_INCLUDE_DEPTH:
        directive.wrong(pattern, f"includes nested up to {_MAX_INCLUDE_DEPTH} deep")
    names = sorted(name for name in includes.files if _means_file(pattern, name))
    if not names and not any(fnmatch.fnmatch(pattern, harmless) for harmless in _HARMLESS_INCLUDES):
        directive.refuse(f"{pattern} is not among the given files; mount it from a ConfigMap or write it in")
    includes.n_read += len(names)
    if includes.n_read > _MAX_INCLUDED:
        directive.reject(f"more than {_MAX_INCLUDED} files are included in all")
    for name in names:
        yield from _read(includes.files[name], name, includes, blocks, depth + 1)


def _means_file(pattern: str, name: str) -> bool:
    """Whether an include pattern means the file *name*: an absolute path, or a bare file name."""
    if name.startswith("/"):
        return fnmatch.fnmatch(name, posixpath.join(_CONF_PREFIX, pattern))
    return fnmatch.fnmatch(name, posixpath.basename(pattern))


# ---------------------------------------------------------------- values

_TIME_UNITS_S: Final = {
    "w": 604800.0,
    "d": 86400.0,
    "h": 3600.0,
    "m": 60.0,
    "s": 1.0,
    " ": 1.0,
    "ms": 0.001,
    "": 1.0,
}
_TIME_ORDER: Final = tuple(_TIME_UNITS_S)  # each unit at most once, from large to small
_A_TIME: Final = "a time such as 75, 75s, 500ms or 1m30s"


def time_s(directive: Directive, text: str) -> float:
    """A duration in nginx's notation; a bare number is seconds. [s]"""
    total_s, rest, step, seen = 0.0, text, -1, False
    while rest:
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        rest = rest[len(digits) :]
        unit = "ms" if rest.startswith("ms") else rest[:1]
        if unit not in _TIME_UNITS_S or _TIME_ORDER.index(unit) <= step:
            directive.wrong(text, _A_TIME)
        step = _TIME_ORDER.index(unit)
        rest = rest[len(unit) :].lstrip(" ")
        total_s += (float(digits) if digits else 0.0) * _TIME_UNITS_S[unit]
        seen = seen or bool(digits)
    if not seen or total_s * 1e3 > _LARGEST:  # kept as milliseconds
        directive.wrong(text, _A_TIME)
    return total_s


def number(directive: Directive, text: str, *, at_least: int = 0) -> int:
    value = _whole(text)
    if value is None or value < at_least:
        directive.wrong(text, f"a whole number of at least {at_least}")
    return value


def _whole(text: str) -> int | None:
    """Digits alone, and no more than 64 bits hold."""
    if not (text.isascii() and text.isdigit()):
        return None
    digits = text.lstrip("0") or "0"
    return int(digits) if len(digits) < 20 and int(digits) <= _LARGEST else None


def size_bytes(directive: Directive, text: str) -> int:
    """A size in nginx's notation. [bytes]"""
    constant(directive, text)
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}.get(text[-1:].lower(), 1)
    value = _whole(text[:-1] if factor > 1 else text)
    if value is None or value * factor > _LARGEST:
        directive.wrong(text, "bytes, or a number with k, m or g")
    return value * factor


def seconds(directive: Directive, text: str) -> float:
    """Seconds with a fraction, as `echo_sleep` takes them. [s]"""
    whole, _, fraction = text.partition(".")
    if not (whole + fraction).isdigit() or not text.isascii() or not float(text) <= _LARGEST:
        directive.refuse(f"{text!r} is not a number of seconds such as 0.5")
    return float(text)


def one_of(*allowed: str) -> Callable[[Directive, str], str]:
    def read(directive: Directive, text: str) -> str:
        if text not in allowed:
            directive.wrong(text, ", ".join(allowed))
        return text

    return read


def constant(directive: Directive, text: str) -> str:
    """The text itself, if it holds no variable."""
    if "$" in text:
        directive.refuse(f"{text} holds a variable, known only for each request")
    return text


def file_path(directive: Directive, text: str) -> str:
    """An absolute path; a relative one starts at nginx's prefix."""
    return posixpath.join(PREFIX, constant(directive, text))
