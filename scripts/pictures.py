"""The pictures of the README and the documentation, of the demo scene: whole, cropped, with an object removed, and its
objects put together anew.

bash scripts/demo.sh && lg-field pack --load-config demo/outputs/demo/lg-field-tiny/full/config.yml -o demo.safetensors
python scripts/pictures.py demo.safetensors docs/pictures
"""

from __future__ import annotations

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
from lg_field.radiance.composition import Composition, Part
from lg_field.radiance.cut_picture import cut_view
from lg_field.radiance.render import orbit, render

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


def pictures(scene: Path, folder: Path, size: int = 640) -> None:
    """Render them.

    Args:
        scene: the demo scene, as `lg-field pack` writes it.
        folder: where the pictures go.
        size: pixels of a view along each side.
    """
    field = lg_field.load(scene)
    about = field.description
    cameras = list(orbit(field, about, VIEWS, size, size, elevation=26.0))  # type: ignore[arg-type]
    camera = replace(cameras[VIEW], focal=cameras[VIEW].focal * ZOOM)
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
