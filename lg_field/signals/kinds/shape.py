"""Shapes: the inside of a mesh, or an array of booleans, as occupancy of voxels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor

from lg_field.networks import LocalGlobalNetwork
from lg_field.signals.arrays import ARRAYS, holds_booleans, is_array, load_array
from lg_field.signals.data import Samples
from lg_field.signals.features import volume_features
from lg_field.signals.kinds.base import Figures, Kind
from lg_field.signals.own_places import ShapePlaces
from lg_field.signals.settings import ShapeConfig, Weights
from lg_field.signals.shapes.extend import extend_shape
from lg_field.signals.shapes.mesh_file import MESHES
from lg_field.signals.shapes.occupancy import OccupancyData, from_array, read_shape
from lg_field.signals.signal import Signal


class Shape(ShapePlaces, Kind):
    """A solid body. Users give places in the units and pose of the mesh file."""

    reads = (*ARRAYS, *MESHES)
    fit = {"lr": 1.5e-3, "steps": 1500, "points": 50_000, "overlap": 1, "lr_factor": 0.03}
    surface = True
    threshold = 0.5
    up = "y"

    def counts(self, shape: Sequence[int]) -> tuple[int, ...]:
        """8 x 8 x 8 cells (paper, shapes), on very short axes one a voxel."""
        return tuple(min(8, n) for n in shape)

    def matches(self, path: Path) -> bool:
        """A mesh, or an array of booleans."""
        return path.suffix.lower() in MESHES or (is_array(path) and holds_booleans(path))

    def read(self, path: Path, options: ShapeConfig) -> OccupancyData:
        return from_array(load_array(path), str(path)) if is_array(path) else read_shape(path, options)

    def figures(self, signal: Signal) -> Figures:
        return OccupancyOverlap()

    def features(
        self, samples: Shaped[Tensor, "*shape channels"], signal: Signal, weights: Weights = "random"
    ) -> Float32[Tensor, " features"]:
        return volume_features(signal.normalize(samples), weights)

    def extend(
        self, field: LocalGlobalNetwork, target: Samples, at: Sequence[int] = ()
    ) -> tuple[LocalGlobalNetwork, Samples, Int64[Tensor, " fresh"]]:
        """See `extend_shape`."""
        if not isinstance(target, OccupancyData):
            raise ValueError(f"a shape is extended by a mesh or an array of booleans, not by {target.signal.kind}")
        larger, fresh = extend_shape(field, target)
        return larger, target, fresh


class OccupancyOverlap(Figures):
    """Intersection over union of the voxels inside."""

    def __init__(self) -> None:
        self.both = self.either = 0

    def add(self, decoded: Float[Tensor, "*values"], true: Float[Tensor, "*values"]) -> None:
        self.both += int(((decoded > 0.5) & (true > 0.5)).sum())
        self.either += int(((decoded > 0.5) | (true > 0.5)).sum())

    def result(self) -> dict[str, float]:
        return {"iou": self.both / max(1, self.either)}
