"""The files that travel with a sweep."""

import pickle
import shutil

import pytest

from sim.errors import InputError
from sim.scenario import load_one
from sim.sweep.files import ScenarioFiles, model_digest
from sim.sweep.parameters import parse_parameter
from sim.sweep.plan import variants


@pytest.fixture
def nested(small, tmp_path):
    """The scenario in a folder of its own, its manifests in a folder beside, with a timing profile on another."""
    for folder in ("scenarios", "manifests"):
        (tmp_path / folder).mkdir()
    shutil.move(small, tmp_path / "scenarios" / "small.yaml")
    shutil.move(tmp_path / "app.yaml", tmp_path / "manifests" / "app.yaml")
    (tmp_path / "manifests" / "notes.txt").write_text("not YAML: {")
    path = tmp_path / "scenarios" / "small.yaml"
    text = path.read_text().replace("manifests: [app.yaml]", "manifests: [../manifests]\n  timing: slow.yaml")
    path.write_text(text)
    profile = "kind: TimingProfile\nbase: {}\nmetadata: {{name: {}}}\nspec: {{{}}}\n"
    (path.parent / "slow.yaml").write_text(profile.format("own.yaml", "slow", "proxy_min_interval_s: 3"))
    (path.parent / "own.yaml").write_text(profile.format("defaults", "own", "p_first_kick: 0.25"))
    return path


def test_a_worker_needs_nothing_of_the_folder(nested):
    """Pickled, and the folder gone: the scenario and its timing are what they were."""
    before = load_one(nested)
    files = pickle.loads(pickle.dumps(ScenarioFiles.read(nested)))
    shutil.rmtree(nested.parent.parent)
    scenario, timing = files.load({"load.connections": 7})
    assert scenario.deployments == before.deployments
    assert scenario.load.connections == 7
    assert (timing.proxy_min_interval_s, timing.p_first_kick) == (3, 0.25)


def test_an_edit_is_another_digest(nested):
    """Whatever of the files changes; a file that is not read changes nothing."""
    first = ScenarioFiles.read(nested).digest
    (nested.parent.parent / "manifests" / "notes.txt").write_text("still not read")
    assert ScenarioFiles.read(nested).digest == first
    (nested.parent / "own.yaml").write_text((nested.parent / "own.yaml").read_text().replace("0.25", "0.5"))
    assert ScenarioFiles.read(nested).digest != first
    assert len(model_digest()) == 64


def test_files_that_only_a_point_names_come_along(nested):
    """A parameter that names a timing profile or manifests: every choice's files are read at the start."""
    shutil.copy(nested.parent / "own.yaml", nested.parent / "other.yaml")
    parameter = parse_parameter("timing=slow.yaml,other.yaml,defaults")
    files = ScenarioFiles.read(nested, list(variants({}, (parameter,))))
    shutil.rmtree(nested.parent.parent)
    assert files.load({"timing": "other.yaml"})[1].name == "own"
    assert files.load({"timing": "defaults"})[1].name == "defaults"


def test_errors_name_the_users_files(nested):
    """Not the copy that a worker reads."""
    files = ScenarioFiles.read(nested)
    with pytest.raises(InputError) as caught:
        files.load({"load.connections": -1})
    assert str(caught.value).startswith(f"{nested}: ")
    with pytest.raises(InputError) as caught:
        files.load({"deployment/web.spec.replicas": "many"})
    assert str(caught.value).startswith(f"{nested.parent}/../manifests/app.yaml: ")


@pytest.mark.parametrize("path", ["-", "."])
def test_one_file_is_expected(path):
    """Standard input and folders are refused in one line."""
    with pytest.raises(InputError, match="expected"):
        ScenarioFiles.read(path)
