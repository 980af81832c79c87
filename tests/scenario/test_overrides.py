"""--set: one field, found by its path, in the scenario, in objects and in configuration texts."""

import copy

import pytest

from sim.errors import InputError
from sim.scenario import load_one
from sim.scenario.conf_text import set_in_haproxy, set_in_nginx
from sim.scenario.model import HookKind

SPEC = "deployment/app.spec.template.spec"


def app(scenario):
    return scenario.deployments[0]


@pytest.mark.parametrize(
    ("text", "read", "expected"),
    [
        ("load.connections=100", lambda s: s.load.connections, 100),
        ("load.thinkTime={exponential: 20ms}", lambda s: s.load.arrivals.think_time.mean_s, 0.02),
        ('images."app:red".stopSignal=SIGQUIT', lambda s: s.images["app:red"].stop_signal, "SIGQUIT"),
        ("images[app:red].startup=2s", lambda s: s.images["app:red"].startup.mean_s, 2),
        ("update.at=9s", lambda s: s.updates[0].at_s, 9),
        ("cluster.nodes=3", lambda s: s.cluster.nodes, 3),
        ("timing=kind-1.34", lambda s: s.timing, "kind-1.34"),
        ("deployment/app.spec.replicas=7", lambda s: app(s).replicas, 7),
        ("Deployment/app.spec.minReadySeconds=2", lambda s: app(s).min_ready_s, 2),
        (
            f"{SPEC}.terminationGracePeriodSeconds=33",
            lambda s: app(s).template.termination_grace_period_s,
            33,
        ),
        (f"{SPEC}.containers[web].image=app:blue", lambda s: app(s).template.containers[0].image, "app:blue"),
        (
            f"{SPEC}.containers[0].readinessProbe=null",
            lambda s: app(s).template.containers[0].readiness,
            None,
        ),
        (
            f"{SPEC}.containers[web].lifecycle.preStop.sleep.seconds=5",
            lambda s: app(s).template.containers[0].pre_stop.kind,
            HookKind.SLEEP,
        ),
        ("service/app.spec.sessionAffinity=ClientIP", lambda s: s.services[0].session_affinity_s, 10800),
        ("svc/app.spec.ports[0].name=http", lambda s: s.services[0].ports[0].name, "http"),
        (
            "nginx.http.keepalive_timeout=0",
            lambda s: app(s).template.containers[0].nginx.keepalive_timeout_s,
            0,
        ),
        ("nginx.worker_processes=4", lambda s: app(s).template.containers[0].nginx.worker_processes, 4),
        (
            "nginx.worker_shutdown_timeout=5s",
            lambda s: app(s).template.containers[0].nginx.worker_shutdown_timeout_s,
            5,
        ),
        (
            "nginx(conf).http.server.location[/].root=/srv",
            lambda s: app(s).template.containers[0].readiness.file,
            "/srv/healthy.html",
        ),
    ],
)
def test_one_field(files, text, read, expected):
    """The field that is named, and nothing else."""
    assert read(files.load(text)) == expected


@pytest.mark.parametrize(
    ("text", "read", "expected"),
    [
        ("haproxy.defaults.retries=0", lambda b: b.retries, 0),
        ("haproxy.defaults.timeout.connect=1s", lambda b: b.timeout_connect_s, 1),
        ("haproxy.listen.balance=leastconn", lambda b: b.balance, "leastconn"),
        ("haproxy.listen[app].balance=leastconn", lambda b: b.balance, "leastconn"),
        ('haproxy."listen app".retries=1', lambda b: b.retries, 1),
        ("haproxy.defaults.option.redispatch=true", lambda b: b.redispatch, -1),
        ("haproxy.listen[app].server[app].fall=7", lambda b: b.servers[0].check.fall, 7),
        ("haproxy.listen[app].server[app].check=null", lambda b: b.servers[0].check, None),
    ],
)
def test_haproxy(files, text, read, expected):
    """A line of a section, or one parameter of a server line."""
    files.with_proxy()
    assert read(files.load(text).deployments[1].template.containers[0].haproxy.backends[0]) == expected


def test_both_versions_of_an_object(files):
    """An override holds for the object wherever it stands, in an update's manifests too."""
    later = copy.deepcopy(files.deployment)
    later["spec"]["template"]["spec"]["containers"][0]["image"] = "app:blue"
    files.write("v2.yaml", later)
    files.spec["update"] = {"manifests": ["v2.yaml"], "at": "5s"}
    scenario = files.load(f"{SPEC}.terminationGracePeriodSeconds=7")
    assert scenario.updates[0].to.template.termination_grace_period_s == 7
    assert scenario.actions[0].objects[0]["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == 7


def test_a_replay_applies_what_was_set(files):
    """The objects of the scenario are those after overrides."""
    scenario = files.load("deployment/app.spec.replicas=7", "nginx.http.keepalive_timeout=1")
    assert scenario.objects[2]["spec"]["replicas"] == 7
    assert "keepalive_timeout 1;" in scenario.objects[0]["data"]["nginx.conf"]


def test_from_python(files):
    """A mapping of paths to values does the same, with values of their own type."""
    path = files.write("s.yaml", files.scenario, files.config_map, files.service, files.deployment)
    scenario = load_one(
        path,
        {"load.connections": 3, f"{SPEC}.containers[web].lifecycle": {"preStop": {"sleep": {"seconds": 2}}}},
    )
    assert scenario.load.connections == 3
    assert app(scenario).template.containers[0].pre_stop.duration_s == 2


def test_files_stay_as_they_are(files):
    """Loading again without the override gives the old value."""
    assert files.load("load.connections=3").load.connections == 3
    assert files.load().load.connections == 10


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("load.conections=1", "load.conections: unknown field; did you mean connections?"),
        ("laod.connections=1", '--set laod.connections: got "laod", expected one of manifests, update, load'),
        (
            "deployment/nope.spec.replicas=1",
            "no such object; there are configmap/conf, service/app, deployment/app",
        ),
        ("deployment/app.spec.replica=1", "spec.replica: unknown field; did you mean replicas?"),
        ("deployment/app=1", "expected a field behind the name"),
        (f"{SPEC}.containers[nope].image=x", "got [nope], expected an item of the list: web"),
        (f"{SPEC}.containers[3].image=x", "got [3], expected an item of the list: web"),
        ("load.connections.x=1", '"connections" is 10, which has no field "x"'),
        ("load.connections", "expected PATH=VALUE"),
        ("=3", "expected PATH=VALUE"),
        ("", "expected PATH=VALUE"),
        ("load.connections=[", "not YAML"),
        ("load.connections=1\n---\n2", "expected one value"),
        ("load.connections=" + "[" * 5000, "nested more than"),
        ("haproxy.backend.retries=0", "no such section; there are defaults, listen app"),
        ("haproxy.defaults=0", "expected a keyword behind the section"),
        ("haproxy(nope).defaults.retries=0", "no ConfigMap nope that holds a text for haproxy"),
        ("haproxy.defaults.retries=[1]", "expected a text or a number"),
        (
            "nginx.htpp.keepalive_timeout=0",
            "no such block; there are events, http, http.server, http.server.location /",
        ),
        ("nginx.http.keepalive_timeout=soon", "ConfigMap conf: nginx.conf"),
    ],
)
def test_bad_override(files, text, part):
    """One line that says what there is."""
    with pytest.raises(InputError) as caught:
        files.load(text)
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("keyword", "value", "lines"),
    [
        ("retries", "0", ["mode http", "retries 0"]),
        ("maxconn", "5", ["mode http", "retries 3 # why", "maxconn 5"]),
        ("retries", None, ["mode http"]),
        ("option redispatch", False, ["mode http", "retries 3 # why", "no option redispatch"]),
    ],
)
def test_haproxy_text(keyword, value, lines):
    """One line changes, comes or goes in its section; the others stay as they are written."""
    before, after = ["global", "  maxconn 9", "defaults"], ["listen a # x", "  bind :80"]
    text = "\n".join([*before, "  mode http", "  retries 3 # why", *after])
    changed = set_in_haproxy(text, "defaults", keyword.split(), value)
    assert changed.splitlines() == [*before, *(f"  {line}" for line in lines), *after]


@pytest.mark.parametrize(
    ("context", "directive", "value", "expected"),
    [
        (
            [],
            "user",
            "x",
            "user x;\nhttp { # keepalive_timeout 1;\n a 'b;{'; server { c 1; } server { c 2; } }",
        ),
        (["http"], "a", "z", "http { # keepalive_timeout 1;\n a z; server { c 1; } server { c 2; } }"),
        (
            ["http"],
            "keepalive_timeout",
            "0",
            "http { keepalive_timeout 0; # keepalive_timeout 1;\n a 'b;{'; server { c 1; } server { c 2; } }",
        ),
        (
            ["http", "server"],
            "c",
            "9",
            "http { # keepalive_timeout 1;\n a 'b;{'; server { c 9; } server { c 9; } }",
        ),
        (
            ["http", "server"],
            "d",
            "9",
            "http { # keepalive_timeout 1;\n a 'b;{'; server { d 9; c 1; } server { d 9; c 2; } }",
        ),
        (["http", "server"], "c", None, "http { # keepalive_timeout 1;\n a 'b;{'; server {  } server {  } }"),
        (["server"], "c", "9", None),
    ],
)
def test_nginx_text(context, directive, value, expected):
    """Comments, quotes and braces in them are none of its business; every block of the name is meant."""
    text = "http { # keepalive_timeout 1;\n a 'b;{'; server { c 1; } server { c 2; } }"
    assert set_in_nginx(text, context, directive, value) == expected
