"""What the panel edits: a field on show, whoever shows it. Subclasses say how it is drawn, picked and saved."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lg_field.files import atomic_write, refuse_existing, save
from lg_field.meshing.mesh import EmptyMeshError, Mesh
from lg_field.meshing.writing import write_mesh
from lg_field.radiance.carving import Held, noted
from lg_field.radiance.components import settled
from lg_field.radiance.edits import CROP
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.radiance.surface import mesh_bounds, radiance_mesh
from lg_field.signals.signal import Signal
from lg_field.space.cell_list import cells_to_dict
from lg_field.space.contraction import uncontract
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region
from lg_field.table.cell_table import CellTable
from lg_field.viewer.filling import Flood
from lg_field.viewer.outputs import OUTPUTS
from lg_field.viewer.picking import Pose, first_cell, first_point, in_rectangle
from lg_field.viewer.rendered import Rendered
from lg_field.viewer.selection import Selection, bounds_of

HORIZON = 20.0
"""Contracted scenes: cells that reach to infinity are drawn to this distance, scene units."""
ROWS = 256
"""Rows that are read at a time where they are not in memory."""
CURVED_SEGMENTS = 6
"""Pieces of an edge that the contraction bends."""
BoxReader = Callable[[tuple[float, ...]], Region]
"""From the numbers of a --box to the region in the field's units."""


class Drawn(NamedTuple):
    """The cells to draw of some rows."""

    grid: PartitionGrid
    """2D or 3D."""
    cells: Tensor
    """(n,) of that grid."""
    rows: Tensor
    """(n,) the source's row of each."""


class Subject:
    """A field on show, and the edit of it. Nothing on disk changes before `save`."""

    suffix = ".safetensors"
    """Of what `save` writes; empty for a folder."""
    scale = 1.0
    """Units of the page per unit of `to_space`."""
    outputs: tuple[str, ...] = ()
    """What can be shown instead of colour."""
    segments = 1
    """Pieces to draw an edge with."""
    floods = False
    """Whether a click can fill an object."""
    flood: Flood | None = None
    """What one has filled."""

    def __init__(
        self, field: CellTable, path: Path, precision: torch.dtype = torch.float32, box: BoxReader | None = None
    ) -> None:
        """
        Args:
            field: the source of all edits.
            path: where it comes from.
            precision: of the weights in the file.
            box: reads the numbers of a box; None where the host has a crop box of its own.
        """
        self.path, self.precision, self.read_box = path, precision, box
        self.lock = threading.RLock()
        """Held by every edit, so that two browsers do not edit at once. Never held while a picture is computed."""
        self.on_change: list[Callable[[], None]] = []
        """Called when another field is shown."""
        self.start(field)

    def start(self, field: CellTable) -> None:
        """Begin anew with a field."""
        self.selection = Selection(field)
        self.shown, self.flood = self.selection.current(), None

    def show(self) -> None:
        """Show what the selection's state says."""
        self.shown, self.flood = self.selection.current(), None
        for call in self.on_change:
            call()

    def refusal(self) -> str | None:
        """Why edits are refused now; None if they are not."""
        return None

    # -- drawing

    def drawn(self, rows: Tensor) -> Drawn:
        """The cells to draw of (P,) bool rows."""
        field = self.selection.field
        return Drawn(field.grid, field.cells.cpu()[rows], rows.nonzero()[:, 0])

    def to_space(self, points: Tensor) -> Tensor:
        """(n, d) points of the drawn grid -> (n, 3) float64 points to draw."""
        raise NotImplementedError

    def colors(self) -> dict[str, Callable[[], Tensor]]:
        """Name -> function that gives (P,) numbers to colour cells by."""
        return {"weights": self.weight_sizes}

    def weight_sizes(self) -> Tensor:
        """(P,) root mean square of each row's weights: what a cell adds to the shared part."""
        field = self.selection.field
        tables = [p.detach().flatten(1) for n, p in field.named_parameters() if n in field.row_names and p.numel()]
        squares = [table.square().mean(1).cpu() for table in tables]
        firsts = range(0, field.num_rows, ROWS)
        for name in (name for name in field.rows_elsewhere if field.state_dict()[name].numel()):
            some = [field.read_lines(name, first, min(first + ROWS, field.num_rows)) for first in firsts]
            squares.append(torch.cat([lines.square().mean(1) for lines in some]))
        return torch.stack(squares, dim=1).mean(1).sqrt()

    # -- picking

    def pick(self, origin: Tensor, direction: Tensor) -> int | None:
        """The cell seen along a ray of the page, given in (3,) units of `to_space`."""
        raise NotImplementedError

    def fill(self, origin: Tensor, direction: Tensor, least: float) -> None:
        """Fill the object seen along a ray of the page, given in (3,) units of `to_space`.

        Raises:
            ValueError: nothing is there.
        """
        raise NotImplementedError

    def within(self, pose: Pose, low: tuple[float, float], high: tuple[float, float]) -> Tensor:
        """(n,) kept cells whose middle is in a rectangle of the screen."""
        rows = self.selection.kept
        grid, cells, at = self.drawn(rows)
        hit = in_rectangle(self.to_space(grid.boxes(cells).mean(1)), pose, low, high)
        return self.selection.field.cells.cpu()[at[hit]]

    def box_region(self, text: str) -> Region:
        """The region of the crop box, from what is typed into the panel.

        Raises:
            ValueError: not the numbers of a box.
        """
        assert self.read_box is not None
        try:
            numbers = tuple(float(v) for v in text.replace(",", " ").split())
        except ValueError:
            raise ValueError(f"the box needs numbers with spaces between, got {text!r}") from None
        return self.read_box(numbers)

    def box_text(self) -> str:
        """The numbers of a box around all that is kept."""
        raise NotImplementedError

    def extent(self, cells: Tensor) -> list[tuple[str, Tensor]]:
        """Where (n,) cells are: unit and (2, d) box, in one or more units."""
        raise NotImplementedError

    # -- files

    def region_json(self) -> dict[str, Any]:
        """What is kept: the exact region where it alone says so, else the list of cells."""
        state, field = self.selection.state, self.selection.field
        if state.region is not None:
            rows = torch.zeros_like(state.kept)
            rows[field.rows_touching(state.region).cpu()] = True
            if torch.equal(rows, state.kept):
                # --region takes numbers in the units of the kind of signal unless it is told otherwise.
                units = {"units": "domain"} if isinstance(field.description, Signal) else {}
                return state.region.to_dict() | units
        others = [cell for cells in state.sets.values() for cell in cells.tolist()]
        return cells_to_dict(field.grid, sorted(self.selection.cells.tolist() + others))

    def free_path(self, suffix: str) -> Path:
        """A name beside the source that is not taken."""
        stem, number = self.path.name.removesuffix(".safetensors"), 1
        while True:
            path = self.path.with_name(f"{stem}-crop{'' if number == 1 else f'-{number}'}{suffix}")
            if not path.exists():
                return path
            number += 1

    def save(self, path: Path) -> list[Path]:
        """Write what is shown, and the region's JSON; returns the files.

        Raises:
            FileExistsError: one of them exists.
            OSError: the disk is full, or the folder cannot be written to.
        """
        return self.write(self.shown, path)

    def write(self, field: CellTable, path: Path) -> list[Path]:
        """Write a field, and the region's JSON; raises as `save` does."""
        beside = path.with_suffix(".region.json")
        refuse_existing(beside, overwrite=False)
        save(field, path, dtype=str(self.precision).removeprefix("torch."))  # type: ignore[arg-type]
        self.save_region(beside)
        return [path, beside]

    def save_region(self, path: Path) -> None:
        """Write the region's JSON.

        Raises:
            FileExistsError: the file exists.
        """
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps(self.region_json(), indent=1) + "\n")

    def mesh(self, resolution: int, progress: Callable[[int, int], None] | None = None) -> Mesh:
        """The surface of what is shown.

        Raises:
            ValueError: it has none.
        """
        raise ValueError("this has no surface: meshes are made of scenes, volumes and shapes")

    def save_mesh(self, path: Path, resolution: int, progress: Callable[[int, int], None]) -> Mesh:
        """Write the surface of what is shown.

        Raises:
            FileExistsError: the file exists.
        """
        refuse_existing(path, overwrite=False)
        surface = self.mesh(resolution, progress)
        write_mesh(surface, path)
        return surface


class SceneSubject(Subject, Rendered):
    """A radiance field with its scene."""

    outputs = OUTPUTS
    floods = True
    shown: RadianceField

    def __init__(
        self,
        field: RadianceField,
        scene: Scene,
        path: Path,
        precision: torch.dtype = torch.float32,
        box: BoxReader | None = None,
    ) -> None:
        """See `Subject`; `scene` has near, far, step and the way to world units."""
        self.scene = scene
        super().__init__(field, path, precision, box)

    @property
    def segments(self) -> int:  # type: ignore[override]
        """Edges of contracted cells are curves."""
        return CURVED_SEGMENTS if self.shown.sizes.contraction else 1

    def to_space(self, points: Tensor) -> Tensor:
        """(n, 3) points of the domain -> (n, 3) scene units, the horizon drawn at `HORIZON`."""
        return uncontract(points, HORIZON) if self.shown.sizes.contraction else points

    def colors(self) -> dict[str, Callable[[], Tensor]]:
        """Cells by their weights or by how full they are."""
        return super().colors() | {"occupancy": self.occupancy}

    def occupancy(self) -> Tensor:
        """(P,) part of each cell's voxels that hold something."""
        field = self.selection.field
        assert isinstance(field, RadianceField)
        return field.occupied.float().mean(1).cpu()

    def pick(self, origin: Tensor, direction: Tensor) -> int | None:
        """The cell in which a ray of scene units has met half of what it meets."""
        return first_cell(self.shown, self.scene, origin, direction)

    def fill(self, origin: Tensor, direction: Tensor, least: float) -> None:
        """Fill from where a ray of scene units has met half of what it meets."""
        point = first_point(self.shown, self.scene, origin, direction)
        if point is None:
            raise ValueError("nothing is there: no object was filled")
        flood = Flood(self.shown, point)
        flood.fill(least)
        self.flood = flood

    def save(self, path: Path) -> list[Path]:
        """Write what is shown, its voxels carrying the cut, and the region's JSON."""
        small = settled(self.shown)
        if small is not self.shown:  # as `crop_voxels` does
            assert isinstance(self.selection.field, RadianceField)
            small = noted(small, CROP, Held.by(self.selection.field))
        return self.write(small, path)

    def extent(self, cells: Tensor) -> list[tuple[str, Tensor]]:
        """The box around (n,) cells in scene units, and the one around that in world units."""
        box = bounds_of(self.selection.field, cells)
        matrix = torch.tensor(self.scene.scene_to_world, dtype=torch.float64)
        corners = torch.cartesian_prod(*box.T) @ matrix[:3, :3].T + matrix[:3, 3]
        return [("scene units", box), ("world units", torch.stack([corners.amin(0), corners.amax(0)]))]

    def box_text(self) -> str:
        """Corners of the box that would be meshed, scene units."""
        try:
            lower, upper = mesh_bounds(self.shown).box.tolist()
        except EmptyMeshError:  # no voxel is occupied
            lower, upper = bounds_of(self.shown, self.shown.cells).clamp(-HORIZON, HORIZON).tolist()
        return " ".join(f"{v:.3g}" for v in (*lower, *upper))

    def mesh(self, resolution: int, progress: Callable[[int, int], None] | None = None) -> Mesh:
        """The surface of the density shown, in scene units."""
        return radiance_mesh(self.shown, resolution, progress=progress)
