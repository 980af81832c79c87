"""What all tests share: random streams that depend on the test and on nothing else."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sim.scenario import load_one
from sim.scenario.model import Scenario
from sim.streams import Streams

SALT = os.environ.get("ROLLSIM_TEST_SALT", "")
"""Another salt gives every test other draws; all must still pass."""


def seed_of(nodeid: str) -> int:
    """The seed of one test: a hash of its id and the salt."""
    return int.from_bytes(hashlib.sha256(f"{nodeid} {SALT}".encode()).digest()[:4])


@pytest.fixture
def streams(request: pytest.FixtureRequest) -> Streams:
    """Streams seeded from the test's id."""
    return Streams(seed_of(request.node.nodeid))


@pytest.fixture
def tutorial() -> Callable[[str], Scenario]:
    """A stage of the tutorial by the name of its file."""
    folder = Path(__file__).parent.parent / "configs" / "tutorial"
    return lambda stage: load_one(folder / f"{stage}.yaml")
