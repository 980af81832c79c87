"""Changes in the text of YAML files: what is said afterwards, and that the rest stays letter by letter."""

import copy
import difflib

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sim.advise.text_edit import CannotEdit, edited
from sim.scenario.documents import Document, documents_in
from sim.scenario.overrides import Overrides

APP = """\
# the app
apiVersion: v1
kind: ConfigMap
metadata: {name: conf}   # flow
data:
  haproxy.cfg: |
    defaults
      mode http     # a comment inside

      retries 3
    listen app
      bind :80
  other: text
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 3   # three
  strategy:
    type: RollingUpdate
    rollingUpdate: {maxSurge: 0, maxUnavailable: 1}
  template:
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: web
          image: "web:1"   # quoted
          lifecycle:
            preStop:
              exec:
                command: [/bin/sh, -c, "sleep 10"]
          ports:
            - {containerPort: 80}
        - name: side
          image: side:1
"""


def after(text, sets):
    """The text after overrides, which must say what they say."""
    old = documents_in(text, "app.yaml")
    new = Overrides.parse(sets).for_objects(old)
    changed = edited(text, old, new)
    assert [d.data for d in documents_in(changed, "app.yaml")] == [d.data for d in new]
    return changed


def changed_lines(before, changed):
    """Those that go, then those that come."""
    lines = list(difflib.ndiff(before.splitlines(), changed.splitlines()))
    return [line for sign in "-+" for line in lines if line[0] == sign and line.strip("+- ")]


@pytest.mark.parametrize(
    ("override", "lines"),
    [
        ("deployment/web.spec.replicas=5", ["-   replicas: 3   # three", "+   replicas: 5   # three"]),
        (
            "deployment/web.spec.minReadySeconds=5",
            ["+   minReadySeconds: 5"],
        ),
        (
            "deployment/web.spec.strategy.rollingUpdate.maxSurge=25%",
            [
                "-     rollingUpdate: {maxSurge: 0, maxUnavailable: 1}",
                "+     rollingUpdate: {maxSurge: 25%, maxUnavailable: 1}",
            ],
        ),
        (
            "deployment/web.spec.template.spec.containers[web].lifecycle.preStop={sleep: {seconds: 5}}",
            [
                "-             preStop:",
                "-               exec:",
                '-                 command: [/bin/sh, -c, "sleep 10"]',
                "+             preStop: {sleep: {seconds: 5}}",
            ],
        ),
        (
            "deployment/web.spec.template.spec.containers[side].readinessProbe={tcpSocket: {port: 80}}",
            ["+           readinessProbe: {tcpSocket: {port: 80}}"],
        ),
        (
            'deployment/web.spec.template.spec.containers[web].image="web:2"',
            ['-           image: "web:1"   # quoted', '+           image: "web:2"   # quoted'],
        ),
        (
            "configmap/conf.metadata.namespace=x",
            ["- metadata: {name: conf}   # flow", "+ metadata: {name: conf, namespace: x}   # flow"],
        ),
        ("haproxy.defaults.retries=0", ["-       retries 3", "+       retries 0"]),
        ("haproxy.defaults.option redispatch=true", ["+       option redispatch"]),
        ("deployment/web.spec.strategy=null", None),
    ],
)
def test_only_what_changes_changes(override, lines):
    """The lines that differ are exactly these; comments and style of the others stay."""
    changed = after(APP, [override])
    if lines is not None:
        assert changed_lines(APP, changed) == lines


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_line_ends_stay(newline):
    """A file of Windows keeps its line ends where nothing changes."""
    text = "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  x: y\n".replace("\n", newline)
    old = documents_in(text, "a.yaml")
    new = copy.deepcopy(old)
    new[0].data["data"]["x"] = "z"
    assert edited(text, old, new) == text.replace("x: y", "x: z")


def test_what_cannot_be_edited_is_refused():
    """The name of a list's item stands behind its dash: without it the text would say something else."""
    with pytest.raises(CannotEdit):
        after(APP, ["deployment/web.spec.template.spec.containers[web].name=null"])


def test_two_that_end_at_one_place_both_find_their_own():
    """A field for the last container and one for the pod around it: each at its own depth."""
    template = "deployment/web.spec.template"
    sets = [
        f"{template}.spec.containers[side].tty=true",
        f"{template}.spec.hostNetwork=false",
        f"{template}.metadata={{labels: {{app: web}}}}",
    ]
    assert changed_lines(APP, after(APP, sets)) == [
        "+           tty: true",
        "+       hostNetwork: false",
        "+     metadata: {labels: {app: web}}",
    ]


SCALARS = st.one_of(st.integers(-5, 5), st.booleans(), st.text("ab:#' \n{}-", max_size=6))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
        st.lists(inner, max_size=3),
    ),
    max_leaves=8,
)
DOCUMENTS = st.dictionaries(st.text("abc", min_size=1, max_size=2), TREES, min_size=1, max_size=3)


@given(DOCUMENTS, DOCUMENTS, st.sampled_from([None, False, True]))
def test_whatever_is_edited_says_what_it_should(before, wanted, flow):
    """Any tree to any other, in block and flow style: the result is the wanted one, or refused."""
    text = "# kept\n" + yaml.safe_dump(before, default_flow_style=flow, sort_keys=False)
    try:
        changed = edited(text, [Document("x", 0, before)], [Document("x", 0, wanted)])
    except CannotEdit:
        return
    assert changed.startswith("# kept\n")
    assert yaml.safe_load(changed) == wanted
