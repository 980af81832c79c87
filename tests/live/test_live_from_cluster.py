"""`predict --from-cluster` on the lab: what it reads is what was applied, with the rights of the shipped Role alone."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sim.init_guess import guess_scenario, guessed_scenario
from sim.scenario import from_documents, load_one
from sim.scenario.documents import Document, read_documents
from validation.lab.commands import CommandFailed

CONFIGS = Path(__file__).parents[2] / "configs"
WHO = "rollsim-reader"

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def applied(lab, namespace):
    """The tutorial's app and proxy without their node ports; their pods never start: only objects are read."""
    objects = []
    for found in (
        document
        for file in ("app.yaml", "proxy.yaml")
        for document in read_documents(CONFIGS / "tutorial" / "manifests" / file)
    ):
        data = found.data
        if data["kind"] == "Service":
            data["spec"]["type"] = "ClusterIP"
            for port in data["spec"]["ports"]:
                port.pop("nodePort", None)
        if data["kind"] == "Deployment":
            for container in data["spec"]["template"]["spec"]["containers"]:
                container |= {"image": f"rollsim-none/{container['name']}:1", "imagePullPolicy": "Never"}
        objects.append(data)
    lab.kubectl("-n", namespace, "apply", "-f", "-", input=yaml.safe_dump_all(objects))
    return objects


@pytest.fixture
def reader(lab, namespace, kubeconfig_of):
    """A kubeconfig whose user has the Role and nothing else."""
    lab.kubectl(
        "-n", namespace, "apply", "-f", "-", input=(CONFIGS / "rbac" / "from-cluster.yaml").read_text()
    )
    path = kubeconfig_of(WHO, "reader")
    lab.kubectl(
        "-n", namespace, "create", "rolebinding", WHO, f"--role={WHO}", f"--serviceaccount={namespace}:{WHO}"
    )
    return path


def unhashed(deployment):
    """Without the hash of the raw template: the API server fills in what nobody wrote."""
    return replace(deployment, template=replace(deployment.template, revision=""))


def test_a_live_deployment_is_predicted(lab, namespace, applied, reader, tmp_path):
    """The same Deployments and Services as from the files; the scenario is kept; a Secret cannot be read."""
    with pytest.raises(CommandFailed):
        lab.kubectl(
            "auth",
            "can-i",
            "get",
            "secrets",
            "-n",
            namespace,
            f"--as=system:serviceaccount:{namespace}:{WHO}",
        )
    command = [sys.executable, "-c", "from sim.cli import main; main()", "predict", "--runs", "3", "--json"]
    command += ["--from-cluster", "deployment/myapp", "-n", namespace, "--context", "reader"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"KUBECONFIG": str(reader)},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["scenario"] == "myapp"
    live = load_one(tmp_path / "myapp.rollsim.yaml")
    documents = [Document("files", index, data) for index, data in enumerate(applied)]
    [local] = from_documents("files", guessed_scenario(guess_scenario(documents), documents))
    assert sorted(map(unhashed, live.deployments), key=lambda d: d.name) == sorted(
        map(unhashed, local.deployments), key=lambda d: d.name
    )
    assert {each.name: each for each in live.services} == {each.name: each for each in local.services}
    assert live.load.service == "myapp-proxy"
