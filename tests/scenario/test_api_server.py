"""The reader says yes and no where a real API server does."""

import json
from pathlib import Path

import pytest
import yaml

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


@pytest.mark.live
@pytest.mark.parametrize("case", CASES, ids=name)
def test_the_table_is_what_a_server_says(files, lab, case):
    """The recorded verdicts, asked of the lab's server again."""
    path = files.write("objects.yaml", files.config_map, files.service, files.deployment)
    documents = Overrides.parse(case["set"]).for_objects(read_documents(path))
    body = {"apiVersion": "v1", "kind": "List", "items": [document.data for document in documents]}
    try:
        lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(body))
        accepted, said = True, ""
    except CommandFailed as error:
        accepted, said = False, error.output
    assert accepted == case["accepted"], said
