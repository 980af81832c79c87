"""Overrides as a patch: a unified diff of the user's own files, for `git apply` or `patch -p1`."""

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sim.advise.text_edit import CannotEdit, edited
from sim.errors import InputError
from sim.scenario.documents import Document, documents_in, read_documents
from sim.scenario.overrides import Overrides
from sim.sweep.files import ScenarioFiles

NO_NEWLINE = "\\ No newline at end of file\n"


def patch_for(files: ScenarioFiles, sets: Mapping[str, Any]) -> str:
    """The diff that makes *sets* in the files, with paths relative to the working directory.

    Raises
    ------
    CannotEdit
        A file is written in a way that cannot be edited in place, or has changed since it was read.
    """
    old = {name: _documents(name, data) for name, data in files.files if _may_change(name, files)}
    new = _with(old, sets, files)
    parts = []
    for name, documents in new.items():
        if [d.data for d in documents] == [d.data for d in old[name]]:
            continue
        before = dict(files.files)[name].decode("utf-8")
        after = edited(before, old[name], documents)
        _check(after, name, documents)
        parts.append(_diff(before, after, name))
    return "".join(parts)


def _may_change(name: str, files: ScenarioFiles) -> bool:
    return any(document.kind != "TimingProfile" for document in _documents(name, dict(files.files)[name]))


def _documents(name: str, data: bytes) -> list[Document]:
    if Path(name).read_bytes() != data:
        raise CannotEdit(f"{name} has changed in the meantime")
    return read_documents(name)


def _with(
    old: Mapping[str, list[Document]], sets: Mapping[str, Any], files: ScenarioFiles
) -> dict[str, list[Document]]:
    """Every file's documents with the overrides, as the reader applies them."""
    overrides = Overrides.parse(sets)
    flat = [(name, document) for name, documents in old.items() for document in documents]
    objects = iter(overrides.for_objects([d for name, d in flat if not _is_scenario(name, d, files)]))
    changed: dict[str, list[Document]] = {name: [] for name in old}
    for name, document in flat:
        new = overrides.for_scenario(document) if _is_scenario(name, document, files) else next(objects)
        changed[name].append(new)
    return changed


def _is_scenario(name: str, document: Document, files: ScenarioFiles) -> bool:
    return name == files.path and document.kind == "Scenario"


def _check(text: str, name: str, wanted: list[Document]) -> None:
    """Read the new text back: it must say what the overrides say, and nothing else."""
    try:
        got = [document.data for document in documents_in(text, name)]
    except InputError as error:
        raise CannotEdit(str(error)) from None
    if got != [document.data for document in wanted]:
        raise CannotEdit(f"{name} is written in a way that cannot be edited in place")


def _diff(before: str, after: str, name: str) -> str:
    shown = os.path.relpath(name)
    if shown.startswith(".."):
        shown = name.lstrip("/")
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{shown}", f"b/{shown}"
    )
    return "".join(line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}" for line in lines)
