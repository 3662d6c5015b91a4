"""Steps along rays that lie in occupied voxels, by a Triton kernel (march_kernel.py)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.constants import constant
from lg_field.ops.backends.cpu.march import Voxels
from lg_field.ops.backends.triton.runtime import launch, why_not_these


class Lattice(NamedTuple):
    """What the kernel knows of the voxels when it is compiled; see `Voxels`."""

    count_x: int
    count_y: int
    count_z: int
    per_axis: int
    contraction: bool
    linear: bool
    """Whether marching coordinates are disparities far out."""


def why_not(*tensors: Tensor) -> str | None:
    """Why the kernel cannot march rays of these tensors, in one line; None if it can."""
    return why_not_these(*tensors)


def march_voxels(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    span: tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]],
    jitter: Float[Tensor, " rays"],
    step: float,
    where: Voxels,
    voxels: Bool[Tensor, " voxels"],
    linear: float | None = None,
) -> tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """The steps; called only where `why_not` is None. Waits once for the device: how many there are says their memory.

    Args:
        rays: (N, 3) origins and (N, 3) unit directions.
        span: (N,) first and (N,) last marching coordinate.
        jitter: (N,) part of a step by which each ray's steps are shifted.
        step: length of a step, marching coordinates.
        where: the voxels' places.
        voxels: whether each of the grid's voxels is occupied, row by row.
        linear: distance up to which marching coordinates are distances, if not everywhere.

    Returns:
        (M,) ray, (M,) first and (M,) last distance of each step.
    """
    device, count = voxels.device, len(jitter)
    width = (high - low for low, high in zip(where.lower, where.upper))
    geometry = constant((*where.lower, *width, *where.cells, *where.shift), jitter)
    given = [t.detach().contiguous() for t in (*rays, *span, jitter)]
    given += [geometry, voxels.contiguous().view(torch.uint8)]
    lattice = Lattice(*where.counts, where.per_axis, where.contraction, linear is not None)
    counts = torch.zeros(count, dtype=torch.int64, device=device)
    constants = float(step), float(linear or 0.0)

    def look(put: bool, *outputs: Tensor) -> None:
        launch("march_kernel", "march", count, *given, *outputs, *constants, PUT=put, V=lattice, num_warps=2)

    look(False, counts, counts, counts, given[2], given[2])
    after = counts.cumsum(0)
    total = int(after[-1]) if count else 0
    owners = torch.empty(total, dtype=torch.int64, device=device)
    starts, ends = (torch.empty(total, device=device) for _ in range(2))
    look(True, counts, after - counts, owners, starts, ends)
    return owners, starts, ends
