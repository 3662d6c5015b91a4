"""Values of a lattice's nodes: the same whether a whole box of them is asked for or one after the other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lg_field.meshing.mesh import _Evaluator, _Lattice, marching_cubes

LOWER, UPPER = (-1.0, -0.7, -0.4), (0.9, 0.8, 0.6)


def bumps(points: Tensor) -> Tensor:
    """Values between 0 and 2 that differ from node to node."""
    return 1.0 + torch.sin(7.0 * points[:, 0]) * torch.cos(5.0 * points[:, 1] + points[:, 2])


def slope(points: Tensor) -> Tensor:
    """A mask that cuts through blocks."""
    return points[:, 0] + 0.3 * points[:, 1] < 0.2


def an_evaluator(resolution: int, block: int, share: float, masked: bool, seed: int = 0) -> _Evaluator:
    """Of `bumps`, with a share of the blocks alive."""
    generator = torch.Generator().manual_seed(seed)

    def alive(boxes: Tensor) -> Tensor:
        return torch.rand(len(boxes), generator=generator) < share

    lattice = _Lattice.make(LOWER, UPPER, resolution, block)
    return _Evaluator(bumps, slope if masked else None, lattice, 50, alive, False)


@settings(max_examples=25)
@given(
    st.integers(1, 17), st.sampled_from([1, 3, 4, 64]), st.sampled_from([0.3, 1.0]), st.booleans(), st.integers(0, 99)
)
def test_a_box_of_nodes_holds_what_each_node_does(
    resolution: int, block: int, share: float, masked: bool, seed: int
) -> None:
    evaluator = an_evaluator(resolution, block, share, masked, seed)
    blocks = evaluator.blocks()
    for index in blocks[:: max(1, len(blocks) // 20)]:
        origin = np.asarray(index) * block
        size = block + 1
        each = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij"), -1).reshape(-1, 3) + origin
        nodes = evaluator.nodes(origin)
        assert nodes.dtype == np.float32 and nodes.shape == (size,) * 3
        np.testing.assert_array_equal(nodes.reshape(-1), evaluator.at(each))
        np.testing.assert_array_equal((nodes != 0.0).reshape(-1), evaluator.kept(each) & (evaluator.at(each) != 0.0))


def test_blocks_beyond_the_lattice_are_never_evaluated() -> None:
    evaluator = an_evaluator(8, 4, 1.0, False)
    asked: list[int] = []
    evaluator.values = lambda points: asked.append(len(points)) or bumps(points)
    assert not evaluator.nodes(np.array([-5, 0, 0])).any() and not asked
    corner = evaluator.nodes(np.array([-4, -4, -4]))
    assert asked == [1] and corner[4, 4, 4] > 0.0 and np.count_nonzero(corner) == 1


@pytest.mark.parametrize("block", [5, 64])
def test_values_that_are_zero_outside_need_no_mask(block: int) -> None:
    """The same mesh, and no mask is asked for but where it cuts through edges."""
    asked: list[int] = []

    def mask(points: Tensor) -> Tensor:
        asked.append(len(points))
        return slope(points)

    plain = marching_cubes(bumps, LOWER, UPPER, 20, 1.2, block=block, mask=mask)
    before, asked[:] = sum(asked), []
    zero = marching_cubes(
        lambda points: bumps(points) * slope(points), LOWER, UPPER, 20, 1.2, block=block, mask=mask, zero_outside=True
    )
    np.testing.assert_array_equal(plain.faces, zero.faces)
    np.testing.assert_allclose(plain.vertices, zero.vertices, atol=1e-6)
    assert 0 < sum(asked) < before


def test_values_that_are_no_numbers_are_an_error_in_a_box_too() -> None:
    evaluator = an_evaluator(6, 8, 1.0, False)
    evaluator.values = lambda points: points[:, 0] / 0.0 * 0.0
    with pytest.raises(ValueError, match="values must be finite, got NaN or infinity"):
        evaluator.nodes(np.zeros(3, dtype=int))
