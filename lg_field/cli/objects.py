"""Objects on a command line: connected components of a scene's voxels, what cameras look at, what lies above ground."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, cast

import tyro

from lg_field.errors import tell

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from lg_field.files import FieldFile
    from lg_field.radiance.components import Pieces
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.focus import Look
    from lg_field.radiance.occupancy import Voxels
    from lg_field.radiance.occupancy_grid import OccupancyGrid
    from lg_field.space.regions import HalfSpace, Region
    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline

    Table = CellTable | Outline

UP = (0.0, 0.0, 1.0)
"""Upward direction of a scene that does not say its own."""
LARGEST = "largest"
LISTED = 5
"""Components that are listed."""
ONE = 0.95
"""Share of the voxels of a component that is nearly everything."""


class VoxelSource(NamedTuple):
    """Where the voxels of a scene come from; asked only for what is needed."""

    occupancy: Callable[[], OccupancyGrid]
    """Which are occupied."""
    field: Callable[[], RadianceField]
    """The whole field, which says how dense they are."""
    look: Callable[[], Look]
    """The cameras, and what they look at."""

    @staticmethod
    def of_file(file: FieldFile) -> VoxelSource:
        """An open scene file."""
        whole = lru_cache(1)(lambda: cast("RadianceField", file.load()))
        return VoxelSource(lambda: voxels_of_file(file), whole, lambda: look_of(file.description))

    @staticmethod
    def of_field(field: Any) -> VoxelSource:
        """A scene that is loaded."""
        return VoxelSource(lambda: field.occupancy, lambda: field, lambda: look_of(field.description))


@dataclass(frozen=True)
class ObjectFlags:
    """An object of a scene, as fine as its voxels; chosen within the shapes that are asked for, if any are."""

    component: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--piece"])] = ()
    """Of scenes: the connected component of occupied voxels that is the `largest`, that has this number (1 is the
    largest), or that is nearest to a point X Y Z; of what --box, --above-plane and the like leave."""
    focus: tuple[float, ...] | None = None
    """Of scenes: the object that the training cameras look at, parted from the haze around it and, of unbounded ones,
    from the table or floor that it stands on or the wall behind it. With a share (0.95): as many components, the most
    seen first, as make up this share of what the cameras see around their focus."""
    above_plane: tuple[float, ...] | None = None
    """Of scenes: only what lies above the ground, a nearly level plane that is found (RANSAC); or above a given one,
    with NX x + NY y + NZ z + D >= 0: four numbers NX NY NZ D."""

    solid: float | None = None
    """Voxels connect only where a way as long as a side of them absorbs this much of the light, 0 to 1: 0.5 tells
    apart what haze connects. 0: all occupied voxels do. The default is 0, and with --focus what is needed."""

    @property
    def given(self) -> bool:
        """Whether an object was asked for."""
        return bool(self.component) or self.above_plane is not None or self.focus is not None

    @property
    def says_cut(self) -> bool:
        """Whether the line that says what is kept says how much of its surface is cut, too."""
        return self.focus is not None and self.above_plane is None

    @property
    def through_haze(self) -> bool:
        """Whether the border of what was asked for may go through haze, which is no cut."""
        return bool(self.solid) or self.focus is not None

    def within(
        self,
        field: Table,
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
        if field.voxel_lattice is None:
            raise ValueError("--component, --focus and --above-plane are for scenes: a signal has no occupied voxels")
        self.check()
        if self.above_plane is not None:
            above = self.above(field, source, shape, to_scene)
            shape = above if shape is None else shape & above
        if self.component:
            shape = self.piece(field, source, shape, to_scene)
        if self.focus is not None:
            shape = self.focused(field, source, shape)
        assert shape is not None
        return shape

    def check(self) -> None:
        """Raise ValueError for numbers that make no sense."""
        if not 0.0 <= (self.solid or 0.0) < 1.0:
            raise ValueError(f"--solid is a part of the light, from 0 to less than 1, got {self.solid:g}")
        if self.focus is not None and (len(self.focus) > 1 or not all(0.0 < share <= 1.0 for share in self.focus)):
            raise ValueError(f"--focus takes nothing, or a share above 0 and up to 1, got {list(self.focus)}")
        if self.focus is not None and self.component:
            raise ValueError("give --component or --focus, not both")

    def above(self, field: Table, source: VoxelSource, shape: Region | None, to_scene: Tensor | None) -> Region:
        """The half space above the plane, in scene units; says where a found plane is."""
        from lg_field.radiance.components import shown_voxels
        from lg_field.radiance.ground import SOLID, above_ground
        from lg_field.radiance.solid import solid_voxels
        from lg_field.radiance.standing import ground_below
        from lg_field.space.regions import transformed

        if self.above_plane:
            given = self.above_given()
            return given if to_scene is None else transformed(given, to_scene)
        whole = source.field()
        up = getattr(whole.description, "up", UP)
        shown = shown_voxels(whole.occupancy, both(field.region, shape))
        found = ground_below(whole, shown)
        if found is None:
            found = above_ground(whole.occupancy, solid_voxels(whole, shown, max(self.solid or 0.0, SOLID)), up)
        tell(f"the ground that was found: --above-plane {in_numbers(found)} (scene units)")
        return found

    def above_given(self) -> Region:
        """The half space above the plane that was given, in its units.

        Raises:
            ValueError: not four numbers.
        """
        from lg_field.space.regions import HalfSpace

        numbers = self.above_plane or ()
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)):
            raise ValueError(f"--above-plane takes no number or four, NX NY NZ D, got {list(numbers)}")
        return HalfSpace(numbers[:3], numbers[3])

    def piece(self, field: Table, source: VoxelSource, shape: Region | None, to_scene: Tensor | None) -> Region:
        """The component as a set of voxels, cut by the shape; says which one it is."""
        from lg_field.radiance.components import shown_voxels

        grid = source.occupancy()
        shown = shown_voxels(grid, both(field.region, shape))
        pieces = self.pieces(source, shown)
        number = self.number(pieces, grid, to_scene)
        tell(f"component {number} of {len(pieces)}: {listed(pieces, grid)}{self.advice(pieces.sizes)}")
        return self.kept(pieces, [number], shown, shape, grid)

    def focused(self, field: Table, source: VoxelSource, shape: Region | None) -> Region:
        """What the cameras look at, as a set of voxels, cut by the shape; says which component it is.

        Raises:
            ValueError: the cameras see nothing of what is asked for, or no camera is known.
        """
        from lg_field.radiance.components import shown_voxels
        from lg_field.radiance.sight import seen_shares

        look, whole = source.look(), source.field()
        grid = whole.occupancy
        shown = shown_voxels(grid, both(field.region, shape))
        if not self.focus and self.solid is None:
            alone = self.alone(whole, look, shown, shape)
            if alone is not None:
                return alone
        pieces = self.pieces(source, shown)
        shares = seen_shares(whole, cast("Any", whole.description), look.views, pieces, look.focus)
        if not len(shares) or not float(shares.sum()) > 0.0:
            raise ValueError(
                "the training cameras see nothing of what is asked for: leave out --focus, or ask for more"
            )
        order = shares.argsort(descending=True)
        count = 1 if not self.focus else int((shares[order].cumsum(0) < self.focus[0] - 1e-9).sum()) + 1
        numbers = [number + 1 for number in order[:count].tolist()]
        self.say_focus(pieces, numbers, float(shares[order[:count]].sum()), grid, self.advice(pieces.sizes))
        return self.kept(pieces, numbers, shown, shape, grid)

    def alone(self, whole: RadianceField, look: Look, shown: Tensor, shape: Region | None) -> Region | None:
        """What the cameras look at, cut from haze and from what it stands on; None where nothing of it ends."""
        from lg_field.radiance.focus import SEEN, looked_at
        from lg_field.radiance.standing import hangs, standing

        grid, found = whole.occupancy, looked_at(whole, look, shown)
        stands = standing(whole, look, shown) if grid.frame.contraction else None
        free = found is not None and stands is not None and not found.above and hangs(found, stands.support, grid)
        if stands is not None and not free:
            what = "the wall behind it" if stands.wall else "what it stands on"
            tell(
                f"--focus: what stands in the middle, {stands.share:.1%} of what the cameras see around their focus, "
                f"cut from {what} at {in_numbers(stands.above)} (NX NY NZ D, scene units): {stands.cut.share:.0%} of "
                "its surface is cut; --component 1 keeps what is connected"
            )
            return both(stands.region, without_voxels(shape, grid))
        if found is None:
            tell("--focus: nothing that the cameras look at ends: what is connected is kept, --box or --sphere cut it")
            return None
        how = f", parted by --solid {found.level:g}" if found.level else ""
        how += ", the ground cut away" if found.above else ""
        if not grid.frame.contraction:
            how += ", not cut from any ground: the scene is bounded"
        elif free:
            how += ", which hangs free: nothing had to be cut"
        elif not found.above:
            how += ", nothing cut from it: no object was found to stand on a level surface in the middle"
        how += "; the cameras see little there: is there an object in the middle?" if found.seen < SEEN else ""
        self.say_focus(found.pieces, [found.number], found.share, grid, how)
        return self.kept(found.pieces, [found.number], found.shown, shape, grid)

    def say_focus(self, pieces: Pieces, numbers: list[int], share: float, grid: OccupancyGrid, how: str) -> None:
        """Which components --focus keeps, in a line."""
        few = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
        tell(
            f"--focus: component {few} of {len(pieces)}, {share:.1%} of what the cameras see around their focus{how}; "
            f"{listed(pieces, grid)}"
        )

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

    def advice(self, sizes: Tensor) -> str:
        """What to try where nearly everything is one piece; by the sizes of all, the largest first."""
        one = len(sizes) and float(sizes[0]) > ONE * float(sizes.sum())
        ways = [*(["--focus"] if self.focus is None else []), "a larger --solid" if self.solid else "--solid 0.5"]
        return f"; nearly all is connected: {', '.join(ways)}, --above-plane or a --box part it" if one else ""

    def number(self, pieces: Pieces, grid: OccupancyGrid, to_scene: Tensor | None) -> int:
        """The component asked for, counted from 1.

        Raises:
            ValueError: words that name none, or there is none.
        """
        import torch

        asked = self.asked()
        if isinstance(asked, int):
            pieces.voxels([asked])
            return asked
        point = torch.tensor(asked, dtype=torch.float64)
        if to_scene is not None:
            point = to_scene[:3, :3] @ point + to_scene[:3, 3]
        place = grid.frame.to_places(point[None])[0] * grid.per_axis
        return say_nearest(*pieces.nearest(place))

    def asked(self) -> int | tuple[float, ...]:
        """The number of the component asked for, counted from 1, or the point it is nearest to.

        Raises:
            ValueError: words that name none.
        """
        words = self.component
        if len(words) == 1 and (words[0] == LARGEST or words[0].isdecimal()):
            return 1 if words[0] == LARGEST else int(words[0])
        try:
            point = tuple(float(word) for word in words)
        except ValueError:
            point = ()
        if len(point) != 3 or not all(map(math.isfinite, point)):
            raise ValueError(f"--component takes largest, a number from 1 or a point X Y Z, got {' '.join(words)[:60]}")
        return point


NO_OBJECT = ObjectFlags()


def in_numbers(plane: HalfSpace) -> str:
    """A half space as the flags take it: NX NY NZ D."""
    return " ".join(f"{v:.4g}" for v in (*plane.normal, plane.offset))


def look_of(description: object) -> Look:
    """What a scene says of its cameras.

    Raises:
        ValueError: it says nothing.
    """
    from lg_field.radiance.focus import known_look
    from lg_field.radiance.scene import Scene

    look = known_look(description) if isinstance(description, Scene) else None
    if look is None:
        raise ValueError("--focus: the scene does not say where cameras were; name the object by --component X Y Z")
    return look


def both(first: Region | None, second: Region | None) -> Any:
    """The points in both; None = everything."""
    from lg_field.space import regions

    return regions.both(first, second)


def without_voxels(shape: Region | None, grid: OccupancyGrid) -> Region | None:
    """What a shape says beyond whole voxels: a component of it says those."""
    from lg_field.radiance.components import lattice_of

    return None if shape is None else shape.split_voxels(lattice_of(grid), grid.frame.contraction)[1]


def listed(pieces: Pieces, grid: OccupancyGrid) -> str:
    """The largest components in words: number, voxels, share, and a point to name them by."""
    from lg_field.radiance.components import middles

    def point_of(number: int) -> Tensor:
        index = pieces.index(number)
        inner = index[(index - index.double().mean(0)).norm(dim=-1).argmin()]
        return middles(grid, inner[None])[0]

    return in_words(pieces.sizes, pieces.sizes, point_of)


def in_words(sizes: Tensor, volumes: Tensor, point_of: Callable[[int], Tensor]) -> str:
    """The largest components in words, of which it is known how many voxels each has, what of the whole that is, and by
    which point its number is named."""
    total, parts = float(volumes.sum()), []
    for number, (size, volume) in enumerate(zip(sizes[:LISTED].tolist(), volumes.tolist()), 1):
        place = " ".join(f"{v:.3g}" for v in point_of(number).tolist())
        parts.append(f"{number}: {size:,} voxels ({volume / total:.1%}) at {place}")
    if len(sizes) > LISTED:
        parts.append(f"and {len(sizes) - LISTED:,} smaller")
    return "; ".join(parts)


def say_nearest(number: int, away: float) -> int:
    """The number of the component nearest to a point; says so where the point lies voxels away from it."""
    if away > 1.0:
        tell(f"--component: the point lies {away:.1f} voxels from component {number}, the nearest one")
    return number


def bits_of_file(file: FieldFile, rows: np.ndarray) -> Voxels:
    """The occupied voxels of some rows of an open scene file, in numpy."""
    from lg_field.radiance.outline import voxels_of

    return voxels_of(file.outline, file.outline.cells[rows], file.read_bits("occupied", rows))


def voxels_of_file(file: FieldFile, rows: Tensor | None = None) -> OccupancyGrid:
    """The occupancy of an open scene file, of all its cells or those of some rows; nothing else is read."""
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.occupancy_grid import OccupancyGrid

    field = file.skeleton
    assert isinstance(field, RadianceField)
    cells = file.cells if rows is None else file.cells[rows]
    grid = OccupancyGrid(field.frame, cells, field.sizes.occupancy_voxels)
    grid.occupied = file.read_values("occupied", rows)
    return grid
