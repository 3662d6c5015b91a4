"""The Local-Global radiance field: rows of local weights, feature grid and occupancy; a shared part that goes first.

Where cells are is the `Frame`'s matter, which voxels hold something the `OccupancyGrid`'s. The field answers queries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from lg_field.constants import constant
from lg_field.networks.initialization import init_rows, init_shared, uniform
from lg_field.ops import local_global_chain, sort_by_row
from lg_field.ops.sorting import RowSort
from lg_field.radiance import occupancy
from lg_field.radiance.coarse_first import Waiting
from lg_field.radiance.encodings import SH_FEATURES, frequency_parts, spherical_harmonics, view_dependence
from lg_field.radiance.entries import entries_read
from lg_field.radiance.feature_grid import interpolate, split_grid
from lg_field.radiance.frame import Frame
from lg_field.radiance.fused import fused_inputs, fused_look, fused_shade
from lg_field.radiance.memory_bound import MEMORY
from lg_field.radiance.occupancy_grid import OccupancyGrid, voxel_rows
from lg_field.radiance.sizes import RadianceSizes as RadianceSizes
from lg_field.radiance.sizes import saved_sizes as saved_sizes
from lg_field.radiance.tcnn import Implementation, encoder
from lg_field.radiance.trainable import trainable_lines, trainable_rows, trainable_shared, wait_
from lg_field.radiance.volume import Volume
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import BoxMap
from lg_field.table.cell_table import CellTable


class RadianceField(CellTable, Volume):
    """Density and colour of a scene. A point in a cell without a row is empty, whatever the shared part says.

    The shared part gives a first density and colour of its own and the cell's row corrects it: its output layer
    starts at zero, so that training begins with what all cells agree on.
    """

    hash_table: nn.Parameter | None
    """(kept entries, F) the shared part's own grid (`HashGrid`), if it has one. Which entries are kept, `kept_lines`
    says: after a crop those that occupied voxels of kept cells read."""
    local: nn.Parameter
    """(P, K) weights of each cell's sub-network."""
    features: nn.Parameter
    """(P, R^3 F) feature grid of each cell."""
    frozen: Tensor
    """(P,) bool: rows that training must not change (extension); kept in checkpoints, not in field files."""
    shown_rows = ("occupied",)
    occupied, thickness, seen = map(voxel_rows, OccupancyGrid.ROWS)
    lines_follow = ("cells", "occupied")

    def __init__(self, grid: PartitionGrid, sizes: RadianceSizes, cells: Tensor | None = None) -> None:
        """
        Args:
            grid: partition of the scene box, or of [-2, 2]^3 for a contracted scene.
            sizes: sizes.
            cells: kept cells, None = all.
        """
        super().__init__(grid, cells)
        self.sizes, self.chain = sizes, sizes.chain()
        self._frame = Frame(grid, sizes.contraction, sizes.frame, sizes.contracted_density)
        self.implementation: Implementation = "auto"
        """Which code evaluates the hash table: no part of the field's state."""
        self.backend = "auto"
        """Which code computes everything else, a name in `ops.backends.BACKENDS`: no part of the state either."""
        self.memory = MEMORY
        """GB that pictures of it may take at a time: no part of its state either."""
        self.extending = False
        """Whether some rows are frozen; what they read of the shared part is then frozen, too."""
        self._frozen_lines: Tensor | None = None
        self.waiting: Waiting | None = None
        """What does not learn yet, in training: no part of the state either."""
        rows = self.num_rows
        self.add_rows("local", init_rows(self.chain, rows))
        self.add_rows("features", uniform((rows, sizes.grid_width), 1e-2))
        self.add_rows("frozen", torch.zeros(rows, dtype=torch.bool), trainable=False, saved=False)
        self.occupancy = OccupancyGrid(self._frame, self.cells, sizes.occupancy_voxels)
        self._row_names += OccupancyGrid.ROWS
        self.shared = nn.ParameterDict(init_shared(self.chain))
        self.hash_grid = sizes.hash_grid()
        if self.hash_grid is None:
            self.hash_table = None
        else:
            self.add_lines("hash_table", self.hash_grid.init_table())
        layers = [nn.Linear(*width) for width in sizes.color_layers()]
        self.color = nn.Sequential(*[part for layer in layers for part in (layer, nn.ReLU())][:-1])

    def config(self) -> dict[str, Any]:
        """The entries of its `RadianceSizes`."""
        return asdict(self.sizes)

    def config_on(self, grid: PartitionGrid) -> dict[str, Any]:
        """The same on a larger grid: positions stay relative to the domain as it is.

        Raises:
            ValueError: an unbounded scene.
        """
        if grid == self.grid:
            return self.config()
        if self.sizes.contraction:
            raise ValueError("an unbounded scene reaches everywhere already: give cells their rows back instead")
        origin = self.frame.origin
        return self.config() | {"frame": (*origin.lower, *origin.upper)}

    @classmethod
    def from_config(cls, grid: PartitionGrid, config: dict[str, Any], cells: Tensor) -> RadianceField:
        """A field with fresh weights; entries that a configuration lacks mean what they meant before they existed.

        Raises:
            ValueError, TypeError: a configuration that makes no sense.
        """
        return cls(grid, RadianceSizes.from_dict(config), cells)

    @property
    def frame(self) -> Frame:
        """Where the cells are; another one once the grid is another."""
        if self._frame.grid is not self.grid:
            self._frame = self._frame.on(self.grid)
        return self._frame

    @property
    def unwarp_boxes(self) -> BoxMap | None:
        """See `Frame.unwarp_boxes`."""
        return self.frame.unwarp_boxes

    @property
    def voxel_lattice(self) -> tuple[PartitionGrid, bool]:
        """The occupancy voxels."""
        return self.grid.refined(self.sizes.occupancy_voxels), self.sizes.contraction

    # -- queries

    def forward(
        self, positions: Float[Tensor, "points 3"], overlap: float = 0.0
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points features"]]:
        """Density and colour features at points.

        Args:
            positions: (M, 3) scene units.
            overlap: training only: points this part of a cell from a border are given to either neighbour.

        Returns:
            (M,) density per scene unit and (M, color_features); both 0 where no row owns the point.
        """
        return self.of_rows(*self.owners(positions, overlap))

    def looks(
        self,
        unit: Float[Tensor, "samples 3"],
        rows: Int64[Tensor, " samples"],
        rays: Int64[Tensor, " samples"],
        directions: Float[Tensor, "rays 3"],
    ) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples 3"], Float[Tensor, " samples"]]:
        """Density and colour of samples on rays; of fields without a colour layer.

        Args:
            unit: (M, 3) unit coordinates.
            rows: (M,) row asked at each, -1 for none.
            rays: (M,) ray of each.
            directions: (N, 3) of the rays, unit vectors.

        Returns:
            (M,) density per scene unit, 0 where no row owns the point; (M, 3) in [0, 1]; (M,) `view_dependence`.
        """
        looked = fused_look(self, unit, rows, rays, directions)
        if looked is not None:
            return looked
        by_row = sort_by_row(rows, self.num_rows, wait=rows.is_cpu)
        out = self._outputs(unit, rows, by_row)
        fused = fused_shade(self, out, by_row, rays, directions)
        if fused is not None:
            return self.frame.per_length(fused[0], unit), *fused[1:]
        density, features = self._said(out, by_row, len(rows))
        return self.frame.per_length(density, unit), self.rgb(features, directions[rays]), view_dependence(features)

    def owners(
        self, positions: Tensor, overlap: float, rows_of: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        """(M, 3) unit coordinates and (M,) row asked at each, -1 for none; `rows_of` stands for `rows_of_unit`."""
        unit, rows_of = self.frame.to_unit(positions), rows_of or self.rows_of_unit
        rows = self.moved_rows(unit, rows_of(unit), overlap, rows_of)
        if self.region is not None:
            rows = torch.where(self.region.contains(positions), rows, -1)
        return unit, rows

    def moved_rows(
        self, unit: Tensor, rows: Tensor, overlap: float, rows_of: Callable[[Tensor], Tensor] | None = None
    ) -> Int64[Tensor, " points"]:
        """(M,) rows asked at (M, 3) points that (M,) rows own, with an `overlap` of cells as in `forward`."""
        if overlap <= 0.0:
            return rows
        apart = (torch.rand_like(unit) * 2 - 1) * overlap / constant(self.frame.origin.counts, unit)
        moved = (rows_of or self.rows_of_unit)(unit + apart)
        return torch.where((rows >= 0) & (moved >= 0), moved, rows)

    def rgb(
        self,
        features: Float[Tensor, "points features"],
        directions: Float[Tensor, "points 3"],
        appearance: Float[Tensor, "points width"] | None = None,
    ) -> Float[Tensor, "points 3"]:
        """Colour seen from a direction.

        Args:
            features: (M, color_features) of `forward`.
            directions: (M, 3) unit vectors, from the camera into the scene.
            appearance: (M, appearance_features), None = the average.

        Returns:
            (M, 3) in [0, 1].
        """
        return self.rgb_of(features, spherical_harmonics(directions), appearance)

    def rgb_of(
        self,
        features: Float[Tensor, "points features"],
        harmonics: Float[Tensor, "points 9"],
        appearance: Float[Tensor, "points width"] | None = None,
    ) -> Float[Tensor, "points 3"]:
        """`rgb` from the (M, 9) `spherical_harmonics` of the directions."""
        if not self.sizes.color_width:
            return torch.sigmoid(torch.einsum("mcs,ms->mc", features.unflatten(1, (3, SH_FEATURES)), harmonics))
        inputs = [features, harmonics]
        if self.sizes.appearance_features:
            mean = features.new_zeros(len(features), self.sizes.appearance_features)
            inputs.append(mean if appearance is None else appearance)
        return torch.sigmoid(self.color(torch.cat(inputs, dim=1)))

    def density(self, positions: Float[Tensor, "points 3"]) -> Float[Tensor, " points"]:
        """Density per scene unit at scene points."""
        return self(positions)[0]

    def opacity(self, positions: Float[Tensor, "points 3"], step: float) -> Float[Tensor, " points"]:
        """Part of the light that a marching step at scene points absorbs; `step` is its length near the origin."""
        return -torch.expm1(-self.density(positions) * self.frame.step_lengths(positions, step))

    def of_rows(
        self, unit: Float[Tensor, "points 3"], rows: Int64[Tensor, " points"], owned: bool = False
    ) -> tuple[Float[Tensor, " points"], Float[Tensor, "points features"]]:
        """What these rows say of points, in their own cell or a little beyond its borders.

        Args:
            unit: (M, 3) unit coordinates.
            rows: (M,) row asked at each point, -1 for none.
            owned: there is no -1.

        Returns:
            (M,) density per scene unit and (M, color_features); both 0 where no row was asked.
        """
        by_row = sort_by_row(rows, self.num_rows, wait=rows.is_cpu, owned=owned)
        density, features = self._said(self._outputs(unit, rows, by_row), by_row, len(rows))
        return self.frame.per_length(density, unit), features

    def _outputs(self, unit: Tensor, rows: Tensor, by_row: RowSort) -> Tensor:
        """(n, 1 + color_features) of the chain for the points that have a row, sorted by row."""
        local_x, global_x = self._inputs(by_row.sort(unit), by_row.rows_of(rows), by_row.offsets)
        inputs = local_x, by_row.offsets, self._trainable_rows(self.local), trainable_shared(self), self.chain
        return local_global_chain(*inputs, global_x=global_x, backend=self.backend)

    def _said(self, out: Tensor, by_row: RowSort, points: int) -> tuple[Tensor, Tensor]:
        """(M,) density as the chain says it and (M, color_features)."""
        whole = by_row.kept is None and len(by_row.order) == points
        density, features = (by_row.unsort(out) if whole else out).split([1, self.sizes.color_features], dim=1)
        density = torch.exp((density[:, 0] + self.sizes.density_bias).clamp_max(12.0))
        return (density, features) if whole else (by_row.unsort(density, points), by_row.unsort(features, points))

    def _inputs(self, unit: Tensor, rows: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the chain's local and global part read of points sorted by row: (M, local) and (M, global)."""
        fused = fused_inputs(self, unit, offsets)
        if fused is not None:
            return fused
        grid = self._grid_features(unit, rows)
        local_x = torch.cat([grid, *frequency_parts(unit, self.sizes.local_frequencies)], dim=1)
        if not self.chain.global_width:
            return local_x, None
        inputs = frequency_parts(unit, self.sizes.global_frequencies)
        if self.sizes.global_reads_grid and self.chain.local_width:
            inputs.insert(0, grid)
        if self.hash_grid is not None and self.hash_table is not None:
            encode = encoder(self.hash_grid, self.implementation, unit.device)
            inputs.append(encode(self._trainable_lines(self.hash_table), unit, self.kept_lines["hash_table"]))
        return local_x, torch.cat(inputs, dim=1)

    def _grid_features(self, unit: Tensor, rows: Tensor) -> Tensor:
        """(M, grid_features) of the rows' grids; zeros for the global network, which has none."""
        sizes = self.sizes
        if not self.features.shape[1]:
            return unit.new_zeros(len(unit), sizes.grid_features if sizes.grid_nodes else 0)
        local = self.frame.local(unit, self.occupancy.corners(), rows)
        return interpolate(self._trainable_rows(self.features), rows, local, sizes.grid_nodes, sizes.grid_features)

    def _trainable_rows(self, rows: Tensor) -> Tensor:
        """The rows, without gradients to frozen ones, nor to grids that wait."""
        return trainable_rows(self, rows)

    def _trainable_lines(self, table: Tensor) -> Tensor:
        """The shared part's grid, without gradients to the entries that frozen rows read, nor to those that wait."""
        return trainable_lines(self, table)

    def rows_of_unit(self, unit: Float[Tensor, "points 3"]) -> Int64[Tensor, " points"]:
        """Unit coordinates of points -> the row that owns each, -1 where none does."""
        return self.rows_of(self.frame.locate(unit))

    def is_occupied(self, positions: Float[Tensor, "points 3"]) -> Bool[Tensor, " points"]:
        """Whether scene points are in an occupied voxel of a kept cell, and in the kept region."""
        hit = self.occupancy.is_occupied(positions)
        return hit if self.region is None else hit & self.region.contains(positions)

    # -- rows

    def lines_read(self, rows: Mapping[str, Tensor]) -> dict[str, Bool[Tensor, " lines"]]:
        """Which entries of the shared part's grid points in occupied voxels of rows read, on any device.

        Args:
            rows: `cells` (n,) int64 and `occupied` (n, r^3) bool.
        """
        if self.hash_grid is None:
            return {}
        return {"hash_table": entries_read(self.hash_grid, self.frame, rows["cells"], rows["occupied"])}

    def split_(self, optimizers: Iterable[torch.optim.Optimizer] = ()) -> None:
        """Cut every kept cell into 8 that together are the same function, in place: training from coarse to fine.

        Weights are copied and feature grids resampled twice as finely; optimizer state follows.
        """
        children = self.grid.children(self.cells)
        order = children.flatten().argsort()
        nodes, features, r = self.sizes.grid_nodes, self.sizes.grid_features, self.sizes.occupancy_voxels
        transforms = {name: lambda old: old.repeat_interleave(8, dim=0)[order] for name in self.row_names}
        transforms["cells"] = lambda old: children.flatten()[order]
        if self.features.numel():
            transforms["features"] = lambda old: split_grid(old, nodes, features).flatten(0, 1)[order]
        for name in OccupancyGrid.ROWS:
            transforms[name] = lambda old: occupancy.split_voxels(old, r).flatten(0, 1)[order]
        self.grid = self.grid.refined()
        self.transform_rows_(transforms, optimizers)

    def freeze_(self, rows: Bool[Tensor, " rows"]) -> None:
        """Let training change neither these rows nor what they read of the shared part, so that what they show stays
        to the bit. Entries of its grid that no occupied voxel of theirs reads are trained.

        Args:
            rows: (P,) bool; all False: everything is trained again.
        """
        self.frozen.copy_(rows)
        self.extending, self._frozen_lines = bool(rows.any()), None
        for name, parameter in self.named_parameters():
            trained = name in self.row_names or name in self.kept_lines
            parameter.requires_grad_(trained or not self.extending)

    def wait_(self, step: int, until: int) -> None:
        """Learn coarse first: from step `until` on everything learns. Where rows are frozen nothing waits."""
        wait_(self, step, until)

    def lines_of_frozen(self) -> dict[str, Bool[Tensor, " lines"]]:
        """Which entries of the shared part's grid frozen rows read, by the grid's name; on the CPU."""
        return self.lines_to_keep({name: getattr(self, name)[self.frozen] for name in self.lines_follow})

    def _changed_rows(self) -> None:
        super()._changed_rows()
        self._frozen_lines = None
        self.occupancy.place(self.frame, self.cells)

    # -- state

    def get_extra_state(self) -> dict[str, Any]:
        """The table's, and the numbers of frozen cells."""
        state = super().get_extra_state()
        return state | {"frozen": self.cells[self.frozen].tolist()} if self.extending else state

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Inverse of `get_extra_state`."""
        super().set_extra_state(state)
        frozen = torch.tensor(state.get("frozen", []), dtype=torch.int64, device=self.cells.device)
        self.freeze_(torch.isin(self.cells, frozen))

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        """The voxels are rows of the table, and saved under a row's name."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[prefix + "occupied"] = self.occupied

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        """Inverse of `_save_to_state_dict`; sizes that an older checkpoint lacks mean what they meant."""
        state = state_dict.get(prefix + "_extra_state")
        if isinstance(state, dict):
            state_dict[prefix + "_extra_state"] = state | {"config": asdict(saved_sizes(state))}
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        name = prefix + "occupied"
        if name in state_dict:
            self.occupancy.restore_(state_dict[name])
            self._frozen_lines = None
        unexpected_keys = args[3] if len(args) > 3 else kwargs["unexpected_keys"]
        unexpected_keys[:] = [key for key in unexpected_keys if key != name]
