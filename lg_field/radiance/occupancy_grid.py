"""Which voxels of a field hold something: bits in the rows, so that a crop takes them along, and what follows of them.

A voxel is known by its cell's row and its number in the cell, or by its number in the *dense* view: the whole domain
row by row. The dense view, the one grown by `MARGIN` voxels and the bounds are made when they are asked for and kept
as long as rows, cells and frame are what they were.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lg_field.constants import constant, counting
from lg_field.radiance import occupancy
from lg_field.radiance.frame import Frame

FIRST_THICKNESS = 0.02
"""Optical thickness of a step that an occupied voxel is taken to have before it was looked at."""


def voxel_rows(name: str) -> Any:
    """A row tensor of a field that its occupancy grid holds: selected, split and moved with the other rows."""

    def get(field: Any) -> Tensor:
        return getattr(field.occupancy, name)

    def put(field: Any, rows: Tensor) -> None:
        setattr(field.occupancy, name, rows)

    return property(get, put)


class _Derived(NamedTuple):
    """What was made of the voxels, and of which."""

    of: tuple[Frame, Tensor, Tensor]
    version: int
    made: dict[str, Tensor]


class OccupancyGrid(nn.Module):
    """Voxels of the kept cells."""

    ROWS = ("occupied", "thickness", "seen")
    """Tensors with one line per kept cell; only `occupied` is part of a field's state."""

    cells: Tensor
    """(P,) int64 cell of each row."""
    occupied: Tensor
    """(P, r^3) bool: voxels of each cell that hold something."""
    thickness: Tensor
    """(P, r^3) running optical thickness of a step in each voxel."""
    seen: Tensor
    """(P, r^3) bool: a training ray had a sample in the voxel."""
    other_cells: Tensor | None
    """(n,) cells whose rows are held elsewhere, None: there are none; see `know_others`."""
    other_occupied: Tensor | None
    """(n, r^3) bool: their voxels."""

    def __init__(self, frame: Frame, cells: Int64[Tensor, " rows"], per_axis: int) -> None:
        """
        Args:
            frame: where the cells are.
            cells: (P,) cell of each row.
            per_axis: voxels per cell and axis r, even.
        """
        super().__init__()
        self.frame, self.per_axis = frame, per_axis
        rows, voxels = len(cells), per_axis**3
        self.register_buffer("cells", cells, persistent=False)
        self.register_buffer("occupied", torch.ones(rows, voxels, dtype=torch.bool), persistent=False)
        self.register_buffer("thickness", torch.full((rows, voxels), FIRST_THICKNESS), persistent=False)
        self.register_buffer("seen", torch.zeros(rows, voxels, dtype=torch.bool), persistent=False)
        self.register_buffer("other_cells", None, persistent=False)
        self.register_buffer("other_occupied", None, persistent=False)
        self._kept: _Derived | None = None
        self._bits_alone = False

    def bits_alone_(self, occupied: Bool[Tensor, "rows voxels"]) -> None:
        """Hold these bits and nothing that only training asks for: a byte a voxel instead of six. A grid that was made
        on the meta device is one with voxels afterwards.

        Args:
            occupied: (P, r^3), not copied.
        """
        self.occupied = self.seen = occupied
        self.thickness = torch.full((1, 1), FIRST_THICKNESS, device=occupied.device).expand(occupied.shape)
        self._kept, self._bits_alone = None, True

    def place(self, frame: Frame, cells: Int64[Tensor, " rows"]) -> None:
        """Say which cells the rows belong to, after they were selected, split or loaded."""
        self.frame, self.cells, self._kept = frame, cells, None

    def know_others(self, cells: Int64[Tensor, " others"], occupied: Bool[Tensor, "others voxels"]) -> None:
        """Say what cells hold whose rows are held elsewhere: rays find their voxels as if the rows were here.

        Args:
            cells: (n,) their numbers; none of them has a row here.
            occupied: (n, r^3) their voxels.
        """
        self.other_cells, self.other_occupied, self._kept = cells, occupied, None

    def everywhere(self) -> tuple[Int64[Tensor, " cells"], Bool[Tensor, "cells voxels"]]:
        """(Q,) sorted cells that have a row here or elsewhere, and their (Q, r^3) voxels."""
        if self.other_cells is None or self.other_occupied is None:
            return self.cells, self.occupied
        cells, order = torch.cat([self.cells, self.other_cells]).sort()
        return cells, torch.cat([self.occupied, self.other_occupied])[order]

    def restore_(self, occupied: Bool[Tensor, "rows voxels"]) -> None:
        """Take saved bits. What training knew of the voxels is not saved with them: full ones count as seen."""
        if self._bits_alone:
            self.bits_alone_(occupied.to(self.cells.device, copy=True))
            return
        self.occupied.copy_(occupied)
        self.thickness.copy_(self.occupied * FIRST_THICKNESS)
        self.seen.copy_(self.occupied)

    # -- queries

    def is_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether scene points are in an occupied voxel of a kept cell."""
        places = self.frame.to_places(positions)
        hit = self.dense()[self.numbers_at(places)]
        if not self.frame.contraction:
            counts = constant(self.frame.grid.counts, places)
            hit &= ((places >= 0) & (places <= counts)).all(-1)
        return hit

    def places_of_voxels(self) -> Int64[Tensor, " voxels"]:
        """(C1 r * C2 r * C3 r,) number in `occupied`, flattened, of each voxel of the dense view; -1 where no row owns
        it."""

        def made() -> Tensor:
            numbers = torch.arange(self.occupied.numel(), device=self.cells.device).view_as(self.occupied)
            return occupancy.dense_occupancy(numbers, self.cells, self.frame.grid, self.per_axis, -1)

        return self._derived("places_of_voxels", made)

    @property
    def voxels_tell_rows(self) -> bool:
        """Whether the row that has a point's voxel is sure to own the point: no rounding parts them."""
        return self.per_axis & (self.per_axis - 1) == 0 and not any(self.frame.shift)

    def is_near_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether occupied voxels are near scene points: False only if all are farther than `occupancy.MARGIN` voxels
        along some axis. Points outside the domain count as their nearest point in it."""
        return self.near()[self.numbers_at(self.frame.to_places(positions))]

    def near(self) -> Bool[Tensor, " voxels"]:
        """`dense`, grown by `occupancy.MARGIN` voxels."""
        return self._derived(
            "near", lambda: occupancy.dilate(self.dense(), self.frame.grid, self.per_axis, occupancy.MARGIN)
        )

    def numbers(self, positions: Float[Tensor, "points 3"]) -> Int64[Tensor, " points"]:
        """Number in the dense view of the voxel of each scene point; outside the domain of the nearest one in it."""
        return self.numbers_at(self.frame.to_places(positions))

    def numbers_at(self, places: Float[Tensor, "points 3"]) -> Int64[Tensor, " points"]:
        """`numbers` from places."""
        return occupancy.voxel_index(places, self.frame.grid.counts, self.per_axis)

    def dense(self) -> Bool[Tensor, " voxels"]:
        """(C1 r * C2 r * C3 r,) the whole domain's voxels; False where no row owns one."""
        return self._derived("dense", self._dense)

    def _dense(self) -> Tensor:
        cells, occupied = self.everywhere()
        return occupancy.dense_occupancy(occupied, cells, self.frame.grid, self.per_axis)

    def corners(self) -> Float[Tensor, "rows 3"]:
        """(P, 3) of the rows' cells: see `Frame.corners`."""
        return self._derived("corners", lambda: self.frame.corners(self.cells))

    def bounds(self) -> Float[Tensor, "2 3"]:
        """Scene-space box around all occupied voxels: see `Frame.bounds`; without any, a box of no extent."""
        return self._derived("bounds", self._bounds)

    def reach(self) -> float:
        """Length of the diagonal of `bounds`, scene units: no ray is longer in there."""

        def made() -> Tensor:
            lower, upper = self.bounds()
            return (upper - lower).norm().cpu()

        return float(self._derived("reach", made))

    def near_bounds(self) -> Float[Tensor, "2 3"]:
        """`bounds`; of an unbounded scene the part within the cube that is not contracted, unless there is none."""
        bounds = self.bounds()
        near = bounds.clamp(-1.0, 1.0)
        return near if self.frame.contraction and bool((near[0] < near[1]).all()) else bounds

    def _bounds(self) -> Tensor:
        size = [c * self.per_axis for c in self.frame.grid.counts]
        dense = self.dense().view(size)
        if self.frame.contraction:
            index = dense.nonzero()
            if len(index) == 0:
                return torch.zeros(2, 3, device=dense.device)
            return self.frame.bounds(torch.stack([index, index + 1], dim=1).float() / self.per_axis)
        lower, upper = [], []
        for axis in range(3):
            others = [a for a in range(3) if a != axis]
            filled = dense.any(others[1]).any(others[0])
            number = counting(size[axis], dense, torch.float32)
            upper.append(torch.where(filled, number + 1, 0.0).amax())
            lower.append(torch.minimum(torch.where(filled, number, float(size[axis])).amin(), upper[-1]))
        places = torch.stack([*lower, *upper]).view(1, 2, 3) / self.per_axis
        return self.frame.bounds(places)

    def empty_rows(self) -> Bool[Tensor, " rows"]:
        """Cells without an occupied voxel, counting those next to one in a neighbouring cell as filled."""
        return self.empty_cells(self.cells)

    def empty_cells(self, cells: Int64[Tensor, " cells"]) -> Bool[Tensor, " cells"]:
        """The same of cells whose rows may be elsewhere."""
        grid, r = self.frame.grid, self.per_axis
        grown = occupancy.dilate(self.dense(), grid, r)
        return ~occupancy.rows_of_dense(grown, cells, grid, r).any(1)

    # -- training

    @torch.no_grad()
    def restrict_(self, hull: Bool[Tensor, "nx ny nz"]) -> None:
        """Let only a part of the domain hold something: its other voxels are empty, and only its own count as seen, so
        that updates with `only_seen` keep to it.

        Args:
            hull: on a grid of any resolution over the frame's box.
        """
        allowed = self._allowed(hull, self.cells)
        self.occupied.copy_(allowed)
        self.seen.copy_(allowed)
        if self.other_cells is not None:
            self.know_others(self.other_cells, self._allowed(hull, self.other_cells))

    def _allowed(self, hull: Tensor, cells: Tensor) -> Tensor:
        """(n, r^3) which voxels of cells have their middle in a hull."""
        voxels, r = self.occupied.shape[1], self.per_axis
        place = torch.arange(len(cells) * voxels, device=cells.device)
        inner = torch.stack([place % voxels // (r * r), place % voxels // r % r, place % r], dim=-1)
        places = (self.frame.grid.unravel(cells[place // voxels]) * r + inner + 0.5) / r
        size = torch.tensor(hull.shape, device=places.device)
        index = torch.minimum((self.frame.places_to_unit(places) * size).long().clamp_min(0), size - 1)
        return hull.to(places.device)[tuple(index.unbind(-1))].view(len(cells), voxels)

    @torch.no_grad()
    def mark_seen(self, unit: Float[Tensor, "points 3"], rows: Int64[Tensor, " points"]) -> None:
        """Remember that training rays pass through the voxels of some points.

        Args:
            unit: (M, 3) their unit coordinates.
            rows: (M,) the row that owns each, -1 where none does.
        """
        r = self.per_axis
        inner = (self.frame.unit_to_places(unit).frac() * r).long().clamp(0, r - 1)
        voxel = (inner[:, 0] * r + inner[:, 1]) * r + inner[:, 2]
        kept = rows >= 0
        self.seen[rows[kept], voxel[kept]] = True

    @torch.no_grad()
    def mark_voxels_seen(self, voxels: Int64[Tensor, " points"]) -> None:
        """The same of voxels by their numbers in `seen`, flattened."""
        self.seen.view(-1).index_fill_(0, voxels, True)

    @torch.no_grad()
    def update(
        self,
        opacity: Callable[[Tensor], Tensor],
        threshold: float,
        num_points: int,
        fixed: Bool[Tensor, " rows"],
        decay: float = 0.9,
        only_seen: bool = False,
    ) -> None:
        """Look at random voxels and mark which ones hold something. Voxels of cells whose rows are elsewhere are drawn
        as well, so that all who hold rows draw alike, and are left to those who hold them.

        Args:
            opacity: (n, 3) scene points -> (n,) part of the light that a marching step there absorbs.
            threshold: a voxel is occupied if a step through it absorbs more than this.
            num_points: voxels looked at, random among those of rows that are not fixed (half of them among the
                occupied ones).
            fixed: (P,) rows that stay as they are.
            decay: factor on what a voxel held before.
            only_seen: voxels no training ray has passed through are empty: no image says what they hold.
        """
        voxels = self.thickness.shape[1]
        cells, occupied = self.everywhere()
        rows = torch.isin(cells, self.cells[fixed], invert=True).nonzero()[:, 0]
        chosen = occupancy.choose_voxels(occupied, rows, num_points)
        cell, voxel = cells[chosen // voxels], chosen % voxels
        places = occupancy.points_in_voxels(cell, voxel, self.frame.grid, self.per_axis)
        if self.other_cells is not None:
            here = torch.isin(cell, self.cells).nonzero()[:, 0]
            places, chosen = places[here], torch.searchsorted(self.cells, cell[here]) * voxels + voxel[here]
        new = opacity(self.frame.from_places(places)) if len(places) else places.new_zeros(0)
        flat = self.thickness.view(-1)
        flat[chosen] *= decay
        flat.scatter_reduce_(0, chosen, new, "amax")
        found = self.thickness > threshold
        if only_seen:
            found &= self.seen
        self.occupied.copy_(torch.where(fixed[:, None], self.occupied, found))

    # -- what is kept of it

    def _derived(self, name: str, make: Callable[[], Tensor]) -> Tensor:
        """What `make` says of the present voxels, made once."""
        if self.occupied.is_inference():
            return make()  # such tensors do not say when they change
        of = (self.frame, self.cells, self.occupied)
        kept = self._kept
        if kept is None or kept.version != self.occupied._version or any(a is not b for a, b in zip(kept.of, of)):
            self._kept = kept = _Derived(of, self.occupied._version, {})
        if name not in kept.made:
            kept.made[name] = make()
        return kept.made[name]

    def __getstate__(self) -> dict[str, Any]:
        """Copies make their own."""
        return self.__dict__ | {"_kept": None}
