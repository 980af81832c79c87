"""A first scenario for given manifests: what is rolled out, who asks, and what the images hold.

A guess is held against the reader and simulated once, so the file that is written predicts as it is.
"""

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, Final

from sim.errors import InputError, UnsupportedInput
from sim.init_images import Box, guess_image, is_proxy
from sim.init_text import Guess, GuessedHook, scenario_text
from sim.scenario import from_documents
from sim.scenario.documents import Document, read_value
from sim.scenario.manifests import Objects, read_service, selects
from sim.scenario.model import Scenario, Service
from sim.scenario.probes_and_hooks import HOW_TO_SAY_IT
from sim.simulate import simulate

GUESSED: Final = "the guessed scenario"
"""Stands for a file's name in messages about it."""
DATASTORES: Final = frozenset(
    {
        "redis",
        "postgres",
        "postgresql",
        "mysql",
        "mariadb",
        "mongo",
        "mongodb",
        "rabbitmq",
        "kafka",
        "memcached",
    }
)
TRIED_S: Final = (60, 300, 1800)
"""Loads of the one simulated rollout that tells how long the load must last, until one outlasts it."""
SPARE: Final = 1.5
"""The slowest of many rollouts against that one."""
SHORTEST_S: Final = 40
HOOK_S: Final = 5.0
LEFT_OUT: Final = frozenset({
    "Ingress", "IngressClass", "Gateway", "HTTPRoute", "HorizontalPodAutoscaler", "VerticalPodAutoscaler"
})  # fmt: skip
"""Kinds that many charts have, and that a first scenario says to predict without."""
HTTP_PORTS: Final = (80, 8080, 8000, 3000, 5000)


def guess_scenario(documents: Sequence[Document], *, deployment: str | None = None) -> Guess:
    """What a scenario for these objects may be.

    Raises
    ------
    InputError
        Nothing to roll out, no Service in front of it, or something that the model does not cover.

    Notes
    -----
    *deployment* names the one that is updated; else an application with a Service is chosen.
    """
    for document in documents:
        if document.kind == "Scenario":
            raise InputError(
                f"{document.place}: a Scenario is there already: rollsim predict {document.file}"
            )
    objects = Objects(left_out=LEFT_OUT)
    objects.apply(documents)
    services = tuple(read_service(found, []) for found in objects.of_kind("Service"))
    workloads = [workload_of(found, objects) for found in objects.of_kind("Deployment")]
    guess = _first(workloads, services, _where(documents), deployment)
    guess = replace(guess, left_out=tuple(sorted({each.kind for each in documents} & LEFT_OUT)))
    guess = _with_hooks(guess, workloads, documents)
    return _with_duration(guess, documents)


def guessed_scenario(guess: Guess, documents: Sequence[Document]) -> list[Document]:
    """The guess as a Scenario document in front of the objects, as a file would hold it."""
    data = read_value(scenario_text(guess, ()), GUESSED)
    return [Document(GUESSED, 0, data), *documents]


def _where(documents: Sequence[Document]) -> str:
    return ", ".join(dict.fromkeys(document.file for document in documents)) or "the manifests"


# ---------------------------------------------------------------- the objects, raw


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One Deployment."""

    name: str
    labels: Mapping[str, Any]
    boxes: tuple[Box, ...]

    @property
    def proxy(self) -> bool:
        return any(is_proxy(box) for box in self.boxes)

    def services(self, services: Sequence[Service]) -> list[Service]:
        """Those that send to it and that a client may ask."""
        return [s for s in services if not s.headless and s.ports and selects(s.selector, self.labels)]

    def all_services(self, services: Sequence[Service]) -> list[Service]:
        return [s for s in services if selects(s.selector, self.labels)]

    def sends_to(self, names: Sequence[str]) -> bool:
        """Whether a proxy's configuration names one of these Services."""
        text = "\n".join(text for box in self.boxes if is_proxy(box) for text in box.texts.values())
        return any(
            re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text)
            or re.sub(r"[^A-Z0-9]", "_", name.upper()) + "_SERVICE_" in text
            for name in names
        )


def _at(data: Any, *keys: str) -> Any:
    """A value deep in raw data; an empty mapping where the way there is not as it should be."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return {} if data is None else data


def _entries(data: Any, *keys: str) -> list[Mapping[str, Any]]:
    found = _at(data, *keys)
    return [each for each in found if isinstance(each, Mapping)] if isinstance(found, list) else []


def workload_of(document: Document, objects: Objects) -> Workload:
    template = _at(document.data, "spec", "template")
    labels = _at(template, "metadata", "labels")
    config_maps = {found.name: _at(found.data, "data") for found in objects.of_kind("ConfigMap")}
    volumes = {
        str(volume.get("name")): config_maps.get(str(_at(volume, "configMap", "name")), {})
        for volume in _entries(template, "spec", "volumes")
    }
    return Workload(
        name=document.name,
        labels=labels if isinstance(labels, Mapping) else {},
        boxes=tuple(
            Box(
                name=str(container.get("name")),
                image=str(container.get("image")),
                data=container,
                texts=_texts(container, volumes),
            )
            for container in _entries(template, "spec", "containers")
        ),
    )


def _texts(container: Mapping[str, Any], volumes: Mapping[str, Any]) -> dict[str, str]:
    found: dict[str, str] = {}
    for mount in _entries(container, "volumeMounts"):
        path, sub_path = str(mount.get("mountPath")), mount.get("subPath")
        for key, text in dict(volumes.get(str(mount.get("name")), {})).items():
            if sub_path in (None, key):
                found[posixpath.join(path, key) if sub_path is None else path] = str(text)
    return found


# ---------------------------------------------------------------- the guess


def _first(
    workloads: Sequence[Workload], services: Sequence[Service], where: str, deployment: str | None
) -> Guess:
    asked = [each for each in workloads if each.boxes and deployment in (None, each.name)]
    if not asked:
        raise InputError(f"{where}: no Deployment with a container, which is what a rolling update replaces")
    reached = [each for each in asked if _front(each, workloads, services)]
    if not reached:
        names = ", ".join(each.name for each in asked)
        raise InputError(
            f"{where}: no Service (that is not headless) sends to the pods of {names}; "
            "add it: the load needs something to ask"
        )
    chosen = min(reached, key=_rank)
    front = _front(chosen, workloads, services)
    assert front is not None
    service, through = front
    port = _port(service)
    own = next(iter(chosen.all_services(services)), service)
    target = next((each.target_port for each in own.ports if each.port == _port(own).port), None)
    box = next((each for each in chosen.boxes if _listens(each, target)), chosen.boxes[0])
    images = {box.image: guess_image(box, target)}
    for workload in workloads:
        targets = [each.target_port for s in workload.all_services(services) for each in s.ports]
        for other in workload.boxes:
            behind = next((each for each in targets if _listens(other, each)), next(iter(targets), None))
            images.setdefault(other.image, guess_image(other, behind))
    return Guess(
        deployment=chosen.name,
        container=box.name,
        new_image=_next_image(box.image),
        service=service.name,
        port=port.port,
        images=tuple(images.values()),
        through=through,
        others=tuple(each.name for each in workloads if each is not chosen),
    )


def _front(
    workload: Workload, workloads: Sequence[Workload], services: Sequence[Service]
) -> tuple[Service, str | None] | None:
    """The Service that clients ask, and the proxy's Deployment behind it, if there is one in front."""
    names = [each.name for each in workload.all_services(services)]
    for proxy in workloads:
        if proxy is not workload and proxy.proxy and proxy.sends_to(names) and proxy.services(services):
            return proxy.services(services)[0], proxy.name
    own = workload.services(services)
    return (own[0], None) if own else None


def _rank(workload: Workload) -> tuple[bool, bool, bool]:
    """An application before a proxy, a web server before a data store, one that is probed before others."""
    stored = any(set(re.split(r"[^a-z0-9]+", box.image.lower())) & DATASTORES for box in workload.boxes)
    probed = any("httpGet" in _at(box.data, "readinessProbe") for box in workload.boxes)
    return workload.proxy, stored, not probed


def _port(service: Service) -> Any:
    """The port that speaks HTTP, as far as names and numbers tell."""
    by_name = [
        each for each in service.ports if (each.name or "").startswith(("http", "web")) and each.port != 443
    ]
    by_number = [each for number in HTTP_PORTS for each in service.ports if each.port == number]
    return [*by_name, *by_number, *service.ports][0]


def _listens(box: Box, target: int | str | None) -> bool:
    return target is not None and (str(target) in box.ports or target in box.ports.values())


def _next_image(reference: str) -> str:
    """The same image under a tag that stands for the next one."""
    name = reference.partition("@")[0]
    head, colon, tag = name.rpartition(":")
    head = head if colon and "/" not in tag else name
    return f"{head}:next" if tag != "next" else f"{head}:after-next"


# ---------------------------------------------------------------- held against reader and model


def _read(guess: Guess, documents: Sequence[Document]) -> Scenario:
    [scenario] = from_documents(GUESSED, guessed_scenario(guess, documents))
    return scenario


def _with_hooks(guess: Guess, workloads: Sequence[Workload], documents: Sequence[Document]) -> Guess:
    """With an entry for each hook that the reader cannot read."""
    hooks = {
        f"Deployment {workload.name}: spec.template.spec.containers[{index}].lifecycle.{key}.": (
            f"{workload.name}/{box.name}/{key}",
            _at(box.data, "lifecycle", key, "exec", "command"),
        )
        for workload in workloads
        for index, box in enumerate(workload.boxes)
        for key in ("preStop", "postStart")
    }
    while True:
        try:
            _read(guess, documents)
        except UnsupportedInput as error:
            unread = next((hooks.pop(place) for place in list(hooks) if place in str(error)), None)
            if unread is None or HOW_TO_SAY_IT not in str(error):
                raise
            guess = replace(guess, hooks=(*guess.hooks, _hook(*unread)))
        else:
            return guess


def _hook(key: str, command: Any) -> GuessedHook:
    text = " ".join(" ".join(map(str, command)).split()) if isinstance(command, list) else str(command)
    naps_s = sum(float(found) for found in re.findall(r"\bsleep\s+(\d+(?:\.\d+)?)\b", text))
    return GuessedHook(key=key, command=text, duration_s=naps_s or HOOK_S)


def _with_duration(guess: Guess, documents: Sequence[Document]) -> Guess:
    """With a load that outlasts the rollout, as one simulated rollout goes."""
    for tried_s in TRIED_S:
        gone_s = simulate(_read(replace(guess, duration_s=tried_s), documents)).last_old_pod_gone_s
        if gone_s is not None and gone_s < tried_s:
            duration_s = max(SHORTEST_S, 10 * ceil(SPARE * gone_s / 10))
            return replace(guess, duration_s=duration_s, rollout_s=gone_s)
    return replace(guess, duration_s=TRIED_S[-1])
