"""Fields of Kubernetes objects that cannot change the answer, and yet keep the API server from taking the object.

Shapes follow kubernetes v1.34 (pkg/apis/core/validation/validation.go and the types of the OpenAPI schema).
"""

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.durations import shown
from sim.scenario.reader import INT32, INT64, Fields, Place

Shapes = Mapping[str, Any]
"""By field: a check, a tuple of allowed words, `[shape]` for a list, a mapping of shapes for an object with those
fields, or None for anything."""

_QUANTITY: Final = re.compile(
    r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,3})|([KMGTPE]i|[numkMGTPE]))?", re.ASCII
)
_FACTORS: Final = {
    **{
        name: Decimal(10) ** power
        for name, power in zip("numkMGTPE", (-9, -6, -3, 3, 6, 9, 12, 15, 18), strict=True)
    },
    **{f"{name}i": Decimal(2) ** (10 * power) for power, name in enumerate("KMGTPE", start=1)},
}
_NAME_PART: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def check_ignored(fields: Fields, shapes: Shapes) -> None:
    """Rejects what of *fields* the API server would not take; a null counts as absent.

    Raises
    ------
    InputError
        With the place of the value.
    """
    for key in fields.given():
        if key in shapes:
            _check(fields.data[key], shapes[key], fields.place.field(key))


def _check(value: Any, shape: Any, place: Place) -> None:
    if shape is None:
        return
    if callable(shape):
        if expected := shape(value):
            raise InputError(f"{place}: got {shown(value)}, expected {expected}")
    elif isinstance(shape, tuple):
        if value not in shape:
            raise InputError(f"{place}: got {shown(value)}, allowed: {', '.join(shape)}")
    elif isinstance(shape, list):
        if not isinstance(value, list):
            raise InputError(f"{place}: got {shown(value)}, expected a list")
        for index, item in enumerate(value):
            _check(item, shape[0], place.item(index))
    else:
        fields = Fields(value, place, [])
        check_ignored(fields, shape)
        fields.finish(ignored=shape)


# ---------------------------------------------------------------- checks: what was expected, or None


def text(value: Any) -> str | None:
    return None if isinstance(value, str) else "a text (in quotes)"


def flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def whole(least: int = -INT64, most: int = INT64 - 1) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return None if fits else f"an integer from {least} to {most}"

    return check


def anything(value: Any) -> str | None:  # noqa: ARG001
    return None


def _matching(pattern: re.Pattern[str], most: int, expected: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        fits = isinstance(value, str) and (not value or (len(value) <= most and pattern.fullmatch(value)))
        return None if fits else expected

    return check


subdomain = _matching(_SUBDOMAIN, 253, "lower case letters, digits, '-' and '.'")
dns_label = _matching(_LABEL, 63, "at most 63 lower case letters, digits and '-'")


def qualified_name(value: Any) -> str | None:
    """A name with an optional prefix: `app`, `example.org/app`."""
    prefix, slash, name = value.rpartition("/") if isinstance(value, str) else ("", "", "")
    fits = _NAME_PART.fullmatch(name) and len(name) <= 63 and (not slash or _SUBDOMAIN.fullmatch(prefix))
    return None if fits else "a name of at most 63 letters, digits, '-', '_' and '.', perhaps behind PREFIX/"


def labels(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "a mapping of labels"
    for key, label in value.items():
        if qualified_name(key):
            return f"keys that are names, not {shown(key)}"
        if not isinstance(label, str) or len(label) > 63 or (label and not _NAME_PART.fullmatch(label)):
            return f"values of at most 63 letters, digits, '-', '_' and '.', not {shown(label)}"
    return None


def binary(value: Any) -> str | None:
    try:
        for each in value.values():
            base64.b64decode(each, validate=True)
    except (AttributeError, TypeError, ValueError, binascii.Error):
        return "a mapping of texts in base64"
    return None


def quantity_of(value: Any) -> Decimal | None:
    """`500m`, `1.5Gi`, 2; None for what is none or negative."""
    written = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    found = _QUANTITY.fullmatch(written) if isinstance(written, str) and len(written) < 100 else None
    if found is None:
        return None
    number = Decimal(found[1] + (found[2] or "")) * _FACTORS.get(found[3] or "", Decimal(1))
    return number if number >= 0 else None


def quantity(value: Any) -> str | None:
    return None if quantity_of(value) is not None else "a quantity of at least 0, such as 500m or 128Mi"


def resources(value: Any) -> str | None:
    """Quantities, no request above its limit."""
    if not isinstance(value, Mapping) or set(value) - {"limits", "requests", "claims"}:
        return "a mapping with limits and requests"
    limits, requests = value.get("limits") or {}, value.get("requests") or {}
    if not isinstance(limits, Mapping) or not isinstance(requests, Mapping):
        return "mappings of quantities"
    for each in (*limits.values(), *requests.values()):
        if expected := quantity(each):
            return expected
    for name, asked in requests.items():
        most = quantity_of(limits.get(name, asked))
        if most is not None and (quantity_of(asked) or 0) > most:
            return f"a request of {name} up to its limit"
    return None


def address(value: Any) -> str | None:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return "an IP address"
    return None


def cluster_ip(value: Any) -> str | None:
    return None if value in ("", "None") else address(value) and "an IP address, None or nothing"


# ---------------------------------------------------------------- tables

_USER: Final = whole(0, INT32)
_OPTIONS: Final = {"level": text, "role": text, "type": text, "user": text}
_PROFILE: Final = {"type": ("RuntimeDefault", "Unconfined", "Localhost"), "localhostProfile": text}

METADATA: Final[Shapes] = MappingProxyType({"labels": labels})
CONFIG_MAP: Final[Shapes] = MappingProxyType({"binaryData": binary, "immutable": flag})
DEPLOYMENT: Final[Shapes] = MappingProxyType({"revisionHistoryLimit": whole(0, INT32)})
SERVICE: Final[Shapes] = MappingProxyType(
    {
        "clusterIP": cluster_ip,
        "clusterIPs": [cluster_ip],
        "ipFamilies": [("IPv4", "IPv6")],
        "ipFamilyPolicy": ("PreferDualStack", "RequireDualStack", "SingleStack"),
        "allocateLoadBalancerNodePorts": flag,
        "loadBalancerIP": text,
        "loadBalancerClass": text,
        "loadBalancerSourceRanges": [text],
        "healthCheckNodePort": whole(0, 65535),
    }
)
CONTAINER: Final[Shapes] = MappingProxyType(
    {
        "resources": resources,
        "securityContext": {
            **dict.fromkeys(
                ("allowPrivilegeEscalation", "privileged", "readOnlyRootFilesystem", "runAsNonRoot"), flag
            ),
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "capabilities": {"add": [text], "drop": [text]},
            "procMount": text,
            "seLinuxOptions": _OPTIONS,
            "seccompProfile": _PROFILE,
            "appArmorProfile": _PROFILE,
            "windowsOptions": None,
        },
        "terminationMessagePath": text,
        "terminationMessagePolicy": ("File", "FallbackToLogsOnError"),
        "stdin": flag,
        "stdinOnce": flag,
        "tty": flag,
        "volumeDevices": [{"name": text, "devicePath": text}],
        "resizePolicy": [{"resourceName": text, "restartPolicy": ("NotRequired", "RestartContainer")}],
    }
)
POD: Final[Shapes] = MappingProxyType(
    {
        "dnsPolicy": ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"),
        "hostname": dns_label,
        "subdomain": dns_label,
        "hostAliases": [{"ip": address, "hostnames": [subdomain]}],
        "imagePullSecrets": [{"name": text}],
        "securityContext": {
            "fsGroup": _USER,
            "fsGroupChangePolicy": ("OnRootMismatch", "Always"),
            "runAsUser": _USER,
            "runAsGroup": _USER,
            "runAsNonRoot": flag,
            "supplementalGroups": [_USER],
            "supplementalGroupsPolicy": ("Merge", "Strict"),
            "seLinuxChangePolicy": text,
            "seLinuxOptions": _OPTIONS,
            "seccompProfile": _PROFILE,
            "appArmorProfile": _PROFILE,
            "sysctls": [{"name": text, "value": text}],
            "windowsOptions": None,
        },
        "serviceAccountName": subdomain,
        "serviceAccount": text,
        "schedulerName": text,
        "priorityClassName": subdomain,
        "priority": whole(-INT32 - 1, INT32),
        "preemptionPolicy": ("Never", "PreemptLowerPriority"),
        "nodeSelector": labels,
        "tolerations": [
            {
                "key": qualified_name,
                "operator": ("Equal", "Exists"),
                "value": text,
                "effect": ("", "NoSchedule", "PreferNoSchedule", "NoExecute"),
                "tolerationSeconds": whole(),
            }
        ],
        "setHostnameAsFQDN": flag,
        "hostIPC": flag,
        "hostPID": flag,
        "hostUsers": flag,
        "runtimeClassName": subdomain,
        "topologySpreadConstraints": [
            {
                "maxSkew": whole(1, INT32),
                "topologyKey": qualified_name,
                "whenUnsatisfiable": ("DoNotSchedule", "ScheduleAnyway"),
                "labelSelector": None,
                "matchLabelKeys": [text],
                "minDomains": whole(1, INT32),
                "nodeAffinityPolicy": ("Honor", "Ignore"),
                "nodeTaintsPolicy": ("Honor", "Ignore"),
            }
        ],
    }
)
HTTP_HEADERS: Final[Shapes] = MappingProxyType(
    {
        "httpHeaders": [
            {
                "name": _matching(re.compile(r"[-A-Za-z0-9]+"), 10_000, "letters, digits and '-'"),
                "value": text,
            }
        ]
    }
)
VOLUME: Final[Shapes] = MappingProxyType(
    {
        "configMap": {
            "name": text,
            "items": [{"key": text, "path": text, "mode": whole(0, 0o777)}],
            "defaultMode": whole(0, 0o777),
            "optional": flag,
        },
        "emptyDir": {"medium": text, "sizeLimit": quantity},
    }
)
ENV_SOURCES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "fieldRef": ("fieldPath",),
        "resourceFieldRef": ("resource",),
        "configMapKeyRef": ("name", "key"),
        "secretKeyRef": ("name", "key"),
        "fileKeyRef": ("volumeName", "path", "key"),
    }
)
_FIELD_PATHS: Final = re.compile(
    r"metadata\.(name|namespace|uid|(labels|annotations)\['[^']+'\])|spec\.(nodeName|serviceAccountName)"
    r"|status\.(hostIPs?|podIPs?)"
)
_ENV_NAME: Final = re.compile(r"[ -<>-~]+")


def check_env(container: Fields) -> None:
    """Names and sources of environment variables."""
    for entry in container.entries("env"):
        name = entry.text("name")
        if not _ENV_NAME.fullmatch(name):
            raise entry.error("name", f"got {shown(name)}, expected printable ASCII without '='")
        source = entry.mapping("valueFrom")
        if source is None:
            continue
        if entry.text("value", ""):
            raise entry.error("valueFrom", "may not be specified when value is not empty")
        _one_of(source, tuple(ENV_SOURCES))
        if (from_pod := source.mapping("fieldRef")) and not _FIELD_PATHS.fullmatch(
            from_pod.text("fieldPath")
        ):
            raise from_pod.error("fieldPath", f"got {shown(from_pod.text('fieldPath'))}, which no pod has")
    for group in container.entries("envFrom"):
        _one_of(group, ("configMapRef", "secretRef"))


def _one_of(fields: Fields, names: tuple[str, ...]) -> None:
    given = [name for name in names if fields.mapping(name) is not None]
    if len(given) != 1:
        raise fields.fault(f"got {' and '.join(given) or 'none'}, expected one of {', '.join(names)}")
