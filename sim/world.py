"""What cluster and traffic share: pods, the servers in them, the rules of each node, and when they change.

The cluster's processes change the world, the traffic reads it and reports back two facts: a server has
drained, and a probe or a check was answered or not. Neither side imports the other.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol

import simpy

from sim.scenario.model import (
    Container,
    Image,
    OnListener,
    PodTemplate,
    Probe,
    ProbeKind,
    Service,
    StopBehaviour,
)
from sim.waiting import Change

Process = Generator[simpy.Event, Any, None]
"""A SimPy process."""


class ServerPhase(Enum):
    """What a server's address does with packets."""

    ABSENT = "absent"  # no network namespace yet
    STARTING = "starting"  # namespace up, nothing listens: refused
    LISTENING = "listening"
    DEAF = "deaf"  # a fast stop, or a process without its core: the kernel accepts, nobody reads
    DRAINING = "draining"  # a graceful stop: its StopBehaviour says what happens to whom
    EXITED = "exited"  # sockets closed, the namespace still answers with RST
    VANISHED = "vanished"  # the address answers nothing (or ICMP: a setting of the timing profile)


P = ServerPhase
TRANSITIONS: Final = {
    P.ABSENT: {P.STARTING, P.VANISHED},
    P.STARTING: {P.LISTENING, P.EXITED},
    P.LISTENING: {P.DEAF, P.DRAINING, P.EXITED},
    P.DEAF: {P.DRAINING, P.EXITED},
    P.DRAINING: {P.DEAF, P.EXITED},
    P.EXITED: {P.VANISHED, P.STARTING},  # STARTING: the container is restarted in the same namespace
    P.VANISHED: set(),
}


class Server:
    """The listening process of one container."""

    def __init__(self, world: "World", pod: "Pod", container: Container, image: Image) -> None:
        self.world = world
        self.pod = pod
        self.container = container
        self.image = image
        self.phase = P.ABSENT
        self.stop: StopBehaviour | None = None
        """Set from the stop signal on."""
        self.killed = False
        self.cut_by_own_limit = False
        self.restarting = False
        """A liveness or startup probe has given up on it; the rollout has nothing to do with that."""
        self.cut_s: float | None = None
        """When the worker closed its connections while its master still held the listener."""
        self.word_s: float | None = None
        """When nginx's master told its worker to end at once."""
        self.deaf_s: float | None = None
        """Since when it has read nothing, for a stop or for want of a core."""
        self.n_restarts = 0
        self.vanished_s: float | None = None
        """Since when its address answers nothing."""
        self.removed_files: set[str] = set()
        self._connections: dict[object, None] = {}
        self._drained: simpy.Event | None = None
        self.health_changed = Change(world.env)
        """What watches it is its probe workers."""

    def __repr__(self) -> str:
        return f"<Server {self.pod.name}/{self.container.name} {self.phase.value}>"

    def move(self, phase: ServerPhase) -> None:
        """Change the phase and tell the traffic.

        Raises
        ------
        ValueError
            The transition does not exist; nothing has changed.
        """
        if phase not in TRANSITIONS[self.phase]:
            raise ValueError(f"{self.pod.name}/{self.container.name}: no way from {self.phase} to {phase}")
        self.phase = phase
        if phase is P.VANISHED:
            self.vanished_s = float(self.world.env.now)
        elif phase is P.DEAF:
            self.deaf_s = float(self.world.env.now)
        self.log(phase.value)
        self.health_changed.happens()
        self.world.server_changed(self)

    def begin_again(self) -> None:
        """The container is started anew in its network namespace: a new process, the image's own files."""
        self.n_restarts += 1
        self.stop, self.killed, self.cut_by_own_limit = None, False, False
        self.restarting, self.cut_s, self.word_s, self.deaf_s = False, None, None, None
        self.removed_files.clear()
        self.move(P.STARTING)

    def hear(self, behaviour: StopBehaviour, phase: ServerPhase) -> None:
        """It acts on a signal: *behaviour* holds, in *phase*, which it may have been in for want of a core."""
        self.stop = behaviour
        if self.phase is not phase:
            self.move(phase)
        else:
            self.world.server_changed(self)

    def cut(self) -> None:
        """The worker of a fast stop is gone with its connections; its master, with the listener, not yet."""
        self.cut_s = float(self.world.env.now)
        self.world.server_changed(self)

    def log(self, what: str, detail: str = "") -> None:
        self.world.log(self.pod.name, what, detail)

    @property
    def accepts(self) -> bool:
        """Whether a SYN is answered and the request that follows will be read."""
        if self.phase is P.DRAINING:
            return self.stop is not None and self.stop.listener is OnListener.KEEP
        return self.phase is P.LISTENING

    @property
    def healthy(self) -> bool:
        return self.phase is P.LISTENING

    # -- connections: what a drain waits for

    @property
    def connections(self) -> tuple[object, ...]:
        """Those that are open, in the order in which they were opened."""
        return tuple(self._connections)

    def attach(self, connection: object) -> None:
        self._connections[connection] = None

    def detach(self, connection: object) -> None:
        self._connections.pop(connection, None)
        if not self._connections and self._drained is not None and not self._drained.triggered:
            self._drained.succeed()

    def when_drained(self) -> simpy.Event:
        """An event for the moment at which no connection is open (at once if none is)."""
        self._drained = simpy.Event(self.world.env)
        if not self._connections:
            self._drained.succeed()
        return self._drained

    # -- probes

    def answers(self, probe: Probe) -> bool:
        """Whether *probe* would succeed now.

        A file that the probe asks for and a hook removed makes it fail; a server that reads answers at once.
        A connect alone also succeeds at a server that has stopped to read.
        """
        if probe.file is not None and probe.file in self.removed_files:
            return False
        if not needs_listener(probe):
            return self.phase not in (P.ABSENT, P.EXITED, P.VANISHED)
        return self.accepts or (probe.kind is ProbeKind.TCP_SOCKET and self.phase is P.DEAF)

    def remove_file(self, path: str) -> None:
        self.removed_files.add(path)
        self.log("file_removed", path)
        self.health_changed.happens()


def needs_listener(probe: Probe) -> bool:
    """Whether *probe* asks the server; an exec probe that only looks for a file (or at nothing) does not."""
    if probe.kind is not ProbeKind.EXEC:
        return True
    words = probe.command[-1].split() if probe.command[1:2] == ("-c",) else probe.command
    return probe.file is None and words[0].rsplit("/", 1)[-1] != "true"


class Pod:
    """One pod as the nodes know it; what the API server says of it is the cluster's business."""

    def __init__(
        self, world: "World", name: str, *, deployment: str, template: PodTemplate, images: dict[str, Image]
    ) -> None:
        self.name = name
        self.deployment = deployment
        self.template = template
        self.node = 0
        self.servers = {c.name: Server(world, self, c, images[c.image]) for c in template.containers}

    def __repr__(self) -> str:
        return f"<Pod {self.name}>"

    def server_at(self, target_port: int | str) -> Server:
        """The server behind a Service's target port: by number or name of a container's port.

        A pod of one container needs no declared port, as in Kubernetes.
        """
        for server in self.servers.values():
            ports = server.container.ports
            if (
                target_port in ports
                or target_port in ports.values()
                or target_port in _listens(server.container)
            ):
                return server
        return next(iter(self.servers.values()))


def _listens(container: Container) -> set[int]:
    ports = {listen.port for listen in container.nginx.listens} if container.nginx else set()
    if container.haproxy:
        ports |= {port for frontend in container.haproxy.frontends for port in frontend.binds}
    return ports


@dataclass(frozen=True, slots=True)
class RuleTable:
    """Where one node sends new connections of one Service. Empty: rejected."""

    pods: tuple[Pod, ...] = ()


@dataclass(frozen=True, slots=True)
class Mark:
    """One entry of the timeline."""

    at_s: float
    subject: str
    what: str
    detail: str = ""


class Observer(Protocol):
    """The traffic, as far as the world knows it."""

    def server_changed(self, server: Server) -> None: ...

    def rules_changed(self, node: int, service: str) -> None: ...


class PodWork(Protocol):
    """What the starts and ends of pods want of their node's cores."""

    @property
    def wanted(self) -> float:
        """Cores, at this moment."""

    @property
    def in_burst(self) -> bool:
        """Whether the work of a deletion comes before that of the servers, at this moment."""

    def tell(self, change: Callable[[], None]) -> None:
        """Call *change* before `wanted` or `in_burst` changes."""


class World:
    """The state of everything at one instant, with its history."""

    def __init__(self, env: simpy.Environment, services: dict[str, Service]) -> None:
        self.env = env
        self.services = services
        self.pods: dict[str, Pod] = {}
        self.marks: list[Mark] = []
        self._rules: dict[tuple[int, str], RuleTable] = {}
        self._observers: list[Observer] = []
        self._told_of_deletions: list[Callable[[int], None]] = []
        self._headless: dict[str, Callable[[], tuple[Pod, ...]]] = {}
        self.pod_work: dict[int, PodWork] = {}
        """By node."""

    def log(self, subject: str, what: str, detail: str = "") -> None:
        self.marks.append(Mark(float(self.env.now), subject, what, detail))

    def observe(self, observer: Observer) -> None:
        self._observers.append(observer)

    def server_changed(self, server: Server) -> None:
        for observer in self._observers:
            observer.server_changed(server)

    def tell_of_deletions(self, told: Callable[[int], None]) -> None:
        """Call *told* with the node whenever a pod's deletion has reached it."""
        self._told_of_deletions.append(told)

    def deletion(self, node: int) -> None:
        for told in self._told_of_deletions:
            told(node)

    def rules(self, node: int, service: str) -> RuleTable:
        return self._rules.get((node, service), RuleTable())

    def set_rules(self, node: int, service: str, table: RuleTable) -> None:
        if self._rules.get((node, service)) == table:
            return
        self._rules[node, service] = table
        self.log(
            f"kube-proxy/{node}",
            "rules",
            f"{service}: {' '.join(pod.name for pod in table.pods) or 'reject'}",
        )
        for observer in self._observers:
            observer.rules_changed(node, service)

    def rules_touched(self, node: int) -> None:
        """A proxy on *node* sees its servers differently: what it does with new requests changes."""
        for observer in self._observers:
            observer.rules_changed(node, "")

    def publish_dns(self, service: str, ready_pods: Callable[[], tuple[Pod, ...]]) -> None:
        """Let *service*'s name resolve to the pods that *ready_pods* returns (headless Services)."""
        self._headless[service] = ready_pods

    def resolve(self, service: str) -> tuple[Pod, ...]:
        """The pods that DNS would name now for a headless Service."""
        return self._headless[service]()
