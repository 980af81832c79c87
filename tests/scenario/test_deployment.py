"""Deployments and pod templates: defaults, rounding, and what the API server says to bad ones."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.errors import InputError, UnsupportedInput
from sim.scenario.deployment import resolve_rolling_update
from sim.scenario.model import Recreate, RollingUpdate
from sim.scenario.pods import REFUSED_POD_FIELDS


def refused(files, part, error=InputError):
    with pytest.raises(error) as caught:
        files.load()
    message = str(caught.value)
    assert "\n" not in message
    assert part in message, message


def test_defaults(files):
    """What is not written is what the API server fills in."""
    del files.deployment["spec"]["replicas"]
    (deployment,) = files.load().deployments
    assert (deployment.replicas, deployment.min_ready_s, deployment.progress_deadline_s) == (1, 0, 600)
    assert deployment.strategy == RollingUpdate(max_surge=1, max_unavailable=0)
    assert deployment.template.termination_grace_period_s == 30
    probe = deployment.template.containers[0].readiness
    assert (probe.period_s, probe.timeout_s, probe.success_threshold, probe.failure_threshold) == (
        10,
        1,
        1,
        3,
    )


# ---------------------------------------------------------------- strategy


@pytest.mark.parametrize(
    ("surge", "unavailable", "replicas", "expected"),
    [
        ("25%", "25%", 4, (1, 1)),
        ("25%", "25%", 3, (1, 0)),
        ("25%", "25%", 1, (1, 0)),
        ("50%", "50%", 5, (3, 2)),
        (1, 0, 3, (1, 0)),
        (0, 1, 3, (0, 1)),
        ("0%", "25%", 3, (0, 1)),
        ("0%", "10%", 9, (0, 1)),
        ("100%", "0%", 3, (3, 0)),
        ("1%", "0%", 3, (1, 0)),
        ("200%", "100%", 2, (4, 2)),
        (0, 9, 3, (0, 3)),
        ("29%", "29%", 100, (29, 29)),
    ],
)
def test_surge_rounds_up_unavailable_down(surge, unavailable, replicas, expected):
    """Percentages round apart; what comes to none and none is one unavailable; no more than there are."""
    resolved = resolve_rolling_update(surge, unavailable, replicas)
    assert (resolved.max_surge, resolved.max_unavailable) == expected


@given(st.integers(0, 100), st.integers(0, 100), st.integers(1, 10_000))
def test_percentages_are_exact(surge, unavailable, replicas):
    """Integer arithmetic: no percentage of any size is off by one; never both zero."""
    resolved = resolve_rolling_update(f"{surge}%", f"{unavailable}%", replicas)
    assert resolved.max_surge == -(-surge * replicas // 100)
    assert resolved.max_unavailable in (math.floor(unavailable * replicas / 100 + 1e-9), 1)
    assert resolved.max_surge + resolved.max_unavailable > 0


def test_recreate(files):
    """Recreate has no numbers."""
    files.deployment["spec"]["strategy"] = {"type": "Recreate"}
    assert files.load().deployments[0].strategy == Recreate()
    files.deployment["spec"]["strategy"]["rollingUpdate"] = {"maxSurge": 1}
    refused(files, "strategy.rollingUpdate: may not be specified when strategy type is Recreate")


@pytest.mark.parametrize(
    ("rolling", "part"),
    [
        ({"maxSurge": 0, "maxUnavailable": 0}, "may not be 0 when maxSurge is 0"),
        ({"maxSurge": "0%", "maxUnavailable": "0%"}, "may not be 0 when maxSurge is 0"),
        ({"maxUnavailable": "101%"}, "must not be greater than 100%"),
        ({"maxSurge": -1}, "expected an integer of at least 0 or a percentage"),
        ({"maxSurge": "1"}, 'got "1"'),
        ({"maxSurge": "x%"}, "maxSurge"),
        ({"maxSurge": 1.5}, "maxSurge"),
        ({"maxSurge": True}, "maxSurge"),
        ({"surge": 1}, "rollingUpdate.surge: unknown field; did you mean maxSurge?"),
    ],
)
def test_bad_rolling_update(files, rolling, part):
    """As the API server refuses it, with the field."""
    files.deployment["spec"]["strategy"] = {"rollingUpdate": rolling}
    refused(files, part)


# ---------------------------------------------------------------- the Deployment's own fields


@pytest.mark.parametrize(
    ("field", "value", "part"),
    [
        ("replicas", -1, "spec.replicas: got -1, expected an integer of at least 0"),
        ("replicas", "3", 'spec.replicas: got "3", expected an integer'),
        ("replicas", 1.5, "spec.replicas"),
        ("replicas", True, "spec.replicas"),
        ("minReadySeconds", -1, "spec.minReadySeconds"),
        (
            "minReadySeconds",
            600,
            "progressDeadlineSeconds: got 600, must be greater than minReadySeconds (600)",
        ),
        ("selector", {}, "spec.selector: got an empty selector"),
        ("selector", None, "spec.selector: missing"),
        ("selector", {"matchLabels": {"app": "other"}}, "does not match the template's labels"),
        (
            "selector",
            {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["app"]}]},
            "does not match",
        ),
        ("template", None, "spec.template: missing"),
        ("replica", 3, "spec.replica: unknown field; did you mean replicas?"),
        (
            "strategy",
            {"type": "BlueGreen"},
            'strategy.type: got "BlueGreen", allowed: RollingUpdate, Recreate',
        ),
    ],
)
def test_bad_deployment(files, field, value, part):
    """One line with the field, what was read and what is allowed."""
    files.deployment["spec"][field] = value
    refused(files, part)


def test_match_expressions(files):
    """Expressions count as labels do."""
    files.deployment["spec"]["selector"]["matchExpressions"] = [
        {"key": "app", "operator": "In", "values": ["app", "x"]},
        {"key": "app", "operator": "Exists"},
        {"key": "tier", "operator": "DoesNotExist"},
        {"key": "app", "operator": "NotIn", "values": ["x"]},
    ]
    assert files.load().deployments[0].selector == {"app": "app"}


def test_paused_is_refused(files):
    """A paused Deployment would roll nothing out: not silently."""
    files.deployment["spec"]["paused"] = True
    refused(files, "spec.paused: not modelled", UnsupportedInput)


def test_ignored_on_purpose(files):
    """Fields that cannot change the answer are taken without a word."""
    files.deployment["spec"]["revisionHistoryLimit"] = 2
    files.deployment["metadata"] |= {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    files.pod.update({"serviceAccountName": "x", "nodeSelector": {"a": "b"}, "dnsPolicy": "ClusterFirst"})
    files.container.update({"resources": {"limits": {"cpu": "1"}}, "securityContext": {}})
    assert files.load().warnings == ()


# ---------------------------------------------------------------- pods


@pytest.mark.parametrize(("given_s", "taken_s"), [(0, 0), (45, 45), (-5, 1)])
def test_grace_period(files, given_s, taken_s):
    """Zero stays (immediate removal), a negative one becomes 1."""
    files.pod["terminationGracePeriodSeconds"] = given_s
    assert files.load().deployments[0].template.termination_grace_period_s == taken_s


@pytest.mark.parametrize("field", sorted(REFUSED_POD_FIELDS))
def test_refused_by_name(files, field):
    """What changes the answer and is not modelled is refused, with its name and a reason."""
    files.pod[field] = True if field.startswith(("host", "share")) else [{"name": "x"}]
    refused(files, f"spec.template.spec.{field}: not modelled: ", UnsupportedInput)


def test_native_sidecar(files):
    """A sidecar is an initContainer that restarts: refused by the same name."""
    files.pod["initContainers"] = [{"name": "mesh", "image": "mesh:1", "restartPolicy": "Always"}]
    refused(files, "native sidecars (restartPolicy: Always)", UnsupportedInput)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}}, None),
        (
            {"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}},
            "unscheduled",
        ),
        ({"topologySpreadConstraints": [{"maxSkew": 1}]}, "DoNotSchedule can leave a pod unscheduled"),
        ({"topologySpreadConstraints": [{"whenUnsatisfiable": "ScheduleAnyway"}]}, None),
        ({"restartPolicy": "Never"}, "a Deployment allows Always"),
        ({"containers": []}, "spec.containers: got an empty list"),
        ({"volumes": [{"name": "x", "hostPath": {}, "emptyDir": {}}]}, "more than one volume source"),
        ({"volumes": [{"name": "x", "floppy": {}}]}, "volumes[0].floppy: unknown volume source"),
        ({"terminationGracePeriodSeconds": "30"}, "expected an integer"),
        ({"graceSeconds": 3}, "spec.template.spec.graceSeconds: unknown field"),
    ],
)
def test_pod_fields(files, change, part):
    """Scheduling rules that can leave a pod pending are refused, preferences are not."""
    files.pod.update(change)
    if part is None:
        assert files.load().deployments
    else:
        refused(files, part)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"name": "Web"}, 'containers[0].name: got "Web", expected lower case'),
        ({"image": None}, "containers[0].image: missing"),
        ({"image": "${IMAGE}"}, "expected an image reference"),
        ({"image": "app:unknown"}, "got app:unknown, which the scenario does not describe; add spec.images"),
        ({"ports": [{"containerPort": 80, "hostPort": 80}]}, "hostPort: not modelled"),
        ({"ports": [{"containerPort": 0}]}, "expected an integer from 1 to 65535"),
        ({"imagePullPolicy": "Sometimes"}, "allowed: Always, IfNotPresent, Never"),
        ({"restartPolicy": "OnFailure"}, "containers[0].restartPolicy: not modelled"),
        ({"livenesProbe": {}}, "did you mean livenessProbe?"),
        (
            {"volumeMounts": [{"name": "nope", "mountPath": "/x"}]},
            "volumeMounts[0].name: got nope, expected one of",
        ),
        ({"env": [{"name": "A", "value": 1}]}, "expected a text (in quotes)"),
    ],
)
def test_bad_container(files, change, part):
    """Each with the container's place."""
    files.container.update(change)
    refused(files, part)


def test_two_containers_of_one_name(files):
    """Names are unique in a pod."""
    files.pod["containers"].append({"name": "web", "image": "app:red"})
    refused(files, "containers[1].name: got web, stands twice")


def test_sidecar_that_takes_no_traffic(files):
    """A described generic container beside the server is read."""
    files.pod["containers"].append({"name": "log", "image": "log:1", "ports": [{"containerPort": 9000}]})
    files.spec["images"]["log:1"] = {"server": "generic", "onStop": {"SIGTERM": {"exit": "atOnce"}}}
    assert [container.name for container in files.load().deployments[0].template.containers] == ["web", "log"]


def test_volumes_delay_the_start(files):
    """A pod has a volume unless it says that it wants no token."""
    files.config_map["data"] = {}
    files.pod.pop("volumes")
    files.container.pop("volumeMounts")
    files.container.pop("readinessProbe")
    assert files.load().deployments[0].template.has_volumes
    files.pod["automountServiceAccountToken"] = False
    assert not files.load().deployments[0].template.has_volumes


def test_stop_signal_field_is_named(files):
    """lifecycle.stopSignal has no effect on 1.34: said, and the image's signal counts."""
    files.container["lifecycle"] = {"stopSignal": "SIGQUIT"}
    scenario = files.load()
    assert any(
        "lifecycle.stopSignal: no effect in Kubernetes 1.34" in warning for warning in scenario.warnings
    )
    assert scenario.images["app:red"].stop_signal == "SIGTERM"
