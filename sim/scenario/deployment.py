"""Deployments and their pod templates, checked as the API server checks them, resolved to frozen data."""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.documents import Document
from sim.scenario.durations import shown
from sim.scenario.images import official_image, undescribed
from sim.scenario.manifests import object_fields
from sim.scenario.model import (
    Container,
    Deployment,
    Image,
    NginxConf,
    NginxLocation,
    PodTemplate,
    Recreate,
    RollingUpdate,
    ServerKind,
    Service,
)
from sim.scenario.probes_and_hooks import StatedHooks, read_hook, read_probe
from sim.scenario.reader import Fields
from sim.scenario.server_conf import (
    OTHER_VOLUMES,
    READ_ONLY_VOLUMES,
    ConfigMaps,
    Mounts,
    container_variables,
    haproxy_conf,
    nginx_conf,
    read_mounts,
    service_variables,
)
from sim.scenario.shell import ContainerFiles

IGNORED_POD_FIELDS: Final = frozenset({
    "dnsPolicy", "dnsConfig", "hostname", "subdomain", "hostAliases", "imagePullSecrets", "securityContext",
    "serviceAccountName", "serviceAccount", "schedulerName", "priorityClassName", "priority", "preemptionPolicy",
    "nodeSelector", "tolerations", "os", "setHostnameAsFQDN", "hostIPC", "hostPID", "hostUsers", "overhead",
    "runtimeClassName", "resources",
})  # fmt: skip
REFUSED_POD_FIELDS: Final = {
    "initContainers": "initContainers, native sidecars (restartPolicy: Always) among them; they delay the start and "
    "change the order of the end",
    "ephemeralContainers": "debugging containers",
    "hostNetwork": "pods in the node's network share its ports and answer after they are gone",
    "readinessGates": "conditions that another controller sets",
    "shareProcessNamespace": "the stop signal then meets another PID 1",
    "activeDeadlineSeconds": "Kubernetes does not allow it in a Deployment",
    "nodeName": "a pod bound to one node",
    "resourceClaims": "devices that two pods cannot hold at once",
    "schedulingGates": "pods that wait for another controller",
}
IGNORED_CONTAINER_FIELDS: Final = frozenset({
    "resources", "securityContext", "terminationMessagePath", "terminationMessagePolicy", "stdin", "stdinOnce", "tty",
    "volumeDevices", "resizePolicy",
})  # fmt: skip
REFUSED_CONTAINER_FIELDS: Final = {
    "restartPolicy": "restart rules of a single container",
    "restartPolicyRules": "restart rules of a single container",
}
IGNORED_DEPLOYMENT_FIELDS: Final = frozenset({"revisionHistoryLimit"})

_PERCENT: Final = re.compile(r"\d+%")
_IMAGE: Final = re.compile(r"[a-z0-9]([a-zA-Z0-9./:_@-]*[a-zA-Z0-9_-])?")
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a Deployment's meaning depends on beside its own document."""

    config_maps: ConfigMaps
    services: tuple[Service, ...]
    images: dict[str, Image]
    """Described images; official ones are added as they are met."""
    hooks: StatedHooks


def read_deployment(document: Document, around: Surroundings, warnings: list[str]) -> Deployment:
    """A Deployment with every default filled in.

    Notes
    -----
    kubernetes v1.34 pkg/apis/apps/validation/validation.go ValidateDeploymentSpec and pkg/apis/apps/v1/defaults.go.
    """
    fields = object_fields(document, warnings)
    spec = fields.required("spec")
    replicas = spec.integer("replicas", 1, least=0)
    if spec.flag("paused", False):
        raise spec.unsupported("paused", "not modelled: a paused Deployment rolls nothing out")
    selector = spec.required("selector")
    match_labels = selector.strings("matchLabels")
    expressions = selector.entries("matchExpressions")
    selector.finish()
    template = _template(spec.required("template"), document, around)
    if not match_labels and not expressions:
        raise spec.error("selector", "got an empty selector, expected matchLabels")
    if any(template.labels.get(key) != value for key, value in match_labels.items()) or not all(
        _matches(expression, template.labels) for expression in expressions
    ):
        raise spec.error(
            "selector",
            f"`selector` does not match template `labels` ({shown(dict(match_labels))} and {shown(dict(template.labels))})",
        )
    min_ready_s = spec.integer("minReadySeconds", 0, least=0)
    deadline_s = spec.integer("progressDeadlineSeconds", 600, least=0)
    if deadline_s <= min_ready_s:
        raise spec.error(
            "progressDeadlineSeconds",
            f"got {deadline_s}, must be greater than minReadySeconds ({min_ready_s})",
        )
    strategy = _strategy(spec, replicas)
    spec.finish(ignored=IGNORED_DEPLOYMENT_FIELDS)
    fields.finish(ignored={"status"})
    return Deployment(
        name=document.name,
        template=template,
        replicas=replicas,
        selector=match_labels,
        strategy=strategy,
        min_ready_s=min_ready_s,
        progress_deadline_s=deadline_s,
    )


def revision_of(document: Document) -> str:
    """A hash of the raw pod template: what decides whether an update starts a rollout."""
    spec = document.data.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def _matches(expression: Fields, labels: Mapping[str, str]) -> bool:
    key = expression.text("key")
    operator = expression.text("operator", allowed=("In", "NotIn", "Exists", "DoesNotExist"))
    values = expression.texts("values")
    expression.finish()
    match operator:
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
    return key not in labels


# ---------------------------------------------------------------- strategy


def _strategy(spec: Fields, replicas: int) -> RollingUpdate | Recreate:
    strategy = spec.mapping("strategy")
    if strategy is None:
        return resolve_rolling_update("25%", "25%", replicas)
    kind = strategy.text("type", "RollingUpdate", allowed=("RollingUpdate", "Recreate"))
    rolling = strategy.mapping("rollingUpdate")
    strategy.finish()
    if kind == "Recreate":
        if rolling is not None:
            raise strategy.error("rollingUpdate", "may not be specified when strategy type is Recreate")
        return Recreate()
    surge, unavailable = "25%", "25%"
    if rolling is not None:
        surge, unavailable = _pods(rolling, "maxSurge"), _pods(rolling, "maxUnavailable")
        rolling.finish()
        if isinstance(unavailable, str) and int(unavailable[:-1]) > 100:
            raise rolling.error("maxUnavailable", f"got {unavailable}, must not be greater than 100%")
        if _literal(surge) == 0 and _literal(unavailable) == 0:
            raise rolling.error("maxUnavailable", f"got {unavailable}, may not be 0 when maxSurge is 0")
    return resolve_rolling_update(surge, unavailable, replicas)


def _pods(rolling: Fields, key: str) -> int | str:
    value = rolling.raw(key, "25%")
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    if isinstance(value, str) and _PERCENT.fullmatch(value):
        return value
    raise rolling.error(
        key, f"got {shown(value)}, expected an integer of at least 0 or a percentage such as 25%"
    )


def _literal(value: int | str) -> int:
    return value if isinstance(value, int) else int(value[:-1])


def resolve_rolling_update(surge: int | str, unavailable: int | str, replicas: int) -> RollingUpdate:
    """Percentages to pods: surge up, unavailable down; one unavailable if both come to none.

    Notes
    -----
    kubernetes v1.34 pkg/controller/deployment/util/deployment_util.go:880-905 (ResolveFenceposts) and :445-457.
    """
    max_surge = surge if isinstance(surge, int) else math.ceil(int(surge[:-1]) * replicas / 100)
    max_unavailable = unavailable if isinstance(unavailable, int) else int(unavailable[:-1]) * replicas // 100
    if max_surge == 0 and max_unavailable == 0:
        max_unavailable = 1
    return RollingUpdate(max_surge=max_surge, max_unavailable=min(max_unavailable, max(replicas, 1)))


# ---------------------------------------------------------------- pods


def _template(template: Fields, document: Document, around: Surroundings) -> PodTemplate:
    metadata = template.mapping("metadata")
    labels = metadata.strings("labels") if metadata is not None else {}
    if metadata is not None:
        metadata.finish(ignored={"annotations", "creationTimestamp", "name", "namespace"})
    spec = template.required("spec")
    template.finish()
    _refuse(spec)
    grace_s = spec.integer("terminationGracePeriodSeconds", 30)
    grace_s = 1 if grace_s < 0 else grace_s  # kubernetes v1.34 pkg/registry/core/pod/strategy.go
    volumes = _volumes(spec)
    entries = spec.entries("containers", least=1)
    named = [entry.text("name") for entry in entries]
    for index, name in enumerate(named):
        if not _NAME.fullmatch(name) or len(name) > 63:
            raise entries[index].error(
                "name", f"got {shown(name)}, expected lower case letters, digits and '-'"
            )
        if name in named[:index]:
            raise entries[index].error("name", f"got {name}, stands twice")
    links = spec.flag("enableServiceLinks", True)
    reader = _ContainerReader(
        document=document,
        around=around,
        volumes=volumes,
        grace_s=grace_s,
        service_variables=service_variables(around.services if links else ()),
        ports={name: port for entry in entries for name, port in _ports(entry).items()},
    )
    containers = tuple(reader.read(entry) for entry in entries)
    token = spec.flag("automountServiceAccountToken", True)
    spec.finish(ignored=IGNORED_POD_FIELDS, refused=REFUSED_POD_FIELDS)
    return PodTemplate(
        labels=labels,
        containers=containers,
        termination_grace_period_s=grace_s,
        revision=revision_of(document),
        has_volumes=bool(volumes) or token,
    )


def _refuse(spec: Fields) -> None:
    if spec.text("restartPolicy", "Always") != "Always":
        raise spec.error("restartPolicy", f"got {spec.text('restartPolicy')}, a Deployment allows Always")
    for key in REFUSED_POD_FIELDS:
        value = spec.raw(key)
        if value not in (None, False, [], {}, ""):
            raise spec.unsupported(key, f"not modelled: {REFUSED_POD_FIELDS[key]}")
    for index, constraint in enumerate(spec.entries("topologySpreadConstraints")):
        if constraint.raw("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule":
            raise spec.unsupported(
                f"topologySpreadConstraints[{index}]",
                "not modelled: DoNotSchedule can leave a pod unscheduled",
            )
    affinity = spec.mapping("affinity")
    for key in ("nodeAffinity", "podAffinity", "podAntiAffinity") if affinity is not None else ():
        rules = affinity.mapping(key) if affinity is not None else None
        if rules is not None and "requiredDuringSchedulingIgnoredDuringExecution" in rules:
            raise rules.unsupported(
                "requiredDuringSchedulingIgnoredDuringExecution",
                "not modelled: it can leave a pod unscheduled",
            )


def _volumes(spec: Fields) -> dict[str, Fields]:
    volumes = {}
    for volume in spec.entries("volumes"):
        name = volume.text("name")
        if name in volumes:
            raise volume.error("name", f"got {name}, stands twice")
        sources = [key for key in volume.keys() if key != "name"]
        if len(sources) > 1:
            raise volume.error(sources[1], "may not specify more than one volume source")
        for source in sources:
            if source not in READ_ONLY_VOLUMES | OTHER_VOLUMES:
                raise volume.error(
                    source,
                    f"unknown volume source; known: {', '.join(sorted(READ_ONLY_VOLUMES | OTHER_VOLUMES))}",
                )
        volumes[name] = volume
    return volumes


def _ports(container: Fields) -> dict[str, int]:
    ports: dict[str, int] = {}
    for entry in container.entries("ports"):
        number = entry.integer("containerPort", least=1, most=65535)
        name = entry.text("name", None)
        if entry.integer("hostPort", 0) not in (0, None):
            raise entry.unsupported("hostPort", "not modelled: two pods on one node cannot share a host port")
        entry.text("protocol", "TCP", allowed=("TCP", "UDP", "SCTP"))
        entry.finish(ignored={"hostIP"})
        if name is not None and name in ports:
            raise entry.error("name", f"got {name}, stands twice")
        ports[name if name is not None else f"#{number}"] = number
    return {name: number for name, number in ports.items() if not name.startswith("#")}


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContainerReader:
    """Reads the containers of one pod template."""

    document: Document
    around: Surroundings
    volumes: Mapping[str, Fields]
    grace_s: int
    service_variables: Mapping[str, str]
    ports: Mapping[str, int]

    def read(self, container: Fields) -> Container:
        name = container.text("name")
        image = self._image(container)
        mounts = read_mounts(container, self.volumes, self.around.config_maps)
        values, unreadable = container_variables(container, self.around.config_maps, self.service_variables)
        file = self.document.file
        nginx, haproxy = None, None
        if image.server is ServerKind.NGINX:
            official = official_image(image.reference) is not None
            nginx = nginx_conf(container, mounts, file, official=official)
            container.warnings.extend(w for w in nginx.warnings if w not in container.warnings)
            _body_for_limit_rate(container, nginx, image)
        elif image.server is ServerKind.HAPROXY:
            haproxy = haproxy_conf(container, mounts, file, env=values, unreadable=unreadable)
            container.warnings.extend(w for w in haproxy.warnings if w not in container.warnings)
        self._command(container, image)
        working_dir = container.text("workingDir", None)
        probes = {
            key: read_probe(
                container,
                f"{key}Probe",
                ports=_ports(container),
                working_dir=working_dir,
                file_of_path=_file_of_path(nginx),
            )
            for key in ("readiness", "liveness", "startup")
        }
        files = ContainerFiles(
            read_only=mounts.read_only,
            empty=mounts.empty,
            asked_for=frozenset(p.file for p in probes.values() if p is not None and p.file is not None),
            working_dir=working_dir,
        )
        hooks = self._hooks(container, name, files)
        container.text("imagePullPolicy", None, allowed=("Always", "IfNotPresent", "Never"))
        if container.raw("imagePullPolicy") == "Always":
            container.warn(
                "imagePullPolicy", "the registry is taken to answer at once with what is already there"
            )
        container.finish(ignored=IGNORED_CONTAINER_FIELDS, refused=REFUSED_CONTAINER_FIELDS)
        return Container(
            name=name,
            image=image.reference,
            ports=_ports(container),
            nginx=nginx,
            haproxy=haproxy,
            **probes,
            **hooks,
        )

    def _image(self, container: Fields) -> Image:
        reference = container.text("image")
        if not _IMAGE.fullmatch(reference):
            raise container.error(
                "image", f"got {shown(reference)}, expected an image reference such as nginx:1.27"
            )
        images = self.around.images
        if reference not in images:
            official = official_image(reference)
            if official is None:
                raise undescribed(reference, container.place.field("image"))
            images[reference], assumed = official
            container.warn("image", assumed)
        return images[reference]

    def _command(self, container: Fields, image: Image) -> None:
        command = container.texts("command")
        container.texts("args")
        program = command[0].rsplit("/", 1)[-1] if command else ""
        if program in ("sh", "bash", "ash", "dash") and not any("exec " in word for word in command[1:]):
            container.warn(
                "command",
                f"a shell is PID 1: the {image.server.value} server is taken to receive the stop signal all the same",
            )

    def _hooks(self, container: Fields, name: str, files: ContainerFiles) -> dict[str, Any]:
        lifecycle = container.mapping("lifecycle")
        if lifecycle is None:
            return {}
        if "stopSignal" in lifecycle:
            lifecycle.text("stopSignal")
            lifecycle.warn(
                "stopSignal",
                "no effect in Kubernetes 1.34 (its feature gate is off): the image's signal counts",
            )
        hooks = {
            field: read_hook(
                lifecycle,
                key,
                grace_s=self.grace_s,
                stated=self.around.hooks.get(self.document.name, name, key),
                files=files,
                ports=_ports(container),
            )
            for key, field in (("preStop", "pre_stop"), ("postStart", "post_start"))
        }
        lifecycle.finish()
        return hooks


def _body_for_limit_rate(container: Fields, nginx: NginxConf, image: Image) -> None:
    if image.body_bytes == 0 and any(location.limit_rate_bytes_per_s for location in nginx.locations):
        raise InputError(
            f"{container.place.field('image')}: nginx.conf has limit_rate: say how long the answer is in the scenario: "
            f'spec.images."{image.reference}".bodyBytes'
        )


def _file_of_path(nginx: NginxConf | None) -> Callable[[int, str], str | None]:
    """Which file nginx serves a path from; None where it is not known."""

    def file(port: int, path: str) -> str | None:
        if nginx is None or port not in {listen.port for listen in nginx.listens}:
            return None
        location = location_of(nginx, path)
        if location is None or location.root is None:
            return None
        return f"{location.root.rstrip('/')}{path.partition('?')[0]}"

    return file


def location_of(nginx: NginxConf, path: str) -> NginxLocation | None:
    """The location that answers *path*."""
    for location in nginx.locations:
        if path == location.path or (not location.exact and path.startswith(location.path)):
            return location
    return None
