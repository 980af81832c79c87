"""From files to scenarios: one Scenario document and the Kubernetes objects that it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.deployment import read_deployment
from sim.scenario.documents import STDIN, Document, documents_at, is_folder, read_documents
from sim.scenario.durations import shown
from sim.scenario.images import read_images
from sim.scenario.load_client import read_load
from sim.scenario.manifests import MODELLED_KINDS, Objects, read_config_map, read_service, to_apply
from sim.scenario.model import Cluster, Deployment, Image, Scenario, Service, Update, UpdateAction
from sim.scenario.overrides import Overrides
from sim.scenario.pods import Surroundings
from sim.scenario.probes_and_hooks import StatedHooks
from sim.scenario.reader import Fields
from sim.scenario.routes import check_routes, with_reached_frontend
from sim.scenario.updates import Action, read_actions, resolve_action

API_VERSION: Final = "rollsim/v1"
KIND: Final = "Scenario"
MAX_NODES: Final = 100

Sets = Sequence[str] | Mapping[str, Any]


def load(path: Path | str, sets: Sets = ()) -> list[Scenario]:
    """The scenarios of a file, of standard input ("-"), or of a directory.

    Parameters
    ----------
    path : path
        A file may hold several Scenario documents; of a directory each `*.yaml` in it that holds one.
    sets : sequence of `PATH=VALUE`, or mapping of path to value
        Overrides, see `sim.scenario.overrides`.

    Raises
    ------
    InputError
        What cannot be used, in one line with file, document and field.
    """
    in_folder = str(path) != STDIN and is_folder(path)
    files = _scenario_files(Path(path)) if in_folder else {str(path): read_documents(path)}
    scenarios = [each for file, documents in files.items() for each in from_documents(file, documents, sets)]
    _distinct_names(scenarios)
    return scenarios


def from_documents(file: str, documents: Sequence[Document], sets: Sets = ()) -> list[Scenario]:
    """The scenarios among the *documents* of one file, each with the Kubernetes objects beside it.

    Raises
    ------
    InputError
        As `load`.
    """
    overrides = Overrides.parse(sets)
    found = [document for document in documents if document.kind == KIND]
    if not found:
        raise InputError(
            f"{file}: no document with kind {KIND} (apiVersion {API_VERSION}); rollsim init writes one"
        )
    beside = [document for document in documents if document.kind != KIND]
    scenarios = [_scenario(document, beside, overrides) for document in found]
    _distinct_names(scenarios)
    return scenarios


def load_one(path: Path | str, sets: Sets = ()) -> Scenario:
    """The only scenario of a file.

    Raises
    ------
    InputError
        As `load`; also where there are several.
    """
    scenarios = load(path, sets)
    if len(scenarios) != 1:
        names = ", ".join(scenario.name for scenario in scenarios)
        raise InputError(f"{path}: holds {len(scenarios)} scenarios ({names}), expected one")
    return scenarios[0]


def _scenario_files(folder: Path) -> dict[str, list[Document]]:
    read = {str(file): read_documents(file) for file in sorted(folder.iterdir()) if _is_yaml(file)}
    found = {
        file: documents
        for file, documents in read.items()
        if any(document.kind == KIND for document in documents)
    }
    if not found:
        raise InputError(f"{folder}: no *.yaml file directly in it holds a document with kind {KIND}")
    return found


def _is_yaml(file: Path) -> bool:
    return file.suffix in (".yaml", ".yml") and file.is_file()


def _distinct_names(scenarios: list[Scenario]) -> None:
    seen: dict[str, Path] = {}
    for scenario in scenarios:
        if scenario.name in seen:
            raise InputError(
                f"{scenario.source}: Scenario {scenario.name}: metadata.name: stands twice "
                f"(first in {seen[scenario.name]})"
            )
        seen[scenario.name] = scenario.source


# ---------------------------------------------------------------- one scenario


@dataclass(frozen=True, slots=True, kw_only=True)
class _Meaning:
    """What turns raw Deployments into frozen ones."""

    services: tuple[Service, ...]
    images: dict[str, Image]
    hooks: StatedHooks

    def deployments(self, objects: Objects) -> dict[str, Deployment]:
        notes = objects.warnings
        around = Surroundings(
            config_maps={found.name: read_config_map(found, notes) for found in objects.of_kind("ConfigMap")},
            services=self.services,
            images=self.images,
            hooks=self.hooks,
        )
        read = (read_deployment(found, around, notes) for found in objects.of_kind("Deployment"))
        return {found.name: with_reached_frontend(found, self.services) for found in read}


def _scenario(document: Document, beside: list[Document], overrides: Overrides) -> Scenario:
    warnings: list[str] = []
    document = overrides.for_scenario(document)
    fields = Fields(document.data, document.place, warnings)
    name, spec = _envelope(fields)
    folder = Path() if document.file == STDIN else Path(document.file).parent
    manifests = _manifests(spec, folder) + beside
    actions = read_actions(spec, folder)
    manifests, actions = _overridden(manifests, actions, overrides)

    objects = Objects(warnings=warnings, left_out=_left_out(spec))
    objects.apply(manifests)
    meaning = _Meaning(
        services=tuple(read_service(found, warnings) for found in objects.of_kind("Service")),
        images=read_images(spec),
        hooks=_hooks(spec),
    )
    deployments = meaning.deployments(objects)
    if not deployments:
        raise InputError(f"{document.place}: no Deployment in its manifests")
    cluster = _cluster(spec)
    load_ = read_load(spec, meaning.services, client_on_node=cluster.client_on_node)
    updates, done = _updates(actions, objects, meaning, deployments)
    timing = spec.text("timing", "defaults")
    spec.text("description", None)
    spec.finish()
    _check_hooks(spec, meaning.hooks)
    _note_unused_images(spec, [*deployments.values(), *(update.to for update in updates)])
    _check_times(actions, load_.duration_s)
    scenario = Scenario(
        name=name,
        source=Path(document.file),
        deployments=tuple(deployments.values()),
        services=meaning.services,
        images=meaning.images,
        updates=updates,
        load=load_,
        cluster=cluster,
        timing=timing,
        warnings=tuple(warnings),
        objects=to_apply(manifests),
        actions=done,
    )
    check_routes(scenario, str(document.place))
    return scenario


def _envelope(fields: Fields) -> tuple[str, Fields]:
    fields.text("apiVersion", allowed=(API_VERSION,))
    fields.text("kind")
    metadata = fields.required("metadata")
    name = metadata.text("name")
    if not name.strip() or not name.isprintable():
        raise metadata.error("name", f"got {shown(name)}, expected a name of one line")
    metadata.finish(ignored={"labels", "annotations"})
    spec = fields.required("spec")
    fields.finish()
    return name, spec


def _manifests(spec: Fields, folder: Path) -> list[Document]:
    names = spec.texts("manifests")
    return [document for name in names for document in documents_at(name, folder, spec, "manifests")]


def _left_out(spec: Fields) -> frozenset[str]:
    kinds = spec.texts("leaveOut")
    if modelled := next((kind for kind in kinds if kind in MODELLED_KINDS), None):
        raise spec.error("leaveOut", f"{modelled} is modelled; take the object out of the manifests")
    return frozenset(kinds)


def _overridden(
    manifests: list[Document], actions: list[Action], overrides: Overrides
) -> tuple[list[Document], list[Action]]:
    """Overrides meet the manifests and those of the updates at once: a path need only lead to one of them."""
    n_manifests = len(manifests)
    changed = overrides.for_objects(
        [*manifests, *(found for action in actions for found in action.documents)]
    )
    rest = iter(changed[n_manifests:])
    return changed[:n_manifests], [
        replace(action, documents=tuple(next(rest) for _ in action.documents)) for action in actions
    ]


def _updates(
    actions: Sequence[Action], objects: Objects, meaning: _Meaning, deployments: dict[str, Deployment]
) -> tuple[tuple[Update, ...], tuple[UpdateAction, ...]]:
    """Each action's effect on the Deployments, one after the other."""
    updates: list[Update] = []
    done: list[UpdateAction] = []
    current, state = deployments, objects.copy()
    for action in actions:
        done.append(resolve_action(action, state))
        later = meaning.deployments(state)
        changed = [name for name in later if later[name] != current[name]]
        if all(later[name].template.revision == current[name].template.revision for name in changed):
            action.fields.warn("at", "no pod template changes: this update starts no rollout")
        for name in changed:
            if later[name].selector != current[name].selector:
                raise action.fields.fault(f"Deployment {name}: spec.selector: field is immutable")
            updates.append(Update(at_s=action.at_s, to=later[name]))
        current = later
    return tuple(updates), tuple(done)


def _cluster(spec: Fields) -> Cluster:
    cluster = spec.mapping("cluster")
    if cluster is None:
        return Cluster()
    read = Cluster(
        nodes=cluster.integer("nodes", 1, least=1, most=MAX_NODES),
        client_on_node=cluster.text("client", "node", allowed=("node", "pod")) == "node",
        cores=cluster.integer("cores", 2, least=1),
    )
    cluster.finish()
    return read


def _hooks(spec: Fields) -> StatedHooks:
    hooks = spec.mapping("hooks")
    return StatedHooks({} if hooks is None else {name: hooks.required(name) for name in hooks.data})


def _note_unused_images(spec: Fields, deployments: Sequence[Deployment]) -> None:
    """A description that nothing runs is most often a slip of the pen in its name."""
    used = {container.image for found in deployments for container in found.template.containers}
    images = spec.mapping("images")
    for reference in () if images is None else images.data:
        if reference not in used:
            spec.warn("images", f'"{reference}" is described, and no container runs it')


def _check_hooks(spec: Fields, hooks: StatedHooks) -> None:
    for name in hooks.hooks:
        if name not in hooks.used:
            raise spec.error(
                "hooks",
                f"got {shown(name)}, expected DEPLOYMENT/CONTAINER/preStop or /postStart of a hook in them",
            )


def _check_times(actions: Sequence[Action], duration_s: float | None) -> None:
    for action in actions:
        if duration_s is not None and action.at_s >= duration_s:
            action.fields.warn("at", f"got {action.at_s:g} s, but the load ends at {duration_s:g} s")
