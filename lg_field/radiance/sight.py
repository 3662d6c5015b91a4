"""Which pieces of a scene cameras see, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.radiance.components import Pieces, middles
from lg_field.radiance.compositing import render_weights
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import rays_at_once
from lg_field.radiance.render import ask_view
from lg_field.radiance.scene import Scene
from lg_field.radiance.views import Views

MIDDLE = 0.08
"""How far from the focus, in image widths and heights, what a camera shows counts (standard deviation)."""
CAMERAS = 24
"""Cameras that stand for all."""
NODES = 32
"""Rays of each, per axis."""
LEAST = 0.01
"""Rays of which the window has less of its greatest value are left out."""
ENOUGH = 0.1
"""Part of the light of a ray that comes from a piece which it sees."""
TARGETS = 12
"""Voxels of a piece that are looked for."""


def seen_shares(
    field: RadianceField, scene: Scene, views: Views, pieces: Pieces, focus: Float[Tensor, 3]
) -> Float[Tensor, " pieces"]:
    """How much of what cameras see around their focus is of each piece.

    Args:
        field: the field.
        scene: its near and far plane and step.
        views: cameras, scene units.
        pieces: of the field's voxels.
        focus: (3,) scene units: what the cameras look at.

    Returns:
        (pieces,) float64, with the sum 1 unless the cameras see none of them.
    """
    shares = shares_of(pieces, seen_light(field, scene, views, focus).at(pieces.numbers))
    return shares / shares.sum().clamp_min(1e-12)


def shares_of(pieces: Pieces, light: Float[Tensor, " n"]) -> Float[Tensor, " pieces"]:
    """The sum of what the voxels of each piece (`Pieces.numbers`) have, float64."""
    total = light.new_zeros(len(pieces) + 1)
    return total.index_add_(0, pieces.owners, light)[1:]


class Light(NamedTuple):
    """Light that voxels send to cameras."""

    numbers: Tensor
    """(n,) int64, rising: of the voxels that send any, on the lattice."""
    light: Tensor
    """(n,) float64 of each."""

    def at(self, numbers: Int64[Tensor, " m"]) -> Float[Tensor, " m"]:
        """What some voxels send; 0 for those that send nothing."""
        if not len(self.numbers):
            return torch.zeros(len(numbers), dtype=torch.float64)
        at = torch.searchsorted(self.numbers, numbers).clamp_max(len(self.numbers) - 1)
        return self.light[at] * (self.numbers[at] == numbers)


@torch.no_grad()
def seen_light(field: RadianceField, scene: Scene, views: Views, focus: Float[Tensor, 3]) -> Light:
    """The light that each voxel sends to cameras from around their focus.

    What lies far before or behind the focus counts less, by 1 / (1 + (d / r)^2)^2, r being a quarter of what an image
    shows at the focus.

    Args:
        field: the field.
        scene: its near and far plane and step.
        views: cameras, scene units.
        focus: (3,) scene units: what the cameras look at.

    Returns:
        Of voxels of the field's lattice; the sum is at most 1, and that if all is seen at the focus itself.
    """
    steps = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    pixels, whole = torch.cartesian_prod(steps, steps), 0.0
    device = field.cells.device
    numbers, light = torch.zeros(0, dtype=torch.int64), torch.zeros(0, dtype=torch.float64)
    for k in range(0, len(views.poses), max(1, -(-len(views.poses) // CAMERAS))):
        view = views[k]
        places, depth = (v[0] for v in view.project(focus[None].double()))
        middle = places[0] if float(depth[0]) > 0 else view.centers[0]
        window = torch.exp(-0.5 * ((pixels - middle) / MIDDLE).square().sum(-1))
        which = (window > LEAST * window.max()).nonzero()[:, 0]
        whole += float(window[which].sum())
        radius = 0.25 * float(depth[0].abs()) / float(view.focals.mean())
        origins, directions = (rays.float().to(device) for rays in view.rays(pixels[which]))
        for part in torch.arange(len(which)).split(rays_at_once(field, scene.step)):
            asked = ask_view(field, scene, origins[part], directions[part])
            weights = render_weights(asked.density, asked.samples, len(part)).double().cpu()
            away = (asked.positions.double().cpu() - focus.double()).norm(dim=-1) / max(radius, 1e-9)
            weights *= window[which][part][asked.samples.rays.cpu()] / (1.0 + away.square()).square()
            every = torch.cat([numbers, field.occupancy.numbers(asked.positions).cpu()])
            numbers, at = every.unique(return_inverse=True)
            light = torch.zeros(len(numbers), dtype=torch.float64).index_add_(0, at, torch.cat([light, weights]))
    return Light(numbers, light / max(whole, 1e-12))


@torch.no_grad()
def cameras_that_see(
    field: RadianceField,
    scene: Scene,
    places: Float[Tensor, "cameras 3"],
    pieces: Pieces,
    numbers: Sequence[int],
    views: Views | None = None,
) -> list[int]:
    """How many cameras see each of some pieces: some of a few of its voxels, inside the image where views are known.

    Args:
        field: the field.
        scene: its near and far plane and step.
        places: (n, 3) of the cameras, scene units.
        pieces: of the field's voxels.
        numbers: the pieces asked about, counted from 1.
        views: the cameras; None where only their places are known.
    """
    labels, device = pieces.labels.view(-1), field.cells.device
    targets = [_spread(pieces.index(number)) for number in numbers]
    owner = torch.cat([torch.full((len(t),), k) for k, t in enumerate(targets)]) if targets else torch.zeros(0).long()
    points = middles(field.occupancy, torch.cat(targets)) if targets else torch.zeros(0, 3)
    counts = torch.zeros(len(numbers), dtype=torch.int64)
    for k, place in enumerate(places.double()):
        inside = torch.ones(len(points), dtype=torch.bool) if views is None else _in_image(views[k], points)
        which = inside.nonzero()[:, 0]
        if not len(which):
            continue
        directions = torch.nn.functional.normalize(points[which] - place, dim=-1).float().to(device)
        asked = ask_view(field, scene, place.float().to(device).expand_as(directions).contiguous(), directions)
        rays = asked.samples.rays.cpu()
        weights = render_weights(asked.density, asked.samples, len(which)).cpu()
        own = labels[field.occupancy.numbers(asked.positions).cpu()] == torch.tensor(numbers)[owner[which]][rays]
        light = torch.zeros(len(which)).index_add_(0, rays, weights * own)
        counts[owner[which][light > ENOUGH].unique()] += 1
    return [int(count) for count in counts]


def _spread(index: Int64[Tensor, "n 3"]) -> Tensor:
    """(at most TARGETS, 3) of some voxels, evenly among them."""
    return index[torch.linspace(0, len(index) - 1, min(TARGETS, len(index))).round().long()]


def _in_image(view: Views, points: Tensor) -> Tensor:
    """(n,) bool: one camera's image shows the point, or something before it."""
    places, depth = (v[0] for v in view.project(points))
    return (depth > 0) & ((places >= 0) & (places < 1)).all(-1)
