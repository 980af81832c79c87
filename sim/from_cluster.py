"""A Deployment as a live cluster has it: its Services, ConfigMaps and proxies, as documents to predict from.

Only reads (`configs/rbac/from-cluster.yaml` is all it needs), and never a Secret. The objects are taken as the
API server sends them, not through the client's classes: a field that the client does not know stays there.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final

from sim.errors import InputError, UnsupportedInput
from sim.init_guess import workload_of
from sim.scenario.documents import Document
from sim.scenario.manifests import Objects, selects
from sim.scenario.reader import one_line

KINDS: Final = ("deployment", "deployments", "deploy", "deployment.apps", "deployments.apps")
TIMEOUT_S: Final = (5.0, 30.0)
"""To connect, and to read."""
ROLE: Final = "configs/rbac/from-cluster.yaml"
PASSWORDS: Final = re.compile(r"pass|secret|token|credential|(api|access|private)_?key", re.IGNORECASE)
"""Names of environment variables whose values are nobody's business; no rollout depends on any value."""
PUT_THERE: Final = frozenset({"kube-root-ca.crt"})
"""ConfigMaps that the cluster itself mounts."""

Raw = Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Found:
    """What the cluster has, ready to be predicted."""

    deployment: str
    namespace: str
    objects: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What is there and not modelled, or could not be looked at."""

    def documents(self) -> list[Document]:
        return [Document(f"namespace {self.namespace}", i, data) for i, data in enumerate(self.objects)]


def read_cluster(target: str, *, namespace: str | None = None, context: str | None = None) -> Found:
    """The objects that decide a rollout of *target* (`deployment/NAME`).

    Parameters
    ----------
    namespace : str, optional
        Else the context's own, or `default`.
    context : str, optional
        Of the kubeconfig; else the current one, or the service account of the pod that this runs in.

    Raises
    ------
    InputError
        No client library, no such context or object, no right to read it, no answer.
    """
    name = _name_of(target)
    cluster = _Cluster.connect(context, namespace)
    deployment = cluster.get("deployment", name)
    services = cluster.all("service")
    others = [each for each in cluster.all("deployment") if each["metadata"]["name"] != name]
    found = Found(deployment=name, namespace=cluster.namespace)
    config_maps = cluster.config_maps(deployment)
    own = _services_of(deployment, services)
    chosen, front = [deployment], list(own)
    for proxy, maps in _proxies(cluster, others, [each["metadata"]["name"] for each in own]):
        chosen.append(proxy)
        config_maps |= maps
        front += [each for each in _services_of(proxy, services) if each not in front]
    found.objects = [_plain(each) for each in (*config_maps.values(), *front, *chosen)]
    for each in found.objects:
        found.notes += _without_passwords(each)
    _look_around(cluster, chosen, front, found.notes)
    return found


def _name_of(target: str) -> str:
    kind, slash, name = target.partition("/")
    if kind not in KINDS or not slash or not name or "/" in name:
        raise InputError(f"--from-cluster {target}: expected deployment/NAME")
    return name


# ---------------------------------------------------------------- the API server


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cluster:
    """Reads of one namespace; a call is one GET."""

    namespace: str
    calls: Mapping[str, Callable[..., Any]]
    """`list KIND` and `get KIND` → the client's method."""

    @classmethod
    def connect(cls, context: str | None, namespace: str | None) -> "_Cluster":
        try:
            client: Any = import_module("kubernetes.client")  # an extra, so only here
            config: Any = import_module("kubernetes.config")
        except ImportError:
            raise InputError(
                "--from-cluster: the Kubernetes client is not installed: pip install 'rollsim[cluster]'"
            ) from None
        settings = client.Configuration()
        own = "default"
        try:
            known, active = config.list_kube_config_contexts()
            chosen = next((each for each in known if each["name"] == context), active)
            own = chosen["context"].get("namespace") or own
            config.load_kube_config(context=context, client_configuration=settings)
        except config.ConfigException as error:
            if context is not None:
                raise InputError(f"--context {context}: {one_line(error)}") from None
            try:
                config.load_incluster_config(client_configuration=settings)
            except config.ConfigException:
                raise InputError(f"--from-cluster: no cluster to ask: {one_line(error)}") from None
        settings.retries = False
        api = client.ApiClient(settings)
        apps, core = client.AppsV1Api(api), client.CoreV1Api(api)
        scaling, net = client.AutoscalingV1Api(api), client.NetworkingV1Api(api)
        return cls(
            namespace=namespace or own,
            calls={
                "get deployment": apps.read_namespaced_deployment,
                "list deployment": apps.list_namespaced_deployment,
                "list service": core.list_namespaced_service,
                "get configmap": core.read_namespaced_config_map,
                "list pod": core.list_namespaced_pod,
                "list horizontalpodautoscaler": scaling.list_namespaced_horizontal_pod_autoscaler,
                "list ingress": net.list_namespaced_ingress,
            },
        )

    def get(self, kind: str, name: str) -> dict[str, Any]:
        return self._ask(f"get {kind}", f"{kind} {name}", name, self.namespace)

    def all(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        found = self._ask(f"list {kind}", f"{kind}s", self.namespace, label_selector=selector)
        what = str(found.get("kind", "")).removesuffix("List")
        about = {"apiVersion": found.get("apiVersion"), "kind": what}  # items of a list carry neither
        return [{**about, **item} for item in found.get("items") or []]

    def seen(self, kind: str, notes: list[str], selector: str = "") -> list[dict[str, Any]]:
        """The same, for what is only looked at: no right to it is a note."""
        try:
            return self.all(kind, selector)
        except _Forbidden:
            notes.append(f"no right to list {kind}: not looked at")
            return []

    def config_maps(self, deployment: Raw) -> dict[str, dict[str, Any]]:
        """Those that the Deployment's pods mount or take variables from; one that is not there is left out."""
        found = {}
        for name in sorted(set(_config_map_names(deployment)) - PUT_THERE):
            try:
                found[name] = self.get("configmap", name)
            except _Missing:
                continue  # optional, or the reader says what misses it
        return found

    def _ask(self, call: str, what: str, *args: str, **options: str) -> dict[str, Any]:
        refused: Any = import_module("kubernetes.client").ApiException
        silent: Any = import_module("urllib3.exceptions").HTTPError
        where = f"{what} in namespace {self.namespace}"
        try:
            answer = self.calls[call](*args, **options, _preload_content=False, _request_timeout=TIMEOUT_S)
            read: dict[str, Any] = json.loads(answer.data)
        except refused as error:
            if error.status == 404:
                raise _Missing(f"--from-cluster: there is no {where}") from None
            if error.status in (401, 403):
                raise _Forbidden(
                    f"--from-cluster: no right to {call.partition(' ')[0]} {where}; {ROLE} holds what it takes"
                ) from None
            raise InputError(f"--from-cluster: {where}: {error.status} {one_line(error.reason)}") from None
        except (silent, ValueError) as error:
            raise InputError(f"--from-cluster: the API server does not answer: {one_line(error)}") from None
        return read


class _Missing(InputError):
    pass


class _Forbidden(InputError):
    pass


# ---------------------------------------------------------------- what belongs together


def _template(deployment: Raw) -> Raw:
    found: Raw = deployment["spec"]["template"]
    return found


def _labels(deployment: Raw) -> Raw:
    return _template(deployment)["metadata"].get("labels") or {}


def _services_of(deployment: Raw, services: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for service in services:
        selector = service["spec"].get("selector") or {}
        if selector and selects(selector, _labels(deployment)):
            found.append(service)
    return found


def _config_map_names(deployment: Raw) -> Iterator[str]:
    spec = _template(deployment)["spec"]
    for volume in spec.get("volumes") or []:
        sources = [volume, *((volume.get("projected") or {}).get("sources") or [])]
        yield from (each["configMap"]["name"] for each in sources if each.get("configMap"))
    for container in spec["containers"]:
        for group in container.get("envFrom") or []:
            if group.get("configMapRef"):
                yield group["configMapRef"]["name"]
        for variable in container.get("env") or []:
            source = (variable.get("valueFrom") or {}).get("configMapKeyRef")
            if source:
                yield source["name"]


def _proxies(
    cluster: _Cluster, others: Sequence[dict[str, Any]], services: Sequence[str]
) -> Iterator[tuple[dict[str, Any], dict[str, dict[str, Any]]]]:
    """Deployments whose HAProxy sends to one of the *services*, each with its ConfigMaps."""
    for other in others:
        if "haproxy" not in json.dumps(_template(other)["spec"]).lower():
            continue
        maps = cluster.config_maps(other)
        objects = Objects()
        objects.apply([Document("", i, each) for i, each in enumerate(maps.values())])
        workload = workload_of(Document("", 0, other), objects)
        if workload.proxy and workload.sends_to(services):
            yield other, maps


def _look_around(cluster: _Cluster, chosen: Sequence[Raw], services: Sequence[Raw], notes: list[str]) -> None:
    """What else is there that could change the answer.

    Raises
    ------
    UnsupportedInput
        Something puts containers into the pods that the Deployment does not have.
    """
    names = {each["metadata"]["name"] for each in chosen}
    for scaler in cluster.seen("horizontalpodautoscaler", notes):
        target = scaler["spec"]["scaleTargetRef"]
        if target["kind"] == "Deployment" and target["name"] in names:
            notes.append(
                f"HorizontalPodAutoscaler {scaler['metadata']['name']}: {target['name']} is taken to keep its replicas "
                "during the rollout"
            )
    asked = {each["metadata"]["name"] for each in services}
    notes += [
        f"Ingress {each['metadata']['name']}: its controller is not modelled; the load asks the Service"
        for each in cluster.seen("ingress", notes)
        if asked & set(_backends(each["spec"]))
    ]
    for deployment in chosen:
        ours = {each["name"] for each in _template(deployment)["spec"]["containers"]}
        wanted = deployment["spec"]["selector"].get("matchLabels") or {}
        selector = ",".join(f"{key}={value}" for key, value in wanted.items())
        pods = cluster.seen("pod", notes, selector) if selector else []
        for pod in pods:
            if more := {each["name"] for each in pod["spec"]["containers"]} - ours:
                raise UnsupportedInput(
                    f"--from-cluster: pod {pod['metadata']['name']}: not modelled: something puts containers into the "
                    f"pods that the Deployment does not have ({', '.join(sorted(more))})"
                )


def _backends(spec: Raw) -> Iterator[str]:
    paths = [path for rule in spec.get("rules") or [] for path in (rule.get("http") or {}).get("paths") or []]
    for backend in (spec.get("defaultBackend"), *(path.get("backend") for path in paths)):
        if backend and backend.get("service"):
            yield backend["service"]["name"]


# ---------------------------------------------------------------- as somebody would have written them

_OF_THE_CLUSTER: Final = frozenset(
    {"clusterIPs", "ipFamilies", "ipFamilyPolicy", "healthCheckNodePort", "internalTrafficPolicy"}
)


def _without_passwords(found: dict[str, Any]) -> Iterator[str]:
    """Take the values of such variables out of *found*, where somebody wrote them into it; yields a note for each."""
    if found["kind"] == "Deployment":
        spec = _template(found)["spec"]
        for container in (*(spec.get("initContainers") or []), *spec["containers"]):
            for variable in container.get("env") or []:
                if "value" in variable and PASSWORDS.search(variable["name"]):
                    del variable["value"]
                    yield f"the value of {variable['name']} in container {container['name']}"


def _plain(found: Raw) -> dict[str, Any]:
    """The object without what the cluster has added: no status, no namespace, no address."""
    metadata = {"name": found["metadata"]["name"]}
    if labels := found["metadata"].get("labels"):
        metadata["labels"] = labels
    kept = {key: value for key, value in found.items() if key not in ("status", "metadata")}
    plain: dict[str, Any] = {
        "apiVersion": kept.pop("apiVersion"),
        "kind": kept.pop("kind"),
        "metadata": metadata,
    }
    plain |= kept
    if plain["kind"] == "Service":
        spec = {key: value for key, value in plain["spec"].items() if key not in _OF_THE_CLUSTER}
        if spec.get("clusterIP") != "None":
            spec.pop("clusterIP", None)
        if found["spec"].get("internalTrafficPolicy") == "Local":
            spec["internalTrafficPolicy"] = "Local"
        plain["spec"] = spec
    return plain
