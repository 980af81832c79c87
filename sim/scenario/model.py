"""The scenario as frozen data: what a reader produces and what the simulation reads. No behaviour here.

Seconds everywhere inside (``_s``); ``ms`` and ``5s`` exist only in files and are converted by the readers.
``at_s`` is an instant, measured from the start of the load; ``*_after_s`` and ``*_for_s`` are durations.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sim.scenario.distributions import Constant, Distribution

_NOTHING: Mapping[str, str] = MappingProxyType({})


# ---------------------------------------------------------------- probes and hooks


class ProbeKind(Enum):
    HTTP_GET = "httpGet"
    TCP_SOCKET = "tcpSocket"
    EXEC = "exec"
    GRPC = "grpc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One probe of a container, with the API server's defaults filled in."""

    kind: ProbeKind
    port: int | None = None
    path: str | None = None
    command: tuple[str, ...] = ()
    initial_delay_s: int = 0
    period_s: int = 10
    timeout_s: int = 1
    success_threshold: int = 1
    failure_threshold: int = 3
    termination_grace_period_s: int | None = None
    file: str | None = None
    """The file inside the container without which the probe fails (from nginx's root, or an exec `cat`)."""


class HookKind(Enum):
    EXEC = "exec"
    SLEEP = "sleep"
    HTTP_GET = "httpGet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """What a preStop or postStart hook does in time, counted from its start."""

    kind: HookKind
    duration_s: float = 0.0
    removes: tuple[tuple[float, str], ...] = ()
    """(after_s, absolute path) of each file that it removes."""
    signals: tuple[tuple[float, str], ...] = ()
    """(after_s, signal) sent to the server, for example by `nginx -s quit`."""


# ---------------------------------------------------------------- servers


class OnListener(Enum):
    CLOSE = "close"  # new connections are refused from the signal on
    KEEP = "keep"  # accepts until the process exits


class OnIdle(Enum):
    CLOSE = "close"  # FIN at once: a request that crosses it is lost
    KEEP = "keep"  # stays open and is served until the process exits
    CLOSE_AFTER_NEXT = "closeAfterNext"  # serves one more request with `Connection: close`


class OnBusy(Enum):
    FINISH = "finish"  # the answer is completed (with `Connection: close` if its header is not out yet)
    CUT = "cut"  # FIN without, or in the middle of, an answer


class ExitWhen(Enum):
    AT_ONCE = "atOnce"
    DRAINED = "drained"  # when the last connection has ended, or at drain_timeout_s
    AFTER = "after"  # after exit_after_s, whatever the connections do
    NEVER = "never"  # the signal is ignored: only SIGKILL ends it


@dataclass(frozen=True, slots=True, kw_only=True)
class StopBehaviour:
    """What a server does from a signal on, to its listener, its idle and its busy connections."""

    listener: OnListener = OnListener.CLOSE
    idle: OnIdle = OnIdle.CLOSE
    busy: OnBusy = OnBusy.CUT
    unused: OnIdle = OnIdle.CLOSE
    """A connection that was accepted and has never sent a request."""
    unused_timeout_s: float = 60.0
    """How long a kept unused connection can hold back the exit."""
    exit: ExitWhen = ExitWhen.AT_ONCE
    exit_after_s: float = 0.0
    drain_timeout_s: float | None = None
    """Longest drain; then every connection is cut and the process exits. None: no limit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxLocation:
    """One location: a prefix (or exact path) and what decides the time of its answers."""

    path: str = "/"
    exact: bool = False
    root: str | None = None
    """None where the answer needs no file (`return`, `echo`)."""
    alias: str | None = None
    index: tuple[str, ...] = ("index.html",)
    port: int | None = None
    """The listening port it belongs to; None: every one."""
    limit_rate_bytes_per_s: float | None = None
    limit_rate_after_bytes: int = 0
    header_delay_s: float = 0.0
    """From `echo_sleep`: the header leaves that late."""
    body_delay_s: float = 0.0
    """From `echo_sleep` behind an `echo_flush`: time from the header to the last byte."""
    status: int = 200
    keepalive_timeout_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxListen:
    port: int = 80
    backlog: int = 511


@dataclass(frozen=True, slots=True, kw_only=True)
class NginxConf:
    """What of an nginx.conf decides a request's fate; defaults are nginx 1.22's."""

    worker_processes: int | None = 1
    """None: `auto`, one for each core."""
    worker_connections: int = 512
    worker_shutdown_timeout_s: float | None = None
    keepalive_timeout_s: float = 75.0
    """0: keep-alive is off."""
    keepalive_requests: int = 1000
    keepalive_time_s: float = 3600.0
    keepalive_min_timeout_s: float = 0.0
    client_header_timeout_s: float = 60.0
    lingering_close: str = "on"
    lingering_time_s: float = 30.0
    lingering_timeout_s: float = 5.0
    listens: tuple[NginxListen, ...] = (NginxListen(),)
    locations: tuple[NginxLocation, ...] = (NginxLocation(),)
    """Most specific first; the last one is `/`."""
    warnings: tuple[str, ...] = ()


class HttpMode(Enum):
    KEEP_ALIVE = "http-keep-alive"
    SERVER_CLOSE = "http-server-close"
    CLOSE = "httpclose"


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyCheck:
    """Health check of one server line; HAProxy 2.6 configuration manual 5.2."""

    inter_s: float = 2.0
    fastinter_s: float | None = None
    downinter_s: float | None = None
    rise: int = 2
    fall: int = 3
    http_path: str | None = None
    """With `option httpchk`: the path asked for; None: a TCP connect is enough."""
    http_method: str = "OPTIONS"
    """nginx answers OPTIONS for a file with 405, which is a failed check."""
    http_expect: tuple[tuple[int, int], ...] = ((200, 399),)
    """Ranges of the statuses that pass, both ends included."""
    timeout_check_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyServer:
    name: str
    host: str
    """As written, environment expanded: a Service's name (or DNS name) or an address."""
    port: int
    check: HAProxyCheck | None = None
    weight: int = 1
    maxconn: int | None = None
    backup: bool = False
    shutdown_sessions_on_down: bool = False
    pool_purge_delay_s: float = 5.0
    template_count: int | None = None
    """From `server-template NAME COUNT FQDN`: slots filled by DNS, one server for each pod."""
    resolvers: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyFrontend:
    name: str
    binds: tuple[int, ...]
    """Ports that can be reached from outside the pod."""
    backend: str
    """Empty: none, every request is answered with 503."""
    http_mode: HttpMode = HttpMode.KEEP_ALIVE
    maxconn: int | None = None
    timeout_client_s: float | None = None
    timeout_http_request_s: float | None = None
    timeout_http_keep_alive_s: float | None = None
    idle_close_on_response: bool = False
    monitor_uri: str | None = None
    """A path that HAProxy answers itself with 200."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyBackend:
    name: str
    servers: tuple[HAProxyServer, ...]
    balance: str = "roundrobin"
    http_mode: HttpMode = HttpMode.KEEP_ALIVE
    http_reuse: str = "safe"
    retries: int = 3
    retry_on: frozenset[str] = frozenset({"conn-failure"})
    redispatch: int = 0
    """0: off; -1: on the last retry (and at once where another server is up); n: every nth."""
    timeout_connect_s: float | None = None
    timeout_server_s: float | None = None
    timeout_queue_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyResolvers:
    name: str
    timeout_resolve_s: float = 1.0
    timeout_retry_s: float = 1.0
    resolve_retries: int = 3
    hold_obsolete_s: float = 0.0
    hold_nx_s: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class HAProxyConf:
    """A haproxy.cfg after defaults are merged; `listen` has become a frontend and a backend of its name.

    `http_mode` is the effective one: of a frontend and its backend the stronger counts for both.
    """

    maxconn: int | None = None
    hard_stop_after_s: float | None = None
    grace_s: float = 0.0
    """From SIGUSR1 to the listeners' closing."""
    close_spread_time_s: float | None = None
    """After SIGUSR1 idle client connections are closed over this time; None: at once."""
    frontends: tuple[HAProxyFrontend, ...]
    backends: tuple[HAProxyBackend, ...]
    resolvers: tuple[HAProxyResolvers, ...] = ()
    warnings: tuple[str, ...] = ()


class ServerKind(Enum):
    NGINX = "nginx"
    HAPROXY = "haproxy"
    GENERIC = "generic"


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """What manifests cannot tell about an image (`spec.images` of the scenario)."""

    reference: str
    server: ServerKind
    version: str | None = None
    """For example "2.6" of HAProxy, "1.22" of nginx."""
    stop_signal: str = "SIGTERM"
    startup: Distribution = Constant(value_s=0.3)
    """Container start to the first accepted connection."""
    service_time: Distribution = Constant(value_s=0.001)
    """Request read to the header leaving; an alias of it in files is `headerDelay`."""
    stream_time: Distribution = Constant(value_s=0.0)
    """First to last byte of the answer."""
    body_bytes: int = 0
    """Length of an answer's body: with nginx's `limit_rate` it gives the time to stream it."""
    keep_alive: bool = True
    """Generic servers: whether they keep client connections open."""
    idle_timeout_s: float | None = None
    """Generic servers: an idle connection is closed after this long; None: never."""
    behaviours: Mapping[str, StopBehaviour] = field(default_factory=lambda: MappingProxyType({}))
    """Generic servers: by signal. Any signal not named ends the process at once."""
    preset: str | None = None


# ---------------------------------------------------------------- Kubernetes objects


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    name: str
    image: str
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Declared ports by name; one without a name by its number."""
    readiness: Probe | None = None
    liveness: Probe | None = None
    startup: Probe | None = None
    pre_stop: Hook | None = None
    post_start: Hook | None = None
    nginx: NginxConf | None = None
    """Set where the image's server is nginx: read from the mounted ConfigMap."""
    haproxy: HAProxyConf | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PodTemplate:
    labels: Mapping[str, str]
    containers: tuple[Container, ...]
    termination_grace_period_s: int = 30
    """As given; zero means immediate removal, negatives are normalised to 1 (API server)."""
    revision: str = ""
    """Hash of the raw template: what the Deployment controller compares."""
    has_volumes: bool = False
    host_network: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingUpdate:
    """Strategy with its values resolved to pods: surge rounded up, unavailable down, never both zero."""

    max_surge: int
    max_unavailable: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Recreate:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    name: str
    template: PodTemplate
    replicas: int = 1
    selector: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    strategy: RollingUpdate | Recreate
    min_ready_s: int = 0
    progress_deadline_s: int = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    port: int
    target_port: int | str
    name: str | None = None
    node_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    name: str
    selector: Mapping[str, str]
    ports: tuple[ServicePort, ...]
    type: str = "ClusterIP"
    headless: bool = False
    session_affinity_s: int | None = None
    """ClientIP affinity and its timeout; None: off."""
    external_traffic_local: bool = False
    internal_traffic_local: bool = False
    publish_not_ready: bool = False


# ---------------------------------------------------------------- ours


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """At `at_s` the Deployment of that name becomes `to`."""

    at_s: float
    to: Deployment


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateAction:
    """How a replay makes the update on a real cluster: exactly one of image, restart and objects is set."""

    at_s: float
    deployment: str | None = None
    container: str | None = None
    image: str | None = None
    """`kubectl set image deployment/… container=image`"""
    restart: bool = False
    """`kubectl rollout restart`"""
    objects: tuple[Mapping[str, Any], ...] = ()
    """`kubectl apply` of these documents, after overrides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedLoop:
    """Each connection sends its next request `think_time` after the last answer; None: at once."""

    think_time: Distribution | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenLoop:
    """Requests start on schedule, whatever became of the earlier ones."""

    rate_per_s: float
    poisson: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    client: str
    """ab | wrk | plain | go-http | requests: a named set of semantics, see traffic/clients.py."""
    options: Mapping[str, bool | int | float | str] = field(default_factory=lambda: MappingProxyType({}))
    service: str
    port: int
    """The Service's own port."""
    path: str = "/"
    method: str = "GET"
    connections: int = 1
    keep_alive: bool = True
    arrivals: ClosedLoop | OpenLoop = field(default_factory=ClosedLoop)
    duration_s: float | None = None
    requests: int | None = None
    """Ends the load after so many requests; one of duration_s and requests is set."""
    connect_timeout_s: float = 5.0
    answer_timeout_s: float = 30.0
    retries: int = 0
    sources: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    nodes: int = 1
    client_on_node: bool = True
    """The client runs in a node's network namespace; False: in a pod of its own."""
    cores: int = 2
    """Cores that cluster and client share: they bound a client that sends as fast as answers come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    source: Path
    deployments: tuple[Deployment, ...]
    services: tuple[Service, ...]
    images: Mapping[str, Image]
    updates: tuple[Update, ...]
    load: Load
    cluster: Cluster = Cluster()
    timing: str = "defaults"
    """Name of a shipped profile, or a path."""
    warnings: tuple[str, ...] = ()
    objects: tuple[Mapping[str, Any], ...] = ()
    """The Kubernetes documents as read, after overrides: what a replay applies."""
    actions: tuple[UpdateAction, ...] = ()
    """The updates as a user would make them: what a replay does."""
