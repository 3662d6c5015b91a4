"""What the CPU's kernels say of scene points: where they are, how dense it is there, what a surface looks like."""

from __future__ import annotations

import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_kernel import threads
from torch import Tensor

from lg_field import PartitionGrid, Region
from lg_field.ops.backends.cpu import SWITCH, march
from lg_field.radiance import fused
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.fused import fused_colors, fused_density
from lg_field.radiance.surface import GRAZING, held_density, radiance_mesh, surface_colors

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")
SIZES = {
    "local_width": 5,
    "global_width": 9,
    "grid_nodes": 3,
    "grid_features": 2,
    "occupancy_voxels": 4,
    "hash_levels": 2,
    "hash_features": 2,
    "hash_base_res": 8,
    "log2_hashmap_size": 9,
    "density_bias": 1.0,
}


def a_field(seed: int = 0, contraction: bool = False, **sizes: object) -> RadianceField:
    """Two thirds of its voxels are occupied."""
    torch.manual_seed(seed)
    reach = 2.0 if contraction else 1.0
    grid = PartitionGrid((2, 3, 2), (-reach,) * 3, (reach,) * 3)
    field = RadianceField(grid, RadianceSizes(contraction=contraction, **(SIZES | sizes)), torch.tensor([0, 2, 5, 11]))
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    field.occupied.copy_(torch.rand(field.occupied.shape) < 0.7)
    return field


def some_points(count: int, reach: float, seed: int = 0) -> Tensor:
    """Points in the box and beside it, some on borders of cells and of the box."""
    torch.manual_seed(seed)
    points = (torch.rand(count, 3) * 2.4 - 1.2) * reach
    points[::5] = (points[::5] * 3).round() / 3
    return points


@settings(max_examples=25)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 17, 700]),
    st.booleans(),
    st.sampled_from([None, 0.5]),
    st.sampled_from([{}, {"occupancy_voxels": 6}, {"color_width": 8}, {"hash_levels": 0}]),
)
def test_density_is_what_torch_finds(
    seed: int, count: int, contraction: bool, cut: float | None, sizes: dict[str, object]
) -> None:
    field, points = a_field(seed, contraction, **sizes), some_points(count, 3.0 if contraction else 1.0, seed)
    if cut is not None:
        field.region = Region.box((-1.0,) * 3, (cut,) * 3)
    with torch.no_grad():
        ours, held = fused_density(field, points), fused_density(field, points, held=True)
        assert ours is not None and held is not None
        exact = a_field(seed, contraction, **sizes).double()
        exact.region = field.region
        theirs = exact.density(points.double())
        near = (points * 3 - (points * 3).round()).abs().amin(1) < 1e-5  # either cell may own them, by rounding
        torch.testing.assert_close(ours[~near].double(), theirs[~near], rtol=2e-4, atol=1e-6)
        assert torch.equal(held[~near], (ours * field.is_occupied(points))[~near])
        with threads(3):
            again = fused_density(field, points)
        assert again is not None and torch.equal(ours, again)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 17, 300]), st.booleans(), st.booleans())
def test_points_are_found_in_the_voxels_that_torch_finds(seed: int, count: int, contraction: bool, held: bool) -> None:
    field, points = a_field(seed, contraction), some_points(count, 3.0 if contraction else 1.0, seed)
    grid = field.occupancy
    occupied = grid.dense() if held else None
    unit, voxels = march.find(points, fused.voxels_of(field), grid.places_of_voxels(), occupied)
    torch.testing.assert_close(unit, field.frame.to_unit(points), rtol=1e-5, atol=1e-6)
    places = field.frame.to_places(points)
    inside = ((places >= 0) & (places <= torch.tensor(field.grid.counts))).all(1)
    expected = torch.where(inside, grid.places_of_voxels()[grid.numbers(points)], -1)
    if held:
        expected = torch.where(field.is_occupied(points), expected, -1)
    sure = (places * 4 - (places * 4).round()).abs().amin(1) > 1e-4  # away from the voxels' borders
    assert torch.equal(voxels[sure], expected[sure])


def test_kernels_leave_to_torch_what_they_do_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    field, points = a_field(), some_points(50, 1.0)
    assert fused_density(field, points) is None  # gradients are wanted
    with torch.no_grad():
        assert fused_density(field, points) is not None
        assert fused_density(a_field().double(), points.double()) is None
        field.backend = "torch"
        assert fused_density(field, points) is None
        field.backend = "auto"
        ours = held_density(field, points)
        monkeypatch.setenv(SWITCH, "0")
        assert fused_density(field, points) is None
        torch.testing.assert_close(ours, held_density(field, points), rtol=1e-4, atol=1e-6)


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 15, 33, 1000]), st.integers(1, 5))
def test_colours_are_the_mean_over_the_places_in_front(seed: int, count: int, places: int) -> None:
    field = a_field(seed, color_width=0, color_features=27)
    torch.manual_seed(seed)
    points, inward = torch.randn(2, count, 3)
    inward, viewpoints = torch.nn.functional.normalize(inward, dim=1), torch.randn(places, 3) * 3
    with torch.no_grad():
        ours = surface_colors(field, points, inward, viewpoints)
        features = field(points)[1]
        kernel = fused_colors(field, features, points, inward, viewpoints, GRAZING)
        assert kernel is not None
        torch.testing.assert_close(ours, kernel)
        with mock.patch.object(fused, "may_take", return_value=False):
            exact = field.double()
            theirs = surface_colors(exact, points.double(), inward.double(), viewpoints.double())
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-5)
        with threads(3):
            again = fused_colors(field, features, points, inward, viewpoints, GRAZING)
        assert again is not None and torch.equal(kernel, again)


@pytest.mark.parametrize("contraction", [False, True])
def test_meshes_are_those_of_torch(contraction: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    field = a_field(3, contraction, color_width=0, color_features=27)
    monkeypatch.setenv(SWITCH, "1")
    ours = radiance_mesh(field, 24, threshold=2.0, block=7)
    monkeypatch.setenv(SWITCH, "0")
    theirs = radiance_mesh(field, 24, threshold=2.0, block=7)
    assert ours.colors is not None and theirs.colors is not None and len(ours.faces) > 100
    np.testing.assert_array_equal(ours.faces, theirs.faces)
    np.testing.assert_allclose(ours.vertices, theirs.vertices, atol=1e-4)
    assert np.abs(ours.colors.astype(int) - theirs.colors.astype(int)).max() <= 2
