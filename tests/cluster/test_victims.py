"""Which pods a ReplicaSet deletes first.

`victim_pairs.csv` holds 1200 random pairs of pods and what controller_utils.go of kubernetes v1.34.4
(ActivePodsWithRanks.Less, called from a Go test) says of each. Times are ages in seconds; now has a fraction of 0.4 s.
"""

import csv
from collections import Counter
from pathlib import Path

import pytest
from assertions import assert_binomial

from sim.cluster.api import PodStage, PodView
from sim.cluster.replicaset import goes_first, victims

PAIRS = list(csv.DictReader(Path(__file__).with_name("victim_pairs.csv").read_text().splitlines()))
NOW = 1_000_000


def pod(
    name, *, node=0, stage=PodStage.RUNNING, ready=True, ready_age=3600, age=3600, restarts=0, uid=0.5, **more
):
    return PodView(
        name=name,
        deployment="app",
        replica_set=more.pop("replica_set", "set"),
        created_s=NOW - age,
        uid=uid,
        node=node,
        stage=stage,
        ready=ready,
        ready_since_s=NOW - ready_age,
        n_restarts=restarts,
        **more,
    )


def read(text, node):
    uid, scheduled, phase, ready, rank, ready_age, restarts, age = text.split()
    view = pod(
        uid,
        node=node if scheduled == "true" else None,
        stage=PodStage.RUNNING if phase == "Running" else PodStage.PENDING,
        ready=ready == "true",
        ready_age=int(ready_age),
        age=int(age),
        restarts=int(restarts),
        uid=float(uid == "b"),
    )
    return view, int(rank)


def test_every_pair_is_as_in_kubernetes():
    """Each of the eight rules, in their order; what no rule tells apart is a tie."""
    wrong = []
    for row in PAIRS:
        left, left_rank = read(row["left"], node=1)
        right, right_rank = read(row["right"], node=2)
        # the table ranks each pod by itself; a rank is the number of siblings on the pod's node
        siblings = Counter({left.node: left_rank, right.node: right_rank})
        if left.node is right.node is None and left_rank != right_rank:
            continue  # unscheduled pods share their "node", so their rank
        order = goes_first(left, right, siblings=siblings, now_s=NOW + 0.4)
        if (order < 0, order > 0) != (row["left_first"] == "true", row["right_first"] == "true"):
            wrong.append((row, order))
    assert wrong == []
    assert len(PAIRS) == 1200


def test_siblings_of_all_sets_count():
    """A pod whose node holds more active pods of the Deployment goes first, whosever they are."""
    crowded, alone = pod("crowded", node=0), pod("alone", node=1)
    new = pod("new", node=0, replica_set="other", age=1, ready_age=1)
    dying = [pod(f"dying-{i}", node=1, deleted=True) for i in range(3)]
    assert victims([alone, crowded], [alone, crowded, new, *dying], 1, NOW) == [crowded]


def test_all_pods_go_unsorted():
    """When the whole set goes there is nothing to choose."""
    pods = [pod("b", ready=True), pod("a", ready=False)]
    assert victims(pods, pods, 2, NOW) == pods


@pytest.mark.parametrize("ages", [(3600, 3600), (3600, 3700)])
def test_equally_old_pods_are_chosen_at_random(ages, streams):
    """Same second, or same power of two of nanoseconds: by UID, so by chance."""
    rng = streams.take("uids")
    first = 0
    for _ in range(2000):
        pods = [pod("a", ready_age=ages[0], uid=rng.random()), pod("b", ready_age=ages[1], uid=rng.random())]
        first += victims(pods, pods, 1, NOW)[0].name == "a"
    assert_binomial(first, 2000, 0.5, false_alarm=1e-6, notices=0.11)


def test_the_order_of_the_list_does_not_matter():
    """Victims are the same whichever way the watch listed the pods."""
    pods = [pod(str(i), ready_age=10 * 2**i, age=3600, uid=i / 10) for i in range(6)]
    assert [p.name for p in victims(pods, pods, 3, NOW)] == ["0", "1", "2"]
    assert victims(pods[::-1], pods, 3, NOW) == victims(pods, pods, 3, NOW)
