"""Which cluster a replay may use."""

import os
import re
from pathlib import Path

import pytest

from validation.access import ROLE, Access, ReplayError, alone_on, find_access
from validation.lab.commands import LabError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ROLLSIM_CACHE", str(tmp_path))


def test_a_cluster_that_is_not_ours_needs_a_yes():
    """Nothing is asked of it before the user has said so."""
    with pytest.raises(ReplayError, match="'production' is no cluster of ours: add --yes"):
        find_access("production")


def test_two_replays_do_not_share_a_cluster():
    """The second would remove the first one's namespace as a leftover."""
    one, other = Access(context="a/b"), Access(context="c")
    with alone_on(one):
        with pytest.raises(ReplayError, match="another replay is running on cluster 'a/b'"), alone_on(one):
            pass
        with alone_on(other):
            pass
    with alone_on(one):
        pass


def test_kubectl_that_fails_is_one_line():
    """Its own last line, without the command."""
    with pytest.raises(ReplayError) as said:
        Access(context="no-such-context").kubectl("get", "pods", timeout_s=20)
    assert len(str(said.value).splitlines()) == 1


REFUSED = "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?"


def kubectl_that_fails(folder, times, says):
    """A kubectl that fails *times* times, then says ok."""
    tried = folder / "tried"
    enough = f"[ $(wc -l < {tried}) -gt {times} ]"
    script = f"#!/bin/sh\necho >> {tried}\n{enough} && echo ok && exit\necho '{says}' >&2\nexit 1\n"
    (folder / "kubectl").write_text(script)
    (folder / "kubectl").chmod(0o755)
    return tried


@pytest.mark.parametrize(
    ("says", "patient_s", "tries"),
    [(REFUSED, 30.0, 3), (REFUSED, 0.0, 1), ("Error from server (NotFound): no such thing", 30.0, 1)],
)
def test_cleaning_up_waits_for_an_api_server_that_comes_back(tmp_path, monkeypatch, says, patient_s, tries):
    """Only where that was asked for, and never for an answer."""
    monkeypatch.setattr("validation.access.ASK_AGAIN_S", 0.01)
    tried = kubectl_that_fails(tmp_path, 2, says)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ask = Access(context="theirs").kubectl
    if tries == 3:
        assert ask("delete", "pods", patient_s=patient_s) == "ok\n"
    else:
        with pytest.raises(ReplayError, match=re.escape(says[-12:])):
            ask("delete", "pods", patient_s=patient_s)
    assert len(tried.read_text().splitlines()) == tries


def test_who_may_not_is_told_what_rights_it_takes(tmp_path, monkeypatch):
    """The API server's own line, and the file of the ClusterRole."""
    kubectl_that_fails(tmp_path, 1, "Error from server (Forbidden): namespaces is forbidden")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(
        ReplayError, match=r"^Error from server .*; configs/rbac/validate.yaml holds what it takes$"
    ):
        Access(context="theirs").kubectl("get", "namespaces")
    assert (Path(__file__).parents[2] / ROLE).is_file()


def test_a_kind_cluster_that_is_not_ours_needs_its_name_and_a_yes(monkeypatch):
    """The name alone does not say that it may be used: no docker, no such cluster, no use without --yes."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(ReplayError, match="add --yes"):
        find_access("kind-production")


def test_the_current_context_is_never_used_by_itself(monkeypatch):
    """Without --context only our lab is looked for, whatever the kubeconfig points to; --yes changes nothing."""
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with pytest.raises(LabError):
        find_access(None, yes=True)


def test_every_call_names_the_context():
    """No call falls back to the current context of the kubeconfig."""
    assert Access(context="theirs").kubectl_command("get", "pods") == [
        "kubectl",
        "--context",
        "theirs",
        "get",
        "pods",
    ]
