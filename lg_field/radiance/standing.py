"""What cameras look at, cut from the surface that it stands on: by eighths of voxels, and below along a plane."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped
from torch import Tensor

from lg_field.radiance.components import Cut, Pieces, cut_through, lattice_of, middles, voxel_set
from lg_field.radiance.field import RadianceField
from lg_field.radiance.focus import REACH, Found, Look, known_look
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import seen_light
from lg_field.radiance.solid import eighths, eighths_opacity
from lg_field.radiance.support import AROUND, FINE, Support, find_supports, surface_points, terms
from lg_field.space.regions import HalfSpace, Region, VoxelSet
from lg_field.space.regions.voxels import MAX_VOXELS

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


class Eighths(NamedTuple):
    """Voxels near the focus, each cut into 8."""

    numbers: Tensor
    """(n, 3) int64 of the voxels per axis, on the lattice."""
    points: Tensor
    """(n, 8, 3) float64 middles, scene units."""
    opacity: Tensor
    """(n, 8) float64: what a way as long as a voxel's side absorbs there."""
    light: Tensor
    """(n,) float64 part of what cameras see around their focus."""

    @staticmethod
    def of(field: RadianceField, focus: Float[Tensor, 3], shown: Tensor, light: Tensor) -> Eighths:
        """Those of the shown voxels that lie no farther out than an object does."""
        index = shown.nonzero()
        index = index[((middles(field.occupancy, index) - focus).abs() <= REACH).all(-1)]
        places = (index[:, None] + eighths()) / field.occupancy.per_axis
        points = field.frame.from_places(places.flatten(0, 1)).view(-1, 8, 3)
        return Eighths(index, points, eighths_opacity(field, index), light[tuple(index.unbind(1))])

    def dense(self, values: Shaped[Tensor, "n 8"]) -> Shaped[Tensor, "nx ny nz"]:
        """Values in their places, within the smallest box; 0 elsewhere."""
        places = self.places
        dense = torch.zeros(tuple(places.amax(0) + 1), dtype=values.dtype)
        dense[tuple(places.unbind(1))] = values.flatten()
        return dense

    @property
    def places(self) -> Int64[Tensor, "eighths 3"]:
        """Where they are in `dense`."""
        places = (2 * self.numbers[:, None] + eighths().round().long()).flatten(0, 1)
        return places - places.amin(0)

    def of_dense(self, dense: Shaped[Tensor, "nx ny nz"]) -> Shaped[Tensor, "n 8"]:
        """Inverse of `dense`."""
        return dense[tuple(self.places.unbind(1))].view(-1, 8)

    def region(self, chosen: Bool[Tensor, "n 8"], grid: OccupancyGrid) -> Region:
        """Some of them as a region: the voxels that hold them, and, unless the scene is too large for that, of these a
        lattice that is twice as fine.

        Raises:
            ValueError: none is chosen.
        """
        dense = torch.zeros(lattice_of(grid).counts, dtype=torch.bool)
        dense[tuple(self.numbers[chosen.any(1)].unbind(1))] = True
        whole, lattice = voxel_set(grid, dense), lattice_of(grid).refined(2)
        if lattice.num_cells > MAX_VOXELS:
            return whole
        fine = torch.zeros(lattice.counts, dtype=torch.bool)
        places = 2 * self.numbers[:, None] + eighths().round().long()
        fine[tuple(places[chosen].unbind(1))] = True
        return whole & VoxelSet.of(fine, lattice, grid.frame.contraction)

    def pieces(self, chosen: Bool[Tensor, "n 8"]) -> Int64[Tensor, "n 8"]:
        """The connected piece of each chosen eighth, counted from 1; 0 = of none."""
        return self.of_dense(Pieces.of(self.dense(chosen)).labels)

    def grown(self, pieces: Int64[Tensor, "n 8"], into: Bool[Tensor, "n 8"]) -> Int64[Tensor, "n 8"]:
        """The pieces with some more eighths, each of the piece that is nearest to it, if one is near (`GROWN`)."""
        from scipy import ndimage

        labels = self.dense(pieces)
        away, nearest = ndimage.distance_transform_edt((labels == 0).numpy(), return_indices=True)
        close = self.of_dense(torch.from_numpy(away)) <= 2.0 * GROWN
        theirs = self.of_dense(labels[tuple(torch.from_numpy(axis).long() for axis in nearest)])
        return torch.where(into & close, theirs, pieces)

    def shares(self, pieces: Int64[Tensor, "n 8"]) -> Float[Tensor, " pieces"]:
        """Part of what cameras see around their focus that is of each piece; of none the first."""
        parts = self.light[:, None] / (pieces > 0).sum(1, keepdim=True).clamp_min(1)
        shares = torch.zeros(int(pieces.max()) + 1, dtype=torch.float64)
        return shares.index_add_(0, pieces.flatten(), (parts * (pieces > 0)).flatten())


class _Choice(NamedTuple):
    """A piece above a surface."""

    share: float
    pieces: Tensor
    """(n, 8) int64."""
    number: int
    margin: float
    """How far above the surface it begins, scene units."""
    level: float
    """How solid it is."""

    @property
    def own(self) -> Tensor:
        """(n, 8) bool: the eighths of the piece."""
        return self.pieces == self.number


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
    light = seen_light(field, scene, look.views, look.focus) * shown
    near = Eighths.of(field, look.focus, shown, light / light.sum().clamp_min(1e-12))
    if not len(near.numbers) or not float(light.sum()) > 0.0:
        return None
    points, toward = surface_points(field, scene, look.views, shown), one_side(scene, look)
    for up in (scene.up, toward if walls else None):
        for support in () if up is None else find_supports(points, up, look.focus, side):
            height = support.height(near.points.flatten(0, 1)).view(-1, 8)
            choice = _most_seen(support, near, height, side)
            if choice is not None and not _goes_on_below(support, near.points[choice.own], points, side):
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


def _most_seen(support: Support, near: Eighths, height: Float[Tensor, "n 8"], side: float) -> _Choice | None:
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
                    found.append(_Choice(float(shares[number]), pieces, number, margin * side, level))
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
    index = (found.pieces.labels == found.number).nonzero()
    low = support.height(middles(grid, index)) < CUT * side_of(grid)
    return float(low.double().mean()) < FREE


def _standing_on(
    support: Support, near: Eighths, choice: _Choice, height: Float[Tensor, "n 8"], grid: OccupancyGrid
) -> Standing:
    """A piece as an object."""
    side = side_of(grid)
    clear = height > max(choice.margin, CLEAR * side)
    pieces = near.grown(choice.pieces, (near.opacity >= FAINT) & clear)
    own, others = pieces == choice.number, (pieces > 0) & (pieces != choice.number)
    axis = int(support.axes[2].abs().argmax())
    low = near.dense(own & (height <= choice.margin + side)).any(axis, keepdim=True)
    down = near.dense(height <= choice.margin) & low
    own |= near.of_dense(down) & (height > 0.0) & ~others
    beside = torch.nn.functional.max_pool3d(near.dense(own)[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    places = ((near.points[own] - support.focus) @ support.axes.T)[:, :2]
    kept = own | near.of_dense(beside) & ~others
    above = _cut(support, places, side)
    whole = own & above.contains(near.points.flatten(0, 1)).view(-1, 8)
    through = cut_through(near.dense((near.opacity >= SOLID) | own), near.dense(whole))
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
