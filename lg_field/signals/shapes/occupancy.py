"""3D shapes: a mesh, or an array of booleans, as occupancy of voxels; and which cells of the partition need a row."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lg_field.errors import notice
from lg_field.memory import check_memory
from lg_field.signals.batches import Draw
from lg_field.signals.data import NeededCells, Samples, SignalData
from lg_field.signals.settings import CompleteFit, ShapeConfig, resolve_shape
from lg_field.signals.shapes.mesh_file import SourceMesh, read_mesh
from lg_field.signals.shapes.sampling import ShapeSampler
from lg_field.signals.shapes.thickness import thin_warning
from lg_field.signals.shapes.voxelize import voxelize
from lg_field.signals.shapes.voxels import BitGrid
from lg_field.signals.signal import Signal
from lg_field.signals.state import fingerprint
from lg_field.space.partition import PartitionGrid

NOTHING_SAID = ShapeConfig()
MARGIN = 2
"""Empty voxels around a mesh."""
MAX_RESOLUTION = 1 << 13


@dataclass
class OccupancyData(Samples):
    """The occupancy of a shape, one bit a voxel."""

    signal: Signal
    voxels: BitGrid
    source: SourceMesh | None = None
    """The mesh it was made of."""
    warnings: tuple[str, ...] = ()
    """What was assumed."""

    def slab(self, first: int, last: int) -> Bool[Tensor, "nx ny nz 1"]:
        """(last - first, ny, nz, 1) bool."""
        return torch.from_numpy(self.voxels.slab(first, last))[..., None]

    def overview(self, limit: int) -> SignalData:
        """The shape as a volume of at most about `limit` samples: the share of each block of voxels that is inside."""
        step = math.ceil((self.signal.num_samples / limit) ** (1 / 3))
        parts = []
        for first in range(0, self.signal.shape[0], step):
            slab = self.slab(first, min(first + step, self.signal.shape[0]))[..., 0].float()[None]
            parts.append(torch.nn.functional.avg_pool3d(slab, (slab.shape[1], step, step), ceil_mode=True)[0])
        values = torch.cat(parts)[..., None]
        nx, ny, nz, _ = values.shape
        return SignalData(values, Signal("volume", (nx, ny, nz), 1, "float32", (0.0, 1.0)))

    def checksum(self) -> int:
        """CRC-32 of the voxels."""
        return fingerprint(torch.from_numpy(self.voxels.bits))

    def drawn(self, config: CompleteFit) -> str:
        """How many voxels, and which."""
        return f"{self.points(config):,} voxels ({config.sample})"

    def points(self, config: CompleteFit) -> int:
        """Voxels that a step draws, about."""
        return config.points or max(1, round(config.sample_fraction * self.signal.num_samples))

    def needed_cells(self, grid: PartitionGrid, margin: int) -> NeededCells | None:
        """Cells with surface need a row, those that are inside throughout are full, the rest is empty."""
        return shape_cells(self, grid, margin)

    def batches(
        self, grid: PartitionGrid, cells: Int64[Tensor, " cells"], config: CompleteFit, generator: torch.Generator
    ) -> Draw:
        """Voxels drawn by a `ShapeSampler`."""
        return ShapeSampler(
            self.signal, self.voxels, grid, cells, self.points(config), config.sample, config.overlap, generator
        ).draw

    def notes(self, cells: NeededCells | None) -> list[str]:
        """What became of the mesh, and which cells get a row."""
        lines, inside, total = [f"warning: {w}" for w in self.warnings], self.voxels.count(), self.signal.num_samples
        source = ""
        if self.source is not None:
            state = "watertight" if self.source.closed and not self.warnings else "not watertight"
            source = f"{len(self.source.vertices):,} vertices, {len(self.source.faces):,} faces, {state}; "
        lines.append(f"{source}{inside:,} of {total:,} voxels inside ({inside / total:.1%})")
        if cells is not None:
            lines.append(
                f"{cells.occupied} cells hold a part of it: {len(cells.rows)} cells get a row, {len(cells.full)} are "
                "full and stored as a constant"
            )
        return lines


def read_shape(path: Path, said: ShapeConfig = NOTHING_SAID) -> OccupancyData:
    """Voxelise a mesh file. The longest side gets `resolution` voxels, cubes all, two of them empty at either end.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a usable mesh (see `read_mesh`), nothing inside it, or voxels that memory does not hold.
    """
    config = resolve_shape(said)
    if not 2 * MARGIN < config.resolution <= MAX_RESOLUTION:
        raise ValueError(f"--resolution must be in {2 * MARGIN + 1}..{MAX_RESOLUTION}, got {config.resolution}")
    mesh = read_mesh(path)
    signal = voxel_signal(mesh, config.resolution)
    grids = 2 if mesh.closed else 5
    check_memory(
        signal.num_samples // 8 * grids + 300_000_000,
        f"{path} at {' x '.join(map(str, signal.shape))} voxels",
        f"use a --resolution below {config.resolution}",
    )
    nx, ny, nz = signal.shape
    grid = voxelize(
        (mesh.vertices - np.asarray(signal.origin)) / signal.spacing,
        mesh.faces,
        (nx, ny, nz),
        closed=mesh.closed,
        rule="winding" if mesh.consistent else "parity",
    )
    if grid.count() == 0:
        thin = thin_warning(mesh, signal.spacing, MARGIN) if mesh.closed else None
        raise ValueError(
            f"{path} encloses nothing: none of {' x '.join(map(str, signal.shape))} voxels has its centre inside; "
            + (thin or "close the mesh, or use a larger --resolution if it is thin")
        )
    thin = thin_warning(mesh, signal.spacing, MARGIN)
    if thin is not None:
        notice(f"{path}: {thin}")
    return OccupancyData(signal, grid, mesh, mesh.warnings)


def voxel_signal(mesh: SourceMesh, resolution: int) -> Signal:
    """The grid of voxels around a mesh, in its units and pose."""
    low, high = mesh.vertices.min(0), mesh.vertices.max(0)
    spacing = float((high - low).max()) / (resolution - 2 * MARGIN)
    shape = np.ceil((high - low) / spacing - 1e-6).astype(int) + 2 * MARGIN
    origin = (low + high) / 2 - shape * spacing / 2
    sizes = tuple(int(n) for n in shape)
    return Signal("occupancy", sizes, 1, "bool", (0.0, 1.0), origin=tuple(origin.tolist()), spacing=spacing)


def from_array(array: np.ndarray, name: str) -> OccupancyData:
    """Occupancy of a (nx, ny, nz) bool array; units are voxels.

    Raises:
        ValueError: another shape, or nothing but one value.
    """
    if array.ndim != 3 or not array.size:
        raise ValueError(f"{name} has shape {array.shape}; an array (x, y, z) is needed")
    if array.all() or not array.any():
        raise ValueError(f"{name} is {'full' if array.all() else 'empty'} throughout: there is nothing to encode")
    signal = Signal("occupancy", array.shape, 1, "bool", (0.0, 1.0), origin=(0.0, 0.0, 0.0), spacing=1.0)
    return OccupancyData(signal, BitGrid.from_array(array))


def shape_cells(data: OccupancyData, grid: PartitionGrid, margin: int) -> NeededCells:
    """Sort the cells of a partition into those with surface, full ones and (the rest) empty ones."""
    edges = [data.signal.cell_edges(grid, axis).tolist() for axis in range(3)]
    own, some, every = (torch.from_numpy(s.reshape(-1)) for s in data.voxels.cell_states(edges, margin))
    return NeededCells((some & ~every).nonzero()[:, 0], every.nonzero()[:, 0], int(own.sum()))
