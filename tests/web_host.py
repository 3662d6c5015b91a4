"""A host of static files with ranges, as a page of a scene needs it, and the page's modules in a browser."""

from __future__ import annotations

import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from browser import Browser, Page

import lg_field
from lg_field.radiance.cameras import Camera
from lg_field.radiance.field import RadianceField

STATIC = Path(lg_field.__file__).parent / "web" / "static"
OPEN = """(async () => {
    const { openField } = await import("/field.js"), { openDevice } = await import("/gpu.js");
    const { Renderer } = await import("/render.js");
    const device = await openDevice();
    const problems = globalThis.problems = [];
    device.addEventListener("uncapturederror", (event) => problems.push(event.error.message));
    const field = await openField({ url: NAME });
    const renderer = await Renderer.create(device, field);
    const missing = renderer.keep(new Uint8Array(field.numRows).fill(1));
    await field.rows(missing, (rows) => renderer.table.load(rows));
    globalThis.scene = { field, renderer, device };
    return field.numRows; })()"""
PREPARE = "scene.renderer.bricks.ready().then(() => scene.renderer.bricks.complete)"
TRACE = """(async (camera, how) => {
    const { renderer } = globalThis.scene;
    const picture = await renderer.trace(camera, how);
    const { rgba, depth } = await renderer.read(picture);
    if (globalThis.problems.length) throw new Error(globalThis.problems.join("; "));
    return { rgba: Array.from(rgba), depth: Array.from(depth) }; })"""


class _Ranges(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not asked or not path.is_file():
            return super().do_GET()
        data, first = path.read_bytes(), int(asked[1])
        last = min(int(asked[2] or len(data) - 1), len(data) - 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Content-Length", str(last - first + 1))
        self.end_headers()
        self.wfile.write(data[first : last + 1])
        return None

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def hosted(folder: Path) -> Iterator[str]:
    """The address of a folder."""
    handler = lambda *arguments: _Ranges(*arguments, directory=str(folder))  # noqa: E731
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def put(folder: Path, **fields: RadianceField) -> None:
    """The page's modules and some scenes, NAME.safetensors, in a folder."""
    shutil.copytree(STATIC, folder, dirs_exist_ok=True)
    (folder / "blank.html").write_text("<!doctype html><title>blank</title><body>ready</body>")
    for name, field in fields.items():
        lg_field.save(field, folder / f"{name}.safetensors")


def opened(browser: Browser, host: str, name: str) -> Page:
    """A blank page in which a scene is loaded, ready to be traced."""
    page = browser.open(f"{host}/blank.html")
    page.wait_text("ready")
    page.evaluate(OPEN.replace("NAME", json.dumps(f"/{name}.safetensors")))
    return page


def traced(page: Page, camera: Camera, exact: bool = True, **how: Any) -> tuple[np.ndarray, np.ndarray]:
    """A picture as numbers: (h, w, 4) and depths (h, w)."""
    seen = {"toScene": camera.to_scene.tolist(), "focal": camera.focal}
    how |= {"width": camera.width, "height": camera.height, "exact": exact}
    while not exact and not page.evaluate(PREPARE):
        pass
    found = page.evaluate(f"{TRACE}({json.dumps(seen)}, {json.dumps(how)})")
    shape = (camera.height, camera.width)
    return np.array(found["rgba"]).reshape(*shape, 4), np.array(found["depth"]).reshape(shape)
