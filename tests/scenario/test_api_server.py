"""The reader says yes and no where a real API server does."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from scenario_files import Files

from sim.errors import InputError
from sim.scenario.documents import read_documents
from sim.scenario.overrides import Overrides
from validation.lab.commands import CommandFailed

CASES = yaml.safe_load((Path(__file__).parent / "api_server_verdicts.yaml").read_text())


def name(case) -> str:
    return " ".join(case["set"])[-60:] or "as it is"


@pytest.mark.parametrize("case", CASES, ids=name)
def test_same_verdict(files, case):
    """What the server takes is read, what it refuses is refused; where not, the table says why."""
    try:
        files.load(*case["set"])
        accepted = True
    except InputError:
        accepted = False
    assert accepted == (case["accepted"] != ("differs" in case))


@pytest.fixture(scope="module")
def said(lab, tmp_path_factory):
    """What the lab's server says to each case: None where it accepts. Asked all at once: a call mostly waits."""
    files = Files(tmp_path_factory.mktemp("objects"))
    path = files.write("objects.yaml", files.config_map, files.service, files.deployment)

    def ask(case):
        documents = Overrides.parse(case["set"]).for_objects(read_documents(path))
        body = {"apiVersion": "v1", "kind": "List", "items": [document.data for document in documents]}
        try:
            lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(body))
        except CommandFailed as error:
            return error.output
        return None

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, CASES))


@pytest.mark.live
@pytest.mark.parametrize("index", range(len(CASES)), ids=[name(case) for case in CASES])
def test_the_table_is_what_a_server_says(said, index):
    """The recorded verdicts, asked of the lab's server again."""
    assert (said[index] is None) == CASES[index]["accepted"], said[index]
