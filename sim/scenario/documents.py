"""YAML files to plain documents: one file, its documents in order, nothing shared between them.

Read as `kubectl` reads them (YAML 1.1; a mapping's keys become texts), with limits on size, nesting and the
expansion of aliases, so that a hostile or broken file ends in one line.
"""

import math
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from sim.errors import InputError
from sim.scenario.conf_text import RENDER_IT, TEMPLATING
from sim.scenario.reader import Fields, Place, one_line

MAX_BYTES: Final = 5_000_000
MAX_DEPTH: Final = 100
MAX_NODES: Final = 200_000
MAX_EXPANDED_CHARACTERS: Final = 20_000_000

_FLOAT_FROM: Final = 2**64

STDIN: Final = "-"

_MERGE: Final = "tag:yaml.org,2002:merge"
_TAGS: Final = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq", "binary")
)


@dataclass(frozen=True, slots=True)
class Document:
    """One document of a file, as plain dicts and lists that belong to it alone."""

    file: str
    index: int
    data: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.data.get("kind"))

    @property
    def name(self) -> str:
        metadata = self.data.get("metadata")
        return str(metadata.get("name")) if isinstance(metadata, dict) else "None"

    @property
    def _title(self) -> str:
        return self.kind if self.name == "None" else one_line(f"{self.kind} {self.name}")

    @property
    def place(self) -> Place:
        if not isinstance(self.data.get("kind"), str):
            return Place(self.file, f"document {self.index + 1}")
        return Place(self.file, self._title)


class _Loader(yaml.CSafeLoader):
    """YAML 1.1 without the forms that only Python knows: dates and base-60 numbers stay texts."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == _MERGE:
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float):
                raise yaml.constructor.ConstructorError(
                    None, None, "a mapping's key must be a single word", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


_RESOLVERS: Final = {
    "tag:yaml.org,2002:null": (re.compile(r"~|null|Null|NULL|"), ("~", "n", "N", "")),
    "tag:yaml.org,2002:bool": (
        re.compile(r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF"),
        tuple("yYnNtTfFoO"),
    ),
    "tag:yaml.org,2002:int": (
        re.compile(r"[-+]?(?:0b[0-1_]+|0x[0-9a-fA-F_]+|0[0-7_]*|[1-9][0-9_]*)"),
        tuple("-+0123456789"),
    ),
    "tag:yaml.org,2002:float": (
        re.compile(
            r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
        ),
        tuple("-+0123456789."),
    ),
    _MERGE: (re.compile(r"<<"), ("<",)),
}
_Loader.yaml_implicit_resolvers = {}
for _tag, (_form, _first) in _RESOLVERS.items():
    for _character in _first:
        _Loader.yaml_implicit_resolvers.setdefault(_character, []).append(
            (_tag, re.compile(rf"(?:{_form.pattern})\Z"))
        )


def read_documents(path: Path | str) -> list[Document]:
    """The documents of one file, or of standard input for "-"; empty ones are left out, Lists opened.

    Raises
    ------
    InputError
        Not readable, not UTF-8, not YAML, too large, duplicate keys, templating left in.
    """
    file = str(path)
    return documents_in(_read_text(file), file)


def documents_in(text: str, file: str) -> list[Document]:
    """The documents of *text*, which stands in *file*.

    Raises
    ------
    InputError
        As `read_documents`.
    """
    try:
        _check_limits(text, file)
        documents = list(_construct(text))
    except yaml.YAMLError as error:
        raise InputError(f"{file}: {_yaml_complaint(error, text)}") from None
    except (ValueError, LookupError) as error:  # of an explicit tag that does not fit: !!bool perhaps
        raise InputError(f"{file}: not YAML: {one_line(error)}") from None
    return list(_opened(documents, file))


def documents_at(name: str, folder: Path, fields: Fields, key: str) -> list[Document]:
    """The Kubernetes objects of one `manifests` entry: a file or a directory, relative to *folder*.

    Raises
    ------
    InputError
        There is none (said of field *key*), or it cannot be read.
    """
    path = folder / name
    if not (is_file(path) or is_folder(path)):
        raise fields.error(key, f"got {name}, but there is no {path}")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    return [found for file in files for found in read_documents(file) if found.kind != "Scenario"]


def is_file(path: Path | str) -> bool:
    """Whether a file (or a pipe) has that name; False too for what cannot be a name: too long, a NUL in it."""
    return os.path.exists(path) and not is_folder(path)  # noqa: PTH110 - Path.exists raises there


def is_folder(path: Path | str) -> bool:
    return os.path.isdir(path)  # noqa: PTH112


def read_value(text: str, where: str) -> Any:
    """One YAML value from the command line.

    Raises
    ------
    InputError
        Not YAML.
    """
    try:
        _check_limits(text, where)
        values = list(_construct(text))
    except yaml.YAMLError as error:
        raise InputError(f"{where}: {_yaml_complaint(error, text)}") from None
    except (ValueError, LookupError) as error:
        raise InputError(f"{where}: not YAML: {one_line(error)}") from None
    if len(values) > 1:
        raise InputError(f"{where}: got {len(values)} YAML documents, expected one value")
    return _plain(values[0], Place(where)) if values else None


def _read_text(file: str) -> str:
    try:
        if file == STDIN:
            raw = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as stream:
                raw = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{file}: cannot be read: {reason}") from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"{file}: larger than {MAX_BYTES // 1_000_000} MB, the most that is read")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 (byte {error.start}); save it as UTF-8") from None


def _check_limits(text: str, file: str) -> None:
    """Walk the events, which needs no recursion, before anything is built from them."""
    nodes, characters = 0, 0
    open_collections: list[tuple[str | None, int, int]] = []  # anchor, nodes and characters at its start
    anchors: dict[str, tuple[int, int] | None] = {}
    for event in yaml.parse(text, Loader=yaml.CSafeLoader):
        if (tag := getattr(event, "tag", None)) not in (None, "!") and tag not in _TAGS:
            raise InputError(f"{file}: {_at(event.start_mark)}: not YAML as kubectl reads it: tag {tag}")
        match event:
            case yaml.DocumentStartEvent():
                anchors.clear()
            case yaml.ScalarEvent():
                nodes, characters = nodes + 1, characters + len(event.value)
                if event.anchor:
                    anchors[event.anchor] = (1, len(event.value))
            case yaml.AliasEvent():
                size = anchors.get(str(event.anchor), (1, 0))
                if size is None:
                    raise InputError(f"{file}: {_at(event.start_mark)}: alias {event.anchor} contains itself")
                nodes, characters = nodes + size[0], characters + size[1]
            case yaml.CollectionStartEvent():
                nodes += 1
                open_collections.append((event.anchor, nodes, characters))
                if event.anchor:
                    anchors[event.anchor] = None
                if len(open_collections) > MAX_DEPTH:
                    raise InputError(
                        f"{file}: {_at(event.start_mark)}: nested more than {MAX_DEPTH} levels deep"
                    )
            case yaml.CollectionEndEvent():
                anchor, nodes_before, characters_before = open_collections.pop()
                if anchor:
                    anchors[anchor] = (nodes - nodes_before + 1, characters - characters_before)
        if nodes > MAX_NODES or characters > MAX_EXPANDED_CHARACTERS:
            raise InputError(f"{file}: more than {MAX_NODES} values once its aliases are expanded")


def _construct(text: str) -> Iterator[Any]:
    loader: Any = _Loader(text)
    try:
        while loader.check_data():
            yield loader.get_data()
    finally:
        loader.dispose()


def _opened(documents: list[Any], file: str) -> Iterator[Document]:
    index = 0
    for position, data in enumerate(documents):
        if data is None:
            continue
        place = Place(file, f"document {position + 1}")
        if not isinstance(data, dict):
            raise InputError(
                f"{place}: got {type(data).__name__}, expected a mapping with apiVersion and kind"
            )
        plain = _plain(data, place)
        items = plain.get("items") if plain.get("kind") == "List" else [plain]
        for item in items if isinstance(items, list) else []:
            if not isinstance(item, dict):
                raise InputError(f"{place}: items: got {type(item).__name__}, expected mappings")
            yield Document(file, index, item)
            index += 1


def _plain(value: Any, place: Place) -> Any:
    """A copy that shares nothing (an alias is a copy for `kubectl` too), with texts as keys."""
    if isinstance(value, dict):
        copy: dict[str, Any] = {}
        for key, item in value.items():
            name = _key_text(key, place)
            copy[name] = _plain(item, place.field(name))
        return copy
    if isinstance(value, list):
        return [_plain(item, place.item(index)) for index, item in enumerate(value)]
    if isinstance(value, int | float):
        return _finite(value, place)
    if isinstance(value, str) and not _free_text(place) and (found := TEMPLATING.search(value)):
        raise InputError(f"{place}: got {found[0][:60]}: {RENDER_IT}")
    if value is None or isinstance(value, str):
        return value
    raise InputError(f"{place}: got {type(value).__name__}, expected texts, numbers, lists and mappings")


def _key_text(key: str | float, place: Place) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    return key if isinstance(key, str) else str(_finite(key, place))


def _finite(value: float, place: Place) -> float:
    """The number as `kubectl` has it: an integer that 64 bits do not hold is a floating-point one."""
    if isinstance(value, int) and abs(value) < _FLOAT_FROM:
        return value
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InputError(f"{place}: got {number}, expected a finite number")
    return number


def _free_text(place: Place) -> bool:
    """Where braces may be meant for somebody else: a ConfigMap's data, an annotation."""
    return place.path.startswith(("data.", "binaryData.")) or ".annotations." in place.path


def _yaml_complaint(error: yaml.YAMLError, text: str) -> str:
    if found := TEMPLATING.search(text):
        line = text.count("\n", 0, found.start()) + 1
        return f"line {line}: {found[0][:60]}: {RENDER_IT}"
    if isinstance(error, yaml.MarkedYAMLError) and (mark := error.problem_mark or error.context_mark):
        return f"{_at(mark)}: not YAML: {one_line(error.problem or error.context)}"
    return f"not YAML: {one_line(error)}"


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
