"""Reads an nginx.conf: what of it decides the fate of a request when the server stops.

A directive is modelled, ignored because it cannot change the answer, or refused by name.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.model import NginxConf, NginxListen, NginxLocation
from sim.scenario.nginx_directives import Directive, number, one_of, read_directives, size_bytes, time_s
from sim.scenario.nginx_location import (
    check_try_files,
    file_of,
    location_of,
    most_specific_first,
    plain_location,
    read_locations,
    return_status,
    stream_for_s,
)
from sim.scenario.nginx_scope import INHERITED, OF_CONNECTION, Scope, inherit, once, pass_over
from sim.scenario.nginx_values import check_log_formats

__all__ = ["file_of", "location_of", "parse_nginx", "stream_for_s"]

_LISTEN_IGNORED: Final = frozenset({"default_server", "default", "reuseport", "bind"})
_LISTEN_CHECKED: Final[Mapping[str, Callable[[Directive, str], Any]]] = {
    "fastopen": number,
    "ipv6only": one_of("on", "off"),
    "rcvbuf": size_bytes,
    "sndbuf": size_bytes,
}
_SO_KEEPALIVE: Final = re.compile(r"on|off|(?=.*\d)[0-9smhd]*:[0-9smhd]*:\d*")
_LISTEN_REFUSED: Final = frozenset({"ssl", "http2", "quic", "spdy", "proxy_protocol", "deferred"})
_LOOPBACK: Final = ("127.", "[::1]", "localhost", "unix:")
_EVERY_ADDRESS: Final = ("", "*", "0.0.0.0", "[::]")  # noqa: S104 - compared, not bound


# ---------------------------------------------------------------- main, events, http


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    directive: Directive
    scope: Scope
    listens: tuple[NginxListen, ...]
    locations: tuple[NginxLocation, ...]


def parse_nginx(text: str, *, where: str, includes: Mapping[str, str] | None = None) -> NginxConf:
    """What of an nginx.conf decides a request's fate.

    Parameters
    ----------
    text : str
        The file's content.
    where : str
        Its name in messages, for example ``app.yaml: ConfigMap conf nginx.conf``.
    includes : mapping, optional
        Further files by absolute path or by bare name: what `include` lines may find.

    Raises
    ------
    InputError
        nginx itself would not start with it, or would not listen.
    UnsupportedInput
        It holds what could change the answer and is not modelled.
    """
    main: dict[str, Any] = {}
    servers: list[_Server] = []
    warnings: list[str] = []
    names: set[str] = set()
    n_sockets = 0
    for directive in once(read_directives(text, where, includes)):
        names.add(directive.name)
        match directive.name:
            case "worker_processes" if directive.args == ("auto",):
                main["worker_processes"] = None
            case "worker_processes":
                main["worker_processes"] = number(directive, directive.args[0])
                if not main["worker_processes"]:
                    directive.refuse("0: nothing would answer")
            case "worker_shutdown_timeout":
                main["worker_shutdown_timeout_s"] = time_s(directive, directive.args[0]) or None
            case "events":
                main |= _read_events(directive)
            case "http":
                check_log_formats(directive)
                servers = _read_http(directive, warnings)
                n_sockets = _n_sockets(directive)
            case _:
                pass_over(directive)
    if "events" not in names:
        raise InputError(f"{where}: no events block; nginx does not start without one")
    if not servers:
        raise InputError(f"{where}: no http server that listens on an address of the pod")
    connections = main.get("worker_connections", NginxConf().worker_connections)
    if connections <= n_sockets:
        raise InputError(f"{where}: worker_connections {connections} are not enough for {n_sockets} sockets")
    _check_together(servers)
    scope = servers[0].scope
    return NginxConf(
        **main,
        **{name: getattr(scope, name) for name in OF_CONNECTION},
        keepalive_timeout_s=scope.keepalive_timeout_s,
        listens=tuple(listen for server in servers for listen in server.listens),
        locations=_all_locations(servers),
        warnings=tuple(warnings),
    )


def _n_sockets(http: Directive) -> int:
    listens = [
        tuple(line.args[:1] for line in server.block if line.name == "listen") or (("80",),)
        for server in http.block
        if server.name == "server"
    ]
    return len({address for addresses in listens for address in addresses})


def _read_events(events: Directive) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for directive in once(events.block):
        match directive.name:
            case "worker_connections":
                read["worker_connections"] = number(directive, directive.args[0], at_least=1)
            case "accept_mutex" if directive.args == ("on",):
                directive.refuse("on delays accepts, which is not modelled; off is nginx's default")
            case "accept_mutex":
                pass
            case _:
                pass_over(directive)
    return read


def _read_http(http: Directive, warnings: list[str]) -> list[_Server]:
    scope, blocks = Scope(), []
    for directive in once(http.block):
        if directive.name == "server":
            blocks.append(directive)
        elif directive.name in INHERITED:
            scope = inherit(scope, directive)
        else:
            pass_over(directive)
    servers = []
    for block in blocks:  # after the whole of http: what stands below a server is handed down to it too
        server = _read_server(block, scope)
        if server.listens:
            servers.append(server)
        else:
            warnings.append(f"{block.where} line {block.line}: server: listens on loopback only, left out")
    return servers


def _check_together(servers: list[_Server]) -> None:
    """Servers agree on the settings of connections, and each has ports of its own."""
    taken: set[int] = set()
    for server in servers:
        for name in OF_CONNECTION:
            if getattr(server.scope, name) != getattr(servers[0].scope, name):
                server.directive.refuse(f"{name.removesuffix('_s')} differs between servers; set it in http")
        ports = {listen.port for listen in server.listens}
        if ports & taken:
            server.directive.refuse(
                f"a second server on port {min(ports & taken)} (virtual host) is not modelled"
            )
        taken |= ports


def _all_locations(servers: list[_Server]) -> tuple[NginxLocation, ...]:
    if len(servers) == 1:
        return servers[0].locations
    places = [
        replace(place, port=listen.port)
        for server in reversed(servers)
        for listen in server.listens
        for place in server.locations
    ]
    return most_specific_first(places)


# ---------------------------------------------------------------- server


def _read_server(server: Directive, scope: Scope) -> _Server:
    listens: list[Directive] = []
    blocks: list[Directive] = []
    answer: int | None = None
    for directive in once(server.block):
        match directive.name:
            case "listen":
                listens.append(directive)
            case "location":
                blocks.append(directive)
            case "return":
                status = return_status(directive)
                answer = status if answer is None else answer  # the first one ends the request
            case "try_files":
                check_try_files(directive)
            case name if name in INHERITED:
                scope = inherit(scope, directive)
            case _:
                pass_over(directive)
    locations = read_locations(blocks, scope)
    if answer is not None:  # runs before a location is looked for
        locations = (replace(plain_location(scope, "/"), root=None, status=answer),)
    return _Server(directive=server, scope=scope, listens=_read_listens(listens), locations=locations)


def _read_listens(directives: list[Directive]) -> tuple[NginxListen, ...]:
    """The ports that can be reached from outside the pod; IPv4's socket where there are two."""
    if not directives:
        return (NginxListen(),)
    sockets: dict[str, NginxListen] = {}
    for directive in directives:
        address, *options = directive.args
        if address.startswith(_LOOPBACK):
            continue
        host, port = _host_and_port(directive, address)
        key = f"[::]:{port}" if host == "[::]" else f"*:{port}"
        if key in sockets:
            directive.reject(f"a duplicate listen {address}")
        sockets[key] = NginxListen(port=port, **_listen_options(directive, options))
    v4_first = sorted(sockets.items(), key=lambda item: item[0].startswith("["))
    return tuple({listen.port: listen for _, listen in reversed(v4_first)}.values())[::-1]


def _host_and_port(directive: Directive, address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":") if not address.endswith("]") else (address, "", "80")
    if not host and not port.isdigit():
        host, port = port, "80"
    if host not in _EVERY_ADDRESS:
        directive.refuse(f"{address}: only every address of the pod (80, *:80, [::]:80) is modelled")
    if number(directive, port, at_least=1) > 65535:
        directive.wrong(port, "a port from 1 to 65535")
    return host, int(port)


def _listen_options(directive: Directive, options: list[str]) -> dict[str, int]:
    read = {}
    for option in options:
        name, _, value = option.partition("=")
        if name == "backlog":
            read["backlog"] = number(directive, value, at_least=1)
        elif option in _LISTEN_REFUSED:
            directive.refuse(f"{option} is not modelled")
        elif value and name in _LISTEN_CHECKED:
            _LISTEN_CHECKED[name](directive, value)
        elif option not in _LISTEN_IGNORED and not (
            name == "so_keepalive" and _SO_KEEPALIVE.fullmatch(value)
        ):
            directive.wrong(option, "backlog=N, default_server, reuseport, ipv6only=…, so_keepalive=…")
    return read
