"""The viewer in a real browser: the server in a process of its own, Chromium beside it, files compared at the end."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import CHROMIUM, Browser, Page, viewing, wait_for
from forked import forked
from small_scene import small_scene

import lg_field
from lg_field.files import crop_file
from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

pytest.importorskip("viser", reason="the viewer needs viser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

CANVAS = (slice(60, 740), slice(60, 820))
"""Rows and columns of a screenshot that show the scene only."""


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
    page.switch("Show cells")
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
    look, same = canvas(page), 0
    while same < 3:  # the camera comes to rest slowly
        time.sleep(0.2)
        before, look = look, canvas(page)
        same = 0 if different(before, look) else same + 1
    return look


def looks_like(page: Page, picture: np.ndarray) -> None:
    """Wait until the scene looks like this again."""
    wait_for(lambda: different(picture, canvas(page)) < 0.005, "the picture")


def test_pick_crop_undo_redo_save_and_reopen(browser, scene, tmp_path):
    with viewing(scene) as url:
        page = opened(browser, url)
        assert page.text and not page.elsewhere
        assert not page.errors
        whole = sharp(page)
        page.press("Pick", "a click selects a cell")
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
    forked("lg-field", "crop", scene, "--region", listed, "-o", "by-region.safetensors", cwd=tmp_path)
    for name in ("by-cells", "by-region"):
        assert (tmp_path / f"{name}.safetensors").read_bytes() == saved.read_bytes()
    with viewing(saved) as url:
        page = browser.open(url)
        page.wait_text(f"Shown {kept} cells")
        page.close()


def test_two_browsers_one_leaves_and_a_save_fails(browser, scene, tmp_path):
    before = scene.read_bytes()
    with viewing(scene) as url:
        stays, leaves = opened(browser, url), opened(browser, url)
        leaves.press("Pick", "a click selects a cell")
        leaves.click((440, 400))
        stays.front()
        stays.wait_text("Selected 1 cells")
        leaves.front()
        leaves.click("Remove selection")
        leaves.close()
        stays.front()
        stays.wait_text("Shown 31 cells")
        (tmp_path / "a-file").write_text("in the way")
        for path, answer in (("a-file/crop.safetensors", "a-file"), ("scene.safetensors", "exists")):
            stays.fill("To", str(tmp_path / path))
            stays.click("Save crop")
            stays.wait_text(answer)
        stays.click("Undo")
        stays.wait_text("Shown 32 cells")
        stays.fill("Box", "-1 -1 -1 -0.01 1 1")
        stays.click("Inside the crop box")
        stays.wait_text("scene units: -1 -1 -1 0 1 1")
        stays.fill("Box", "1 1 1 0 0 0")
        stays.click("Crop to the box exactly")
        stays.wait_text("box is empty on axis 0")
        stays.fill("Box", "{window.top.stolen = 1} 2")
        stays.click("Inside the crop box")
        stays.wait_text("the box needs numbers")
        assert not stays.errors and stays.evaluate("window.top.stolen ?? 0") == 0
        stays.close()
    assert scene.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a-file", "scene.safetensors"]


def encoded(signal: Signal, counts: tuple[int, ...], path: Path) -> Path:
    """A field file of a signal, with random weights."""
    torch.manual_seed(1)
    grid = PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))
    field = LocalGlobalNetwork(grid, ChainSizes(len(counts), signal.channels, 6, 6, 1), fill=-1.0)
    with torch.no_grad():
        field.local.mul_(3.0)
    field.description = signal
    lg_field.save(field, path)
    return path


@pytest.mark.parametrize(
    ("signal", "counts"),
    [
        (Signal("image", (40, 60), 3), (2, 3)),
        (Signal("audio", (4000,), 1, "float32", (-1.0, 1.0), 4000.0), (8,)),
        (Signal("video", (6, 40, 60), 3, rate=10.0), (2, 2, 3)),
    ],
    ids=["image", "sound", "video"],
)
def test_signals_are_shown_picked_cropped_and_saved(browser, tmp_path, signal, counts):
    source = encoded(signal, counts, tmp_path / "signal.safetensors")
    with viewing(source) as url:
        page = browser.open(url)
        page.wait_text("pixels in")
        wait_for(lambda: "follows" not in page.text, "a sharp picture")
        page.switch("Show cells")
        if signal.kind == "audio":
            length = "document.querySelector('audio')?.duration ?? 0"
            assert wait_for(lambda: page.evaluate(length), "a player") == pytest.approx(1.0, abs=0.01)
        if signal.kind == "video":
            first = canvas(page)
            page.fill("Frame", "5")
            wait_for(lambda: different(first, canvas(page)) > 0.02, "another frame")
        whole = canvas(page)
        page.press("Pick", "a click selects a cell")
        page.click((380, 380))
        page.wait_text("Selected 1 cells")
        page.click("Keep selection")
        page.wait_text("Shown 1 cells")
        wait_for(lambda: different(whole, canvas(page)) > 0.003, "the crop's picture")
        page.click("Save crop")
        page.wait_text("saved ")
        assert not page.elsewhere and not page.errors
        page.close()
    cells = json.loads((tmp_path / "signal-crop.region.json").read_text())["cells"]
    crop_file(source, tmp_path / "same.safetensors", cells=cells)
    assert (tmp_path / "same.safetensors").read_bytes() == (tmp_path / "signal-crop.safetensors").read_bytes()
