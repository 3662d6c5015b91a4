"""What an object stands on: a nearly level surface around the focus of the cameras, flat or bowl-shaped, cut from it.

Surfaces are looked for among points at which the cameras' light stops, as heights over the level plane: a plane by
random triples of them (RANSAC: Fischler and Bolles, 1981), bent to a polynomial of order two by those that are near.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import rays_at_once
from lg_field.radiance.render import ask_view
from lg_field.radiance.scene import Scene
from lg_field.radiance.views import Views

NODES = 96
"""Rays of each camera, per axis."""
CAMERAS = 24
"""Cameras that stand for all."""
AROUND = 1.0
"""How far from the focus, along each axis, points are looked at, scene units: cameras see about that much."""
LOW = 0.2
"""Quantile of the heights over a place that is its height: what hangs over the ground counts less."""
PLACES = 8192
"""Of the places at most about twice as many are looked at for that."""
TRIPLES = 600
"""Planes that are tried."""
STARTS, STRIDE = 12, 5
"""So many of them are bent, every so many of the best."""
STEEP = 0.6
"""Largest slope of one, 31 degrees: up is known no better than photos are held level."""
BENT = 0.8
"""Largest curvature of a surface, per scene unit."""
CLOSE = 0.4
"""Scene units from the focus at which a place counts half."""
FINE = 0.5
"""Voxels that a place is wide."""
NEAR = 0.6
"""Voxels from a surface within which places are of it."""
STIFF = 1e-4
"""How much a surface resists being bent: what is seen of it on one side only says little of the other."""
ROUNDS = 8
"""Of bending."""
LEAST = 40
"""Places that a surface must hold."""
OVER = 0.5
"""Scene units that a surface may lie above the focus: cameras may look at the ground before a thing."""
SURFACES = 4
"""Surfaces that are looked at."""


class Support(NamedTuple):
    """A nearly level surface: a height over each place of the level plane through the focus."""

    axes: Tensor
    """(3, 3) float64, by rows: two level directions and up, unit vectors."""
    focus: Tensor
    """(3,) float64 scene units: places are counted from here."""
    coefficients: Tensor
    """(6,) float64 of 1, u, v, u^2, u v, v^2, scene units."""
    places: Tensor
    """(n, 2) float64 of the places that are of it."""
    spread: float
    """Within so much nine of ten of them lie, scene units."""

    @property
    def reach(self) -> float:
        """How far from the focus it was seen; farther out it has the height that it has there."""
        return float(self.places.norm(dim=-1).max())

    def height(self, points: Float[Tensor, "n 3"]) -> Float[Tensor, " n"]:
        """How far above the surface points lie, scene units."""
        local = (points.double() - self.focus) @ self.axes.T
        flat = local[:, :2]
        away = flat.norm(dim=-1, keepdim=True)
        flat = flat * (self.reach / away.clamp_min(1e-9)).clamp_max(1.0)
        return local[:, 2] - terms(flat) @ self.coefficients


def terms(places: Float[Tensor, "n 2"]) -> Float[Tensor, "n 6"]:
    """1, u, v, u^2, u v, v^2."""
    u, v = places.unbind(-1)
    return torch.stack([torch.ones_like(u), u, v, u * u, u * v, v * v], dim=-1)


def upright(up: tuple[float, float, float]) -> Float[Tensor, "3 3"]:
    """Two level directions and the upward one, by rows, float64."""
    upward = torch.nn.functional.normalize(torch.tensor(up, dtype=torch.float64), dim=0)
    least = torch.zeros(3, dtype=torch.float64)
    least[int(upward.abs().argmin())] = 1.0
    first = torch.nn.functional.normalize(torch.linalg.cross(upward, least), dim=0)
    return torch.stack([first, torch.linalg.cross(upward, first), upward])


@torch.no_grad()
def surface_points(
    field: RadianceField, scene: Scene, views: Views, shown: Bool[Tensor, "nx ny nz"]
) -> Float[Tensor, "points 3"]:
    """Where half of the light of the cameras' rays has stopped, of those that are more than half absorbed.

    Args:
        field: the field.
        scene: its near and far plane and step.
        views: cameras, scene units.
        shown: voxels: points in others are left out.
    """
    steps = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    pixels = torch.cartesian_prod(steps, steps)
    device, voxels, found = field.cells.device, shown.reshape(-1), []
    for k in range(0, len(views.poses), max(1, -(-len(views.poses) // CAMERAS))):
        origins, directions = (rays.float().to(device) for rays in views[k].rays(pixels))
        for part in torch.arange(len(pixels)).split(rays_at_once(field, scene.step)):
            asked = ask_view(field, scene, origins[part], directions[part])
            stops = half_way(render_weights(asked.density, asked.samples, len(part)), asked.samples.rays, len(part))
            points = asked.positions[stops]
            found.append(points[voxels[field.occupancy.numbers(points).cpu()].to(device)].double().cpu())
    return torch.cat(found) if found else torch.zeros(0, 3, dtype=torch.float64)


def half_way(weights: Float[Tensor, " samples"], rays: Int64[Tensor, " samples"], count: int) -> Int64[Tensor, " hits"]:
    """Of rays with a weight of more than a half the sample at which half of their own weight is reached.

    Args:
        weights: of samples, front to back.
        rays: of each sample, rising.
        count: of rays.
    """
    sums = weights.double().cumsum(0)
    ends = torch.bincount(rays, minlength=count).cumsum(0)
    padded = torch.cat([sums.new_zeros(1), sums])
    begin = torch.cat([padded.new_zeros(1), padded[ends][:-1]])
    total = padded[ends] - begin
    reached = (sums - begin[rays] >= 0.5 * total[rays]) & (total[rays] > 0.5)
    index = reached.nonzero()[:, 0]
    first = torch.ones_like(index, dtype=torch.bool)
    first[1:] = rays[index][1:] != rays[index][:-1]
    return index[first]


def height_map(
    points: Float[Tensor, "points 3"], axes: Float[Tensor, "3 3"], focus: Float[Tensor, 3], side: float
) -> Float[Tensor, "places 3"]:
    """Low heights of points over the places of a square lattice, from the focus: (u, v, height) of those with any.

    Args:
        points: scene units.
        axes: two level directions and up.
        focus: scene units.
        side: of the lattice, scene units.
    """
    local = (points.double() - focus) @ axes.T
    local = local[(local.abs() <= AROUND).all(-1)]
    if not len(local):
        return local
    number = ((local[:, :2] + AROUND) / side).floor().long()
    number = number[:, 0] * (int(2.0 * AROUND / side) + 2) + number[:, 1]
    order = torch.argsort(local[:, 2], stable=True)
    order = order[torch.argsort(number[order], stable=True)]
    _, counts = number.unique(return_counts=True)
    first = counts.cumsum(0) - counts
    low = local[order[first + (LOW * (counts - 1)).long()], 2]
    middle = torch.zeros(len(counts), 2, dtype=torch.float64)
    middle.index_add_(0, torch.arange(len(counts)).repeat_interleave(counts), local[order, :2])
    return torch.cat([middle / counts[:, None], low[:, None]], dim=-1)


def find_supports(
    points: Float[Tensor, "points 3"],
    up: tuple[float, float, float],
    focus: Float[Tensor, 3],
    side: float,
    seed: int = 0,
) -> Iterator[Support]:
    """The nearly level surfaces around the focus, those with most places around it first.

    Args:
        points: of surfaces, scene units (`surface_points`).
        up: upward direction, of any length.
        focus: scene units: what is looked at stands on one of them.
        side: of a voxel, scene units.
        seed: of the random triples.
    """
    axes = upright(up)
    places = height_map(points, axes, focus, FINE * side)
    for _ in range(SURFACES):
        if len(places) < LEAST:
            return
        planes = _best_planes(places, side, seed)
        found = [s for plane in planes if (s := _bent(axes, focus, places, plane, side)) is not None]
        if not len(planes):
            return
        fit = torch.cat([planes[0], torch.zeros(3, dtype=torch.float64)])
        if found:
            best = max(found, key=lambda support: float(nearness(support.places).sum()))
            fit = best.coefficients
            yield best
        places = places[(terms(places[:, :2]) @ fit - places[:, 2]).abs() > NEAR * side]


def nearness(places: Float[Tensor, "n _"]) -> Float[Tensor, " n"]:
    """How much places (u, v, ...) count, 0..1."""
    return 1.0 / (1.0 + (places[:, :2].norm(dim=-1) / CLOSE).square())


def _best_planes(places: Float[Tensor, "n 3"], side: float, seed: int) -> Float[Tensor, "planes 3"]:
    """Coefficients of 1, u, v of level planes that hold most places near the focus, the best first; perhaps none."""
    places = places[:: max(1, len(places) // PLACES)]
    flat, height, weights = places[:, :2], places[:, 2], nearness(places)
    chosen = torch.multinomial(weights.expand(TRIPLES, -1), 3, generator=torch.Generator().manual_seed(seed))
    matrix = torch.cat([torch.ones(TRIPLES, 3, 1, dtype=torch.float64), flat[chosen]], dim=-1)
    good = torch.linalg.det(matrix).abs() > (3.0 * side) ** 2
    planes = torch.linalg.solve(matrix[good], height[chosen[good]][..., None])[..., 0]
    planes = planes[(planes[:, 1:].norm(dim=-1) <= STEEP) & (planes[:, 0] <= OVER)]
    apart = (planes[:, :1] + planes[:, 1:] @ flat.T - height).abs()
    order = ((apart <= NEAR * side) * weights).sum(-1).argsort(descending=True, stable=True)
    return planes[order[: STARTS * STRIDE : STRIDE]]


def _bent(axes: Tensor, focus: Tensor, places: Tensor, plane: Tensor, side: float) -> Support | None:
    """A plane bent to the places near it; None where few are left, or it gets steep or lies far above the focus."""
    basis, height, weights = terms(places[:, :2]), places[:, 2], nearness(places)
    fit, near = torch.cat([plane, plane.new_zeros(3)]), torch.zeros(len(places), dtype=torch.bool)
    ridge = torch.diag(torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0], dtype=torch.float64)) * STIFF
    for _ in range(ROUNDS):
        apart = basis @ fit - height
        near = apart.abs() <= NEAR * side
        if int(near.sum()) < LEAST:
            return None
        trust = weights * (1.0 - (apart / (NEAR * side)).square()).square() * near
        trust = trust / trust.sum()
        fit = torch.linalg.solve(basis.T @ (trust[:, None] * basis) + ridge, basis.T @ (trust * height))
    if float(fit[1:3].norm()) > STEEP or float(fit[3:].abs().max()) > BENT or float(fit[0]) > OVER:
        return None
    return Support(axes, focus, fit, places[near, :2], float((basis @ fit - height)[near].abs().quantile(0.9)))
