"""Files that are whole or not there: written aside, then renamed. Kubernetes objects as their text."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from sim.errors import InputError


@contextmanager
def set_aside(file: Path) -> Iterator[Path]:
    """A name beside *file* to write to; when the body ends well it is synced and takes *file*'s place.

    Raises
    ------
    OSError
        The disk takes no more, or the folder cannot be written to; it names *file*, which is as it was.
    """
    aside = file.with_name(f".{file.name}.{os.getpid()}.unfinished")
    try:
        yield aside
        with aside.open("rb") as stream:
            os.fsync(stream.fileno())
        aside.replace(file)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(
            error.errno, error.strerror, str(file)
        ) from None  # a full disk's own error names no file
    finally:
        with suppress(OSError):  # nothing is there, or nothing can be removed there
            aside.unlink()


def write_whole(file: Path, text: str, *, option: str) -> None:
    """Write *text* to *file*; see `save_whole`."""
    save_whole(file, lambda aside: aside.write_text(text, encoding="utf-8"), option=option)


def save_whole(file: Path, save: Callable[[Path], object], *, option: str) -> None:
    """Let *save* write what becomes *file*, which nobody ever sees in part.

    Raises
    ------
    InputError
        It cannot be written there, said of *option*.
    """
    if file.exists() and not file.is_file():
        raise InputError(f"{option} {file}: there is something that is no file; name another one")
    try:
        with set_aside(file) as aside:
            save(aside)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        raise InputError(f"{option} {file}: cannot be written: {reason}") from None


def save_figure(file: Path, figure: Any, *, option: str) -> None:
    """Draw *figure* into *file*, in the format that its name ends in; see `save_whole`."""
    kind = file.suffix.removeprefix(".") or "png"
    save_whole(file, lambda aside: figure.savefig(aside, format=kind), option=option)


class _Dumper(yaml.SafeDumper):
    """Texts of several lines as such: a nginx.conf can be read in the file."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    ),
)


def objects_yaml(objects: Iterable[Mapping[str, Any]]) -> str:
    """Each object as a document that begins with its own `---`."""
    return "".join(
        f"---\n{yaml.dump(dict(each), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)}"
        for each in objects
    )
