"""For the tests that need the lab: a namespace of its own for each."""

import uuid
from pathlib import Path

import pytest
import yaml

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


@pytest.fixture
def kubeconfig_of(lab, namespace, tmp_path):
    """A kubeconfig with one context, of a new service account in the test's namespace that has no rights yet."""

    def make(who: str, context: str) -> Path:
        lab.kubectl("-n", namespace, "create", "serviceaccount", who)
        token = lab.kubectl("-n", namespace, "create", "token", who).strip()
        config = yaml.safe_load(lab.kubeconfig.read_text())
        config["users"] = [{"name": who, "user": {"token": token}}]
        for each in config["contexts"]:
            each["name"], each["context"]["user"] = context, who
        config["current-context"] = context
        path = tmp_path / "kubeconfig"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump(config))
        return path

    return make
