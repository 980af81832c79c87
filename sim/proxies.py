"""The state of one running HAProxy: its servers as it sees them. Checks and DNS change it, traffic reads it."""

from dataclasses import dataclass, field
from typing import Any, Final

from numpy.random import Generator

from sim.errors import UnsupportedInput
from sim.scenario.model import HAProxyBackend, HAProxyConf, HAProxyFrontend, HAProxyServer
from sim.world import Pod, RuleTable, Server, World

ICMP_EVERY_S: Final = 1.0
"""net.ipv4.icmp_ratelimit: so often a node sends an ICMP error to one address."""
ICMP_AT_ONCE: Final = 6
"""And so many together after a quiet time (Linux net/ipv4/inetpeer.c, XRLIM_BURST_FACTOR)."""
DEAF_TO_FIRST_REJECTION: Final = ((2, 2), (3, 0))
"""From this branch on, before that one, ICMP in answer to the first SYN ends no connect (7deff246c, b4734c2bd)."""
HEARS_FIRST_REJECTION_FROM: Final = {(2, 4): 27, (2, 6): 18, (2, 8): 10, (2, 9): 8}
"""Except from this patch level of a branch on: the first after b4734c2bd, of 2024-04-09."""
_PATCH_LEVELS: Final = {(2, 6): 12}
"""Of a branch that is named without one: Debian 12's, on which what is said of 2.6 was tried; else the last one."""


class Rejections:
    """Which SYNs of one pod are told that a Service without endpoints rejects them; the others meet silence.

    The rule's answer is an ICMP error, and a node sends few of those to one address: of 30 connects at once 6 are told,
    then one a second, from network namespace to network namespace (Linux 6.18; a loopback device has no limit).
    """

    def __init__(self) -> None:
        self._credit_s = ICMP_AT_ONCE * ICMP_EVERY_S
        self._at_s = 0.0

    def told(self, now_s: float) -> bool:
        """Whether the SYN of now is."""
        passed_s, self._at_s = max(0.0, now_s - self._at_s), max(now_s, self._at_s)
        self._credit_s = min(self._credit_s + passed_s, ICMP_AT_ONCE * ICMP_EVERY_S)
        told = self._credit_s > ICMP_EVERY_S - 1e-9  # SYNs a second apart, in floating point
        if told:
            self._credit_s -= ICMP_EVERY_S
        return told


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
    n_running: int = 0
    """Requests that it has now, of those that go one by one."""

    @property
    def usable(self) -> bool:
        return self.up and self.line.weight > 0 and (not self.is_slot or self.pod is not None)

    @property
    def full(self) -> bool:
        return self.line.maxconn is not None and self.n_running >= self.line.maxconn


@dataclass(slots=True, eq=False)
class Proxy:
    """One HAProxy process."""

    server: Server
    conf: HAProxyConf
    frontend: HAProxyFrontend
    backend: HAProxyBackend
    servers: list[BackendServer]
    version: tuple[int, int, int]
    rng: Generator | None = None
    """For what is drawn once a process: its place in a Service's affinity, its clients' hash."""
    turn: int = 0
    """Round-robin pointer, shared by all requests."""
    waiting: list[Any] = field(default_factory=list)
    """The connections that wait for a free server (`maxconn`), in order."""
    rejections: Rejections = field(default_factory=Rejections)
    _affine: dict[str, Server] = field(default_factory=dict)
    _hash: int | None = None

    @property
    def usable(self) -> list[BackendServer]:
        """Servers that may get a request now; backups only when nothing else is left."""
        ready = [s for s in self.servers if s.usable]
        return [s for s in ready if not s.line.backup] or [s for s in ready if s.line.backup][:1]

    def targets(self, world: World, server: BackendServer) -> tuple[Server, ...]:
        """Where a connect to *server* may land: each equally likely; empty: refused."""
        if server.is_slot:
            return (server.pod.server_at(server.line.port),) if server.pod else ()
        possible = targets(world, self.server.pod.node, server.service, server.line.port)
        if world.services[server.service].session_affinity_s is None or not possible:
            return possible
        if self._affine.get(server.service) not in possible:  # the proxy's pod is one source address
            self._affine[server.service] = possible[self._draw(len(possible))]
        return (self._affine[server.service],)

    def hears_rejection(self, now_s: float, *, first_syn: bool) -> bool:
        """Whether a SYN of now, to a Service without endpoints, ends its connect; else it is as if unanswered.

        ICMP in answer to the first SYN comes while connect() still holds the socket, which makes it a soft error
        (Linux net/ipv4/tcp_ipv4.c, tcp_v4_err): poll says error, connect() says "already". HAProxy 2.2 to 2.6.17
        then polls anew, without pause, until the next SYN's ICMP, which ends it (tried on 2.6.12: a check of `inter 2s`
        fails after 1.03 s, one of `inter 1s` by its time-out; 3.0.11 fails at once).
        """
        return self.rejections.told(now_s) and (not first_syn or _hears_first_rejection(self.version))

    @property
    def source_hash(self) -> int:
        """The hash of the client's address, which a Service hides behind its node's: one for all clients."""
        if self._hash is None:
            self._hash = self._draw(2**31)
        return self._hash

    def _draw(self, below: int) -> int:
        return 0 if self.rng is None else int(self.rng.integers(below))


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


def frontend_of(server: Server) -> HAProxyFrontend:
    """The frontend of an HAProxy that Services send to.

    Raises
    ------
    UnsupportedInput
        Services reach more than one: which of them a request meets is not followed.
    """
    conf = server.container.haproxy
    assert conf is not None
    if len(conf.frontends) == 1:
        return conf.frontends[0]
    wanted = {
        server.container.ports.get(port.target_port, -1)
        if isinstance(port.target_port, str)
        else port.target_port
        for service in server.world.services.values()
        for port in service.ports
        if service.selector.items() <= server.pod.template.labels.items()
    }
    reached = [front for front in conf.frontends if wanted & set(front.binds)] or [conf.frontends[0]]
    if len(reached) > 1:
        names = ", ".join(front.name for front in reached)
        raise UnsupportedInput(f"haproxy.cfg: Services reach the frontends {names}; only one can be modelled")
    return reached[0]


def open_proxy(world: World, server: Server, rng: Generator | None = None) -> Proxy:
    """The HAProxy in *server* as it starts: every server line UP.

    Raises
    ------
    UnsupportedInput
        A setting that changes who fails and that the model does not cover.
    """
    conf = server.container.haproxy
    assert conf is not None
    _refuse_what_is_not_modelled(conf, f"Deployment {server.pod.deployment}: haproxy.cfg")
    frontend = frontend_of(server)
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
    return Proxy(
        server=server,
        conf=conf,
        frontend=frontend,
        backend=backend,
        servers=servers,
        version=_version(server.image.version or "2.6"),
        rng=rng,
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


def _version(text: str) -> tuple[int, int, int]:
    major, minor, *patch = (int(part) for part in text.split(".")[:3])
    return major, minor, patch[0] if patch else _PATCH_LEVELS.get((major, minor), 999)


def _hears_first_rejection(version: tuple[int, int, int]) -> bool:
    branch, patch = version[:2], version[2]
    begins, ends = DEAF_TO_FIRST_REJECTION
    return not begins <= branch < ends or patch >= HEARS_FIRST_REJECTION_FROM.get(branch, float("inf"))
