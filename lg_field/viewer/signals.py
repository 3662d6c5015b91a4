"""Images, sounds, videos and volumes on show: where their cells are, and what a click means."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lg_field.meshing.mesh import Mesh
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.decode import decode, signal_of
from lg_field.signals.signal import Signal
from lg_field.signals.surface import default_threshold, signal_mesh
from lg_field.space.partition import PartitionGrid
from lg_field.viewer.selection import bounds_of
from lg_field.viewer.subject import BoxReader, Drawn, Subject

WAVE_HEIGHT = 0.3
"""Height of a drawn sound, of its width."""
LIFT = 2e-3
"""Cells are drawn this far above a picture."""
STEPS = 512
"""Samples along a ray that looks for a surface."""


class SignalSubject(Subject):
    """An encoded signal: pictures, sounds and frames lie in the plane z = 0, volumes around the origin; size 1."""

    shown: LocalGlobalNetwork

    def __init__(
        self,
        field: LocalGlobalNetwork,
        path: Path,
        precision: torch.dtype = torch.float32,
        box: BoxReader | None = None,
    ) -> None:
        """See `Subject`."""
        self.signal: Signal = signal_of(field)
        self.frame = 0
        """The frame of a video that is on show."""
        self._level: float | None = None
        super().__init__(field, path, precision, box)

    @property
    def flat(self) -> bool:
        """Whether it lies in a plane."""
        return self.signal.traits.flat

    @property
    def wavy(self) -> bool:
        """Whether it is drawn as a wave: it has one axis."""
        return self.flat and len(self.signal.shape) == 1

    @property
    def frames(self) -> int:
        """Pictures of which one is on show; 0 where there is no choice."""
        return self.signal.shape[0] if self.flat and len(self.signal.shape) == 3 else 0

    @property
    def size(self) -> tuple[float, ...]:
        """Extent in the space drawn: x, y and for volumes z."""
        if self.wavy:
            return 1.0, WAVE_HEIGHT
        shape = self.signal.shape[::-1][:2] if self.flat else self.signal.shape
        return tuple(n / max(shape) for n in shape)

    def drawn(self, rows: Tensor) -> Drawn:
        grid, cells, at = super().drawn(rows)
        if self.wavy:
            return Drawn(PartitionGrid((1, *grid.counts), (0.0, *grid.lower), (1.0, *grid.upper)), cells, at)
        if self.frames:
            plane = PartitionGrid(grid.counts[1:], grid.lower[1:], grid.upper[1:])
            index = grid.unravel(cells)
            here = index[:, 0] == int(self.signal.cell_index(grid, 0, self.frame, self.frame + 1))
            return Drawn(plane, plane.ravel(index[here][:, 1:]), at[here])
        return Drawn(grid, cells, at)

    def to_space(self, points: Tensor) -> Tensor:
        grid = self.drawn(torch.zeros_like(self.selection.kept)).grid
        lower, upper = (torch.tensor(v, dtype=torch.float64) for v in (grid.lower, grid.upper))
        middle = (points - lower) / (upper - lower) - 0.5
        size = torch.tensor(self.size, dtype=torch.float64)
        if not self.flat:
            return middle * size
        y, x = middle.unbind(-1)
        return torch.stack([x * size[0], -y * size[1], torch.full_like(x, LIFT)], dim=-1)

    def to_domain(self, space: Tensor) -> Tensor:
        """(n, 3) points drawn -> (n, d) points of the field's domain; of the frame on show."""
        grid, size = self.selection.field.grid, torch.tensor(self.size, dtype=space.dtype)
        unit = space[:, : len(size)] / size * (1.0 if not self.flat else torch.tensor([1.0, -1.0])) + 0.5
        if self.wavy:
            unit = torch.where(((unit[:, 1] >= 0) & (unit[:, 1] <= 1))[:, None], unit[:, :1], torch.nan)
        elif self.flat:
            unit = unit.flip(1)
        if self.frames:
            time = torch.full_like(unit[:, :1], (self.frame + 0.5) / self.signal.shape[0])
            unit = torch.cat([time, unit], dim=1)
        lower, upper = (torch.tensor(v, dtype=space.dtype) for v in (grid.lower, grid.upper))
        return lower + unit * (upper - lower)

    # -- picking

    def pick(self, origin: Tensor, direction: Tensor) -> int | None:
        shown = self.shown
        if self.flat:
            if abs(float(direction[2])) < 1e-9:
                return None
            points = self.to_domain((origin - origin[2] / direction[2] * direction)[None])
        else:
            distance = float(origin.norm())
            steps = torch.linspace(max(0.0, distance - 1.0), distance + 1.0, STEPS, dtype=torch.float64)
            points = self.to_domain(origin + steps[:, None] * direction)
        points = points.float().to(shown.cells.device)
        seen = shown.locate_rows(points) >= 0
        if not self.flat:
            with torch.no_grad():
                seen &= shown(points)[:, 0] >= self.level()
        hits = seen.nonzero()[:, 0]
        return int(shown.grid.locate(points[hits[0]])) if len(hits) else None

    def extent(self, cells: Tensor) -> list[tuple[str, Tensor]]:
        grid, signal = self.selection.field.grid, self.signal
        lower, upper = (torch.tensor(v, dtype=torch.float64) for v in (grid.lower, grid.upper))
        box = (bounds_of(self.selection.field, cells) - lower) / (upper - lower)
        box = box * torch.tensor(signal.shape, dtype=torch.float64)
        corners = [signal.traits.from_samples(signal, corner) for corner in box.tolist()]
        return [(signal.traits.units, torch.tensor(corners, dtype=torch.float64))]

    def box_text(self) -> str:
        box = self.extent(self.selection.cells)[0][1]
        return " ".join(f"{v:.4g}" for v in box.flatten().tolist())

    # -- what is seen

    def picture(self, largest: int) -> np.ndarray:
        """(h, w, 3) uint8 of an image or the frame on show, at most so large on its longer side."""
        shape = self.signal.shape[-2:]
        box = None
        if self.frames:
            box = ((float(self.frame), 0.0, 0.0), (self.frame + 1.0, *map(float, shape)))
        slabs = decode(self.shown, min(1.0, largest / max(shape)), box, raw=True)
        values = torch.cat(list(slabs)).float().reshape(-1, *self._decoded(largest), self.signal.channels)[0]
        values = values[..., :3] if self.signal.channels >= 3 else values[..., :1].expand(-1, -1, 3)
        return ((values.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).numpy()

    def _decoded(self, largest: int) -> tuple[int, ...]:
        shape = self.signal.shape[-2:]
        scale = min(1.0, largest / max(shape))
        return tuple(max(1, round(n * scale)) for n in shape)

    def wave(self, width: int) -> np.ndarray:
        """(h, width, 3) uint8: lowest and highest value of a sound per column."""
        count = self.signal.shape[0]
        slabs = decode(self.shown, min(1.0, 256 * width / count), raw=True)
        values = torch.cat([s.float().mean(-1) for s in slabs])
        height = max(2, int(width * WAVE_HEIGHT))
        edges = torch.linspace(0, len(values), width + 1).long()
        image = np.full((height, width, 3), 16, np.uint8)
        for k, (a, b) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist())):
            part = values[a : max(b, a + 1)].clamp(-1, 1)
            top, bottom = ((1 - float(v)) / 2 * (height - 1) for v in (part.max(), part.min()))
            image[math.floor(top) : math.floor(bottom) + 1, k] = (90, 200, 255)
        return image

    def mesh(self, resolution: int, progress: Callable[[int, int], None] | None = None) -> Mesh:
        return super().mesh(resolution) if self.flat else signal_mesh(self.shown, resolution, progress=progress)

    def level(self) -> float:
        """Network value of a surface."""
        if self._level is None:
            low, high = self.signal.value_range
            whole: Any = self.selection.field
            self._level = 2.0 * (default_threshold(whole) - low) / (high - low) - 1.0
        return self._level


def kept_picture(whole: LocalGlobalNetwork, part: LocalGlobalNetwork, largest: int) -> np.ndarray:
    """(h, w, 3) uint8: a flat signal, pale where a crop of it shows something else, and below or beside it the crop.

    Args:
        whole: a picture, a sound or a video, of which the frame in the middle of what is kept is shown.
        part: a crop of it.
        largest: pixels of the longer side of each.

    Raises:
        ValueError: a signal that does not lie in a plane.
    """
    subjects = [SignalSubject(field, Path()) for field in (whole, part)]
    first = subjects[0]
    if not first.flat:
        raise ValueError(f"--report shows scenes, pictures, sounds and videos; of a {first.signal.kind} make a mesh")
    if first.frames:
        low, high = part.grid.lower[0], part.grid.upper[0]
        middle = (float(bounds_of(part, part.cells)[:, 0].mean()) - low) / (high - low)
        for subject in subjects:
            subject.frame = min(first.frames - 1, int(middle * first.frames))
    before, after = (s.wave(largest) if s.wavy else s.picture(largest) for s in subjects)
    gone = (before != after).any(-1, keepdims=True)
    pale = 0.35 * before.mean(-1, keepdims=True) + 0.55 * 255.0
    shown = np.where(gone, pale, before).round().astype(np.uint8)
    return np.concatenate([shown, after], axis=0 if first.wavy else 1)
