"""Runs the notebooks and writes them, with what they print and draw, as Markdown for reading on a code host.

`python notebooks/render.py [NAME…]` writes `notebooks/rendered/NAME.md` and its pictures beside it.
"""

import io
import shutil
import sys
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbconvert import MarkdownExporter
from PIL import Image

HERE = Path(__file__).parent
RENDERED = HERE / "rendered"
WIDGET = "application/vnd.jupyter.widget-view+json"
N_COLOURS = 64


def render(name: str) -> Path:
    notebook = jupytext.read(HERE / f"{name}.py")
    NotebookClient(
        notebook, timeout=3600, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}
    ).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":  # a slider does nothing on a code host
            cell.outputs = [each for each in cell.outputs if WIDGET not in each.get("data", {})]
    text, resources = MarkdownExporter().from_notebook_node(
        notebook, resources={"output_files_dir": name, "unique_key": name}
    )
    shutil.rmtree(RENDERED / name, ignore_errors=True)
    for file, data in resources["outputs"].items():
        path = RENDERED / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(small(data) if path.suffix == ".png" else data)
    RENDERED.mkdir(exist_ok=True)
    page = RENDERED / f"{name}.md"
    page.write_text(text.strip() + "\n", encoding="utf-8")
    return page


def small(png: bytes) -> bytes:
    """The picture with a palette: drawings need few colours."""
    out = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(N_COLOURS).save(out, "png", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    for each in sys.argv[1:] or sorted(path.stem for path in HERE.glob("[0-9]*.py")):
        print(render(each))
