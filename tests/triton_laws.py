"""The Triton kernels are plain torch in float64, in value and gradient. test_triton.py runs this in the interpreter."""

from __future__ import annotations

import copy
import os

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from test_cpu_rays import GRID, alone, fields, inputs
from test_ops import make, shapes
from torch import Tensor

from lg_field.ops import ChainSizes, accumulate_gradients, local_global_chain
from lg_field.ops.backends import BACKENDS, choose_backend, may_take
from lg_field.ops.backends.triton import checks, runtime, shade
from lg_field.ops.backends.triton.chain import most_tiles, tile_edges, widths
from lg_field.ops.sorting import RowSort
from lg_field.radiance.compositing import Samples, accumulate, render_weights
from lg_field.radiance.encodings import view_dependence
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import ask, field_samples, picture
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region

assert os.environ.get(runtime.INTERPRETED) == "1", "these laws are for the interpreter: run test_triton.py"


def results(sizes: ChainSizes, counts: list[int], backend: str, dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients of a weighted sum of it."""
    x, offsets, table, shared, gx = make(sizes, counts)
    leaves = [v.detach().to(dtype).requires_grad_() for v in (x, gx, table, *shared.values())]
    named = dict(zip(shared, leaves[3:]))
    out = local_global_chain(leaves[0], offsets, leaves[2], named, sizes, global_x=leaves[1], backend=backend)
    weights = torch.linspace(-1.0, 2.0, out.numel(), dtype=dtype).view_as(out)
    grads = torch.autograd.grad((out * weights).sum(), leaves, allow_unused=True)
    return [out.detach(), *(torch.zeros(1) if g is None or not g.numel() else g for g in grads)]


def same(ours: list[Tensor], exact: list[Tensor], tolerance: float) -> None:
    """Assert that differences are below a part of the largest value."""
    for a, b in zip(ours, exact, strict=True):
        largest = max(1e-6, float(b.abs().max())) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=tolerance * largest)


@settings(max_examples=4, phases=[Phase.generate], derandomize=True)
@given(sizes=shapes, counts=st.lists(st.integers(0, 70), min_size=1, max_size=3))
def test_the_chain_is_the_reference_in_value_and_gradient(sizes: ChainSizes, counts: list[int]) -> None:
    counts = counts if sum(counts) else [*counts, 1]
    ours = results(sizes, counts, "triton", torch.float32)
    same(ours, results(sizes, counts, "reference", torch.float64), 5e-4 if sizes.activation == "sine" else 2e-5)


@pytest.mark.parametrize("merge", ["concat", "add"])
@pytest.mark.parametrize("precision", ["high", "highest"])
def test_odd_widths_beyond_a_tile_and_rows_beyond_a_block(merge: str, precision: str) -> None:
    torch.set_float32_matmul_precision(precision)
    sizes = ChainSizes(19, 28, 17, 35, 2, "relu", merge=merge, residual=True, global_in_features=51)
    counts = [0, 130, 0, 1, 64, 0]
    same(results(sizes, counts, "triton", torch.float32), results(sizes, counts, "reference", torch.float64), 2e-5)
    torch.set_float32_matmul_precision("highest")


def test_no_points_are_no_values_and_no_gradients() -> None:
    sizes = ChainSizes(3, 2, 4, 5, 1, residual=True)
    out, *grads = results(sizes, [0, 0], "triton", torch.float32)
    assert out.shape == (0, 2) and not any(bool(g.any()) for g in grads)


def test_only_wanted_gradients_are_made() -> None:
    sizes = ChainSizes(3, 2, 4, 5, 1, residual=True)
    x, offsets, table, shared, _ = make(sizes, [10, 3], torch.float32)
    frozen = {name: value.detach() for name, value in shared.items()}
    local_global_chain(x, offsets, table, frozen, sizes, backend="triton").sum().backward()
    assert x.grad is None and table.grad is not None
    exact = table.grad.clone()
    table.grad = None
    local_global_chain(x, offsets, table, frozen, sizes, backend="reference").sum().backward()
    same([exact], [table.grad], 1e-5)


def test_a_step_is_the_step_of_torch() -> None:
    sizes = ChainSizes(2, 3, 6, 9, 1)
    found = []
    for backend in ("triton", "torch"):
        x, offsets, table, shared, _ = make(sizes, [40, 0, 25], torch.float32)
        table, shared = table.detach().requires_grad_(), {k: v.detach().requires_grad_() for k, v in shared.items()}
        loss = accumulate_gradients(x, offsets, torch.zeros(65, 3), table, shared, sizes, 30, backend)
        found.append([torch.tensor(loss), table.grad, *(v.grad for v in shared.values())])
    same(*found, 1e-4)


@given(counts=st.lists(st.integers(0, 200), min_size=1, max_size=12), block=st.sampled_from([16, 64]))
@settings(max_examples=5, phases=[Phase.generate], derandomize=True)
def test_tiles_cover_rows_and_no_more_are_started_than_needed(counts: list[int], block: int) -> None:
    offsets = torch.tensor([0, *counts]).cumsum(0)
    edges = tile_edges(offsets, block)
    assert edges.diff().tolist() == [-(-count // block) for count in counts] and int(edges[0]) == 0
    assert int(edges[-1]) <= most_tiles(sum(counts), len(counts), block) <= sum(counts) // block + len(counts)


def test_torchs_precision_is_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    small, wide = ChainSizes(3, 2, 4, 5, 1), ChainSizes(3, 2, 4, 100, 1)
    assert widths(small, 3).precision == "tf32x3"
    assert "widths of up to 64" in str(BACKENDS["triton"].why_not(wide))
    torch.set_float32_matmul_precision("high")
    assert widths(small, 3).precision == "tf32" and BACKENDS["triton"].why_not(wide) is None
    assert "widths of up to 128" in str(BACKENDS["triton"].why_not(ChainSizes(3, 2, 4, 129, 1)))
    torch.set_float32_matmul_precision("highest")


def test_the_interpreter_is_taken_only_if_asked_for() -> None:
    sizes, x = ChainSizes(3, 2, 4, 5, 1), torch.zeros(1)
    assert choose_backend("auto", sizes, x).name != "triton" and choose_backend("triton", sizes, x).name == "triton"
    assert not may_take("auto", "triton") and may_take("triton", "triton") and may_take("auto", "cpu")
    assert not may_take("torch", "cpu") and not may_take("triton", "cpu")
    with pytest.raises(ValueError, match="float32 tensors on cpu, got float64"):
        choose_backend("triton", sizes, x.double())


@settings(max_examples=4, phases=[Phase.generate], derandomize=True)
@given(fields, st.integers(0, 10**6), st.integers(0, 90))
def test_what_the_chain_reads_is_what_torch_reads(sizes: RadianceSizes, seed: int, points: int) -> None:
    torch.manual_seed(seed)
    field = RadianceField(GRID, sizes, torch.tensor([0, 1, 4, 7, 11]))
    with torch.no_grad():
        field.features.copy_(torch.randn_like(field.features))
        if field.hash_table is not None:
            field.hash_table.copy_(torch.randn_like(field.hash_table))
    unit, rows = torch.rand(points, 3) * 1.1 - 0.05, torch.randint(0, 4, (points,))
    field.backend = "triton"
    ours, exact = inputs(field, unit, rows), inputs(copy.deepcopy(field).double(), unit.double(), rows)
    for a, b in zip(ours, exact, strict=True):
        scale = float(b.abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b.double(), rtol=0, atol=2e-4 * max(scale, 1.0))


def looks(out: Tensor, order: Tensor, rays: Tensor, directions: Tensor, fused: bool) -> list[Tensor]:
    """Density, colour and view dependence, and the gradient of a weighted sum of them."""
    out = out.detach().requires_grad_()
    if fused:
        seen = shade.shade(out, order, rays, directions, -3.0)
    else:
        field = RadianceField(GRID, RadianceSizes(color_width=0, color_features=27, density_bias=-3.0))
        density, features = field._said(out, RowSort(order, torch.zeros(1, dtype=torch.int64)), len(rays))
        seen = density, field.rgb(features, directions[rays]), view_dependence(features)
    total = sum((part * torch.linspace(-1, 2, part.numel()).to(part).view_as(part)).sum() for part in seen)
    return [*(part.detach() for part in seen), *torch.autograd.grad(total, out)]


@pytest.mark.parametrize("owned", [0.5, 1.0])
def test_samples_look_as_they_do_with_torch(owned: float) -> None:
    torch.manual_seed(0)
    rays, directions = torch.randint(0, 7, (150,)), torch.nn.functional.normalize(torch.randn(7, 3), dim=1)
    order = (torch.rand(150) < owned).nonzero()[:, 0]
    order = order[torch.randperm(len(order))]
    out = torch.randn(len(order), 28) * 3.0
    out[0, 0] = 40.0  # opaque: density is capped, and learns nothing more
    ours = looks(out, order, rays, directions, fused=True)
    same(ours, looks(out.double(), order, rays, directions.double(), fused=False), 1e-5)
    assert float(ours[3][0, 0]) == 0.0


def seen(density: Tensor, colors: Tensor, samples: Samples, num_rays: int, fused: bool) -> list[Tensor]:
    """What rays see, and the gradients of a weighted sum of it."""
    density, colors = density.detach().requires_grad_(), colors.detach().requires_grad_()
    if fused:
        found = shade.composite(density, colors, *samples, num_rays)
    else:
        weights = render_weights(density, samples, num_rays)
        values = torch.cat([colors, torch.ones_like(density)[:, None], samples.middles[:, None]], dim=1)
        found = accumulate(weights, values, samples, num_rays)
    total = (found * torch.linspace(-1, 2, found.numel()).to(found).view_as(found)).sum()
    return [found.detach(), *torch.autograd.grad(total, [density, colors])]


@settings(max_examples=4, phases=[Phase.generate], derandomize=True)
@given(st.integers(0, 10**6), st.sampled_from([0.1, 5.0, 300.0]))
def test_rays_see_what_they_see_with_torch(seed: int, scale: float) -> None:
    """Rays without samples among them, and rays of more samples than are composited together."""
    torch.manual_seed(seed)
    rays = torch.multinomial(torch.tensor([0.0, 1.0, 0.02, 0.0, 3.0, 0.0]), 120, replacement=True).sort().values
    starts = torch.cat([torch.rand(int((rays == r).sum())).sort().values for r in range(6)]) + 0.1
    density, colors = torch.rand(120) * scale, torch.rand(120, 3)
    ours = seen(density, colors, Samples(rays, starts, starts + 0.02), 6, True)
    samples = Samples(rays, starts.double(), starts.double() + 0.02)
    same(ours, seen(density.double(), colors.double(), samples, 6, False), 1e-4)


@settings(max_examples=3, phases=[Phase.generate], derandomize=True)
@given(st.booleans(), st.integers(0, 10**6), st.sampled_from([0.05, 0.3]), st.sampled_from([0.0, 0.5]), st.booleans())
def test_rays_have_the_samples_that_torch_gives_them(
    contraction: bool, seed: int, step: float, filled: float, jitter: bool
) -> None:
    field = small_scene(contraction=contraction)
    torch.manual_seed(seed)
    with torch.no_grad():
        field.occupied.copy_(torch.rand(field.occupied.shape) < filled)
    field.region = Region.box((-0.7, -2.0, -2.0), (2.0, 0.6, 2.0)) if seed % 3 == 0 else None
    origins = torch.randn(12, 3) * 1.5
    directions = torch.nn.functional.normalize(torch.randn(12, 3), dim=1)
    directions[0] = torch.tensor([0.0, 0.0, 1.0])
    found = {}
    for field.backend in ("triton", "torch"):
        torch.manual_seed(seed)
        found[field.backend] = field_samples(
            field, origins, directions, torch.rand(12), torch.full((12,), 1000.0), step, jitter
        )
    ours, theirs = found.values()
    odd = alone(ours, theirs) + alone(theirs, ours)  # a middle on the border of a voxel may fall either way
    assert odd <= 0.02 * len(theirs.rays) + 2
    assert bool((ours.rays.diff() >= 0).all()) and bool((ours.starts.diff()[ours.rays.diff() == 0] > 0).all())


def test_a_field_looks_the_same_with_triton_and_with_torch() -> None:
    """Samples of rays, composited, with gradients of everything."""
    torch.manual_seed(0)
    grid = PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3)
    sizes = RadianceSizes(color_width=0, color_features=27, hash_levels=2, density_bias=2.0, grid_nodes=3)
    field = RadianceField(grid, sizes, torch.arange(0, 8, 2))
    origins = torch.nn.functional.normalize(torch.randn(12, 3), dim=1) * 2.5
    directions = torch.nn.functional.normalize(-origins + 0.3 * torch.randn(12, 3), dim=1)
    parameters = [field.local, field.features, field.hash_table, *field.shared.values()]
    found = []
    for field.backend in ("triton", "torch"):
        samples = field_samples(field, origins, directions, torch.zeros(12), torch.full((12,), 9.0), 0.1)
        asked = ask(field, origins, directions, samples, least_light=1e-4)
        view = picture(asked, asked.colors, 9.0, None)
        loss = view.rgb.square().sum() + view.depth.mean() + asked.dependence.sum()
        found.append([view.rgb.detach(), view.depth.detach(), *torch.autograd.grad(loss, parameters)])
    same(*found, 2e-3)


def test_the_self_check_knows_right_from_wrong(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for check in checks.CHECKS.values():
        assert check(torch.device("cpu")) < 1e-5
    assert runtime.fault(torch.device("cpu")) is None

    def broken(device: torch.device) -> float:
        raise RuntimeError("no kernel image\nis available")

    for check, said in ((lambda device: 0.5, "off by 0.5"), (broken, "RuntimeError: no kernel image)")):
        monkeypatch.setitem(checks.CHECKS, "the chain", check)
        runtime.fault.cache_clear()
        assert said in str(runtime.fault(torch.device("cpu"))) and said in caplog.text
        with pytest.raises(ValueError, match="its self-check of the chain"):
            choose_backend("triton", ChainSizes(3, 2, 4, 5, 1), torch.zeros(1))
    runtime.fault.cache_clear()
