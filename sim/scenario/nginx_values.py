"""Directives that cannot change the answer, and yet keep nginx from starting when their values are wrong.

Values are those of nginx 1.22 (`nginx -t` of 1.22.1).
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from sim.scenario.nginx_directives import Directive, number, one_of, size_bytes, time_s

_Check = Callable[[Directive, str], Any]


def _between(directive: Directive, text: str, *, least: int, most: int) -> None:
    if not least <= number(directive, text) <= most:
        directive.wrong(text, f"{least} to {most}")


def _signed(directive: Directive, text: str) -> None:
    number(directive, text.removeprefix("-"))


def _size_or_off(directive: Directive, text: str) -> None:
    if text != "off":
        size_bytes(directive, text)


def _words(*names: str) -> dict[str, None]:
    return dict.fromkeys(" ".join(names).split())


_NUMBERS: Final = _words(
    "max_ranges open_file_cache_min_uses server_names_hash_bucket_size server_names_hash_max_size",
    "types_hash_bucket_size types_hash_max_size variables_hash_bucket_size variables_hash_max_size",
    "worker_aio_requests worker_rlimit_nofile",
)
_TIMES: Final = _words(
    "accept_mutex_delay client_body_timeout open_file_cache_valid resolver_timeout send_timeout timer_resolution",
)
_SIZES: Final = _words(
    "client_body_buffer_size client_header_buffer_size client_max_body_size connection_pool_size",
    "directio_alignment gzip_min_length postpone_output read_ahead request_pool_size send_lowat",
    "sendfile_max_chunk subrequest_output_buffer_size worker_rlimit_core",
)
_FIRST_VALUE: Final[Mapping[str, _Check]] = MappingProxyType(
    {
        **dict.fromkeys(_NUMBERS, number),
        **dict.fromkeys(_TIMES, time_s),
        **dict.fromkeys(_SIZES, size_bytes),
        "autoindex_format": one_of("html", "xml", "json", "jsonp"),
        "client_body_in_file_only": one_of("on", "off", "clean"),
        "directio": _size_or_off,
        "gzip_comp_level": partial(_between, least=1, most=9),
        "gzip_http_version": one_of("1.0", "1.1"),
        "gzip_static": one_of("on", "off", "always"),
        "if_modified_since": one_of("off", "exact", "before"),
        "server_tokens": one_of("on", "off", "build"),
        "use": one_of("epoll", "poll", "select"),
        "worker_priority": _signed,
    }
)
_EVERY_VALUE: Final[Mapping[str, _Check]] = MappingProxyType(
    {
        "gzip_proxied": one_of(
            "off", "expired", "no-cache", "no-store", "private", "no_last_modified", "no_etag", "auth", "any"
        ),
        "keepalive_disable": one_of("none", "msie6", "safari"),
    }
)
_LOG_LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
_SURE_ERRORS: Final = (  # of Python's patterns that are errors of PCRE's too
    "missing )", "unterminated", "nothing to repeat", "unbalanced parenthesis", "bad character range",
)  # fmt: skip


def check_values(directive: Directive) -> None:
    """Rejects values that nginx does not take; what it does not know here may be anything."""
    name, args = directive.name, directive.args
    if name in _FIRST_VALUE and args:
        _FIRST_VALUE[name](directive, args[0])
    for text in args if name in _EVERY_VALUE else ():
        _EVERY_VALUE[name](directive, text)
    if name in _OTHERS:
        _OTHERS[name](directive)


def check_pattern(directive: Directive, text: str) -> None:
    """A regular expression, as far as Python's are PCRE's."""
    try:
        re.compile(re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", text))
    except (re.error, OverflowError, RecursionError) as error:
        why = str(error)
        if why.startswith(_SURE_ERRORS):
            directive.reject(f"{text!r} is no pattern: {why}")
        directive.refuse(f"{text!r} cannot be read as a pattern: {why}")


def _error_log(directive: Directive) -> None:
    for level in directive.args[1:]:
        if level not in _LOG_LEVELS and not level.startswith("debug_"):
            directive.wrong(level, ", ".join(_LOG_LEVELS))


def _worker_cpu_affinity(directive: Directive) -> None:
    for mask in directive.args:
        if not re.fullmatch(r"[01]+|auto", mask):
            directive.wrong(mask, "auto, or masks of 0 and 1")


def _expires(directive: Directive) -> None:
    text = directive.args[-1]
    if text in ("epoch", "max", "off") or "$" in text:
        return
    seconds = time_s(directive, text.lstrip("-+@"))
    if text.startswith("@") and seconds > 86400:
        directive.wrong(text, "a time of the day")


def _add_header(directive: Directive) -> None:
    if len(directive.args) == 3 and directive.args[2] != "always":
        directive.wrong(directive.args[2], "always")


def _error_page(directive: Directive) -> None:
    *codes, _ = (arg for arg in directive.args if not arg.startswith("="))
    for code in codes:
        if (
            not code.isascii()
            or not code.isdigit()
            or not 300 <= int(code[:5]) <= 599
            or int(code[:5]) == 499
        ):
            directive.wrong(code, "a status from 300 to 599, without 499")


def _open_file_cache(directive: Directive) -> None:
    for text in directive.args:
        name, _, value = text.partition("=")
        if name == "max":
            number(directive, value, at_least=1)
        elif name == "inactive":
            time_s(directive, value)
        elif text != "off":
            directive.wrong(text, "max=N, inactive=TIME, off")


def _disable_symlinks(directive: Directive) -> None:
    for text in directive.args:
        if text not in ("on", "off", "if_not_owner") and not text.startswith("from="):
            directive.wrong(text, "on, off, if_not_owner, from=PATH")


def _aio(directive: Directive) -> None:
    if directive.args[0] not in ("on", "off", "threads") and not directive.args[0].startswith("threads="):
        directive.wrong(directive.args[0], "on, off, threads")


def _server_name(directive: Directive) -> None:
    for name in directive.args:
        if name.startswith("~"):
            check_pattern(directive, name[1:])


_OTHERS: Final[Mapping[str, Callable[[Directive], None]]] = MappingProxyType(
    {
        "add_header": _add_header,
        "aio": _aio,
        "disable_symlinks": _disable_symlinks,
        "error_log": _error_log,
        "error_page": _error_page,
        "expires": _expires,
        "open_file_cache": _open_file_cache,
        "server_name": _server_name,
        "worker_cpu_affinity": _worker_cpu_affinity,
    }
)


def check_log_formats(http: Directive) -> None:
    """Each format has a name of its own, and each access_log in http names one that stands above or is built in."""
    known = {"combined"}
    for directive in http.block:
        if directive.name == "log_format" and directive.args:
            if directive.args[0] in known:
                directive.reject(f"another format is named {directive.args[0]!r}")
            known.add(directive.args[0])
    waiting = list(http.block)
    while waiting:
        directive = waiting.pop()
        waiting += directive.block
        if directive.name == "access_log" and len(directive.args) > 1:
            name = directive.args[1]
            if "=" not in name and name not in known:
                directive.reject(f"no log_format named {name!r}")
