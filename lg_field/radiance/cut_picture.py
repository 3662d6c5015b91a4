"""A picture of what a crop keeps of a scene: what goes is grey, and the cut through what the scene holds is marked."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.cameras import Camera, orbit
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Picture, render
from lg_field.radiance.scene import Scene

MARK = (0.9, 0.1, 0.1)
"""Colour of the cut."""
BEFORE = 8
"""Marching steps before a surface in which what was cut off from it is looked for."""


class CutView(NamedTuple):
    """A scene and a part of it, seen by one camera."""

    whole: Picture
    part: Picture
    kept: Tensor
    """(height, width, 1) bool: what the whole scene shows there is in the part."""
    cut: Tensor
    """(height, width, 1) bool: the part shows its cut: what the scene held just before it is gone."""

    def picture(self) -> Float[Tensor, "height both_widths 3"]:
        """The whole scene, grey and pale where it goes, beside the part with its cut marked; [0, 1]."""
        rgb = self.whole.rgb
        pale = 0.35 * rgb.mean(-1, keepdim=True).expand_as(rgb) + 0.55
        gone = ~self.kept & (self.whole.accumulation > 0.5)
        marked = 0.4 * self.part.rgb + 0.6 * rgb.new_tensor(MARK)
        return torch.cat([torch.where(gone, pale, rgb), torch.where(self.cut, marked, self.part.rgb)], dim=1)


@torch.no_grad()
def cut_view(field: RadianceField, part: RadianceField, scene: Scene, camera: Camera) -> CutView:
    """What a camera sees of a field and of a crop of it."""
    whole, small = render(field, scene, camera), render(part, scene, camera)
    origins, directions = (v.view(-1, 3) for v in camera.rays())

    def of_both(depth: Tensor) -> tuple[Bool[Tensor, " rays"], Bool[Tensor, " rays"]]:
        points = (origins + depth.view(-1, 1) * directions).to(field.cells.device)
        return field.is_occupied(points).cpu(), part.is_occupied(points).cpu()

    shape = (camera.height, camera.width, 1)
    cut = torch.zeros(len(origins), dtype=torch.bool)
    for step in range(1, BEFORE + 1):
        there, left = of_both(small.depth - step * scene.step)
        cut |= there & ~left
    kept = (small.accumulation > 0.5) & ((small.depth - whole.depth).abs() < 2.0 * scene.step)
    return CutView(whole, small, kept, cut.view(shape) & (small.accumulation > 0.5))


def cut_picture(
    field: RadianceField, part: RadianceField, scene: Scene, size: int, views: int = 2
) -> Float[Tensor, "height width 3"]:
    """Views of a crop from around the whole scene, one below the other, each as `CutView.picture`; [0, 1].

    Args:
        field: the whole scene.
        part: a crop of it.
        scene: their description.
        size: pixels of a view along each side.
        views: cameras on a circle.
    """
    return torch.cat([cut_view(field, part, scene, c).picture() for c in orbit(field, scene, views, size, size)])
