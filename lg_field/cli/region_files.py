"""Regions from JSON files: those that crops write, cells that a viewer saves, camera paths with a crop box."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_field.space.partition import PartitionGrid
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline

DOMAIN = "domain"
"""What the entry "units" of a region's JSON says where its numbers are those of the field's domain."""

LONGEST = 600
"""Characters of a region's JSON that are shown."""


def oriented_box(center: Sequence[float], rpy: Sequence[float], size: Sequence[float]) -> Region:
    """The box that nerfstudio's viewer and camera paths give.

    Args:
        center: x, y, z.
        rpy: rotation as roll, pitch, yaw in radians.
        size: along the turned axes.
    """
    import numpy as np

    from lg_field.space.regions import OrientedBox

    (cr, cp, cy), (sr, sp, sy) = ([f(float(v)) for v in rpy] for f in (math.cos, math.sin))
    roll = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    pitch = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    turn = (yaw @ pitch @ roll).tolist()
    a, b, c = (float(v) for v in center)
    w, d, h = (float(v) for v in size)
    return OrientedBox((a, b, c), tuple(tuple(row) for row in turn), (w, d, h))


def read_json(path: Path) -> Any:
    """The data of a JSON file.

    Raises:
        ValueError: not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error


def read_cells(path: Path, grid: PartitionGrid) -> list[int] | None:
    """Cells from JSON (see `cell_list`), None if the file holds something else.

    Raises:
        ValueError: not JSON, or cells of another grid.
    """
    from lg_field.space.cell_list import cells_from_dict

    data = read_json(path)
    try:
        return cells_from_dict(data, grid)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_region(path: Path) -> tuple[Region, bool]:
    """A region from JSON: `Region.to_dict`, or the `crop` of a nerfstudio camera path.

    Returns:
        The region, and whether it says that its numbers are those of the domain ("units": "domain", as `info` and
        `crop` print it); otherwise they are in the units of --box.

    Raises:
        ValueError: neither.
    """
    from lg_field.space.regions import region_from_dict

    data = read_json(path)
    crop = data.get("crop") if isinstance(data, dict) else None
    if isinstance(crop, dict):
        try:
            center, size, rpy = crop["crop_center"], crop["crop_scale"], crop.get("crop_rot", (0.0, 0.0, 0.0))
            return oriented_box(center, rpy, size), False
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: the camera path's crop box is incomplete: {error}") from error
    units = data.get("units") if isinstance(data, dict) else None
    if units not in (None, DOMAIN):
        raise ValueError(f'{path}: "units" must be "{DOMAIN}", or left out where they are those of --box')
    try:
        return region_from_dict(data), units == DOMAIN
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error


def short_json(data: dict[str, Any]) -> str:
    """A region's data as a line of JSON; of one that is too long to be read, as of many voxels, how it begins."""
    text = json.dumps(data)
    return text if len(text) <= LONGEST else f"{text[:80]}... ({len(text):,} characters)"


def region_json(region: Region, field: CellTable | Outline) -> str:
    """A field's exact region as a line of JSON that `--region` reads; one too long to be read is cut short."""
    from lg_field.signals.signal import Signal

    # Scenes are asked for regions in the units that their fields keep them in.
    units = {"units": DOMAIN} if isinstance(field.description, Signal) else {}
    return short_json(region.to_dict() | units)
