"""What all tests share: random streams that depend on the test and on nothing else, and the running lab."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings
from seeds import SALT, seed_of

from sim.scenario import load_one
from sim.scenario.model import Scenario
from sim.streams import Streams
from validation.lab.cluster import DEFAULT_NAME, Lab
from validation.lab.commands import LabError

settings.register_profile("rollsim", deadline=None, derandomize=not SALT, print_blob=True)
settings.load_profile("rollsim")  # a deadline would judge the machine; a salt tries other examples


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Tests of the lab share one cluster and measure times: one after the other. Others take all cores."""
    asked = config.option.markexpr
    return 0 if "live" in asked and "not live" not in asked else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: at the end of a run no core waits for the other's last long file."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture
def streams(request: pytest.FixtureRequest) -> Streams:
    """Streams seeded from the test's id."""
    return Streams(seed_of(request.node.nodeid))


@pytest.fixture
def tutorial() -> Callable[[str], Scenario]:
    """A stage of the tutorial by the name of its file."""
    folder = Path(__file__).parent.parent / "configs" / "tutorial"
    return lambda stage: load_one(folder / f"{stage}.yaml")


@pytest.fixture(scope="session")
def lab() -> Lab:
    """The running cluster (ROLLSIM_LAB, or the default one): `rollsim lab up` brings it up beforehand.

    A missing one is a failure: a skipped live test would prove nothing.
    """
    try:
        return Lab.find(os.environ.get("ROLLSIM_LAB", DEFAULT_NAME))
    except LabError as error:
        pytest.fail(f"{error}")
