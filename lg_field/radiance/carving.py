"""Scene files without a part of their voxels: objects cut out of them, and floaters dropped."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.files import FieldFile, save
from lg_field.files.writing import Precision
from lg_field.radiance.components import Pieces, middles, settled, shown_voxels, voxel_set
from lg_field.radiance.edits import CROP, with_edit
from lg_field.radiance.field import RadianceField
from lg_field.radiance.hull import visual_hull
from lg_field.radiance.occupancy_grid import OccupancyGrid
from lg_field.radiance.scene import Scene
from lg_field.radiance.sight import cameras_that_see
from lg_field.radiance.views import Views
from lg_field.space.regions import Region

POINTS = 1 << 18
"""Voxels looked at at a time."""


def crop_voxels(
    source: str | os.PathLike[str] | FieldFile,
    target: str | os.PathLike[str],
    region: Region | None = None,
    *,
    cells: Sequence[int] | Tensor | None = None,
    invert: bool = False,
    snap: bool = False,
    dtype: Precision | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """`crop_file` where the region says something of whole voxels: their bits are cleared, so the file holds no mask of
    them, and only what is kept is loaded.

    Args:
        source: scene file, local, at an address fsspec reads, or open.
        target: local file to write.
        region: keep this,
        cells: or these cells.
        invert: remove them instead.
        snap: keep whole cells.
        dtype: store weights so; None = as they are.
        overwrite: replace an existing target, even the source itself.
        progress: called with the number of bytes just read.

    Returns:
        Bytes of the target.
    """
    with nullcontext(source) if isinstance(source, FieldFile) else FieldFile.open(source) as file:
        field: Any = file.load(region, cells, invert)
        field.region = file.header.region if snap else field.region
        precision: Any = dtype or file.precision
        voxels = file.read_values("occupied", None)
        before = Held(int(voxels.sum()), file.skeleton.num_rows)
        if progress is not None:
            progress(file.reader.bytes_read)
    small = noted(settled(field), CROP, before)
    return save(small, target, dtype=precision, overwrite=overwrite)


class Held(NamedTuple):
    """What a field holds."""

    voxels: int
    """Occupied ones."""
    cells: int
    """Kept ones."""

    @staticmethod
    def by(field: RadianceField) -> Held:
        """What a field holds."""
        return Held(int(field.occupied.sum()), field.num_rows)


def noted(field: RadianceField, edit: str, before: Held) -> RadianceField:
    """The field, with what an edit dropped written down in its history."""
    after = Held.by(field)
    found = (before.voxels, after.voxels), (before.cells, after.cells)
    field.history = with_edit(field.history, edit, *found)
    return field


def floaters(
    field: RadianceField,
    pieces: Pieces,
    share: float,
    least_cameras: int = 0,
    places: Float[Tensor, "cameras 3"] | None = None,
    views: Views | None = None,
) -> Bool[Tensor, " pieces"]:
    """Which pieces are floaters: smaller than a share of the largest one, or seen by too few cameras.

    Args:
        field: the scene; its description says where rays start and end.
        pieces: of its voxels.
        share: part of the largest piece's voxels that others must have, 0..1.
        least_cameras: cameras that must see some of a piece; the largest piece is kept whoever sees it.
        places: (n, 3) of the cameras, scene units.
        views: the cameras, where more is known than their places.
    """
    drop = pieces.sizes < share * pieces.sizes[0]
    if least_cameras and places is not None and isinstance(field.description, Scene):
        asked = [k + 1 for k in range(1, len(pieces)) if not bool(drop[k])]
        seen = cameras_that_see(field, field.description, places, pieces, asked, views)
        for number, count in zip(asked, seen):
            drop[number - 1] = count < least_cameras
    return drop


def without_pieces(field: RadianceField, pieces: Pieces, drop: Bool[Tensor, " pieces"]) -> RadianceField:
    """The field without the voxels of some pieces, and without the rows that have none left; no weight changes.

    Args:
        field: the source; untouched.
        pieces: of the voxels it shows.
        drop: (n,) whether each goes.

    Raises:
        ValueError: nothing would be kept.
    """
    return only_voxels(field, pieces.voxels((~drop).nonzero()[:, 0] + 1)) if bool(drop.any()) else field


def only_voxels(field: RadianceField, voxels: Bool[Tensor, "nx ny nz"]) -> RadianceField:
    """The field with some voxels of its lattice alone, and without the rows that have none left; no weight changes.

    Args:
        field: the source; untouched.
        voxels: kept.

    Raises:
        ValueError: nothing would be kept.
    """
    only = voxel_set(field.occupancy, voxels)
    marked = field.selected(torch.arange(field.num_rows))
    marked.region = only if field.region is None else field.region & only
    return settled(marked)


def agreed_voxels(
    grid: OccupancyGrid, region: Region | None, views: Views, alphas: Float[Tensor, "views height width"]
) -> Bool[Tensor, "nx ny nz"]:
    """The voxels that masks agree on: inside the masks of nearly all images that show them, and shown by two at least;
    and those beside them, whose middles lie outside while what they hold may not.

    Args:
        grid: occupancy.
        region: that is shown of it; None = everything.
        views: cameras, scene units.
        alphas: the mask of each, in [0, 1].
    """
    shown = shown_voxels(grid, region)
    agreed = shown.clone()
    for some in shown.nonzero().split(POINTS):
        agreed[tuple(some.unbind(1))] = visual_hull(views, alphas, middles(grid, some), least=0.0)
    grown = torch.nn.functional.max_pool3d(agreed[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    return grown & shown


def pieces_of_field(field: RadianceField) -> Pieces:
    """The connected pieces of what a field shows."""
    return Pieces.of(shown_voxels(field.occupancy, field.region))
