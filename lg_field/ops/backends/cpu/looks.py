"""Density and colour of samples from where they are: inputs, chain and shading, one after the other in one operation.

The three kernels hand their results to each other without autograd in between. Backward leaves out the points whose
samples have no gradient: those that nothing is seen of.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.ops.backends.cpu import encode, kernel, shade
from lg_field.ops.backends.cpu.encode import EncodeSizes
from lg_field.ops.sizes import ChainSizes

Points = tuple[Float[Tensor, "samples 3"], Int64[Tensor, " points"], Int64[Tensor, " edges"]]


def why_not(
    sizes: EncodeSizes,
    chain: ChainSizes,
    unit: Tensor,
    directions: Tensor,
    *tables: Tensor,
    shared: Mapping[str, Tensor],
) -> str | None:
    """Why the kernels cannot say what samples look like, in one line; None if they can.

    Args:
        sizes: what the chain's inputs consist of.
        chain: wiring.
        unit: unit coordinates of the samples.
        directions: of their rays.
        tables: weights of the rows, their grids, entries of the shared grid.
        shared: the shared part.
    """
    reason = shade.why_not(directions.new_empty(0, chain.out_features), directions)
    return reason or why_not_density(sizes, chain, unit, *tables, shared=shared)


def why_not_density(
    sizes: EncodeSizes, chain: ChainSizes, unit: Tensor, *tables: Tensor, shared: Mapping[str, Tensor]
) -> str | None:
    """Why the kernels cannot say how dense points are, in one line; None if they can. Arguments as in `why_not`."""
    if not chain.local_width:
        return "it takes chains with rows"
    reason = shade.why_not_these(unit) or encode.why_not(sizes, unit)  # the chain's knows of the tables
    return reason or kernel.why_not(chain, unit, *tables, *shared.values())


def look(
    points: Points,
    rays: tuple[Int64[Tensor, " samples"], Float[Tensor, "rays 3"]],
    corners: Float[Tensor, "rows 3"],
    tables: tuple[Tensor, Tensor, Tensor],
    shared: Mapping[str, Tensor],
    sizes: tuple[EncodeSizes, ChainSizes],
    bias: float,
    contracted: shade.Box | None = None,
) -> tuple[Float[Tensor, " samples"], Float[Tensor, "samples 3"], Float[Tensor, " samples"]]:
    """What samples look like; called only where `why_not` is None. Once differentiable, in tables and shared part.

    Args:
        points: (M, 3) unit coordinates; (n,) numbers of the samples that have a row, sorted by row; (P + 1,) first
            one of each row, then n.
        rays: (M,) ray of each sample, and (N, 3) directions, unit vectors.
        corners: as in `encode.encode`.
        tables: (P, K) weights of the rows, (P, nodes^3 grid_features) their grids, (E, level_features) entries of the
            shared grid, (0, 0) without one.
        shared: the tensors of `ChainSizes.shared_shapes`.
        sizes: of the inputs and of the chain.
        bias: added to the first output before exp.
        contracted: densities are per length of contracted space, in this box, and made those per length of the scene's.

    Returns:
        As `shade.shade`.
    """
    values = [shared[name] for name in sizes[1].shared_shapes()]
    density, rgb, dependence = _Look.apply(points, rays, corners, sizes, (bias, contracted), *tables, *values)
    return density, rgb, dependence


def density(
    points: Points,
    corners: Float[Tensor, "rows 3"],
    tables: tuple[Tensor, Tensor, Tensor],
    shared: Mapping[str, Tensor],
    sizes: tuple[EncodeSizes, ChainSizes],
    bias: float,
    contracted: shade.Box | None = None,
) -> Float[Tensor, " samples"]:
    """(M,) density of points, as `look` says it and whatever the chain's other outputs are; without gradients, called
    only where `why_not_density` is None. Arguments are those of `look`."""
    unit, order, offsets = points
    values = [shared[name] for name in sizes[1].shared_shapes()]
    found = unit.new_zeros(len(unit))
    filled, _kept = encode.task(
        sizes[0], unit, offsets, corners, {"grids": tables[1], "table": tables[2], "order": order}
    )
    taken, _too = shade.task(bias, {"order": order, "density": found, "unit": unit}, contracted)
    calls = {
        "fill": (encode.built().lg_field_encode_tile, filled),
        "take": (shade.built().lg_field_shade_density, taken),
    }
    tiles = kernel.Tiles(len(order), calls)
    kernel.run(None, None, offsets, tables[0], values, sizes[1], {}, tiles=tiles)
    return found


class _Look(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, points: Any, of_rays: Any, corners: Tensor, sizes: Any, how: Any, *tensors: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        unit, order, offsets = points
        rays, directions = of_rays
        local, grids, table, *shared = tensors
        density, rgb, dependence = shade.room(order, rays, unit)
        seen = {"order": order, "rays": rays, "directions": directions, "density": density, "rgb": rgb}
        filled, _kept = encode.task(sizes[0], unit, offsets, corners, {"grids": grids, "table": table, "order": order})
        taken, _too = shade.task(how[0], seen | {"dependence": dependence, "unit": unit}, how[1])
        calls = {
            "fill": (encode.built().lg_field_encode_tile, filled),
            "take": (shade.built().lg_field_shade_take, taken),
        }
        kernel.run(None, None, offsets, local, shared, sizes[1], {}, tiles=kernel.Tiles(len(order), calls))
        ctx.save_for_backward(unit, offsets, corners, *seen.values(), *tensors)
        ctx.sizes, ctx.bias = sizes, how[0]
        return density, rgb, dependence

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ddensity: Tensor, drgb: Tensor, ddependence: Tensor) -> tuple[Tensor | None, ...]:
        unit, offsets, corners, order, rays, directions, density, rgb, *tensors = ctx.saved_tensors
        grads = {"ddensity": ddensity.contiguous(), "drgb": drgb.contiguous(), "ddependence": ddependence.contiguous()}
        some = shade.with_gradient({"order": order} | grads)
        if len(some) < len(order):
            order, offsets = order[some], torch.searchsorted(some, offsets)
        seen = {"order": order, "rays": rays, "directions": directions, "density": density, "rgb": rgb}
        places = unit, offsets, corners, order
        return (None,) * 5 + _to_tables(ctx, places, tensors, shade.task(ctx.bias, seen | grads))


def _to_tables(
    ctx: Any, places: Any, tensors: list[Tensor], answered: tuple[shade.ShadeTask, dict[str, Tensor]]
) -> tuple[Tensor | None, ...]:
    """Gradients of tables and shared part from those of the looks of some points."""
    unit, offsets, corners, order = places
    inputs, chain = ctx.sizes
    local, grids, table, *shared = tensors
    wanted = [torch.empty(t.shape) if wants else None for t, wants in zip(tensors, ctx.needs_input_grad[5:])]
    for grad in (grad for grad in wanted[3:] if grad is not None):
        grad.zero_()  # the shared part's are added to, the tables' overwritten
    lines = inputs.local_learned, inputs.global_learned
    dx, dglobal_x = (unit.new_empty(len(order), sum(some)) for some in lines)
    filled, _kept = encode.task(inputs, unit, offsets, corners, {"grids": grids, "table": table, "order": order})
    calls = {
        "fill": (encode.built().lg_field_encode_tile, filled),
        "answer": (shade.built().lg_field_shade_answer, answered[0]),
    }
    grads = {"dx": dx, "dglobal_x": dglobal_x, "dtable": wanted[0]}
    kernel.run(
        *(None, None, offsets, local, shared, chain, grads, wanted[3:]), tiles=kernel.Tiles(len(order), calls, *lines)
    )
    learned = {"dlocal_x": dx, "dglobal_x": dglobal_x, "order": order}
    learned |= {name: t for name, t in (("dgrids", wanted[1]), ("dtable", wanted[2])) if t is not None and t.numel()}
    encode.run("lg_field_encode_back", inputs, unit, offsets, corners, learned)
    return tuple(wanted)
