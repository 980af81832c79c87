"""The reader says yes and no where a real API server does, and for the same field."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import mkdtemp

import pytest
import yaml
from scenario_files import Files

from sim.errors import InputError
from sim.scenario.documents import read_documents
from sim.scenario.overrides import Overrides
from validation.lab.commands import CommandFailed

CASES = yaml.safe_load((Path(__file__).parent / "api_server_verdicts.yaml").read_text())
AT_ONCE = 4
"""Questions to the API server: each of them mostly waits."""
HELD_AT_LEAST = 60
"""Bad manifests that both reject."""
_FIELDS = (  # how the API server names a field in its several kinds of errors
    r"(?:is invalid:|\*)\s+([\w.\[\]-]+):",
    r'unknown field "([\w.\[\]]+)"',
    r"Go struct field \w+?\.([\w.]+) of type",
    r"ValidationError\(\w+\.([\w.\[\]]+)\)",
)


def name(case) -> str:
    return " ".join(case["set"])[-60:] or "as it is"


def complaint(files, case) -> str | None:
    try:
        files.load(*case["set"])
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize("case", CASES, ids=name)
def test_same_verdict(files, case):
    """What the server takes is read, what it refuses is refused; where not, the table says why."""
    assert (complaint(files, case) is None) == (case["accepted"] != ("differs" in case))


def test_config_map_is_limited():
    """1 MiB of data and no more, as the API server counts it."""
    from sim.scenario.documents import documents_in
    from sim.scenario.manifests import read_config_map

    def read(size: int) -> None:
        text = yaml.safe_dump(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}, "data": {"k": "a" * size}}
        )
        read_config_map(documents_in(text, "f.yaml")[0], [])

    read(1024 * 1024)
    with pytest.raises(InputError, match="at most 1048576 bytes"):
        read(1024 * 1024 + 1)


@pytest.mark.live
@pytest.mark.timeout(1200)
def test_both_sides_agree(lab, tmp_path):
    """Every manifest of the table, asked of the lab's server again: the same verdict, for the same field."""
    disagree, n_bad = [], 0
    with ThreadPoolExecutor(AT_ONCE) as asking:
        answers = list(asking.map(lambda case: server_complaint(lab, tmp_path, case), CASES))
    for case, theirs in zip(CASES, answers, strict=True):
        ours = complaint(Files(tmp_path), case)
        if (theirs is None) != case["accepted"]:
            disagree.append((case["set"], "the table is out of date", theirs))
        elif (ours is None) != (theirs is None) and "differs" not in case:
            disagree.append((case["set"], ours, theirs))
        elif ours is not None and theirs is not None:
            n_bad += 1
            if "elsewhere" not in case and not same_field(ours, theirs):
                disagree.append((case["set"], ours, theirs))
    print(f"{n_bad} bad manifests that the API server and the reader reject, of {len(CASES)} in all")
    assert disagree == []
    assert n_bad >= HELD_AT_LEAST


def server_complaint(lab, folder, case) -> str | None:
    files = Files(Path(mkdtemp(dir=folder)))
    path = files.write("objects.yaml", files.config_map, files.service, files.deployment)
    documents = Overrides.parse(case["set"]).for_objects(read_documents(path))
    body = {"apiVersion": "v1", "kind": "List", "items": [document.data for document in documents]}
    try:
        lab.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", "-", input=json.dumps(body))
    except CommandFailed as error:
        return error.output
    return None


def same_field(ours: str, theirs: str) -> bool:
    """Whether our line names the server's field, or the object around it that is missing as a whole."""
    named = {found for pattern in _FIELDS for found in re.findall(pattern, theirs)}
    steps = [re.sub(r"\[[^]]*\]", "", path).replace("clusterIPs", "clusterIP").split(".") for path in named]
    missing = ours.rpartition(": missing")[0].rpartition(": ")[2]
    return not named or any(path[-1] in ours or (missing and missing in ".".join(path)) for path in steps)
