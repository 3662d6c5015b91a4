"""The CPU kernels around the chain are the torch path, in value and gradient, always the same to the bit."""

from __future__ import annotations

import copy
import ctypes
import logging
import math
import shutil

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from test_cpu_kernel import threads
from torch import Tensor

from lg_field import PartitionGrid, Region
from lg_field.ops import ChainSizes, local_global_chain, sort_by_row
from lg_field.ops.backends.cpu import SWITCH, encode, march, native, shade
from lg_field.ops.sorting import RowSort
from lg_field.radiance.compositing import Samples
from lg_field.radiance.encodings import frequency_encoding, view_dependence
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.fused import fused_inputs, fused_march
from lg_field.radiance.hash_grid import HashGrid
from lg_field.radiance.render import ask, field_samples, picture
from lg_field.radiance.sampling import LINEAR_UNTIL, to_steps

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
GRID = PartitionGrid((2, 3, 2), (-1.0, -1.0, -1.0), (1.0, 2.0, 1.0))

fields = st.builds(
    RadianceSizes,
    local_width=st.just(4),
    global_width=st.sampled_from([0, 8]),
    local_frequencies=st.integers(0, 3),
    global_frequencies=st.integers(0, 7),
    grid_nodes=st.integers(2, 5),
    grid_features=st.sampled_from([1, 2, 3, 4]),
    global_reads_grid=st.booleans(),
    hash_levels=st.integers(0, 3),
    hash_features=st.sampled_from([1, 2, 8]),
    hash_base_res=st.sampled_from([3, 8]),
    log2_hashmap_size=st.sampled_from([6, 9]),
)


def inputs(field: RadianceField, unit: Tensor, rows: Tensor) -> list[Tensor]:
    """What the chain reads of points, and gradients of a weighted sum of it."""
    by_row = sort_by_row(rows, field.num_rows)
    read = [part for part in field._inputs(by_row.sort(unit), by_row.sort(rows), by_row.offsets) if part is not None]
    generator = torch.Generator().manual_seed(1)
    total = sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in read)
    tables = [t for t in (field.features, field.hash_table) if t is not None and t.numel()]
    grads = torch.autograd.grad(total, tables, allow_unused=True)
    return [*(part.detach() for part in read), *(torch.zeros(1) if g is None else g for g in grads)]


@settings(max_examples=60)
@given(fields, st.integers(0, 10**6), st.integers(0, 200))
def test_what_the_chain_reads_is_what_torch_reads(sizes: RadianceSizes, seed: int, points: int) -> None:
    torch.manual_seed(seed)
    field = RadianceField(GRID, sizes, torch.tensor([0, 1, 4, 7, 11]))
    with torch.no_grad():
        field.features.copy_(torch.randn_like(field.features))
        if field.hash_table is not None:
            field.hash_table.copy_(torch.randn_like(field.hash_table))
    unit, rows = torch.rand(points, 3) * 1.1 - 0.05, torch.randint(0, 4, (points,))
    by_row = sort_by_row(rows, field.num_rows)
    assert fused_inputs(field, by_row.sort(unit), by_row.offsets) is not None
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
    generator = torch.Generator().manual_seed(1)
    total = sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in seen)
    return [*(part.detach() for part in seen), *torch.autograd.grad(total, out)]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 300), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from([0.1, 3.0, 8.0]))
def test_samples_look_as_they_do_with_torch(seed: int, count: int, owned: float, scale: float) -> None:
    torch.manual_seed(seed)
    rays, directions = torch.randint(0, 7, (count,)), torch.nn.functional.normalize(torch.randn(7, 3), dim=1)
    order = (torch.rand(count) < owned).nonzero()[:, 0]
    order = order[torch.randperm(len(order))]
    out = torch.randn(len(order), 28) * scale
    ours = looks(out, order, rays, directions, fused=True)
    for a, b in zip(ours, looks(out.double(), order, rays, directions.double(), fused=False), strict=True):
        largest = float(b.abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5 * max(largest, 1.0))
    with threads(3):
        assert all(map(torch.equal, ours, looks(out, order, rays, directions, fused=True)))


@pytest.mark.parametrize("contraction", [False, True])
def test_a_field_looks_the_same_with_and_without_kernels(contraction: bool) -> None:
    """Samples of rays, with gradients; what is kept of them as well."""
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.0
    grid = PartitionGrid((3, 3, 3), (-reach,) * 3, (reach,) * 3)
    sizes = RadianceSizes(color_width=0, color_features=27, hash_levels=2, contraction=contraction, density_bias=2.0)
    field = RadianceField(grid, sizes, torch.arange(0, 27, 2))
    origins = torch.nn.functional.normalize(torch.randn(50, 3), dim=1) * 2.5
    directions = torch.nn.functional.normalize(-origins + 0.3 * torch.randn(50, 3), dim=1)
    parameters = [field.local, field.features, field.hash_table, *field.shared.values()]
    found = []
    for value in ("1", "chain"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(SWITCH, value)
            samples = field_samples(field, origins, directions, torch.zeros(50), torch.full((50,), 9.0), 0.05)
            asked = ask(field, origins, directions, samples, least_light=1e-4)
            seen = picture(asked, asked.colors, 9.0, None)
            loss = seen.rgb.square().sum() + seen.depth.mean() + asked.dependence.sum()
            found.append([seen.rgb, seen.depth, *torch.autograd.grad(loss, parameters)])
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-3 * float(b.detach().abs().max()) + 1e-6)


def test_kernels_give_the_same_bits_whatever_the_threads() -> None:
    torch.manual_seed(0)
    field = RadianceField(GRID, RadianceSizes(hash_levels=3), torch.arange(12))
    unit, rows = torch.rand(5000, 3), torch.randint(0, 12, (5000,))
    scene = small_scene()
    origins = torch.nn.functional.normalize(torch.randn(700, 3), dim=1) * 3
    directions = torch.nn.functional.normalize(0.3 * torch.randn(700, 3) - origins, dim=1)
    near, far = torch.zeros(700), torch.full((700,), 10.0)
    first: list[Tensor] = []
    for number in (1, 2, 3, 5):
        with threads(number):
            found = [*inputs(field, unit, rows), *field_samples(scene, origins, directions, near, far, 0.02)]
        first = first or found
        assert all(map(torch.equal, first, found))


def alone(ours: Samples, theirs: Samples) -> int:
    """How many of our samples have none of theirs on the same ray within a thousandth of the distance."""
    apart = (ours.middles[:, None] - theirs.middles).abs() / ours.middles[:, None].clamp_min(1.0)
    near = (apart < 1e-3) & (ours.rays[:, None] == theirs.rays)
    return int((~near.any(1)).sum())


@settings(max_examples=40)
@example(True, 29, 0.01, 0.02, False)
@given(
    st.booleans(),
    st.integers(0, 10**6),
    st.sampled_from([0.01, 0.05, 0.3]),
    st.sampled_from([0.0, 0.02, 0.5, 1.0]),
    st.booleans(),
)
def test_rays_have_the_samples_that_torch_gives_them(
    contraction: bool, seed: int, step: float, filled: float, jitter: bool
) -> None:
    field = small_scene(contraction=contraction)
    torch.manual_seed(seed)
    with torch.no_grad():
        field.occupied.copy_(torch.rand(field.occupied.shape) < filled)
    field.region = Region.box((-0.7, -2.0, -2.0), (2.0, 0.6, 2.0)) if seed % 3 == 0 else None
    origins = torch.randn(20, 3) * 1.5
    directions = torch.nn.functional.normalize(torch.randn(20, 3), dim=1)
    directions[0] = torch.tensor([0.0, 0.0, 1.0])
    near, far = torch.rand(20) * 0.5, torch.full((20,), 1000.0)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        for value in ("1", "chain"):
            patch.setenv(SWITCH, value)
            torch.manual_seed(seed)
            found[value] = field_samples(field, origins, directions, near, far, step, jitter)
    ours, theirs = found.values()
    odd = alone(ours, theirs) + alone(theirs, ours)  # a middle on the border of a voxel may fall either way
    assert odd <= 0.02 * len(theirs.rays) + 2
    if odd == 0 and len(theirs.rays):
        linear = LINEAR_UNTIL if contraction else None
        for a, b in ((ours.starts, theirs.starts), (ours.ends, theirs.ends)):
            torch.testing.assert_close(to_steps(a, linear), to_steps(b, linear), rtol=1e-5, atol=1e-5)
        assert torch.equal(ours.rays, theirs.rays)
    rays, starts, _ = found["1"]
    assert bool((rays.diff() >= 0).all()) and bool((starts.diff()[rays.diff() == 0] > 0).all())


def test_points_without_a_gradient_are_left_out_of_the_backward_pass() -> None:
    torch.manual_seed(0)
    sizes = ChainSizes(5, 4, 6, 8, 1, "relu", residual=True, global_in_features=7)
    rows = torch.randint(0, 5, (900,)).sort().values
    offsets = sort_by_row(rows, 6).offsets
    tensors = [torch.randn(900, 5), torch.randn(900, 7), torch.randn(6, sizes.row_size)]
    tensors += [torch.randn(shape) * 0.3 for shape in sizes.shared_shapes().values()]
    for seen in (torch.rand(900) < 0.3, torch.zeros(900, dtype=torch.bool), torch.ones(900, dtype=torch.bool)):
        grads = []
        for backend, dtype in (("cpu", torch.float32), ("reference", torch.float64)):
            x, other, table, *shared = (t.to(dtype).requires_grad_() for t in tensors)
            named = dict(zip(sizes.shared_shapes(), shared))
            out = local_global_chain(x, offsets, table, named, sizes, global_x=other, backend=backend)
            grads.append(torch.autograd.grad((out.square() * seen[:, None]).sum(), [x, other, table, *shared]))
        for ours, exact in zip(*grads):
            torch.testing.assert_close(ours.double(), exact, rtol=0, atol=1e-4 * float(exact.abs().max().clamp_min(1)))


def test_points_without_a_row_are_zeros_and_cost_nothing() -> None:
    rows = torch.tensor([2, -1, 0, 2, -1])
    by_row = sort_by_row(rows, 3)
    assert by_row.order.tolist() == [2, 0, 3] and by_row.offsets.tolist() == [0, 1, 1, 3]
    assert by_row.unsort(by_row.sort(rows + 1), 5).tolist() == [3, 0, 1, 3, 0]
    assert sort_by_row(torch.full((2,), -1), 3).offsets.tolist() == [0, 0, 0, 0]


def test_what_a_kernel_cannot_do_is_said_and_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    field, unit = small_scene(), torch.rand(3, 3)
    by_row = sort_by_row(torch.zeros(3, dtype=torch.int64), field.num_rows)
    sizes = encode.EncodeSizes((1, 1, 1), 2, 2, 1, 1, False, False)
    assert encode.why_not(sizes, unit) is None and march.why_not(unit) is None
    assert "gives no gradients to points" in str(encode.why_not(sizes, unit.clone().requires_grad_()))
    assert "float32 tensors on the CPU" in str(march.why_not(unit.double()))
    assert "28 outputs" in str(shade.why_not(torch.zeros(2, 5), unit))
    assert "no gradients to directions" in str(shade.why_not(torch.zeros(2, 28), unit.clone().requires_grad_()))
    assert "24 frequencies at most" in str(
        encode.why_not(encode.EncodeSizes((1, 1, 1), 2, 2, 25, 1, False, False), unit)
    )
    assert "64 features" in str(encode.why_not(encode.EncodeSizes((1, 1, 1), 2, 65, 1, 1, False, False), unit))
    assert fused_inputs(field, unit, by_row.offsets) is not None
    for value in ("0", "chain"):
        monkeypatch.setenv(SWITCH, value)
        assert f"{SWITCH} is {value}" in str(march.why_not(unit))
        assert fused_inputs(field, unit, by_row.offsets) is None
        assert fused_march(field, unit, unit, unit[:, 0], unit[:, 1], 0.1, None, False, 1) is None


def test_a_kernel_of_another_version_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        reason = native.native("encode", encode.ABI + 1, ctypes.sizeof(encode.EncodeTask))
    assert f"encode.cpp has version {encode.ABI} " in str(reason) and "does without a CPU kernel" in caplog.text


def test_marching_keeps_to_occupied_voxels_and_to_the_span_of_each_ray() -> None:
    where = march.Voxels((2, 1, 1), 2, (0.0, 0.0, 0.0), (2.0, 1.0, 1.0), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0), False)
    voxels = torch.zeros(4, 2, 2, dtype=torch.bool)
    voxels[1] = voxels[3] = True  # x in [0.5, 1) and [1.5, 2]
    origins = torch.tensor([[-1.0, 0.5, 0.5], [3.0, 0.2, 0.9], [0.0, 5.0, 0.5], [-1.0, 0.5, 0.5]])
    directions = torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    near, far = torch.zeros(4), torch.tensor([5.0, 5.0, 5.0, 1.8])
    rays, starts, ends = march.march_voxels(
        (origins, directions), (near, far), torch.zeros(4), 0.125, 40, where, voxels.flatten()
    )
    found = [(rays == ray).sum().item() for ray in range(4)]
    assert found == [8, 8, 0, 2]  # four steps in each of two voxels; nothing beside the box; the last ray ends early
    middles = origins[rays] + directions[rays] * (0.5 * (starts + ends))[:, None]
    assert bool((((middles[:, 0] * 2).long() % 2) == 1).all()) and bool((ends - starts == 0.125).all())
    nothing = march.march_voxels(
        (origins, directions), (near, far), torch.zeros(4), 0.125, 40, where, torch.zeros(16, dtype=torch.bool)
    )
    assert all(len(part) == 0 for part in nothing)
    for bad in (torch.nan, torch.inf, 1e30):
        away = (origins + bad, directions)
        assert len(march.march_voxels(away, (near, far), torch.zeros(4), 0.125, 40, where, voxels.flatten())[0]) == 0


def test_grids_are_read_at_their_nodes_and_at_what_lies_beyond() -> None:
    """At a node its own features; outside of the cell those of the nearest point in it; frequencies of the position."""
    sizes = encode.EncodeSizes((1, 1, 1), 3, 2, 1, 2, True, True, levels=1, level_features=1, log2_size=6, base_res=4)
    grids, table = torch.randn(1, 54), torch.randn(64, 1)
    offsets, corners = torch.tensor([0, 3]), torch.zeros(1, 3)
    unit = torch.tensor([[0.5, 0.0, 1.0], [0.5, -3.0, 7.0], [0.25, 0.25, 0.25]])
    local, everywhere = encode.encode(unit, offsets, corners, grids, table, sizes)
    nodes = grids.view(3, 3, 3, 2)
    torch.testing.assert_close(local[0, :2], nodes[1, 0, 2])
    torch.testing.assert_close(local[1, :2], nodes[1, 0, 2])
    torch.testing.assert_close(local[2, :2], nodes[:2, :2, :2].mean((0, 1, 2)))
    torch.testing.assert_close(local[:, 2:], frequency_encoding(unit, 1), rtol=0, atol=1e-5)
    torch.testing.assert_close(everywhere[:, 2:17], frequency_encoding(unit, 2), rtol=0, atol=1e-5)
    assert torch.equal(everywhere[:, :2], local[:, :2]) and everywhere.shape[1] == sizes.global_in
    torch.testing.assert_close(everywhere[:, 17:], HashGrid(1, 1, 6, 4).encode(table, unit))
    lost = torch.full((3, 3), torch.nan)
    assert not bool(encode.encode(lost, offsets, corners, grids, table, sizes)[0][:, 2:].isfinite().any())


def test_opaque_samples_learn_nothing_more_of_their_density() -> None:
    """Density is capped where a step absorbs everything anyway: no gradient there, none of rounding."""
    out = torch.zeros(2, 28)
    out[0, 0] = 40.0
    out.requires_grad_()
    rays, directions = torch.zeros(2, dtype=torch.int64), torch.tensor([[0.0, 0.0, 1.0]])
    density, rgb, dependence = shade.shade(out, torch.tensor([1, 0]), rays, directions, 1.0)
    torch.testing.assert_close(density, torch.tensor([math.e, math.exp(12.0)]))
    assert torch.equal(rgb, torch.full((2, 3), 0.5)) and torch.equal(dependence, torch.zeros(2))
    (grad,) = torch.autograd.grad(density.sum(), out)
    assert float(grad[0, 0]) == 0.0 and float(grad[1, 0]) == pytest.approx(math.e)
    assert not bool(grad[:, 1:].any())
