"""placeholder"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from sim.scenario.documents import Document


@dataclass(frozen=True)
class Overrides:
    items: tuple[tuple[str, Any], ...] = ()

    @classmethod
    def parse(cls, sets: Sequence[str] | Mapping[str, Any]) -> "Overrides":
        return cls()

    def for_scenario(self, document: Document) -> Document:
        return document

    def for_objects(self, documents: Sequence[Document]) -> None:
        pass
