"""Balls."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lg_field.arrays import Array, Tensor, like, namespace, torch
from lg_field.space.regions.base import Region, corners, finite
from lg_field.space.regions.similarity import Similarity


@dataclass(frozen=True)
class Sphere(Region, kind="sphere"):
    """A closed ball, of any dimension."""

    center: tuple[float, ...]
    radius: float

    def __post_init__(self) -> None:
        numbers = (*self.center, self.radius)
        if not self.center or not all(map(math.isfinite, numbers)) or not self.radius > 0:
            raise ValueError(f"a sphere needs a finite center and a positive radius, got {self.center}, {self.radius}")

    @property
    def dim(self) -> int:
        return len(self.center)

    @property
    def noun(self) -> str:
        return "a sphere"

    def _contains(self, points: Array) -> Array:
        away = points - like(points, self.center)
        return namespace(points).linalg.norm(away, axis=-1) <= self.radius

    def _touches(self, boxes: Array) -> Array:
        xp, center = namespace(boxes), like(boxes, self.center)
        return self._contains(xp.minimum(xp.maximum(center, boxes[:, 0]), boxes[:, 1]))

    def _covers(self, boxes: Array) -> Array:
        return self._contains(corners(boxes)).all(1)

    def bounds(self) -> Tensor:
        center = torch.tensor(self.center, dtype=torch.float64)
        return torch.stack([center - self.radius, center + self.radius])

    def moved(self, by: Similarity) -> Region:
        return Sphere(by.point(self.center), self.radius * by.scale) if self.dim == 3 else super().moved(by)

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.kind, "center": list(self.center), "radius": self.radius}

    @classmethod
    def from_dict(cls, data: dict[str, Any], levels: int) -> Sphere:
        return cls(finite(data["center"]), finite([data["radius"]])[0])
