"""The scenarios that come with the project: readable, complete, and what they say they are."""

from pathlib import Path

import pytest

from sim.scenario import load, load_one
from sim.scenario.documents import read_documents
from sim.scenario.manifests import MODELLED_KINDS
from sim.scenario.model import RollingUpdate

CONFIGS = Path(__file__).parents[2] / "configs"
FOLDERS = [CONFIGS / "tutorial", CONFIGS / "tutorial" / "article", CONFIGS / "observed"]


@pytest.fixture(scope="module")
def tutorial():
    return {scenario.name: scenario for scenario in load(CONFIGS / "tutorial")}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_nothing_is_assumed(folder):
    """Every scenario says all that it depends on: no warning, one update, a load that outlasts it."""
    for scenario in load(folder):
        assert scenario.warnings == ()
        assert len(scenario.updates) == 1
        assert scenario.load.requests is not None or scenario.load.duration_s >= scenario.updates[0].at_s + 25


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*/manifests/*.yaml")), ids=lambda path: path.stem)
def test_manifests_are_plain_kubernetes(path):
    """`kubectl apply -f` takes them: no document of ours among them."""
    assert {document.kind for document in read_documents(path)} <= set(MODELLED_KINDS)


def test_one_reference_is_one_image():
    """An image that is built by its description is the same one in every scenario."""
    described = {}
    for folder in FOLDERS:
        for scenario in load(folder):
            for reference, image in scenario.images.items():
                assert described.setdefault(reference, image) == image


def test_the_stages_of_the_tutorial(tutorial):
    """Five stages and 4b, in their order."""
    assert [name.split("-")[1] for name in tutorial] == ["0", "1", "2", "3", "4", "4b"]
    for scenario in tutorial.values():
        assert scenario.load.client == "ab"
        assert scenario.load.connections == 10
        assert scenario.load.options["l"]
        assert scenario.load.options["r"]
    assert [scenario.load.keep_alive for scenario in tutorial.values()] == [
        False,
        False,
        True,
        True,
        True,
        True,
    ]


def test_stages_0_and_1_differ_by_draining_alone(tutorial):
    """Probe, hook and grace period are all that stage 1 adds."""
    naive = tutorial["tutorial-0-naive"].deployments[0].template.containers[0]
    draining = tutorial["tutorial-1-draining"].deployments[0].template.containers[0]
    assert (naive.readiness, naive.pre_stop) == (None, None)
    assert draining.readiness.file == "/www/healthy.html"
    assert draining.pre_stop.removes == ((0.0, "/www/healthy.html"),)
    assert naive.nginx == draining.nginx


def test_stages_2_and_3_differ_by_the_proxy_alone(tutorial):
    """The app is the same, the client's target is the proxy."""
    direct, proxied = tutorial["tutorial-2-keepalive"], tutorial["tutorial-3-proxy"]
    assert direct.deployments[0] == proxied.deployments[0]
    assert (direct.load.service, proxied.load.service) == ("myapp", "myapp-proxy")
    assert direct.load.options == proxied.load.options


def test_the_app_is_the_observed_one(tutorial):
    """Stage 2 is the case that a real cluster was watched with: same template, same strategy."""
    observed = load_one(CONFIGS / "observed" / "tutorial-ab-proxy.yaml")
    stage = tutorial["tutorial-3-proxy"]
    for ours, theirs in zip(stage.deployments, observed.deployments, strict=True):
        assert ours.template.containers == theirs.template.containers
    assert stage.deployments[0].strategy == observed.deployments[0].strategy


def test_what_makes_the_proxy_rollout_lossless(tutorial):
    """Stage 4 stops hard and alone; 4b drains, announces the end of connections, and has the time for it."""
    hard = tutorial["tutorial-4-proxy-rollout"]
    assert hard.updates[0].to.replicas == 1
    assert hard.images["rollsim/proxy:2.6-term"].stop_signal == "SIGTERM"
    soft = tutorial["tutorial-4b-proxy-rollout-lossless"]
    proxy = soft.updates[0].to
    container = proxy.template.containers[0]
    frontend = container.haproxy.frontends[0]
    assert proxy.strategy == RollingUpdate(max_surge=1, max_unavailable=0)
    assert proxy.replicas == 2
    assert container.readiness is not None
    assert soft.images[container.image].stop_signal == "SIGUSR1"
    assert frontend.idle_close_on_response
    longest_idle_s = max(frontend.timeout_http_keep_alive_s, frontend.timeout_http_request_s)
    assert proxy.template.termination_grace_period_s > container.pre_stop.duration_s + longest_idle_s + 2
