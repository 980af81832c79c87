"""Lines of a haproxy.cfg that cannot change the answer, and yet keep HAProxy from starting when they are wrong.

Their forms are those of HAProxy 2.6 (`haproxy -c` of 2.6.12). A form lists what stands behind the keyword: TEXT,
INT (a whole number), TIME, `a|b` (one of these words), `1..9` (one of these numbers), a `?` before what may be
left out, and `...` for whatever follows.
"""

import ipaddress
import re
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from sim.scenario.haproxy_words import Line, number, time_s

Forms = Mapping[str, str]

GLOBAL_FORMS: Final[Forms] = MappingProxyType(
    {
        **dict.fromkeys(
            "busy-polling daemon insecure-fork-wanted noepoll noevports nokqueue nopoll nosplice quiet "  # noqa: SIM905
            "strict-limits".split(),
            "",
        ),
        **dict.fromkeys(
            "ca-base chroot crt-base group log-tag node pidfile server-state-base server-state-file user".split(),  # noqa: SIM905
            "TEXT ...",
        ),
        "cpu-map": "TEXT TEXT ...",
        "default-path": "current|config|parent|origin ...",
        "description": "TEXT ...",
        "h1-case-adjust": "TEXT TEXT",
        "httpclient.ssl.verify": "?none|required",
        "master-worker": "?no-exit-on-failure",
        "max-spread-checks": "TIME",
        "profiling.tasks": "on|off|auto",
        "ssl-server-verify": "none|required",
        "stats": "socket|maxconn|timeout|bind-process TEXT ...",
        "tune.bufsize": "INT",
        "tune.comp.maxlevel": "1..9",
        "tune.http.maxhdr": "1..32767",
        "tune.idletimer": "TIME",
        "tune.rcvbuf.client": "INT",
        "tune.rcvbuf.server": "INT",
        "tune.sndbuf.client": "INT",
        "tune.sndbuf.server": "INT",
    }
)
PROXY_FORMS: Final[Forms] = MappingProxyType(
    {
        "backlog": "TEXT ...",  # atol
        "clitcpka-cnt": "INT",
        "clitcpka-idle": "TIME",
        "clitcpka-intvl": "TIME",
        "declare": "capture request|response len INT",
        "description": "TEXT ...",
        "email-alert": "from|level|mailers|myhostname|to TEXT",
        "enabled": "",
        "error-log-format": "TEXT",
        "fullconn": "TEXT ...",
        "log-format": "TEXT",
        "log-format-sd": "TEXT",
        "log-tag": "TEXT",
        "server-state-file-name": "?TEXT",
        "srvtcpka-cnt": "INT",
        "srvtcpka-idle": "TIME",
        "srvtcpka-intvl": "TIME",
        "unique-id-format": "TEXT",
        "unique-id-header": "TEXT",
    }
)
_STATS_FORMS: Final[Forms] = MappingProxyType(
    {
        "admin": "if|unless TEXT ...",
        "auth": "TEXT",
        "realm": "TEXT",
        "refresh": "TIME",
        "scope": "TEXT",
        "uri": "TEXT",
    }
)
GLOBAL_STATS_FORMS: Final[Forms] = MappingProxyType(
    {"socket": "TEXT ...", "maxconn": "1..2147483647", "timeout": "TIME"}
)
_SECTION_FORMS: Final[Mapping[str, Forms]] = MappingProxyType(
    {
        "cache": {"total-max-size": "INT", "max-age": "INT", "max-object-size": "INT", "max-secondary-entries": "INT",
                  "process-vary": "on|off"},
        "mailers": {"mailer": "TEXT TEXT", "timeout": "mail TIME"},
        "peers": dict.fromkeys(
            ("bind", "default-bind", "default-server", "disabled", "enabled", "log", "peer", "server", "shards",
             "table"), "...",
        ),
        "ring": dict.fromkeys(
            ("backing-file", "description", "format", "maxlen", "server", "size", "timeout"), "TEXT ..."
        ),
        "userlist": {"group": "TEXT ...", "user": "TEXT ..."},
    }
)  # fmt: skip
_ALGORITHMS: Final = frozenset({"identity", "gzip", "deflate", "raw-deflate"})
_STATUSES_OF_ERRORFILE: Final = frozenset(
    "200 400 401 403 404 405 407 408 410 413 421 422 425 429 500 501 502 503 504".split()  # noqa: SIM905
)
_FACILITIES: Final = frozenset(
    """
    kern user mail daemon auth syslog lpr news uucp cron auth2 ftp ntp audit alert cron2
    local0 local1 local2 local3 local4 local5 local6 local7
    """.split()  # noqa: SIM905
)
_LEVELS: Final = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_LOG_FORMATS: Final = ("local", "rfc3164", "rfc5424", "priority", "short", "timed", "iso", "raw")
_HEADER_RULES: Final = MappingProxyType(
    {"add-header": 2, "set-header": 2, "replace-header": 3, "replace-value": 3}
)
_PREDEFINED_ACLS: Final = frozenset(
    """
    TRUE FALSE LOCALHOST HTTP HTTP_1.0 HTTP_1.1 HTTP_2.0 HTTP_3.0 HTTP_CONTENT HTTP_URL_ABS HTTP_URL_SLASH
    HTTP_URL_STAR METH_CONNECT METH_DELETE METH_GET METH_HEAD METH_OPTIONS METH_POST METH_PUT METH_TRACE
    RDP_COOKIE REQ_CONTENT WAIT_END
    """.split()  # noqa: SIM905
)
_SCOPES: Final = "proc|sess|txn|req|res|check"


def check_form(line: Line, forms: Forms, words: Sequence[str] | None = None) -> None:
    """Rejects a line whose words do not have the form of its keyword; one without a form may be anything."""
    form = forms.get(line.name)
    if form is not None and not line.negated:
        _check(line, form, line.args if words is None else words)


def _check(line: Line, form: str, words: Sequence[str]) -> None:
    rest = iter(words)
    for kind in form.split():
        if kind == "...":
            return
        word = next(rest, None)
        if word is None:
            if kind.startswith("?"):
                return
            line.reject(f"needs {kind}" if not words else f"needs {kind} behind {' '.join(words)}")
        _check_word(line, kind.removeprefix("?"), word)
    if (more := next(rest, None)) is not None:
        line.reject(f"{more!r} is one word too many")


def _check_word(line: Line, kind: str, word: str) -> None:
    if kind == "TIME":
        time_s(line, word)
    elif kind == "INT":
        number(line, word)
    elif ".." in kind:
        low, _, high = kind.partition("..")
        number(line, word, at_least=int(low), at_most=int(high))
    elif kind != "TEXT" and word not in kind.split("|"):
        line.wrong(word, kind.replace("|", ", "))


def check_section_line(section: str, line: Line) -> None:
    """A line of a section that nothing is taken from."""
    forms = _SECTION_FORMS[section]
    if line.name not in forms:
        line.reject(f"unknown keyword in a {section} section")
    check_form(line, forms)


def check_stats(line: Line, forms: Forms = _STATS_FORMS) -> None:
    _check(line, forms.get(line.args[0], "..."), line.args[1:])


def check_log(line: Line) -> None:
    """`log global`, or `log ADDRESS [len N] [format F] [sample R] [profile P] FACILITY [LEVEL [LEVEL]]`."""
    if line.negated or (line.args == ("global",)):
        return
    rest = list(line.args[1:])
    while len(rest) > 1 and rest[0] in ("len", "format", "sample", "profile"):
        option, value, *rest = rest
        if option == "format" and value not in _LOG_FORMATS:
            line.wrong(value, ", ".join(_LOG_FORMATS))
    if not rest:
        line.reject("needs an address and a facility, or global")
    facility, *levels = rest
    if facility not in _FACILITIES:
        line.wrong(facility, ", ".join(sorted(_FACILITIES)))
    for level in levels:
        if level not in _LEVELS:
            line.wrong(level, ", ".join(_LEVELS))


def check_compression(line: Line) -> None:
    match line.args:
        case ("algo", *names) if names:
            for name in names:
                if name not in _ALGORITHMS:
                    line.wrong(name, ", ".join(sorted(_ALGORITHMS)))
        case ("type", _, *_) | ("offload",) | ("direction", _):
            pass
        case _:
            line.reject("needs algo, type or offload")


def check_capture(line: Line) -> None:
    match line.args:
        case ("cookie", _, "len", length) | ("request" | "response", "header", _, "len", length):
            number(line, length, at_least=1)
        case _:
            line.reject("needs cookie NAME len N, or request header NAME len N")


def check_errorfile(line: Line) -> None:
    if len(line.args) != 2:
        line.reject("needs a status and a file")
    if line.args[0] not in _STATUSES_OF_ERRORFILE:
        line.wrong(line.args[0], ", ".join(sorted(_STATUSES_OF_ERRORFILE)))


def check_option_words(line: Line, name: str, words: Sequence[str]) -> None:
    """`option forwardfor`, `option originalto` and `option httplog` with what stands behind them."""
    rest = iter(words)
    for word in rest:
        if name == "httplog":
            if word != "clf":
                line.wrong(word, "clf")
        elif word in ("except", "header"):
            if next(rest, None) is None:
                line.reject(f"{name} {word} needs a value")
        elif word != "if-none" or name != "forwardfor":
            line.wrong(word, "except ADDRESS, header NAME" + (", if-none" if name == "forwardfor" else ""))


def check_nameserver(line: Line, address: str, taken: set[str]) -> None:
    name = line.args[0]
    if name in taken:
        line.reject(f"another nameserver is named {name!r}")
    taken.add(name)
    host = re.sub(r"^(udp|tcp|ipv4|ipv6)\d?@", "", address).rpartition(":")[0].strip("[]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        line.wrong(address, "an IP address with a port, such as 10.96.0.10:53")


def check_header_rule(line: Line, acls: frozenset[str] | set[str]) -> None:
    """The words of a rule that sets headers, variables or marks, and the names in its condition."""
    action, *rest = line.args
    at = next((i for i, word in enumerate(rest) if word in ("if", "unless")), None)
    values = rest if at is None else rest[:at]
    needed = _HEADER_RULES.get(action)
    if needed is not None and len(values) != needed:
        if len(values) > needed:
            line.wrong(values[needed], "if or unless with a condition")
        line.reject(f"{action} needs {needed} values")
    if action == "del-header" and not values:
        line.reject("del-header needs a name")
    if action.startswith("set-var"):
        if not re.match(rf"set-var(-fmt)?\(({_SCOPES})\.[\w.]+", action):
            line.wrong(action, f"set-var(SCOPE.NAME), SCOPE being one of {_SCOPES.replace('|', ', ')}")
        if not values:
            line.reject(f"{action} needs an expression")
    if at is not None:
        for name in _acls_of(rest[at + 1 :]):
            if name not in acls and name not in _PREDEFINED_ACLS:
                line.reject(f"no ACL named {name!r}")


def _acls_of(condition: Sequence[str]) -> Iterator[str]:
    """The names in a condition: all but its operators and what stands in braces."""
    inside = False
    for word in condition:
        name = word.removeprefix("!")
        if name == "{":
            inside = True
        elif name == "}":
            inside = False
        elif not inside and name and name not in ("or", "||", "and", "&&"):
            yield name
