"""From files to scenarios: one Scenario document and the Kubernetes objects it is about."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError, UnsupportedInput
from sim.scenario.deployment import Surroundings, read_deployment
from sim.scenario.documents import STDIN, Document, read_documents
from sim.scenario.durations import shown
from sim.scenario.images import read_images
from sim.scenario.load_client import read_load
from sim.scenario.manifests import Objects, read_config_map, read_service, selects
from sim.scenario.model import Cluster, Deployment, Image, Load, Scenario, Service, Update, UpdateAction
from sim.scenario.overrides import Overrides
from sim.scenario.probes_and_hooks import StatedHooks
from sim.scenario.reader import Fields
from sim.scenario.updates import read_actions, resolve_action

API_VERSION: Final = "rollsim/v1"
KIND: Final = "Scenario"
MAX_NODES: Final = 100


def load(path: Path | str, sets: Sequence[str] | Mapping[str, Any] = ()) -> list[Scenario]:
    """The scenarios of a file, of standard input ("-"), or of a directory.

    Parameters
    ----------
    path :
        A file may hold several Scenario documents; of a directory every `*.yaml` directly in it that holds one.
    sets :
        Overrides, as `PATH=VALUE` texts or as a mapping from path to value.

    Raises
    ------
    InputError
        What cannot be used, in one line with file, document and field.
    """
    overrides = Overrides.parse(sets)
    files = [str(path)] if str(path) == STDIN or not Path(path).is_dir() else _scenario_files(Path(path))
    scenarios = []
    for file in files:
        documents = read_documents(file)
        found = [document for document in documents if document.kind == KIND]
        if not found:
            raise InputError(f"{file}: no document with kind {KIND} (apiVersion {API_VERSION})")
        objects = [document for document in documents if document.kind != KIND]
        scenarios += [_scenario(document, objects, overrides) for document in found]
    _distinct_names(scenarios)
    return scenarios


def load_one(path: Path | str, sets: Sequence[str] | Mapping[str, Any] = ()) -> Scenario:
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


def _scenario_files(folder: Path) -> list[str]:
    files = [
        str(path) for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml") and path.is_file()
    ]
    found = [file for file in files if any(document.kind == KIND for document in read_documents(file))]
    if not found:
        raise InputError(f"{folder}: no *.yaml file directly in it holds a document with kind {KIND}")
    return found


def _distinct_names(scenarios: list[Scenario]) -> None:
    seen: dict[str, Path] = {}
    for scenario in scenarios:
        if scenario.name in seen:
            raise InputError(
                f"{scenario.source}: Scenario {scenario.name}: metadata.name: stands twice (first in {seen[scenario.name]})"
            )
        seen[scenario.name] = scenario.source


# ---------------------------------------------------------------- one scenario


def _scenario(document: Document, beside: list[Document], overrides: Overrides) -> Scenario:
    warnings: list[str] = []
    document = overrides.for_scenario(document)
    fields = Fields(document.data, document.place, warnings)
    fields.text("apiVersion", allowed=(API_VERSION,))
    fields.text("kind")
    metadata = fields.required("metadata")
    name = metadata.text("name")
    metadata.finish(ignored={"labels", "annotations"})
    spec = fields.required("spec")
    fields.finish()

    folder = Path() if document.file == STDIN else Path(document.file).parent
    applied = _manifests(spec, folder) + beside
    actions = read_actions(spec, folder)
    extra = [extra for action in actions for extra in action.documents]
    overrides.for_objects([*applied, *extra])
    objects = Objects(warnings=warnings)
    objects.apply(applied)
    raw = tuple(document.data for document in objects.by_key.values())

    cluster = _cluster(spec)
    images = read_images(spec)
    hooks = _hooks(spec)
    services = tuple(read_service(found, warnings) for found in objects.of_kind("Service"))
    deployments = read_deployments(objects, services, images, hooks)
    if not deployments:
        raise InputError(f"{document.place}: no Deployment in the manifests")
    load_ = read_load(spec, services, client_on_node=cluster.client_on_node)
    updates, done = _updates(actions, objects, deployments, services, images, hooks, load_)
    timing = spec.text("timing", "defaults")
    spec.text("description", None)
    spec.finish()
    _all_hooks_exist(spec, hooks)
    scenario = Scenario(
        name=name,
        source=Path(document.file),
        deployments=tuple(deployments.values()),
        services=services,
        images=images,
        updates=updates,
        load=load_,
        cluster=cluster,
        timing=timing,
        warnings=tuple(warnings),
        objects=raw,
        actions=done,
    )
    check_routes(scenario, document)
    return scenario


def _manifests(spec: Fields, folder: Path) -> list[Document]:
    return [
        document
        for name in spec.texts("manifests")
        for document in manifest_documents(name, folder, spec, "manifests")
    ]


def manifest_documents(name: str, folder: Path, fields: Fields, key: str) -> list[Document]:
    """The Kubernetes objects of one `manifests` entry: a file or a directory, relative to the scenario's."""
    path = folder / name
    if not path.exists():
        raise fields.error(key, f"got {shown(name)}, no such file (looked at {path})")
    files = (
        sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        if path.is_dir()
        else [path]
    )
    return [document for file in files for document in read_documents(file) if document.kind != KIND]


def read_deployments(
    objects: Objects, services: tuple[Service, ...], images: dict[str, Image], hooks: StatedHooks
) -> dict[str, Deployment]:
    """Every Deployment of *objects* in its present form."""
    warnings = objects.warnings
    config_maps = {found.name: read_config_map(found, warnings) for found in objects.of_kind("ConfigMap")}
    around = Surroundings(config_maps=config_maps, services=services, images=images, hooks=hooks)
    return {found.name: read_deployment(found, around, warnings) for found in objects.of_kind("Deployment")}


def _updates(
    actions: Sequence[Any],
    objects: Objects,
    deployments: dict[str, Deployment],
    services: tuple[Service, ...],
    images: dict[str, Image],
    hooks: StatedHooks,
    load_: Load,
) -> tuple[tuple[Update, ...], tuple[UpdateAction, ...]]:
    updates: list[Update] = []
    done: list[UpdateAction] = []
    current, state = dict(deployments), objects.copy()
    for action in actions:
        done.append(resolve_action(action, state))
        later = read_deployments(state, services, images, hooks)
        changed = [name for name in later if later[name] != current[name]]
        if all(later[name].template.revision == current[name].template.revision for name in changed):
            action.fields.warn("at", "no pod template changes: this update starts no rollout")
        if load_.duration_s is not None and action.at_s >= load_.duration_s:
            action.fields.warn("at", f"got {action.at_s:g} s, the load ends at {load_.duration_s:g} s")
        for name in changed:
            if later[name].selector != current[name].selector:
                raise InputError(
                    f"{action.fields.place}: Deployment {name}: spec.selector: field is immutable"
                )
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
    return (
        StatedHooks()
        if hooks is None
        else StatedHooks(hooks={name: hooks.required(name) for name in hooks.data})
    )


def _all_hooks_exist(spec: Fields, hooks: StatedHooks) -> None:
    for name in hooks.hooks:
        if name not in hooks.used:
            raise spec.error(
                "hooks",
                f"got {shown(name)}, expected DEPLOYMENT/CONTAINER/preStop or postStart of a hook that exists",
            )


# ---------------------------------------------------------------- who reaches whom


def check_routes(scenario: Scenario, document: Document) -> None:
    """The load's Service and every proxy's servers lead to pods of a Deployment.

    Raises
    ------
    InputError
        A Service that selects no pods, a proxy's server that is no Service.
    """
    by_name = {service.name: service for service in scenario.services}
    needed = {scenario.load.service}
    for deployment in (*scenario.deployments, *(update.to for update in scenario.updates)):
        for container in deployment.template.containers:
            for backend in container.haproxy.backends if container.haproxy is not None else ():
                for server in backend.servers:
                    name = service_of_host(server.host, by_name)
                    if name is None:
                        raise UnsupportedInput(
                            f"{document.place}: HAProxy of Deployment {deployment.name}: backend {backend.name}: server "
                            f"{server.name}: got host {shown(server.host)}, expected a Service of the manifests "
                            f"({', '.join(by_name) or 'none'})"
                        )
                    needed.add(name)
    for name in sorted(needed):
        if not any(selects(by_name[name].selector, found.template.labels) for found in scenario.deployments):
            raise InputError(
                f"{document.place}: Service {name}: spec.selector: got {shown(dict(by_name[name].selector))}, "
                "which no Deployment's pods match"
            )


def service_of_host(host: str, services: Mapping[str, Service]) -> str | None:
    """The Service that *host* names: NAME, NAME.NAMESPACE, NAME.NAMESPACE.svc[.cluster.local]."""
    labels = host.rstrip(".").split(".")
    local = labels[2:] in ([], ["svc"], ["svc", "cluster", "local"])
    return labels[0] if local and labels[0] in services else None
