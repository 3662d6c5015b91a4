"""Where a scene is: what cameras look at, how large that is, what is up, and the box that cut-out images leave."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.hull import hull_box, hull_voxels
from lg_field.radiance.views import VIEWPOINTS, Views, bounds, corners

PARALLEL = 0.008
"""Least mean squared sine between optical axes and a direction at which the axes still say where they meet."""
LOOK = 1.0
"""Radius of the cube that cameras look at, in half the longer side of what their images show at the focus."""
TOWARD = 0.3
"""Median cosine between cameras' axes and the directions to where those meet, below which they look elsewhere."""
ONWARD = 0.7
"""Length of the mean of all axes, each of length 1, from which on cameras look onward, as along a street."""
OUTWARD = 3.0
"""Radius of the cube about cameras that look outward, in distances of theirs from their middle: a room about them."""
MOST = 1.25
"""The same in the median distance of points along the farthest axis, where there are points."""
CLOSE, NEAR = 0.05, 0.25
"""Cameras amid what they see: the quantile of the distances of what each shows that is close to it, and the part of
that at which its rays begin. Of cameras the median."""
ROLL, WIDE = 0.2, 0.15
"""Root mean square of the sine by which cameras are turned out of the level at most, and by which their horizontal axes
differ at least, where those say what is up."""
FEW, AHEAD, STEEPLY = 6, 0.96, 0.9
"""Fewer cameras do not; nor those that look along that direction, turned differently about it: a mean cosine. From the
smaller one on they look down rather than up."""
ENOUGH = 100
"""Sparse points that say where a scene is."""
DEEP = 3.0
"""Farthest by nearest depth of sparse points up to which all that cameras see fits a box."""


@dataclass(frozen=True)
class Placement:
    """Where a scene is, in the units it was measured in."""

    focus: Float[Tensor, 3]
    """float64: what the cameras look at."""
    radius: float
    """Half the side of the cube about the focus that they look at, positive."""
    rotation: Float[Tensor, "3 3"]
    """float64: turns directions so that up is the third axis."""
    box: Float[Tensor, "2 3"] | None
    """Lower and upper corner of all there is, about the focus, turned, in radii; None = unbounded."""
    near: float
    """Distance from a camera nearer than which there is nothing, in radii."""
    close: float
    """Distance from a camera within which only that one sees what is there, in radii; inf = nothing says so."""
    hull: Bool[Tensor, "n n n"] | None
    """Voxels of the box that may hold something (visual hull, grown by a voxel); None = all may."""
    reason: str
    """Why, in a line."""

    def begin(self, near_plane: float) -> float:
        """`rays_begin`, in radii."""
        return rays_begin(near_plane, self.near, self.close)

    def matrix(self) -> Float[Tensor, "4 4"]:
        """float64: to the space in which the focus is the origin, up the third axis and the radius 1."""
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3] = self.rotation / self.radius
        matrix[:3, 3] = -(self.rotation @ self.focus) / self.radius
        return matrix


def rays_begin(near_plane: float, near: float, close: float) -> float:
    """Distance at which rays start: the near plane or where something may be, whichever is farther; of cameras amid
    what they see the latter.

    Args:
        near_plane: of the settings.
        near, close: of a `Placement`.
    """
    return near if close < math.inf else max(near_plane, near)


def meeting_point(views: Views, rounds: int = 20) -> Float[Tensor, 3] | None:
    """The point nearest to all optical axes, by least sum of distances (iteratively reweighted least squares).

    Returns:
        float64; None where the axes are nearly parallel and do not say how far away they meet.
    """
    origins, axes = views.origins, views.axes
    across = torch.eye(3, dtype=axes.dtype) - axes[:, :, None] * axes[:, None]
    weights = torch.ones(len(axes), dtype=axes.dtype)
    point = origins.mean(0)
    if float(torch.linalg.eigvalsh(across.mean(0))[0]) < PARALLEL:
        return None
    for _ in range(rounds):
        matrix = (weights[:, None, None] * across).sum(0) / weights.sum()
        point = torch.linalg.solve(
            matrix, (weights[:, None, None] * across @ origins[..., None]).sum(0)[:, 0] / weights.sum()
        )
        away = ((across @ (point - origins)[..., None])[..., 0]).norm(dim=-1)
        behind = ((point - origins) * axes).sum(-1) <= 0
        weights = 1.0 / away.clamp_min(1e-3 * float((point - origins).norm(dim=-1).median()) + 1e-12)
        weights = torch.where(behind, weights * 1e-3, weights)
    return point


def look_outward(views: Views) -> bool:
    """Whether cameras' axes meet behind most of them, as in a room that is looked at from its middle."""
    focus = meeting_point(views)
    if focus is None or float(views.axes.mean(0).norm()) >= ONWARD:
        return False
    toward = torch.nn.functional.normalize(focus - views.origins, dim=-1)
    return float((toward * views.axes).sum(-1).median()) < TOWARD


def look_at(views: Views, points: Float[Tensor, "points 3"] | None = None) -> tuple[Tensor, float, str]:
    """What cameras look at.

    Where the optical axes meet; where they are nearly parallel, the middle of the sparse points, or, without those, as
    far ahead of the cameras as those are apart. Of cameras that look outward their middle: then the sparse points say
    how large the scene is about them.

    Args:
        views: the cameras.
        points: sparse points.

    Returns:
        (3,) float64 focus, the radius of what the images show about it, and how both were found.
    """
    if look_outward(views):
        return _look_around(views, points)
    focus, how = meeting_point(views), "where the cameras' axes meet"
    if focus is None and points is not None and len(points):
        focus, how = (
            points.double().median(0).values,
            "the middle of the sparse points, the cameras' axes being parallel",
        )
    if focus is None:
        apart = (views.origins - views.origins.mean(0)).norm(dim=-1).max().clamp_min(1e-6)
        ahead = views.axes.mean(0) / views.axes.mean(0).norm().clamp_min(1e-6)
        focus, how = views.origins.mean(0) + 2.0 * apart * ahead, "ahead of the cameras, whose axes are parallel"
    depth = ((focus - views.origins) * views.axes).sum(-1).clamp_min(1e-9)
    half = depth * (0.5 / views.focals.amin(-1))
    beside = (views.origins + depth[:, None] * views.axes - focus).abs().amax(-1)
    return focus, LOOK * float((beside + half).quantile(0.8)), how


def _look_around(views: Views, points: Float[Tensor, "points 3"] | None) -> tuple[Tensor, float, str]:
    """`look_at` of cameras that look away from their middle."""
    focus, how = views.origins.median(0).values, "the middle of the cameras, which look outward"
    if points is not None and len(points) >= ENOUGH:
        some = points[:: max(1, len(points) // 100_000)].double()
        return focus, MOST * float((some - focus).abs().amax(-1).median()), how
    apart = float((views.origins - focus).norm(dim=-1).quantile(0.8))
    return focus, OUTWARD * max(apart, 1e-6), how


def _amid(views: Views, points: Float[Tensor, "points 3"]) -> tuple[float, float]:
    """Where the rays of cameras amid what they see may begin, and up to where it is close to them, in world units."""
    some = points[:: max(1, len(points) // 5_000)].double()
    found = []
    for k in range(0, len(views.poses), max(1, len(views.poses) // VIEWPOINTS)):
        places, depth = views[k].project(some)
        depth = depth[(depth > 0) & ((places >= 0) & (places <= 1)).all(-1)]
        if len(depth) >= FEW:
            found.append(depth.quantile(CLOSE))
    if not found:
        return 0.0, math.inf
    close = float(torch.stack(found).median())
    return NEAR * close, close


def upward(views: Views, points: Float[Tensor, "points 3"] | None = None) -> Float[Tensor, 3]:
    """The world's upward direction, by the cameras: at right angles to their horizons where those say it (people hold
    cameras level, wherever they look and stand); else the mean of their own; against the view of cameras that all look
    the same way while their pictures are turned differently or show a flat ground (as from the air)."""
    level = _level(views)
    if level is not None:
        return level
    ups, axes = views.poses[:, :, 1].mean(0), views.axes.mean(0)
    flat = False
    if points is not None and len(points) > 10 and float(axes.norm()) > 0.9:
        values, directions = torch.linalg.eigh(torch.cov(_middle(points.double()).T))
        flat = bool(abs(float(directions[:, 0] @ axes)) > 0.8 and values[0] < 0.1 * values[1])
    up = -axes if flat or (float(ups.norm()) < 0.5 < float(axes.norm())) else ups
    return up / up.norm().clamp_min(1e-9) if float(up.norm()) > 1e-6 else torch.tensor([0.0, 0.0, 1.0]).double()


def _level(views: Views) -> Float[Tensor, 3] | None:
    """The direction at right angles to the horizontal axes of all pictures; None where they do not agree on one, or
    where it is nearly that of the view. On their upper side; of pictures taken steeply against the view."""
    if len(views.poses) < FEW:
        return None
    across = views.poses[:, :, 0].double()
    spread, directions = torch.linalg.eigh(across.T @ across / len(across))
    roll, wide = spread.clamp_min(0.0).sqrt()[:2].tolist()
    up = directions[:, 0]
    against, above = -views.axes.mean(0) @ up, views.poses[:, :, 1].double().mean(0) @ up
    if wide < WIDE or roll > min(ROLL, 0.3 * wide) or abs(float(against)) > AHEAD:
        return None
    sign = against if abs(float(against)) > STEEPLY else above
    return up * sign.sign() if abs(float(sign)) > 0.1 else None


def turn(up: Float[Tensor, 3]) -> Float[Tensor, "3 3"]:
    """The float64 rotation by the least angle that takes a unit direction to (0, 0, 1)."""
    x, y, z = (up.double() / up.double().norm()).tolist()
    sine = math.hypot(x, y)
    if sine == 0.0:
        return torch.diag(torch.tensor([1.0, 1.0, 1.0] if z > 0 else [1.0, -1.0, -1.0], dtype=torch.float64))
    a, b = y / sine, -x / sine  # the axis: horizontal, across the direction
    skew = torch.tensor([[0.0, 0.0, b], [0.0, 0.0, -a], [-b, a, 0.0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + sine * skew + (1.0 - z) * skew @ skew


def _middle(points: Tensor) -> Tensor:
    """The points without those far out on any axis."""
    lower, upper = points.quantile(0.02, dim=0), points.quantile(0.98, dim=0)
    return points[((points >= lower) & (points <= upper)).all(-1)]


def stay(
    views: Views, box: Float[Tensor, "2 3"], alphas: Float[Tensor, "views height width"] | None = None
) -> Placement:
    """The placement that keeps the space as it is, where the box of all there is is known; only the hull is found."""
    same = torch.eye(3, dtype=torch.float64)
    hull = None if alphas is None else hull_voxels(views, alphas, box, same)
    if hull is not None and not bool(hull.any()):
        hull = None
    return Placement(
        torch.zeros(3, dtype=torch.float64), 1.0, same, box.double(), 0.0, math.inf, hull, "within the data set's box"
    )


def near_cubic(extent: Sequence[float], cells: int) -> tuple[int, ...]:
    """Cells per axis that make about so many nearly cubic cells of a box.

    Args:
        extent: sides of the box, positive.
        cells: wanted in all.
    """
    side = (math.prod(extent) / cells) ** (1 / len(extent))
    return tuple(max(1, round(length / side)) for length in extent)


def place(
    views: Views,
    points: Float[Tensor, "points 3"] | None = None,
    alphas: Float[Tensor, "views height width"] | None = None,
    up: Float[Tensor, 3] | None = None,
    focus: Float[Tensor, 3] | None = None,
    box: Float[Tensor, "2 3"] | None = None,
    seek: Callable[[], Float[Tensor, "points 3"] | None] = lambda: None,
) -> Placement:
    """Find where a scene is.

    Args:
        views: training cameras, at least one.
        points: sparse points, if there are any.
        alphas: alpha of cut-out images; None = the images show all that is there.
        up: the world's upward direction, if it is known.
        focus: what the cameras look at, if it is known.
        box: lower and upper corner of all there is in world axes, if that is known.
        seek: finds points that photos show; asked of cameras that look outward, where there are no sparse points.
    """
    sought = ""
    if points is None and box is None and alphas is None and focus is None and look_outward(views):
        points = seek()
        sought = "its size guessed by theirs" if points is None else f"by {len(points)} points found in the photos"
    rotation = turn(upward(views, points) if up is None else up.double() / up.double().norm())
    middle, radius, how = look_at(views, points)
    if focus is not None:
        depth = ((focus.double() - views.origins) * views.axes).sum(-1).abs()
        middle, how = focus.double(), "as told"
        radius = LOOK * float((depth * (0.5 / views.focals.amin(-1))).quantile(0.8))
    distance = (views.origins - middle).norm(dim=-1)
    near, close = 0.1 * float(distance.min()), math.inf
    turned, hull, why = None, None, ""
    if box is not None:
        turned = bounds(corners(box) @ rotation.T)
        why = "within the box as told"
    elif alphas is not None:
        reach = float(distance.max())
        start = torch.stack([rotation @ middle - reach, rotation @ middle + reach])
        turned = hull_box(views, alphas, start, rotation)
        hull = None if turned is None else hull_voxels(views, alphas, turned, rotation)
        why = "within the box of what all images leave of it" if turned is not None else "unbounded: no hull"
    elif points is not None and len(points) >= ENOUGH and focus is None and look_outward(views):
        near, close = _amid(views, points)
    elif points is not None and len(points) >= ENOUGH:
        turned, near = _points_box(views, points, rotation, near)
        why = "within the box of the sparse points, all about as far from the cameras" if turned is not None else ""
    if turned is not None:
        middle, extent = rotation.T @ turned.mean(0), turned[1] - turned[0]
        radius = float(extent.amax()) / 2
        turned = (turned - turned.mean(0)) / radius
    if close < math.inf:
        why = f"rays begin at {near / radius:.2g} and gradients are whole from {close / radius:.2g} scene units on"
    reason = ", ".join(v for v in (how, sought, why) if v)
    return Placement(middle, radius, rotation, turned, near / radius, close / radius, hull, reason)


def _points_box(views: Views, points: Tensor, rotation: Tensor, near: float) -> tuple[Tensor | None, float]:
    """Box in turned axes around what images show where all sparse points are about as far from the cameras (as from the
    air), else None; and a near distance that leaves them all visible."""
    kept = _middle(points.double())
    kept = kept[:: max(1, len(kept) // 2000)]
    places, depth = views.project(kept)
    depth = depth[(depth > 0) & ((places >= 0) & (places <= 1)).all(-1)]
    if len(depth) < 100:
        return None, near
    nearest, farthest = float(depth.quantile(0.02)), float(depth.quantile(0.98))
    near = 0.5 * nearest
    if farthest > DEEP * nearest or float(views.axes.mean(0).norm()) < 0.9:
        return None, min(near, 0.5 * nearest)
    ranges = bounds(kept @ rotation.T)
    margin = 0.1 * (ranges[1] - ranges[0]).amax()
    shown = [views.at_corners(depth) for depth in (nearest, farthest)]
    box = bounds(torch.cat([*shown, kept]) @ rotation.T)
    along = int((rotation @ views.axes.mean(0)).abs().argmax())
    box[:, along] = torch.stack([ranges[0, along] - margin, ranges[1, along] + margin])
    return box, near
