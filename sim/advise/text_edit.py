"""Changes in the text of a YAML file, so that everything else stays as its owner wrote it: comments, order, style.

A document's data before and after are walked beside its nodes; where they differ, the text between the node's
marks is replaced. What the result says is read back and compared, so that no edit can go wrong unseen.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import yaml

from sim.scenario.documents import Document

WIDEST_FLOW: Final = 72


class CannotEdit(Exception):
    """The text is written in a way that these edits do not cover."""


@dataclass(frozen=True, slots=True)
class Splice:
    """Text from *start* to *end* becomes *new*."""

    start: int
    end: int
    new: str


def edited(text: str, old: Sequence[Document], new: Sequence[Document]) -> str:
    """*text*, which holds the documents *old*, changed to hold *new*.

    Raises
    ------
    CannotEdit
        A `List`, an anchor, or a place that cannot be changed alone.
    """
    nodes = [node for node in yaml.compose_all(text, Loader=yaml.CSafeLoader) if _is_document(node)]
    if len(nodes) != len(old) or len(old) != len(new):
        raise CannotEdit("its documents do not stand one by one")
    splices = [
        splice
        for node, before, after in zip(nodes, old, new, strict=True)
        for splice in _changed(text, node, before.data, after.data)
    ]
    # from the last one back; of two at one place the inner one stands first
    for _, splice in sorted(enumerate(splices), key=lambda each: (each[1].start, each[0]), reverse=True):
        text = text[: splice.start] + splice.new + text[splice.end :]
    return text


def _is_document(node: Any) -> bool:
    return isinstance(node, yaml.MappingNode)


# ---------------------------------------------------------------- where data differ


def _changed(text: str, node: Any, old: Any, new: Any) -> Iterator[Splice]:
    if old == new and type(old) is type(new):
        return
    if isinstance(node, yaml.MappingNode) and isinstance(old, dict) and isinstance(new, dict):
        yield from _mapping(text, node, old, new)
    elif isinstance(node, yaml.SequenceNode) and isinstance(new, list) and len(node.value) == len(new):
        for item, before, after in zip(node.value, old, new, strict=True):
            yield from _changed(text, item, before, after)
    elif isinstance(node, yaml.ScalarNode) and node.style in ("|", ">") and isinstance(new, str):
        yield _block_scalar(text, node, new)
    elif isinstance(node, yaml.ScalarNode) and not isinstance(new, dict | list):
        yield Splice(node.start_mark.index, node.end_mark.index, _flow(new, node.style))
    else:
        raise CannotEdit("a list changes its length")


def _mapping(text: str, node: Any, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Splice]:
    entries = {str(key.value): (key, value) for key, value in node.value}
    if set(entries) != set(old):
        raise CannotEdit("keys are merged in or not plain")
    gone = [name for name in old if name not in new]
    added = [name for name in new if name not in old]
    if gone and node.flow_style:
        yield Splice(node.start_mark.index, node.end_mark.index, _flow(new))
        return
    for name, before in old.items():
        if name in new:
            yield from _value(text, *entries[name], before, new[name])
    if node.flow_style:
        if added:
            yield _added_in_flow(text, node, {name: new[name] for name in added})
        return
    indent = node.start_mark.column
    lines = [_entry(name, new[name], indent) for name in added]
    if gone:  # the first new line takes the place of the first old one
        first, *rest = gone
        yield _without(text, entries[first], lines)
        yield from (_without(text, entries[name], []) for name in rest)
    elif lines:
        at = _line_end(text, _end(text, node))
        yield Splice(at, at, "".join(f"\n{' ' * indent}{line}" for line in lines))


def _value(text: str, key: Any, value: Any, old: Any, new: Any) -> Iterator[Splice]:
    """A value behind its key: changed inside, or replaced as a whole where nothing of it is left."""
    if old == new and type(old) is type(new):
        return
    inside = isinstance(old, dict) and isinstance(new, dict) and not set(old).isdisjoint(new)
    if isinstance(value, yaml.ScalarNode) and not isinstance(new, dict | list):
        inside = True
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        inside = True
    if inside:
        yield from _changed(text, value, old, new)
        return
    if value.start_mark.line != key.end_mark.line:  # a block that starts on the next line
        behind = _behind(new, key.start_mark.column, len(str(key.value)))
        yield Splice(key.end_mark.index + 1, _end(text, value), behind)
    else:
        nothing = value.start_mark.index == value.end_mark.index
        yield Splice(value.start_mark.index, _end(text, value), " " * nothing + _flow(new))


def _without(text: str, entry: tuple[Any, Any], instead: list[str]) -> Splice:
    """The lines of one entry of a block mapping, replaced."""
    key, value = entry
    start, indent = key.start_mark.index, key.start_mark.column
    before = text[start - indent : start]
    end = _line_end(text, _end(text, value))
    if instead:
        return Splice(start, end, f"\n{' ' * indent}".join(instead))
    if before.strip():
        raise CannotEdit("the first entry of a list item goes")
    return Splice(start - indent, min(end + 1, len(text)), "")


def _added_in_flow(text: str, node: Any, added: dict[str, Any]) -> Splice:
    last = node.end_mark.index - 1  # the brace
    end = len(text[:last].rstrip())
    inner = _flow(added)[1:-1]
    return Splice(end, last if node.value else end, f", {inner}" if node.value else inner)


def _block_scalar(text: str, node: Any, new: str) -> Splice:
    """A `|` text, line by line; its indentation stays."""
    start, end = node.start_mark.index, _end(text, node)
    head, _, body = text[start:end].partition("\n")
    first = next((line for line in body.splitlines() if line.strip()), "")
    indent = len(first) - len(first.lstrip(" "))
    if not indent or not new.strip() or new.startswith((" ", "\n")) or any(c.isdigit() for c in head):
        raise CannotEdit("a text is indented in a way of its own")
    head = ("|" if new.endswith("\n") else "|-") + head[1:].lstrip("+-")
    lines = [f"{' ' * indent}{line}" if line else "" for line in new.rstrip("\n").split("\n")]
    return Splice(start, end, "\n".join([head, *lines]))


# ---------------------------------------------------------------- marks


def _end(text: str, node: Any) -> int:
    """Behind the node's last character: a block's own mark stands behind what follows it too."""
    if isinstance(node, yaml.ScalarNode):
        if node.style in ("|", ">"):
            return len(text[: node.end_mark.index].rstrip())
        return int(node.end_mark.index)
    if node.flow_style or not node.value:
        return int(node.end_mark.index)
    last = node.value[-1]
    return _end(text, last[1] if isinstance(node, yaml.MappingNode) else last)


def _line_end(text: str, position: int) -> int:
    found = text.find("\n", position)
    return len(text) if found < 0 else found - int(text[found - 1] == "\r")


# ---------------------------------------------------------------- writing values


def _flow(value: Any, style: str | None = None) -> str:
    """*value* on one line."""
    if isinstance(value, str) and style == '"':
        return json.dumps(value, ensure_ascii=False)
    written: str = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return written.removesuffix("...\n").strip()


def _entry(name: str, value: Any, indent: int) -> str:
    """`name: value` for a block mapping at that indentation."""
    return f"{_flow(name)}:{_behind(value, indent, len(name))}"


def _behind(value: Any, indent: int, width: int) -> str:
    """What stands behind the colon of a key of that width: one line while it is short."""
    line = _flow(value)
    if not isinstance(value, dict | list) or indent + width + len(line) <= WIDEST_FLOW:
        return f" {line}"
    block: str = yaml.safe_dump(value, default_flow_style=False, sort_keys=False, width=float("inf"))
    return "".join(f"\n{' ' * (indent + 2)}{each}" for each in block.rstrip("\n").split("\n"))
