"""Pages in a headless Chromium, spoken to in its DevTools protocol."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from websockets.sync.client import ClientConnection, connect

OPTIONS = (
    "--headless",
    "--no-sandbox",
    # WebGL 2 without a graphics card
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1700,1050",
    "--remote-debugging-port=0",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # what a page asks of other machines fails at once
)


class Page:
    """A page, and what went wrong in it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._calls = socket, 0
        self._events: list[dict[str, Any]] = []
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")

    def open(self, address: str) -> None:
        """Go there."""
        self._send("Page.navigate", url=address)

    def resize(self, width: int, height: int = 900) -> None:
        """Make the window as wide; below 500 pixels it is that of a phone."""
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._send("Emulation.setDeviceMetricsOverride", **screen)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self._send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, seconds: float = 30) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + seconds
        while not self.evaluate(f"Boolean({expression})"):
            assert time.monotonic() < end, f"waited in vain for {expression}; errors: {self.errors('')}"
            time.sleep(0.1)

    def screenshot(self, clip: dict[str, Any]) -> str:
        """A part of the page as PNG in base64."""
        return self._send("Page.captureScreenshot", format="png", clip=clip)["data"]

    def errors(self, site: str) -> list[str]:
        """Errors in the console, but for files that the page asked of other sites."""
        found = []
        for event in self._events:
            kind, said = event["method"], event["params"]
            thrown = kind == "Runtime.exceptionThrown" or (
                kind == "Runtime.consoleAPICalled" and said["type"] == "error"
            )
            logged = (
                kind == "Log.entryAdded"
                and said["entry"]["level"] == "error"
                and said["entry"].get("url", site).startswith(site)
            )
            found += [json.dumps(said)[:500]] if thrown or logged else []
        return found

    def _send(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._calls += 1
        self._socket.send(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._calls:
                assert "error" not in message, message
                return message["result"]
            self._events.append(message)


@contextmanager
def open_browser(folder: Path) -> Iterator[Page]:
    """A page in a new Chromium that keeps its profile in the folder; a skip that says so where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip(f"there is no browser here (looked on the PATH for {', '.join(names)})")
    process = subprocess.Popen(
        [program, *OPTIONS, f"--user-data-dir={folder}", "about:blank"], stderr=subprocess.DEVNULL
    )
    try:
        with connect(_find_page(folder / "DevToolsActivePort"), max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait()


def _find_page(file: Path) -> str:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with (
            suppress(OSError, IndexError, StopIteration),
            urlopen(f"http://127.0.0.1:{file.read_text(encoding='utf-8').split()[0]}/json") as answer,
        ):
            return next(target["webSocketDebuggerUrl"] for target in json.load(answer) if target["type"] == "page")
        time.sleep(0.1)
    raise AssertionError("Chromium didn't start within a minute")
