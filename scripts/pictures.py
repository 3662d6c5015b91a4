"""The pictures of the README and the documentation, of the demo scene: whole, cropped, with an object removed, and its
objects put together anew.

bash scripts/demo.sh && lg-field pack --load-config demo/outputs/demo/lg-field-tiny/full/config.yml -o demo.safetensors
python scripts/pictures.py demo.safetensors docs/pictures
python scripts/pictures.py demo.safetensors docs/pictures --page docs/guides/web.png    # of its page in chromium, alone
"""

from __future__ import annotations

import base64
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from demo_scene import OBJECTS
from PIL import Image

import lg_field
from lg_field.errors import entry_point
from lg_field.files import atomic_write
from lg_field.radiance.arrangement import Place
from lg_field.radiance.cameras import Camera
from lg_field.radiance.composition import Composition, Part
from lg_field.radiance.cut_picture import cut_view
from lg_field.radiance.render import orbit, render
from lg_field.web.publish import Site, SiteCamera, publish

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

PAGE_SIZE = (1100, 640)
"""Pixels of the window that shows the page: width, height."""
BOX = """(numbers => { document.querySelector('[data-tool=box]').click();
    document.getElementById("preview").click();
    numbers.forEach((value, k) => { const input = document.querySelectorAll("#numbers input")[k];
        input.value = value; input.dispatchEvent(new Event("change")); }); })"""
"""Draw a box by its numbers, and leave what is outside in the picture."""
SHARP = "document.body?.dataset.picture === 'sharp' && document.body.dataset.loading === 'no'"
VIEWS, VIEW = 24, 13
"""Cameras of the circle, and which of them shows all three objects."""
ZOOM = 1.35
"""Focal length over that of the training cameras."""
MARGIN = 24
"""White rows above and below."""
ELSEWHERE = Place(move=(-0.5, 1.35, 0.0), turn=(0.0, 0.0, -80.0))
"""Where the composed picture's second torus stands, as in docs/guides/compose.md."""


def to_image(values: torch.Tensor) -> Image.Image:
    """(height, width, 3) in [0, 1] -> a picture."""
    return Image.fromarray((values.numpy() * 255).round().astype(np.uint8))


def write(values: list[torch.Tensor], path: Path) -> None:
    """Put pictures side by side into a PNG, without the rows at the top and the bottom where none shows anything."""
    both = torch.cat(values, dim=1)
    shown = (both < 0.98).any(-1).any(-1).nonzero()
    image = to_image(both[max(0, int(shown.min()) - MARGIN) : int(shown.max()) + MARGIN])
    with atomic_write(path, overwrite=True) as temporary:
        image.save(temporary, format="PNG", optimize=True)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size:,} bytes")


def page_picture(scene: Path, camera: Camera, target: Path) -> None:
    """Write a PNG of the scene's page, with a box around the torus to crop by."""
    from browser import GRAPHICS, Browser, wait_for
    from web_host import hosted

    words = f"{scene.stat().st_size / 1e6:.1f} MB of weights, drawn and cropped in the browser"
    site = Site("The demo scene", words, SiteCamera.of(camera, "start"))
    numbers = [end for pair in zip(*OBJECTS["torus"]) for end in pair]
    with tempfile.TemporaryDirectory() as folder:
        publish(scene, Path(folder), site, still=False)
        with hosted(Path(folder)) as host, Browser(*GRAPHICS) as browser:
            page = browser.open("about:blank")
            size = dict(zip(("width", "height"), PAGE_SIZE))
            page.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)
            page.call("Page.navigate", url=f"{host}/index.html")
            for action in ("", f"{BOX}({json.dumps(numbers)})"):
                page.evaluate(action)
                wait_for(lambda: page.evaluate(SHARP), f"the sharp picture; errors: {page.errors}", 600.0)
            data = base64.b64decode(page.call("Page.captureScreenshot", format="png")["data"])
    with atomic_write(target, overwrite=True) as temporary:
        Image.open(io.BytesIO(data)).convert("RGB").quantize(256).save(temporary, format="PNG", optimize=True)
    print(f"{target}: {PAGE_SIZE[0]} x {PAGE_SIZE[1]}, {target.stat().st_size:,} bytes")


def pictures(scene: Path, folder: Path, size: int = 640, page: Path | None = None) -> None:
    """Render them.

    Args:
        scene: the demo scene, as `lg-field pack` writes it.
        folder: where the pictures go.
        size: pixels of a view along each side.
        page: write only the picture of the scene's page, to this PNG.
    """
    field = lg_field.load(scene)
    about = field.description
    cameras = list(orbit(field, about, VIEWS, size, size, elevation=26.0))  # type: ignore[arg-type]
    camera = replace(cameras[VIEW], focal=cameras[VIEW].focal * ZOOM)
    if page is not None:
        return page_picture(scene, camera, page)
    torus = lg_field.Region.box(*OBJECTS["torus"])
    crop = lg_field.crop(field, torus)
    view = cut_view(field, crop, about, camera)  # type: ignore[arg-type]
    write([view.whole.rgb, view.part.rgb], folder / "before_after.png")
    write([view.picture()[:, : 2 * size]], folder / "cut.png")
    rest = lg_field.crop(field, torus, invert=True)
    write([view.whole.rgb, render(rest, about, camera).rgb], folder / "removed.png")  # type: ignore[arg-type]
    write([composed(field, size)], folder / "compose.png")


def composed(field: Any, size: int) -> torch.Tensor:
    """(size, 4/3 size, 3) the sphere, the torus beside it, and a copy of the torus elsewhere."""
    globe, torus = (lg_field.crop(field, lg_field.Region.box(*OBJECTS[name])) for name in ("globe", "torus"))
    scene = Composition([Part("globe", globe), Part("torus", torus), Part("torus-2", torus, ELSEWHERE)])
    about: Any = scene.description
    cameras = list(orbit(scene, about, VIEWS, size * 4 // 3, size, elevation=26.0))
    return render(scene, about, replace(cameras[VIEW], focal=cameras[VIEW].focal * ZOOM)).rgb


if __name__ == "__main__":
    with entry_point("pictures"):
        tyro.cli(pictures, config=(tyro.conf.PositionalRequiredArgs,))
