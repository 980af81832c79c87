"""HAProxy's `server`, `server-template` and `default-server` lines (configuration.txt 5.2)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final

from sim.scenario.haproxy_words import Line, number, time_s
from sim.scenario.model import HAProxyCheck, HAProxyServer

_IGNORED: Final[Mapping[str, int]] = MappingProxyType(  # word -> number of values behind it
    {
        **dict.fromkeys(
            ("enabled", "non-stick", "stick", "no-agent-check", "no-check-ssl", "no-send-proxy", "no-ssl"), 0
        ),
        **dict.fromkeys(("no-send-proxy-v2", "no-send-proxy-v2-ssl", "no-tfo"), 0),
        **dict.fromkeys(
            ("agent-addr", "agent-port", "agent-send", "cookie", "pool-low-conn", "resolve-net"), 1
        ),
        **dict.fromkeys(("sni", "alpn", "npn"), 1),  # without `ssl` they do nothing
    }
)
_REFUSED: Final = frozenset(
    """
    addr agent-check ca-file check-alpn check-proto check-send-proxy check-sni check-ssl check-via-socks4
    ciphers ciphersuites crl-file crt disabled max-reuse maxqueue minconn namespace observe on-error
    on-marked-up proto proxy-v2-options redir send-proxy send-proxy-v2 send-proxy-v2-ssl
    send-proxy-v2-ssl-cn shard slowstart socks4 source ssl ssl-max-ver ssl-min-ver tcp-ut tfo track usesrc
    verifyhost ws
    """.split()  # noqa: SIM905 - a list of words reads as one
)


MAX_TEMPLATE: Final = 10_000
_RESOLVE_OPTIONS: Final = ("allow-dup-ip", "ignore-weight", "prevent-dup-ip")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerParams:
    """What `default-server` hands down to the server lines below it."""

    check: bool = False
    inter_s: float = 2.0
    fastinter_s: float | None = None
    downinter_s: float | None = None
    rise: int = 2
    fall: int = 3
    check_port: int | None = None
    weight: int = 1
    maxconn: int | None = None
    backup: bool = False
    shutdown_sessions_on_down: bool = False
    pool_purge_delay_s: float = 5.0
    resolvers: str | None = None


_FLAGS: Final[Mapping[str, dict[str, Any]]] = MappingProxyType(
    {
        "check": {"check": True},
        "no-check": {"check": False},
        "backup": {"backup": True},
        "no-backup": {"backup": False},
    }
)


def read_params(line: Line, words: tuple[str, ...], params: ServerParams) -> ServerParams:
    """*params* with the words of one line read; the last of two equal words counts."""
    rest = iter(words)
    for word in rest:
        if word in _FLAGS:
            params = replace(params, **_FLAGS[word])
        elif word in _IGNORED:
            for _ in range(_IGNORED[word]):
                _value(line, word, rest)
        elif word in _REFUSED:
            line.refuse(f"{word} is not modelled")
        else:
            params = replace(params, **_read_valued(line, word, rest))
    return params


def _value(line: Line, word: str, rest: Iterator[str]) -> str:
    value = next(rest, None)
    if value is None:
        line.reject(f"{word} needs a value")
    return value


def _words_of(line: Line, text: str, *allowed: str) -> list[str]:
    """The words of a list with commas."""
    words = text.split(",")
    for word in words:
        if word not in allowed:
            line.wrong(word, ", ".join(allowed))
    return words


def _read_valued(  # noqa: RET503 - `reject` does not return
    line: Line, word: str, rest: Iterator[str]
) -> dict[str, Any]:
    """One word with its value, as fields of ServerParams."""
    match word:
        case "inter" | "fastinter" | "downinter":
            every_s = time_s(line, _value(line, word, rest))
            if not every_s:
                line.reject(f"{word} has to be more than 0")
            return {f"{word}_s": every_s}
        case "rise" | "fall":
            return {word: number(line, _value(line, word, rest), at_least=1)}
        case "port":
            return {"check_port": number(line, _value(line, word, rest), at_least=1, at_most=65535)}
        case "weight":
            return {"weight": number(line, _value(line, word, rest), at_most=256)}
        case "maxconn":
            return {"maxconn": number(line, _value(line, word, rest)) or None}
        case "pool-purge-delay":
            return {"pool_purge_delay_s": time_s(line, _value(line, word, rest))}
        case "pool-max-conn":
            if number(line, _value(line, word, rest), at_least=-1) != -1:
                line.refuse("pool-max-conn other than -1 (no limit) is not modelled")
            return {}
        case "on-marked-down":
            action = _value(line, word, rest)
            if action == "shutdown-backup-sessions":
                line.refuse(f"{word} {action} is not modelled")
            if action != "shutdown-sessions":
                line.wrong(action, "shutdown-sessions")
            return {"shutdown_sessions_on_down": True}
        case "resolve-opts":
            if "allow-dup-ip" in _words_of(line, _value(line, word, rest), *_RESOLVE_OPTIONS):
                line.refuse("resolve-opts allow-dup-ip is not modelled")
            return {}
        case "resolve-prefer":
            _words_of(line, _value(line, word, rest), "ipv4", "ipv6")
            return {}
        case "init-addr":
            methods = _value(line, word, rest)
            _words_of(line, re.sub(r"\d+(\.\d+){3}", "none", methods), "last", "libc", "none")
            return {}
        case "id":
            number(line, _value(line, word, rest), at_least=1)
            return {}
        case "agent-inter":  # the next three do nothing here: their values are only checked
            time_s(line, _value(line, word, rest))
            return {}
        case "error-limit":
            number(line, _value(line, word, rest), at_least=1)
            return {}
        case "log-proto" | "verify":
            allowed = ("legacy", "octet-count") if word == "log-proto" else ("none", "required")
            if (value := _value(line, word, rest)) not in allowed:
                line.wrong(value, ", ".join(allowed))
            return {}
        case "resolvers":
            return {"resolvers": _value(line, word, rest)}
    line.reject(f"unknown keyword {word!r}")


def read_server(line: Line, defaults: ServerParams, check: HAProxyCheck) -> HAProxyServer:
    """A `server NAME ADDRESS …` or `server-template PREFIX COUNT ADDRESS …` line.

    *check* holds what the section says of health checks; intervals and thresholds come from the line.
    """
    is_template = line.name == "server-template"
    if len(line.args) < (3 if is_template else 2):
        line.reject("needs a name, a count and an address" if is_template else "needs a name and an address")
    name, *rest = line.args
    if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name):
        line.wrong(name, "letters, digits, - _ . :")
    count = _template_count(line, rest.pop(0)) if is_template else None
    host, port = _address(line, rest[0])
    params = read_params(line, tuple(rest[1:]), defaults)
    if params.check and params.check_port not in (None, port):
        line.refuse(f"port {params.check_port}: checks of another port are not modelled")
    return HAProxyServer(
        name=name,
        host=host,
        port=port,
        check=_check(params, check) if params.check else None,
        weight=params.weight,
        maxconn=params.maxconn,
        backup=params.backup,
        shutdown_sessions_on_down=params.shutdown_sessions_on_down,
        pool_purge_delay_s=params.pool_purge_delay_s,
        template_count=count,
        resolvers=params.resolvers,
    )


def _check(params: ServerParams, check: HAProxyCheck) -> HAProxyCheck:
    return replace(
        check,
        inter_s=params.inter_s,
        fastinter_s=params.fastinter_s,
        downinter_s=params.downinter_s,
        rise=params.rise,
        fall=params.fall,
    )


def _template_count(line: Line, text: str) -> int:
    low, dash, high = text.partition("-")
    first = number(line, low, at_least=1)
    count = number(line, high, at_least=first) - first + 1 if dash else first
    if count > MAX_TEMPLATE:
        line.refuse(f"{text}: more than {MAX_TEMPLATE} servers of one template are not modelled")
    return count


def _address(line: Line, text: str) -> tuple[str, int]:
    """Host and port; without a port HAProxy takes the client's, which is refused."""
    if re.match(r"(unix|uxst|uxdg|abns|fd|sockpair|quic\d|udp\d?|stream|dgram)[+@]|/", text):
        line.refuse(f"{text}: only TCP addresses are modelled")
    text = re.sub(r"^(ipv4|ipv6|tcp4|tcp6|tcp)@", "", text)
    host, colon, port = text.rpartition(":")
    if not colon or not port or port.startswith(("+", "-")):
        line.refuse(f"{text}: an address without a port of its own is not modelled")
    if not host:
        line.refuse(f"{text}: an address without a host is not modelled")
    if not number(line, port, at_most=65535):
        line.refuse(f"{text}: port 0 is not modelled")
    return host.strip("[]"), int(port)
