"""The files of one scenario as they were when a sweep began: what a worker reads, on whatever machine it runs.

A file that is edited while a sweep is under way changes nothing in it, and a Dask worker needs no copy of the
user's folder.
"""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from sim.errors import InputError
from sim.scenario import load_one
from sim.scenario.documents import STDIN, is_folder, read_documents
from sim.scenario.model import Scenario
from sim.scenario.overrides import Overrides
from sim.scenario.timing import Timing, load_timing, profile_path

Sets = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioFiles:
    """A scenario, the manifests and the timing profile that it names, by absolute path."""

    given: str
    """The scenario's path as the user gave it."""
    path: str
    files: tuple[tuple[str, bytes], ...]

    @classmethod
    def read(cls, path: Path | str, variants: Sequence[Sets] = ({},)) -> "ScenarioFiles":
        """The files of *path*, with those that any of the overrides *variants* makes it name.

        Raises
        ------
        InputError
            The scenario cannot be read; with *variants*, one of them makes it unreadable.
        """
        if str(path) == STDIN:
            raise InputError("-: expected a file: its scenario is read more than once")
        if is_folder(path):
            raise InputError(f"{path}: is a folder, expected the file of one scenario")
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - `..` stays lexical, as the reader takes it
        found = {absolute: _bytes(absolute)}
        for sets in variants:
            found |= {name: _bytes(name) for name in _named(absolute, str(path), sets)}
        files = tuple(sorted((str(name), data) for name, data in found.items()))
        return cls(given=str(path), path=str(absolute), files=files)

    def load(self, sets: Sets) -> tuple[Scenario, Timing]:
        """The scenario with *sets*, and its timing profile.

        Raises
        ------
        InputError
            As `sim.load`, with the user's own paths.
        """
        with tempfile.TemporaryDirectory(prefix="rollsim-") as root:
            for name, data in self.files:
                copy = _below(root, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(data)
            here = _below(root, self.path)
            try:
                scenario = load_one(here, sets)
                timing = load_timing(scenario.timing, beside=here.parent)
            except InputError as error:
                raise type(error)(self._in_users_words(str(error), root)) from None
        return scenario, timing

    def _in_users_words(self, message: str, root: str) -> str:
        """Paths as they would be without the copy: relative where the scenario was given so."""
        folder = Path(self.given).parent
        users = "" if folder == Path() else f"{folder}/"
        return message.replace(f"{_below(root, self.path).parent}/", users).replace(root, "")

    @property
    def digest(self) -> str:
        total = hashlib.sha256(self.path.encode())
        for name, data in self.files:
            total.update(f"\n{os.path.relpath(name, Path(self.path).parent)} {len(data)}\n".encode())
            total.update(data)
        return total.hexdigest()


_WITHOUT_ROWS: Final = frozenset(
    "commands advise bounds cli completion progress plots lanes lane_axes pictures comparison advice".split()  # noqa: SIM905
)
"""Folders and modules that print, draw or advise: no row depends on them."""


@cache
def model_digest() -> str:
    """What the results depend on beside the files: the model's own code and the shipped profiles."""
    package = Path(__file__).parent.parent
    total = hashlib.sha256()
    profiles = (
        package / "_timing" if (package / "_timing").is_dir() else package.parent / "configs" / "timing"
    )
    code = [
        file
        for file in sorted(package.rglob("*.py"))
        if file.parent.name not in _WITHOUT_ROWS and file.stem not in _WITHOUT_ROWS
    ]
    for file in [*code, *sorted(profiles.glob("*.yaml"))]:
        total.update(f"{file.name} ".encode() + file.read_bytes())
    return total.hexdigest()


def _below(root: str, name: str) -> Path:
    return Path(root, *Path(name).parts[1:])


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _named(scenario: Path, given: str, sets: Sets) -> Iterator[Path]:
    """The files that a scenario names: where it is malformed, loading it will say so."""
    load_one(given, sets)
    for document in read_documents(given):
        if document.kind != "Scenario":
            continue
        spec = Overrides.parse(sets).for_scenario(document).data["spec"]
        updates = spec.get("update") or []
        for part in [spec, *(updates if isinstance(updates, list) else [updates])]:
            for name in part.get("manifests") or []:
                yield from _yaml_files(scenario.parent / name)
        yield from _profiles(str(spec.get("timing") or "defaults"), scenario.parent)


def _yaml_files(path: Path) -> list[Path]:
    if path.is_dir():
        path = Path(os.path.normpath(path))
        return [file for file in path.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file()]
    return [Path(os.path.normpath(path))]


def _profiles(name: str, beside: Path, seen: tuple[Path, ...] = ()) -> Iterator[Path]:
    """The user's own timing profile and those it is based on; the shipped ones come with the model."""
    path = Path(os.path.normpath(profile_path(name, beside=beside)))
    if path != Path(os.path.normpath(beside / name)) or path in seen:
        return  # of a circle, loading it will say so
    yield path
    for document in read_documents(path):
        if document.data.get("base"):
            yield from _profiles(str(document.data["base"]), path.parent, (*seen, path))
