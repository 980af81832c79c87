"""Kubernetes objects of a scenario: which kinds there are; ConfigMaps and Services.

What changes the answer and is not modelled is refused by name; what cannot change it is in an explicit list.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sim.errors import InputError, UnsupportedInput
from sim.scenario.documents import Document
from sim.scenario.durations import shown
from sim.scenario.ignored_fields import CONFIG_MAP, METADATA, SERVICE, check_ignored, qualified_name
from sim.scenario.model import Service, ServicePort
from sim.scenario.reader import Fields

MODELLED_KINDS: Final[Mapping[str, str]] = {"Deployment": "apps/v1", "Service": "v1", "ConfigMap": "v1"}

IGNORED_KINDS: Final = frozenset({
    "Namespace", "ServiceAccount", "Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding",
    "PriorityClass", "StorageClass", "PersistentVolume", "PersistentVolumeClaim", "CustomResourceDefinition",
    "ServiceMonitor", "PodMonitor", "PrometheusRule", "Certificate", "Issuer", "ClusterIssuer", "Job",
    "CronJob",
})  # fmt: skip
"""Cannot change what a rollout does to requests."""

REPLAYED_KINDS: Final = frozenset(
    {"ServiceAccount", "Secret", "PersistentVolumeClaim", "Role", "RoleBinding"}
)
"""Of those, what pods may need to start on a real cluster."""

IGNORED_WITH_WARNING: Final[Mapping[str, str]] = {
    "PodDisruptionBudget": "limits evictions; a rolling update does not ask it",
    "NetworkPolicy": "taken to let the load, the proxies and the probes through",
    "LimitRange": "taken to leave the pods as they are written",
}

_PROXY: Final = "its controller is a proxy of its own; write it as an HAProxy Deployment with its Service"
REFUSED_KINDS: Final[Mapping[str, str]] = {
    "StatefulSet": "it replaces pods one by one, in order; only Deployments are modelled",
    "DaemonSet": "it replaces the pod of each node; only Deployments are modelled",
    "ReplicaSet": "write the Deployment that owns it",
    "ReplicationController": "write it as a Deployment",
    "Pod": "a pod without an owner is not replaced; write a Deployment",
    "HorizontalPodAutoscaler": "it changes replicas during the rollout; set spec.replicas and take it out",
    "VerticalPodAutoscaler": "it replaces pods by itself; take it out",
    "Ingress": _PROXY,
    "IngressClass": _PROXY,
    "Gateway": _PROXY,
    "HTTPRoute": _PROXY,
    "VirtualService": "a mesh puts proxies into the pods",
    "DestinationRule": "a mesh puts proxies into the pods",
    "Rollout": "another controller than the Deployment's",
    "Endpoints": "endpoints that no pod stands behind",
    "EndpointSlice": "endpoints that no pod stands behind",
    "ResourceQuota": "it can keep the rollout from creating pods",
    "MutatingWebhookConfiguration": "it can change the pods",
    "Kustomization": "render it first: kubectl kustomize FOLDER | rollsim predict -",
}

IGNORED_METADATA: Final = frozenset({
    "annotations", "labels", "creationTimestamp", "uid", "resourceVersion", "generation", "managedFields",
    "selfLink", "ownerReferences", "finalizers", "generateName",
})  # fmt: skip

IGNORED_SERVICE_FIELDS: Final = frozenset({
    "clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "allocateLoadBalancerNodePorts",
    "loadBalancerClass", "healthCheckNodePort", "loadBalancerSourceRanges", "loadBalancerIP",
})  # fmt: skip
REFUSED_SERVICE_FIELDS: Final = {
    "externalIPs": "addresses outside the cluster",
    "externalName": "a name outside the cluster",
}

TRAFFIC_DISTRIBUTIONS: Final = ("PreferClose", "PreferSameZone", "PreferSameNode")
PORT_NAME: Final = "at most 15 lower case letters, digits and '-', a letter among them"

MAX_CONFIG_MAP_BYTES: Final = 1024 * 1024

_KEY: Final = re.compile(r"[-._a-zA-Z0-9]+")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SERVICE_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(slots=True)
class Objects:
    """The modelled objects by kind and name, raw. `apply` works as `kubectl apply` of whole files."""

    by_key: dict[tuple[str, str], Document] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    left_out: frozenset[str] = frozenset()
    """Kinds that are not modelled, and that the scenario says to predict without."""

    def apply(self, documents: Iterable[Document]) -> list[Document]:
        """Add or replace. Returns the modelled documents among them.

        Raises
        ------
        InputError
            A kind that is refused or unknown, an object that stands twice in *documents*, two namespaces.
        """
        added: dict[tuple[str, str], Document] = {}
        for document in documents:
            if not self._modelled(document):
                continue
            key = (document.kind, document.name)
            if key in added:
                raise InputError(f"{document.place}: stands twice (first in {added[key].file})")
            added[key] = document
        self.by_key |= added
        self._one_namespace()
        return list(added.values())

    def of_kind(self, kind: str) -> list[Document]:
        return [document for (its_kind, _), document in self.by_key.items() if its_kind == kind]

    def names(self, kind: str) -> list[str]:
        return [name for its_kind, name in self.by_key if its_kind == kind]

    def copy(self) -> "Objects":
        return Objects(by_key=dict(self.by_key), warnings=self.warnings, left_out=self.left_out)

    def _note(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    def _modelled(self, document: Document) -> bool:
        kind, place = document.data.get("kind"), document.place
        version = document.data.get("apiVersion")
        if not isinstance(kind, str) or not isinstance(version, str):
            raise InputError(
                f"{place}: got apiVersion {shown(version)} and kind {shown(kind)}, expected two texts"
            )
        if kind in self.left_out:
            self._note(f"{place}: left out, as the scenario says: predicted as if it were not there")
            return False
        if kind in REFUSED_KINDS:
            raise UnsupportedInput(
                f"{place}: {kind} is not modelled: {REFUSED_KINDS[kind]}; "
                f"spec.leaveOut: [{kind}] predicts without it"
            )
        if kind in IGNORED_WITH_WARNING:
            self._note(f"{place}: ignored: {IGNORED_WITH_WARNING[kind]}")
            return False
        if kind in IGNORED_KINDS:
            return False
        if kind not in MODELLED_KINDS:
            allowed = ", ".join([*MODELLED_KINDS, *sorted(IGNORED_KINDS), *IGNORED_WITH_WARNING])
            raise UnsupportedInput(
                f"{place}: kind {shown(kind)} is not known, so it may change the answer; known: {allowed}; "
                f"spec.leaveOut: [{kind}] predicts without it"
            )
        if version != MODELLED_KINDS[kind]:
            raise InputError(
                f"{place}: apiVersion: got {shown(version)}, allowed for a {kind}: {MODELLED_KINDS[kind]}"
            )
        return True

    def _one_namespace(self) -> None:
        found: dict[str | None, Document] = {}
        for document in self.by_key.values():
            metadata = document.data.get("metadata")
            name = metadata.get("namespace") if isinstance(metadata, dict) else None
            found.setdefault(name, document)
        if len(found) > 1:
            names = ", ".join(str(name) if name else "none" for name in found)
            last = list(found.values())[-1]
            raise UnsupportedInput(
                f"{last.place}: metadata.namespace: not modelled: objects in several namespaces ({names})"
            )


def to_apply(documents: Iterable[Document]) -> tuple[dict[str, Any], ...]:
    """What of *documents* a replay needs, without their namespace: it has one of its own."""
    kept = []
    for document in documents:
        if document.kind in MODELLED_KINDS or document.kind in REPLAYED_KINDS:
            metadata = document.data.get("metadata")
            plain = {key: value for key, value in (metadata or {}).items() if key != "namespace"}
            kept.append({**document.data, "metadata": plain})
    return tuple(kept)


def object_fields(document: Document, warnings: list[str]) -> Fields:
    """The document as fields, its envelope checked."""
    fields = Fields(document.data, document.place, warnings)
    fields.text("apiVersion")
    fields.text("kind")
    metadata = fields.required("metadata")
    name = metadata.text("name")
    pattern, most = (_LABEL, 63) if document.kind == "Service" else (_SUBDOMAIN, 253)
    if not pattern.fullmatch(name) or len(name) > most:
        raise metadata.error("name", f"got {shown(name)}, expected lower case letters, digits and '-'")
    metadata.text("namespace", None)
    check_ignored(metadata, METADATA)
    metadata.finish(ignored=IGNORED_METADATA)
    return fields


def read_config_map(document: Document, warnings: list[str]) -> dict[str, str]:
    fields = object_fields(document, warnings)
    data = fields.strings("data")
    check_ignored(fields, CONFIG_MAP)
    binary = fields.raw("binaryData", {})
    if twice := next((key for key in data if key in binary), None):
        raise fields.error("binaryData", f"got {shown(twice)}, which is a key of data too")
    for key in (*data, *binary):
        if not _KEY.fullmatch(key) or len(key) > 253 or key.startswith(".."):
            raise fields.error("data", f"got key {shown(key)}, expected letters, digits, '-', '_' and '.'")
    if sum(len(text.encode()) for text in (*data.values(), *binary.values())) > MAX_CONFIG_MAP_BYTES:
        raise fields.error("data", f"too long: at most {MAX_CONFIG_MAP_BYTES} bytes")
    fields.finish(ignored={"immutable"})
    return data


# ---------------------------------------------------------------- Services


def read_service(document: Document, warnings: list[str]) -> Service:
    """A Service as kubernetes v1.34 pkg/apis/core/validation/validation.go ValidateService takes it."""
    fields = object_fields(document, warnings)
    spec = fields.required("spec")
    kind = spec.text("type", "ClusterIP", allowed=("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"))
    if kind == "ExternalName":
        raise spec.unsupported("type", "not modelled: ExternalName is a name outside the cluster")
    if kind == "LoadBalancer":
        spec.warn(
            "type", "the external load balancer is not modelled: clients use the Service inside the cluster"
        )
    headless = spec.text("clusterIP", None) == "None"
    if headless and kind != "ClusterIP":
        raise spec.error("clusterIP", f"may not be None for a {kind} Service")
    selector = spec.strings("selector")
    if not selector:
        raise spec.unsupported("selector", "not modelled: a Service without a selector has no pods behind it")
    _traffic_distribution(spec)
    service = Service(
        name=document.name,
        selector=selector,
        ports=_service_ports(spec, kind, headless=headless),
        type=kind,
        headless=headless,
        session_affinity_s=_session_affinity(spec),
        external_traffic_local=_external_local(spec, kind),
        internal_traffic_local=spec.text("internalTrafficPolicy", "Cluster", allowed=("Cluster", "Local"))
        == "Local",
        publish_not_ready=spec.flag("publishNotReadyAddresses", False),
    )
    check_ignored(spec, SERVICE)
    if spec.raw("healthCheckNodePort") and not (kind == "LoadBalancer" and service.external_traffic_local):
        raise spec.error(
            "healthCheckNodePort", "may only be set for a LoadBalancer with externalTrafficPolicy Local"
        )
    spec.finish(ignored=IGNORED_SERVICE_FIELDS, refused=REFUSED_SERVICE_FIELDS)
    fields.finish(ignored={"status"})
    return service


def _service_ports(spec: Fields, kind: str, *, headless: bool) -> tuple[ServicePort, ...]:
    entries = spec.entries("ports", least=0 if headless else 1)
    ports: list[ServicePort] = []
    for entry in entries:
        protocol = entry.text("protocol", "TCP", allowed=("TCP", "UDP", "SCTP"))
        name = entry.text("name", None)
        if name is None and len(entries) > 1:
            raise entry.error("name", "missing: a Service with several ports needs their names")
        if name is not None and (
            not _LABEL.fullmatch(name) or len(name) > 63 or any(name == other.name for other in ports)
        ):
            raise entry.error("name", f"got {shown(name)}, expected a lower case word that stands once")
        port = entry.integer("port", least=1, most=65535)
        node_port = entry.integer("nodePort", None, least=1, most=65535)
        if node_port is not None and kind == "ClusterIP":
            raise entry.error("nodePort", f"got {node_port}, may not be used when type is ClusterIP")
        if node_port is not None and not 30000 <= node_port <= 32767:
            raise entry.error("nodePort", f"got {node_port}, expected 30000 to 32767")
        if node_port is not None and any(node_port == other.node_port for other in ports):
            raise entry.error("nodePort", f"got {node_port}, stands twice")
        target = _target_port(entry, port)
        check_ignored(entry, {"appProtocol": qualified_name})
        entry.finish(ignored={"appProtocol"})
        if any(port == other.port for other in ports) and protocol == "TCP":
            raise entry.error("port", f"got {port}, stands twice")
        if protocol == "TCP":
            ports.append(ServicePort(port=port, target_port=target, name=name, node_port=node_port))
    return tuple(ports)


def _target_port(entry: Fields, port: int) -> int | str:
    value = entry.raw("targetPort", port)
    if isinstance(value, str) and is_port_name(value):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 65535:
        return value or port  # 0 counts as absent
    raise entry.error("targetPort", f"got {shown(value)}, expected 1 to 65535 or a port's name ({PORT_NAME})")


def _session_affinity(spec: Fields) -> int | None:
    affinity = spec.text("sessionAffinity", "None", allowed=("None", "ClientIP"))
    config = spec.mapping("sessionAffinityConfig")
    if affinity == "None":  # the API server then drops the settings of the other
        return None
    seconds = 10800
    if config is not None and (client_ip := config.mapping("clientIP")) is not None:
        seconds = client_ip.integer("timeoutSeconds", 10800, least=1, most=86400)
        client_ip.finish()
    if config is not None:
        config.finish()
    return int(seconds)


def _external_local(spec: Fields, kind: str) -> bool:
    policy = spec.text("externalTrafficPolicy", None, allowed=("Cluster", "Local"))
    if policy is not None and kind == "ClusterIP":
        raise spec.error(
            "externalTrafficPolicy", f"got {policy}, may only be set for NodePort and LoadBalancer"
        )
    return bool(policy == "Local")


def _traffic_distribution(spec: Fields) -> None:
    wanted = spec.text("trafficDistribution", None, allowed=TRAFFIC_DISTRIBUTIONS)
    if wanted == "PreferSameNode":
        raise spec.unsupported(
            "trafficDistribution", "not modelled: PreferSameNode chooses endpoints by node"
        )
    if wanted is not None:
        spec.warn("trafficDistribution", f"{wanted} has no effect: the cluster has one zone")


def is_port_name(name: str) -> bool:
    """Whether *name* may name a container's port (IANA_SVC_NAME)."""
    return (
        bool(_LABEL.fullmatch(name))
        and len(name) <= 15
        and any(c.isalpha() for c in name)
        and "--" not in name
    )


def selects(selector: Mapping[str, str], labels: Mapping[str, Any]) -> bool:
    return all(labels.get(key) == value for key, value in selector.items())
