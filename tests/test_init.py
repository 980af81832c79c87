"""A first scenario for somebody's manifests: what is guessed, and that it predicts as it is."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sim import InputError, load_one, simulate
from sim.init_guess import guess_scenario, guessed_scenario
from sim.init_text import in_short, scenario_text
from sim.scenario import from_documents
from sim.scenario.documents import Document, read_documents

CONFIGS = Path(__file__).parent.parent / "configs"
SCENARIOS = sorted([*CONFIGS.glob("matrix/*.yaml"), *CONFIGS.glob("tutorial/*.yaml")])


def service(name="web", port=80, target=8080, **spec):
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": name}, "ports": [{"port": port, "targetPort": target}], **spec},
    }


def deployment(name="web", image="web:1", **container):
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": name, "image": image, **container}]},
            },
        },
    }


def documents(*objects):
    return [Document("app.yaml", index, data) for index, data in enumerate(objects)]


def init(*arguments, cwd, stdin=None):
    command = [sys.executable, "-c", "from sim.cli import main; main()", "init", *arguments]
    return subprocess.run(
        command, input=stdin, capture_output=True, text=True, timeout=120, check=False, cwd=cwd
    )


@pytest.mark.parametrize(
    ("image", "container", "server"),
    [
        ("nginx:1.27", {}, "nginx"),
        ("team/site", {"command": ["nginx", "-g", "daemon off;"]}, "go-http"),  # on 8080: its conf is unknown
        ("team/shop@sha256:0a", {"env": [{"name": "JAVA_OPTS", "value": "-Xmx1g"}]}, "spring-boot"),
        ("python:3.12", {"command": ["gunicorn", "app:app"]}, "gunicorn"),
        ("python:3.12", {"args": ["uvicorn", "main:app"]}, "uvicorn"),
        ("node:22-alpine", {}, "node"),
        ("r.example:5000/golang-app:2", {}, "go-http"),
        ("mongo-express-like", {}, "node"),
        ("whatever", {}, "go-http"),
    ],
)
def test_what_a_container_runs(image, container, server):
    """By the official image, its command, its variables or its name; else the bad case, and it says so."""
    target = 80 if server == "nginx" else 8080
    guess = guess_scenario(documents(service(target=target), deployment(image=image, **container)))
    assert guess.old_image.server == server
    assert guess.old_image.why in scenario_text(guess, ["app.yaml"])


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
def test_it_predicts_as_it_is(file, tmp_path):
    """For the manifests of every scenario that comes with the project: read, and the load outlasts the rollout."""
    [given] = [found for found in read_documents(file) if found.kind == "Scenario"]
    manifests = [str(file.parent / name) for name in given.data["spec"]["manifests"]]
    objects = [found for name in manifests for found in read_documents(name)]
    (tmp_path / "written.yaml").write_text(scenario_text(guess_scenario(objects), manifests))
    scenario = load_one(tmp_path / "written.yaml")
    assert scenario.updates
    assert not simulate(scenario, seed=1).load_ended_too_soon


def test_the_load_goes_through_the_proxy_in_front():
    """A HAProxy that sends to the app's Service is what clients ask; the app is what is updated."""
    folder = CONFIGS / "tutorial" / "manifests"
    guess = guess_scenario([*read_documents(folder / "proxy.yaml"), *read_documents(folder / "app.yaml")])
    assert (guess.deployment, guess.service, guess.through) == ("myapp", "myapp-proxy", "myapp-proxy")
    assert guess.others == ("myapp-proxy",)


def test_a_web_server_is_chosen_before_a_data_store():
    """Whatever comes first in the files."""
    store = (service("redis", 6379, 6379), deployment("redis", "redis:7"))
    guess = guess_scenario(documents(*store, service(), deployment()))
    assert (guess.deployment, guess.others) == ("web", ("redis",))
    assert guess_scenario(documents(*store, service(), deployment()), deployment="redis").service == "redis"


def test_a_hook_that_cannot_be_read_is_stated(tmp_path):
    """With the sleeps that stand in it as its time."""
    hook = {
        "preStop": {"exec": {"command": ["/drain.sh"]}},
        "postStart": {"exec": {"command": ["/warm", "up"]}},
    }
    shell = {"preStop": {"exec": {"command": ["sh", "-c", "curl -s localhost/drain; sleep 7"]}}}
    guess = guess_scenario(
        documents(service(), deployment(lifecycle=hook), deployment("worker", "worker:1", lifecycle=shell))
    )
    assert [(each.key, each.duration_s) for each in guess.hooks] == [
        ("web/web/preStop", 5.0),
        ("web/web/postStart", 5.0),
        ("worker/worker/preStop", 7.0),
    ]


def test_an_ingress_and_an_autoscaler_are_left_out():
    """Most charts have them: the guess says that it predicts without, the file too."""
    more = [
        {"apiVersion": "v1", "kind": kind, "metadata": {"name": "web"}}
        for kind in ("Ingress", "HorizontalPodAutoscaler")
    ]
    objects = documents(service(), deployment(), *more)
    guess = guess_scenario(objects)
    assert guess.left_out == ("HorizontalPodAutoscaler", "Ingress")
    assert any(line.startswith("without HorizontalPodAutoscaler, Ingress") for line in in_short(guess))
    [scenario] = from_documents("-", guessed_scenario(guess, objects))
    assert [warning.partition(":")[2][:12] for warning in scenario.warnings] == [
        " Ingress web",
        " HorizontalP",
    ]


def test_a_slow_rollout_gets_a_long_load():
    """Six pods, two at a time, each half a minute to Ready: the load outlasts them."""
    slow = deployment(readinessProbe={"tcpSocket": {"port": 8080}, "initialDelaySeconds": 30})
    slow["spec"]["replicas"] = 6
    guess = guess_scenario(documents(service(), slow))
    assert guess.rollout_s > 60
    assert guess.duration_s > 1.3 * guess.rollout_s


@pytest.mark.parametrize("image", ["web:1", "a.b:5000/web", "a.b:5000/c/web:next", "web@sha256:00ff"])
def test_the_new_image_is_another_reference(image):
    """A tag of its own, valid as a reference, also where a registry has a port."""
    guess = guess_scenario(documents(service(), deployment(image=image)))
    assert guess.new_image not in ("", image)
    assert guess.new_image.rpartition(":")[0].endswith("web")


@pytest.mark.parametrize(
    ("objects", "part"),
    [
        ([service()], "no Deployment"),
        ([deployment()], "no Service"),
        ([service(clusterIP="None"), deployment()], "no Service (that is not headless)"),
        (
            [service(), deployment(), {"apiVersion": "apps/v1", "kind": "StatefulSet"}],
            "StatefulSet is not modelled",
        ),
        ([{"apiVersion": "rollsim/v1", "kind": "Scenario"}], "a Scenario is there already"),
        ([service(), {**deployment(), "spec": None}], "no Deployment with a container"),
        ([service(), deployment(readinessProbe={"httpGet": {"path": "/"}})], "readinessProbe"),
    ],
)
def test_what_cannot_be_guessed_is_one_line(objects, part):
    """It names what is missing, or is the reader's own complaint."""
    with pytest.raises(InputError) as caught:
        guess_scenario(documents(*objects))
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nothing_is_overwritten(tmp_path):
    """An existing file stays unless --force is given."""
    (tmp_path / "app.yaml").write_text(yaml.safe_dump_all([service(), deployment()]))
    assert init("app.yaml", cwd=tmp_path).returncode == 0
    first = (tmp_path / "scenario.yaml").read_text()
    (tmp_path / "scenario.yaml").write_text(first + "# mine\n")
    refused = init("app.yaml", cwd=tmp_path)
    assert refused.returncode == 2
    assert "--force" in refused.stderr
    assert (tmp_path / "scenario.yaml").read_text().endswith("# mine\n")
    assert init("app.yaml", "--force", cwd=tmp_path).returncode == 0
    assert (tmp_path / "scenario.yaml").read_text() == first
    assert {path.name for path in tmp_path.iterdir()} == {"app.yaml", "scenario.yaml"}


def test_standard_input_is_kept_in_the_file(tmp_path):
    """What came through a pipe is not there again: the objects stand behind the Scenario."""
    rendered = yaml.safe_dump_all([service(), deployment()])
    done = init("-", "-o", "-", cwd=tmp_path, stdin=rendered)
    assert done.returncode == 0, done.stderr
    (tmp_path / "whole.yaml").write_text(done.stdout)
    assert load_one(tmp_path / "whole.yaml").deployments[0].name == "web"


def test_a_folder_is_named_as_one(tmp_path):
    """The file refers to the folder, relative to where it stands."""
    (tmp_path / "k8s").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "k8s" / "all.yaml").write_text(yaml.safe_dump_all([service(), deployment()]))
    assert init("k8s", "-o", "out/s.yaml", cwd=tmp_path).returncode == 0
    assert (
        "manifests: [../k8s]" in (tmp_path / "out" / "s.yaml").read_text()
        or "../k8s" in (tmp_path / "out" / "s.yaml").read_text()
    )
    assert load_one(tmp_path / "out" / "s.yaml").name == "web"
