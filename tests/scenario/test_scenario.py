"""Loading: files, directories, standard input, and the Scenario document itself."""

import io
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.scenario import load, load_one


def refused(call, part):
    with pytest.raises(InputError) as caught:
        call()
    assert "\n" not in str(caught.value)
    assert part in str(caught.value), caught.value


def all_of(files):
    return (files.scenario, files.config_map, files.service, files.deployment)


def test_objects_beside_or_in_files(files):
    """Objects may stand in the scenario's file or in files relative to it."""
    inside = files.load()
    files.write("objects.yaml", files.config_map, files.service, files.deployment)
    files.spec["manifests"] = ["objects.yaml"]
    outside = load_one(files.write("apart.yaml", files.scenario))
    assert inside.deployments == outside.deployments
    assert inside.objects == outside.objects


def test_a_directory_of_manifests(files):
    """An entry of manifests may be a directory; Scenario documents in it are left alone."""
    (files.folder / "k8s").mkdir()
    files.write("k8s/a.yaml", files.config_map, files.service)
    files.write("k8s/b.yml", files.deployment, files.scenario)
    files.spec["manifests"] = ["k8s"]
    assert load_one(files.write("s.yaml", files.scenario)).deployments[0].name == "app"


def test_several_scenarios_of_one_file(files):
    """They share the objects beside them, in the order of the file."""
    second = yaml.safe_load(yaml.safe_dump(files.scenario))
    second["metadata"]["name"] = "second"
    path = files.write("two.yaml", *all_of(files), second)
    assert [scenario.name for scenario in load(path)] == ["test", "second"]
    refused(lambda: load_one(path), "holds 2 scenarios (test, second), expected one")


def test_a_directory_of_scenarios(files):
    """Every file directly in it that holds one, sorted; others and deeper ones are left out."""
    for name in ("b.yaml", "a.yaml"):
        files.scenario["metadata"]["name"] = name
        files.write(name, *all_of(files))
    files.write("objects.yaml", files.service)
    (files.folder / "deeper").mkdir()
    files.write("deeper/c.yaml", *all_of(files))
    assert [scenario.name for scenario in load(files.folder)] == ["a.yaml", "b.yaml"]


def test_standard_input(files, monkeypatch):
    """ "-" reads a scenario from standard input."""
    text = yaml.safe_dump_all(all_of(files))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
    assert load_one("-").name == "test"


def test_names_are_distinct(files):
    """Results are told apart by name."""
    files.write("a.yaml", *all_of(files))
    files.write("b.yaml", *all_of(files))
    refused(lambda: load(files.folder), "metadata.name: stands twice (first in")


def test_nothing_there(files):
    """A file without a scenario, a directory without one, no file."""
    path = files.write("objects.yaml", files.service)
    refused(lambda: load(path), "no document with kind Scenario (apiVersion rollsim/v1)")
    refused(lambda: load(files.folder), "no *.yaml file directly in it holds a document with kind Scenario")
    refused(lambda: load(files.folder / "nope.yaml"), "cannot be read: No such file")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"apiVersion": "rollsim/v2"}, 'Scenario test: apiVersion: got "rollsim/v2", allowed: rollsim/v1'),
        ({"metadata": {}}, "metadata.name: missing"),
        ({"metadata": {"name": "a\nb"}}, "expected a name of one line"),
        ({"spec": None}, "Scenario test: spec: missing"),
        ({"sepc": {}}, "sepc: unknown field; did you mean spec?"),
    ],
)
def test_bad_envelope(files, change, part):
    """The document's own frame is checked first."""
    files.scenario.update(change)
    refused(files.load, part)


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"load": None}, "spec.load: missing"),
        ({"manifests": ["nope.yaml"]}, "spec.manifests: got nope.yaml, but there is no"),
        ({"manifests": "app.yaml"}, 'spec.manifests: got "app.yaml", expected a list'),
        ({"cluster": {"nodes": 0}}, "spec.cluster.nodes: got 0, expected an integer from 1 to 100"),
        ({"cluster": {"client": "laptop"}}, 'spec.cluster.client: got "laptop", allowed: node, pod'),
        ({"cluster": {"node": 1}}, "did you mean nodes?"),
        ({"timing": 5}, "spec.timing: got 5, expected a text"),
        ({"images": []}, "spec.images: got [], expected a mapping"),
        ({"updates": {}}, "spec.updates: unknown field; did you mean update?"),
    ],
)
def test_bad_spec(files, change, part):
    """One line with the field."""
    files.spec.update(change)
    refused(files.load, part)


def test_no_deployment(files):
    """Nothing to roll out."""
    path = files.write("s.yaml", files.scenario, files.config_map, files.service)
    refused(lambda: load(path), "no Deployment in its manifests")


def test_cluster(files):
    """Nodes, where the client runs, and the cores that they share."""
    files.spec["cluster"] = {"nodes": 3, "client": "pod", "cores": 8}
    cluster = files.load().cluster
    assert (cluster.nodes, cluster.client_on_node, cluster.cores) == (3, False, 8)


def test_the_same_files_give_the_same_data(files):
    """Loading has no memory and no chance in it."""
    assert files.load() == files.load()


JUNK = [
    None,
    0,
    -1,
    1.5,
    True,
    "",
    "x",
    "5s",
    [],
    {},
    [None],
    [{}],
    {"name": "x"},
    10**30,
    "a\nb",
    {"": 1},
    [[]],
]


def places(value, path=()):
    """Every way down into *value*."""
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(value[key], (*path, key))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_anywhere_is_read_or_refused_in_one_line(files, data):
    """Whatever stands in a field: a scenario, or an InputError of one line."""
    fresh = type(files)(files.folder)
    fresh.with_proxy()
    fresh.container["lifecycle"] = {"preStop": {"exec": {"command": ["sh", "-c", "sleep 5"]}}}
    fresh.spec["hooks"] = {"app/web/preStop": {"removes": {"1s": ["/a"]}, "signals": {"1s": "SIGQUIT"}}}
    documents = [fresh.scenario, fresh.config_map, fresh.service, fresh.deployment, *fresh.more]
    here = data.draw(st.sampled_from(documents))
    *way, last = data.draw(st.sampled_from(list(places(here))))
    for step in way:
        here = here[step]
    here[last] = data.draw(st.sampled_from(JUNK))
    try:
        fresh.load()
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_the_frontend_that_a_service_reaches_is_the_one(tmp_path):
    """A stats page of its own port before the real frontend gets no request of the load."""
    source = Path(__file__).parents[2] / "configs" / "tutorial"
    manifest = (source / "manifests" / "proxy.yaml").read_text()
    stats = "    frontend stats\n      bind 0.0.0.0:9000\n      default_backend myapp\n"
    assert "    listen myapp" in manifest
    (tmp_path / "proxy.yaml").write_text(manifest.replace("    listen myapp", f"{stats}    listen myapp"))
    (tmp_path / "app.yaml").write_text((source / "manifests" / "app.yaml").read_text())
    text = (source / "3-proxy.yaml").read_text().replace("manifests/", "")
    (tmp_path / "scenario.yaml").write_text(text)
    [proxy] = [d for d in load_one(tmp_path / "scenario.yaml").deployments if d.name == "myapp-proxy"]
    conf = proxy.template.containers[0].haproxy
    assert conf is not None
    assert [frontend.name for frontend in conf.frontends] == ["myapp"]
