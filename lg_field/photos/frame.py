"""The frame of a scene: up is z, and what the cameras look at lies at the origin."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Poses = Float[np.ndarray, "cameras 4 4"]
"""float64 camera to world, OpenGL's axes: x right, y up, z backward."""

LEVEL = 0.2
"""Cameras' right axes lie in a plane if their smallest mean square is at most this part of the middle one."""
STEEP = 0.1
"""Cameras whose mean up axis rises less than this look straight down."""
PARALLEL = 0.02
"""Cameras look the same way if the smallest eigenvalue of the mean of 1 - d d^T is below this."""


def scene_transform(poses: Poses, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "3 4"]:
    """The turn and shift that bring up to +z and the focus to the origin; the scale stays.

    Args:
        poses: of the cameras.
        points: sparse points, for scenes whose cameras all look the same way.
    """
    turn = turn_to_z(up_direction(poses))
    return np.concatenate([turn, -(turn @ focus_point(poses, points))[:, None]], axis=1)


def apply(transform: Float[np.ndarray, "3 4"], poses: Poses) -> Poses:
    """Cameras in the new frame."""
    return np.concatenate([transform, [[0.0, 0.0, 0.0, 1.0]]]) @ poses


def up_direction(poses: Poses) -> Float[np.ndarray, " xyz"]:
    """Unit vector upward in the world.

    Photos are held level: the direction to which all right axes are square, with the sign of the mean up axis (of the
    backward axis, where cameras look down). Where the right axes do not tell, as cameras stand side by side, it is the
    mean of the up axes.
    """
    right, up, backward = (poses[:, :3, axis] for axis in range(3))
    mean_up = up.mean(axis=0)
    values, vectors = np.linalg.eigh(right.T @ right / len(poses))
    if values[0] <= LEVEL * values[1] and values[1] > 1e-3:
        level = vectors[:, 0]
        vote = float(level @ mean_up)
        if abs(vote) < STEEP:
            vote = float(level @ backward.mean(axis=0))
        return level if vote > 0 else -level
    length = float(np.linalg.norm(mean_up))
    return mean_up / length if length > 1e-6 else np.array([0.0, 0.0, 1.0])


def turn_to_z(up: Float[np.ndarray, " xyz"]) -> Float[np.ndarray, "3 3"]:
    """A rotation that brings a unit vector to +z: the smallest, unless that is nearly a half turn."""
    x, y, z = (float(value) for value in up)
    if z < -0.9:
        over = np.diag([1.0, -1.0, -1.0])
        return turn_to_z(over @ up) @ over
    cross = np.array([[0.0, 0.0, -x], [0.0, 0.0, -y], [x, y, 0.0]])
    return np.eye(3) + cross + cross @ cross / (1.0 + z)


def focus_point(poses: Poses, points: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, " xyz"]:
    """The point nearest to all optical axes, those with the point in front; where cameras look the same way, or past
    each other, the median of the points, or the mean of the cameras where there are none."""
    origins, forward = poses[:, :3, 3], -poses[:, :3, 2]
    active = np.ones(len(poses), bool)
    for _ in range(10):
        across = np.eye(3) - forward[active, :, None] * forward[active, None, :]
        if np.linalg.eigvalsh(across.mean(axis=0))[0] < PARALLEL:
            break
        focus = np.linalg.solve(across.sum(axis=0), (across @ origins[active, :, None]).sum(axis=0))[:, 0]
        in_front = ((focus - origins) * forward).sum(axis=1) > 0
        if np.array_equal(in_front, active):
            return focus
        active = in_front
        if active.sum() * 2 < len(poses):
            break
    return np.median(points, axis=0) if len(points) else origins.mean(axis=0)
