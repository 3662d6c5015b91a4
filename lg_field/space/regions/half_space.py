"""Half spaces: one side of a plane."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lg_field.arrays import Array, Tensor, like, namespace, torch
from lg_field.space.regions.base import Region, finite
from lg_field.space.regions.similarity import Similarity


@dataclass(frozen=True)
class HalfSpace(Region, kind="half_space"):
    """The points p with `normal . p + offset >= 0`, of any dimension."""

    normal: tuple[float, ...]
    """Not zero; of any length."""
    offset: float

    def __post_init__(self) -> None:
        if not self.normal or not all(map(math.isfinite, (*self.normal, self.offset))) or not any(self.normal):
            raise ValueError(
                f"a half space needs a normal that is not zero and a finite offset, got {self.normal}, {self.offset}"
            )

    @property
    def dim(self) -> int:
        return len(self.normal)

    @property
    def noun(self) -> str:
        return "a half space"

    def _contains(self, points: Array) -> Array:
        return points @ like(points, self.normal) + self.offset >= 0

    def _touches(self, boxes: Array) -> Array:
        return self._contains(self._extreme(boxes, 1))

    def _covers(self, boxes: Array) -> Array:
        return self._contains(self._extreme(boxes, 0))

    def _extreme(self, boxes: Array, end: int) -> Array:
        """(n, d) corner of each box that lies farthest along the normal (end 1) or against it (end 0)."""
        ahead = like(boxes, self.normal) >= 0
        return namespace(boxes).where(ahead, boxes[:, end], boxes[:, 1 - end])

    def bounds(self) -> Tensor:
        bounds = super().bounds()
        axes = [axis for axis, n in enumerate(self.normal) if n]
        if len(axes) == 1:
            (axis,) = axes
            bounds[0 if self.normal[axis] > 0 else 1, axis] = -self.offset / self.normal[axis]
        return bounds

    def moved(self, by: Similarity) -> Region:
        if self.dim != 3:
            return super().moved(by)
        normal = (by.turn @ torch.tensor(self.normal, dtype=torch.float64)) / by.scale
        return HalfSpace(tuple(normal.tolist()), self.offset * by.scale - float(normal @ by.shift))

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.kind, "normal": list(self.normal), "offset": self.offset}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> HalfSpace:
        return cls(finite(data["normal"]), finite([data["offset"]])[0])
