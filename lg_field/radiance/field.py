"""The Local-Global radiance field: rows of local weights, feature grid and occupancy; a shared part that goes first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import local_global_chain, sort_by_row
from lg_field.radiance import occupancy
from lg_field.radiance.encodings import SH_FEATURES, frequency_encoding, spherical_harmonics
from lg_field.radiance.feature_grid import interpolate, split_grid
from lg_field.radiance.sampling import steps_at
from lg_field.radiance.sizes import RadianceSizes as RadianceSizes
from lg_field.radiance.tcnn import Implementation, encoder
from lg_field.space.contraction import contract, uncontract, uncontract_boxes
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap
from lg_field.table.cell_table import CellTable


REVIVE = None


class _Exp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.exp(x.clamp_max(12.0))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad * torch.exp(x.clamp(REVIVE, 12.0))


def density_of(x):
    if REVIVE is None:
        return torch.exp(x.clamp_max(12.0))
    return _Exp.apply(x)


class RadianceField(CellTable):
    """Density and colour of a scene. A point in a cell without a row is empty, whatever the shared part says.

    The shared part gives a first density and colour of its own and the cell's row corrects it: its output layer
    starts at zero (see shared/reference/radiance-findings.md).
    """

    hash_table: nn.Parameter | None
    """(entries, F) the shared part's own grid (`HashGrid`), if it has one."""
    local: nn.Parameter
    """(P, K) weights of each cell's sub-network."""
    features: nn.Parameter
    """(P, R^3 F) feature grid of each cell."""
    occupied: Tensor
    """(P, r^3) bool: voxels of each cell that hold something."""
    thickness: Tensor
    """(P, r^3) running optical thickness of a step in each voxel; training only, not saved."""
    seen: Tensor
    """(P, r^3) bool: a training ray had a sample in the voxel; training only, not saved."""
    frozen: Tensor
    """(P,) bool: rows that training must not change (extension); kept in checkpoints, not in field files."""

    def __init__(self, grid: PartitionGrid, sizes: RadianceSizes, cells: Tensor | None = None) -> None:
        """
        Args:
            grid: partition of the scene box, or of [-2, 2]^3 for a contracted scene.
            sizes: sizes.
            cells: kept cells, None = all.
        """
        super().__init__(grid, cells)
        self.sizes, self.chain = sizes, sizes.chain()
        self.implementation: Implementation = "auto"
        """Which code evaluates the hash table: no part of the field's state."""
        self.extending = False
        """Whether some rows are frozen; the shared part is then frozen too."""
        self._check_frame()
        rows, voxels = self.num_rows, sizes.occupancy_voxels**3
        grid_size = sizes.grid_nodes**3 * sizes.grid_features if sizes.network != "global" else 0
        self.add_rows("local", init_rows(self.chain, rows))
        self.add_rows("features", (torch.rand(rows, grid_size) * 2 - 1) * 1e-2)
        self.add_rows("occupied", torch.ones(rows, voxels, dtype=torch.bool), trainable=False)
        self.add_rows("thickness", torch.full((rows, voxels), 0.02), trainable=False, saved=False)
        self.add_rows("seen", torch.zeros(rows, voxels, dtype=torch.bool), trainable=False, saved=False)
        self.add_rows("frozen", torch.zeros(rows, dtype=torch.bool), trainable=False, saved=False)
        self.shared = nn.ParameterDict(init_shared(self.chain))
        self.hash_grid = sizes.hash_grid()
        self.hash_table = None if self.hash_grid is None else nn.Parameter(self.hash_grid.init_table())
        color_in = sizes.color_features + SH_FEATURES + sizes.appearance_features
        width = sizes.color_width
        layers = [nn.Linear(color_in, width), nn.ReLU(), nn.Linear(width, 3)] if width else []
        self.color = nn.Sequential(*layers)
        self._dense: Tensor | None = None
        self._near: Tensor | None = None
        self._bounds: Tensor | None = None

    def config(self) -> dict[str, Any]:
        return asdict(self.sizes)

    def config_on(self, grid: PartitionGrid) -> dict[str, Any]:
        if grid == self.grid:
            return self.config()
        if self.sizes.contraction:
            raise ValueError("an unbounded scene reaches everywhere already: give cells their rows back instead")
        return self.config() | {"frame": (*self.origin.lower, *self.origin.upper)}

    @classmethod
    def from_config(cls, grid: PartitionGrid, config: dict[str, Any], cells: Tensor) -> RadianceField:
        older = {"global_reads_grid": False}  # files from before there was a choice
        sizes = older | config | {"frame": tuple(config.get("frame", ()))}
        return cls(grid, RadianceSizes(**sizes), cells)

    # -- space

    @property
    def unwarp_boxes(self) -> BoxMap | None:
        return uncontract_boxes if self.sizes.contraction else None

    @property
    def origin(self) -> PartitionGrid:
        """The cells within the frame: the grid before the domain grew, which says what networks see of a position."""
        if not self.sizes.frame:
            return self.grid
        lower, upper = self.sizes.frame[:3], self.sizes.frame[3:]
        counts = tuple(round((up - low) / size) for low, up, size in zip(lower, upper, self.grid.cell_size))
        return PartitionGrid(counts, lower, upper)

    @property
    def shift(self) -> tuple[int, ...]:
        """Cells per axis that the grid has before those of `origin`."""
        return tuple(
            round((low - first) / size)
            for low, first, size in zip(self.origin.lower, self.grid.lower, self.grid.cell_size)
        )

    def _check_frame(self) -> None:
        """Raise ValueError unless the frame consists of cells of the grid."""
        if not self.sizes.frame:
            return
        for low, size, c, n, *ours in zip(
            self.grid.lower, self.grid.cell_size, self.origin.counts, self.shift, self.origin.lower, self.origin.upper
        ):
            misfit = max(abs(low + k * size - edge) for k, edge in zip((n, n + c), ours))
            if misfit > 1e-3 * size:
                raise ValueError(f"the frame {self.sizes.frame} does not consist of cells of {self.grid}")

    def to_unit(self, positions: Tensor) -> Tensor:
        """(M, 3) scene points -> (M, 3) unit coordinates of the frame; [0, 1] inside it."""
        domain = contract(positions) if self.sizes.contraction else positions
        lower, upper = domain.new_tensor(self.origin.lower), domain.new_tensor(self.origin.upper)
        return (domain - lower) / (upper - lower)

    def from_unit(self, unit: Tensor) -> Tensor:
        """Inverse of `to_unit`."""
        lower, upper = unit.new_tensor(self.origin.lower), unit.new_tensor(self.origin.upper)
        domain = lower + unit * (upper - lower)
        return uncontract(domain) if self.sizes.contraction else domain

    def unit_to_cells(self, unit: Tensor) -> Tensor:
        """(M, 3) unit coordinates -> (M, 3) in cells of the grid: whole numbers are borders."""
        return unit * unit.new_tensor(self.origin.counts) + unit.new_tensor(self.shift)

    def cells_to_unit(self, places: Tensor) -> Tensor:
        """Inverse of `unit_to_cells`."""
        return (places - places.new_tensor(self.shift)) / places.new_tensor(self.origin.counts)

    # -- queries

    def forward(self, positions: Tensor, overlap: float = 0.0) -> tuple[Tensor, Tensor]:
        """Density and colour features at points.

        Args:
            positions: (M, 3) scene units.
            overlap: training only: points this part of a cell from a border are given to either neighbour.

        Returns:
            (M,) density per scene unit and (M, color_features); both 0 where no row owns the point.
        """
        unit = self.to_unit(positions)
        rows = self.rows_of_unit(unit)
        if overlap > 0.0:
            counts = unit.new_tensor(self.origin.counts)
            moved = self.rows_of_unit(unit + (torch.rand_like(unit) * 2 - 1) * overlap / counts)
            rows = torch.where((rows >= 0) & (moved >= 0), moved, rows)
        kept = rows >= 0
        if self.region is not None:
            kept &= self.region.contains(positions)
        index = kept.nonzero()[:, 0]
        density, features = self.of_rows(unit[index], rows[index])
        all_features = features.new_zeros(len(positions), self.sizes.color_features)
        return density.new_zeros(len(positions)).index_copy(0, index, density), all_features.index_copy(
            0, index, features
        )

    def rgb(self, features: Tensor, directions: Tensor, appearance: Tensor | None = None) -> Tensor:
        """Colour seen from a direction.

        Args:
            features: (M, color_features) of `forward`.
            directions: (M, 3) unit vectors, from the camera into the scene.
            appearance: (M, appearance_features), None = the average.

        Returns:
            (M, 3) in [0, 1].
        """
        harmonics = spherical_harmonics(directions)
        if not self.sizes.color_width:
            return torch.sigmoid(torch.einsum("mcs,ms->mc", features.unflatten(1, (3, SH_FEATURES)), harmonics))
        inputs = [features, harmonics]
        if self.sizes.appearance_features:
            mean = features.new_zeros(len(features), self.sizes.appearance_features)
            inputs.append(mean if appearance is None else appearance)
        return torch.sigmoid(self.color(torch.cat(inputs, dim=1)))

    def density(self, positions: Tensor) -> Tensor:
        """(M, 3) scene points -> (M,) density per scene unit."""
        return self(positions)[0]

    def of_rows(self, unit: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What these rows say of points, in their own cell or a little beyond its borders.

        Args:
            unit: (M, 3) unit coordinates.
            rows: (M,) row asked at each point.

        Returns:
            (M,) density per scene unit and (M, color_features).
        """
        by_row = sort_by_row(rows, self.num_rows)
        unit, rows = by_row.sort(unit), by_row.sort(rows)
        grid = self._grid_features(unit, rows)
        local_x = torch.cat([grid, frequency_encoding(unit, self.sizes.local_frequencies)], dim=1)
        global_x = None
        if self.chain.global_width:
            inputs = [frequency_encoding(unit, self.sizes.global_frequencies)]
            if self.sizes.global_reads_grid and self.chain.local_width:
                inputs.insert(0, grid)
            if self.hash_grid is not None and self.hash_table is not None:
                encode = encoder(self.hash_grid, self.implementation, unit.device)
                inputs.append(encode(self.hash_table, unit))
            global_x = torch.cat(inputs, dim=1)
        table = self._trainable_rows(self.local)
        out = local_global_chain(local_x, by_row.offsets, table, dict(self.shared), self.chain, global_x=global_x)
        out = by_row.unsort(out)
        return density_of(out[:, 0] + self.sizes.density_bias), out[:, 1:]

    def _grid_features(self, unit: Tensor, rows: Tensor) -> Tensor:
        """(M, grid_features) of the rows' grids; zeros for the global network, which has none."""
        sizes = self.sizes
        if not self.features.shape[1]:
            return unit.new_zeros(len(unit), sizes.grid_features if sizes.grid_nodes else 0)
        index_of_row = self.grid.unravel(self.cells) - torch.tensor(self.shift, device=unit.device)
        local = unit * unit.new_tensor(self.origin.counts) - index_of_row[rows]
        return interpolate(self._trainable_rows(self.features), rows, local, sizes.grid_nodes, sizes.grid_features)

    def _trainable_rows(self, rows: Tensor) -> Tensor:
        """The rows, without gradients to frozen ones."""
        if not (self.extending and torch.is_grad_enabled()):
            return rows
        return torch.where(self.frozen[:, None], rows.detach(), rows)

    def rows_of_unit(self, unit: Tensor) -> Tensor:
        """(M, 3) unit coordinates -> (M,) row, -1 where none."""
        counts = torch.tensor(self.grid.counts, device=unit.device)
        at_end = self.unit_to_cells(unit) == counts  # the last cell of an axis owns the domain's upper border
        # The shift is added to whole numbers, so that rounding is as it was before the domain grew.
        index = torch.floor(unit * unit.new_tensor(self.origin.counts)).long()
        index = torch.where(at_end, counts - 1, index + torch.tensor(self.shift, device=unit.device))
        inside = ((index >= 0) & (index < counts)).all(-1)
        return torch.where(inside, self.row_of_cell()[self.grid.ravel(index * inside[:, None])], -1)

    # -- occupancy

    def is_occupied(self, positions: Tensor) -> Tensor:
        """(M, 3) scene points -> (M,) bool: in an occupied voxel of a kept cell and in the kept region."""
        places = self.unit_to_cells(self.to_unit(positions))
        counts = torch.tensor(self.grid.counts, device=places.device)
        voxel = occupancy.voxel_index(places, counts, self.sizes.occupancy_voxels)
        hit = self._dense_occupancy()[voxel]
        if not self.sizes.contraction:
            hit &= ((places >= 0) & (places <= counts)).all(-1)
        if self.region is not None:
            hit &= self.region.contains(positions)
        return hit

    def is_near_occupied(self, positions: Tensor) -> Tensor:
        """(M, 3) scene points -> (M,) bool: False only if all occupied voxels are farther than `occupancy.MARGIN`
        voxels along some axis. Points outside the domain count as their nearest point in it."""
        places = self.unit_to_cells(self.to_unit(positions))
        counts = torch.tensor(self.grid.counts, device=places.device)
        if self._near is None or self._near.device != self.occupied.device:
            r = self.sizes.occupancy_voxels
            self._near = occupancy.dilate(self._dense_occupancy(), self.grid, r, occupancy.MARGIN)
        return self._near[occupancy.voxel_index(places, counts, self.sizes.occupancy_voxels)]

    def _dense_occupancy(self) -> Tensor:
        if self._dense is None or self._dense.device != self.occupied.device:
            self._dense = occupancy.dense_occupancy(self.occupied, self.cells, self.grid, self.sizes.occupancy_voxels)
        return self._dense

    def occupied_bounds(self) -> Tensor:
        """(2, 3) scene-space box around all occupied voxels (bounded scenes)."""
        if self._bounds is None or self._bounds.device != self.occupied.device:
            size = [c * self.sizes.occupancy_voxels for c in self.grid.counts]
            dense = self._dense_occupancy().view(size)
            lower, upper = [], []
            for axis in range(3):
                others = [a for a in range(3) if a != axis]
                filled = dense.any(others[1]).any(others[0]).nonzero()[:, 0]
                lower.append(float(filled[0]) if len(filled) else 0.0)
                upper.append(float(filled[-1] + 1) if len(filled) else 0.0)
            places = torch.tensor([lower, upper], device=self.occupied.device) / self.sizes.occupancy_voxels
            self._bounds = self.from_unit(self.cells_to_unit(places))
        return self._bounds

    @torch.no_grad()
    def restrict_(self, hull: Tensor) -> None:
        """Let only a part of the domain hold something: other voxels are empty and count as unseen.

        Args:
            hull: (n, n, n) bool on a grid over the frame.
        """
        voxels, rows = self.occupied.shape[1], torch.arange(self.num_rows, device=self.cells.device)
        place = torch.arange(self.num_rows * voxels, device=self.cells.device)
        r = self.sizes.occupancy_voxels
        inner = torch.stack([place % voxels // (r * r), place % voxels // r % r, place % r], dim=-1)
        unit = self.cells_to_unit((self.grid.unravel(self.cells[place // voxels]) * r + inner + 0.5) / r)
        index = (unit * torch.tensor(hull.shape, device=unit.device)).long()
        index = torch.minimum(index.clamp_min(0), torch.tensor(hull.shape, device=unit.device) - 1)
        allowed = hull.to(unit.device)[index[:, 0], index[:, 1], index[:, 2]].view(self.num_rows, voxels)
        self.occupied.copy_(allowed)
        self.seen.copy_(allowed)
        self._dense = self._near = self._bounds = None

    @torch.no_grad()
    def mark_seen(self, positions: Tensor) -> None:
        """Remember that training rays pass through the voxels of these (M, 3) scene points."""
        unit = self.to_unit(positions)
        rows, r = self.rows_of_unit(unit), self.sizes.occupancy_voxels
        inner = (self.unit_to_cells(unit).frac() * r).long().clamp(0, r - 1)
        voxel = (inner[:, 0] * r + inner[:, 1]) * r + inner[:, 2]
        kept = rows >= 0
        self.seen[rows[kept], voxel[kept]] = True

    @torch.no_grad()
    def update_occupancy(
        self, step: float, threshold: float, num_points: int, decay: float = 0.9, only_seen: bool = False
    ) -> None:
        """Look at random voxels and mark which ones hold something.

        Args:
            step: length of a marching step, scene units.
            threshold: a voxel is occupied if a step through it absorbs more than this.
            num_points: voxels looked at, random among those of rows that are not frozen (half of them among the
                occupied ones).
            decay: factor on what a voxel held before.
            only_seen: voxels no training ray has passed through are empty: no image says what they hold.
        """
        voxels = self.thickness.shape[1]
        rows = (~self.frozen).nonzero()[:, 0]
        chosen = occupancy.choose_voxels(self.occupied, rows, num_points)
        places = occupancy.points_in_voxels(
            self.cells[chosen // voxels], chosen % voxels, self.grid, self.sizes.occupancy_voxels
        )
        new = self.opacity(self.from_unit(self.cells_to_unit(places)), step)
        flat = self.thickness.view(-1)
        flat[chosen] *= decay
        flat.scatter_reduce_(0, chosen, new, "amax")
        found = self.thickness > threshold
        if only_seen:
            found &= self.seen
        self.occupied.copy_(torch.where(self.frozen[:, None], self.occupied, found))
        self._dense = self._near = self._bounds = None

    def opacity(self, positions: Tensor, step: float) -> Tensor:
        """(M, 3) scene points -> (M,) part of the light that a marching step there absorbs; `step` is its length near
        the origin."""
        return -torch.expm1(-self.density(positions) * steps_at(positions, step, self.sizes.contraction))

    def empty_rows(self) -> Tensor:
        """(P,) bool: cells without an occupied voxel, counting those next to one in a neighbouring cell as filled.

        Frozen rows never are."""
        r = self.sizes.occupancy_voxels
        grown = occupancy.dilate(self._dense_occupancy(), self.grid, r)
        cells = grown.view(*[n for c in self.grid.counts for n in (c, r)]).permute(0, 2, 4, 1, 3, 5)
        return ~cells.reshape(self.grid.num_cells, -1)[self.cells].any(1) & ~self.frozen

    # -- rows

    def split_(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """Cut every kept cell into 8 that together are the same function, in place: training from coarse to fine.

        Weights are copied and feature grids resampled twice as finely; optimizer state follows.
        """
        children = self.grid.children(self.cells)
        order = children.flatten().argsort()
        nodes, features, r = self.sizes.grid_nodes, self.sizes.grid_features, self.sizes.occupancy_voxels
        transforms = {name: lambda old: old.repeat_interleave(8, dim=0)[order] for name in self.row_names}
        transforms["cells"] = lambda old: children.flatten()[order]
        if self.features.shape[1]:
            transforms["features"] = lambda old: split_grid(old, nodes, features).flatten(0, 1)[order]
        for name in ("occupied", "thickness", "seen"):
            transforms[name] = lambda old: occupancy.split_voxels(old, r).flatten(0, 1)[order]
        self.grid = self.grid.refined()
        self.transform_rows_(transforms, optimizers)

    def freeze_(self, rows: Tensor) -> None:
        """Let training change neither these rows nor the shared part (design, editing law 5).

        Args:
            rows: (P,) bool; all False: everything is trained again.
        """
        self.frozen.copy_(rows)
        self.extending = bool(rows.any())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name in self.row_names or not self.extending)

    def _changed_rows(self) -> None:
        super()._changed_rows()
        self._dense = self._near = self._bounds = None

    # -- state

    def get_extra_state(self) -> dict[str, Any]:
        state = super().get_extra_state() | {"shape": asdict(self.sizes)}
        return state | {"frozen": self.cells[self.frozen].tolist()} if self.extending else state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        super().set_extra_state(state)
        self.thickness.copy_(self.occupied * 0.02)
        self.seen.copy_(self.occupied)
        frozen = torch.tensor(state.get("frozen", []), dtype=torch.int64, device=self.cells.device)
        self.freeze_(torch.isin(self.cells, frozen))
