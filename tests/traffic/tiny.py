"""A tiny world by hand: pods, rules and one load, with constant latencies, driven without a control plane."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import simpy

from sim.outcomes import Failure
from sim.proxies import Proxy, open_proxy
from sim.scenario.distributions import Constant, Exponential
from sim.scenario.haproxy_cfg import parse_haproxy
from sim.scenario.model import (
    ClosedLoop,
    Cluster,
    Container,
    ExitWhen,
    Image,
    Load,
    NginxConf,
    PodTemplate,
    Scenario,
    ServerKind,
    Service,
    ServicePort,
)
from sim.scenario.timing import Timing, load_timing
from sim.servers import stop_behaviour
from sim.streams import Streams
from sim.traffic.load import Traffic
from sim.traffic.tally import Tally
from sim.world import Pod, PodWork, RuleTable, Server, ServerPhase, World

ROUND_TRIP_S = 0.0002
TIMING = replace(
    load_timing("defaults", beside=Path()),
    round_trip=Constant(value_s=ROUND_TRIP_S),
    client_overhead={},
)
"""No spread, no client overhead: what happens when can be written down."""

NGINX = NginxConf(keepalive_timeout_s=300.0, keepalive_requests=1_000_000)
APP = Image(
    reference="app:red", server=ServerKind.NGINX, version="1.22", service_time=Constant(value_s=0.001)
)
GENERIC = Image(reference="generic:red", server=ServerKind.GENERIC, service_time=Constant(value_s=0.001))
HAPROXY = Image(reference="proxy:2.6", server=ServerKind.HAPROXY, version="2.6.12", stop_signal="SIGUSR1")
CFG = """\
defaults
  mode http
  timeout connect 5s
  timeout client 50s
  timeout server 50s
  {defaults}
listen app
  bind :8080
  {lines}
"""

PLAIN = Load(
    client="plain",
    service="app",
    port=80,
    connections=20,
    arrivals=ClosedLoop(think_time=Exponential(scale_s=0.02)),
    duration_s=20.0,
    connect_timeout_s=5.0,
    answer_timeout_s=5.0,
)
"""20 kept connections, each with its pauses of 20 ms in the mean."""


class Tiny:
    """Pods that listen, the Service `app` in front of them, and the load; what happens is scheduled with `at`."""

    def __init__(
        self,
        load: Load = PLAIN,
        *,
        pods: int = 1,
        image: Image = APP,
        nginx: NginxConf | None = NGINX,
        haproxy: str | None = None,
        lines: str = "server app app:80",
        proxy_image: Image = HAPROXY,
        timing: Timing = TIMING,
        affinity_s: int | None = None,
        headless: bool = False,
        seed: int = 0,
        replication: int = 0,
        stepwise: bool = False,
        on_node: bool = True,
        cores: int = 2,
        pod_work: Callable[[simpy.Environment], PodWork] | None = None,
    ) -> None:
        self.env = simpy.Environment()
        ports = (ServicePort(port=80, target_port=80),)
        self.services = {
            "app": Service(
                name="app",
                selector={"app": "app"},
                ports=ports,
                session_affinity_s=affinity_s,
                headless=headless,
            ),
            "proxy": Service(
                name="proxy", selector={"app": "proxy"}, ports=(ServicePort(port=80, target_port=8080),)
            ),
        }
        self.world = World(self.env, self.services)
        if pod_work is not None:
            self.world.pod_work[0] = pod_work(self.env)
        nginx = nginx if image.server is ServerKind.NGINX else None
        app = Container(name="app", image=image.reference, ports={"http": 80}, nginx=nginx)
        self.pods = [self.pod(f"app-{i}", app, image) for i in range(pods)]
        self.proxies: dict[Server, Proxy] = {}
        self.streams = Streams(seed, replication)
        self.route(self.pods)
        self.proxy: Proxy | None = None
        if haproxy is not None:
            load = replace(load, service="proxy")
            conf = parse_haproxy(CFG.format(defaults=haproxy, lines=lines), where="haproxy.cfg", env={})
            container = Container(name="proxy", image=proxy_image.reference, haproxy=conf)
            pod = self.pod("proxy-0", container, proxy_image)
            self.world.set_rules(0, "proxy", RuleTable((pod,)))
            server = self.server(pod)
            self.proxy = self.proxies[server] = open_proxy(self.world, server)
            slots = [s for s in self.proxy.servers if s.is_slot]
            for slot, target in zip(slots, self.pods, strict=False):
                slot.pod = target
        self.scenario = Scenario(
            name="tiny",
            source=Path("tiny.yaml"),
            deployments=(),
            services=tuple(self.services.values()),
            images={image.reference: image, proxy_image.reference: proxy_image},
            updates=(),
            load=load,
            cluster=Cluster(client_on_node=on_node, cores=cores),
        )
        self.traffic = Traffic(
            self.env, self.world, self.scenario, timing, self.streams, self.proxies, stepwise=stepwise
        )
        self.traffic.start()

    # -- building

    def pod(self, name: str, container: Container, image: Image, *, listening: bool = True) -> Pod:
        template = PodTemplate(labels={"app": name.rpartition("-")[0]}, containers=(container,))
        pod = Pod(self.world, name, deployment="app", template=template, images={image.reference: image})
        self.world.pods[name] = pod
        server = self.server(pod)
        server.move(ServerPhase.STARTING)
        if listening:
            server.move(ServerPhase.LISTENING)
        return pod

    @staticmethod
    def server(pod: Pod) -> Server:
        return next(iter(pod.servers.values()))

    def route(self, pods: Sequence[Pod], service: str = "app") -> None:
        self.world.set_rules(0, service, RuleTable(tuple(pods)))

    # -- what happens

    def at(self, at_s: float, do: Callable[..., Any], *args: Any) -> None:
        def later() -> Any:
            yield self.env.timeout(at_s - self.env.now)
            do(*args)

        self.env.process(later())

    def stop(
        self,
        pod: Pod,
        signal: str = "SIGTERM",
        *,
        takes_s: float = 0.002,
        master_s: float = 0.0,
        gone_s: float = 0.2,
        word_s: float = 0.0,
    ) -> None:
        """The stop signal, as the kubelet's side of a server has it, with constant times.

        *word_s*: nginx's master's word until its worker reads it, *takes_s*: a fast stop until its connections are
        closed, *master_s*: until its listener is, *gone_s*: from the exit until the address has vanished.
        """
        self.env.process(self._stop(self.server(pod), signal, takes_s, master_s, gone_s, word_s))

    def _stop(
        self, server: Server, signal: str, takes_s: float, master_s: float, gone_s: float, word_s: float
    ) -> Any:
        behaviour = stop_behaviour(server.container, server.image, signal)
        if word_s > 0:
            server.word_s = float(self.env.now)
            server.move(ServerPhase.DEAF)
            yield self.env.timeout(word_s)
        server.stop = behaviour
        match behaviour.exit:
            case ExitWhen.AT_ONCE:
                server.hear(behaviour, ServerPhase.DEAF)
                yield self.env.timeout(takes_s)
                if master_s > 0:
                    server.cut()
                    yield self.env.timeout(master_s)
            case ExitWhen.AFTER:
                server.move(ServerPhase.DRAINING)
                yield self.env.timeout(behaviour.exit_after_s)
            case ExitWhen.DRAINED:
                server.move(ServerPhase.DRAINING)
                limit_s = behaviour.drain_timeout_s
                limit = self.env.timeout(1e9 if limit_s is None else limit_s)
                yield server.when_drained() | limit
                server.cut_by_own_limit = limit.processed
            case ExitWhen.NEVER:
                server.move(ServerPhase.DRAINING)
                return
        server.move(ServerPhase.EXITED)
        yield self.env.timeout(gone_s)
        server.move(ServerPhase.VANISHED)

    def kill(self, pod: Pod) -> None:
        self.server(pod).killed = True
        self.server(pod).move(ServerPhase.EXITED)

    def when(self, pod: Pod, what: str) -> float:
        """The first time that *pod*'s server was in that phase. [s]"""
        return next(m.at_s for m in self.world.marks if m.subject == pod.name and m.what == what)

    def attached(self) -> dict[str, int]:
        """Connections that servers still hold: none once the load is over."""
        return {pod.name: n for pod in self.world.pods.values() if (n := len(self.server(pod)._connections))}

    # -- results

    def run(self, until_s: float | None = None) -> Tally:
        """Until the load is over (and its last requests with it)."""
        end_s = (self.traffic.load.duration_s or 3600.0) + 10.0 if until_s is None else until_s
        self.env.run(until=end_s)
        return self.traffic.tally


def causes(tally: Tally) -> dict[str, int]:
    """Failures by cause, bursts included."""
    counts: dict[str, int] = {}
    for failure, n in each(tally):
        counts[failure.cause.value] = counts.get(failure.cause.value, 0) + n
    return counts


def seen(tally: Tally) -> dict[str, int]:
    counts: dict[str, int] = {}
    for failure, n in each(tally):
        counts[failure.seen_as] = counts.get(failure.seen_as, 0) + n
    return counts


def each(tally: Tally) -> list[tuple[Failure, int]]:
    return [*((f, 1) for f in tally.failures), *((b.like, b.n) for b in tally.bursts)]
