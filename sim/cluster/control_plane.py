"""All of the cluster, wired up in its steady state: every Deployment rolled out long before time zero."""

import math
from collections.abc import Callable
from dataclasses import replace

import simpy

from sim.cluster.api import (
    CONTROLLER_MANAGER,
    Api,
    EndpointSliceView,
    PodStage,
    PodView,
    ReplicaSetView,
    TokenBucket,
)
from sim.cluster.deployment import DeploymentController, max_surge
from sim.cluster.dns import Dns
from sim.cluster.endpointslice import EndpointSliceController
from sim.cluster.health_check import ProxyWatch
from sim.cluster.kube_proxy import KubeProxy
from sim.cluster.kubelet import Kubelet
from sim.cluster.node_cpu import NodeCpu
from sim.cluster.replicaset import ReplicaSetController
from sim.cluster.scheduler import Scheduler
from sim.delays import Delays, Pressure
from sim.errors import UnsupportedInput
from sim.scenario.model import Deployment, PodTemplate, Scenario, Update
from sim.scenario.timing import Timing
from sim.streams import Streams
from sim.world import Pod, Process, ServerPhase, World

STEADY_AGE_S = 3600
"""Age of the pods at time zero: old enough that no age of theirs decides anything."""


class ControlPlane:
    """Controllers, kubelets and kube-proxies of one simulated cluster.

    Parameters
    ----------
    pressure : callable
        What the load does at this moment to the actors' work.
    slowdown : callable
        Of pod operations beside the nodes' own work and the load, on each node: see NodeCpu.
    """

    def __init__(
        self,
        env: simpy.Environment,
        world: World,
        scenario: Scenario,
        timing: Timing,
        streams: Streams,
        pressure: Callable[[], Pressure],
        slowdown: Callable[[float], float],
    ) -> None:
        self._env = env
        self._world = world
        self._scenario = scenario
        self._timing = timing
        self._streams = streams
        self._pressure = pressure
        self._slowdown = slowdown
        self._n_pods = 0
        self._uids = streams.take("uids")
        self._templates: dict[tuple[str, str], PodTemplate] = {}
        self.api = Api(env)
        self.kubelets = [
            Kubelet(env, world, self.api, self._delays(f"kubelet/{n}"), n, self._node_cpu(n))
            for n in self._nodes
        ]
        self._cpus = [kubelet.cpu for kubelet in self.kubelets]
        """By node; the control plane runs on the first."""
        self._proxies = [
            KubeProxy(env, world, self.api, self._delays(f"kube-proxy/{k.node}"), k.node, k.cpu)
            for k in self.kubelets
        ]
        self._scheduler = Scheduler(env, self.api, self._delays("scheduler"), self._nodes, self._cpus[0])
        self._dns = Dns(env, world, self.api, self._delays("dns"))
        self._rs_bucket = TokenBucket(env)
        self._sets: dict[str, ReplicaSetController] = {}
        self._sets_of: dict[str, list[ReplicaSetController]] = {d.name: [] for d in scenario.deployments}
        replica_sets = self._delays("replicaset-controller")
        self.api.watch(ReplicaSetView, CONTROLLER_MANAGER, replica_sets, self._on_replica_set)
        self.api.watch(PodView, CONTROLLER_MANAGER, replica_sets, self._on_pod)
        deployment_bucket = TokenBucket(env)
        self.deployments = {
            d.name: DeploymentController(
                env,
                world,
                self.api,
                self._delays(f"deployment/{d.name}"),
                deployment_bucket,
                d,
                self._cpus[0],
            )
            for d in scenario.deployments
        }
        self._start_pods()
        self._start_services()
        self.proxy_watch = ProxyWatch(env, world, timing, streams)
        self._start_servers()

    @property
    def _nodes(self) -> range:
        return range(self._scenario.cluster.nodes)

    def _node_cpu(self, node: int) -> NodeCpu:
        cores, each = self._scenario.cluster.cores, self._timing.operation_cores
        cpu = NodeCpu(self._env, cores=cores, operation_cores=each, slowdown=self._slowdown)
        self._world.pod_work[node] = cpu
        return cpu

    def _delays(self, actor: str) -> Delays:
        return Delays(self._timing, self._streams.take(actor), self._pressure)

    # ------------------------------------------------------------------ steady state

    def _start_pods(self) -> None:
        node = 0
        for deployment in self._scenario.deployments:
            self._know(deployment)
            view = ReplicaSetView(
                name=f"{deployment.name}-{deployment.template.revision[:6]}-1",
                deployment=deployment.name,
                revision=deployment.template.revision,
                serial=1,
                replicas=deployment.replicas,
                desired=deployment.replicas,
                max_replicas=deployment.replicas + max_surge(deployment),
                min_ready_s=deployment.min_ready_s,
                observed=1,
                current=deployment.replicas,
                ready=deployment.replicas,
                available=deployment.replicas,
            )
            self.api.store(view)
            pods = []
            for _ in range(deployment.replicas):
                pod = replace(
                    self._new_pod(view),
                    created_s=-STEADY_AGE_S,
                    node=node % len(self._nodes),
                    stage=PodStage.RUNNING,
                    has_address=True,
                    ready=True,
                    ready_since_s=-STEADY_AGE_S,
                )
                node += 1
                self.api.store(pod)
                self._scheduler.adopt(pod)
                self._world.pods[pod.name].node = pod.node or 0
                pods.append(pod)
            self.deployments[deployment.name].adopt(view, pods)
            self._control(view)

    def _start_services(self) -> None:
        bucket = TokenBucket(self._env)
        for service in self._world.services.values():
            if service.internal_traffic_local and len(self._nodes) > 1:
                raise UnsupportedInput(
                    f"{self._scenario.source}: Service {service.name}: internalTrafficPolicy: got Local with "
                    f"{len(self._nodes)} nodes, not modelled; allowed: Cluster, or spec.cluster.nodes: 1"
                )
            controller = EndpointSliceController(
                self._env,
                self._world,
                self.api,
                self._delays(f"endpointslice/{service.name}"),
                bucket,
                service,
                self._cpus[0],
            )
            view: EndpointSliceView = controller.adopt(list(self.api.pods.values()))
            self.api.store(view)
            self._dns.adopt(view)
            for proxy in self._proxies:
                proxy.adopt(view)

    def _start_servers(self) -> None:
        """App servers before proxies: a proxy that starts looks at what it points to."""
        servers = [server for pod in self._world.pods.values() for server in pod.servers.values()]
        for server in sorted(servers, key=lambda s: s.container.haproxy is not None):
            server.move(ServerPhase.STARTING)
            server.move(ServerPhase.LISTENING)
        for view in self.api.pods.values():
            self.kubelets[view.node or 0].adopt(self._world.pods[view.name], view)

    # ------------------------------------------------------------------ life

    def schedule(self, update: Update) -> None:
        """Make *update* at its time."""
        self._know(update.to)
        self._env.process(self._make(update))

    def _make(self, update: Update) -> Process:
        yield self._env.timeout(update.at_s - self._env.now)
        self.deployments[update.to.name].update(update.to)

    def _know(self, deployment: Deployment) -> None:
        self._templates[deployment.name, deployment.template.revision] = deployment.template

    def _on_replica_set(self, view: ReplicaSetView) -> None:
        if view.name in self._sets:
            self._sets[view.name].see_replica_set(view)
        else:
            self._control(view)

    def _on_pod(self, view: PodView) -> None:
        for controller in self._sets_of[view.deployment]:
            controller.see_pod(view)

    def _control(self, view: ReplicaSetView) -> None:
        template = self._templates[view.deployment, view.revision]
        controller = ReplicaSetController(
            self._env,
            self._world,
            self.api,
            self._delays(f"replicaset/{view.name}"),
            self._rs_bucket,
            view,
            self._cpus,
            grace_s=template.termination_grace_period_s,
            new_pod=self._new_pod,
        )
        for pod in self.api.pods.values():
            if pod.deployment == view.deployment:
                controller.see_pod(pod)
        self._sets[view.name] = controller
        self._sets_of[view.deployment].append(controller)

    def _new_pod(self, view: ReplicaSetView) -> PodView:
        self._n_pods += 1
        name = f"{view.deployment}-{view.revision[:6]}-{self._n_pods}"
        template = self._templates[view.deployment, view.revision]
        self._world.pods[name] = Pod(
            self._world,
            name,
            deployment=view.deployment,
            template=template,
            images=dict(self._scenario.images),
        )
        return PodView(
            name=name,
            deployment=view.deployment,
            replica_set=view.name,
            created_s=math.floor(self._env.now),
            uid=float(self._uids.random()),
        )
