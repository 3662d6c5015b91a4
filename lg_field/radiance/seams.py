"""How visible the borders of cells are: jumps of colour and opacity across them, against jumps beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.cameras import Camera
from lg_field.radiance.compositing import accumulate, render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import RAYS, rays_at_once
from lg_field.radiance.render import ask_view
from lg_field.radiance.scene import Scene

SOLID = 0.5
"""Accumulation from which a ray counts as having hit a surface."""

REACH = 0.1
"""Part of a cell's width from a border within which points speak for it."""


class Seams(NamedTuple):
    """Mean absolute differences between points one marching step apart: across borders, and just beside them."""

    opacity_across: float
    """Of the opacity of a step, points in two cells."""
    opacity_inside: float
    """Points in one cell, the next ones on either side."""
    color_across: float
    """Of the colour times that opacity, mean over channels."""
    color_inside: float
    pairs_across: int
    """Pairs that a border parts."""

    @property
    def ratio(self) -> float:
        """Jump across borders over jump beside them, mean of opacity and colour: 1 = no seam."""
        pairs = ((self.opacity_across, self.opacity_inside), (self.color_across, self.color_inside))
        return sum(a / max(b, 1e-9) for a, b in pairs) / 2


@torch.no_grad()
def measure_seams(field: RadianceField, scene: Scene, cameras: Iterable[Camera]) -> Seams:
    """Compare four points in a row through a border, two on either side, near the points that some cameras see.

    Args:
        field: the field.
        scene: its description; the four are a marching step apart, along an axis of the domain.
        cameras: where to look from.

    Raises:
        ValueError: the cameras see no surface, or no border of two cells near one.
    """
    points, directions = _seen_points(field, scene, cameras)
    places = field.frame.to_places(points)
    across, inside = [], []
    for axis, size in enumerate(field.grid.cell_size):
        step = scene.step / size
        border = places[:, axis].round()
        near = ((places[:, axis] - border).abs() < 2.0 * step).nonzero()[:, 0]
        units = []
        for way in (-1.5, -0.5, 0.5, 1.5):
            place = places[near]
            place[:, axis] = border[near] + way * step
            units.append(field.frame.places_to_unit(place))
        rows = torch.stack([field.rows_of_unit(unit) for unit in units])
        parted = (rows >= 0).all(0) & (rows[0] == rows[1]) & (rows[1] != rows[2]) & (rows[2] == rows[3])
        seen = directions[near][parted]
        looks = [look(field, field.frame.from_unit(unit[parted]), seen, scene.step) for unit in units]
        before, between, after = ((a - b).abs() for a, b in pairwise(looks))
        across.append(between)
        inside.append((before + after) / 2)
    jumps, beside = torch.cat(across), torch.cat(inside)
    if len(jumps) == 0:
        raise ValueError("no surface that these cameras see crosses a border between two cells")
    (oa, ca), (oi, ci) = ((j[:, 3].mean(), j[:, :3].mean()) for j in (jumps, beside))
    return Seams(float(oa), float(oi), float(ca), float(ci), len(jumps))


def border_disagreement(
    field: RadianceField,
    positions: Float[Tensor, "points 3"],
    directions: Float[Tensor, "points 3"],
    step: float,
    count: int,
) -> Float[Tensor, ""]:
    """A loss: mean squared difference of what two neighbours say on their common border, near some of the points.

    Args:
        field: the field.
        positions: (M, 3) scene units, e.g. the samples of a training step.
        directions: (M, 3) unit vectors they are seen in.
        step: length of a marching step near the origin, scene units.
        count: points at most. Those within `REACH` of a border move to it, the others are left out.

    Returns:
        Of the opacity of a step, and of the colour times that opacity; 0 where no point is near a border.
    """
    unit, sides, seen = border_points(field, positions, directions, count, field.rows_of_unit)
    if len(unit) == 0:
        return field.shared["head_bias"].sum() * 0.0 if field.chain.shared_head else field.local.sum() * 0.0
    ours, theirs = said_at(field, unit.repeat(2, 1), sides.flatten(), seen.repeat(2, 1), step).chunk(2)
    return (ours - theirs).square().mean()


def border_points(
    field: RadianceField,
    positions: Float[Tensor, "points 3"],
    directions: Float[Tensor, "points 3"],
    count: int,
    rows_of: Callable[[Tensor], Tensor],
) -> tuple[Float[Tensor, "borders 3"], Int64[Tensor, "2 borders"], Float[Tensor, "borders 3"]]:
    """Where `border_disagreement` looks: points on borders near some points, evenly among these from a random one on,
    that have a row on either side.

    Args:
        field: the field.
        positions: (M, 3) scene units.
        directions: (M, 3) unit vectors.
        count: points at most.
        rows_of: (n, 3) unit coordinates -> (n,) row that owns each, -1 where none does.

    Returns:
        (n, 3) unit coordinates, (2, n) the rows on either side, (n, 3) directions.
    """
    places = field.frame.to_places(positions)
    away = (places - places.round()).abs()
    axis = away.argmin(1, keepdim=True)
    near = (away.gather(1, axis)[:, 0] < REACH).nonzero()[:, 0]
    near = near[evenly(len(near), count, near.device)]
    places, axis = places[near], axis[near]
    border = places.gather(1, axis).round()
    beside = [field.frame.places_to_unit(places.scatter(1, axis, border + s)) for s in (-1e-3, 1e-3)]
    sides = torch.stack([rows_of(unit) for unit in beside])
    both = (sides >= 0).all(0).nonzero()[:, 0]
    unit = field.frame.places_to_unit(places.scatter(1, axis, border))[both]
    return unit, sides[:, both], directions[near][both]


def evenly(size: int, count: int, device: torch.device) -> Int64[Tensor, " chosen"]:
    """`count` of the numbers below `size`, evenly among them from a random one on; all of them if there are no more.

    It draws one random number whatever the sizes are, and one more or less of `size` moves what is chosen by one at
    most: a training step whose sums were rounded otherwise, and that counts other points as seen, goes on with the
    same random numbers and nearly the same points.
    """
    first = float(torch.rand((), dtype=torch.float64))
    if size <= count:
        return torch.arange(size, device=device)
    places = (torch.arange(count, device=device, dtype=torch.float64) + first) * (size / count)
    return places.long().clamp_max(size - 1)


def said_at(
    field: RadianceField,
    unit: Float[Tensor, "points 3"],
    rows: Int64[Tensor, " points"],
    directions: Float[Tensor, "points 3"],
    step: float,
) -> Float[Tensor, "points 4"]:
    """(n, 4): what rows say of points given in unit coordinates: `look`, of rows that need not own them."""
    steps = field.frame.step_lengths(field.frame.from_unit(unit), step)
    density, features = field.of_rows(unit, rows)
    return _shade(field, density, features, directions, steps)


def _seen_points(field: RadianceField, scene: Scene, cameras: Iterable[Camera]) -> tuple[Tensor, Tensor]:
    """(n, 3) points and (n, 3) directions they are seen in: one for each ray that hits something, drawn at random with
    the weights that samples have in the pictures."""
    device, generator = field.cells.device, torch.Generator().manual_seed(0)
    size = min(RAYS["cpu"], rays_at_once(field, scene.step))
    points, ways = [], []
    for camera in cameras:
        for origins, directions in zip(*(v.view(-1, 3).split(size) for v in camera.rays())):
            origins, directions = origins.to(device), directions.to(device)
            seen = ask_view(field, scene, origins, directions)
            weights = render_weights(seen.density, seen.samples, len(origins))
            solid = accumulate(weights, None, seen.samples, len(origins))[:, 0] > SOLID
            if bool(solid.any()):
                weights = (weights * solid[seen.samples.rays]).cpu()
                drawn = torch.multinomial(weights, int(solid.sum()), replacement=True, generator=generator).to(device)
                points.append(seen.positions[drawn])
                ways.append(directions[seen.samples.rays[drawn]])
    if not points:
        raise ValueError("the cameras see no surface")
    return torch.cat(points), torch.cat(ways)


def look(
    field: RadianceField, points: Float[Tensor, "points 3"], directions: Float[Tensor, "points 3"], step: float
) -> Float[Tensor, "points 4"]:
    """(n, 4): colour times the opacity of a step at (n, 3) scene points, and that opacity; `step` as in `opacity`."""
    density, features = field(points)
    return _shade(field, density, features, directions, field.frame.step_lengths(points, step))


def _shade(field: RadianceField, density: Tensor, features: Tensor, directions: Tensor, steps: Tensor) -> Tensor:
    opacity = -torch.expm1(-density * steps)[:, None]
    return torch.cat([field.rgb(features, directions) * opacity, opacity], dim=1)
