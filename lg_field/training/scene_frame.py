"""Where a capture's format puts its scene, before the scene itself is looked for."""

from __future__ import annotations

import numpy as np
import torch

from lg_field.captures import Capture
from lg_field.captures.capture import Cube
from lg_field.radiance.placement import turn

COLMAP_UP = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""COLMAP's guess of what is up, -y, to +z."""
BLENDER_BOX = 1.5
"""Half the side of the box that blender scenes lie in."""


def scene_frame(capture: Capture) -> tuple[np.ndarray, float, float]:
    """Where a capture's format puts its scene.

    Returns:
        (4, 4) float64 rigid motion from the photos' coordinates, a scale to be applied after it, and half the side of
        the scene box: blender's coordinates and +-1.5; instant-ngp's unit cube, where the cameras are near it; else
        upright, centred and scaled so that all cameras lie within +-1 (nerfstudio's conventions).
    """
    if capture.format == "blender":
        return np.eye(4), 1.0, BLENDER_BOX
    if capture.cube is not None and not far_from_cube(capture, capture.cube):
        motion = np.eye(4)
        motion[:3, 3] = -capture.cube.middle
        return motion, capture.cube.scale, 0.5 * capture.cube.sides
    turned = COLMAP_UP if capture.format == "colmap" else np.eye(4)
    poses = turned @ np.stack([photo.pose for photo in capture.photos])
    up, middle = poses[:, :3, 1].mean(0), poses[:, :3, 3].mean(0)
    motion = np.eye(4)
    if np.linalg.norm(up) > 1e-9:
        motion[:3, :3] = turn(torch.from_numpy(up)).numpy()
    places = (poses[:, :3, 3] - middle) @ motion[:3, :3].T
    motion[:3, 3] = -motion[:3, :3] @ middle
    reach = float(np.abs(places).max())
    return motion @ turned, 1.0 / reach if reach > 0.0 else 1.0, 1.0


def far_from_cube(capture: Capture, cube: Cube) -> bool:
    """Whether the cameras are so far from instant-ngp's cube that single precision would not tell them apart there."""
    places = np.stack([photo.pose[:3, 3] for photo in capture.photos])
    return float(np.abs(places - cube.middle).min(0).max()) * cube.scale > 1e3 * cube.sides
