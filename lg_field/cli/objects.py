"""Objects on a command line: connected components of a scene's voxels, and what lies above its ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from lg_field.errors import notice, tell

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.files import FieldFile
    from lg_field.radiance.components import Pieces
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.occupancy_grid import OccupancyGrid
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable

UP = (0.0, 0.0, 1.0)
"""Upward direction of a scene that does not say its own."""
LARGEST = "largest"
LISTED = 5
"""Components that are listed."""
ONE = 0.95
"""Share of the voxels of a component that is nearly everything."""
GROUND = 0.5
"""Least opacity of voxels that the ground is looked for among."""
CUT = 0.02
"""Share of the kept surface that may be cut without a word."""


class VoxelSource(NamedTuple):
    """Where the voxels of a scene come from; asked only for what is needed."""

    occupancy: Callable[[], OccupancyGrid]
    """Which are occupied."""
    field: Callable[[], RadianceField]
    """The whole field, which says how dense they are."""

    @staticmethod
    def of_file(file: FieldFile) -> VoxelSource:
        """An open scene file."""
        return VoxelSource(lambda: voxels_of_file(file), lambda: cast("RadianceField", file.load()))

    @staticmethod
    def of_field(field: Any) -> VoxelSource:
        """A scene that is loaded."""
        return VoxelSource(lambda: field.occupancy, lambda: field)


@dataclass(frozen=True)
class ObjectFlags:
    """An object of a scene, as fine as its voxels; chosen within the shapes that are asked for, if any are."""

    component: tuple[str, ...] = ()
    """Of scenes: the connected component of occupied voxels that is the `largest`, that has this number (1 is the
    largest), or that is nearest to a point X Y Z; of what --box, --above-plane and the like leave."""
    above_plane: tuple[float, ...] | None = None
    """Of scenes: only what lies above the ground, a level plane that is found (RANSAC); or above a given one, with
    NX x + NY y + NZ z + D >= 0: four numbers NX NY NZ D."""

    solid: float = 0.0
    """Voxels connect only where a way as long as a side of them absorbs this much of the light, 0 to 1: 0.5 tells
    apart what haze connects. 0: all occupied voxels do."""

    @property
    def given(self) -> bool:
        """Whether an object was asked for."""
        return bool(self.component) or self.above_plane is not None

    def within(
        self,
        field: CellTable,
        source: VoxelSource,
        shape: Region | None,
        to_scene: Tensor | None = None,
    ) -> Region:
        """What of a shape is asked for.

        Args:
            field: a scene.
            source: gives its voxels.
            shape: in scene units; None = everything.
            to_scene: (4, 4) from the units of the flags' numbers; None where those are scene units.

        Raises:
            ValueError: not a scene, numbers that make no sense, no such component.
        """
        from lg_field.radiance.field import RadianceField

        if not isinstance(field, RadianceField):
            raise ValueError("--component and --above-plane are for scenes: a signal has no occupied voxels")
        self.check()
        if self.above_plane is not None:
            above = self.above(field, source, shape, to_scene)
            shape = above if shape is None else shape & above
        if self.component:
            shape = self.piece(field, source, shape, to_scene)
        assert shape is not None
        return shape

    def check(self) -> None:
        """Raise ValueError for numbers that make no sense."""
        if not 0.0 <= self.solid < 1.0:
            raise ValueError(f"--solid is a part of the light, from 0 to less than 1, got {self.solid:g}")

    def above(self, field: CellTable, source: VoxelSource, shape: Region | None, to_scene: Tensor | None) -> Region:
        """The half space above the plane, in scene units; says where a found plane is."""
        from lg_field.radiance.components import shown_voxels
        from lg_field.radiance.ground import above_ground
        from lg_field.radiance.solid import solid_voxels
        from lg_field.space.regions import HalfSpace, transformed

        numbers = self.above_plane or ()
        if numbers:
            if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
                raise ValueError(f"--above-plane takes no number or four, NX NY NZ D, got {list(numbers)}")
            given = HalfSpace(numbers[:3], numbers[3])
            return given if to_scene is None else transformed(given, to_scene)
        up = getattr(field.description, "up", UP)
        whole = source.field()
        shown = shown_voxels(whole.occupancy, both(field.region, shape))
        found = above_ground(whole.occupancy, solid_voxels(whole, shown, max(self.solid, GROUND)), up)
        plane = " ".join(f"{v:.4g}" for v in (*found.normal, found.offset))
        tell(f"the ground that was found: --above-plane {plane} (scene units)")
        return found

    def piece(self, field: CellTable, source: VoxelSource, shape: Region | None, to_scene: Tensor | None) -> Region:
        """The component as a set of voxels, cut by the shape; says which one it is."""
        from lg_field.radiance.components import shown_voxels

        grid = source.occupancy()
        shown = shown_voxels(grid, both(field.region, shape))
        pieces = self.pieces(source, shown)
        number = self.number(pieces, grid, to_scene)
        tell(f"component {number} of {len(pieces)}: {listed(pieces, grid)}{self.advice(pieces)}")
        return self.kept(pieces, [number], shown, shape, grid)

    def pieces(self, source: VoxelSource, shown: Tensor) -> Pieces:
        """The connected pieces of the (solid) voxels that are shown."""
        from lg_field.radiance.components import Pieces
        from lg_field.radiance.solid import solid_voxels

        return Pieces.of(solid_voxels(source.field(), shown, self.solid) if self.solid else shown)

    def kept(
        self, pieces: Pieces, numbers: list[int], shown: Tensor, shape: Region | None, grid: OccupancyGrid
    ) -> Region:
        """Some pieces, with what is shown right beside them, as a set of voxels, cut by the shape."""
        from lg_field.radiance.components import voxel_set
        from lg_field.radiance.solid import with_skin

        kept: Region = both(voxel_set(grid, with_skin(pieces, numbers, shown)), without_voxels(shape, grid))
        return kept

    def advice(self, pieces: Pieces) -> str:
        """What to try where nearly everything is one piece."""
        one = len(pieces) and float(pieces.sizes[0]) > ONE * float(pieces.sizes.sum())
        more = "a larger --solid" if self.solid else "--solid 0.5"
        return f"; nearly all is connected: {more}, --above-plane or a --box part it" if one else ""

    def number(self, pieces: Pieces, grid: OccupancyGrid, to_scene: Tensor | None) -> int:
        """The component asked for, counted from 1.

        Raises:
            ValueError: words that name none, or there is none.
        """
        import torch

        words = self.component
        if len(words) == 1 and (words[0] == LARGEST or words[0].isdecimal()):
            number = 1 if words[0] == LARGEST else int(words[0])
            pieces.voxels([number])
            return number
        try:
            point = torch.tensor([float(word) for word in words], dtype=torch.float64)
        except ValueError:
            point = torch.zeros(0)
        if len(point) != 3 or not bool(point.isfinite().all()):
            raise ValueError(f"--component takes largest, a number from 1 or a point X Y Z, got {' '.join(words)[:60]}")
        if to_scene is not None:
            point = to_scene[:3, :3] @ point + to_scene[:3, 3]
        place = grid.frame.to_places(point[None])[0] * grid.per_axis
        number, away = pieces.nearest(place)
        if away > 1.0:
            tell(f"--component: the point lies {away:.1f} voxels from component {number}, the nearest one")
        return number


NO_OBJECT = ObjectFlags()


def both(first: Region | None, second: Region | None) -> Any:
    """The points in both; None = everything."""
    return second if first is None else first if second is None else first & second


def without_voxels(shape: Region | None, grid: OccupancyGrid) -> Region | None:
    """What a shape says beyond whole voxels: a component of it says those."""
    from lg_field.radiance.components import lattice_of

    return None if shape is None else shape.split_voxels(lattice_of(grid), grid.frame.contraction)[1]


def listed(pieces: Pieces, grid: OccupancyGrid) -> str:
    """The largest components in words: number, voxels, share, and a point to name them by."""
    from lg_field.radiance.components import middles

    total, parts = int(pieces.sizes.sum()), []
    for number in range(1, min(LISTED, len(pieces)) + 1):
        index = (pieces.labels == number).nonzero()
        inner = index[(index - index.double().mean(0)).norm(dim=-1).argmin()]
        place = " ".join(f"{v:.3g}" for v in middles(grid, inner[None])[0].tolist())
        size = int(pieces.sizes[number - 1])
        parts.append(f"{number}: {size:,} voxels ({size / total:.1%}) at {place}")
    if len(pieces) > LISTED:
        parts.append(f"and {len(pieces) - LISTED:,} smaller")
    return "; ".join(parts)


def voxels_of_file(file: FieldFile, rows: Tensor | None = None) -> OccupancyGrid:
    """The occupancy of an open scene file, of all its cells or those of some rows; nothing else is read."""
    from lg_field.files.bits import unpack_bits
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.occupancy_grid import OccupancyGrid

    field = file.skeleton
    assert isinstance(field, RadianceField)
    cells = file.cells if rows is None else file.cells[rows]
    grid = OccupancyGrid(field.frame, cells, field.sizes.occupancy_voxels)
    grid.occupied = unpack_bits(file.reader.read("occupied", rows), file.saved()["occupied"])
    return grid


def warn_of_cut(grid: OccupancyGrid, before: Region | None, cells: Tensor, region: Region | None) -> None:
    """Say it in a line if a crop cuts through what a scene holds.

    Args:
        grid: voxels before the crop, at least those of the kept cells and the cells around them.
        before: the exact region before it.
        cells: that the crop keeps.
        region: the exact region after it; None = whole cells.
    """
    from lg_field.radiance.components import cut_through, kept_middles, shown_voxels

    shown = shown_voxels(grid, before)
    found = cut_through(shown, kept_middles(shown, cells, region, grid))
    if found.share >= CUT:
        notice(
            f"the cut goes through what the scene holds: {found.share:.0%} of the kept surface ({found.cut:,} of "
            f"{found.surface:,} voxels) is cut; a larger region keeps it whole, --component finds its border"
        )


def around(file: FieldFile, rows: Tensor) -> Tensor:
    """Rows of a file whose cells are some rows' or beside them."""
    import torch

    grid = file.skeleton.grid
    index = grid.unravel(file.cells[rows])
    steps = torch.cartesian_prod(*[torch.arange(-1, 2)] * grid.dim)
    near = (index[:, None] + steps).flatten(0, 1)
    near = near[((near >= 0) & (near < torch.tensor(grid.counts))).all(-1)]
    return torch.isin(file.cells, grid.ravel(near)).nonzero()[:, 0]
