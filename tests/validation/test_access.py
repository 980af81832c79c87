"""Which cluster a replay may use."""

import pytest

from validation.access import Access, ReplayError, alone_on, find_access


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
