"""What the cameras of a scene look at, cut out of all that surrounds it, as fine as the voxels."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lg_field.radiance.components import VOXELS, Pieces, index_by_axis, lattice_of, mask_of, middles
from lg_field.radiance.field import RadianceField
from lg_field.radiance.ground import SOLID, above_ground
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import seen_light, shares_of
from lg_field.radiance.solid import densest, with_skin
from lg_field.radiance.views import Views

LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75)
"""Least opacities of voxels that connect, tried in turn."""
REACH = 1.5
"""How far from the origin of an unbounded scene an object ends, along each axis: a little beyond what cameras look at,
which reaches to 1."""
LOST = 2 / 3
"""Part of what cameras see around their focus that may not be of the object: with more, solid voxels alone are only a
part of it."""
SEEN = 0.12
"""Least part of what cameras see around their focus that must be there for them to look at something."""
HAZE, KEPT = 0.5, 0.85
"""A piece that shrinks to less than this part of its voxels where more solid ones connect, and keeps this part of its
light, lost haze and what hung on it."""


class Look(NamedTuple):
    """Cameras, and what they look at."""

    views: Views
    """Scene units."""
    focus: Tensor
    """(3,) float64, scene units."""


class Found(NamedTuple):
    """An object that cameras look at."""

    pieces: Pieces
    """Of what it was looked for among."""
    number: int
    """Of its piece, counted from 1."""
    shown: Tensor
    """(nx, ny, nz) bool: what it was looked for among, haze included."""
    share: float
    """Part of what the cameras see around their focus, 0..1."""
    level: float
    """Least opacity of the voxels that connect it."""
    above: bool
    """Whether the ground had to be cut away."""
    seen: float
    """What the cameras see around their focus in all, 0..1; below `SEEN` they look at nothing in particular."""

    @property
    def size(self) -> int:
        """Voxels of the piece."""
        return int(self.pieces.sizes[self.number - 1])

    @property
    def voxels(self) -> Bool[Tensor, "nx ny nz"]:
        """The object, with what is shown right beside it."""
        return with_skin(self.pieces, [self.number], self.shown)


def known_look(scene: Scene) -> Look | None:
    """What a scene alone says of its cameras: where they were. They are taken to look at the origin, which is what
    cameras look at in the space that captures are placed in; None where no place is known."""
    if not scene.viewpoints:
        return None
    places, focus = torch.tensor(scene.viewpoints, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    places = places[(places - focus).norm(dim=-1) > 1e-6]
    if not len(places):
        return None
    back = torch.nn.functional.normalize(places - focus, dim=-1)
    up = torch.nn.functional.normalize(torch.tensor(scene.up, dtype=torch.float64), dim=0).expand_as(back)
    along = (back * up).sum(-1, keepdim=True).abs() > 0.999
    up = torch.where(along, up.roll(1, -1), up)
    right = torch.nn.functional.normalize(torch.linalg.cross(up, back), dim=-1)
    poses = torch.stack([right, torch.linalg.cross(back, right), back, places], dim=-1)
    focals = torch.full((len(places), 2), scene.focal, dtype=torch.float64)
    return Look(Views(poses, focals, torch.full_like(focals, 0.5)), focus)


def surroundings(grid: OccupancyGrid, shown: Bool[Tensor, "nx ny nz"]) -> Bool[Tensor, "nx ny nz"]:
    """Those of some voxels that lie farther out than an object does (`REACH`); of bounded scenes none."""
    numbers = shown.reshape(-1).nonzero()[:, 0]
    return mask_of(numbers[far_out(grid, numbers)], shown.shape)


def far_out(grid: OccupancyGrid, numbers: Int64[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """`surroundings` of voxels by their numbers on the lattice."""
    counts, far = lattice_of(grid).counts, torch.zeros(len(numbers), dtype=torch.bool)
    for some in torch.arange(len(numbers)).split(VOXELS) if grid.frame.contraction else ():
        far[some] = (middles(grid, index_by_axis(numbers[some], counts)).abs() > REACH).any(-1)
    return far


def looked_at(field: RadianceField, look: Look, shown: Bool[Tensor, "nx ny nz"], least: float = 0.0) -> Found | None:
    """The object that cameras look at: the connected piece that they see most of around their focus.

    Voxels connect if they are solid enough; as solid as is needed for the piece to end before the surroundings begin
    (`surroundings`), and to be without haze. Where it never does, what lies below the ground is left out.

    Args:
        field: a scene, described by a `Scene`.
        look: its cameras.
        shown: the voxels to look among.
        least: part of what cameras see around their focus that must be there (`SEEN`: else they look at nothing in
            particular).

    Returns:
        None where less is there, or where nothing that they look at ends.
    """
    assert isinstance(field.description, Scene)
    grid, numbers = field.occupancy, shown.reshape(-1).nonzero()[:, 0]
    light = seen_light(field, field.description, look.views, look.focus).at(numbers)
    if float(light.sum()) < least:
        return None
    near = _Candidates(numbers, densest(field, numbers), light, far_out(grid, numbers))
    found = _first_that_ends(shown, near, False)
    if found is not None:
        return found
    try:
        solid = mask_of(numbers[near.opacity >= SOLID], shown.shape)
        ground = above_ground(grid, solid, field.description.up)
    except ValueError:
        return None
    over = [ground.contains(middles(grid, index_by_axis(some, shown.shape))) for some in numbers.split(VOXELS)]
    above = torch.cat(over) if over else near.far
    return _first_that_ends(mask_of(numbers[above], shown.shape), near.only(above), True)


class _Candidates(NamedTuple):
    """Voxels that are looked among."""

    numbers: Tensor
    """(n,) int64, rising, on the lattice."""
    opacity: Tensor
    """(n,) float64."""
    light: Tensor
    """(n,) float64 that they send to cameras."""
    far: Tensor
    """(n,) bool: they lie farther out than an object does."""

    def only(self, chosen: Bool[Tensor, " n"]) -> _Candidates:
        """Some of them."""
        return _Candidates(*(values[chosen] for values in self))


def _first_that_ends(shown: Bool[Tensor, "nx ny nz"], near: _Candidates, above: bool) -> Found | None:
    """The piece that most light comes from, at the lowest level at which it has no voxel far out, or at a higher one
    where that takes haze from it; None where there is none, or not much light comes from it."""
    total = max(float(near.light.sum()), 1e-12)
    found: Found | None = None
    for level in LEVELS:
        solid = near.only(near.opacity >= level)
        pieces = Pieces.of_numbers(solid.numbers, tuple(shown.shape))
        if not len(pieces):
            break
        shares = shares_of(pieces, solid.light)
        number, share = int(shares.argmax()) + 1, float(shares.max()) / total
        if share <= 1.0 - LOST:
            break
        if bool(solid.far[pieces.owners == number].any()):
            continue
        again = Found(pieces, number, shown, share, level, above, total)
        if found is not None and not (again.size < HAZE * found.size and share >= KEPT * found.share):
            break
        found = again
    return found
