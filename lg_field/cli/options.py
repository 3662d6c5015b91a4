"""Options that several commands share: which region, in which units, and what a file is told to be."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from lg_field.signals.signal import Signal
    from lg_field.space.partition import PartitionGrid
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
Input = tyro.conf.Positional[Path]
Address = tyro.conf.Positional[str]
"""A field file: a path, or an address fsspec reads."""


@dataclass(frozen=True)
class RegionFlags:
    """What to keep. Units - image: pixels, x then y; video: frame, x, y; sound: seconds; volume: voxels; shape:
    the mesh's own; scene: nerfstudio's scene space."""

    box: tuple[float, ...] = ()
    """Lower corner, then upper corner. Image: LEFT TOP RIGHT BOTTOM. Sound: START END."""
    sphere: tuple[float, ...] = ()
    """Center, then radius."""
    obb: tuple[float, ...] = ()
    """Turned box of a scene or shape: center, rotation (roll pitch yaw, radians), size; nine numbers, as the viewer
    shows them."""
    cells: tuple[int, ...] = ()
    """Numbers of cells, as `lg-field info` counts them."""
    region: Path | None = None
    """JSON of a region (as saved by crops), of cells (by the viewer), or a nerfstudio camera path with a crop box."""
    invert: bool = False
    """Keep everything else."""
    snap: bool = False
    """Keep whole cells, not the exact region."""

    @property
    def given(self) -> bool:
        """Whether any region was asked for."""
        return bool(self.box or self.sphere or self.obb or self.cells or self.region)

    def parts(self, signal: Signal | None) -> list[Region]:
        """The regions, in scene units or in the domain order of the signal's samples."""
        from lg_field.space.regions import Region

        def placed(region: Region) -> Region:
            """In the field's sample units."""
            return region if signal is None else signal.traits.region_to_samples(signal, region)

        parts: list[Region] = []
        if self.box:
            low, high = halves(self.box, signal)
            parts.append(Region.box(low, high))
        if self.sphere:
            axes = len(signal.shape) if signal else 3
            if len(self.sphere) != axes + 1:
                raise ValueError(f"--sphere needs {axes} numbers of the center and a radius, got {len(self.sphere)}")
            center = self.sphere[:-1]
            parts.append(placed(Region.sphere(center, self.sphere[-1])))
        if self.obb:
            if (signal is not None and len(signal.shape) != 3) or len(self.obb) != 9:
                raise ValueError("--obb is for scenes and shapes and needs nine numbers: center, roll pitch yaw, size")
            parts.append(placed(oriented_box(self.obb[:3], self.obb[3:6], self.obb[6:])))
        if self.region is not None:
            parts.append(placed(read_region(self.region)))
        return parts

    def resolve(self, field: CellTable) -> tuple[Region | None, list[int] | None]:
        """For `editing.crop`: the region in the field's units, or the cells.

        Raises:
            ValueError: nothing given, or not fitting the field.
        """
        from lg_field.signals.signal import Signal

        signal = field.description if isinstance(field.description, Signal) else None
        listed = None if self.region is None else read_cells(self.region, field.grid)
        parts = (self if listed is None else replace(self, region=None)).parts(signal)
        if (self.cells or listed) and (parts or (self.cells and listed)):
            raise ValueError("give cells or a region, not both")
        if self.cells or listed:
            return None, list(self.cells or listed or ())
        if not parts:
            raise ValueError("say what to keep: --box, --sphere, --obb, --cells or --region")
        region = parts[0]
        for part in parts[1:]:
            region = region | part
        return (region if signal is None else signal.to_domain(region, field.grid)), None


NO_REGION = RegionFlags()


def halves(box: tuple[float, ...], signal: Signal | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper corner of a --box, in the domain order of samples (scenes: as they are)."""
    kind, axes = (signal.kind, len(signal.shape)) if signal else ("scene", 3)
    if len(box) != 2 * axes:
        raise ValueError(f"--box of a {kind} needs {2 * axes} numbers, got {len(box)}")
    if not all(map(math.isfinite, box)):
        raise ValueError(f"--box needs finite numbers, got {box}")
    low, high = box[:axes], box[axes:]
    if signal is None:
        return low, high
    return signal.traits.to_samples(signal, low), signal.traits.to_samples(signal, high)


def oriented_box(center: Any, rpy: Any, size: Any) -> Region:
    """The box nerfstudio's viewer and camera paths give: rotation is roll, pitch, yaw in radians."""
    import torch

    from lg_field.space.regions import OrientedBox

    (cr, cp, cy), (sr, sp, sy) = ([f(float(v)) for v in rpy] for f in (math.cos, math.sin))
    roll = torch.tensor([[1, 0, 0], [0, cr, -sr], [0, sr, cr]], dtype=torch.float64)
    pitch = torch.tensor([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]], dtype=torch.float64)
    yaw = torch.tensor([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]], dtype=torch.float64)
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
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
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


def read_region(path: Path) -> Region:
    """A region from JSON: `Region.to_dict`, or the `crop` of a nerfstudio camera path.

    Raises:
        ValueError: neither.
    """
    from lg_field.space.regions import region_from_dict

    data = read_json(path)
    crop = data.get("crop") if isinstance(data, dict) else None
    if isinstance(crop, dict):
        try:
            center, size, rpy = crop["crop_center"], crop["crop_scale"], crop.get("crop_rot", (0.0, 0.0, 0.0))
            return oriented_box(center, rpy, size)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: the camera path's crop box is incomplete: {error}") from error
    try:
        return region_from_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def print_sizes(console: Console, title: str, rows: Iterable[tuple[str, int, int]]) -> None:
    """A table of (name, before, after) with the part kept."""
    table = Table("", "before", "after", "kept", title=title)
    for name, before, after in rows:
        table.add_row(name, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%}")
    console.print(table)


def progress_bar(console: Console) -> Progress:
    """A bar that goes away when it is done; none where no one watches."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def pick_device(device: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        ValueError: a device that this machine lacks.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
