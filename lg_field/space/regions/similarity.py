"""Similarities of 3D space (scale, rotation, shift)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


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

    def point(self, point: Sequence[float]) -> tuple[float, ...]:
        """(3,) where the point (3,) goes."""
        return tuple((self.turn @ torch.tensor(point, dtype=torch.float64) + self.shift).tolist())
