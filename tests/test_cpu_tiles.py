"""Tiles that kernels hand to each other hold what they would hand over in memory, always the same to the bit."""

from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from test_cpu_kernel import threads
from torch import Tensor

from lg_field import PartitionGrid, Region
from lg_field.ops import local_global_chain
from lg_field.ops.backends.cpu import encode, looks, shade
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.fused import _reads, fused_owners
from lg_field.radiance.render import ask, field_samples
from lg_field.radiance.stopping import ask_in_rounds

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
GRID = PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3)

fields = st.builds(
    RadianceSizes,
    local_width=st.sampled_from([4, 17]),
    global_width=st.sampled_from([8, 20]),
    color_width=st.just(0),
    color_features=st.just(27),
    local_frequencies=st.integers(0, 2),
    global_frequencies=st.integers(0, 7),
    grid_nodes=st.integers(2, 4),
    grid_features=st.sampled_from([1, 2, 3, 4]),
    global_reads_grid=st.booleans(),
    hash_levels=st.integers(0, 2),
    hash_features=st.sampled_from([1, 2, 4]),
    hash_base_res=st.sampled_from([3, 8]),
    log2_hashmap_size=st.sampled_from([6, 9]),
    density_bias=st.just(0.5),
)


def a_field(sizes: RadianceSizes, seed: int) -> RadianceField:
    torch.manual_seed(seed)
    field = RadianceField(GRID, sizes, torch.tensor([0, 1, 3, 4, 6, 7]))
    with torch.no_grad():
        for name, parameter in field.named_parameters():
            parameter.copy_(0.4 * torch.randn_like(parameter) if "weight" not in name else parameter)
    return field


def looked(field: RadianceField, rows: Tensor, in_tiles: bool) -> list[Tensor]:
    """What samples look like, by one kernel after the other or all in tiles, and gradients of a weighted sum of it."""
    generator = torch.Generator().manual_seed(1)
    unit, rays = torch.rand(len(rows), 3, generator=generator), torch.arange(len(rows)) % 5
    directions = torch.nn.functional.normalize(torch.randn(5, 3, generator=generator), dim=1)
    asked = _reads(field, unit)
    assert asked is not None
    (inputs, entries), corners = asked, field.occupancy.corners()
    order, offsets = encode.sort_points(rows, field.num_rows)
    if in_tiles:
        tables, sizes = (field.local, field.features, entries), (inputs, field.chain)
        points = unit, order, offsets
        seen = looks.look(points, (rays, directions), corners, tables, dict(field.shared), sizes, 0.5)
    else:
        x, global_x = encode.encode(unit[order], offsets, corners, field.features, entries, inputs)
        chain = x, offsets, field.local, dict(field.shared), field.chain
        out = local_global_chain(*chain, global_x=global_x, backend="cpu")
        seen = shade.shade(out, order, rays, directions, 0.5)
    total = sum((part * torch.randn(part.shape, generator=generator)).sum() for part in seen)
    wanted = [p for p in field.parameters() if p.numel()]
    grads = torch.autograd.grad(total, wanted, allow_unused=True)
    return [*(part.detach() for part in seen), *(torch.zeros(1) if g is None else g for g in grads)]


@settings(max_examples=20)
@given(fields, st.integers(0, 10**6), st.lists(st.sampled_from([0, 1, 15, 17, 64, 65, 150]), min_size=7, max_size=7))
def test_tiles_hold_what_memory_would(sizes: RadianceSizes, seed: int, counts: list[int]) -> None:
    """Rows of any number of points, none among them, and points without a row."""
    field = a_field(sizes, seed)
    rows = torch.arange(-1, 6).repeat_interleave(torch.tensor(counts))
    rows = rows[torch.randperm(len(rows))]
    ours, exact = looked(field, rows, True), looked(field, rows, False)
    for a, b in zip(ours, exact, strict=True):
        scale = float(b.abs().max()) if b.numel() else 1.0
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * max(scale, 1e-3))


def test_tiles_are_the_same_whatever_the_threads() -> None:
    sizes = RadianceSizes(color_width=0, color_features=27, hash_levels=2, log2_hashmap_size=9)
    field, rows = a_field(sizes, 0), torch.randint(-1, 6, (5000,), generator=torch.Generator().manual_seed(0))
    first = looked(field, rows, True)
    for number in (2, 3, 5):
        with threads(number):
            assert all(map(torch.equal, first, looked(field, rows, True)))


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("cut", [False, True])
def test_rows_of_marched_samples_are_their_owners(contraction: bool, cut: bool) -> None:
    """What voxels say of samples is what positions say, of a field that was cut to a region, too."""
    field = small_scene(contraction=contraction)
    field.region = Region.box((-0.7, -2.0, -2.0), (2.0, 0.6, 2.0)) if cut else None
    torch.manual_seed(0)
    origins = torch.nn.functional.normalize(torch.randn(60, 3), dim=1) * 2.5
    directions = torch.nn.functional.normalize(0.4 * torch.randn(60, 3) - origins, dim=1)
    samples = field_samples(field, origins, directions, torch.zeros(60), torch.full((60,), 9.0), 0.03)
    found = fused_owners(field, origins, directions, samples)
    assert found is not None and len(samples.rays) > 100
    unit, rows = field.owners(samples.positions(origins, directions), 0.0)
    torch.testing.assert_close(found[0], unit, rtol=0, atol=1e-5)
    assert float((found[1] != rows).float().mean()) < 0.01  # a middle on a border may fall either way
    with torch.no_grad():
        seen = [ask(field, origins, directions, samples, marched=known) for known in (True, False)]
    apart = (seen[0].density - seen[1].density).abs() > 1e-3 * seen[1].density.abs().max()
    assert float(apart.float().mean()) < 0.01


def test_rounds_give_their_answers_in_the_order_of_the_samples() -> None:
    field = small_scene()
    origins = torch.tensor([[0.0, 0.0, -3.0]]).repeat(40, 1)
    directions = torch.nn.functional.normalize(torch.randn(40, 3) * 0.2 + torch.tensor([0.0, 0.0, 1.0]), dim=1)
    samples = field_samples(field, origins, directions, torch.zeros(40), torch.full((40,), 9.0), 0.01)
    said = torch.arange(len(samples.rays)).float()
    asked, density, numbers = ask_in_rounds(lambda _, index: (0.01 * said[index], index), samples, 40, 1e-3)
    assert bool((numbers.diff() > 0).all()) and torch.equal(density, 0.01 * said[numbers])
    assert all(map(torch.equal, asked, (values[numbers] for values in samples)))
