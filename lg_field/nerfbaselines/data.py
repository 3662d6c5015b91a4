"""A data set of nerfbaselines as training rays in the scene's own space."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from nerfbaselines.cameras import get_rays
from torch import Tensor

from lg_field.radiance.placement import Placement, look_outward, place
from lg_field.radiance.views import Views
from lg_field.training.place import Space, goes_on
from lg_field.training.stereo import seen_points

HULL = 128
"""Pixels of a side of the alphas that a scene's box is found from, at most."""


def views_of(cameras: Any) -> Views:
    """Cameras of nerfbaselines (OpenCV axes) as ours (OpenGL axes), distortion left out."""
    poses = torch.from_numpy(np.asarray(cameras.poses)[:, :3, :4]).double() * torch.tensor([1.0, -1.0, -1.0, 1.0])
    lens, size = (torch.from_numpy(np.asarray(v)).double() for v in (cameras.intrinsics, cameras.image_sizes))
    return Views(poses, lens[:, :2] / size, lens[:, 2:] / size)


def small_alphas(images: Any) -> Float[Tensor, "views height width"] | None:
    """Alphas of cut-out images of one size, at most `HULL` pixels a side; None where some image has none."""
    if any(image.ndim != 3 or image.shape[-1] != 4 for image in images) or len({i.shape for i in images}) > 1:
        return None
    step = max(1, -(-max(images[0].shape[:2]) // HULL))
    alphas = [torch.from_numpy(np.ascontiguousarray(image[..., 3])).float()[None, None] / 255 for image in images]
    return torch.cat([torch.nn.functional.max_pool2d(a, step, ceil_mode=True)[0] for a in alphas])


def placed(dataset: Any, space: Space) -> Placement:
    """Where the scene of a data set is. How large it is about cameras that look outward is found in the images, where
    there are no sparse points.

    Args:
        dataset: of nerfbaselines, loaded.
        space: see `Settings.space`.

    Raises:
        ValueError: a box is asked for and there is none.
    """
    views, sparse = views_of(dataset["cameras"]), dataset.get("points3D_xyz")
    points = None if sparse is None or not len(sparse) else torch.from_numpy(np.asarray(sparse)).double()

    def seek() -> Float[Tensor, "points 3"] | None:
        return seen_points(views, dataset["images"])

    if goes_on(space, bounded=True):
        return place(views, points if look_outward(views) else None, seek=seek)
    found = place(views, points, small_alphas(dataset["images"]), seek=seek)
    if found.box is None and not goes_on(space, bounded=False):
        raise ValueError("space 'bounded' needs images that are cut out (alpha); use 'auto' or 'contracted'")
    return found


def digest(cameras: Any) -> str:
    """What tells cameras of nerfbaselines from others: of their poses, to four digits."""
    poses = np.asarray(cameras.poses, np.float64)[..., :3, :4].round(4) + 0.0  # no negative zeros
    return hashlib.sha256(poses.tobytes()).hexdigest()[:16]


def rays(
    cameras: Any, pixels: np.ndarray, rotation: Float[Tensor, "3 3"], matrix: Float[Tensor, "4 4"]
) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
    """Rays through the middles of pixels, in scene units.

    Args:
        cameras: of nerfbaselines, one for each pixel or one for all.
        pixels: (n, 2) whole x, y.
        rotation: from the data set's axes to the scene's.
        matrix: from the data set's units to the scene's.

    Returns:
        (n, 3) float32 origins, and unit directions.
    """
    origins, directions = (torch.from_numpy(np.array(v)).double() for v in get_rays(cameras, pixels))
    origins = origins @ matrix[:3, :3].T + matrix[:3, 3]
    directions = directions @ rotation.T
    return origins.float(), (directions / directions.norm(dim=-1, keepdim=True)).float()


class Pixels:
    """The images' pixels, drawn at random."""

    def __init__(self, dataset: Any, rotation: Float[Tensor, "3 3"], matrix: Float[Tensor, "4 4"]) -> None:
        """
        Args:
            dataset: of nerfbaselines, loaded: images (h, w, 3 or 4), uint8 or float.
            rotation, matrix: where the scene is, see `rays`.
        """
        self.cameras, self.places, images = dataset["cameras"], (rotation, matrix), dataset["images"]
        self.sizes = np.array([image.shape[:2] for image in images])
        self.ends = np.cumsum(self.sizes.prod(1))
        self.alpha = any(image.shape[-1] == 4 for image in images)
        self.images = [self._as_bytes(np.asarray(image)) for image in images]

    def _as_bytes(self, image: np.ndarray) -> np.ndarray:
        """(h, w, 3) or, if any image has alpha, (h, w, 4) uint8."""
        image = image if image.dtype == np.uint8 else (image.clip(0, 1) * 255).round().astype(np.uint8)
        if self.alpha and image.shape[-1] == 3:
            return np.concatenate([image, np.full_like(image[..., :1], 255)], -1)
        return image

    def draw(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Random pixels of all images: (n, 3) origins, (n, 3) directions, (n, 3 or 4) colours in [0, 1]."""
        number = torch.randint(int(self.ends[-1]), (count,)).numpy()
        view = np.searchsorted(self.ends, number, side="right")
        inside = number - (self.ends[view] - self.sizes[view].prod(1))
        y, x = inside // self.sizes[view, 1], inside % self.sizes[view, 1]
        colors = np.stack([self.images[v][j, i] for v, j, i in zip(view, y, x)])
        origins, directions = rays(self.cameras[view], np.stack([x, y], -1), *self.places)
        return origins, directions, torch.from_numpy(colors).float() / 255
