"""Reads a haproxy.cfg: what of it decides the fate of a request.

Sections, inheritance from `defaults` and what is rejected follow HAProxy 2.6 (configuration.txt of 2.6 and
3.0, checked against `haproxy -c` of 2.6.12). A keyword is modelled, ignored because it cannot change the
answer, or refused by name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.haproxy_forms import (
    GLOBAL_FORMS,
    GLOBAL_STATS_FORMS,
    check_form,
    check_log,
    check_nameserver,
    check_section_line,
    check_stats,
)
from sim.scenario.haproxy_proxy import Proxy, read_proxy_line
from sim.scenario.haproxy_server import read_server
from sim.scenario.haproxy_words import Line, number, only_arg, read_lines, time_s
from sim.scenario.model import (
    HAProxyBackend,
    HAProxyConf,
    HAProxyFrontend,
    HAProxyResolvers,
    HAProxyServer,
    HttpMode,
)

_GLOBAL_IGNORED: Final = frozenset(  # logs, users, files, limits of memory and CPU
    """
    busy-polling ca-base chroot cpu-map crt-base daemon default-path description
    expose-experimental-directives fd-hard-limit gid group h1-case-adjust insecure-fork-wanted
    insecure-setuid-wanted localpeer log log-send-hostname log-tag master-worker max-spread-checks
    maxcompcpuusage maxcomprate maxpipes maxsslconn maxsslrate maxzlibmem mworker-max-reloads node
    noepoll noevports nogetaddrinfo nokqueue no-memory-trimming nopoll nosplice numa-cpu-mapping pidfile
    pp2-never-send-local profiling.tasks quiet server-state-base server-state-file set-dumpable
    ssl-default-bind-ciphers ssl-default-bind-ciphersuites ssl-default-bind-curves ssl-default-bind-options
    ssl-default-server-ciphers ssl-default-server-ciphersuites ssl-default-server-options ssl-dh-param-file
    ssl-engine ssl-mode-async ssl-server-verify stats strict-limits tune.bufsize
    tune.disable-fast-forward tune.disable-zero-copy-forwarding tune.fd.edge-triggered tune.idletimer
    tune.maxpollevents tune.maxrewrite tune.pattern.cache-size tune.pipesize tune.recv_enough
    tune.runqueue-depth uid ulimit-n unix-bind user zero-warning
    """.split()  # noqa: SIM905 - a list of words reads as one
)
_GLOBAL_REFUSED: Final = frozenset(
    """
    external-check lua-load lua-load-per-thread lua-prepend-path maxconnrate maxsessrate noreuseport
    presetenv resetenv set-var unsetenv
    """.split()  # noqa: SIM905
)
_TUNE_REFUSED: Final = frozenset({"tune.fail-alloc", "tune.idle-pool.shared", "tune.maxaccept"})
_IGNORED_GROUPS: Final = (  # buffers, protocols that are not modelled, scripts that are refused
    "httpclient.", "tune.buffers.", "tune.comp.", "tune.h2.", "tune.http.", "tune.lua.", "tune.peers.",
    "tune.pool-", "tune.quic.", "tune.rcvbuf.", "tune.sched.", "tune.sndbuf.", "tune.ssl.", "tune.vars.",
    "tune.zlib.",
)  # fmt: skip

_STRENGTH: Final = (HttpMode.KEEP_ALIVE, HttpMode.SERVER_CLOSE, HttpMode.CLOSE)
_NAME: Final = re.compile(r"[A-Za-z0-9_.:-]+")
_SECTIONS_IGNORED: Final = frozenset({"mailers", "peers", "ring", "userlist", "cache"})
_SECTIONS_REFUSED: Final = frozenset(
    {"fcgi-app", "http-errors", "log-forward", "program", "crt-store", "traces"}
)


# ---------------------------------------------------------------- sections


def _section(line: Line, last_defaults: Proxy | None, named: Mapping[str, Sequence[Proxy]]) -> Proxy:
    """A new section with the settings of the `defaults` that it takes: the one named, else the last one."""
    name, source = _header(line)
    if line.name != "defaults" and not name:
        line.reject("needs a name")
    if line.name == "defaults":
        start = Proxy(kind="defaults", name=name, line=line)
    for other in named.get(name, ()):
        if "defaults" not in (line.name, other.kind) and (
            line.name == other.kind or "listen" in (line.name, other.kind)
        ):
            line.reject(f"{name} is the name of the {other.kind} of line {other.line.number} already")
    if source is not None:
        found = [section for section in named.get(source, ()) if section.kind == "defaults"]
        if len(found) != 1:
            line.reject(
                f"from {source}: " + ("no such defaults section" if not found else "several have that name")
            )
        start = found[0]
    elif line.name != "defaults":
        start = last_defaults or Proxy(kind="defaults", name="", line=line)
    return start.handed_down(kind=line.name, name=name, line=line)


def _header(line: Line) -> tuple[str, str | None]:
    """Name and the `defaults` named after `from`."""
    args = list(line.args)
    source = None
    if "from" in args[-2:-1] and len(args) <= 3:
        source = args.pop()
        args.pop()
    if len(args) > 1:
        line.reject(
            "an address here is not allowed; use a bind line" if line.name == "listen" else f"{args[1]!r}?"
        )
    name = args[0] if args else ""
    if name and not _NAME.fullmatch(name) and line.name != "defaults":
        line.wrong(name, "letters, digits, - _ . :")
    return name, source


# ---------------------------------------------------------------- global, resolvers


def _read_global(read: dict[str, Any], env: dict[str, str], line: Line) -> None:
    name = line.name
    match name:
        case "maxconn":
            read["maxconn"] = number(line, only_arg(line, "a whole number")) or None
        case "hard-stop-after":
            read["hard_stop_after_s"] = time_s(line, only_arg(line, "a time")) or None
        case "close-spread-time":
            text = only_arg(line, "a time, infinite")
            if text == "infinite":
                line.refuse("infinite is not modelled")
            read["close_spread_time_s"] = time_s(line, text) or None
        case "grace":
            read["grace_s"] = time_s(line, only_arg(line, "a time"))
        case "spread-checks":
            if number(line, only_arg(line, "0 to 50"), at_most=50):
                line.refuse("other than 0 is not modelled")
        case "setenv":
            if len(line.args) != 2:
                line.reject("needs a name and a value")
            env[line.args[0]] = line.args[1]
        case _ if (
            name in _GLOBAL_REFUSED
            or name in _TUNE_REFUSED
            or name.startswith(("51d", "deviceatlas", "wurfl"))
        ):
            line.refuse("could change the answer and is not modelled")
        case "log":
            check_log(line)
        case "nbthread":
            number(line, only_arg(line, "a whole number"), at_least=1)
        case _ if name not in _GLOBAL_IGNORED and not name.startswith(_IGNORED_GROUPS):
            line.reject("unknown keyword in the global section")
        case _:
            check_form(line, GLOBAL_FORMS)
            if name == "stats":
                check_stats(line, GLOBAL_STATS_FORMS)


def _read_resolvers(  # noqa: RET503 - `reject` does not return
    resolvers: HAProxyResolvers, line: Line, nameservers: set[str]
) -> HAProxyResolvers:
    match line.words:
        case ("nameserver", _, address):
            if not re.search(r":\d+$", address):
                line.wrong(address, "an address with a port, such as 10.96.0.10:53")
            check_nameserver(line, address, nameservers)
            return resolvers
        case ("accepted_payload_size", text):
            number(line, text, at_least=12, at_most=65535)
            return resolvers
        case ("parse-resolv-conf",):
            return resolvers
        case ("resolve_retries", text):
            return replace(resolvers, resolve_retries=number(line, text, at_least=1))
        case ("timeout", "resolve", text):
            return replace(resolvers, timeout_resolve_s=time_s(line, text))
        case ("timeout", "retry", text):
            return replace(resolvers, timeout_retry_s=time_s(line, text))
        case ("hold", "obsolete", text):
            return replace(resolvers, hold_obsolete_s=time_s(line, text))
        case ("hold", "nx", text):
            return replace(resolvers, hold_nx_s=time_s(line, text))
        case ("hold", "other" | "refused" | "timeout" | "valid", text):
            time_s(line, text)
            return resolvers
        case _:
            line.reject(f"{' '.join(line.args)!r}: unknown in a resolvers section")


# ---------------------------------------------------------------- the whole


@dataclass(slots=True, kw_only=True)
class _Reader:
    env: dict[str, str]
    globals: dict[str, Any] = field(default_factory=dict)
    defaults: list[Proxy] = field(default_factory=list)
    proxies: list[Proxy] = field(default_factory=list)
    named: dict[str, list[Proxy]] = field(default_factory=dict)
    """Both of them by their names."""
    resolvers: dict[str, HAProxyResolvers] = field(default_factory=dict)
    last_resolvers: str = ""
    nameservers: set[str] = field(default_factory=set)
    """Of the last resolvers."""
    warnings: list[str] = field(default_factory=list)
    section: str = ""

    def take(self, line: Line) -> None:
        name = line.name
        if name in ("global", *_SECTIONS_IGNORED):
            self.section = name
            if name == "global" and line.args:
                line.reject(f"takes no name, got {line.args[0]!r}")
            if name != "global":
                only_arg(line, "a name")
        elif name in ("defaults", "frontend", "backend", "listen"):
            self.section = name
            proxy = _section(line, self.defaults[-1] if self.defaults else None, self.named)
            (self.defaults if name == "defaults" else self.proxies).append(proxy)
            self.named.setdefault(proxy.name, []).append(proxy)
        elif name == "resolvers":
            self.section = name
            self._start_resolvers(line)
        elif name in _SECTIONS_REFUSED:
            line.refuse("a section of this kind is not modelled")
        elif not self.section:
            line.reject("unknown keyword outside of a section")
        elif self.section == "global":
            _read_global(self.globals, self.env, line)
        elif self.section == "resolvers":
            self.resolvers[self.last_resolvers] = _read_resolvers(
                self.resolvers[self.last_resolvers], line, self.nameservers
            )
        elif self.section in _SECTIONS_IGNORED:
            check_section_line(self.section, line)
        else:
            proxy = (self.defaults if self.section == "defaults" else self.proxies)[-1]
            read_proxy_line(proxy, line, self.warnings)

    def _start_resolvers(self, line: Line) -> None:
        name = only_arg(line, "a name")
        if name in self.resolvers:
            line.reject(f"{name} is the name of another resolvers section")
        self.resolvers[name] = HAProxyResolvers(name=name)
        self.last_resolvers, self.nameservers = name, set()


def parse_haproxy(text: str, *, where: str, env: Mapping[str, str]) -> HAProxyConf:
    """What of a haproxy.cfg decides a request's fate, `defaults` merged and `listen` split in two.

    Parameters
    ----------
    text : str
        The file's content.
    where : str
        Its name in messages, for example ``proxy.yaml: ConfigMap conf haproxy.cfg``.
    env : mapping
        The environment of the container, with the variables that Kubernetes sets for Services.

    Raises
    ------
    InputError
        HAProxy itself would not start with it.
    UnsupportedInput
        It holds what could change the answer and is not modelled.
    """
    reader = _Reader(env=dict(env))
    for line in read_lines(text, where, reader.env):
        reader.take(line)
    if not any(proxy.n_binds for proxy in reader.proxies):
        raise InputError(f"{where}: no bind line; HAProxy does not start without one")
    for proxy in reader.proxies:
        _check_proxy(proxy, reader)
    backends = {proxy.name: _backend(proxy, reader) for proxy in reader.proxies if proxy.forwards}
    frontends = [_frontend(proxy, backends) for proxy in reader.proxies if proxy.accepts and proxy.binds]
    if any(not frontend.backend for frontend in frontends):
        backends[""] = HAProxyBackend(name="", servers=())
    return HAProxyConf(
        **reader.globals,
        **_with_effective_mode(frontends, backends, where),
        resolvers=tuple(reader.resolvers.values()),
        warnings=tuple(reader.warnings),
    )


def _check_proxy(proxy: Proxy, reader: _Reader) -> None:
    if proxy.mode != "http":
        proxy.line.refuse(f"{proxy.name}: mode tcp (the default without `mode http`) is not modelled")
    needed = (("client",) if proxy.accepts else ()) + (("connect", "server") if proxy.forwards else ())
    missing = [name for name in needed if proxy.timeouts_s.get(name) is None]
    if missing and (proxy.server_lines or proxy.kind == "frontend"):
        reader.warnings.append(
            f"{proxy.line.where} line {proxy.line.number}: {proxy.kind} {proxy.name}: "
            f"no timeout for {', '.join(missing)}: it waits for ever"
        )


def _backend(proxy: Proxy, reader: _Reader) -> HAProxyBackend:
    check = proxy.health_check()
    if check.http_path is not None and check.http_method == "OPTIONS":
        reader.warnings.append(
            f"{proxy.line.where} line {proxy.line.number}: {proxy.kind} {proxy.name}: its checks ask with OPTIONS, "
            "which nginx answers with 405 for a file; write option httpchk GET PATH"
        )
    servers: list[HAProxyServer] = []
    taken: set[str] = set()
    for line, defaults in proxy.server_lines:
        server = read_server(line, defaults, check)
        for name in _server_names(server):
            if name in taken:
                line.reject(f"another server is named {name!r}")
            taken.add(name)
        if server.resolvers is not None and server.resolvers not in reader.resolvers:
            line.reject(f"no resolvers section named {server.resolvers!r}")
        servers.append(server)
    return HAProxyBackend(
        name=proxy.name,
        servers=tuple(servers),
        balance=proxy.balance,
        http_mode=proxy.http_mode or HttpMode.KEEP_ALIVE,
        http_reuse=proxy.http_reuse,
        retries=proxy.retries,
        retry_on=proxy.retry_on,
        redispatch=proxy.redispatch,
        timeout_connect_s=proxy.timeouts_s.get("connect"),
        timeout_server_s=proxy.timeouts_s.get("server"),
        timeout_queue_s=proxy.timeouts_s.get("queue"),
    )


def _server_names(server: HAProxyServer) -> list[str]:
    """A template's servers are numbered."""
    if server.template_count is None:
        return [server.name]
    return [f"{server.name}{index}" for index in range(1, server.template_count + 1)]


def _frontend(proxy: Proxy, backends: Mapping[str, HAProxyBackend]) -> HAProxyFrontend:
    backend = proxy.name if proxy.kind == "listen" else ""
    if proxy.default_backend is not None:
        line, backend = proxy.default_backend
        if backend not in backends:
            line.reject(f"no backend named {backend!r}")
        if proxy.kind == "listen" and backend == proxy.name:
            line.reject(f"{backend} leads to itself")
    return HAProxyFrontend(
        name=proxy.name,
        binds=tuple(proxy.binds),
        backend=backend,
        http_mode=proxy.http_mode or HttpMode.KEEP_ALIVE,
        maxconn=proxy.maxconn,
        timeout_client_s=proxy.timeouts_s.get("client"),
        timeout_http_request_s=proxy.timeouts_s.get("http-request"),
        timeout_http_keep_alive_s=proxy.timeouts_s.get("http-keep-alive"),
        idle_close_on_response=proxy.idle_close_on_response,
        monitor_uri=proxy.monitor_uri,
    )


def _with_effective_mode(
    frontends: list[HAProxyFrontend], backends: dict[str, HAProxyBackend], where: str
) -> dict[str, Any]:
    """The stronger of a frontend's and its backend's mode, for both (configuration.txt 4, the matrix)."""
    done = []
    sharing: dict[str, set[HttpMode]] = {}
    for frontend in frontends:
        sharing.setdefault(frontend.backend, set()).add(frontend.http_mode)
    for frontend in frontends:
        backend = backends[frontend.backend]
        mode = max(frontend.http_mode, backend.http_mode, key=_STRENGTH.index)
        if len(sharing[frontend.backend]) > 1 and frontend.backend:
            raise InputError(f"{where}: frontends of backend {backend.name!r} differ in their http mode")
        done.append(replace(frontend, http_mode=mode))
        backends[backend.name] = replace(backend, http_mode=mode)
    return {"frontends": tuple(done), "backends": tuple(backends.values())}
