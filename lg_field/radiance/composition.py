"""Several scenes in one space: parts that stand where they are put, and rays that go through all of them at once.

Every part is marched in its own scene space, with its own steps, between its own near and far plane. The samples of all
parts are merged along the ray before anything is composited, so parts occlude and intersect each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.arrangement import Place, Triple
from lg_field.radiance.compositing import Samples
from lg_field.radiance.field import RadianceField
from lg_field.radiance.memory_bound import in_parts, rays_at_once, samples_at_once
from lg_field.radiance.render import Asked, ask_view, field_samples
from lg_field.radiance.scene import Scene
from lg_field.radiance.stopping import PICTURES, ask_in_rounds
from lg_field.radiance.volume import Volume
from lg_field.space.regions import Region
from lg_field.space.regions.similarity import Similarity

HERE = Place()
"""Where a part stands that was not moved."""
MOST_VIEWPOINTS = 32
"""Viewpoints that a composition takes over from its parts."""


@dataclass(frozen=True)
class Part:
    """A field that stands somewhere."""

    name: str
    field: RadianceField
    """Parts made of one file share it."""
    place: Place = HERE

    @cached_property
    def outward(self) -> Similarity:
        """From the part's scene space to the composition's."""
        return self.place.similarity()

    @cached_property
    def inward(self) -> Similarity:
        """The way back."""
        return self.outward.inverse()

    @property
    def scene(self) -> Scene:
        """What the part's file says of it.

        Raises:
            ValueError: it says nothing of a scene.
        """
        if not isinstance(self.field.description, Scene):
            raise ValueError(f"{self.name} is no scene, and only scenes can be put together")
        return self.field.description


class Composition(Volume):
    """Parts in one space. Its units are those in which the parts are placed."""

    def __init__(self, parts: Sequence[Part], region: Region | None = None, scene: Scene | None = None) -> None:
        """
        Args:
            parts: at least one.
            region: the exact region shown, units of the composition; None = everything.
            scene: what the composition says of itself; None = `common_scene` of the parts.

        Raises:
            ValueError: no part, or one that is no scene.
        """
        if not parts:
            raise ValueError("a composition needs at least one part")
        self.parts, self.region = tuple(parts), region
        self.description = common_scene([(part.scene, part.place) for part in parts]) if scene is None else scene
        self.occupancy = Holdings(self.parts)
        self.backend = self.parts[0].field.backend

    @property
    def cells(self) -> Int64[Tensor, " rows"]:  # type: ignore[override]
        """(P,) int64 kept cells of all parts, one part after the other; copies are counted anew."""
        return torch.cat([part.field.cells for part in self.parts])

    @property
    def num_rows(self) -> int:
        """How many cells are kept, copies counted anew."""
        return sum(part.field.num_rows for part in self.parts)

    def to(self, device: str | torch.device) -> Composition:
        """The same with its fields on a device; they are moved in place, each once."""
        for field in {id(part.field): part.field for part in self.parts}.values():
            field.to(device)
        return self

    def with_parts(self, parts: Sequence[Part]) -> Composition:
        """The same with other parts, or with parts elsewhere."""
        assert isinstance(self.description, Scene)
        scene = common_scene([(part.scene, part.place) for part in parts], self.description.background)
        return Composition(parts, self.region, scene)

    # -- queries

    def __call__(
        self, positions: Float[Tensor, "points 3"]
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points features"]]:
        """Density and what `rgb` needs at points.

        Args:
            positions: (M, 3) units of the composition.

        Returns:
            (M,) density per unit, the sum over the parts, and (M, F): each part's density with its features.
        """
        found = [part.field(part.inward.points(positions)) for part in self.parts]
        each = torch.stack([density / part.place.scale for part, (density, _) in zip(self.parts, found)], dim=1)
        if self.region is not None:
            each = each * self.region.contains(positions)[:, None]
        pieces = [torch.cat([each[:, k, None], features], dim=1) for k, (_, features) in enumerate(found)]
        return each.sum(1), torch.cat(pieces, dim=1)

    def density(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Density per unit at points, the sum over the parts."""
        return self(positions)[0]

    def is_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether points are in an occupied voxel of a part, and in the region."""
        hit = self.occupancy.is_occupied(positions)
        return hit if self.region is None else hit & self.region.contains(positions)

    def rgb(
        self,
        features: Float[Tensor, "points features"],
        directions: Float[Tensor, "points 3"],
        appearance: Float[Tensor, "points width"] | None = None,
    ) -> Float[Tensor, "points 3"]:
        """Colour seen from a direction: the parts' colours, weighted by their densities. Appearances are average."""
        total, weight = torch.zeros_like(directions), torch.full_like(directions[:, :1], 1e-12)
        widths = [1 + _feature_width(part.field) for part in self.parts]
        for part, piece in zip(self.parts, features.split(widths, dim=1)):
            share = piece[:, :1] + 1e-12 / len(self.parts)
            total = total + share * part.field.rgb(piece[:, 1:], part.inward.directions(directions))
            weight = weight + piece[:, :1]
        return total / weight


def _feature_width(field: RadianceField) -> int:
    """Numbers that `field(points)` says of a point beside its density."""
    return field.sizes.color_features


class Holdings:
    """What of a composition holds something: an `OccupancyGrid`'s answers, in units of the composition."""

    def __init__(self, parts: Sequence[Part]) -> None:
        """See `Composition`."""
        self.parts = tuple(parts)

    def is_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether points are in an occupied voxel of a part, and in that part's exact region."""
        hit = torch.zeros(len(positions), dtype=torch.bool, device=positions.device)
        for part in self.parts:
            hit |= part.field.is_occupied(part.inward.points(positions))
        return hit

    def bounds(self) -> Float[Tensor, "2 3"]:
        """Box around all occupied voxels."""
        return self._around([part.field.occupancy.bounds() for part in self.parts])

    def near_bounds(self) -> Float[Tensor, "2 3"]:
        """The same, but of an unbounded part the cube that is not contracted."""
        return self._around([part.field.occupancy.near_bounds() for part in self.parts])

    def _around(self, boxes: list[Tensor]) -> Tensor:
        moved = [part.outward.boxes(box[None])[0] for part, box in zip(self.parts, boxes)]
        held = [box for box in moved if bool((box[0] < box[1]).all())] or moved
        around = torch.stack(held)
        return torch.stack([around[:, 0].amin(0), around[:, 1].amax(0)])


def parts_of(volume: Volume) -> tuple[Part, ...]:
    """The parts of a composition; a field is one part, where it is."""
    if isinstance(volume, Composition):
        return volume.parts
    assert isinstance(volume, RadianceField)
    return (Part("", volume),)


def common_scene(parts: Sequence[tuple[Scene, Place]], background: Triple | None = None) -> Scene:
    """What a composition says of itself: the first part's scene, with the planes, steps and viewpoints of all.

    Args:
        parts: at least one, each with its place. The first says world units, what is up and where a viewer starts.
        background: instead of the first part's.
    """
    first, outward = parts[0][0], parts[0][1].similarity()
    world = torch.tensor(first.scene_to_world, dtype=torch.float64) @ outward.inverse().matrix()
    camera = first.camera
    if camera is not None:
        pose = torch.tensor(camera, dtype=torch.float64)
        pose[:3, :3] = outward.directions(pose[:3, :3].T).T
        pose[:3, 3] = outward.points(pose[:3, 3])
        camera = _rows(pose)
    seen: list[Triple] = []
    for scene, place in parts:
        seen += [(x, y, z) for x, y, z in map(place.similarity().point, scene.viewpoints)]
    return replace(
        first,
        scene_to_world=_rows(world),
        camera=camera,
        up=tuple(outward.directions(torch.tensor(first.up, dtype=torch.float64)).tolist()),
        background=first.background if background is None else background,
        near=min(place.scale * scene.near for scene, place in parts),
        far=max(place.scale * scene.far for scene, place in parts),
        step=min(place.scale * scene.step for scene, place in parts),
        viewpoints=tuple(seen[:: max(1, math.ceil(len(seen) / MOST_VIEWPOINTS))]),
    )


def _rows(matrix: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, matrix.tolist()))


# -- rays


class _Rays(NamedTuple):
    """The rays as one part sees them."""

    origins: Tensor
    directions: Tensor


class Merged(NamedTuple):
    """Samples of all parts along the same rays."""

    samples: Samples
    """M packed samples, sorted by ray and then by the distance of their middles, units of the composition."""
    owners: Tensor
    """(M,) int64 number of the part that each is of."""


def merged_samples(field: Composition, origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"]) -> Merged:
    """March rays through all parts.

    Args:
        field: the composition.
        origins: (N, 3).
        directions: (N, 3) unit vectors.
    """
    found, owners, bounds = [], [], _bounds_of_places(field.parts)
    for number, part in enumerate(field.parts):
        rays, scene, scale = _as_seen(part, origins, directions), part.scene, part.place.scale
        near, far = (torch.full_like(origins[:, 0], value) for value in (scene.near, scene.far))
        some = field_samples(part.field, *rays, near, far, scene.step, bounds=bounds[part.place])
        found.append(Samples(some.rays, some.starts * scale, some.ends * scale))
        owners.append(torch.full_like(some.rays, number))
    samples, owner = Samples(*(torch.cat(values) for values in zip(*found))), torch.cat(owners)
    order = samples.middles.argsort(stable=True)
    order = order[samples.rays[order].argsort(stable=True)]
    if field.region is not None:
        inside = field.region.contains(samples.positions(origins, directions))
        order = order[inside[order]]
    return Merged(Samples(*(values[order] for values in samples)), owner[order])


def _as_seen(part: Part, origins: Tensor, directions: Tensor) -> _Rays:
    """Rays in a part's scene space."""
    return _Rays(part.inward.points(origins), part.inward.directions(directions))


def _bounds_of_places(parts: Sequence[Part]) -> dict[Place, Tensor]:
    """For each place the box around all that bounded parts there hold, in their own scene space: the steps of parts of
    one scene begin where those of the whole scene do."""
    boxes: dict[Place, list[Tensor]] = {part.place: [] for part in parts}
    for part in parts:
        box = part.field.occupancy.bounds()
        if not part.field.sizes.contraction and bool((box[0] < box[1]).all()):
            boxes[part.place].append(box)
    empty = torch.zeros(2, 3, device=parts[0].field.cells.device)
    return {
        place: torch.stack([torch.stack(some)[:, 0].amin(0), torch.stack(some)[:, 1].amax(0)]) if some else empty
        for place, some in boxes.items()
    }


@ask_view.register(Composition)
@torch.no_grad()
def ask_composition(
    field: Composition,
    scene: Scene,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    least_light: float = PICTURES,
) -> Asked:
    """`render.ask_view` of a composition: `scene` is its own, colours are those of average appearances."""
    samples, owners = merged_samples(field, origins, directions)
    rays = [_as_seen(part, origins, directions) for part in field.parts]

    def look(some: Samples, at: Tensor) -> tuple[Tensor, ...]:
        density, colors = torch.zeros_like(some.starts), torch.zeros_like(some.starts)[:, None].repeat(1, 3)
        owner = owners[at]
        for number, part in enumerate(field.parts):
            mine = (owner == number).nonzero()[:, 0]
            if len(mine):
                own = Samples(*(values[mine] for values in some))
                asks = in_parts(partial(_look, part, rays[number]), samples_at_once(part.field))
                density[mine], colors[mine] = asks(own)
        return density, colors, owner

    found, density, colors, owner = ask_in_rounds(look, samples, len(origins), least_light)
    said = colors.new_zeros(len(colors), 0)
    return Asked(field, origins, directions, found, density, said, colors, owners=owner)


def _look(part: Part, rays: _Rays, samples: Samples) -> tuple[Tensor, Tensor]:
    """(M,) density per unit of the composition and (M, 3) colours of samples of one part."""
    scale = part.place.scale
    local = Samples(samples.rays, samples.starts / scale, samples.ends / scale)
    positions = local.positions(*rays)
    if part.field.sizes.color_width:
        density, features = part.field(positions)
        return density / scale, part.field.rgb(features, rays.directions[samples.rays])
    density, colors, _ = part.field.looks(*part.field.owners(positions, 0.0), samples.rays, rays.directions)
    return density / scale, colors


@rays_at_once.register(Composition)
def rays_of_composition(field: Composition, step: float) -> int:
    """`memory_bound.rays_at_once` of a composition: the samples of all parts are there at a time."""
    return max(1, min(rays_at_once(part.field, part.scene.step) for part in field.parts) // len(field.parts))
