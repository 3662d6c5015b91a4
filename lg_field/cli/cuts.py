"""What a crop of a scene cuts through, in a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from lg_field.arrays import Array
from lg_field.errors import notice

if TYPE_CHECKING:
    import numpy as np

    from lg_field.files import FieldFile
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.occupancy import Voxels
    from lg_field.radiance.occupancy_grid import OccupancyGrid
    from lg_field.space.regions import Region

HAZE = 0.25
"""Opacity of voxels below which they are haze."""
CUT = 0.02
"""Share of the kept surface that may be cut without a word."""


def warn_of_cut(
    grid: OccupancyGrid | Voxels,
    before: Region | None,
    cells: Array,
    region: Region | None,
    field: Callable[[], RadianceField] | None = None,
) -> None:
    """Say it in a line if a crop cuts through what a scene holds.

    Args:
        grid: voxels before the crop, at least those of the kept cells and the cells around them.
        before: the exact region before it.
        cells: (n,) that the crop keeps, in a tensor or in numpy.
        region: the exact region after it; None = whole cells.
        field: gives the field before the crop, where a cut through haze is none; not with `Voxels`.
    """
    from lg_field.radiance.components import beside, cut_through, kept_middles, shown_voxels

    shown = shown_voxels(grid, before)
    kept = kept_middles(shown, cells, region, grid)
    if field is not None:
        from lg_field.radiance.solid import solid_voxels

        shown = kept | solid_voxels(field(), shown & ~kept & beside(kept), HAZE)
    found = cut_through(shown, kept)
    if found.share >= CUT:
        notice(
            f"the cut goes through what the scene holds: {found.share:.0%} of the kept surface ({found.cut:,} of "
            f"{found.surface:,} voxels) is cut; a larger region keeps it whole, --component finds its border"
        )


def around(file: FieldFile, rows: np.ndarray) -> np.ndarray:
    """Rows of a file whose cells are some rows' or beside them."""
    import numpy as np

    from lg_field.space.partition import lattice_points

    grid, cells = file.outline.grid, file.outline.cells
    near = (grid.unravel(cells[rows])[:, None] + lattice_points((3,) * grid.dim) - 1).reshape(-1, grid.dim)
    near = near[((near >= 0) & (near < np.array(grid.counts))).all(-1)]
    return np.isin(cells, grid.ravel(near)).nonzero()[0]
