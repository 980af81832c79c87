"""02-explore as a person uses it: JupyterLab in a real browser, and a hand on a slider."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import jupytext
import pytest
from browser import Browser

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
RUNS = 20

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: chromium)"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

HANDLE = """
(() => {
  for (const slider of document.querySelectorAll('.widget-slider')) {
    if (!slider.querySelector('.widget-label')?.textContent.includes(LABEL)) continue;
    const box = e => { const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
    return [box(slider.querySelector('.noUi-handle')), box(slider.querySelector('.noUi-target')),
            slider.querySelector('.noUi-handle').ariaValueNow];
  }
})()
"""
PANEL = "[...window.jupyterapp.shell.widgets('main')].find(widget => widget.sessionContext)"
NUMBERS = "(document.querySelector('.widget-html-content')?.textContent ?? '')"


@pytest.fixture
def notebook(tmp_path):
    """JupyterLab on a copy of the notebook, with settings of its own; its address."""
    folder = tmp_path / "root" / "notebooks"
    folder.mkdir(parents=True)
    jupytext.write(jupytext.read(ROOT / "notebooks" / "02-explore.py"), folder / "02-explore.ipynb")
    shutil.copy(ROOT / "notebooks" / "explorer.py", folder)
    shutil.copytree(ROOT / "configs", tmp_path / "root" / "configs")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {
        name: str(tmp_path / name.lower())
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_RUNTIME_DIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
        )
    }
    command = [
        *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"),
        *(f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={tmp_path / 'root'}"),
        *("--IdentityProvider.token=told", "--LabApp.expose_app_in_browser=True", "--LabApp.news_url="),
    ]
    with (tmp_path / "jupyter.log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, env=os.environ | own | {"ROLLSIM_NOTEBOOK_RUNS": str(RUNS)}
        )
    yield f"http://127.0.0.1:{port}/lab/tree/notebooks/02-explore.ipynb?token=told"
    server.terminate()
    server.wait(timeout=60)


@pytest.fixture
def browser(tmp_path):
    tab = Browser(CHROMIUM, tmp_path / "profile")
    yield tab
    tab.picture(tmp_path / "page.png")  # kept by pytest for some runs
    tab.close()


def wait_for_server(address):
    host, _, port = address.split("/")[2].partition(":")
    Browser.wait("JupyterLab's port", lambda: not socket.socket().connect_ex((host, int(port))), 400)


def settled(browser):
    """The numbers once every rollout is counted: their text."""
    return browser.until(
        "all rollouts counted", f"(t => t.includes('({RUNS} rollouts)') ? t : '')({NUMBERS})"
    )


def test_a_slider_changes_the_number(notebook, browser):
    """All cells run; preStop's handle is pulled to its left end; mean, interval and value are others then."""
    wait_for_server(notebook)
    browser.go(notebook)
    browser.until("JupyterLab", "!!window.jupyterapp")
    browser.js("window.jupyterapp.restored.then(() => true)")
    browser.until("the notebook", "document.querySelectorAll('.jp-Notebook .jp-Cell').length > 3")
    browser.until("the kernel", f"{PANEL}?.sessionContext.session?.kernel?.status === 'idle'")
    browser.js(f"window.jupyterapp.shell.activateById({PANEL}.id)")
    browser.js("window.jupyterapp.commands.execute('notebook:run-all-cells').then(() => true)")
    before = settled(browser)
    look = HANDLE.replace("LABEL", "'preStop sleep'")
    handle, track, value = browser.js(look)
    assert float(value) == 5
    middle = handle[0] + handle[2] / 2, handle[1] + handle[3] / 2
    browser.drag(middle, (track[0], middle[1]))
    browser.until("another number", f"{NUMBERS} !== {before!r}")
    after = settled(browser)
    assert float(browser.js(look)[2]) == 0
    assert after.split()[0] != before.split()[0]
    assert "failed requests in the mean" in after
