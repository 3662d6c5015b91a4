"""How far away what photos show is, where no sparse points say so: by patches that look alike in neighbouring photos.

A plane sweep (Collins 1996): a patch is thought to lie at many distances in turn, and is looked for where neighbours
would show it; where one distance alone makes it look the same in several of them, there it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.captures.photo_file import decoding, eight_bits
from lg_field.radiance.views import Views

SIDE = 160
"""Pixels of a photo's longer side that are looked at, at least where it has them; below twice as many."""
PHOTOS = 32
"""Photos whose patches are looked for."""
RANKS = (0, 1, 3, 7)
"""Neighbours a patch is looked for in, counted from the closest one."""
SAME_WAY = 0.87
"""Least cosine between the directions in which neighbours look."""
PATCHES, RADIUS = (8, 10), 3
"""Patches of a photo, down and across, each the most textured of its part; half their side, pixels."""
DISTANCES, NEAREST, FARTHEST = 72, 0.7, 300.0
"""Distances that are tried, the least and the largest, in median distances of cameras from the closest one."""
ALIKE, APART, AGAIN = 0.85, 0.08, 4
"""Least correlation of patches at their distance; how much less it must be elsewhere, that is this many distances and
more away."""
TEXTURE, SPREAD = 0.7, 1.0
"""Least mean slope of a patch in any direction, of 255 a pixel; least standard deviation of what is compared."""


def seen_points(views: Views, photos: Sequence[Path], upright: Sequence[bool] = ()) -> Float[Tensor, "points 3"] | None:
    """Points that several photos show.

    Args:
        views: cameras, whose lenses are taken to be without distortion.
        photos: of them.
        upright: whether the views are of photos turned upright (EXIF), of each; () = of none.

    Returns:
        float64, in the cameras' units; None where fewer than 100 are found.

    Raises:
        CaptureError: a broken photo.
    """
    if len(photos) < 3:
        return None
    apart = torch.cdist(views.origins, views.origins)
    apart.fill_diagonal_(torch.inf)
    unit = float(apart.amin(1).median())
    if not unit > 0.0:
        return None
    distances = unit * torch.from_numpy(np.geomspace(NEAREST, FARTHEST, DISTANCES))
    chosen = np.unique(np.linspace(0, len(photos) - 1, min(PHOTOS, len(photos))).round().astype(int)).tolist()
    apart = apart.masked_fill(views.axes @ views.axes.T < SAME_WAY, torch.inf)
    greys: dict[int, Tensor] = {}
    found = []
    for k in chosen:
        order = apart[k].argsort()
        order = order[apart[k][order].isfinite()]
        neighbours = [int(order[rank]) for rank in RANKS if rank < len(order)]
        for j in (k, *neighbours):
            if j not in greys:
                greys[j] = _grey(photos[j], bool(upright) and upright[j])
        if len(neighbours) > 1:
            found.append(_points_of(views, greys, k, neighbours, distances))
    points = torch.cat(found) if found else torch.zeros(0, 3, dtype=torch.float64)
    return points if len(points) >= 100 else None


def _grey(path: Path, upright: bool) -> Float[Tensor, "height width"]:
    """A photo's mean of colours, 0..255, of few pixels."""
    from PIL import ImageOps

    with decoding(path) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        turned = ImageOps.exif_transpose(image) if upright else image
        pixels = eight_bits(turned, path)[..., :3].astype(np.float32).mean(2)
    step = max(1, max(pixels.shape) // SIDE)
    height, width = (n // step for n in pixels.shape)
    blocks = pixels[: height * step, : width * step].reshape(height, step, width, step)
    return torch.from_numpy(blocks.mean((1, 3)))


def _textured(grey: Float[Tensor, "height width"]) -> Int64[Tensor, "patches 2"]:
    """(n, 2) middles (down, across) of the patch of each part of a photo that a shift in any direction changes most
    (Shi and Tomasi 1994)."""
    side = 2 * RADIUS + 1
    down, across = (0.5 * (grey[2:, 1:-1] - grey[:-2, 1:-1]), 0.5 * (grey[1:-1, 2:] - grey[1:-1, :-2]))
    products = torch.stack([down * down, across * across, down * across])
    if products.shape[1] < 2 * side + PATCHES[0] or products.shape[2] < 2 * side + PATCHES[1]:
        return torch.zeros(0, 2, dtype=torch.int64)
    a, b, c = torch.nn.functional.avg_pool2d(products, side, 1)
    least = 0.5 * (a + b) - (0.25 * (a - b).square() + c.square()).sqrt()
    best, places = torch.nn.functional.adaptive_max_pool2d(least[None], PATCHES, return_indices=True)
    places = places.flatten()[best.flatten() > TEXTURE**2]
    return torch.stack([places // least.shape[1], places % least.shape[1]], dim=1) + RADIUS + 1


def _points_of(
    views: Views, greys: dict[int, Tensor], k: int, neighbours: list[int], distances: Tensor
) -> Float[Tensor, "points 3"]:
    """Points that a photo's patches show, of those whose distance is plain."""
    grey = greys[k]
    middles = _textured(grey)
    if not len(middles):
        return torch.zeros(0, 3, dtype=torch.float64)
    offsets = torch.cartesian_prod(*[torch.arange(-RADIUS, RADIUS + 1)] * 2)
    pixels = middles[:, None] + offsets
    patches = grey[pixels[..., 0], pixels[..., 1]]
    size = torch.tensor([grey.shape[1], grey.shape[0]], dtype=torch.float64)
    origins, directions = views[k].rays((pixels.flip(-1).double().flatten(0, 1) + 0.5) / size)
    ahead = directions / (directions @ views.axes[k])[:, None]
    points = origins[:, None] + distances[:, None] * ahead[:, None]
    alike = torch.stack([_alike(views[j], greys[j], points, patches) for j in neighbours])
    best = alike.nan_to_num(-1.0).topk(2, dim=0).values.mean(0)  # patches, distances
    top, where = best.max(1)
    away = (torch.arange(len(distances)) - where[:, None]).abs() >= AGAIN
    plain = (top > ALIKE) & (best.masked_fill(~away, -1.0).amax(1) < top - APART)
    plain &= (where > 0) & (where < len(distances) - 1)
    middle = len(offsets) // 2
    return points.view(len(middles), len(offsets), len(distances), 3)[plain, middle, where[plain]]


def _alike(
    view: Views, grey: Tensor, points: Float[Tensor, "all distances 3"], patches: Float[Tensor, "patches pixels"]
) -> Float[Tensor, "patches distances"]:
    """Correlation of patches with what a neighbour shows where they would be; NaN where it does not show that."""
    places, depth = view.project(points.flatten(0, 1))
    grid = (2.0 * places[0] - 1.0).float()
    seen = (depth[0] > 0) & (grid.abs() <= 1.0).all(-1)
    values = torch.nn.functional.grid_sample(
        grey[None, None], torch.where(seen[:, None], grid, 2.0)[None, None], align_corners=False, padding_mode="border"
    )[0, 0, 0]
    values = torch.where(seen, values, torch.nan).view(*patches.shape, -1)
    ours = (patches - patches.mean(1, keepdim=True))[..., None]
    theirs = values - values.mean(1, keepdim=True)
    flat = theirs.square().mean(1).sqrt()
    product = (ours * theirs).mean(1) / (ours.square().mean(1).sqrt() * flat).clamp_min(1e-6)
    return torch.where(flat > SPREAD, product, torch.nan)
