"""A headless Chromium driven over the DevTools protocol: open a page, click, look, and see what it asks the network."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from commands import BIN
from PIL import Image
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    *("--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--remote-debugging-port=0", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"),
]
NO_GRAPHICS = ("--disable-gpu",)
GRAPHICS = (
    *("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan,WebGPU"),
    *("--use-vulkan=swiftshader", "--use-angle=swiftshader"),
)
"""Flags for WebGPU on a machine without a graphics card."""
SIZE = (1280, 800)
CLICK = """(label => { const element = [...document.querySelectorAll('button, label, [role=tab], input, p, span')]
    .find(e => e.getClientRects().length && !e.disabled && (e.textContent.trim() === label || e.placeholder === label));
    if (!element) return false; element.scrollIntoView({block: 'center'}); element.click(); return true; })"""


def wait_for(check: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """The first true value of a function."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = check()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds:.0f} s for {what}")


class Browser:
    """A Chromium of its own; use as a context."""

    def __init__(self, *flags: str) -> None:
        """
        Args:
            flags: `GRAPHICS`; without any there is no WebGPU.
        """
        self.flags = flags or NO_GRAPHICS

    def __enter__(self) -> Browser:
        assert CHROMIUM is not None
        self.profile = tempfile.mkdtemp(prefix="chromium-")
        options = [f"--user-data-dir={self.profile}", f"--window-size={SIZE[0]},{SIZE[1]}", "about:blank"]
        self.process = subprocess.Popen(
            [CHROMIUM, *FLAGS, *self.flags, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        port_file = Path(self.profile) / "DevToolsActivePort"
        self.port = int(wait_for(lambda: port_file.exists() and port_file.read_text(), "chromium").split()[0])
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(20)
        shutil.rmtree(self.profile, ignore_errors=True)

    def open(self, url: str) -> Page:
        """A new tab."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new?about:blank", method="PUT")
        with urllib.request.urlopen(request) as reply:
            target = json.load(reply)
        return Page(target["webSocketDebuggerUrl"], url)


class Page:
    """One tab."""

    def __init__(self, debugger: str, url: str) -> None:
        self.socket = connect(debugger, max_size=1 << 28, compression=None, ping_interval=None).__enter__()
        self.number, self.errors = 0, []
        self._asked: dict[str, str] = {}
        for domain in ("Network", "Page", "Runtime"):
            self.call(f"{domain}.enable")
        self.call(
            "Emulation.setDeviceMetricsOverride", width=SIZE[0], height=SIZE[1], deviceScaleFactor=1, mobile=False
        )
        self.call("Page.navigate", url=url)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Run a command of the protocol; events that come meanwhile are noted."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=60))
            if message.get("id") == self.number:
                assert "error" not in message, message
                return message["result"]
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        name, about = message.get("method"), message.get("params", {})
        if name == "Network.requestWillBeSent":
            self._asked[about["requestId"]] = about["request"]["url"]
        elif name == "Network.webSocketCreated":
            self._asked[about["requestId"]] = about["url"]
        elif name == "Network.loadingFailed" and about.get("blockedReason") == "csp":
            self._asked.pop(about["requestId"], None)  # the page's own policy forbids it, so it was never sent
        elif name == "Runtime.exceptionThrown":
            details = about["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details.get("text")))

    @property
    def elsewhere(self) -> list[str]:
        """What the page has asked of any other place than 127.0.0.1."""
        home = re.compile(r"(http|ws|blob:http)://127\.0\.0\.1:|data:")
        return [url for url in self._asked.values() if not home.match(url)]

    def evaluate(self, code: str) -> Any:
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    @property
    def text(self) -> str:
        """All text on the page."""
        return self.evaluate("document.body ? document.body.innerText : ''")

    def wait_text(self, part: str, seconds: float = 60.0) -> str:
        """Wait until the page shows a text; returns all of it."""
        try:
            return wait_for(lambda: (t := self.text) and part in t and t, part, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the page says: {self.text}") from None

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move, press or release the mouse."""
        held = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def click(self, where: str | tuple[float, float]) -> None:
        """Click on a place, or on the element with this text, which is found and clicked at one moment: a page moves
        its controls about while texts above them come and go."""
        if isinstance(where, str):
            code = f"{CLICK}({json.dumps(where)})"
            wait_for(lambda: self.evaluate(code), f"the element {where!r}; errors: {self.errors}")
            return
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *where)

    def press(self, label: str, answer: str) -> None:
        """Click on something that may be clicked twice until the page answers: a press is lost where the page draws its
        controls anew under the mouse, as it does shortly after it has opened."""
        for seconds in (10.0, 20.0, 60.0):
            self.click(label)
            try:
                self.wait_text(answer, seconds)
                return
            except AssertionError:
                if seconds == 60.0:
                    raise

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Draw a line with the mouse held down."""
        self.mouse("mouseMoved", *start)
        self.mouse("mousePressed", *start)
        for part in (0.25, 0.5, 0.75, 1.0):
            x, y = (a + (b - a) * part for a, b in zip(start, end))
            self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.mouse("mouseReleased", *end)

    def switch(self, label: str) -> None:
        """Click on the checkbox with this label."""
        find = f"""(() => {{
            const named = e => e.textContent.trim() === {json.dumps(label)};
            const label = [...document.querySelectorAll('label')].find(named);
            const box = label?.closest('p').parentElement.parentElement.querySelector('input[type=checkbox]');
            if (!box) return null; const before = box.checked; box.click(); return [before]; }})()"""
        (before,) = wait_for(lambda: self.evaluate(find), f"the checkbox {label!r}; errors: {self.errors}")
        now = find.replace("box.click(); return [before]", "return [before]")
        wait_for(lambda: self.evaluate(now) == [not before], f"the checkbox {label!r} switched")

    def fill(self, label: str, value: str) -> None:
        """Type into the field with this label."""
        find = f"""(() => {{
            const labels = [...document.querySelectorAll('label')];
            const label = labels.find(e => e.textContent.trim() === {json.dumps(label)});
            const row = label.closest('p').parentElement.parentElement;
            const input = row.querySelector('input:not([type=hidden]):not([type=checkbox])');
            input.scrollIntoView({{block: 'center'}}); input.focus(); input.select(); return true; }})()"""
        assert self.evaluate(find)
        self.call("Input.insertText", text=value)

    def screenshot(self, path: Path | None = None) -> np.ndarray:
        """(800, 1280, 3) uint8; also written to a PNG if a path is given."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if path is not None:
            path.write_bytes(data)
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def front(self) -> None:
        """Bring the tab before the others: those behind draw nothing and handle no messages."""
        self.call("Page.bringToFront")

    def close(self) -> None:
        """Close the tab."""
        self.call("Page.close")
        self.socket.close()


@contextmanager
def viewing(*arguments: object) -> Iterator[str]:
    """The address of a running `lg-field view`."""
    command = [str(BIN / "lg-field"), "view", *map(str, arguments), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = server.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line + server.stderr.read()
        yield found[0]
    finally:
        server.terminate()
        server.wait(20)
