"""`spec.update`: a new image, a restart, or changed manifests, applied to the raw objects."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sim.errors import InputError
from sim.scenario.documents import Document, documents_at
from sim.scenario.durations import shown
from sim.scenario.manifests import Objects, to_apply
from sim.scenario.model import UpdateAction
from sim.scenario.reader import Fields

RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"
FORMS: Final = "{deployment, container, image, at}, {deployment, restart: true, at} or {manifests: [...], at}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One entry of `spec.update`, before it meets the objects."""

    at_s: float
    fields: Fields
    deployment: str | None = None
    container: str | None = None
    image: str | None = None
    documents: tuple[Document, ...] = ()


def read_actions(spec: Fields, folder: Path) -> list[Action]:
    """The updates in the order of their times; one mapping, a list, or nothing."""
    value = spec.raw("update", [])
    place = spec.place.field("update")
    entries = (
        [Fields(item, place.item(index), spec.warnings) for index, item in enumerate(value)]
        if isinstance(value, list)
        else [Fields(value, place, spec.warnings)]
    )
    return sorted((_action(entry, folder) for entry in entries), key=lambda action: action.at_s)


def _action(fields: Fields, folder: Path) -> Action:
    at_s = fields.duration_s("at")
    forms = [key for key in ("image", "restart", "manifests") if key in fields]
    if len(forms) != 1:
        raise fields.fault(
            f"got {' and '.join(forms) or 'none'} of image, restart and manifests, expected {FORMS}"
        )
    if forms == ["manifests"]:
        documents = tuple(
            document
            for name in fields.texts("manifests", least=1)
            for document in documents_at(name, folder, fields, "manifests")
        )
        fields.finish(only="of this form")
        return Action(at_s=at_s, fields=fields, documents=documents)
    deployment = fields.text("deployment")
    container, image = None, None
    if forms == ["image"]:
        container, image = fields.text("container", None), fields.text("image")
    elif fields.flag("restart") is not True:
        raise fields.error("restart", "got false, expected true")
    fields.finish(only="of this form")
    return Action(at_s=at_s, fields=fields, deployment=deployment, container=container, image=image)


def resolve_action(action: Action, objects: Objects) -> UpdateAction:
    """Make the change in *objects*. Returns it as a user would make it.

    Raises
    ------
    InputError
        A Deployment or container that does not exist; a Deployment that the update would create, a Service
        that it would change.
    """
    if action.documents:
        return _apply(action, objects)
    assert action.deployment is not None
    key = ("Deployment", action.deployment)
    if key not in objects.by_key:
        names = ", ".join(objects.names("Deployment")) or "none"
        raise action.fields.error(
            "deployment", f"got {shown(action.deployment)}, expected a Deployment of the manifests ({names})"
        )
    old = objects.by_key[key]
    data = copy.deepcopy(old.data)
    template = data["spec"]["template"]
    if action.image is None:
        metadata = template.setdefault("metadata", {})
        metadata["annotations"] = {**(metadata.get("annotations") or {}), RESTARTED_AT: f"{action.at_s:g}"}
        objects.by_key[key] = Document(old.file, old.index, data)
        return UpdateAction(at_s=action.at_s, deployment=action.deployment, restart=True)
    containers = {container["name"]: container for container in template["spec"]["containers"]}
    name = action.container if action.container is not None else next(iter(containers))
    if name not in containers or (action.container is None and len(containers) > 1):
        got = shown(action.container)
        raise action.fields.error(
            "container", f"got {got}, expected a container of {action.deployment} ({', '.join(containers)})"
        )
    containers[name]["image"] = action.image
    objects.by_key[key] = Document(old.file, old.index, data)
    return UpdateAction(at_s=action.at_s, deployment=action.deployment, container=name, image=action.image)


def _apply(action: Action, objects: Objects) -> UpdateAction:
    before = dict(objects.by_key)
    changed = objects.apply(action.documents)
    for document in changed:
        old = before.get((document.kind, document.name))
        if document.kind == "Deployment" and old is None:
            raise InputError(
                f"{document.place}: the update adds this Deployment; it must be there before the update"
            )
        if document.kind == "Service" and (old is None or old.data.get("spec") != document.data.get("spec")):
            raise action.fields.unsupported(
                "manifests", f"not modelled: a change of Service {document.name} in an update"
            )
        if (
            document.kind == "ConfigMap"
            and old is not None
            and old.data.get("data") != document.data.get("data")
        ):
            action.fields.warn(
                "manifests",
                f"ConfigMap {document.name} changes: running pods keep what they read at their start",
            )
    return UpdateAction(at_s=action.at_s, objects=to_apply(action.documents))
