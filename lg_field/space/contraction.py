"""Scene space to domain: the identity for bounded scenes, nerfstudio's L-infinity contraction for unbounded ones."""

from __future__ import annotations

from lg_field.arrays import Array, namespace

LIMIT = 1e4
"""Max norm of the farthest point that contracted ones stand for."""


def contract(points: Array) -> Array:
    """(..., 3) scene points -> (..., 3) in (-2, 2): x inside the unit cube, (2 - 1/|x|) x/|x| outside, |.| = max norm.

    The same map as nerfstudio's `SceneContraction(order=inf)` (mip-NeRF 360, eq. 10, with the max norm).
    """
    norm = _norm(points)
    return points * ((2.0 - 1.0 / norm) / norm)


def uncontract(points: Array, limit: float = LIMIT) -> Array:
    """Inverse of `contract`; points at the border of (-2, 2) go to at most `limit`."""
    norm = _norm(points)
    scene_norm = 1.0 / (2.0 - norm).clip(1.0 / limit, None)
    return points * (scene_norm / norm)


def _norm(points: Array) -> Array:
    """(..., 3) -> (..., 1) max norm, at least 1."""
    xp = namespace(points)
    return xp.amax(xp.abs(points), -1, keepdims=True).clip(1.0, None)


def contraction_rate(points: Array) -> Array:
    """Length in contracted space by length in scene space, along the way from the origin, at contracted points.

    Args:
        points: (..., 3) in (-2, 2).

    Returns:
        (...): 1 inside the unit cube, (2 - |c|)^2 outside, |.| = max norm.
    """
    xp = namespace(points)
    return xp.square(2.0 - xp.amax(xp.abs(points), -1).clip(1.0, 2.0))


def uncontract_boxes(boxes: Array, limit: float = LIMIT) -> Array:
    """(n, 2, 3) axis-aligned boxes of contracted space -> boxes around what they are in scene space.

    `uncontract` scales a point by a factor that grows with its max norm, so the factors at a box's nearest and
    farthest point bound every coordinate.
    """
    xp = namespace(boxes)
    nearest = xp.amax(xp.maximum(boxes[:, 0].clip(0.0, None), -boxes[:, 1].clip(None, 0.0)), -1)
    farthest = xp.amax(xp.abs(boxes), (1, 2))
    factors = []
    for norm in (nearest, farthest):
        norm = norm.clip(1.0, 2.0 - 1.0 / limit)
        factors.append(1.0 / (norm * (2.0 - norm)))
    corners = xp.concatenate([boxes * f[:, None, None] for f in factors], axis=1)
    return xp.stack([xp.amin(corners, 1), xp.amax(corners, 1)], axis=1)
