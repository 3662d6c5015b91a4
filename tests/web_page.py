"""The page of a scene in a browser, as a test sees it and works it; tests that import the fixtures have a `scene`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browser import GRAPHICS, Browser, Page, viewing, wait_for

from lg_field.files import FieldFile
from lg_field.radiance.cameras import Camera
from lg_field.radiance.render import render

WIDTH, HEIGHT = 200, 160
BOX = ((-1.0, -1.0, -0.4), (0.2, 1.0, 0.6))
CATCH = """(() => { URL.createObjectURL = (blob) => { globalThis.caught = blob; return "blob:caught"; };
    HTMLAnchorElement.prototype.click = function () { globalThis.caughtName = this.download; }; })()"""
CAUGHT = """(async () => { if (!globalThis.caught) return null;
    const bytes = new Uint8Array(await caught.arrayBuffer()); let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    globalThis.caught = null; return [caughtName, btoa(text)]; })()"""
SEEN = """(async () => { const { screen, renderer, edit } = page, picture = screen.picture;
    const { rgba } = await renderer.read(picture);
    return { rgba: Array.from(rgba), width: picture.width, height: picture.height, camera: picture.camera }; })()"""


@pytest.fixture(name="browser", scope="module")
def browser_fixture() -> Iterator[Browser]:
    """A browser with a graphics card."""
    with Browser(*GRAPHICS) as browser:
        yield browser


@pytest.fixture(name="host", scope="module")
def host_fixture(scene: Path) -> Iterator[str]:
    """The address of the scene's page."""
    with served(scene) as address:
        yield address


@pytest.fixture(name="page")
def page_fixture(browser: Browser, host: str) -> Iterator[Page]:
    """The scene's page; afterwards it has met no error and asked nothing of any other host."""
    page = opened(browser, host)
    yield page
    assert page.errors == []
    assert page.elsewhere == []
    page.close()


def served(path: Path) -> AbstractContextManager[str]:
    """Context: the address of `lg-field view --web`."""
    return viewing("--web", path)


def opened(browser: Browser, url: str) -> Page:
    """The page with its sharp picture."""
    page = browser.open(url)
    size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
    page.call("Emulation.setDeviceMetricsOverride", **size)
    sharp(page)
    return page


def sharp(page: Page) -> None:
    """Wait for the exact picture of all that is kept, as large as the canvas is shown."""
    fits = "(c => Math.abs(c.width - c.clientWidth * Math.min(2, devicePixelRatio)) < 1)(page.screen.canvas)"
    state = f"(d => d && d.picture === 'sharp' && d.loading === 'no' && {fits})(document.body?.dataset)"
    wait_for(lambda: page.evaluate(state), "the sharp picture", 90.0)


def press(page: Page, name: str) -> None:
    """Press a button by its id."""
    page.evaluate(f"document.getElementById({json.dumps(name)}).click()")


def box_tool(page: Page) -> None:
    """Draw `BOX`, by numbers."""
    page.evaluate("document.querySelector('[data-tool=box]').click()")
    for axis, (low, high) in enumerate(zip(*BOX)):
        for end, value in enumerate((low, high)):
            page.evaluate(f"""(input => {{ input.value = {value}; input.dispatchEvent(new Event("change")); }})
                (document.querySelectorAll("#numbers input")[{2 * axis + end}])""")


def text(page: Page, name: str) -> str:
    return page.evaluate(f"document.getElementById({json.dumps(name)}).textContent")


def seen(page: Page) -> tuple[np.ndarray, Camera]:
    """The picture that is shown, (h, w, 3), and its camera."""
    sharp(page)
    found = page.evaluate(SEEN)
    height, width, camera = found["height"], found["width"], found["camera"]
    matrix = torch.tensor(camera["toScene"], dtype=torch.float64)
    return np.array(found["rgba"]).reshape(height, width, 4)[..., :3], Camera(matrix, camera["focal"], width, height)


def same_as_render(page: Page, field: Any) -> None:
    """What is shown is what `lg-field render` gives."""
    picture, camera = seen(page)
    off = 255 * np.abs(picture - render(field, field.description, camera).rgb.numpy())
    assert picture.shape == (HEIGHT, WIDTH, 3)
    assert off.mean() <= 1.0 and off.max() <= 4.0


def caught(page: Page, button: str) -> tuple[str, bytes]:
    """Name and bytes of the file that a button gives."""
    page.evaluate(CATCH)
    press(page, button)
    name, data = wait_for(lambda: page.evaluate(CAUGHT), f"a file from {button}; the page says {text(page, 'message')}")
    return name, base64.b64decode(data)


def part(scene: Path, **keep: Any) -> Any:
    with FieldFile.open(scene) as file:
        return file.load(**keep)
