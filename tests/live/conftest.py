"""One running lab for all live tests, and a namespace of its own for each.

The cluster is brought up beforehand (`rollsim lab up`); ROLLSIM_LAB names another than the default one.
"""

import os
import uuid
from pathlib import Path

import pytest

from validation.lab.cluster import DEFAULT_NAME, Lab
from validation.lab.commands import LabError

LABEL = "app.kubernetes.io/managed-by=rollsim-tests"


def pytest_collection_modifyitems(items):
    """Whatever stands in this folder needs the lab."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def lab():
    """The running cluster. A missing one is a failure: a skipped live test would prove nothing."""
    try:
        return Lab.find(os.environ.get("ROLLSIM_LAB", DEFAULT_NAME))
    except LabError as error:
        pytest.fail(f"{error}")


@pytest.fixture
def namespace(lab):
    """A namespace with a name of its own; deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", name)
    lab.kubectl("label", "namespace", name, LABEL)
    yield name
    lab.kubectl("delete", "namespace", name, "--timeout=100s")  # waited for: it holds node ports
