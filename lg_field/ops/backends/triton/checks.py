"""The self-check of the kernels: small inputs, compared with plain torch in float64 where the kernels are to run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lg_field.ops.backends.cpu.encode import EncodeSizes
from lg_field.ops.backends.cpu.march import Voxels
from lg_field.ops.backends.reference import reference_chain
from lg_field.ops.backends.triton.chain import triton_chain
from lg_field.ops.backends.triton.encode import encode
from lg_field.ops.backends.triton.march import march_voxels
from lg_field.ops.backends.triton.shade import composite, shade
from lg_field.ops.sizes import ChainSizes

TOLERANCE = 1e-2
"""Of a difference relative to the largest value: what TF32 loses is below, a fault is above."""


def random(device: torch.device, *shapes: tuple[int, ...]) -> list[Tensor]:
    """Normal numbers in float64, the same ones each time."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(device) for shape in shapes]


def worst(found: Sequence[Tensor], exact: Sequence[Tensor]) -> float:
    """Largest difference relative to the largest exact value, tensor by tensor; infinite where something is NaN."""
    parts = [float((a.detach() - b.detach()).abs().max() / b.detach().abs().max()) for a, b in zip(found, exact)]
    return max(math.inf if math.isnan(part) else part for part in parts)


def with_gradients(
    function: Callable[..., Tensor], values: Sequence[Tensor], grad: Tensor, dtype: torch.dtype
) -> list[Tensor]:
    """What a function says of values of a type, and the gradients of them."""
    with torch.enable_grad():
        leaves = [value.to(dtype).requires_grad_() for value in values]
        result = function(*leaves)
        return [result.detach(), *torch.autograd.grad(result, leaves, grad.to(dtype))]


def check_chain(device: torch.device) -> float:
    """A ragged chain with an empty row."""
    sizes = ChainSizes(5, 3, 6, 20, 1, "relu", residual=True, global_in_features=7)
    offsets, shapes = torch.tensor([0, 40, 40, 41, 150], device=device), sizes.shared_shapes()
    x, gx, table, dy, *shared = random(device, (150, 5), (150, 7), (4, sizes.row_size), (150, 3), *shapes.values())
    values = [x, gx, 0.5 * table, *(0.3 * value for value in shared)]

    def kernels(x: Tensor, gx: Tensor, table: Tensor, *shared: Tensor) -> Tensor:
        return triton_chain(x, offsets, table, shared, sizes, gx)

    def plain(x: Tensor, gx: Tensor, table: Tensor, *shared: Tensor) -> Tensor:
        return reference_chain(x, offsets, table, dict(zip(shapes, shared)), sizes, gx)

    return worst(*(with_gradients(f, values, dy, t) for f, t in ((kernels, torch.float32), (plain, torch.float64))))


def check_encode(device: torch.device) -> float:
    """Grids that hold the places of their nodes say where a point is; frequencies are sines and cosines."""
    sizes = EncodeSizes((1, 1, 1), 4, 3, 1, 2, True, False, levels=1, level_features=1, log2_size=9, base_res=8)
    axis = torch.arange(4, device=device) / 3.0
    grids = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).view(1, -1).requires_grad_()
    unit = random(device, (50, 3))[0].frac().abs().float()
    entries = torch.arange(512, device=device)  # their x, y and z change fastest in this order
    table = ((entries % 8) + (entries // 8 % 8) + (entries // 64)).float()[:, None].requires_grad_()
    offsets, corners = torch.tensor([0, 50], device=device), torch.zeros(1, 3, device=device)
    with torch.enable_grad():
        local, everywhere = encode(unit, offsets, corners, grids, table, sizes)
        grads = torch.autograd.grad(local[:, :3].sum() + everywhere[:, -1].sum(), [grids, table])
    phases = math.pi * unit.double()
    waves = torch.cat([unit.double(), phases.sin(), phases.cos()], dim=1)
    inner = (unit < 13 / 14).all(1)  # beyond, the last nodes are those of a torus
    said = [local.double(), everywhere[inner, -1].double(), *(g.double().sum()[None] for g in grads)]
    known = [torch.cat([unit.double(), waves], dim=1), (7.0 * unit.double()[inner] + 0.5).sum(1)]
    return worst(said, [*known, torch.full((1,), 150.0), torch.full((1,), 50.0)])


def check_shade(device: torch.device) -> float:
    """Samples on rays along z, where four of the harmonics are zero and two are the same for all."""
    out, grad = random(device, (40, 28), (40, 5))
    order, rays = torch.randperm(40, generator=torch.Generator().manual_seed(0)).to(device), torch.arange(40) % 4
    directions = torch.tensor([[0.0, 0.0, 1.0]], device=device).expand(4, 3)
    along = torch.zeros(9, device=device, dtype=torch.float64)
    along[0], along[2], along[6] = 0.28209479177387814, 0.4886025119029199, 2.0 * 0.31539156525252005

    def kernels(out: Tensor) -> Tensor:
        density, rgb, dependence = shade(out, order, rays.to(device), directions, -1.0)
        return torch.cat([density[:, None], rgb, dependence[:, None]], dim=1)

    def plain(out: Tensor) -> Tensor:
        f = torch.zeros_like(out).index_copy(0, order, out)
        colors = f[:, 1:].unflatten(1, (3, 9))
        density, dependence = torch.exp(f[:, :1] - 1.0), colors[..., 1:].square().mean((1, 2))
        return torch.cat([density, torch.sigmoid(colors @ along), dependence[:, None]], dim=1)

    return worst(*(with_gradients(f, [out], grad, t) for f, t in ((kernels, torch.float32), (plain, torch.float64))))


def check_composite(device: torch.device) -> float:
    """A ray of 50 samples beside one of none."""
    density, colors, grad = random(device, (50,), (50, 3), (2, 5))
    edges = torch.linspace(1.0, 2.0, 51, device=device, dtype=torch.float64)
    rays = torch.ones(50, dtype=torch.int64, device=device)

    def kernels(density: Tensor, colors: Tensor) -> Tensor:
        return composite(density, colors, rays, edges[:-1].float(), edges[1:].float(), 2)

    def plain(density: Tensor, colors: Tensor) -> Tensor:
        thickness = density * 0.02
        weights = torch.exp(thickness - thickness.cumsum(0)) * -torch.expm1(-thickness)
        middles = 0.5 * (edges[1:] + edges[:-1])
        values = torch.cat([colors, torch.ones_like(middles)[:, None], middles[:, None]], dim=1)
        return torch.stack([0.0 * values[0], (weights[:, None] * values).sum(0)])

    values = [density.abs(), colors]
    return worst(*(with_gradients(f, values, grad, t) for f, t in ((kernels, torch.float32), (plain, torch.float64))))


def check_march(device: torch.device) -> float:
    """A ray along x through every other voxel, and one that misses them."""
    where = Voxels((2, 1, 1), 2, (0.0, 0.0, 0.0), (2.0, 1.0, 1.0), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), False)
    voxels = torch.zeros(4, 2, 2, dtype=torch.bool, device=device)
    voxels[1] = voxels[3] = True
    origins = torch.tensor([[0.0, 5.0, 0.5], [-1.0, 0.5, 0.5]], device=device)
    directions = torch.tensor([[1.0, 0.0, 0.0]], device=device).expand(2, 3)
    span = torch.zeros(2, device=device), torch.full((2,), 5.0, device=device)
    rays, starts, ends = march_voxels(
        (origins, directions), span, torch.zeros(2, device=device), 0.125, where, voxels.flatten()
    )
    exact = torch.tensor([1.5, 1.625, 1.75, 1.875, 2.5, 2.625, 2.75, 2.875], device=device)
    if len(rays) != len(exact) or not bool((rays == 1).all()):
        return math.inf
    return worst([starts, ends], [exact, exact + 0.125])


CHECKS: dict[str, Callable[[torch.device], float]] = {
    "the chain": check_chain,
    "encodings": check_encode,
    "shading": check_shade,
    "compositing": check_composite,
    "marching": check_march,
}
"""What is checked -> the largest difference found on a device."""
