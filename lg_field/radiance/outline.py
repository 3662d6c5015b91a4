"""What a radiance field holds, told from its configuration; without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from lg_field.radiance.entries import entries_read
from lg_field.radiance.frame import Frame
from lg_field.radiance.occupancy import Voxels
from lg_field.radiance.sizes import RadianceSizes
from lg_field.space.partition import PartitionGrid
from lg_field.table.checkpoint import check_cells
from lg_field.table.outline import BOOL, FLOAT, Form, Outline


def outline(grid: PartitionGrid, config: Mapping[str, Any], cells: np.ndarray) -> Outline:
    """The outline of `RadianceField.from_config` with the same arguments.

    Raises:
        ValueError, TypeError: as that does.
    """
    sizes = RadianceSizes.from_dict(dict(config))
    check_cells(cells, grid)
    frame, layers, layout = frame_of(grid, sizes), sizes.layers(), sizes.hash_layout()
    widths = {"local": layers.row_size, "features": sizes.grid_width}
    shared = {f"shared.{name}": shape for name, shape in layers.shared_shapes().items()}
    for number, (inputs, outputs) in enumerate(sizes.color_layers()):
        shared |= {f"color.{2 * number}.weight": (outputs, inputs), f"color.{2 * number}.bias": (outputs,)}

    def lines_read(rows: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {} if layout is None else {"hash_table": entries_read(layout, frame, rows["cells"], rows["occupied"])}

    return Outline(
        grid,
        cells,
        dataclasses.asdict(sizes),
        rows={name: Form(FLOAT, (width,)) for name, width in widths.items()}
        | {"occupied": Form(BOOL, (sizes.occupancy_voxels**3,))},
        shared={name: Form(FLOAT, shape) for name, shape in shared.items()},
        lines={} if layout is None else {"hash_table": Form(FLOAT, (layout.num_entries, layout.features))},
        shown_rows=("occupied",),
        lines_follow=("cells", "occupied"),
        lines_read=lines_read,
        unwarp_boxes=frame.unwarp_boxes,
        voxel_lattice=(grid.refined(sizes.occupancy_voxels), sizes.contraction),
    )


def voxels_of(field: Outline, cells: np.ndarray, occupied: np.ndarray) -> Voxels:
    """Voxels of some cells of a radiance field.

    Args:
        field: the outline of one.
        cells: (n,) int64.
        occupied: (n, r^3) bool.
    """
    sizes = RadianceSizes.from_dict(field.config)
    return Voxels(frame_of(field.grid, sizes), cells, occupied, sizes.occupancy_voxels)


def frame_of(grid: PartitionGrid, sizes: RadianceSizes) -> Frame:
    """Where the cells of a field of these sizes are."""
    return Frame(grid, sizes.contraction, sizes.frame, sizes.contracted_density)
