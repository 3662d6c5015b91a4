"""The viewer in a real browser: the server in a process of its own, Chromium beside it, files compared at the end."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser, Page, wait_for
from small_scene import small_scene

import lg_field
from lg_field.files import crop_file

pytest.importorskip("viser", reason="the viewer needs viser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

BIN = Path(sys.executable).parent
CANVAS = (slice(60, 740), slice(60, 820))
"""Rows and columns of a screenshot that show the scene only."""


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def scene(tmp_path) -> Path:
    path = tmp_path / "scene.safetensors"
    lg_field.save(small_scene(), path)
    return path


def opened(browser: Browser, url: str, resolution: int = 120) -> Page:
    """A page with its sharp picture, without the lines of the cells."""
    page = browser.open(url)
    page.wait_text("pixels in")
    page.fill("Resolution", str(resolution))
    page.click("Show cells")
    sharp(page, resolution)
    return page


def canvas(page: Page) -> np.ndarray:
    """What the scene looks like now."""
    return page.screenshot()[CANVAS].astype(int)


def different(a: np.ndarray, b: np.ndarray) -> float:
    """Part of the pixels that are plainly different."""
    return float((np.abs(a - b).max(-1) > 40).mean())


def sharp(page: Page, resolution: int = 120) -> np.ndarray:
    """The scene's picture, once it is sharp; for the first picture at this resolution."""
    wait_for(lambda: re.search(rf"x {resolution} pixels in [\d.]+ s\n", page.text), "a sharp picture")
    looks = [canvas(page), canvas(page)]
    while different(*looks[-2:]):
        looks.append(canvas(page))
    return looks[-1]


def looks_like(page: Page, picture: np.ndarray) -> None:
    """Wait until the scene looks like this again."""
    wait_for(lambda: different(picture, canvas(page)) < 0.005, "the picture")


def test_pick_crop_undo_redo_save_and_reopen(browser, scene, tmp_path):
    with viewing(scene) as url:
        page = opened(browser, url)
        assert page.text and not page.elsewhere
        assert not page.errors
        whole = sharp(page)
        page.click("Pick")
        page.wait_text("a click selects a cell")
        page.click((440, 400))
        text = page.wait_text("Selected 1 cells")
        assert "Shown 32 cells" in text and "scene units: " in text and "world units: " in text
        page.click("Grow")
        wait_for(lambda: "Selected 1 cells" not in page.text, "a larger selection")
        page.click("Keep selection")
        text = page.wait_text("Selected 0 cells")
        kept = int(re.search(r"Shown (\d+) cells", text)[1])
        assert 1 < kept < 8
        wait_for(lambda: different(whole, canvas(page)) > 0.2, "another picture")
        page.click("Undo")
        page.wait_text("Shown 32 cells")
        page.click("Clear")
        looks_like(page, whole)
        page.click("Redo")
        page.wait_text(f"Shown {kept} cells")
        wait_for(lambda: different(whole, canvas(page)) > 0.2, "the crop's picture")
        page.click("Save crop")
        page.wait_text("saved ")
        page.close()
    saved, listed = tmp_path / "scene-crop.safetensors", tmp_path / "scene-crop.region.json"
    cells = json.loads(listed.read_text())["cells"]
    assert len(cells) == kept
    crop_file(scene, tmp_path / "by-cells.safetensors", cells=cells)
    subprocess.run(
        [str(BIN / "lg-field"), "crop", scene, "--region", listed, "-o", tmp_path / "by-region.safetensors"],
        check=True,
        capture_output=True,
    )
    for name in ("by-cells", "by-region"):
        assert (tmp_path / f"{name}.safetensors").read_bytes() == saved.read_bytes()
    with viewing(saved) as url:
        page = browser.open(url)
        page.wait_text(f"Shown {kept} cells")
        page.close()
