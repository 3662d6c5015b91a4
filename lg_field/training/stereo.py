"""How far away what photos show is, where no sparse points say so: by patches that look alike in neighbouring photos.

A plane sweep (Collins 1996): a patch is thought to lie at many distances in turn, and is looked for where neighbours
would show it; where one distance alone makes it look the same in several of them, there it is. Where cameras turn in
one place, it looks the same at all of the farthest distances: it is found again, but not how far away it is. How often
patches look alike by chance, the same neighbours say where their photos are turned upside down: what they then show is
not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.captures.photo_file import decoding, eight_bits
from lg_field.errors import notice
from lg_field.radiance.placement import ENOUGH
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

CHANCE = 3.0
"""What is believed is found more than so many times as often as by chance."""
TRIED, SELDOM = 500, 0.01
"""Patches looked for from which on photos are said not to belong to the poses, where no more than this share of them,
or no more than `CHANCE` times those found by chance, are found again."""


def seen_points(
    views: Views, photos: Sequence[Path | np.ndarray], upright: Sequence[bool] = ()
) -> Float[Tensor, "points 3"] | None:
    """Points that several photos show.

    Args:
        views: cameras, whose lenses are taken to be without distortion.
        photos: of them: files, or (h, w, 3 or 4) arrays, uint8 or in [0, 1].
        upright: whether the views are of files turned upright (EXIF), of each; () = of none.

    Returns:
        float64, in the cameras' units; None where fewer than `ENOUGH` are found, or no more than `CHANCE` times those
        found by chance, and where photos and poses seem not to belong together, which is said in a line.

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
    near = _neighbours(views, apart)
    greys = {j: _grey(photos[j], bool(upright) and upright[j]) for j in {j for k in near for j in (k, *near[k])}}
    patches = {k: _textured(greys[k]) for k in near}

    def sweep(k: int, turned: bool) -> Found:
        others = [(views[j], greys[j].flip(0, 1) if turned else greys[j]) for j in near[k]]
        return _found_in(views[k], greys[k], patches[k], others, distances)

    found, chance = (Found.all_of([sweep(k, turned) for k in near]) for turned in (False, True))
    tried = sum(map(len, patches.values()))
    if tried >= TRIED and found.again <= max(CHANCE * chance.again, SELDOM * tried):
        notice(
            f"photos and poses do not seem to belong together: of {tried} patches of photos {found.again} are found "
            f"again where the poses say, {chance.again} by chance in the same photos turned upside down; check that "
            "the files are in the order of the poses (10.jpg comes before 2.jpg in many lists), and that the poses, "
            "their axes and the focal length are of these photos"
        )
        return None
    points = found.points
    return points if len(points) >= ENOUGH and len(points) > CHANCE * len(chance.points) else None


class Found(NamedTuple):
    """What is found of patches."""

    points: Float[Tensor, "points 3"]
    """Of those whose distance is plain, float64."""
    again: int
    """How many these are, and those that look alike at all of the farthest distances: they are there or beyond."""

    @staticmethod
    def all_of(parts: Sequence[Found]) -> Found:
        """What is found of the patches of several photos."""
        points = [torch.zeros(0, 3, dtype=torch.float64), *(part.points for part in parts)]
        return Found(torch.cat(points), sum(part.again for part in parts))


def _neighbours(views: Views, apart: Float[Tensor, "views views"]) -> dict[int, list[int]]:
    """Of each of `PHOTOS` views, evenly spaced, those its patches are looked for in; of views that have two or more.

    Args:
        views: the cameras.
        apart: distances between them, inf from each to itself.
    """
    chosen = np.unique(np.linspace(0, len(apart) - 1, min(PHOTOS, len(apart))).round().astype(int)).tolist()
    apart = apart.masked_fill(views.axes @ views.axes.T < SAME_WAY, torch.inf)
    near = {}
    for k in chosen:
        order = apart[k].argsort()
        order = order[apart[k][order].isfinite()]
        near[k] = [int(order[rank]) for rank in RANKS if rank < len(order)]
    return {k: found for k, found in near.items() if len(found) > 1}


def _colors(path: Path, upright: bool) -> np.ndarray:
    """(h, w, 3 or 4) uint8 of a file, which is read in smaller steps where its format can."""
    from PIL import ImageOps

    with decoding(path) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))
        return eight_bits(ImageOps.exif_transpose(image) if upright else image, path)


def _grey(photo: Path | np.ndarray, upright: bool) -> Float[Tensor, "height width"]:
    """A photo's mean of colours, 0..255, of few pixels."""
    colors = _colors(photo, upright) if isinstance(photo, Path) else photo
    pixels = colors[..., :3].mean(2, dtype=np.float32) * (1.0 if colors.dtype == np.uint8 else 255.0)
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


def _found_in(
    view: Views,
    grey: Tensor,
    middles: Int64[Tensor, "patches 2"],
    neighbours: Sequence[tuple[Views, Tensor]],
    distances: Tensor,
) -> Found:
    """What is found again of a photo's patches."""
    if not len(middles):
        return Found.all_of([])
    offsets = torch.cartesian_prod(*[torch.arange(-RADIUS, RADIUS + 1)] * 2)
    pixels = middles[:, None] + offsets
    patches = grey[pixels[..., 0], pixels[..., 1]]
    size = torch.tensor([grey.shape[1], grey.shape[0]], dtype=torch.float64)
    origins, directions = view.rays((pixels.flip(-1).double().flatten(0, 1) + 0.5) / size)
    ahead = directions / (directions @ view.axes[0])[:, None]
    points = origins[:, None] + distances[:, None] * ahead[:, None]
    alike = torch.stack([_alike(other, seen, points, patches) for other, seen in neighbours])
    best = alike.nan_to_num(-1.0).topk(2, dim=0).values.mean(0)  # patches, distances
    top, where = best.max(1)
    away = (torch.arange(len(distances)) - where[:, None]).abs() >= AGAIN
    plain = (top > ALIKE) & (best.masked_fill(~away, -1.0).amax(1) < top - APART)
    plain &= (where > 0) & (where < len(distances) - 1)
    beyond = ~plain & (best[:, -AGAIN:].amin(1) > ALIKE)
    middle = len(offsets) // 2
    places = points.view(len(middles), len(offsets), len(distances), 3)[plain, middle, where[plain]]
    return Found(places, int((plain | beyond).sum()))


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
