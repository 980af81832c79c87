"""Probes and hooks in a container: the API server's checks, the probe's file, what the scenario states."""

import pytest

from sim.errors import InputError, UnsupportedInput
from sim.scenario.model import HookKind, ProbeKind


def container_of(scenario, index=0):
    return scenario.deployments[0].template.containers[index]


def refused(files, part, error=InputError):
    with pytest.raises(error) as caught:
        files.load()
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


# ---------------------------------------------------------------- probes


@pytest.mark.parametrize(
    ("probe", "kind", "file"),
    [
        ({"httpGet": {"path": "/healthy.html", "port": 80}}, ProbeKind.HTTP_GET, "/www/healthy.html"),
        ({"httpGet": {"port": 80}}, ProbeKind.HTTP_GET, "/www/index.html"),
        ({"httpGet": {"path": "healthy.html?x=1", "port": 80}}, ProbeKind.HTTP_GET, "/www/healthy.html"),
        ({"httpGet": {"path": "/healthy.html", "port": 81}}, ProbeKind.HTTP_GET, None),
        ({"tcpSocket": {"port": 80}}, ProbeKind.TCP_SOCKET, None),
        ({"grpc": {"port": 80}}, ProbeKind.GRPC, None),
        ({"exec": {"command": ["cat", "/tmp/healthy"]}}, ProbeKind.EXEC, "/tmp/healthy"),
        ({"exec": {"command": ["test", "-f", "/tmp/healthy"]}}, ProbeKind.EXEC, "/tmp/healthy"),
        ({"exec": {"command": ["[", "-e", "/tmp/healthy", "]"]}}, ProbeKind.EXEC, "/tmp/healthy"),
        ({"exec": {"command": ["sh", "-c", "[ -f /tmp/healthy ]"]}}, ProbeKind.EXEC, "/tmp/healthy"),
        ({"exec": {"command": ["/bin/true"]}}, ProbeKind.EXEC, None),
    ],
)
def test_kind_and_file(files, probe, kind, file):
    """The file is found through nginx's root, or in the command."""
    files.container["readinessProbe"] = probe
    read = container_of(files.load()).readiness
    assert (read.kind, read.file) == (kind, file)


def test_zero_is_the_default(files):
    """The API server reads 0 as not given."""
    files.container["readinessProbe"] |= {
        "periodSeconds": 0, "timeoutSeconds": 0, "successThreshold": 0, "failureThreshold": 0,
    }  # fmt: skip
    probe = container_of(files.load()).readiness
    assert (probe.period_s, probe.timeout_s, probe.success_threshold, probe.failure_threshold) == (
        10,
        1,
        1,
        3,
    )


def test_named_port(files):
    """A probe may name one of its container's ports."""
    files.container["ports"] = [{"name": "http", "containerPort": 80}]
    files.container["readinessProbe"]["httpGet"]["port"] = "http"
    assert container_of(files.load()).readiness.port == 80
    files.container["readinessProbe"]["httpGet"]["port"] = "https"
    refused(
        files, 'httpGet.port: got "https", expected a number or one of the container\'s named ports (http)'
    )


@pytest.mark.parametrize(
    ("which", "change", "part"),
    [
        ("readinessProbe", {"periodSeconds": -1}, "periodSeconds: got -1, expected an integer of at least 0"),
        ("readinessProbe", {"tcpSocket": {"port": 80}}, "got httpGet and tcpSocket, expected exactly one of"),
        ("readinessProbe", {"httpGet": None}, "readinessProbe: got none, expected exactly one of"),
        ("readinessProbe", {"httpGet": {"port": 0}}, "expected an integer from 1 to 65535"),
        ("readinessProbe", {"httpGet": {"port": 80, "host": "other"}}, "host: not modelled"),
        ("readinessProbe", {"terminationGracePeriodSeconds": 5}, "must not be set for a readiness probe"),
        ("readinessProbe", {"period": 5}, "period: unknown field; did you mean periodSeconds?"),
        ("livenessProbe", {"successThreshold": 2}, "successThreshold: got 2, must be 1 for a livenessProbe"),
        ("startupProbe", {"successThreshold": 2}, "must be 1 for a startupProbe"),
        ("livenessProbe", {"terminationGracePeriodSeconds": 0}, "expected an integer of at least 1"),
        ("readinessProbe", {"httpGet": None, "exec": {"command": []}}, "expected at least 1 item"),
        (
            "readinessProbe",
            {"httpGet": None, "exec": {"command": ["test", "!", "-f", "/x"]}},
            "cannot be read",
        ),
        ("readinessProbe", {"httpGet": None, "exec": {"command": ["cat", "x"]}}, "working directory"),
    ],
)
def test_bad_probe(files, which, change, part):
    """Minimums, thresholds and exactly one handler, as the API server has them."""
    files.container[which] = {"httpGet": {"port": 80}} | change
    refused(files, part)


def test_a_command_that_only_its_image_knows(files):
    """Taken to succeed while the server listens, and said."""
    files.container["readinessProbe"] = {"exec": {"command": ["pg_isready"]}}
    assert any("pg_isready" in warning for warning in files.load().warnings)


# ---------------------------------------------------------------- hooks


def with_hook(files, hook, name="preStop", **pod):
    files.container["lifecycle"] = {name: hook}
    files.pod.update(pod)


def test_sleep(files):
    """A sleep is 0 to the grace period long."""
    with_hook(files, {"sleep": {"seconds": 5}})
    hook = container_of(files.load()).pre_stop
    assert (hook.kind, hook.duration_s) == (HookKind.SLEEP, 5)
    with_hook(files, {"sleep": {"seconds": 0}})
    assert container_of(files.load()).pre_stop.duration_s == 0


@pytest.mark.parametrize(("seconds", "grace_s"), [(31, 30), (-1, 30), (1, 0), (2, -1)])
def test_sleep_beyond_the_grace_period(files, seconds, grace_s):
    """Refused by the API server."""
    with_hook(files, {"sleep": {"seconds": seconds}}, terminationGracePeriodSeconds=grace_s)
    refused(files, f"preStop.sleep.seconds: got {seconds}, expected an integer from 0 to")


def test_exec(files):
    """The probe's file is known through nginx's root."""
    with_hook(files, {"exec": {"command": ["/bin/sh", "-c", "rm /www/healthy.html && sleep 10"]}})
    hook = container_of(files.load()).pre_stop
    assert (hook.duration_s, hook.removes) == (10, ((0.0, "/www/healthy.html"),))


@pytest.mark.parametrize("mount", [{"configMap": {"name": "conf"}}, {"secret": {"secretName": "x"}}])
def test_the_file_on_a_mount_that_cannot_be_written(files, mount):
    """rm fails, && skips the sleep: the hook ends at once, and that is said."""
    files.pod["volumes"].append({"name": "www", **mount})
    files.container["volumeMounts"].append({"name": "www", "mountPath": "/www"})
    with_hook(files, {"exec": {"command": ["/bin/sh", "-c", "rm /www/healthy.html && sleep 10"]}})
    scenario = files.load()
    assert container_of(scenario).pre_stop.duration_s == 0
    assert any("read-only mount" in warning for warning in scenario.warnings)


def test_what_cannot_be_read_can_be_stated(files):
    """The refusal says how; what the scenario states is what the hook does."""
    with_hook(files, {"exec": {"command": ["/opt/drain.sh"]}})
    refused(files, "spec.hooks:", UnsupportedInput)
    files.spec["hooks"] = {
        "app/web/preStop": {"duration": "10s", "removes": ["/www/healthy.html"], "signals": {"2s": "SIGQUIT"}}
    }
    hook = container_of(files.load()).pre_stop
    assert (hook.duration_s, hook.removes, hook.signals) == (
        10,
        ((0.0, "/www/healthy.html"),),
        ((2.0, "SIGQUIT"),),
    )


def test_stated_times(files):
    """Times stand before files and signals, in their order."""
    with_hook(files, {"exec": {"command": ["/opt/drain.sh"]}})
    files.spec["hooks"] = {"app/web/preStop": {"removes": {"5s": "/b", "1s": ["/a", "/c"]}}}
    assert container_of(files.load()).pre_stop.removes == ((1.0, "/a"), (1.0, "/c"), (5.0, "/b"))


@pytest.mark.parametrize(
    ("stated", "part"),
    [
        ({"app/web/preStart": {}}, "expected DEPLOYMENT/CONTAINER/preStop"),
        ({"app/other/preStop": {}}, "expected DEPLOYMENT/CONTAINER/preStop"),
        ({"app/web/preStop": {"duration": "soon"}}, "expected a duration"),
        ({"app/web/preStop": {"removes": ["healthy.html"]}}, "expected absolute paths"),
        ({"app/web/preStop": {"signals": {"0s": "SIGFOO"}}}, "allowed:"),
        ({"app/web/preStop": {"takes": "5s"}}, "unknown field"),
    ],
)
def test_bad_statement(files, stated, part):
    """A statement about no hook is a mistake, not a wish."""
    with_hook(files, {"exec": {"command": ["sleep", "1"]}})
    files.spec["hooks"] = stated
    refused(files, part)


def test_a_statement_about_a_sleep(files):
    """A sleep hook says itself what it does."""
    with_hook(files, {"sleep": {"seconds": 5}})
    files.spec["hooks"] = {"app/web/preStop": {"duration": "1s"}}
    refused(files, "a sleep hook says itself what it does")


def test_http_hook(files):
    """One GET: at once unless stated; said where it is not."""
    with_hook(files, {"httpGet": {"path": "/drain", "port": 80}})
    scenario = files.load()
    assert container_of(scenario).pre_stop.duration_s == 0
    assert any("preStop.httpGet: taken to be answered at once" in warning for warning in scenario.warnings)
    files.spec["hooks"] = {"app/web/preStop": {"duration": "5s"}}
    scenario = files.load()
    assert (container_of(scenario).pre_stop.duration_s, scenario.warnings) == (5, ())


@pytest.mark.parametrize(
    ("hook", "part"),
    [
        ({}, "preStop: got none, expected exactly one of"),
        ({"sleep": {"seconds": 1}, "exec": {"command": ["true"]}}, "expected exactly one of"),
        ({"tcpSocket": {"port": 80}}, "tcpSocket: not modelled: Kubernetes takes it, and the hook fails"),
        ({"exec": {"command": []}}, "expected at least 1 item"),
        ({"sleep": {"seconds": 1, "minutes": 1}}, "unknown field"),
    ],
)
def test_bad_hook(files, hook, part):
    """Exactly one handler, complete."""
    with_hook(files, hook)
    refused(files, part)


def test_post_start(files):
    """The same reading; a hook that fails would restart the container, which is refused."""
    with_hook(files, {"exec": {"command": ["sleep", "3"]}}, "postStart")
    assert container_of(files.load()).post_start.duration_s == 3
    with_hook(files, {"exec": {"command": ["false"]}}, "postStart")
    refused(files, "restarts the container", UnsupportedInput)
