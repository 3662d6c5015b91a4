"""Samples of rays asked front to back, by one kernel (rounds.cpp) and those of what samples look like."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.ops.backends.cpu import encode, kernel, shade
from lg_field.ops.backends.cpu.encode import EncodeSizes
from lg_field.ops.backends.cpu.march import MarchTask, Voxels, march_task
from lg_field.ops.backends.cpu.native import native, why_not_kernel
from lg_field.ops.sizes import ChainSizes

ABI = 1
"""`ROUNDS_ABI` of rounds.cpp."""
Intervals = tuple[Int64[Tensor, " samples"], Float[Tensor, " samples"], Float[Tensor, " samples"]]
Asked = tuple[Int64[Tensor, " asked"], Float[Tensor, " asked"], Float[Tensor, " asked"]]
Looks = tuple[Float[Tensor, " asked"], Float[Tensor, "asked 3"], Float[Tensor, " asked"]]


class RoundsTask(ctypes.Structure):
    """`RoundsTask` of rounds.cpp."""

    _fields_ = [
        ("march", MarchTask),
        *[(name, ctypes.c_int64) for name in ("samples", "rows", "left")],
        *[(name, ctypes.c_int32) for name in ("voxels", "scaled")],
        ("limit", ctypes.c_double),
        *[(name, ctypes.c_void_p) for name in ("ray", "starts", "ends", "places")],
        *[(name, ctypes.c_void_p) for name in ("begins", "since", "next", "going", "passed")],
        *[(name, ctypes.c_void_p) for name in ("unit", "row", "density", "rgb", "dependence", "order", "offsets")],
    ]


def why_not(*tensors: Tensor) -> str | None:
    """Why the kernel cannot ask rays of these tensors in rounds, in one line; None if it can."""
    return why_not_kernel("rounds", ABI, RoundsTask, *tensors)


def look_in_rounds(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    samples: Intervals,
    where: tuple[Voxels, Int64[Tensor, " voxels"], Float[Tensor, "rows 3"]],
    tables: tuple[Tensor, Tensor, Tensor],
    shared: Mapping[str, Tensor],
    sizes: tuple[EncodeSizes, ChainSizes],
    bias: float,
    rounds: tuple[Iterable[int], float],
    scaled: bool = False,
) -> tuple[Asked, Looks]:
    """What samples look like, as far as light gets along their rays. Called only where `why_not` and `looks.why_not`
    are None, without gradients.

    Args:
        rays: (N, 3) origins and (N, 3) directions, unit vectors.
        samples: (M,) sorted ray, (M,) first and (M,) last distance of each sample.
        where: the voxels' places; the number in its rows' voxels of each of the grid's voxels, row by row, -1 where no
            row has it; (P, 3) corners as in `encode.encode`.
        tables, shared, sizes, bias: as in `looks.look`.
        rounds: samples of each ray that are asked about in each round; the optical thickness at which a ray ends.
        scaled: densities are per length of contracted space, and made those per length of the scene's.

    Returns:
        The n samples asked about, and their (n,) density, (n, 3) colours and (n,) view dependence: of those that no row
        has 0, 0.5 and 0.
    """
    voxels, places, corners = where
    task, kept = _task(rays, samples, voxels, places, len(corners))
    task.scaled, task.limit = scaled, rounds[1]
    values, built = [shared[name] for name in sizes[1].shared_shapes()], _kernel()
    built.lg_field_rounds_begin(ctypes.byref(task))
    seen = {"rays": kept["ray"], "directions": rays[1]} | {n: kept[n] for n in ("density", "rgb", "dependence")}
    for most in itertools.chain(rounds[0], (0,)):  # the last one looks at what was said in the one before
        count = built.lg_field_rounds_next(ctypes.byref(task), ctypes.c_int64(most))
        if not task.left:
            break
        if not count:
            continue
        order = {"order": kept["order"][:count]}
        tables_read = {"grids": tables[1], "table": tables[2]} | order
        filled, _read = encode.task(sizes[0], kept["unit"], kept["offsets"], corners, tables_read)
        taken, _seen = shade.task(bias, seen | order)
        calls = {
            "fill": (encode.built().lg_field_encode_tile, filled),
            "take": (shade.built().lg_field_shade_take, taken),
        }
        kernel.run(None, None, kept["offsets"], tables[0], values, sizes[1], {}, tiles=kernel.Tiles(count, calls))
    return _asked(task, kept)


def _task(
    rays: tuple[Tensor, Tensor], samples: Intervals, voxels: Voxels, places: Tensor, rows: int
) -> tuple[RoundsTask, dict[str, Tensor]]:
    """What to do, and the tensors that it points into."""
    of_rays, kept = march_task(rays, voxels, dict(zip(("ray", "starts", "ends"), samples)) | {"places": places})
    count, num_rays = len(samples[0]), len(rays[0])
    whole = {"begins": num_rays + 1, "since": num_rays, "next": num_rays, "going": num_rays}
    whole |= {"order": count, "offsets": rows + 1}
    kept |= {name: torch.empty(size, dtype=torch.int64) for name, size in whole.items()}
    kept |= {name: torch.empty(count) for name in ("density", "dependence")}
    kept |= {name: torch.empty(count, 3) for name in ("unit", "rgb")}
    kept |= {"passed": torch.empty(num_rays, dtype=torch.float64), "row": torch.empty(count, dtype=torch.int32)}
    known = {field[0] for field in RoundsTask._fields_}
    pointers = {name: t.data_ptr() for name, t in kept.items() if name in known}
    return RoundsTask(march=of_rays, samples=count, rows=rows, voxels=voxels.per_axis**3, **pointers), kept


def _asked(task: RoundsTask, kept: dict[str, Tensor]) -> tuple[Asked, Looks]:
    """The samples asked about, and what was said of them."""
    built, names = _kernel(), ("ray", "starts", "ends", "density", "rgb", "dependence")
    count = built.lg_field_rounds_asked(ctypes.byref(task))
    found = [kept[name] for name in names]
    if count < task.samples:
        found = [t.new_empty(count, *t.shape[1:]) for t in found]
        built.lg_field_rounds_take(ctypes.byref(task), *[ctypes.c_void_p(t.data_ptr()) for t in found])
    return (found[0], found[1], found[2]), (found[3], found[4], found[5])


def _kernel() -> ctypes.CDLL:
    built = native("rounds", ABI, ctypes.sizeof(RoundsTask))
    assert isinstance(built, ctypes.CDLL)
    built.lg_field_rounds_next.restype = built.lg_field_rounds_asked.restype = ctypes.c_int64
    return built
