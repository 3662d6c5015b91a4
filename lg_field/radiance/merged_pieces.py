"""Connected pieces of a composition: of what its parts show together, over the borders of parts as within them.

Parts of one scene that stand in one place share a lattice: there their voxels are joined before anything is looked for,
so that a scene cut into parts has the pieces of the whole. Elsewhere pieces are connected where their voxels touch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.arrangement import Place
from lg_field.radiance.components import Pieces, beside, index_by_axis, lattice_of, middles, scene_boxes, shown_voxels
from lg_field.radiance.field import RadianceField
from lg_field.radiance.ground import BELOW, level_plane, upper_sides
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.solid import voxel_opacity, with_skin
from lg_field.space.regions import HalfSpace, Region, Similarity, VoxelSet

GROWN = 0.02
"""Voxels touch if they overlap where each is longer by this part of itself on either side."""
VOXELS = 1 << 14
"""Voxels looked at at a time."""


class PartVoxels(NamedTuple):
    """What is known of a part to tell its pieces."""

    name: str
    grid: OccupancyGrid
    place: Place
    region: Region | None
    """What is shown of it, in its scene units; None = everything."""
    field: Callable[[], RadianceField]
    """All of it; says how dense it is, where that is asked."""


@dataclass(frozen=True)
class Stack:
    """Parts that stand on one lattice."""

    parts: tuple[PartVoxels, ...]
    """At least one."""

    @property
    def grid(self) -> OccupancyGrid:
        """Says where the voxels of the lattice are; which are occupied each part says."""
        return self.parts[0].grid

    @cached_property
    def outward(self) -> Similarity:
        """From the parts' scene space to the composition's."""
        return self.parts[0].place.similarity()

    @cached_property
    def inward(self) -> Similarity:
        """The way back."""
        return self.outward.inverse()

    @cached_property
    def side(self) -> float:
        """Longest side of a voxel, units of the composition; of an unbounded scene near its origin."""
        return max(lattice_of(self.grid).cell_size) * self.parts[0].place.scale

    @cached_property
    def volume(self) -> float:
        """Of a voxel, likewise."""
        return float(np.prod(lattice_of(self.grid).cell_size)) * self.parts[0].place.scale ** 3

    @cached_property
    def each(self) -> tuple[Bool[Tensor, "nx ny nz"], ...]:
        """The voxels that each part shows."""
        return tuple(shown_voxels(part.grid, part.region) for part in self.parts)

    @cached_property
    def shown(self) -> Bool[Tensor, "nx ny nz"]:
        """The voxels that any part shows."""
        return torch.stack(self.each).any(0)

    def solid(self, opacity: float) -> Bool[Tensor, "nx ny nz"]:
        """Those in which a way as long as a side absorbs at least so much of the light (see `solid_voxels`)."""
        if opacity <= 0.0:
            return self.shown
        found = [voxel_opacity(part.field(), shown) for part, shown in zip(self.parts, self.each)]
        return self.shown & (torch.stack(found).amax(0) >= opacity)

    def points(self, index: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Points of the composition (float64) at places of the lattice, counted in voxels."""
        flat = (index.reshape(-1, 3).double() / self.grid.per_axis).clamp_min(0.0)
        flat = flat.minimum(flat.new_tensor(self.grid.frame.grid.counts))
        return self.outward.points(self.grid.frame.from_places(flat)).view(index.shape)

    def places(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Inverse of `points`, of any points."""
        flat = self.inward.points(points.reshape(-1, 3).double())
        return (self.grid.frame.to_places(flat) * self.grid.per_axis).view(points.shape)

    def boxes(self, index: Int64[Tensor, "n 3"]) -> Float[Tensor, "n 2 3"]:
        """Boxes of the composition (float64) around voxels."""
        return self.outward.boxes(scene_boxes(self.grid, index))


def stacks_of(parts: Sequence[PartVoxels]) -> tuple[Stack, ...]:
    """Parts by the lattice on which they stand, in order."""
    found: dict[object, list[PartVoxels]] = {}
    for part in parts:
        found.setdefault((part.place, part.grid.frame, part.grid.per_axis), []).append(part)
    return tuple(Stack(tuple(some)) for some in found.values())


@dataclass(frozen=True)
class MergedPieces:
    """Pieces of a composition, the largest first."""

    stacks: tuple[Stack, ...]
    pieces: tuple[Pieces, ...]
    """Of each stack, with the numbers and sizes that they have in the whole."""
    sizes: Int64[Tensor, " pieces"]
    """Voxels of each, of all stacks."""
    volumes: Float[Tensor, " pieces"]
    """Of each, falling; of unbounded scenes in contracted space."""

    @staticmethod
    def of(stacks: Sequence[Stack], opacity: float = 0.0) -> MergedPieces:
        """The pieces of the voxels that are shown and at least so solid.

        Raises:
            ImportError: scipy is missing.
        """
        own = [Pieces.of(stack.solid(opacity)) for stack in stacks]
        begins = np.cumsum([0, *(len(pieces) for pieces in own)])
        pairs = [
            pair + torch.tensor([begins[a], begins[b]])
            for a in range(len(stacks))
            for b in range(len(stacks))
            if a != b
            for pair in [contacts(stacks[a], own[a], stacks[b], own[b])]
        ]
        joined = _joined(torch.cat(pairs) if pairs else torch.zeros(0, 2, dtype=torch.int64), int(begins[-1]))
        voxels = torch.cat([pieces.sizes for pieces in own])
        each = torch.cat([pieces.sizes * stack.volume for pieces, stack in zip(own, stacks)])
        count = int(joined.max()) + 1 if len(joined) else 0
        volumes = each.new_zeros(count).index_add_(0, joined, each)
        order = volumes.argsort(descending=True, stable=True)
        rank = torch.zeros(count, dtype=torch.int64)
        rank[order] = torch.arange(1, count + 1)
        sizes = voxels.new_zeros(count).index_add_(0, joined, voxels)[order]
        found = []
        for k, pieces in enumerate(own):
            numbers = torch.cat([torch.zeros(1, dtype=torch.int64), rank[joined[begins[k] : begins[k + 1]]]])
            found.append(replace(pieces, owners=numbers[pieces.owners], sizes=sizes))
        return MergedPieces(tuple(stacks), tuple(found), sizes, volumes[order])

    def __len__(self) -> int:
        return len(self.sizes)

    def nearest(self, point: Float[Tensor, 3]) -> tuple[int, float]:
        """The piece with the voxel nearest to a point of the composition, and how far that voxel's middle is, in
        voxels of its own.

        Raises:
            ValueError: there is no piece.
        """
        held = [(s, p) for s, p in zip(self.stacks, self.pieces) if len(p.numbers)] or [
            (self.stacks[0], self.pieces[0])
        ]
        return min((p.nearest(s.places(point[None])[0]) for s, p in held), key=lambda found: found[1])

    def inner_point(self, number: int) -> Float[Tensor, 3]:
        """A point of the composition by which a piece can be named: the middle of the voxel nearest to its mean, in
        the lattice that has most of it."""
        counts = [int((pieces.owners == number).sum()) * s.volume for s, pieces in zip(self.stacks, self.pieces)]
        best = counts.index(max(counts))
        index = self.pieces[best].index(number)
        inner = index[(index - index.double().mean(0)).norm(dim=-1).argmin()]
        return self.stacks[best].outward.points(middles(self.stacks[best].grid, inner[None]))[0]

    def kept(self, numbers: Sequence[int]) -> dict[str, VoxelSet]:
        """What is left of each part by name if only some pieces are kept, with what is shown right beside them; parts
        that hold nothing of these are left out.

        Raises:
            ValueError: no such piece.
        """
        found = {}
        for stack, pieces in zip(self.stacks, self.pieces):
            kept = with_skin(pieces, list(numbers), stack.shown)
            for part, shown in zip(stack.parts, stack.each):
                if bool((kept & shown).any()):
                    found[part.name] = VoxelSet.of(kept & shown, lattice_of(part.grid), part.grid.frame.contraction)
        return found


def contacts(first: Stack, own: Pieces, second: Stack, others: Pieces) -> Int64[Tensor, "n 2"]:
    """Pieces of two stacks that touch, each pair once, counted from 0: those of the first stack of which a voxel of its
    surface has a corner, or the middle of an edge or a side, in a voxel of the other."""
    labels, hers = own.labels, others.labels
    index = ((labels > 0) & beside(labels == 0, True)).nonzero()
    theirs = index_by_axis(others.numbers, others.counts)
    if not len(index) or not len(theirs):
        return torch.zeros(0, 2, dtype=torch.int64)
    around = second.boxes(theirs)
    low, high = around[:, 0].amin(0), around[:, 1].amax(0)
    steps = torch.cartesian_prod(*[torch.tensor([-GROWN, 0.5, 1.0 + GROWN], dtype=torch.float64)] * 3)
    counts, found = torch.tensor(others.counts), [torch.zeros(0, 2, dtype=torch.int64)]
    for some in index.split(VOXELS):
        boxes = first.boxes(some)
        slack = GROWN * (boxes[:, 1] - boxes[:, 0])
        near = ((boxes[:, 0] <= high + slack) & (boxes[:, 1] >= low - slack)).all(-1)
        some = some[near]
        places = second.places(first.points(some[:, None] + steps)).nan_to_num(-1.0, -1.0, -1.0).floor().long()
        inside = ((places >= 0) & (places < counts)).all(-1)
        hit = torch.zeros_like(inside, dtype=torch.int32)
        hit[inside] = hers[tuple(places[inside].unbind(-1))]
        ours = labels[tuple(some.unbind(1))][:, None].expand_as(hit)
        found.append(torch.stack([ours, hit], dim=-1)[hit > 0].long().unique(dim=0))
    return torch.cat(found).unique(dim=0) - 1


def _joined(pairs: Int64[Tensor, "n 2"], count: int) -> Int64[Tensor, " count"]:
    """What each of some pieces is part of, counted from 0 by the first piece of each, if pairs of them are one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows, columns = pairs.unbind(1)
    graph = coo_array((np.ones(len(pairs), dtype=bool), (rows.numpy(), columns.numpy())), shape=(count, count))
    labels = connected_components(graph, directed=False)[1] if count else np.zeros(0, dtype=np.int64)
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return torch.from_numpy(order[inverse].astype(np.int64))


def merged_ground(stacks: Sequence[Stack], up: Sequence[float], opacity: float, seed: int = 0) -> HalfSpace:
    """`ground.above_ground` of a composition, in its units.

    Args:
        stacks: at least one.
        up: (3,) upward direction of the composition, of any length.
        opacity: of the voxels among which it is looked for.
        seed: of the random triples of points.

    Raises:
        ValueError: there is no level plane.
        ImportError: open3d is missing.
    """
    upward = torch.nn.functional.normalize(torch.tensor(tuple(up), dtype=torch.float64), dim=0)
    points = [
        stack.outward.points(
            torch.from_numpy(upper_sides(stack.grid, stack.solid(opacity), stack.inward.directions(upward)))
        )
        for stack in stacks
    ]
    lowest = [(s.outward.shift.numpy(), -BELOW * s.side) for s in stacks if s.grid.frame.contraction]

    def good(normal: np.ndarray, offset: float) -> bool:
        return all(float(normal @ origin) + offset > least for origin, least in lowest)

    return level_plane(torch.cat(points).numpy(), max(stack.side for stack in stacks), upward, good, seed)
