"""The panel in nerfstudio's viewer, in a real browser: refused while training, live afterwards, saved as a run."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from browser import CHROMIUM, Browser, Page, wait_for
from demo_scene import write_demo_scene

from lg_field.cli.crop_scene import crop_scene
from lg_field.cli.options import RegionFlags
from lg_field.viewer.page import free_port

pytest.importorskip("nerfstudio", reason="the panel needs nerfstudio's viewer")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")

BIN = Path(sys.executable).parent
SMALL = (
    *("--start-paused", True, "--pipeline.model.grid-nodes", 5, "--pipeline.model.occupancy-points", 16384),
    *("--pipeline.datamanager.train-num-rays-per-batch", 512),
)
"""Of training: little of it, and none before the page is there."""


@contextmanager
def running(root: Path, *command: object) -> Iterator[tuple[str, Path]]:
    """Address and log of a nerfstudio command that opens a viewer."""
    port, log = free_port(), root / "log"
    options = ("--viewer.websocket-port", str(port), "--viewer.websocket-host", "127.0.0.1")
    with log.open("w") as file:
        process = subprocess.Popen(
            [str(BIN / str(command[0])), *map(str, command[1:]), *options], cwd=root, stdout=file, stderr=file
        )
    try:
        wait_for(lambda: process.poll() is not None or serves(f"http://127.0.0.1:{port}"), "the viewer", 200)
        assert process.poll() is None, log.read_text()[-3000:]
        yield f"http://127.0.0.1:{port}", log
    finally:
        process.terminate()
        process.wait(60)


def serves(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except OSError:
        return False


def panel(browser: Browser, url: str) -> Page:
    """The page with the panel open, and nothing asked from elsewhere."""
    page = browser.open(url)
    page.wait_text("Local-Global")
    page.click("Local-Global")
    page.wait_text("Shown ")
    page.wait_text("Resolution: ")
    assert page.text and not page.elsewhere
    return page


def pick(page: Page) -> None:
    """Select the first cell found in the middle of the page."""
    page.press("Pick", "a click selects a cell")
    for x in range(440, 200, -40):
        page.click((x, 400))
        wait_for(lambda: "a click selects a cell" not in page.text, "an answer")
        if "Selected 1 cells" in page.text:
            return
    raise AssertionError(page.text)


def shown(page: Page) -> int:
    found = re.search(r"Shown ([\d,]+) cells", page.text)
    assert found
    return int(found[1].replace(",", ""))


def test_training_refuses_edits_then_a_crop_is_live_and_saved_as_crop_scene_saves_it(tmp_path):
    write_demo_scene(tmp_path / "scene", size=32, train=10, test=1)
    options = ("--output-dir", "outputs", "--experiment-name", "e", "--timestamp", "full", "--vis", "viewer")
    train = ("ns-train", "lg-field-tiny", "--data", "scene", *options, "--max-num-iterations", 60, *SMALL)
    with Browser() as browser, running(tmp_path, *train) as (url, log):
        page = panel(browser, url)
        page.click("Invert")
        page.wait_text(f"Selected {shown(page)} cells")
        page.click("Keep selection")
        page.wait_text("training is paused and its optimizers hold the rows")
        page.click("Resume Training")
        wait_for(lambda: page.text and "Training Finished" in log.read_text(), "the end of training", 200)
        page.click("Clear")
        pick(page)
        page.click("Grow")
        wait_for(lambda: "Selected 1 cells" not in page.text, "a larger selection")
        whole = shown(page)
        page.click("Keep selection")
        page.wait_text("Selected 0 cells")
        kept = shown(page)
        assert 1 <= kept < whole
        page.click("Undo")
        page.wait_text(f"Shown {whole} cells")
        page.click("Redo")
        page.wait_text(f"Shown {kept} cells")
        page.click("Save crop")
        page.wait_text("saved ")
        assert not page.errors
    run, saved = tmp_path / "outputs/e/lg-field-tiny/full", tmp_path / "outputs/e/lg-field-tiny/full-crop"
    assert len(json.loads((saved / "region.json").read_text())["cells"]) == kept
    crop_scene(run / "config.yml", tmp_path / "same", RegionFlags(region=saved / "region.json"))
    (one,), (two,) = ((f / "nerfstudio_models").glob("*.ckpt") for f in (saved, tmp_path / "same"))
    assert one.read_bytes() == two.read_bytes()
    assert len(torch.load(one, weights_only=True)["pipeline"]["_model.field.table.cells"]) == kept
    with Browser() as browser, running(tmp_path, "ns-viewer", "--load-config", saved / "config.yml") as (url, _):
        page = panel(browser, url)
        assert shown(page) == kept
        page.click("Crop to the box exactly")
        page.wait_text("switch on Crop Viewport")
