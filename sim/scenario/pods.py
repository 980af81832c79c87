"""Pod templates: containers with their server's configuration, probes and hooks."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sim.errors import InputError
from sim.scenario.documents import Document
from sim.scenario.durations import shown
from sim.scenario.ignored_fields import (
    CONTAINER,
    METADATA,
    POD,
    VOLUME,
    check_env,
    check_ignored,
)
from sim.scenario.images import official_image, undescribed
from sim.scenario.manifests import PORT_NAME, is_port_name
from sim.scenario.model import (
    Container,
    HAProxyConf,
    Hook,
    Image,
    NginxConf,
    PodTemplate,
    ServerKind,
    Service,
)
from sim.scenario.nginx_conf import file_of, location_of
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
from sim.scenario.shell import SHELLS, ContainerFiles

IGNORED_POD_FIELDS: Final = frozenset({
    "dnsPolicy", "dnsConfig", "hostname", "subdomain", "hostAliases", "imagePullSecrets", "securityContext",
    "serviceAccountName", "serviceAccount", "schedulerName", "priorityClassName", "priority",
    "preemptionPolicy", "nodeSelector", "tolerations", "os", "setHostnameAsFQDN", "hostIPC", "hostPID",
    "hostUsers", "overhead", "runtimeClassName", "resources",
})  # fmt: skip
REFUSED_POD_FIELDS: Final = {
    "initContainers": "they delay the start; native sidecars (restartPolicy: Always) change the end too",
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
    "resources", "securityContext", "terminationMessagePath", "terminationMessagePolicy", "stdin",
    "stdinOnce", "tty", "volumeDevices", "resizePolicy",
})  # fmt: skip
REFUSED_CONTAINER_FIELDS: Final = {
    "restartPolicy": "restart rules of a single container",
    "restartPolicyRules": "restart rules of a single container",
}

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


def revision_of(document: Document) -> str:
    """A hash of the raw pod template: what decides whether an update starts a rollout."""
    spec = document.data.get("spec")
    template = spec.get("template") if isinstance(spec, dict) else None
    return hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]


def read_template(template: Fields, document: Document, around: Surroundings) -> PodTemplate:
    """The pod template of a Deployment, with the API server's defaults.

    Notes
    -----
    kubernetes v1.34 pkg/apis/core/validation/validation.go ValidatePodTemplateSpec; a negative grace period
    becomes 1 (pkg/registry/core/pod/strategy.go), zero stays.
    """
    metadata = template.mapping("metadata")
    labels = metadata.strings("labels") if metadata is not None else {}
    if metadata is not None:
        check_ignored(metadata, METADATA)
        metadata.finish(ignored={"annotations", "creationTimestamp", "name", "namespace"})
    spec = template.required("spec")
    template.finish()
    _refuse(spec)
    grace_s = spec.integer("terminationGracePeriodSeconds", 30)
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
    )
    containers = tuple(reader.read(entry) for entry in entries)
    token = spec.flag("automountServiceAccountToken", True)
    check_ignored(spec, POD)
    spec.finish(ignored=IGNORED_POD_FIELDS, refused=REFUSED_POD_FIELDS)
    return PodTemplate(
        labels=labels,
        containers=containers,
        termination_grace_period_s=1 if grace_s < 0 else grace_s,
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
        if rules is not None and rules.raw("requiredDuringSchedulingIgnoredDuringExecution"):
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
        sources = [key for key in volume.given() if key != "name"]
        if len(sources) > 1:
            raise volume.error(sources[1], "may not specify more than one volume source")
        for source in sources:
            if source not in READ_ONLY_VOLUMES | OTHER_VOLUMES:
                raise volume.error(
                    source,
                    f"unknown volume source; known: {', '.join(sorted(READ_ONLY_VOLUMES | OTHER_VOLUMES))}",
                )
        check_ignored(volume, VOLUME)
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
        if name is not None and not is_port_name(name):
            raise entry.error("name", f"got {shown(name)}, expected {PORT_NAME}")
        ports[str(number) if name is None else name] = number
    return ports


@dataclass(frozen=True, slots=True, kw_only=True)
class _ContainerReader:
    """Reads the containers of one pod template."""

    document: Document
    around: Surroundings
    volumes: Mapping[str, Fields]
    grace_s: int
    """As written: the API server holds a sleep hook against it before it normalises it."""
    service_variables: Mapping[str, str]

    def read(self, container: Fields) -> Container:
        name = container.text("name")
        image = self._image(container)
        mounts = read_mounts(container, self.volumes, self.around.config_maps)
        nginx, haproxy = self._conf(container, image, mounts)
        self._command(container, image)
        working_dir = container.text("workingDir", None)
        ports = _ports(container)
        readiness, liveness, startup = (
            read_probe(
                container,
                f"{kind}Probe",
                ports=ports,
                working_dir=working_dir,
                file_of_path=_file_of_path(nginx),
            )
            for kind in ("readiness", "liveness", "startup")
        )
        files = ContainerFiles(
            read_only=mounts.read_only,
            empty=mounts.empty,
            asked_for=frozenset(
                probe.file for probe in (readiness, liveness, startup) if probe is not None and probe.file
            ),
            working_dir=working_dir,
        )
        hooks = self._hooks(container, name, files, ports)
        container.text("imagePullPolicy", None, allowed=("Always", "IfNotPresent", "Never"))
        if container.raw("imagePullPolicy") == "Always":
            container.warn(
                "imagePullPolicy", "the registry is taken to answer at once with what is already there"
            )
        check_ignored(container, CONTAINER)
        check_env(container)
        container.finish(ignored=IGNORED_CONTAINER_FIELDS, refused=REFUSED_CONTAINER_FIELDS)
        return Container(
            name=name,
            image=image.reference,
            ports=ports,
            readiness=readiness,
            liveness=liveness,
            startup=startup,
            pre_stop=hooks.get("preStop"),
            post_start=hooks.get("postStart"),
            nginx=nginx,
            haproxy=haproxy,
        )

    def _conf(
        self, container: Fields, image: Image, mounts: Mounts
    ) -> tuple[NginxConf | None, HAProxyConf | None]:
        maps, file = self.around.config_maps, self.document.file
        values, unreadable = container_variables(container, maps, self.service_variables)
        conf: NginxConf | HAProxyConf
        match image.server:
            case ServerKind.NGINX:
                official = official_image(image.reference) is not None
                conf = nginx_conf(container, mounts, file, official=official)
                _body_for_limit_rate(container, conf, image)
            case ServerKind.HAPROXY:
                conf = haproxy_conf(container, mounts, file, env=values, unreadable=unreadable)
            case ServerKind.GENERIC:
                return None, None
        container.warnings.extend(note for note in conf.warnings if note not in container.warnings)
        return (conf, None) if isinstance(conf, NginxConf) else (None, conf)

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
        if program in SHELLS and not any("exec " in word for word in command[1:]):
            container.warn(
                "command",
                f"a shell is PID 1: {image.reference} is taken to get the stop signal all the same",
            )

    def _hooks(
        self, container: Fields, name: str, files: ContainerFiles, ports: Mapping[str, int]
    ) -> dict[str, Hook | None]:
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
            key: read_hook(
                lifecycle,
                key,
                grace_s=self.grace_s,
                stated=self.around.hooks.get(self.document.name, name, key),
                files=files,
                ports=ports,
            )
            for key in ("preStop", "postStart")
        }
        lifecycle.finish()
        return hooks


def _body_for_limit_rate(container: Fields, nginx: NginxConf, image: Image) -> None:
    if image.body_bytes == 0 and any(location.limit_rate_bytes_per_s for location in nginx.locations):
        raise InputError(
            f"{container.place.field('image')}: nginx.conf has limit_rate: say how long the answer is: "
            f'spec.images."{image.reference}".bodyBytes in the scenario'
        )


def _file_of_path(nginx: NginxConf | None) -> Callable[[int, str], str | None]:
    """Which file nginx serves a path from; None where it is not known."""

    def file(port: int, path: str) -> str | None:
        if nginx is None or port not in {listen.port for listen in nginx.listens}:
            return None
        plain = path.partition("?")[0]
        return file_of(location_of(nginx, plain, port), plain)

    return file
