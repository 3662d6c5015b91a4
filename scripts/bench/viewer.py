"""How long the viewer takes: the first picture, and the cells of a large grid from Python to the browser's screen.

    python scripts/bench/viewer.py --counts 32

Makes a scene of random weights, opens it with `lg-field view` and looks at it with Chromium.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import tyro

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from browser import Browser, wait_for
from small_scene import small_scene

import lg_field
from lg_field.viewer.cells import line_glb, wireframe
from lg_field.viewer.subject import SceneSubject


def measure_drawing(field: lg_field.RadianceField) -> None:
    """Edges of all cells: seconds to compute, lines, bytes sent."""
    subject = SceneSubject(field, field.description, Path("scene.safetensors"))
    begin = time.perf_counter()
    grid, cells, rows = subject.drawn(subject.selection.kept)
    points, lines, colors = wireframe(grid, cells, subject.weight_sizes()[rows], subject.to_space, subject.segments)
    data = line_glb(points, lines, colors)
    seconds = time.perf_counter() - begin
    print(f"{len(cells):,} cells: {len(lines):,} lines, {len(data) / 1e6:.1f} MB, {seconds:.2f} s to compute")
    begin = time.perf_counter()
    subject.selection.grow()
    subject.selection.toggle(int(cells[0]))
    subject.selection.keep()
    print(f"select and crop: {time.perf_counter() - begin:.3f} s")


def main(counts: int = 32, contraction: bool = False) -> None:
    """Measure.

    Args:
        counts: cells per axis, all of them kept.
        contraction: an unbounded scene, whose cells have curved edges.
    """
    field = small_scene((counts,) * 3, kept=1.0, contraction=contraction)
    measure_drawing(field)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scene.safetensors"
        print(f"scene file: {lg_field.save(field, path):,} bytes")
        begin = time.perf_counter()
        command = [str(Path(sys.executable).parent / "lg-field"), "view", str(path), "--port", "0"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            url = re.search(r"http://\S+", server.stdout.readline())
            assert url is not None
            print(f"lg-field view is up after {time.perf_counter() - begin:.1f} s")
            with Browser() as browser:
                look(browser, url[0])
        finally:
            server.terminate()
            server.wait(20)


def look(browser: Browser, url: str) -> None:
    """Open the page; seconds to the first picture, and from hiding the cells to seeing them again."""
    begin = time.perf_counter()
    page = browser.open(url)
    first = re.search(r"\d+ x \d+ pixels in [\d.]+ s", page.wait_text("pixels in"))
    assert first is not None
    print(f"page open and first picture there after {time.perf_counter() - begin:.1f} s ({first[0]})")
    wait_for(lambda: "sharper" not in page.text, "a sharp picture", 120)
    page.click("Show cells")
    time.sleep(3)
    without = page.screenshot().astype(int)
    begin = time.perf_counter()
    page.click("Show cells")
    wait_for(lambda: np.abs(page.screenshot().astype(int) - without)[:, :800].max(-1).mean() > 1, "the cells")
    print(f"cells on the screen {time.perf_counter() - begin:.1f} s after they were asked for")
    page.click("Invert")
    begin = time.perf_counter()
    wait_for(lambda: "Selected 0 cells" not in page.text, "the selection")
    print(f"all selected: {time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    torch.set_num_threads(2)
    tyro.cli(main)
