"""The state of one running HAProxy: its servers as it sees them. Checks and DNS change it, traffic reads it."""

from dataclasses import dataclass, field

from sim.errors import UnsupportedInput
from sim.scenario.model import HAProxyBackend, HAProxyConf, HAProxyFrontend, HAProxyServer
from sim.world import Pod, RuleTable, Server, World


@dataclass(slots=True, eq=False)
class BackendServer:
    """One server line, or one slot of a server-template."""

    line: HAProxyServer
    service: str
    up: bool = True
    pod: Pod | None = None
    """Slots of a template: the pod whose address DNS gave; a Service's line has none."""
    is_slot: bool = False
    n_returns: int = 0
    """How often a slot came out of maintenance: its health starts anew each time."""

    @property
    def usable(self) -> bool:
        return self.up and (not self.is_slot or self.pod is not None)


@dataclass(slots=True, eq=False)
class Proxy:
    """One HAProxy process."""

    server: Server
    conf: HAProxyConf
    frontend: HAProxyFrontend
    backend: HAProxyBackend
    servers: list[BackendServer]
    version: tuple[int, int]
    turn: int = 0
    """Round-robin pointer, shared by all requests."""
    n_running: dict[BackendServer, int] = field(default_factory=dict)

    @property
    def usable(self) -> list[BackendServer]:
        """Servers that may get a request now; backups only when nothing else is left."""
        ready = [s for s in self.servers if s.usable]
        return [s for s in ready if not s.line.backup] or [s for s in ready if s.line.backup][:1]

    def targets(self, world: World, server: BackendServer) -> tuple[Server, ...]:
        """Where a connect to *server* may land: each equally likely; empty: refused."""
        if server.is_slot:
            return (server.pod.server_at(server.line.port),) if server.pod else ()
        return targets(world, self.server.pod.node, server.service, server.line.port)


def targets(world: World, node: int, service: str, port: int) -> tuple[Server, ...]:
    """The servers that *node*'s rules name for a Service's port."""
    table: RuleTable = world.rules(node, service)
    target_port = next((p.target_port for p in world.services[service].ports if p.port == port), port)
    return tuple(pod.server_at(target_port) for pod in table.pods)


def service_named(world_services: dict[str, object], host: str, where: str) -> str:
    """The Service that *host* names: `myapp`, `myapp.ns`, `myapp.ns.svc.cluster.local`.

    Raises
    ------
    UnsupportedInput
        An address or a name outside the cluster: the model has no such server.
    """
    name = host.split(".", maxsplit=1)[0]
    if name in world_services:
        return name
    raise UnsupportedInput(
        f"{where}: server {host!r}: not a Service of the manifests; only those can be modelled"
    )


def open_proxy(world: World, server: Server) -> Proxy:
    """The HAProxy in *server* as it starts: every server line UP.

    Raises
    ------
    UnsupportedInput
        A setting that changes who fails and that the model does not cover.
    """
    conf = server.container.haproxy
    assert conf is not None
    _refuse_what_is_not_modelled(conf, f"Deployment {server.pod.deployment}: haproxy.cfg")
    frontend = conf.frontends[0]
    backend = next(
        (b for b in conf.backends if b.name == frontend.backend), HAProxyBackend(name="", servers=())
    )
    servers: list[BackendServer] = []
    for line in backend.servers:
        service = service_named(dict(world.services), line.host, f"haproxy.cfg: backend {backend.name}")
        if line.template_count is None:
            servers.append(BackendServer(line=line, service=service))
        else:
            servers += [
                BackendServer(line=line, service=service, is_slot=True) for _ in range(line.template_count)
            ]
    major, minor = (server.image.version or "2.6").split(".")[:2]
    return Proxy(
        server=server,
        conf=conf,
        frontend=frontend,
        backend=backend,
        servers=servers,
        version=(int(major), int(minor)),
    )


def _refuse_what_is_not_modelled(conf: HAProxyConf, where: str) -> None:
    lines = [line for backend in conf.backends for line in backend.servers]
    for setting, given in (
        ("grace: listeners that stay open after SIGUSR1", conf.grace_s > 0),
        ("close-spread-time: idle connections closed one by one", conf.close_spread_time_s is not None),
        ("on-marked-down shutdown-sessions", any(line.shutdown_sessions_on_down for line in lines)),
    ):
        if given:
            raise UnsupportedInput(f"{where}: {setting}: not modelled; take it out")
