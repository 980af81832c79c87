"""spec.update: images, restarts, changed manifests, one after the other."""

import copy

import pytest

from sim.errors import InputError, UnsupportedInput
from sim.scenario.model import UpdateAction


def refused(files, part, error=InputError):
    with pytest.raises(error) as caught:
        files.load()
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


def revision(deployment):
    return deployment.template.revision


def test_image(files):
    """A new image is a new pod template, the rest stays."""
    scenario = files.load()
    (update,) = scenario.updates
    assert (update.at_s, update.to.template.containers[0].image) == (5, "app:blue")
    assert revision(update.to) != revision(scenario.deployments[0])
    assert scenario.actions == (UpdateAction(at_s=5, deployment="app", container="web", image="app:blue"),)


def test_the_container_of_a_single_one_need_not_be_named(files):
    """With two of them it must be."""
    del files.spec["update"]["container"]
    assert files.load().updates[0].to.template.containers[0].image == "app:blue"
    files.pod["containers"].append({"name": "log", "image": "app:red"})
    refused(files, "update.container: got nothing, expected a container of app (web, log)")


def test_restart(files):
    """As `kubectl rollout restart`: an annotation makes the template a new one."""
    files.spec["update"] = {"deployment": "app", "restart": True, "at": "5s"}
    scenario = files.load()
    assert revision(scenario.updates[0].to) != revision(scenario.deployments[0])
    assert scenario.updates[0].to.template.containers == scenario.deployments[0].template.containers
    assert scenario.actions == (UpdateAction(at_s=5, deployment="app", restart=True),)


def test_manifests(files):
    """Changed manifests replace their objects; what they do not hold stays."""
    later = copy.deepcopy(files.deployment)
    later["spec"]["template"]["spec"]["containers"][0]["image"] = "app:blue"
    later["spec"]["minReadySeconds"] = 3
    files.write("v2.yaml", later)
    files.spec["update"] = {"manifests": ["v2.yaml"], "at": "5s"}
    scenario = files.load()
    (update,) = scenario.updates
    assert (update.to.min_ready_s, update.to.template.containers[0].image) == (3, "app:blue")
    assert scenario.actions[0].objects == (later,)


def test_the_same_again_starts_nothing(files):
    """A template equal to the old one is no rollout: said."""
    files.spec["update"]["image"] = "app:red"
    scenario = files.load()
    assert scenario.updates == ()
    assert any("starts no rollout" in note for note in scenario.warnings)


def test_rollback_is_an_update(files):
    """There and back again: the third state has the revision of the first."""
    files.spec["update"] = [
        {"deployment": "app", "image": "app:red", "at": "20s"},
        {"deployment": "app", "image": "app:blue", "at": "5s"},
    ]
    scenario = files.load()
    assert [update.at_s for update in scenario.updates] == [5, 20]
    assert revision(scenario.updates[1].to) == revision(scenario.deployments[0])


def test_several_deployments_at_once(files):
    """A list may name several Deployments."""
    proxy = files.with_proxy()
    proxy["spec"]["replicas"] = 2
    files.spec["update"] = [
        {"deployment": "app", "image": "app:blue", "at": "5s"},
        {"deployment": "proxy", "restart": True, "at": "5s"},
    ]
    assert [update.to.name for update in files.load().updates] == ["app", "proxy"]


def test_no_update(files):
    """A scenario without one is the steady state."""
    del files.spec["update"]
    assert files.load().updates == ()


def test_a_config_map_reaches_later_pods_only(files):
    """It starts no rollout by itself; pods of a later rollout read the new text."""
    later = copy.deepcopy(files.config_map)
    later["data"]["nginx.conf"] = later["data"]["nginx.conf"].replace("300", "7")
    files.write("conf-v2.yaml", later)
    files.spec["update"] = [
        {"manifests": ["conf-v2.yaml"], "at": "5s"},
        {"deployment": "app", "restart": True, "at": "10s"},
    ]
    scenario = files.load()
    first, second = scenario.updates
    assert revision(first.to) == revision(scenario.deployments[0])
    assert second.to.template.containers[0].nginx.keepalive_timeout_s == 7
    assert scenario.deployments[0].template.containers[0].nginx.keepalive_timeout_s == 300
    assert any("ConfigMap conf changes: running pods keep" in note for note in scenario.warnings)


@pytest.mark.parametrize(
    ("update", "part"),
    [
        (
            {"deployment": "nope", "image": "app:blue", "at": "5s"},
            'got "nope", expected a Deployment of the manifests (app)',
        ),
        (
            {"deployment": "app", "container": "x", "image": "app:blue", "at": "5s"},
            'got "x", expected a container of app (web)',
        ),
        (
            {"deployment": "app", "image": "app:green", "at": "5s"},
            "got app:green, which the scenario does not describe",
        ),
        ({"deployment": "app", "image": "app:blue"}, "update.at: missing"),
        ({"deployment": "app", "at": "5s"}, "got none of image, restart and manifests"),
        ({"deployment": "app", "image": "a", "restart": True, "at": "5s"}, "got image and restart of"),
        ({"deployment": "app", "restart": False, "at": "5s"}, "restart: got false, expected true"),
        ({"manifests": ["nope.yaml"], "at": "5s"}, "manifests: got nope.yaml, but there is no"),
        ({"manifests": ["v2.yaml"], "deployment": "app", "at": "5s"}, "update.deployment: unknown field"),
        ({"image": "app:blue", "at": "5s"}, "update.deployment: missing"),
        ([{"deployment": "app", "image": "app:blue", "at": "x"}], 'update[0].at: got "x"'),
        ("now", 'update: got "now", expected a mapping'),
    ],
)
def test_bad_update(files, update, part):
    """One line with the field, what was read and what is there."""
    files.write("v2.yaml", files.deployment)
    files.spec["update"] = update
    refused(files, part)


def test_the_selector_is_immutable(files):
    """As the API server says to a changed one."""
    later = copy.deepcopy(files.deployment)
    later["spec"]["selector"]["matchLabels"] = {"app": "app2"}
    later["spec"]["template"]["metadata"]["labels"] = {"app": "app2"}
    files.write("v2.yaml", later)
    files.spec["update"] = {"manifests": ["v2.yaml"], "at": "5s"}
    refused(files, "spec.selector: field is immutable")


def test_what_an_update_may_not_bring(files):
    """A new Deployment is not an update, a changed Service is not modelled."""
    other = copy.deepcopy(files.deployment)
    other["metadata"]["name"] = "other"
    files.write("v2.yaml", other)
    files.spec["update"] = {"manifests": ["v2.yaml"], "at": "5s"}
    refused(files, "the update adds this Deployment")
    service = copy.deepcopy(files.service)
    service["spec"]["sessionAffinity"] = "ClientIP"
    files.write("v2.yaml", service)
    refused(files, "a change of Service app", UnsupportedInput)


def test_an_update_after_the_load(files):
    """Nobody would see it: said."""
    files.spec["update"]["at"] = "60s"
    assert any("the load ends at 40 s" in note for note in files.load().warnings)
