"""Reads an nginx.conf: what of it decides the fate of a request when the server stops.

Contexts, inheritance and defaults are those of nginx 1.22 (release-1.26.2
`src/http/ngx_http_core_module.c`, merge functions). A directive is modelled, ignored because it cannot
change the answer (`IGNORED`), or refused by name.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from math import ceil
from types import MappingProxyType
from typing import Any, Final

from crossplane.analyzer import DIRECTIVES as NGINX_DIRECTIVES

from sim.errors import InputError
from sim.scenario.model import NginxConf, NginxListen, NginxLocation
from sim.scenario.nginx_directives import (
    PREFIX,
    Directive,
    constant,
    file_path,
    number,
    one_of,
    read_directives,
    seconds,
    size_bytes,
    time_s,
)

IGNORED: Final = frozenset(  # logs, headers, files, memory: never whether a request gets its answer
    """
    absolute_redirect accept_mutex_delay access_log add_header aio aio_write autoindex autoindex_exact_size
    autoindex_format autoindex_localtime charset charset_types chunked_transfer_encoding
    client_body_buffer_size client_body_in_file_only client_body_temp_path client_body_timeout
    client_header_buffer_size client_max_body_size connection_pool_size daemon debug_connection default_type
    directio directio_alignment disable_symlinks env error_log error_page etag expires
    fastcgi_temp_path gunzip gzip gzip_buffers
    gzip_comp_level gzip_disable gzip_http_version gzip_min_length gzip_proxied gzip_static gzip_types
    gzip_vary if_modified_since ignore_invalid_headers keepalive_disable large_client_header_buffers
    load_module lock_file log_format log_not_found log_subrequest max_ranges merge_slashes multi_accept
    msie_padding msie_refresh open_file_cache open_file_cache_errors open_file_cache_min_uses
    open_file_cache_valid open_log_file_cache output_buffers override_charset pcre_jit pid port_in_redirect
    postpone_output proxy_temp_path read_ahead recursive_error_pages request_pool_size
    reset_timedout_connection resolver
    resolver_timeout scgi_temp_path send_lowat send_timeout sendfile sendfile_max_chunk server_name
    server_name_in_redirect
    server_names_hash_bucket_size server_names_hash_max_size server_tokens subrequest_output_buffer_size
    tcp_nodelay tcp_nopush thread_pool timer_resolution types types_hash_bucket_size types_hash_max_size
    underscores_in_headers use user uwsgi_temp_path variables_hash_bucket_size variables_hash_max_size
    worker_aio_requests worker_cpu_affinity worker_priority worker_rlimit_core worker_rlimit_nofile
    working_directory
    """.split()  # noqa: SIM905 - a list of words reads as one
)

_REPEATABLE: Final = frozenset(  # nginx calls every other directive a duplicate when it stands twice
    """
    access_log add_header charset_types debug_connection echo echo_flush echo_sleep env error_log error_page
    gzip_disable gzip_types load_module location log_format return server server_name listen thread_pool types
    """.split()  # noqa: SIM905
)

_HEADERS_THAT_MATTER: Final = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
_LISTEN_IGNORED: Final = frozenset({"default_server", "default", "reuseport", "bind"})
_LISTEN_IGNORED_WITH_VALUE: Final = frozenset(
    {"ipv6only", "so_keepalive", "rcvbuf", "sndbuf", "fastopen", "setfib"}
)
_LISTEN_REFUSED: Final = frozenset({"ssl", "http2", "quic", "spdy", "proxy_protocol", "deferred"})
_LOOPBACK: Final = ("127.", "[::1]", "localhost", "unix:")
_EVERY_ADDRESS: Final = ("", "*", "0.0.0.0", "[::]")  # noqa: S104 - compared, not bound


# ---------------------------------------------------------------- what blocks hand down


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scope:
    """Settings that http, server and location hand down; defaults are nginx's."""

    keepalive_timeout_s: float = 75.0
    keepalive_requests: int = 1000
    keepalive_time_s: float = 3600.0
    keepalive_min_timeout_s: float = 0.0
    client_header_timeout_s: float = 60.0
    lingering_close: str = "on"
    lingering_time_s: float = 30.0
    lingering_timeout_s: float = 5.0
    root: str = f"{PREFIX}/html"
    index: tuple[str, ...] = ("index.html",)
    limit_rate_bytes_per_s: int = 0
    limit_rate_after_bytes: int = 0


_INHERITED: Final[Mapping[str, tuple[str, Callable[[Directive, str], Any]]]] = MappingProxyType(
    {
        "keepalive_timeout": ("keepalive_timeout_s", time_s),
        "keepalive_requests": ("keepalive_requests", number),
        "keepalive_time": ("keepalive_time_s", time_s),
        "keepalive_min_timeout": ("keepalive_min_timeout_s", time_s),
        "client_header_timeout": ("client_header_timeout_s", time_s),
        "lingering_close": ("lingering_close", one_of("on", "off", "always")),
        "lingering_time": ("lingering_time_s", time_s),
        "lingering_timeout": ("lingering_timeout_s", time_s),
        "root": ("root", file_path),
        "index": ("index", constant),
        "limit_rate": ("limit_rate_bytes_per_s", size_bytes),
        "limit_rate_after": ("limit_rate_after_bytes", size_bytes),
    }
)
_KEPT_PER_LOCATION: Final = frozenset(
    {"keepalive_timeout_s", "root", "index", "limit_rate_bytes_per_s", "limit_rate_after_bytes"}
)
_OF_CONNECTION: Final = tuple(f.name for f in fields(_Scope) if f.name not in _KEPT_PER_LOCATION)
"""Settings that the model has once: they must agree in every server and location."""


def _inherit(scope: _Scope, directive: Directive) -> _Scope:
    """The scope with one setting read."""
    field_name, read = _INHERITED[directive.name]
    if not directive.args:
        directive.reject("needs a value")
    values = [read(directive, text) for text in directive.args]
    if directive.name == "index":
        return replace(scope, index=tuple(values))
    if len(values) > (2 if directive.name == "keepalive_timeout" else 1):
        directive.wrong(" ".join(directive.args), "one value")
    # keepalive_timeout's second value is only announced to the client; no modelled client reads it
    return replace(scope, **{field_name: values[0]})


def _once(directives: tuple[Directive, ...]) -> Iterator[Directive]:
    """The directives of one block, each that may not stand twice only once."""
    seen: set[str] = set()
    for directive in directives:
        if directive.name in seen and directive.name not in _REPEATABLE:
            directive.reject("stands twice in one block")
        seen.add(directive.name)
        yield directive


def _pass_over(directive: Directive) -> None:
    """Ignores what cannot change the answer; refuses the forms of it that can, and everything else."""
    name, args = directive.name, directive.args
    if name not in IGNORED:
        if name in NGINX_DIRECTIVES:
            directive.refuse("could change the answer and is not modelled")
        directive.reject("unknown directive")
    if name == "add_header" and args[0].lower() in _HEADERS_THAT_MATTER:
        directive.refuse(f"{args[0]} could change how connections end, which is not modelled")
    if name == "error_page" and (not args[-1].startswith("/") or any(arg.startswith("=") for arg in args)):
        directive.refuse("another status for an error is not modelled")
    if name == "chunked_transfer_encoding" and args == ("off",):
        directive.refuse("off ends answers with the connection, which is not modelled")


# ---------------------------------------------------------------- main, events, http


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    directive: Directive
    scope: _Scope
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
    for directive in _once(read_directives(text, where, includes)):
        names.add(directive.name)
        match directive.name:
            case "worker_processes" if directive.args == ("auto",):
                main["worker_processes"] = None
            case "worker_processes":
                main["worker_processes"] = number(directive, directive.args[0], at_least=1)
            case "worker_shutdown_timeout":
                main["worker_shutdown_timeout_s"] = time_s(directive, directive.args[0]) or None
            case "events":
                main |= _read_events(directive)
            case "http":
                servers = _read_http(directive, warnings)
            case _:
                _pass_over(directive)
    if "events" not in names:
        raise InputError(f"{where}: no events block; nginx does not start without one")
    if not servers:
        raise InputError(f"{where}: no http server that listens on an address of the pod")
    _check_together(servers)
    scope = servers[0].scope
    return NginxConf(
        **main,
        **{name: getattr(scope, name) for name in _OF_CONNECTION},
        keepalive_timeout_s=scope.keepalive_timeout_s,
        listens=tuple(listen for server in servers for listen in server.listens),
        locations=_all_locations(servers),
        warnings=tuple(warnings),
    )


def _read_events(events: Directive) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for directive in _once(events.block):
        match directive.name:
            case "worker_connections":
                read["worker_connections"] = number(directive, directive.args[0], at_least=1)
            case "accept_mutex" if directive.args == ("on",):
                directive.refuse("on delays accepts, which is not modelled; off is nginx's default")
            case "accept_mutex":
                pass
            case _:
                _pass_over(directive)
    return read


def _read_http(http: Directive, warnings: list[str]) -> list[_Server]:
    scope, blocks = _Scope(), []
    for directive in _once(http.block):
        if directive.name == "server":
            blocks.append(directive)
        elif directive.name in _INHERITED:
            scope = _inherit(scope, directive)
        else:
            _pass_over(directive)
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
        for name in _OF_CONNECTION:
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
    return _most_specific_first(places)


def _most_specific_first(places: list[NginxLocation]) -> tuple[NginxLocation, ...]:
    return tuple(sorted(places, key=lambda place: (not place.exact, -len(place.path))))


# ---------------------------------------------------------------- server


def _read_server(server: Directive, scope: _Scope) -> _Server:
    listens: list[Directive] = []
    blocks: list[Directive] = []
    answer: int | None = None
    for directive in _once(server.block):
        match directive.name:
            case "listen":
                listens.append(directive)
            case "location":
                blocks.append(directive)
            case "return":
                status = _status(directive)
                answer = status if answer is None else answer  # the first one ends the request
            case "try_files":
                _check_try_files(directive)
            case name if name in _INHERITED:
                scope = _inherit(scope, directive)
            case _:
                _pass_over(directive)
    locations = _read_locations(blocks, scope)
    if answer is not None:  # runs before a location is looked for
        locations = (replace(_location(scope, "/"), root=None, status=answer),)
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
        elif option not in _LISTEN_IGNORED and not (value and name in _LISTEN_IGNORED_WITH_VALUE):
            directive.wrong(option, "backlog=N, default_server, reuseport, ipv6only=…, so_keepalive=…")
    return read


def _status(directive: Directive) -> int:
    """Status of a `return` line; a URL alone is a 302."""
    text = directive.args[0]
    if text.startswith(("http://", "https://", "$")):
        return 302
    code = number(directive, text)
    if code > 999:
        directive.wrong(text, "a status up to 999")
    if code == 444:
        directive.refuse("444 closes the connection without an answer, which is not modelled")
    return code


def _check_try_files(directive: Directive) -> None:
    """`try_files $uri $uri/ =404` answers as a plain location does; any fallback hides a removed file."""
    *files, last = directive.args
    if last != "=404" or any(name not in ("$uri", "$uri/") for name in files):
        directive.refuse("only $uri, $uri/ and =404 are modelled: a fallback answers for a removed file")


# ---------------------------------------------------------------- location


def _location(scope: _Scope, path: str) -> NginxLocation:
    return NginxLocation(
        path=path,
        root=scope.root,
        index=scope.index,
        limit_rate_bytes_per_s=float(scope.limit_rate_bytes_per_s) or None,
        limit_rate_after_bytes=scope.limit_rate_after_bytes,
        keepalive_timeout_s=scope.keepalive_timeout_s,
    )


def _read_locations(blocks: list[Directive], scope: _Scope) -> tuple[NginxLocation, ...]:
    """A server's locations; a pattern is left out where it answers as every other path does."""
    places: dict[tuple[bool, str], NginxLocation] = {}
    patterns: list[tuple[Directive, NginxLocation]] = []
    for block in blocks:
        modifier, path = ("", block.args[0]) if len(block.args) == 1 else block.args
        if modifier not in ("", "=", "^~", "~", "~*"):
            block.wrong(modifier, "=, ^~, ~ or ~*")
        place = _read_location(block, scope, path, exact=modifier == "=")
        if modifier.startswith("~"):
            patterns.append((block, place))
        elif (place.exact, path) in places:
            block.reject(f"duplicate location {path}")
        elif not path.startswith("@"):  # a named one is reached only from what is refused
            places[place.exact, path] = place
    places.setdefault((False, "/"), _location(scope, "/"))
    for block, pattern in patterns:
        if any(replace(pattern, path=place.path, exact=place.exact) != place for place in places.values()):
            block.refuse("a pattern that changes the answer is not modelled; use a prefix or =")
    return _most_specific_first(list(places.values()))


def _read_location(location: Directive, scope: _Scope, path: str, *, exact: bool) -> NginxLocation:
    alias: str | None = None
    answer: int | None = None
    echo = _Echo()
    needs_file = False
    outer = scope
    for directive in _once(location.block):
        match directive.name:
            case "return":
                status = _status(directive)
                answer = status if answer is None else answer  # the first one ends the request
            case "alias":
                alias = file_path(directive, directive.args[0])
            case "echo" | "echo_flush" | "echo_sleep":
                echo = echo.then(directive)
            case "stub_status":
                echo = replace(echo, used=True)
            case "try_files":
                _check_try_files(directive)
                needs_file = True
            case "location":
                directive.refuse("a location inside a location is not modelled")
            case name if name in _INHERITED:
                scope = _inherit(scope, directive)
            case _:
                _pass_over(directive)
        if any(getattr(scope, name) != getattr(outer, name) for name in _OF_CONNECTION):
            directive.refuse("a value for one location alone is not modelled; set it in http")
    place = replace(_location(scope, path), exact=exact, alias=alias)
    if answer is not None:  # runs before any content: an echo_sleep beside it has no effect
        return replace(place, root=None, alias=None, status=answer)
    if echo.used:
        place = replace(place, header_delay_s=echo.header_delay_s, body_delay_s=echo.body_delay_s)
        place = place if needs_file else replace(place, root=None, alias=None)
    return place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Echo:
    """The echo commands of a location (echo-nginx-module 0.63), in their order.

    Output waits in nginx until it is flushed or complete, so a sleep before the first flush of some output
    delays the header, and one behind it the body.
    """

    used: bool = False
    wrote: bool = False
    flushed: bool = False
    header_delay_s: float = 0.0
    body_delay_s: float = 0.0

    def then(self, directive: Directive) -> "_Echo":
        if directive.name == "echo":
            return replace(self, used=True, wrote=True)
        if directive.name == "echo_flush":
            return replace(self, used=True, flushed=self.flushed or self.wrote)
        if len(directive.args) != 1:
            directive.reject("needs seconds, such as 0.5")
        late_s = seconds(directive, directive.args[0])
        if self.flushed:
            return replace(self, used=True, body_delay_s=self.body_delay_s + late_s)
        return replace(self, used=True, header_delay_s=self.header_delay_s + late_s)


# ---------------------------------------------------------------- questions to a configuration


def location_of(conf: NginxConf, path: str, port: int | None = None) -> NginxLocation:
    """The location that answers *path* on *port*: an exact one, else the longest prefix."""
    path = path.partition("?")[0]
    for place in conf.locations:
        if port is not None and place.port not in (None, port):
            continue
        if path == place.path if place.exact else path.startswith(place.path):
            return place
    return conf.locations[-1]


def file_of(location: NginxLocation, path: str) -> str | None:
    """The file that answers *path*; None where the answer needs none (`return`, `echo`)."""
    path = path.partition("?")[0]
    if location.alias is not None:
        name = location.alias + path.removeprefix(location.path)
    elif location.root is not None:
        name = location.root.rstrip("/") + path
    else:
        return None
    return name + location.index[0] if name.endswith("/") else name


def stream_for_s(location: NginxLocation, n_bytes: int) -> float:
    """How long an answer of *n_bytes*, its header included, streams. [s]

    Notes
    -----
    nginx release-1.26.2 src/http/ngx_http_write_filter_module.c: `limit_rate` lets the first second's worth
    out at once and then one more each second, so n bytes at rate r take ceil(n / r) - 1 seconds.
    """
    if not location.limit_rate_bytes_per_s:
        return location.body_delay_s
    limited = max(0, n_bytes - location.limit_rate_after_bytes)
    return location.body_delay_s + max(0, ceil(limited / location.limit_rate_bytes_per_s) - 1)
