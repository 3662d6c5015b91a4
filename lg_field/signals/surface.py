"""The surface of an encoded shape or volume as a mesh, in the units and pose of what was encoded."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64
from torch import Tensor

from lg_field.memory import check_memory
from lg_field.meshing.bounds import common, hull, region_bounds
from lg_field.meshing.mesh import EmptyMeshError, Mesh, marching_cubes, touching
from lg_field.meshing.tools import otsu
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.decode import signal_of
from lg_field.signals.signal import Signal

CHUNK = 1 << 14
LOOKED_AT = 64**3
"""Values that a threshold is found from, about."""
EDGE = 1e-3
"""A default threshold stays this part of the range of values away from its ends."""


def default_threshold(field: LocalGlobalNetwork) -> float:
    """In sample values: half full for shapes; for volumes Otsu's between dark and bright of the samples that are kept,
    or the middle of the range where these are all alike.

    Raises:
        ValueError: neither a shape nor a volume.
    """
    signal = signal_of(field)
    kind = signal.traits
    if not kind.surface:
        raise ValueError(f"an encoded {kind.name} has no surface; mesh takes shapes, volumes and scenes")
    if kind.threshold is not None:
        return kind.threshold
    values = kept_values(field)
    low, high = signal.value_range
    level = otsu(values.numpy()) if len(values) and values.min() < values.max() else 0.5 * (low + high)
    return min(max(level, low + EDGE * (high - low)), high - EDGE * (high - low))


@torch.no_grad()
def kept_values(field: LocalGlobalNetwork) -> Float32[Tensor, " n"]:
    """Values of the samples that a field keeps, in the signal's units: of at most about `LOOKED_AT` of them, evenly
    spread over the box around what is kept."""
    signal, bounds = signal_of(field), kept_bounds(field)
    low, high = np.floor(bounds[0] + 1e-6), np.ceil(bounds[1] - 1e-6)
    step = max(1.0, (float((high - low).prod()) / LOOKED_AT) ** (1 / 3))
    axes = []
    for axis, (first, last) in enumerate(zip(low.tolist(), high.tolist())):
        at = torch.arange(first + 0.5 * (step - 1.0), last, step, dtype=torch.float64)
        axes.append(signal.coordinates(field.grid, axis, at if len(at) else torch.tensor([first]).double()))
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, 3).to(field.cells.device)
    kept = field.locate_rows(points) >= 0
    if field.region is not None:
        kept &= field.region.contains(points)
    if not bool(kept.any()):
        return torch.zeros(0)
    values = field(points[kept], chunk=CHUNK)[:, 0].cpu()
    low_value, high_value = signal.value_range
    return (values + 1.0) * (0.5 * (high_value - low_value)) + low_value


def signal_mesh(
    field: LocalGlobalNetwork,
    resolution: int,
    threshold: float | None = None,
    *,
    exact: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Mesh:
    """Mesh the surface of a shape or a volume.

    Args:
        field: what a crop removed is empty, so the cut is closed.
        resolution: voxels along the longest side of what is kept.
        threshold: sample value of the surface; None = `default_threshold`.
        exact: evaluate every node of the kept cells, not only those near the surface (see `narrow_band`).
        progress: called with parts done and parts in all, in three passes.

    Returns:
        Mesh in the units of the mesh file; of volumes in samples.

    Raises:
        ValueError: a threshold outside the values' range.
        EmptyMeshError: no value reaches the threshold.
    """
    signal, device = signal_of(field), field.cells.device
    level = default_threshold(field) if threshold is None else threshold
    low, high = signal.value_range
    if not low < level < high:
        raise ValueError(f"threshold {level:g} is outside the range of values, {low:g} to {high:g}")
    lower, upper = kept_bounds(field)
    _check_resolution((upper - lower) / (upper - lower).max() * resolution, resolution)
    to_domain = [
        (field.grid.lower[k], (field.grid.upper[k] - field.grid.lower[k]) / n) for k, n in enumerate(signal.shape)
    ]

    def values(points: Tensor) -> Tensor:
        x = torch.stack([start + points[:, k] * unit for k, (start, unit) in enumerate(to_domain)], dim=-1)
        return (field(x.to(device), chunk=CHUNK)[:, 0] * 0.5 + 0.5).clamp_min(0.0).cpu()

    whole = np.array_equal(lower, np.zeros(3)) and np.array_equal(upper, signal.shape)
    ends, share = (tuple(lower.tolist()), tuple(upper.tolist())), (level - low) / (high - low)

    def surface(band: bool) -> Mesh:
        active = None if band else lambda boxes: touching(boxes, kept_boxes(field))  # the band finds them itself
        more: dict[str, Any] = {"cuts": not whole, "progress": progress}
        return marching_cubes(values, *ends, resolution, share, active=active, band=band, **more)

    try:
        mesh = surface(not exact)
    except EmptyMeshError:
        if exact:
            raise
        mesh = surface(False)  # a sheet may lie between all nodes that the band begins with
    return mesh.transformed(signal.to_world().numpy())


def _check_resolution(voxels: np.ndarray, resolution: int) -> None:
    """Raise ValueError before starting on a mesh of (3,) voxels per axis that memory does not hold."""
    check_memory(
        memory_needed(tuple(voxels.tolist())),
        f"a mesh of {' x '.join(f'{v:.0f}' for v in voxels)} voxels",
        f"use a --resolution below {resolution}, or mesh one --box at a time",
    )


def memory_needed(voxels: tuple[float, float, float]) -> int:
    """Bytes, about, that meshing takes at most with so many voxels per axis."""
    return int(math.prod(voxels) / 6 + 1200 * max(1.0, *voxels) ** 2) + 400_000_000


def kept_bounds(field: LocalGlobalNetwork) -> np.ndarray:
    """(2, 3) box around the kept and the full cells, cut to the exact region of a crop; samples."""
    limits = _to_samples(region_bounds(field.region, field.grid.dim), signal_of(field), field.grid)
    return common(hull(kept_boxes(field)), limits).numpy()


def kept_boxes(field: LocalGlobalNetwork) -> Float64[Tensor, "n 2 3"]:
    """(n, 2, 3) float64 boxes of the kept and the full cells, in samples."""
    cells = field.cells if field.full is None else torch.cat([field.cells, field.full])
    return _to_samples(field.grid.boxes(cells.cpu()), signal_of(field), field.grid)


def _to_samples(points: Tensor, signal: Signal, grid: Any) -> Tensor:
    lower = torch.tensor(grid.lower, dtype=points.dtype)
    size = torch.tensor(grid.upper, dtype=points.dtype) - lower
    return (points - lower) / size * torch.tensor(signal.shape, dtype=points.dtype)
