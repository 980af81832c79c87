"""What the blocks of an nginx.conf hand down, and which directives cannot change the answer.

Inheritance and defaults are those of nginx 1.22 (release-1.26.2 `src/http/ngx_http_core_module.c`, merge
functions).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Final

from crossplane.analyzer import DIRECTIVES as NGINX_DIRECTIVES

from sim.scenario.nginx_directives import (
    PREFIX,
    Directive,
    constant,
    file_path,
    number,
    one_of,
    size_bytes,
    time_s,
)
from sim.scenario.nginx_values import check_values

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
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


INHERITED: Final[Mapping[str, tuple[str, Callable[[Directive, str], Any]]]] = MappingProxyType(
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
OF_CONNECTION: Final = tuple(f.name for f in fields(Scope) if f.name not in _KEPT_PER_LOCATION)
"""Settings that the model has once: they must agree in every server and location."""


def inherit(scope: Scope, directive: Directive) -> Scope:
    """The scope with one setting read."""
    field_name, read = INHERITED[directive.name]
    if not directive.args:
        directive.reject("needs a value")
    values = [read(directive, text) for text in directive.args]
    if directive.name == "index":
        return replace(scope, index=tuple(values))
    if len(values) > (2 if directive.name == "keepalive_timeout" else 1):
        directive.wrong(" ".join(directive.args), "one value")
    # keepalive_timeout's second value is only announced to the client; no modelled client reads it
    return replace(scope, **{field_name: values[0]})


def once(directives: tuple[Directive, ...]) -> Iterator[Directive]:
    """The directives of one block, each that may not stand twice only once."""
    seen: set[str] = set()
    for directive in directives:
        if directive.name == "index" and "index" in seen:
            directive.refuse("a second index line in one block is not modelled: write one")
        if directive.name in seen and directive.name not in _REPEATABLE:
            directive.reject("stands twice in one block")
        seen.add(directive.name)
        yield directive


def pass_over(directive: Directive) -> None:
    """Ignores what cannot change the answer; refuses the forms of it that can, and everything else."""
    name, args = directive.name, directive.args
    if name not in IGNORED:
        if name in NGINX_DIRECTIVES:
            directive.refuse("could change the answer and is not modelled")
        directive.reject("unknown directive")
    check_values(directive)
    if name == "add_header" and args[0].lower() in _HEADERS_THAT_MATTER:
        directive.refuse(f"{args[0]} could change how connections end, which is not modelled")
    if name == "error_page" and (not args[-1].startswith("/") or any(arg.startswith("=") for arg in args)):
        directive.refuse("another status for an error is not modelled")
    if name == "chunked_transfer_encoding" and args == ("off",):
        directive.refuse("off ends answers with the connection, which is not modelled")
