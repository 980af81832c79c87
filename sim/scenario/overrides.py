"""`--set PATH=VALUE`: a field of the scenario or of a Kubernetes object, or a line of a configuration.

- of the Scenario's spec: `load.connections=100`, `images."app:red".stopSignal=SIGQUIT`;
- of an object, list items by name or index: `deployment/myapp.spec.template.spec.containers[app].image=x`;
- of a haproxy.cfg in a ConfigMap: `haproxy.defaults.retries=0`, `haproxy.listen[myapp].server[app].fall=3`;
- of an nginx.conf in a ConfigMap: `nginx.http.keepalive_timeout=0`, `nginx.http.server.location[/].root=/x`.

A value is YAML; null removes the field or line. An object that stands in several files (an update's
manifests) is changed in each. `haproxy(NAME)` and `nginx(NAME)` mean the ConfigMap of that name alone.
"""

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sim.errors import InputError
from sim.scenario.conf_text import haproxy_sections, nginx_blocks, set_in_haproxy, set_in_nginx
from sim.scenario.documents import MAX_DEPTH, Document, read_value
from sim.scenario.durations import shown

SPEC_FIELDS: Final = (
    "manifests", "update", "load", "images", "cluster", "timing", "hooks", "description", "leaveOut",
)  # fmt: skip
_KINDS: Final = {
    "deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment",
    "svc": "Service", "service": "Service", "services": "Service",
    "cm": "ConfigMap", "configmap": "ConfigMap", "configmaps": "ConfigMap",
}  # fmt: skip
_STEP: Final = re.compile(r"""\.?(?:"([^"]*)"|'([^']*)'|\[([^\[\]]*)\]|([^.\[\]"'=]+))""")
_INDEX: Final = re.compile(r"[0-9]{1,9}")
_CONF: Final = re.compile(r"(haproxy|nginx)(?:\(([^()]*)\))?")

Step = str | int


@dataclass(frozen=True, slots=True)
class Override:
    path: str
    steps: tuple[Step, ...]
    value: Any

    def error(self, message: str) -> InputError:
        return InputError(f"--set {self.path}: {message}")

    @property
    def head(self) -> str:
        return str(self.steps[0])


@dataclass(frozen=True, slots=True)
class Overrides:
    items: tuple[Override, ...] = ()

    @classmethod
    def parse(cls, sets: Sequence[str] | Mapping[str, Any]) -> "Overrides":
        """From `PATH=VALUE` texts, or from a mapping of paths to values.

        Raises
        ------
        InputError
            A path that cannot be read, a value that is not YAML, a scenario field that does not exist.
        """
        pairs = list(sets.items()) if isinstance(sets, Mapping) else [_split(text) for text in sets]
        return cls(tuple(_override(path, value) for path, value in pairs))

    def for_scenario(self, document: Document) -> Document:
        """The Scenario document with what concerns its own fields."""
        chosen = [item for item in self.items if item.head in SPEC_FIELDS]
        if not chosen:
            return document
        data = copy.deepcopy(document.data)
        for item in chosen:
            if not isinstance(data.get("spec"), dict):
                raise item.error(f"{document.place} has no spec")
            _assign(data["spec"], item.steps, item)
        return replace(document, data=data)

    def for_objects(self, documents: Sequence[Document]) -> list[Document]:
        """Copies of the Kubernetes *documents* with what concerns them.

        Raises
        ------
        InputError
            A path that leads nowhere; the line says what there is.
        """
        changed = [replace(document, data=copy.deepcopy(document.data)) for document in documents]
        for item in self.items:
            if match := _CONF.fullmatch(item.head):
                _set_in_conf(item, match[1], match[2], changed)
            elif item.head not in SPEC_FIELDS:
                _set_in_objects(item, changed)
        return changed


# ---------------------------------------------------------------- reading paths


def split_path(text: str) -> tuple[str, str]:
    """The path at the start of `PATH=…`, and what follows the sign.

    Raises
    ------
    InputError
        There is no path, or no `=` behind it.
    """
    path = ""
    rest = text
    while rest and not rest.startswith("="):
        match = _STEP.match(rest)
        if match is None:
            raise InputError(f"--set {text}: cannot be read at {shown(rest)}; expected PATH=VALUE")
        path, rest = path + match[0], rest[match.end() :]
    if not path or not rest:
        raise InputError(f"--set {text}: expected PATH=VALUE, such as load.connections=100")
    return path, rest[1:]


def _split(text: str) -> tuple[str, Any]:
    path, value = split_path(text)
    return path, read_value(value, f"--set {path}")


def _override(path: str, value: Any) -> Override:
    steps: list[Step] = []
    position = 0
    while position < len(path):
        match = _STEP.match(path, position)
        if match is None:
            raise InputError(f"--set {path}: cannot be read at {shown(path[position:])}")
        quoted = next((group for group in match.groups()[:2] if group is not None), None)
        bracket, plain = match[3], match[4]
        if bracket is not None:
            steps.append(int(bracket) if _INDEX.fullmatch(bracket) else bracket.strip("\"'"))
        else:
            steps.append(quoted if quoted is not None else plain)
        position = match.end()
    if not steps:
        raise InputError("--set: got an empty path, expected PATH=VALUE")
    if len(steps) > MAX_DEPTH:
        raise InputError(f"--set {path}: got {len(steps)} steps, expected at most {MAX_DEPTH}")
    override = Override(path, tuple(steps), value)
    head = override.head
    if head not in SPEC_FIELDS and "/" not in head and not _CONF.fullmatch(head):
        raise override.error(
            f"got {shown(head)}, expected one of {', '.join(SPEC_FIELDS)}, KIND/NAME, haproxy or nginx"
        )
    return override


# ---------------------------------------------------------------- objects


def _set_in_objects(item: Override, documents: Sequence[Document]) -> None:
    kind, _, first = item.head.partition("/")
    found = []
    for document in documents:
        for used in range(1, len(item.steps) + 1):
            name = ".".join([first, *(str(step) for step in item.steps[1:used])])
            if document.kind == _KINDS.get(kind.lower(), kind) and document.name == name:
                found.append((document, item.steps[used:]))
    if not found:
        there = dict.fromkeys(f"{document.kind.lower()}/{document.name}" for document in documents)
        raise item.error(f"no such object; there are {', '.join(there) or 'none'}")
    for document, steps in found:
        if not steps:
            raise item.error(f"expected a field behind the name, such as {item.head}.spec.replicas")
        _assign(document.data, steps, item)


def _assign(root: Any, steps: Sequence[Step], item: Override) -> None:
    """Set a value in nested mappings and lists; missing mappings on the way are made."""
    here = root
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        if isinstance(here, list):
            index = _index(here, step, item)
            if last:
                here[index : index + 1] = [] if item.value is None else [item.value]
                return
            here = here[index]
        elif isinstance(here, dict):
            key = str(step)
            if last:
                if item.value is None:
                    here.pop(key, None)
                else:
                    here[key] = copy.deepcopy(item.value)
                return
            if here.get(key) is None:
                here[key] = {}
            here = here[key]
        else:
            raise item.error(
                f"{shown(str(steps[depth - 1]))} is {shown(here)}, which has no field {shown(str(step))}"
            )


def _index(values: list[Any], step: Step, item: Override) -> int:
    if isinstance(step, str) and _INDEX.fullmatch(step):
        step = int(step)
    names = [value.get("name") if isinstance(value, dict) else None for value in values]
    if isinstance(step, int) and step < len(values):
        return step
    if step in names:
        return names.index(step)
    there = ", ".join(str(name) if name else str(index) for index, name in enumerate(names)) or "none"
    raise item.error(f"got [{step}], expected an item of the list: {there}")


# ---------------------------------------------------------------- configurations in ConfigMaps


def _set_in_conf(item: Override, program: str, config_map: str | None, documents: Sequence[Document]) -> None:
    maps = [
        document.data.get("data")
        for document in documents
        if document.kind == "ConfigMap" and config_map in (None, document.name)
    ]
    texts = [
        (data, key)
        for data in maps
        if isinstance(data, dict)  # the reader of the objects says what else it is
        for key in data
        if isinstance(key, str) and _IS_CONF[program](key)
    ]
    if not texts:
        raise item.error(f"no ConfigMap {config_map or 'of the manifests'} that holds a text for {program}")
    done = False
    for data, key in texts:
        new = _EDIT[program](item, str(data[key]))
        if new is not None:
            data[key], done = new, True
    if not done:
        there = dict.fromkeys(name for data, key in texts for name in _PLACES[program](str(data[key])))
        raise item.error(
            f"no such {'section' if program == 'haproxy' else 'block'}; there are {', '.join(there)}"
        )


def _edit_haproxy(item: Override, text: str) -> str | None:
    names = [str(step) for step in item.steps[1:]]
    if not names:
        raise item.error("expected haproxy.SECTION.KEYWORD, such as haproxy.defaults.retries")
    sections = haproxy_sections(text)
    section, keyword = names[0], names[1:]
    if names[1:] and f"{names[0]} {names[1]}" in sections:
        section, keyword = f"{names[0]} {names[1]}", names[2:]
    words = [word for name in keyword for word in name.split()]
    if not words:
        raise item.error("expected a keyword behind the section, such as haproxy.defaults.retries")
    return set_in_haproxy(text, section, words, _conf_value(item))


def _edit_nginx(item: Override, text: str) -> str | None:
    names = [str(step) for step in item.steps[1:]]
    if not names:
        raise item.error("expected nginx.BLOCK.DIRECTIVE, such as nginx.http.keepalive_timeout")
    *blocks, directive = names
    context: list[str] = []
    known = nginx_blocks(text)
    for name in blocks:
        with_argument = [*context[:-1], f"{context[-1]} {name}"] if context else []
        if any(list(block[: len(with_argument)]) == with_argument for block in known if with_argument):
            context = with_argument  # `location[/]` is one block
        else:
            context.append(name)
    value = _conf_value(item)
    if isinstance(value, bool):
        value = "on" if value else "off"
    return set_in_nginx(text, context, directive, value)


def _conf_value(item: Override) -> str | bool | None:
    if item.value is None or isinstance(item.value, bool):
        return item.value
    if isinstance(item.value, str | int | float):
        return str(item.value)
    raise item.error(f"got {shown(item.value)}, expected a text or a number")


_IS_CONF: Final[Mapping[str, Callable[[str], bool]]] = {
    "haproxy": lambda key: key.endswith(".cfg") or "haproxy" in key,
    "nginx": lambda key: key.endswith(".conf") or "nginx" in key,
}
_EDIT: Final[Mapping[str, Callable[[Override, str], str | None]]] = {
    "haproxy": _edit_haproxy,
    "nginx": _edit_nginx,
}
_PLACES: Final[Mapping[str, Callable[[str], list[str]]]] = {
    "haproxy": haproxy_sections,
    "nginx": lambda text: [".".join(block) for block in nginx_blocks(text)],
}
