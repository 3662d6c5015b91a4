"""Laws of places in a list: pieces, neighbours and nearest ones are those of the dense box, in memory of the list's
size."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.radiance.components import Pieces, cut_through
from lg_field.radiance.listed import MARGIN, Listed, ball, connected, holds
from lg_field.radiance.solid import widened

ndimage = pytest.importorskip("scipy.ndimage")
shapes = st.tuples(*[st.integers(1, 9)] * 3)


def some_voxels(shape: tuple[int, ...], share: float, seed: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def listed(voxels: torch.Tensor, seed: int) -> tuple[Listed, torch.Tensor]:
    """All places of a box in a random order, and that order's index."""
    index = torch.ones_like(voxels).nonzero()
    index = index[torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))]
    return Listed.of(index - 5), index


@given(shapes, st.floats(0.0, 1.0), st.integers(0, 99))
def test_pieces_are_those_of_the_dense_box(shape: tuple[int, ...], share: float, seed: int) -> None:
    voxels = some_voxels(shape, share, seed)
    pieces = Pieces.of(voxels)
    dense, count = ndimage.label(voxels.numpy(), structure=np.ones((3, 3, 3)))
    assert len(pieces) == count and torch.equal(pieces.labels > 0, voxels)
    assert len(np.unique(np.stack([dense.ravel(), pieces.labels.numpy().ravel()]), axis=1).T) == count + (
        not bool(voxels.all())
    ), "one number for each"
    firsts = [int((pieces.labels.view(-1) == number).nonzero()[0, 0]) for number in range(1, count + 1)]
    keys = [(-size, first) for size, first in zip(pieces.sizes.tolist(), firsts)]
    assert keys == sorted(keys), "the largest first, then the one that begins first"
    for number in range(1, min(count, 3) + 1):
        assert torch.equal(pieces.index(number), (pieces.labels == number).nonzero())
        assert torch.equal(pieces.voxels([number]), pieces.labels == number)


@settings(max_examples=40)
@given(shapes, st.floats(0.05, 0.9), st.integers(0, 99))
def test_neighbours_are_those_of_the_dense_box(shape: tuple[int, ...], share: float, seed: int) -> None:
    shown, kept = some_voxels(shape, share, seed), some_voxels(shape, 0.5, seed + 1)
    places, index = listed(shown, seed)
    at = tuple(index.unbind(1))
    assert torch.equal(places.beside(shown[at], corners=True) | shown[at], widened(shown)[at])
    after = (kept & shown)[at]
    through = after & places.beside(shown[at] & ~after)
    assert (int(through.sum()), int(places.alone(after).sum())) == tuple(cut_through(shown, kept))
    labels, sizes = places.labels(shown[at])
    dense = Pieces.of(shown)
    assert torch.equal(labels, dense.labels[at].long()) and torch.equal(sizes, dense.sizes)
    assert torch.equal(places.given(places.sorted(labels)), labels)


@settings(max_examples=40)
@given(shapes, st.floats(0.0, 0.3), st.floats(1.0, 3.0), st.integers(0, 99))
def test_what_is_near_a_label_takes_a_nearest_one(
    shape: tuple[int, ...], share: float, within: float, seed: int
) -> None:
    dense = torch.randint(1, 4, shape, generator=torch.Generator().manual_seed(seed)) * some_voxels(shape, share, seed)
    wanted = some_voxels(shape, 0.7, seed + 1)
    places, index = listed(dense > 0, seed)
    at = tuple(index.unbind(1))
    found = places.nearest(dense[at], wanted[at], within)
    given_at = index[dense[at] > 0].double()
    for place, label, asked, now in zip(index.double(), dense[at], wanted[at], found):
        away = (given_at - place).norm(dim=-1)
        if label or not asked or not len(away) or float(away.min()) > within:
            assert now == label
        else:
            nearest = given_at[away <= away.min() + 1e-9].long()
            assert int(now) in dense[tuple(nearest.unbind(1))].tolist()


def test_a_vast_box_takes_the_memory_of_its_places() -> None:
    """10^15 voxels: a dense array of them would take a petabyte."""
    far = 100_000
    line = torch.stack([torch.arange(50), torch.zeros(50).long(), torch.zeros(50).long()], dim=1)
    places = Listed.of(torch.cat([line, line + far, torch.tensor([[far - 1, far - 1, far - 1]])]))
    labels, sizes = places.labels(torch.ones(101, dtype=torch.bool))
    assert sizes.tolist() == [51, 50] and labels[0] == 2 and labels[100] == labels[50] == 1
    assert int(places.beside(labels == 1, corners=True).sum()) == 51


def test_ends_of_lines_are_not_neighbours() -> None:
    labels, sizes = connected(torch.tensor([4, 5]), (1, 2, 5))
    assert labels.tolist() == [1, 2] and sizes.tolist() == [1, 1], "the end of a line and the beginning of the next"
    assert connected(torch.tensor([4, 9]), (1, 2, 5))[1].tolist() == [2]
    assert connected(torch.tensor([9, 10]), (2, 2, 5))[1].tolist() == [1, 1], "of a plane and the next"
    empty, none = connected(torch.zeros(0, dtype=torch.int64), (3, 3, 3))
    assert not len(empty) and not len(none) and not bool(holds(empty, torch.tensor([1]))[0])


def test_offsets_come_nearest_first() -> None:
    every = ball(3, None)
    assert len(every) == 26 and every[:6] == ball(3, 1.0) and len(ball(7, 3.0)) == 122
    squares = [sum(v * v for v in offset) for offset in ball(7, 3.0)]
    assert squares == sorted(squares) and max(squares) == 9 and MARGIN >= 3
