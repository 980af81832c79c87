"""The lines of HAProxy's defaults, frontend, backend and listen sections (configuration.txt 4)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from sim.scenario.haproxy_forms import (
    PROXY_FORMS,
    check_capture,
    check_compression,
    check_errorfile,
    check_form,
    check_header_rule,
    check_log,
    check_option_words,
    check_stats,
)
from sim.scenario.haproxy_server import ServerParams, read_params
from sim.scenario.haproxy_words import Line, number, only_arg, time_s
from sim.scenario.model import HAProxyCheck, HttpMode

_IGNORED: Final = frozenset(
    """
    backlog capture clitcpka-cnt clitcpka-idle clitcpka-intvl compression declare description
    email-alert enabled error-log-format fullconn id log log-format log-format-sd log-steps log-tag
    server-state-file-name srvtcpka-cnt srvtcpka-idle srvtcpka-intvl stats unique-id-format unique-id-header
    """.split()  # noqa: SIM905
)
_REFUSED: Final = frozenset(
    """
    cookie disabled dispatch dynamic-cookie-key errorfiles errorloc errorloc302 errorloc303 filter
    force-persist hash-balance-factor hash-type http-error http-send-name-header ignore-persist
    load-server-state-from-file max-keep-alive-queue max-session-srv-conns persist rate-limit redirect source
    stick stick-table tcp-check tcp-request tcp-response transparent use-fcgi-app use-server use_backend
    external-check
    """.split()  # noqa: SIM905
)
_OPTIONS_IGNORED: Final = frozenset(
    """
    abortonclose accept-invalid-http-request accept-invalid-http-response clitcpka contstats
    disable-h2-upgrade dontlog-normal dontlognull forwardfor h1-case-adjust-bogus-client
    h1-case-adjust-bogus-server http-buffer-request http-ignore-probes http-no-delay
    http-restrict-req-hdr-names http-use-proxy-header httplog httpslog independent-streams
    log-health-checks log-separate-errors logasap originalto socket-stats splice-auto splice-request
    splice-response srvtcpka tcp-smart-accept tcp-smart-connect tcpka tcplog
    """.split()  # noqa: SIM905
)
_OPTIONS_REFUSED: Final = frozenset(
    """
    allbackups checkcache external-check http-pretend-keepalive ldap-check mysql-check nolinger persist
    pgsql-check prefer-last-server redis-check smtpchk spop-check ssl-hello-chk transparent
    """.split()  # noqa: SIM905
)
_NOT_NEGATABLE: Final = frozenset(
    """
    forwardfor http-restrict-req-hdr-names httpchk httplog httpslog ldap-check mysql-check originalto
    pgsql-check redis-check smtpchk spop-check ssl-hello-chk tcp-check tcplog external-check
    """.split()  # noqa: SIM905
)

_TIMEOUTS: Final = frozenset(
    """
    check client client-fin connect http-keep-alive http-request queue server server-fin tarpit tunnel
    """.split()  # noqa: SIM905
)
_HTTP_MODES: Final = MappingProxyType({mode.value: mode for mode in HttpMode})
_BALANCE: Final = frozenset({"roundrobin", "static-rr", "leastconn", "first", "random", "source"})
_BALANCE_REFUSED: Final = ("uri", "url_param", "hdr", "rdp-cookie", "hash", "log-hash", "sticky")
_RETRY_ON: Final = frozenset(
    """
    conn-failure empty-response junk-response response-timeout 0rtt-rejected
    401 403 404 408 425 429 500 501 502 503 504
    """.split()  # noqa: SIM905
)
_ALL_RETRYABLE: Final = frozenset(
    "conn-failure empty-response junk-response response-timeout 0rtt-rejected 500 502 503 504".split()  # noqa: SIM905
)
_HARMLESS_HTTP_RULES: Final = frozenset(
    """
    add-header capture del-header replace-header replace-value set-header set-log-level set-mark set-nice
    set-tos set-var unset-var
    """.split()  # noqa: SIM905
)
_HEADERS_THAT_MATTER: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_NOT_IN: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "defaults": frozenset(
            {"bind", "capture", "declare", "description", "id", "server", "server-template"}
        ),
        "frontend": frozenset({"default-server", "retry-on", "server", "server-template"}),
    }
)
_NOT_IN_ANONYMOUS_DEFAULTS: Final = frozenset({"acl", "http-after-response", "http-request", "http-response"})
_OPTIONS_WITH_VALUES: Final = frozenset({"forwardfor", "httpchk", "httplog", "originalto", "redispatch"})
_CHECKS: Final[Mapping[str, Callable[[Line], None]]] = MappingProxyType(
    {"capture": check_capture, "compression": check_compression, "log": check_log}
)
_STATS: Final = frozenset(
    """
    admin auth enable hide-version http-request realm refresh scope show-desc show-legends show-modules
    show-node uri
    """.split()  # noqa: SIM905
)
_BIND_IGNORED: Final = MappingProxyType(
    {
        **dict.fromkeys(("tfo", "transparent", "v4v6", "v6only"), 0),
        **dict.fromkeys(("backlog", "gid", "group", "id", "interface", "level", "mode", "mss", "name"), 1),
        **dict.fromkeys(("nice", "process", "severity-output", "shards", "thread", "uid", "user"), 1),
    }
)
_BIND_REFUSED: Final = frozenset(
    """
    accept-netscaler-cip accept-proxy alpn crt crt-list defer-accept maxconn namespace proto ssl tcp-ut
    """.split()  # noqa: SIM905
)
_LOOPBACK: Final = ("127.", "::1", "[::1]", "localhost", "/", "unix@", "abns@")
_EVERY_ADDRESS: Final = ("", "*", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not bound


@dataclass(slots=True, kw_only=True)
class Proxy:
    """One defaults, frontend, backend or listen section while it is read."""

    kind: str
    name: str
    line: Line
    mode: str = "tcp"
    http_mode: HttpMode | None = None
    maxconn: int | None = None
    timeouts_s: dict[str, float | None] = field(default_factory=dict)
    balance: str = "roundrobin"
    http_reuse: str = "safe"
    retries: int = 3
    retry_on: frozenset[str] = frozenset({"conn-failure"})
    redispatch: int = 0
    acls: set[str] = field(default_factory=set)
    idle_close_on_response: bool = False
    monitor_uri: str | None = None
    default_backend: tuple[Line, str] | None = None
    httpchk: tuple[str, str] | None = None
    """Method and path of `option httpchk`; None: checks only connect."""
    check_request: dict[str, str] = field(default_factory=dict)
    """What `http-check send` puts in their place."""
    check_expect: tuple[tuple[int, int], ...] = ((200, 399),)
    default_server: ServerParams = field(default_factory=ServerParams)
    binds: list[int] = field(default_factory=list)
    n_binds: int = 0
    server_lines: list[tuple[Line, ServerParams]] = field(default_factory=list)

    def handed_down(self, *, kind: str, name: str, line: Line) -> "Proxy":
        """A new section that starts with the settings of this one."""
        return replace(
            self,
            kind=kind,
            name=name,
            line=line,
            timeouts_s=dict(self.timeouts_s),
            check_request=dict(self.check_request),
            acls=set(self.acls),
            binds=[],
            server_lines=[],
        )

    def health_check(self) -> HAProxyCheck:
        """What the section says of checks; `http-check` lines act only beside `option httpchk`."""
        timeout_s = self.timeouts_s.get("check")
        if self.httpchk is None:
            return HAProxyCheck(timeout_check_s=timeout_s)
        method, path = self.httpchk
        return HAProxyCheck(
            timeout_check_s=timeout_s,
            http_method=self.check_request.get("meth", method),
            http_path=self.check_request.get("uri", path),
            http_expect=self.check_expect,
        )

    @property
    def accepts(self) -> bool:
        return self.kind in ("frontend", "listen")

    @property
    def forwards(self) -> bool:
        return self.kind in ("backend", "listen")


def _read_mode(proxy: Proxy, line: Line) -> None:
    mode = only_arg(line, "http, tcp")
    if mode not in ("http", "tcp"):
        line.wrong(mode, "http, tcp")
    proxy.mode = mode


def _read_timeout(proxy: Proxy, line: Line) -> None:
    if len(line.args) != 2 or line.args[0] not in _TIMEOUTS:
        line.wrong(" ".join(line.args), f"one of {', '.join(sorted(_TIMEOUTS))} and a time")
    proxy.timeouts_s[line.args[0]] = time_s(line, line.args[1]) or None


def _read_retry_on(proxy: Proxy, line: Line) -> None:
    if not line.args:
        line.reject("needs a list of events, or none")
    if line.args == ("none",):
        proxy.retry_on = frozenset()
        return
    events: set[str] = set()
    for word in line.args:
        if word == "all-retryable-errors":
            events |= _ALL_RETRYABLE
        elif word in _RETRY_ON:
            events.add(word)
        else:
            line.wrong(word, f"none alone, all-retryable-errors, {', '.join(sorted(_RETRY_ON))}")
    proxy.retry_on = frozenset(events)


def _read_balance(proxy: Proxy, line: Line) -> None:
    algorithm = line.args[0] if line.args else "roundrobin"
    name = algorithm.partition("(")[0]
    if name in _BALANCE_REFUSED:
        line.refuse(f"{algorithm} is not modelled")
    if name not in _BALANCE:
        line.wrong(algorithm, ", ".join(sorted(_BALANCE)))
    if "(" in algorithm and algorithm != "random(2)":
        line.refuse(f"{algorithm}: only random(2), the default, is modelled")
    proxy.balance = name


def _read_http_reuse(proxy: Proxy, line: Line) -> None:
    reuse = only_arg(line, "never, safe, aggressive, always")
    if reuse not in ("never", "safe", "aggressive", "always"):
        line.wrong(reuse, "never, safe, aggressive, always")
    proxy.http_reuse = reuse


def _read_bind(proxy: Proxy, line: Line) -> None:
    if proxy.kind == "backend":
        return  # HAProxy warns and goes on
    if not line.args:
        line.reject("needs an address and a port")
    for address in line.args[0].split(","):
        proxy.n_binds += 1
        if address.startswith(_LOOPBACK):
            continue
        proxy.binds += _bind_ports(line, re.sub(r"^(ipv4|ipv6|tcp4|tcp6|tcp)@", "", address))
    rest = iter(line.args[1:])
    for word in rest:
        if word in _BIND_REFUSED:
            line.refuse(f"{word} is not modelled")
        if word not in _BIND_IGNORED:
            line.reject(f"unknown keyword {word!r}")
        for _ in range(_BIND_IGNORED[word]):
            value = next(rest, None)
            if value is None:
                line.reject(f"{word} needs a value")
            if word == "id":
                number(line, value, at_least=1)
            elif word == "nice":
                number(line, value, at_least=-1024, at_most=1024)


def _bind_ports(line: Line, address: str) -> range:
    host, colon, ports = address.rpartition(":")
    if not colon or not ports:
        line.wrong(address, "an address with a port, such as *:8080")
    if host not in _EVERY_ADDRESS:
        line.refuse(f"{address}: only every address of the pod (*:8080, :::8080) is modelled")
    low, dash, high = ports.partition("-")
    first = number(line, low, at_least=1, at_most=65535)
    return range(first, 1 + (number(line, high, at_least=first, at_most=65535) if dash else first))


def _read_server_line(proxy: Proxy, line: Line) -> None:
    proxy.server_lines.append((line, proxy.default_server))


def _read_default_server(proxy: Proxy, line: Line) -> None:
    proxy.default_server = read_params(line, line.args, proxy.default_server)


def _read_retries(proxy: Proxy, line: Line) -> None:
    proxy.retries = number(line, only_arg(line, "a whole number"))


def _read_maxconn(proxy: Proxy, line: Line) -> None:
    proxy.maxconn = number(line, only_arg(line, "a whole number")) or None


def _read_default_backend(proxy: Proxy, line: Line) -> None:
    proxy.default_backend = (line, only_arg(line, "a backend's name"))


def _read_monitor_uri(proxy: Proxy, line: Line) -> None:
    proxy.monitor_uri = only_arg(line, "a path")


def _read_http_rule(proxy: Proxy, line: Line) -> None:
    """http-request, http-response and http-after-response: only what leaves the answer alone."""
    action = line.args[0].partition("(")[0] if line.args else ""
    if action not in _HARMLESS_HTTP_RULES:
        line.refuse(f"{action or 'this rule'} could change the answer and is not modelled")
    if action.endswith("-header") and len(line.args) > 1 and line.args[1].lower() in _HEADERS_THAT_MATTER:
        line.refuse(f"{action} {line.args[1]} could change how connections end, which is not modelled")
    check_header_rule(line, proxy.acls)


def _read_acl(proxy: Proxy, line: Line) -> None:
    if len(line.args) < 2:
        line.reject("needs a name and what is asked")
    proxy.acls.add(line.args[0])


def _read_http_check(proxy: Proxy, line: Line) -> None:
    match line.args:
        case ("send-state",) | ("comment", _) | ("connect",):
            pass
        case ("send", *words):
            _read_check_request(proxy, line, words)
        case ("expect", "status", ranges):
            proxy.check_expect = _status_ranges(line, ranges)
        case _:
            line.refuse("only send, connect, expect status and send-state are modelled")


def _read_check_request(proxy: Proxy, line: Line, words: list[str]) -> None:
    rest = iter(words)
    for word in rest:
        value = next(rest, None)
        if value is None:
            line.reject(f"{word} needs a value")
        match word:
            case "meth" | "uri":
                proxy.check_request[word] = value
            case "hdr":
                if next(rest, None) is None:
                    line.reject("hdr needs a name and a value")
            case "ver" | "body" | "comment":
                pass
            case "uri-lf" | "body-lf":
                line.refuse(f"{word} is not modelled")
            case _:
                line.reject(f"unknown keyword {word!r}")


def _status_ranges(line: Line, text: str) -> tuple[tuple[int, int], ...]:
    ranges = []
    for part in text.split(","):
        low, dash, high = part.partition("-")
        first = number(line, low, at_least=100, at_most=999)
        ranges.append((first, number(line, high, at_least=first, at_most=999) if dash else first))
    return tuple(ranges)


_KEYWORDS: Final[Mapping[str, Callable[[Proxy, Line], None]]] = MappingProxyType(
    {
        "acl": _read_acl,
        "balance": _read_balance,
        "bind": _read_bind,
        "default-server": _read_default_server,
        "default_backend": _read_default_backend,
        "http-after-response": _read_http_rule,
        "http-check": _read_http_check,
        "http-request": _read_http_rule,
        "http-response": _read_http_rule,
        "http-reuse": _read_http_reuse,
        "maxconn": _read_maxconn,
        "mode": _read_mode,
        "monitor-uri": _read_monitor_uri,
        "retries": _read_retries,
        "retry-on": _read_retry_on,
        "server": _read_server_line,
        "server-template": _read_server_line,
        "timeout": _read_timeout,
    }
)


def _read_option(proxy: Proxy, line: Line) -> None:
    if not line.args:
        line.reject("needs a name")
    name, *values = line.args
    off = line.negated or line.reset
    if off and name in _NOT_NEGATABLE:
        line.reject(f"{name} cannot be negated")
    if values and name not in _OPTIONS_WITH_VALUES:
        line.reject(f"{name} takes no value, got {' '.join(values)!r}")
    if name in _HTTP_MODES:
        if not off:
            proxy.http_mode = _HTTP_MODES[name]
        elif proxy.http_mode is _HTTP_MODES[name]:
            proxy.http_mode = None
    elif name == "redispatch":
        proxy.redispatch = 0 if off else number(line, values[0], at_least=-999) if values else -1
    elif name == "idle-close-on-response":
        proxy.idle_close_on_response = not off
    elif name == "httpchk":
        _read_httpchk(proxy, line, values)
    elif name == "tcp-check":
        proxy.httpchk = None
    elif name in ("forwardfor", "originalto", "httplog"):
        check_option_words(line, name, values)
    elif name in _OPTIONS_REFUSED:
        if not off:
            line.refuse(f"{name} is not modelled")
    elif name not in _OPTIONS_IGNORED:
        line.reject(f"unknown option {name!r}")


def _read_httpchk(proxy: Proxy, line: Line, values: list[str]) -> None:
    match values:
        case []:
            method, path = "OPTIONS", "/"
        case [path]:
            method = "OPTIONS"
        case [method, path] | [method, path, _]:
            pass
        case _:
            line.wrong(" ".join(values), "[method] path [version]")
    proxy.httpchk = (method, path)


def read_proxy_line(proxy: Proxy, line: Line, warnings: list[str]) -> None:
    """Take one line of a section into *proxy*."""
    name = line.name
    anonymous = proxy.kind == "defaults" and not proxy.name
    if name in _NOT_IN.get(proxy.kind, ()) or (anonymous and name in _NOT_IN_ANONYMOUS_DEFAULTS):
        line.reject(f"not allowed in {'an anonymous' if anonymous else 'a'} {proxy.kind} section")
    if name in _KEYWORDS:
        _KEYWORDS[name](proxy, line)
    elif name == "option":
        _read_option(proxy, line)
    elif name == "errorfile":
        check_errorfile(line)
        warnings.append(f"{line.where} line {line.number}: errorfile: taken as HAProxy's own answer")
    elif name == "monitor" or name in _REFUSED:
        line.refuse("could change the answer and is not modelled")
    elif name not in _IGNORED:
        line.reject(f"unknown keyword in a {proxy.kind} section")
    elif name == "stats":
        if not line.args or line.args[0] not in _STATS:
            line.wrong(" ".join(line.args), ", ".join(sorted(_STATS)))
        check_stats(line)
    elif name == "id":
        number(line, only_arg(line, "a whole number"), at_least=1)
    elif name in _CHECKS:
        _CHECKS[name](line)
    else:
        check_form(line, PROXY_FORMS)
