"""Similarities of 3D space (scale, rotation, shift)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, Float64

from lg_field.arrays import Tensor, torch


@dataclass(frozen=True)
class Similarity:
    """p -> turn p + shift, where turn is `scale` times a rotation (or a reflection)."""

    turn: Tensor
    """(3, 3) float64."""
    shift: Tensor
    """(3,) float64."""
    scale: float
    """Positive: lengths grow by this factor."""

    @staticmethod
    def of_matrix(matrix: Float[Tensor, "4 4"]) -> Similarity:
        """From a homogeneous matrix, e.g. from world to scene units.

        Raises:
            ValueError: a matrix that is no similarity.
        """
        turn, shift = matrix[:3, :3].double(), matrix[:3, 3].double()
        scale = float(torch.linalg.det(turn).abs() ** (1 / 3))
        eye = torch.eye(3, dtype=torch.float64, device=turn.device)
        if not scale > 0 or not torch.allclose(turn @ turn.T / scale**2, eye, atol=1e-3):
            raise ValueError(f"a similarity is a scaled rotation and a shift, got the matrix {matrix.tolist()}")
        return Similarity(turn, shift, scale)

    @staticmethod
    def placing(move: Sequence[float], turn: Sequence[float], scale: float) -> Similarity:
        """Scaled, then turned, then moved.

        Args:
            move: (3,) shift.
            turn: (3,) degrees about the x, then the y, then the z axis, which stay where they are.
            scale: positive factor.
        """
        (cx, cy, cz), (sx, sy, sz) = ([f(math.radians(v)) for v in turn] for f in (_cos, _sin))
        x = torch.tensor([[1, 0, 0], [0, cx, -sx], [0, sx, cx]], dtype=torch.float64)
        y = torch.tensor([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]], dtype=torch.float64)
        z = torch.tensor([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]], dtype=torch.float64)
        return Similarity(scale * (z @ y @ x), torch.tensor(move, dtype=torch.float64), float(scale))

    def matrix(self) -> Float64[Tensor, "4 4"]:
        """The homogeneous matrix."""
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3], matrix[:3, 3] = self.turn, self.shift
        return matrix

    def inverse(self) -> Similarity:
        """The way back."""
        turn = self.turn.T / self.scale**2
        return Similarity(turn, -(turn @ self.shift), 1.0 / self.scale)

    def points(self, points: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Where points go; computed in float64, of the points' type."""
        moved = points.double() @ self.turn.T.to(points.device) + self.shift.to(points.device)
        return moved.to(points.dtype)

    def directions(self, directions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3"]:
        """Where directions point afterwards; their lengths stay."""
        turned = directions.double() @ (self.turn.T / self.scale).to(directions.device)
        return turned.to(directions.dtype)

    def boxes(self, boxes: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n 2 3"]:
        """Axis-aligned boxes around where axis-aligned boxes go; sides may be infinite."""
        turn, shift = self.turn.to(boxes.device), self.shift.to(boxes.device)
        ends = turn * boxes.double()[:, :, None]
        ends = torch.where(turn == 0, 0.0, ends)
        around = torch.stack([ends.amin(1).sum(-1), ends.amax(1).sum(-1)], dim=1) + shift
        return around.to(boxes.dtype)

    def point(self, point: Sequence[float]) -> tuple[float, ...]:
        """(3,) where the point (3,) goes."""
        return tuple((self.turn @ torch.tensor(point, dtype=torch.float64) + self.shift).tolist())


def _cos(angle: float) -> float:
    """The cosine, exact at quarters of a turn."""
    return _sin(angle + math.pi / 2)


def _sin(angle: float) -> float:
    """The sine, exact at quarters of a turn."""
    quarters = angle / (math.pi / 2)
    if abs(quarters - round(quarters)) < 1e-12:
        return (0.0, 1.0, 0.0, -1.0)[round(quarters) % 4]
    return math.sin(angle)
