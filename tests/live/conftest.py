"""For the tests that need the lab: a namespace of its own for each."""

import uuid
from pathlib import Path

import pytest

LABEL = "app.kubernetes.io/managed-by=rollsim-tests"


def pytest_collection_modifyitems(items):
    """Whatever stands in this folder needs the lab."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture
def namespace(lab):
    """A namespace with a name of its own; deleted with all that is in it."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    lab.kubectl("create", "namespace", name)
    lab.kubectl("label", "namespace", name, LABEL)
    yield name
    lab.kubectl("delete", "namespace", name, "--timeout=100s")  # waited for: it holds node ports
