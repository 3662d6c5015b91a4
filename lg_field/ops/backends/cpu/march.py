"""Steps along rays that lie in occupied voxels, by one kernel (march.cpp)."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.ops.backends.cpu.native import as_they_lie, native, why_not_kernel

ABI = 3
"""`MARCH_ABI` of march.cpp."""
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Voxels:
    """Where the voxels are."""

    counts: tuple[int, int, int]
    """Cells per axis of the whole grid."""
    per_axis: int
    """Voxels per cell and axis."""
    lower: Triple
    """Lower corner of the box of unit coordinates."""
    upper: Triple
    """Its upper corner."""
    cells: Triple
    """Cells per axis in it."""
    shift: Triple
    """Cells per axis of the whole grid before it."""
    contraction: bool
    """Whether points are contracted first (mip-NeRF 360, eq. 10, with the max norm)."""


class MarchTask(ctypes.Structure):
    """`MarchTask` of march.cpp."""

    _fields_ = [
        *[(name, ctypes.c_int64) for name in ("rays", "count")],
        *[(name, ctypes.c_int32) for name in ("block", "contraction", "threads", "per_axis", "distances")],
        ("counts", ctypes.c_int32 * 3),
        *[(name, ctypes.c_float) for name in ("step", "linear")],
        *[(name, ctypes.c_float * 3) for name in ("lower", "upper", "cells", "shift")],
        *[(name, ctypes.c_void_p) for name in ("origins", "directions", "near", "far", "jitter")],
        *[(name, ctypes.c_void_p) for name in ("box", "voxels", "near_voxels")],
    ]


def why_not(*tensors: Tensor) -> str | None:
    """Why the kernel cannot march rays of these tensors, in one line; None if it can."""
    return why_not_kernel("march", ABI, MarchTask, *tensors)


def march_voxels(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    span: tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]],
    jitter: Float[Tensor, " rays"],
    step: float,
    count: int,
    where: Voxels,
    voxels: Bool[Tensor, " voxels"],
    linear: float | None = None,
    block: int = 1,
    near_voxels: Bool[Tensor, " voxels"] | None = None,
) -> tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]]:
    """The steps; called only where `why_not` is None.

    Args:
        rays: (N, 3) origins and (N, 3) unit directions.
        span: (N,) first and (N,) last marching coordinate.
        jitter: (N,) part of a step by which each ray's steps are shifted.
        step: length of a step, marching coordinates.
        count: steps of a ray at most.
        where: the voxels' places.
        voxels: whether each of the grid's voxels is occupied, row by row.
        linear: distance up to which marching coordinates are distances, if not everywhere.
        block: look at this many steps at a time first, in
        near_voxels: which are False only where no step within half a block is occupied.

    Returns:
        (M,) ray, (M,) first and (M,) last distance of each step.

    Raises:
        MemoryError: there is no room for them.
    """
    tensors = dict(zip(("near", "far"), span)) | {"jitter": jitter, "voxels": voxels}
    if near_voxels is not None:
        tensors["near_voxels"] = near_voxels
    task, _kept = march_task(rays, where, tensors)
    task.count, task.block, task.step, task.linear = count, block, step, linear or 0.0
    return _run(task)


def march_and_place(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    span: tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]],
    jitter: Float[Tensor, " rays"],
    step: float,
    where: Voxels,
    voxels: Bool[Tensor, " voxels"],
    places: Int64[Tensor, " voxels"],
    box: Float[Tensor, "2 3"] | None,
    linear: float | None = None,
    block: int = 1,
    near_voxels: Bool[Tensor, " voxels"] | None = None,
) -> tuple[Tensor, ...]:
    """`march_voxels` between distances, and `place` of the steps that are found.

    Args:
        span: (N,) first and (N,) last distance, scene units.
        box: scene-space corners that rays are clipped to; None: they are not.
        rays, jitter, step, where, voxels, linear, block, near_voxels: as in `march_voxels`.
        places: as in `place`.

    Returns:
        (M,) ray, (M,) first and (M,) last distance, (M, 3) unit coordinates and (M,) number of the voxel of each step.

    Raises:
        MemoryError: there is no room for them.
    """
    tensors = dict(zip(("near", "far"), span)) | {"jitter": jitter, "voxels": voxels, "places": places}
    tensors |= {name: t for name, t in (("near_voxels", near_voxels), ("box", box)) if t is not None}
    task, kept = march_task(rays, where, tensors)
    task.distances, task.block, task.step, task.linear = True, block, step, linear or 0.0
    found, total = _found(task)
    numbers, voxels_of = (torch.empty(total, dtype=torch.int64) for _ in range(2))
    starts, ends, unit = torch.empty(total), torch.empty(total), torch.empty(total, 3)
    room = [ctypes.c_void_p(t.data_ptr()) for t in (numbers, starts, ends, unit, voxels_of)]
    given = ctypes.c_void_p(kept["places"].data_ptr())
    _kernel().lg_field_march_take_places(ctypes.c_void_p(found), ctypes.byref(task), given, *room)
    return numbers, starts, ends, unit, voxels_of


def place(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    samples: tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]],
    where: Voxels,
    places: Int64[Tensor, " voxels"],
) -> tuple[Float[Tensor, "samples 3"], Int64[Tensor, " samples"]]:
    """Where the middles of steps are; called only where `why_not` is None.

    Args:
        rays: (N, 3) origins and (N, 3) unit directions.
        samples: of `march_voxels`.
        where: the voxels' places.
        places: a number for each of the grid's voxels, row by row.

    Returns:
        (M, 3) unit coordinates; (M,) number of the voxel of each.
    """
    task, kept = march_task(rays, where, dict(zip(("of", "starts", "ends", "places"), (*samples, places))))
    count = len(kept["of"])
    unit, voxels = torch.empty(count, 3), torch.empty(count, dtype=torch.int64)
    given = [ctypes.c_void_p(kept[name].data_ptr()) for name in ("of", "starts", "ends", "places")]
    room = [ctypes.c_void_p(t.data_ptr()) for t in (unit, voxels)]
    _kernel().lg_field_march_place(ctypes.byref(task), ctypes.c_int64(count), *given, *room)
    return unit, voxels


def find(
    points: Float[Tensor, "points 3"],
    where: Voxels,
    places: Int64[Tensor, " voxels"],
    occupied: Bool[Tensor, " voxels"] | None = None,
) -> tuple[Float[Tensor, "points 3"], Int64[Tensor, " points"]]:
    """Where scene points are; called only where `why_not` is None.

    Args:
        points: (n, 3) scene points.
        where: the voxels' places.
        places: a number for each of the grid's voxels, row by row.
        occupied: whether each of them is; None: all are.

    Returns:
        (n, 3) unit coordinates; (n,) number of each one's voxel, -1 outside of the grid and where it is not occupied.
    """
    voxels = {} if occupied is None else {"voxels": occupied}
    task, kept = march_task((points, points), where, voxels | {"places": places})
    unit, numbers = torch.empty(len(points), 3), torch.empty(len(points), dtype=torch.int64)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (kept["places"], unit, numbers)]
    _kernel().lg_field_march_find(ctypes.byref(task), *pointers)
    return unit, numbers


def march_task(
    rays: tuple[Tensor, Tensor], where: Voxels, others: dict[str, Tensor]
) -> tuple[MarchTask, dict[str, Tensor]]:
    """What to do, without its numbers, and the tensors that it points into."""
    kept = as_they_lie({"origins": rays[0], "directions": rays[1], **others})
    known = {field[0] for field in MarchTask._fields_}
    task = MarchTask(
        rays=len(rays[0]),
        contraction=where.contraction,
        threads=torch.get_num_threads(),
        per_axis=where.per_axis,
        counts=(ctypes.c_int32 * 3)(*where.counts),
        **{name: (ctypes.c_float * 3)(*getattr(where, name)) for name in ("lower", "upper", "cells", "shift")},
        **{name: t.data_ptr() for name, t in kept.items() if name in known},
    )
    return task, kept


def _kernel() -> ctypes.CDLL:
    built = native("march", ABI, ctypes.sizeof(MarchTask))
    assert isinstance(built, ctypes.CDLL)
    return built


def _found(task: MarchTask) -> tuple[int, int]:
    """March: where what was found is to be taken from, and how many steps that are."""
    built = _kernel()
    built.lg_field_march.restype = ctypes.c_void_p
    total = ctypes.c_int64()
    found = built.lg_field_march(ctypes.byref(task), ctypes.byref(total))
    if not found:
        raise MemoryError("marching rays found no memory for their steps")
    return found, total.value


def _run(task: MarchTask) -> tuple[Tensor, Tensor, Tensor]:
    """March, and take what was found."""
    found, total = _found(task)
    owners = torch.empty(total, dtype=torch.int64)
    starts, ends = torch.empty(total), torch.empty(total)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (owners, starts, ends)]
    _kernel().lg_field_march_take(ctypes.c_void_p(found), *pointers)
    return owners, starts, ends
