"""What cameras look at, cut from the surface that it stands on: by eighths of voxels, and below along a plane."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.errors import notice
from lg_field.radiance.components import VOXELS, Cut, index_by_axis, lattice_of, middles, voxel_set
from lg_field.radiance.field import RadianceField
from lg_field.radiance.focus import REACH, Found, Look, known_look
from lg_field.radiance.listed import Listed
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import Light, seen_light
from lg_field.radiance.solid import densest, eighths, eighths_opacity
from lg_field.radiance.support import AROUND, FINE, Support, find_supports, surface_points, terms
from lg_field.space.regions import HalfSpace, Region, VoxelSet
from lg_field.space.regions.voxels import MAX_VOXELS

MOST = 1 << 20
"""Voxels of which the eighths are looked at; of more whole ones are, which takes an eighth of the memory."""
MARGINS = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Voxels above the surface from which on eighths of voxels connect, tried in turn."""
LEVELS = (0.1, 0.25, 0.5, 0.75, 0.9)
"""Least opacities of those that connect, tried in turn."""
FAINT, GROWN = 0.1, 1.5
"""Least opacity of what belongs to the piece that it is nearest to, and to which it is so many voxels at most."""
SOLID = 0.5
"""Least opacity of what a cut goes through."""
ENOUGH = 0.2
"""Least part of what cameras see around their focus that an object has."""
NEARLY = 0.85
"""A piece of which this part of the most is seen, and that is more solid, has lost crumbs of the surface alone."""
CLEAR = 1.5
"""Voxels above the surface from which on fainter eighths belong to the piece that they are nearest to."""
WIDER = 1.5
"""A surface is seen in so many times as many places as there are below what stands on it."""
FREE = 0.02
"""Part of an object that may lie on a surface which it does not stand on."""
TOGETHER = 0.7
"""Length of the mean direction to cameras, each of length 1, from which on all are on one side;"""
OVERHEAD = 0.85
"""and not above, unless its cosine with the upward direction is larger."""
BELOW, CLEARLY = 0.15, 1.5
"""So many points seen clearly below a surface (voxels), right under an object, for each one above, say that the object
goes on there: it stands on something lower."""
CUT = 0.5
"""Voxels above the surface at which the cut goes, at least."""


class Standing(NamedTuple):
    """An object that stands on something."""

    shape: Region
    """The object, with what is shown right beside it: whole voxels that hold some of it, and of these its eighths."""
    above: HalfSpace
    """Where it is cut from what it stands on: what of these voxels lies above."""
    share: float
    """Part of what the cameras see around their focus, 0..1."""
    support: Support
    """What it stands on."""
    cut: Cut
    """How much of its surface the cut goes through, counted in eighths of voxels."""
    wall: bool
    """Whether that is a wall behind it."""

    @property
    def region(self) -> Region:
        """The object, scene units."""
        return self.shape & self.above


@dataclass(frozen=True)
class Eighths:
    """Voxels near the focus, each cut into 8; where there are too many, whole ones: each is its only part."""

    numbers: Tensor
    """(n, 3) int64 of the voxels per axis, on the lattice."""
    points: Tensor
    """(n, parts, 3) float64 middles, scene units."""
    opacity: Tensor
    """(n, parts) float64: what a way as long as a voxel's side absorbs there."""
    light: Tensor
    """(n,) float64 part of what cameras see around their focus."""

    @staticmethod
    def of(field: RadianceField, focus: Float[Tensor, 3], shown: Tensor, light: Light) -> Eighths:
        """Those of the shown voxels that lie no farther out than an object does.

        Args:
            field: the field.
            focus: (3,) scene units.
            shown: (nx, ny, nz) bool, voxels of its lattice.
            light: that voxels send to cameras.
        """
        grid = field.occupancy
        near = [
            some[((middles(grid, index_by_axis(some, shown.shape)) - focus).abs() <= REACH).all(-1)]
            for some in shown.reshape(-1).nonzero()[:, 0].split(VOXELS)
        ]
        numbers = torch.cat(near) if near else torch.zeros(0, dtype=torch.int64)
        fine = len(numbers) <= MOST
        if not fine:
            notice(
                f"what stands in the middle is looked for among {len(numbers):,} whole voxels: their eighths are "
                f"looked at up to {MOST:,}; --box or --sphere around it leaves fewer"
            )
        index = index_by_axis(numbers, shown.shape)
        opacity = eighths_opacity(field, index) if fine else densest(field, numbers)[:, None]
        places = (index[:, None] + (eighths() if fine else torch.full((1, 3), 0.5))) / grid.per_axis
        points = field.frame.from_places(places.flatten(0, 1)).view(len(index), -1, 3)
        return Eighths(index, points, opacity, light.at(numbers))

    @property
    def parts(self) -> int:
        """Of each voxel."""
        return self.opacity.shape[1]

    @property
    def per_axis(self) -> int:
        """Of each voxel along each axis."""
        return 2 if self.parts == 8 else 1

    @property
    def places(self) -> Int64[Tensor, "n parts 3"]:
        """Where they are on the lattice, that many times as fine."""
        return 2 * self.numbers[:, None] + eighths().round().long() if self.parts == 8 else self.numbers[:, None]

    @cached_property
    def listed(self) -> Listed:
        """All parts, one voxel's after the other's."""
        return Listed.of(self.places.flatten(0, 1))

    def region(self, chosen: Bool[Tensor, "n parts"], grid: OccupancyGrid) -> Region:
        """Some of them as a region: the voxels that hold them, and, unless the scene is too large for that, of these a
        lattice that is twice as fine.

        Raises:
            ValueError: none is chosen.
        """
        dense = torch.zeros(lattice_of(grid).counts, dtype=torch.bool)
        dense[tuple(self.numbers[chosen.any(1)].unbind(1))] = True
        whole, lattice = voxel_set(grid, dense), lattice_of(grid).refined(2)
        if lattice.num_cells > MAX_VOXELS or self.parts == 1:
            return whole
        fine = torch.zeros(lattice.counts, dtype=torch.bool)
        fine[tuple(self.places[chosen].unbind(1))] = True
        return whole & VoxelSet.of(fine, lattice, grid.frame.contraction)

    def pieces(self, chosen: Bool[Tensor, "n parts"]) -> Int64[Tensor, "n parts"]:
        """The connected piece of each chosen part, counted from 1; 0 = of none."""
        return self.listed.labels(chosen.flatten())[0].view(-1, self.parts)

    def grown(self, pieces: Int64[Tensor, "n parts"], into: Bool[Tensor, "n parts"]) -> Int64[Tensor, "n parts"]:
        """The pieces with some more parts, each of the piece that is nearest to it, if one is near (`GROWN`)."""
        found = self.listed.nearest(pieces.flatten(), into.flatten(), self.per_axis * GROWN)
        return found.view(-1, self.parts)

    def beside(self, chosen: Bool[Tensor, "n parts"]) -> Bool[Tensor, "n parts"]:
        """Parts that share a face, an edge or a corner with a chosen one."""
        return self.listed.beside(chosen.flatten(), corners=True).view(-1, self.parts)

    def in_columns(self, chosen: Bool[Tensor, "n parts"], axis: int) -> Bool[Tensor, "n parts"]:
        """Parts that have a chosen one beside, above or below them along an axis of the lattice, or are it."""
        flat = self.places[..., [k for k in range(3) if k != axis]]
        columns = flat[..., 0] * (1 << 24) + flat[..., 1]
        return torch.isin(columns, columns[chosen].unique())

    def cut(self, shown: Bool[Tensor, "n parts"], kept: Bool[Tensor, "n parts"]) -> Cut:
        """What a cut goes through that keeps some of what is shown, counted in parts."""
        before, after = shown.flatten(), (kept & shown).flatten()
        through = after & self.listed.beside(before & ~after)
        return Cut(int(through.sum()), int(self.listed.alone(after).sum()))

    def shares(self, pieces: Int64[Tensor, "n parts"]) -> Float[Tensor, " pieces"]:
        """Part of what cameras see around their focus that is of each piece; of none the first."""
        parts = self.light[:, None] / (pieces > 0).sum(1, keepdim=True).clamp_min(1)
        shares = torch.zeros(int(pieces.max()) + 1, dtype=torch.float64)
        return shares.index_add_(0, pieces.flatten(), (parts * (pieces > 0)).flatten())


class _Choice(NamedTuple):
    """A piece above a surface."""

    share: float
    number: int
    margin: float
    """How far above the surface it begins, scene units."""
    level: float
    """How solid it is."""

    def pieces(self, near: Eighths, height: Float[Tensor, "n parts"]) -> Int64[Tensor, "n parts"]:
        """All pieces among which it is found."""
        return near.pieces((near.opacity >= self.level) & (height > self.margin))


def standing(field: RadianceField, look: Look, shown: Bool[Tensor, "nx ny nz"], walls: bool = True) -> Standing | None:
    """The object that cameras look at, without the surface that it stands on.

    The surface is the nearly level one around their focus that most is seen of (`support.find_supports`) and above
    which what they look at ends. The object is the piece that they see most of, of what connects above it: eighths of
    voxels that are solid enough, and as far above the surface as it takes. Where there is none, and all cameras are on
    one side, it is a wall that is looked for, of which their side is above.

    Args:
        field: a scene, described by a `Scene`.
        look: its cameras.
        shown: the voxels to look among.
        walls: look for one, too.

    Returns:
        None where it stands on nothing, or where nothing stands there.
    """
    assert isinstance(field.description, Scene)
    scene, side = field.description, side_of(field.occupancy)
    light = seen_light(field, scene, look.views, look.focus)
    total = float(light.light[shown.view(-1)[light.numbers]].sum())
    if not total > 0.0:
        return None
    near = Eighths.of(field, look.focus, shown, light._replace(light=light.light / total))
    if not len(near.numbers):
        return None
    points, toward = surface_points(field, scene, look.views, shown), one_side(scene, look)
    for up in (scene.up, toward if walls else None):
        for support in () if up is None else find_supports(points, up, look.focus, side):
            height = support.height(near.points.flatten(0, 1)).view(-1, near.parts)
            choice = _most_seen(support, near, height, side)
            if choice is None:
                continue
            own = choice.pieces(near, height) == choice.number
            if not _goes_on_below(support, near.points[own], points, side):
                return _standing_on(support, near, choice, height, field.occupancy)._replace(wall=up is toward)
    return None


def one_side(scene: Scene, look: Look) -> tuple[float, float, float] | None:
    """From the focus toward the cameras; None where they are all around, or above."""
    away = torch.nn.functional.normalize(look.views.poses[:, :, 3] - look.focus, dim=-1).mean(0)
    up = torch.nn.functional.normalize(torch.tensor(scene.up, dtype=torch.float64), dim=0)
    if float(away.norm()) < TOGETHER or float(away @ up) > OVERHEAD * float(away.norm()):
        return None
    x, y, z = away.tolist()
    return x, y, z


def _most_seen(support: Support, near: Eighths, height: Float[Tensor, "n parts"], side: float) -> _Choice | None:
    """Of the pieces above a surface that end the one that is seen most, or nearly that (`NEARLY`): of these at the
    least margin the most solid. None where too little is seen of them to be looked at."""
    found: list[_Choice] = []
    for margin in MARGINS:
        for level in LEVELS:
            pieces = near.pieces((near.opacity >= level) & (height > margin * side))
            shares = near.shares(pieces)
            for number in shares.argsort(descending=True).tolist():
                if float(shares[number]) < ENOUGH:
                    break
                if _ends(support, near.points[pieces == number], side):
                    found.append(_Choice(float(shares[number]), number, margin * side, level))
                    break
    least = NEARLY * max((choice.share for choice in found), default=0.0)
    good = [choice for choice in found if choice.share >= least]
    return min(good, key=lambda choice: (choice.margin, -choice.level), default=None)


def _ends(support: Support, points: Float[Tensor, "n 3"], side: float) -> bool:
    """Whether a piece ends within what cameras look at, and what it stands on goes on around it."""
    local = (points - support.focus) @ support.axes.T
    if float(local[:, :2].abs().max()) > AROUND or float(local[:, 2].max()) > REACH - side:
        return False
    return WIDER * len((local[:, :2] / (FINE * side)).floor().unique(dim=0)) <= len(support.places)


def _goes_on_below(
    support: Support, piece: Float[Tensor, "n 3"], points: Float[Tensor, "points 3"], side: float
) -> bool:
    """Whether cameras see a piece below a surface, too: surfaces are seen far out, where others may lie higher."""
    places = [(((p - support.focus) @ support.axes.T)[:, :2] / side).round().long() for p in (piece, points)]
    under = torch.isin(_number(places[1]), _number(places[0]))
    height = support.height(points[under])
    below, above = ((height < -CLEARLY * side - support.spread).sum(), (height > CLEARLY * side).sum())
    return bool(below > BELOW * above)


def _number(places: Int64[Tensor, "n 2"]) -> Int64[Tensor, " n"]:
    """One number of each place of a level plane."""
    return places[:, 0] * (1 << 20) + places[:, 1]


def ground_below(field: RadianceField, shown: Bool[Tensor, "nx ny nz"]) -> HalfSpace | None:
    """What lies a voxel or more above the surface that the object stands on which cameras look at.

    Returns:
        None in bounded scenes, of unknown cameras, or where nothing stands on anything.
    """
    look = known_look(field.description) if isinstance(field.description, Scene) else None
    found = standing(field, look, shown, walls=False) if look is not None and field.frame.contraction else None
    return None if found is None else HalfSpace(found.above.normal, found.above.offset - CUT * side_of(field.occupancy))


def side_of(grid: OccupancyGrid) -> float:
    """The longest side of a voxel near the origin, scene units."""
    return float(max(lattice_of(grid).cell_size))


def hangs(found: Found, support: Support, grid: OccupancyGrid) -> bool:
    """Whether an object reaches no surface: nearly all of it lies above."""
    index = found.pieces.index(found.number)
    low = support.height(middles(grid, index)) < CUT * side_of(grid)
    return float(low.double().mean()) < FREE


def _standing_on(
    support: Support, near: Eighths, choice: _Choice, height: Float[Tensor, "n parts"], grid: OccupancyGrid
) -> Standing:
    """A piece as an object."""
    side = side_of(grid)
    clear = height > max(choice.margin, CLEAR * side)
    pieces = near.grown(choice.pieces(near, height), (near.opacity >= FAINT) & clear)
    own, others = pieces == choice.number, (pieces > 0) & (pieces != choice.number)
    axis = int(support.axes[2].abs().argmax())
    below = near.in_columns(own & (height <= choice.margin + side), axis)
    own |= below & (height <= choice.margin) & (height > 0.0) & ~others
    places = ((near.points[own] - support.focus) @ support.axes.T)[:, :2]
    kept = own | near.beside(own) & ~others
    above = _cut(support, places, side)
    whole = own & above.contains(near.points.flatten(0, 1)).view(-1, near.parts)
    through = near.cut((near.opacity >= SOLID) | own, whole)
    return Standing(near.region(kept, grid), above, choice.share, support, through, False)


def _cut(support: Support, places: Float[Tensor, "n 2"], side: float) -> HalfSpace:
    """What lies above the plane that is nearest to a surface over some places of it."""
    away = places.norm(dim=-1, keepdim=True)
    heights = terms(places * (support.reach / away.clamp_min(1e-9)).clamp_max(1.0)) @ support.coefficients
    base = torch.cat([torch.ones_like(places[:, :1]), places], dim=-1)
    level, *slope = torch.linalg.lstsq(base, heights[:, None]).solution[:, 0]
    normal = support.axes[2] - slope[0] * support.axes[0] - slope[1] * support.axes[1]
    normal = torch.nn.functional.normalize(normal, dim=0)
    point = support.focus + level * support.axes[2]
    return HalfSpace(tuple(normal.tolist()), -float(normal @ point) - max(CUT * side, support.spread))
