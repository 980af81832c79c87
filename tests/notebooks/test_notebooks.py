"""Every notebook runs from clean, in its own folder, and says what it is there to say."""

import os
import re
from pathlib import Path

import jupytext
import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent.parent / "notebooks"
FEW_RUNS = "5"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def executed(name, *more_cells, runs=FEW_RUNS):
    """The notebook of that name, run by a new kernel; *more_cells* are run after its own."""
    notebook = jupytext.read(NOTEBOOKS / name)
    notebook.cells += [nbformat.v4.new_code_cell(source) for source in more_cells]
    client = NotebookClient(
        notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": str(NOTEBOOKS)}}
    )
    client.execute(env=os.environ | {"ROLLSIM_NOTEBOOK_RUNS": runs})
    return notebook


def outputs(notebook, kind):
    """What its cells put out of one kind, in order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if kind == "text" and "text" in output:
                found.append(output["text"])
            elif kind in output.get("data", {}):
                found.append(output["data"][kind])
    return found


def test_every_notebook_is_paired_text():
    """Notebooks are kept as text: a .py in the percent form, and nothing with outputs beside it."""
    kept = sorted(NOTEBOOKS.glob("[0-9]*.py"))
    assert [path.stem for path in kept] == sorted(
        {path.stem for path in kept} | {path.stem for path in NOTEBOOKS.glob("[0-9]*.md")}
    )
    assert all(jupytext.read(path).metadata["jupytext"]["formats"] == "ipynb,py:percent" for path in kept)


def test_every_notebook_is_rendered():
    """The page for a code host holds every code cell as it stands in the notebook, and its pictures."""
    pages = sorted((NOTEBOOKS / "rendered").glob("*.md"))
    assert len(pages) >= 3
    for path in pages:
        page = path.read_text(encoding="utf-8")
        for cell in jupytext.read(NOTEBOOKS / f"{path.stem}.py").cells:
            assert cell.source in page, f"{path.stem} was changed: python notebooks/render.py {path.stem}"
        for picture in re.findall(r"!\[png\]\((.*?)\)", page):
            assert (NOTEBOOKS / "rendered" / picture).exists()


def test_tutorial_tells_every_stage():
    """01 draws a timeline for each of the six stages, then all of them in one picture."""
    notebook = executed("01-tutorial.py")
    assert len(outputs(notebook, "image/png")) == 7
    predicted = [text for text in outputs(notebook, "text/markdown") if "failed requests" in text]
    assert len(predicted) == 6
    assert "the load ended before the last old pod was gone" in "".join(outputs(notebook, "text"))


def test_explore_answers_a_slider():
    """02 draws anew and counts anew when a control moves, and ends with all of its rollouts counted."""
    moves = """
    import hashlib

    def look():
        return hashlib.sha256(explorer.picture.value).hexdigest()

    seen = {}
    for name, value in [
        ("pre_stop", 0), ("keep_alive", False), ("pre_stop", 5), ("keep_alive", True), ("client", "go-http")
    ]:
        before = look()
        controls[name].widget.value = value
        assert look() != before
        await explorer.settled()
        assert f"<b>{explorer.mean:.1f}</b>" in explorer.numbers.value
        seen[name, value] = explorer.mean, len(explorer.counts)
    print(seen["pre_stop", 0][0] > 4, seen["keep_alive", False][0] > 4, seen["pre_stop", 5])
    print(seen["keep_alive", True][0] > 4, seen["client", "go-http"])
    """
    notebook = executed("02-explore.py", moves, runs="40")
    assert outputs(notebook, "text")[-1].split("\n")[:2] == ["True True (0.0, 40)", "True (0.0, 40)"]


def test_explore_shows_bad_input_in_one_line():
    """02 says what is wrong with a setting instead of failing."""
    code = """
    import ipywidgets
    from explorer import Control
    explorer.controls["replicas"]._sets = lambda n: ["deployment/myapp.spec.replicas=-1"]
    explorer.change()
    print(explorer.numbers.value)
    """
    notebook = executed("02-explore.py", code)
    assert "replicas" in outputs(notebook, "text")[-1]


def test_sweep_leads_to_a_decision():
    """03 draws its sweep twice and names a sleep for new connections, none for kept ones."""
    notebook = executed("03-sweep.py")
    assert len(outputs(notebook, "image/png")) == 2
    new, kept = [text for text in outputs(notebook, "text/markdown") if text.startswith("- ")]
    assert "is enough (P(none fails) 1.00" in new
    assert "no sleep is enough" in kept


def test_validation_reads_what_is_kept():
    """04 compares the kept runs, or says that there are none."""
    notebook = executed("04-validation.py")
    first = outputs(notebook, "text/markdown")[0]
    assert "real runs of" in first or "No kept run yet" in first
