"""configs/matrix: the validation set can be loaded as it is and covers what it is there for."""

import os
import shutil
import subprocess
from itertools import chain
from pathlib import Path

import pytest
import yaml

from sim.scenario import load
from sim.scenario.model import HookKind, HttpMode, OpenLoop, Recreate, Scenario, ServerKind

ROOT = Path(__file__).parents[2] / "configs"
SCENARIOS = load(ROOT / "matrix")


def containers(scenario: Scenario):
    templates = [deployment.template for deployment in scenario.deployments]
    templates += [update.to.template for update in scenario.updates]
    return list(chain.from_iterable(template.containers for template in templates))


def backends(scenario: Scenario):
    return [backend for c in containers(scenario) if c.haproxy for backend in c.haproxy.backends]


def places(scenario: Scenario):
    return [place for c in containers(scenario) if c.nginx for place in c.nginx.locations]


def signals(scenario: Scenario):
    return {scenario.images[c.image].stop_signal for c in containers(scenario) if c.nginx}


COVERED = {
    "keep-alive": lambda s: s.load.keep_alive,
    "a connection for every request": lambda s: not s.load.keep_alive,
    "no probe and a start of 3 s": lambda s: any(
        c.readiness is None and s.images[c.image].startup.mean_s == 3 for c in containers(s)
    ),
    "no preStop": lambda s: all(c.pre_stop is None for c in containers(s)),
    "a preStop sleep": lambda s: any(c.pre_stop and c.pre_stop.kind is HookKind.SLEEP for c in containers(s)),
    "removal of the probe's file": lambda s: any(
        c.pre_stop and c.readiness and c.readiness.file in dict(map(reversed, c.pre_stop.removes))
        for c in containers(s)
    ),
    "SIGTERM": lambda s: "SIGTERM" in signals(s),
    "SIGQUIT": lambda s: "SIGQUIT" in signals(s),
    "a grace period shorter than the answer": lambda s: (
        any(place.limit_rate_bytes_per_s for place in places(s))
        and s.deployments[0].template.termination_grace_period_s < 3
    ),
    "late headers": lambda s: any(place.header_delay_s == 0.5 for place in places(s)),
    "streamed answers": lambda s: any(place.limit_rate_bytes_per_s for place in places(s)),
    "HAProxy without retries": lambda s: any(found.retries == 0 for found in backends(s)),
    "HAProxy with three retries": lambda s: any(found.retries == 3 for found in backends(s)),
    "HAProxy that keeps server connections": lambda s: any(
        found.http_mode is HttpMode.KEEP_ALIVE for found in backends(s)
    ),
    "one server for each pod": lambda s: any(
        server.template_count for found in backends(s) for server in found.servers
    ),
    "check fall 1": lambda s: any(
        server.check and server.check.fall == 1 for found in backends(s) for server in found.servers
    ),
    "HAProxy 3.0": lambda s: any(image.version == "3.0" for image in s.images.values()),
    "one replica": lambda s: s.deployments[0].replicas == 1,
    "maxUnavailable 100 %": lambda s: getattr(s.deployments[0].strategy, "max_unavailable", 0) == 3,
    "Recreate": lambda s: isinstance(s.deployments[0].strategy, Recreate),
    "six replicas, half as many again": lambda s: (
        s.deployments[0].replicas == 6 and s.deployments[0].strategy.max_surge == 3
    ),
    "an update of the proxy": lambda s: any(
        s.images[c.image].server is ServerKind.HAPROXY for u in s.updates for c in u.to.template.containers
    ),
    "a generic server": lambda s: any(i.server is ServerKind.GENERIC for i in s.images.values()),
    "ab": lambda s: s.load.client == "ab",
    "wrk": lambda s: s.load.client == "wrk",
    "an open loop": lambda s: isinstance(s.load.arrivals, OpenLoop),
}


@pytest.mark.parametrize("what", COVERED)
def test_some_scenario_has_it(what):
    """Each setting that changes how a rollout fails stands in at least one scenario."""
    assert [scenario.name for scenario in SCENARIOS if COVERED[what](scenario)]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_is_clean(scenario):
    """Named after its file, nothing assumed, and a load that is short and outlives the update."""
    assert scenario.source.stem == scenario.name
    assert scenario.warnings == ()
    assert scenario.updates[0].at_s == 4
    assert 20 <= scenario.load.duration_s <= 30


def test_every_manifest_is_used():
    """No file of the matrix is left over."""
    used = set(chain.from_iterable(_manifests(path) for path in (ROOT / "matrix").glob("*.yaml")))
    assert used == {path.name for path in (ROOT / "matrix/manifests").glob("*.yaml")}


def _manifests(path: Path) -> list[str]:
    return [Path(name).name for name in yaml.safe_load(path.read_text())["spec"]["manifests"]]


def _configurations():
    for path in sorted(ROOT.glob("*/manifests/*.yaml")):
        for thing in yaml.safe_load_all(path.read_text()):
            if thing["kind"] == "ConfigMap":
                yield from (
                    (f"{path.parent.parent.name}/{path.stem}", *entry) for entry in thing["data"].items()
                )


@pytest.mark.live
@pytest.mark.skipif(
    None in (shutil.which("nginx"), shutil.which("haproxy")), reason="needs nginx and haproxy"
)
@pytest.mark.parametrize(
    ("place", "name", "text"), [pytest.param(*c, id="/".join(c[:2])) for c in _configurations()]
)
def test_servers_take_the_configurations(place, name, text, tmp_path):
    """`nginx -t` and `haproxy -c` find nothing wrong with any configuration that is shipped."""
    file = tmp_path / name
    file.write_text(text)
    is_nginx = name == "nginx.conf"
    command = ["nginx", "-t", "-q", "-e", "stderr", "-c", file] if is_nginx else ["haproxy", "-c", "-f", file]
    variables = {"MYAPP_SERVICE_HOST": "10.96.0.20", "MYAPP_SERVICE_PORT": "80", "POD_NAMESPACE": "default"}
    done = subprocess.run(
        command, env=os.environ | variables, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
