"""What the lab is made of: pinned versions, kind's configuration, the network, the images of a scenario."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from sim.scenario import load
from sim.scenario.distributions import Constant, Uniform
from sim.scenario.model import (
    Container,
    Deployment,
    Image,
    Load,
    NginxConf,
    NginxLocation,
    PodTemplate,
    Probe,
    ProbeKind,
    RollingUpdate,
    Scenario,
    ServerKind,
    StopBehaviour,
    Update,
)
from validation.lab import bases, binaries, kind, network, versions
from validation.lab.commands import LabError
from validation.lab.definition import OWN_START_S, definition, used_images
from validation.lab.network import Vanished


def modules(name):
    return (binaries.MODULES / name / "go.mod").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("module", "package", "version"),
    [
        ("kubernetes", "k8s.io/kubernetes", versions.KUBERNETES),
        ("kubernetes", "sigs.k8s.io/kind", versions.KIND),
        ("kubernetes", "go.etcd.io/etcd/server/v3", versions.ETCD),
        ("coredns", "github.com/coredns/coredns", versions.COREDNS),
    ],
)
def test_the_go_module_pins_the_version_that_the_lab_names(module, package, version):
    """versions.py and go.mod agree."""
    assert re.search(rf"^\s*{re.escape(package)} {re.escape(version)}(\s|$)", modules(module), re.MULTILINE)


def test_every_staging_module_of_kubernetes_has_its_release():
    """k8s.io/X v0.0.0 in Kubernetes' go.mod is replaced by the release of the same minor and patch."""
    staging = versions.KUBERNETES.replace("v1.", "v0.")
    replaced = dict(re.findall(r"^\s*(k8s\.io/\S+) => \S+ (\S+)$", modules("kubernetes"), re.MULTILINE))
    placeholders = re.findall(r"^\s*(k8s\.io/\S+) v0\.0\.0(?: |$)", modules("kubernetes"), re.MULTILINE)
    assert set(placeholders) <= set(replaced)
    assert set(replaced.values()) == {staging}


def test_every_binary_is_a_tool_of_its_module():
    """`tool` lines keep what is built in go.mod and go.sum."""
    for each in binaries.BINARIES:
        assert re.search(rf"^\s*(tool )?{re.escape(each.package)}$", modules(each.module), re.MULTILINE), (
            each.name
        )


def test_kubernetes_is_stamped_with_its_version():
    """kubeadm refuses components whose version it cannot read."""
    flags = binaries.kubernetes_ldflags("v1.34.4")
    for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version"):
        assert f"-X {package}.gitVersion=v1.34.4 -X {package}.gitMajor=1 -X {package}.gitMinor=34" in flags


def test_a_cluster_of_three_has_one_control_plane_and_brings_its_own_network():
    """kind's configuration as kind reads it."""
    config = yaml.safe_load(kind.cluster_config(3, own_cni=True))
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker"]
    assert config["networking"]["disableDefaultCNI"] is True
    assert config["networking"]["podSubnet"] == versions.POD_CIDR


def test_each_node_hands_out_addresses_of_its_own_range():
    """The ptp plugin of a node knows the node's range alone."""
    ptp, portmap = json.loads(network.ptp_conflist("10.244.2.0/24"))["plugins"]
    assert ptp["ipam"]["ranges"] == [[{"subnet": "10.244.2.0/24"}]]
    assert ptp["ipMasq"] is False
    assert portmap["capabilities"] == {"portMappings": True}


def test_dns_loses_its_forwarder_and_nothing_else():
    """A name outside the cluster must not become a packet outside it."""
    block = "forward . /etc/resolv.conf {\n       max_concurrent 1000\n    }"
    corefile = f".:53 {{\n    errors\n    {block}\n    cache 30\n}}"
    assert kind.without_forward(corefile) == ".:53 {\n    errors\n    cache 30\n}"
    assert kind.without_forward(".:53 {\n    forward . 1.2.3.4\n    cache 30\n}") == ".:53 {\n    cache 30\n}"


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        (["10.244.0.0/16 dev void scope link"], Vanished.PINNED),
        (["blackhole 10.244.0.0/16"], Vanished.REDRAWN),
        (["unreachable 10.244.0.0/16"], Vanished.UNREACHABLE),
        (["10.244.0.0/16 via 172.18.0.9 dev eth0"], None),
        ([], None),
    ],
)
def test_the_route_of_the_pod_range_tells_what_a_vanished_address_answers(routes, expected):
    """As `ip route show exact` prints it."""
    assert network.kind_of_route(routes) is expected


def test_counters_are_those_of_the_bridge():
    """Packets of the rule for this bridge, not of another; None where there is no such rule."""
    listing = (
        "Chain DOCKER-USER (1 references)\n"
        "    pkts      bytes target     prot opt in     out     source               destination\n"
        "     308    14980 REJECT     0    --  br-aa !br-aa  0.0.0.0/0   0.0.0.0/0   reject-with icmp\n"
        "       7    14980 REJECT     0    --  br-bb !br-bb  0.0.0.0/0   0.0.0.0/0   reject-with icmp\n"
    )
    assert network.counter(listing, "REJECT", "br-aa") == 308
    assert network.counter(listing, "REJECT", "br-cc") is None


# ---------------------------------------------------------------- images of a scenario

CONFIGS = Path(__file__).parents[2] / "configs"

RED = Image(reference="app:red", server=ServerKind.NGINX, version="1.22")


def scenario(*images, nginx=None, readiness=None, objects=()):
    """One Deployment whose pods run the images, one container each."""
    containers = tuple(
        Container(name=f"c{i}", image=image.reference, nginx=nginx, readiness=readiness)
        for i, image in enumerate(images)
    )
    return Scenario(
        name="s",
        source=Path("s.yaml"),
        deployments=(
            Deployment(
                name="d",
                template=PodTemplate(labels={}, containers=containers),
                strategy=RollingUpdate(max_surge=1, max_unavailable=0),
            ),
        ),
        services=(),
        images={image.reference: image for image in images},
        updates=(),
        load=Load(client="ab", service="d", port=80),
        objects=objects,
    )


@pytest.mark.parametrize("signal", ["SIGTERM", "SIGQUIT"])
def test_an_image_stops_with_the_signal_that_the_scenario_says(signal):
    """STOPSIGNAL decides more than anything else in the image."""
    image = replace(RED, stop_signal=signal)
    assert f"STOPSIGNAL {signal}\n" in definition(scenario(image), image).dockerfile


def test_a_server_that_starts_late_waits_first_and_is_then_itself_process_one():
    """The sleep is the start-up time less what the server needs by itself."""
    image = replace(RED, startup=Uniform(min_s=1.0, max_s=3.0))
    built = definition(scenario(image), image)
    start = json.loads(built.files["server.json"])["startup"]
    assert start == {"kind": "Uniform", "min_s": 1.0, "max_s": 3.0, "shift_s": -OWN_START_S[ServerKind.NGINX]}
    assert (
        'CMD ["/usr/local/bin/rollsim-server", "/etc/rollsim/server.json", "nginx", "-g"' in built.dockerfile
    )


def test_a_server_that_starts_at_once_has_nothing_before_it():
    """A start-up time that the server has by itself needs no wait."""
    image = replace(RED, startup=Constant(value_s=0.02))
    built = definition(scenario(image), image)
    assert not built.needs_server
    assert 'CMD ["nginx", "-g", "daemon off;"]' in built.dockerfile


@pytest.mark.parametrize("n_bytes", [3, 20_000])
def test_the_body_is_as_long_as_the_scenario_says(n_bytes):
    """`bodyBytes`, whatever the tag."""
    image = replace(RED, body_bytes=n_bytes)
    files = definition(scenario(image), image).files
    assert n_bytes in {len(text.encode()) for text in files.values()}


def test_the_files_of_roots_and_probes_are_there():
    """A location's index and the file that the probe asks for, wherever they are."""
    conf = NginxConf(locations=(NginxLocation(path="/", root="/srv/pages", index=("home.html",)),))
    probe = Probe(kind=ProbeKind.HTTP_GET, path="/up.txt", port=80, file="/srv/pages/up.txt")
    dockerfile = definition(scenario(RED, nginx=conf, readiness=probe), RED).dockerfile
    assert re.search(r"^COPY file\d+ /srv/pages/home.html$", dockerfile, re.MULTILINE)
    assert re.search(r"^COPY file\d+ /srv/pages/up.txt$", dockerfile, re.MULTILINE)


def test_a_configuration_that_stays_in_the_foreground_is_not_told_so_twice():
    """nginx refuses a duplicate `daemon`."""
    conf = {"kind": "ConfigMap", "data": {"nginx.conf": "daemon off;\nevents {}\n"}}
    assert definition(scenario(RED, objects=(conf,)), RED).dockerfile.endswith('"nginx"]\n')


def test_a_service_time_that_nginx_does_not_have_is_refused():
    """One line that says what does it instead."""
    slow = replace(RED, service_time=Constant(value_s=0.5))
    with pytest.raises(LabError, match=r"image app:red: .*serviceTime of 0\.5 s: use echo_sleep"):
        definition(scenario(slow), slow)


def test_a_stream_time_needs_a_rate_limit():
    """With limit_rate in nginx.conf it is true, without it is refused."""
    slow = replace(RED, stream_time=Constant(value_s=3.0), body_bytes=30_000)
    limited = NginxConf(locations=(NginxLocation(root="/www", limit_rate_bytes_per_s=10_000),))
    assert definition(scenario(slow, nginx=limited), slow)
    with pytest.raises(LabError, match="limit_rate"):
        definition(scenario(slow), slow)


def test_a_generic_server_is_told_all_that_the_scenario_says():
    """Its file names times, body and what each signal does."""
    stop = StopBehaviour()
    image = Image(
        reference="api:1",
        server=ServerKind.GENERIC,
        service_time=Constant(value_s=0.2),
        keep_alive=False,
        idle_timeout_s=5.0,
        behaviours={"SIGTERM": stop},
    )
    probe = Probe(kind=ProbeKind.HTTP_GET, path="/", port=8080)
    built = definition(scenario(image, readiness=probe), image)
    told = json.loads(built.files["server.json"])
    assert (told["port"], told["keepAlive"], told["idleTimeout"]) == (8080, False, 5.0)
    assert told["serviceTime"] == {"kind": "Constant", "value_s": 0.2}
    assert told["onStop"]["SIGTERM"]["exit"] == stop.exit.value


@pytest.mark.parametrize("folder", ["tutorial", "matrix"])
def test_the_lab_can_build_every_image_of_the_kept_scenarios(folder):
    """Nothing that they say of an image is beyond the lab, and it has each server's version."""
    for each in load(CONFIGS / folder):
        for image in map(each.images.__getitem__, used_images(each)):
            assert definition(each, image).dockerfile
            if image.server is not ServerKind.GENERIC:
                assert bases.server_base(image.server.value, image.version, airgapped=True, registry=None)


def test_images_of_an_update_are_built_before_it():
    """What the Deployment becomes is used as well."""
    before = scenario(RED)
    blue = replace(RED, reference="app:blue")
    after = scenario(blue).deployments[0]
    assert used_images(replace(before, updates=(Update(at_s=5.0, to=after),))) == {"app:red", "app:blue"}


def test_a_version_that_the_lab_does_not_have_is_refused():
    """With the versions that it has."""
    with pytest.raises(LabError, match=r"no nginx 1\.25; it has 1\.22, 1\.26"):
        bases.server_base("nginx", "1.25", airgapped=True, registry=None)


@pytest.mark.parametrize(
    ("version", "suite"), [("1.22", "bookworm"), ("1.26.3", "trixie"), (None, "bookworm")]
)
def test_a_server_version_comes_from_the_release_that_packages_it(version, suite):
    """A patch version is that of the minor."""
    assert (
        bases.server_base("nginx", version, airgapped=True, registry=None) == f"rollsim-lab/servers-{suite}"
    )
