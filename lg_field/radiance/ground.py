"""The plane that an object stands on, found among a scene's occupied voxels (RANSAC: Fischler and Bolles, 1981)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.components import lattice_of, middles
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.space.regions import HalfSpace

LEVEL = 0.9
"""Least cosine between the plane's normal and the upward direction."""
LEAST = 30
"""Voxels that a plane must hold."""
PLANES = 8
"""Planes that are looked at."""
SOLID = 0.5
"""Least opacity of voxels that it is looked for among."""
NEAR = 0.6
"""Unbounded scenes: how far from the origin the ground is looked for, scene units; cameras see about 1 about it."""
BELOW = 3
"""Unbounded scenes: voxels that the origin, at which cameras look, may lie below the border."""


def above_ground(
    grid: OccupancyGrid, voxels: Bool[Tensor, "nx ny nz"], up: tuple[float, float, float], seed: int = 0
) -> HalfSpace:
    """What lies above the level plane that holds the most of the upper sides of voxels.

    The border lies above the voxels of the plane, so that what stands on it is not connected to anything below.

    Args:
        grid: says where voxels are.
        voxels: those that are looked at. Of an unbounded scene only those near the origin count (`NEAR`).
        up: upward direction, of any length.
        seed: of the random triples of points.

    Raises:
        ValueError: there is no level plane.
        ImportError: open3d is missing.
    """
    upward = torch.nn.functional.normalize(torch.tensor(up, dtype=torch.float64), dim=0)
    size = float(torch.tensor(lattice_of(grid).cell_size, dtype=torch.float64).max())

    def good(normal: np.ndarray, offset: float) -> bool:
        return not grid.frame.contraction or offset > -BELOW * size

    return level_plane(upper_sides(grid, voxels, upward), size, upward, good, seed)


def level_plane(
    points: Float[np.ndarray, "n 3"],
    size: float,
    upward: Float[Tensor, 3],
    good: Callable[[np.ndarray, float], bool],
    seed: int = 0,
) -> HalfSpace:
    """What lies above the level plane that holds the most points.

    Args:
        points: the upper sides of voxels.
        size: of the largest voxel: points so far from a plane are of it, and so far above them is the border.
        upward: float64 unit vector.
        good: (3,) normal and offset of a border -> whether it may be it.
        seed: of the random triples of points.

    Raises:
        ValueError: there is no such plane.
        ImportError: open3d is missing.
    """
    try:
        import open3d as o3d
    except ImportError as error:
        raise ImportError("finding the ground needs open3d: pip install 'lg-field[mesh]'") from error
    o3d.utility.random.seed(seed)
    for _ in range(PLANES):
        if len(points) < LEAST:
            break
        cloud = o3d.geometry.PointCloud(o3d.utility.Vector3dVector(points))
        plane, inliers = cloud.segment_plane(size, 3, 1000)
        normal = np.asarray(plane[:3]) / np.linalg.norm(plane[:3])
        cosine = float(normal @ upward.numpy())
        if len(inliers) >= LEAST and abs(cosine) >= LEVEL:
            normal = normal * np.sign(cosine)
            offset = -float(np.quantile(points[inliers] @ normal, 0.99)) - size
            if good(normal, offset):
                return HalfSpace(tuple(float(v) for v in normal), offset)
        points = np.delete(points, inliers, axis=0)
    raise ValueError(
        "no level plane was found among what is shown: give it as --above-plane NX NY NZ D, which keeps the points "
        "with NX x + NY y + NZ z + D >= 0"
    )


def upper_sides(
    grid: OccupancyGrid, voxels: Bool[Tensor, "nx ny nz"], upward: Float[Tensor, 3]
) -> Float[np.ndarray, "n 3"]:
    """Scene-space middles of the voxels with none of them above, along the axis that is nearest to upward."""
    axis = int(upward.abs().argmax())
    shift = -1 if float(upward[axis]) > 0 else 1
    padded = torch.nn.functional.pad(voxels, (1,) * 6)
    above = padded.roll(shift, axis)[1:-1, 1:-1, 1:-1]
    points = middles(grid, (voxels & ~above).nonzero())
    if grid.frame.contraction:
        points = points[points.norm(dim=-1) <= NEAR]
    found: np.ndarray = points.numpy()
    return found
