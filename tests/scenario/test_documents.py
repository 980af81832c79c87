"""YAML files: read as kubectl reads them, and one line for what cannot be read."""

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.errors import InputError
from sim.scenario.documents import MAX_BYTES, read_documents


def read(tmp_path, text):
    path = tmp_path / "f.yaml"
    if isinstance(text, bytes):
        path.write_bytes(text)
    else:
        path.write_text(text, encoding="utf-8")
    return read_documents(path)


def complaint(tmp_path, text) -> str:
    with pytest.raises(InputError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "f.yaml"))
    return message


def test_documents_in_order(tmp_path):
    """Several documents, empty ones left out, a List opened."""
    found = read(tmp_path, "kind: A\n---\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n---\n# nothing\n")
    assert [document.kind for document in found] == ["A", "B", "C"]


def test_values_as_kubectl_reads_them(tmp_path):
    """YAML 1.1 words and octals, but no dates and no base 60; keys become texts."""
    (found,) = read(
        tmp_path, "a: yes\nb: 0644\nc: 2026-01-01\nd: 1:30\ne: ~\n80: x\ntrue: y\nf: 1e3\ng: 5s\n"
    )
    assert found.data == {
        "a": True, "b": 0o644, "c": "2026-01-01", "d": "1:30", "e": None, "80": "x", "true": "y", "f": 1000.0,
        "g": "5s",
    }  # fmt: skip


def test_aliases_are_copies(tmp_path):
    """What an alias repeats can be changed in one place alone."""
    (found,) = read(tmp_path, "a: &x {app: red}\nb: *x\n")
    found.data["a"]["app"] = "blue"
    assert found.data["b"] == {"app": "red"}


def test_merge_keys(tmp_path):
    """`<<` merges, and a key of its own beats the merged one."""
    (found,) = read(tmp_path, "a: &x {p: 1, q: 2}\nb: {<<: *x, q: 3}\n")
    assert found.data["b"] == {"p": 1, "q": 3}


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3, column 1: not YAML: key 'a' stands twice"),
        ("a: [1, 2\n", "not YAML"),
        ("a: 1\n\tb: 2\n", "not YAML"),
        ("- 1\n", "document 1: got list, expected a mapping"),
        ("just text\n", "document 1: got str"),
        ("a: .nan\n", "got nan, expected a finite number"),
        ("a: {b: [.inf]}\n", "document 1: a.b[0]: got inf"),
        ("a: !!python/object:os.system x\n", "not YAML"),
        ("a: &x [*x]\n", "alias x contains itself"),
        ("a: *nowhere\n", "not YAML"),
        ("image: {{ .Values.image }}\n", "line 1: {{ .Values.image }}: templating is left in"),
        ('image: "{{ image }}"\n', "image: got {{ image }}: templating is left in"),
        ("{{- if .x }}\na: 1\n{{- end }}\n", "templating is left in"),
        ("? [a, b]\n: 1\n", "a mapping's key must be a single word"),
        (b"a: \xff\xfe\n", "not UTF-8 (byte 3)"),
        ("a: 1\n".encode("utf-16"), "not UTF-8"),
        (b"a: \x00\n", "not YAML"),
        ("a: " + "9" * 5000 + "\n", "not YAML"),
    ],
)
def test_what_cannot_be_read(tmp_path, text, part):
    """One line that names the file and the place."""
    assert part in complaint(tmp_path, text)


def test_templates_of_others_may_stay(tmp_path):
    """Braces in a ConfigMap's data or in an annotation are for somebody else."""
    found = read(tmp_path, 'data: {x: "{{ a }}"}\n---\nspec: {annotations: {y: "{{ b }}"}}\n')
    assert len(found) == 2


def test_byte_order_mark(tmp_path):
    """A UTF-8 file with a mark at its start is UTF-8."""
    assert read(tmp_path, b"\xef\xbb\xbfkind: A\n")[0].kind == "A"


def test_alias_bomb(tmp_path):
    """Aliases of aliases are counted as what they expand to, before they are expanded."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30)]
    assert "once its aliases are expanded" in complaint(tmp_path, "\n".join(lines))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 500 + "]" * 500, "\n".join(" " * n + "a:" for n in range(300))]
)
def test_deep_nesting(tmp_path, text):
    """Deeper than any manifest: refused before anything recurses."""
    assert "nested more than" in complaint(tmp_path, text)


def test_large_file(tmp_path):
    """More than the limit is not even parsed."""
    assert "larger than 5 MB" in complaint(tmp_path, b"#" * (MAX_BYTES + 1))


def test_no_file(tmp_path):
    """The system's own reason, in one line."""
    with pytest.raises(InputError, match=r"nothing\.yaml: cannot be read: No such file"):
        read_documents(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_documents(tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(alphabet="abk: -[]{}&*!|>'\"\n\t#%@`,?x0.~<", max_size=60) | st.binary(max_size=40))
def test_any_file_is_read_or_refused_in_one_line(tmp_path, text):
    """Whatever stands in the file: documents, or an InputError of one line."""
    try:
        read(tmp_path, text)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text("abcde ", max_size=8),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.text("abc", min_size=1, max_size=5), inner, max_size=4)
        ),
        max_leaves=20,
    )
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_written_and_read(tmp_path, value):
    """What a YAML writer wrote comes back."""
    (found,) = read(tmp_path, yaml.safe_dump({"value": value}))
    assert found.data == {"value": value}
