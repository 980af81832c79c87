"""A page in headless Chromium, over its DevTools protocol: look at it, and use its mouse."""

import base64
import itertools
import json
import subprocess
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import websocket

WIDTH, HEIGHT = 1400, 4000
"""So tall that a whole notebook is in view: JupyterLab draws no cell that is not."""


class Browser:
    """One tab. Every wait has a deadline that says what it waited for."""

    def __init__(self, chromium: str, profile: Path) -> None:
        self._process = subprocess.Popen(
            [
                chromium,
                "--headless=new",
                "--no-sandbox",  # no user namespace for root; the only page is ours
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                f"--window-size={WIDTH},{HEIGHT}",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._numbers = itertools.count(1)
        try:
            port_file = profile / "DevToolsActivePort"
            self.wait("Chromium's port", lambda: port_file.exists() and port_file.read_text(), 400)
            port = port_file.read_text().split()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
                [page] = [each for each in json.load(answer) if each["type"] == "page"]
            self._socket = websocket.create_connection(
                page["webSocketDebuggerUrl"], timeout=400, suppress_origin=True
            )
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise

    def close(self) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(timeout=60)

    def go(self, url: str) -> None:
        self._call("Page.navigate", url=url)

    def js(self, expression: str) -> Any:
        """The value of a JavaScript expression; a promise is waited for."""
        done = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in done:
            raise AssertionError(done["exceptionDetails"])
        return done["result"].get("value")

    def until(self, what: str, expression: str, timeout_s: float = 400) -> Any:
        """The first true value of *expression*."""
        return self.wait(what, lambda: self.js(expression), timeout_s)

    def picture(self, file: Path) -> None:
        """What a person would see, for whoever has to find out why a test failed."""
        file.write_bytes(base64.b64decode(self._call("Page.captureScreenshot")["data"]))

    def drag(self, from_xy: tuple[float, float], to_xy: tuple[float, float]) -> None:
        """Press, move in steps, release, as a hand does."""
        self._mouse("mouseMoved", *from_xy, buttons=0)
        self._mouse("mousePressed", *from_xy, buttons=1)
        for step in (0.25, 0.5, 0.75, 1.0):
            x, y = (a + step * (b - a) for a, b in zip(from_xy, to_xy, strict=True))
            self._mouse("mouseMoved", x, y, buttons=1)
        self._mouse("mouseReleased", *to_xy, buttons=0)

    def _mouse(self, kind: str, x: float, y: float, *, buttons: int) -> None:
        button = "none" if kind == "mouseMoved" and not buttons else "left"
        self._call(
            "Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, buttons=buttons, clickCount=1
        )

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    @staticmethod
    def wait(what: str, look: Any, timeout_s: float) -> Any:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            if found := look():
                return found
            time.sleep(0.2)
        raise AssertionError(f"{what}: not within {timeout_s:g} s")
