"""Which pieces of a scene cameras see, and how much of each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.radiance.components import Pieces, lattice_of, middles
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
    shares = shares_of(pieces, seen_light(field, scene, views, focus))
    return shares / shares.sum().clamp_min(1e-12)


def shares_of(pieces: Pieces, light: Float[Tensor, "nx ny nz"]) -> Float[Tensor, " pieces"]:
    """The sum over the voxels of each piece, float64."""
    total = light.new_zeros(len(pieces) + 1)
    return total.index_add_(0, pieces.labels.view(-1), light.reshape(-1))[1:]


@torch.no_grad()
def seen_light(field: RadianceField, scene: Scene, views: Views, focus: Float[Tensor, 3]) -> Float[Tensor, "nx ny nz"]:
    """The light that each voxel sends to cameras from around their focus.

    What lies far before or behind the focus counts less, by 1 / (1 + (d / r)^2)^2, r being a quarter of what an image
    shows at the focus.

    Args:
        field: the field.
        scene: its near and far plane and step.
        views: cameras, scene units.
        focus: (3,) scene units: what the cameras look at.

    Returns:
        float64, by index on the field's lattice; the sum is at most 1, and that if all is seen at the focus itself.
    """
    steps = (torch.arange(NODES, dtype=torch.float64) + 0.5) / NODES
    pixels, whole = torch.cartesian_prod(steps, steps), 0.0
    lattice, device = lattice_of(field.occupancy), field.cells.device
    light = torch.zeros(lattice.num_cells, dtype=torch.float64)
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
            light.index_add_(0, field.occupancy.numbers(asked.positions).cpu(), weights)
    return (light / max(whole, 1e-12)).view(lattice.counts)


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
    targets = [_spread(pieces.labels == number) for number in numbers]
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


def _spread(voxels: Bool[Tensor, "nx ny nz"]) -> Tensor:
    """(at most TARGETS, 3) of some voxels, evenly among them."""
    index = voxels.nonzero()
    return index[torch.linspace(0, len(index) - 1, min(TARGETS, len(index))).round().long()]


def _in_image(view: Views, points: Tensor) -> Tensor:
    """(n,) bool: one camera's image shows the point, or something before it."""
    places, depth = (v[0] for v in view.project(points))
    return (depth > 0) & ((places >= 0) & (places < 1)).all(-1)
