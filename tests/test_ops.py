"""The fast chain is the reference chain, in value and gradient."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, activation_names, local_global_chain, sort_by_row


def make(shape: ChainSizes, counts: list[int], dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    table = init_rows(shape, len(counts), generator).to(dtype)
    table = table + 0.05 * torch.randn(table.shape, generator=generator).to(dtype)
    shared = {k: v.to(dtype).requires_grad_() for k, v in init_shared(shape, generator).items()}
    x = torch.rand(sum(counts), shape.in_features, generator=generator).to(dtype)
    global_x = torch.rand(sum(counts), shape.global_in, generator=generator).to(dtype)
    offsets = torch.tensor([0, *counts]).cumsum(0)
    return x, offsets, table.requires_grad_(), shared, global_x


shapes = st.builds(
    ChainSizes,
    in_features=st.integers(1, 4),
    out_features=st.integers(1, 3),
    local_width=st.sampled_from([0, 3, 8]),
    global_width=st.sampled_from([5, 9]),
    hidden_layers=st.integers(0, 3),
    activation=st.sampled_from(activation_names()),
    merge=st.sampled_from(["concat", "add"]),
    residual=st.booleans(),
    global_in_features=st.sampled_from([None, 6]),
)


@settings(max_examples=60, deadline=None)
@given(shape=shapes, counts=st.lists(st.integers(0, 70), min_size=1, max_size=6), chunk=st.sampled_from([None, 40]))
def test_fast_equals_reference_in_value_and_gradient(shape, counts, chunk):
    if sum(counts) == 0:
        counts = [*counts, 1]
    x, offsets, table, shared, global_x = make(shape, counts)
    x.requires_grad_()
    results = []
    for backend in ("reference", "torch"):
        out = local_global_chain(x, offsets, table, shared, shape, global_x=global_x, backend=backend, chunk=chunk)
        loss = (out * torch.arange(1, out.numel() + 1).view_as(out)).sum()
        grads = torch.autograd.grad(loss, [x, table, *shared.values()], allow_unused=True)
        results.append((out, *[torch.zeros(()) if g is None else g for g in grads]))
    for reference, fast in zip(*results):
        torch.testing.assert_close(fast, reference, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("activation", activation_names())
@pytest.mark.parametrize("merge", ["concat", "add"])
def test_gradcheck(activation, merge):
    shape = ChainSizes(2, 2, 3, 4, 1, activation, w0=3.0, merge=merge, residual=True)
    x, offsets, table, shared, _ = make(shape, [3, 0, 2])
    names = list(shared)

    def chain(x, table, *values):
        return local_global_chain(x, offsets, table, dict(zip(names, values)), shape)

    assert torch.autograd.gradcheck(chain, (x.requires_grad_(), table, *shared.values()))


def test_ragged_equals_uniform():
    shape = ChainSizes(2, 1, 6, 5, 2)
    x, offsets, table, shared, _ = make(shape, [32] * 4, torch.float32)
    uniform = local_global_chain(x, offsets, table, shared, shape)
    keep = torch.ones(128, dtype=torch.bool)
    keep[5] = False
    ragged = local_global_chain(x[keep], torch.tensor([0, 31, 63, 95, 127]), table, shared, shape)
    torch.testing.assert_close(ragged, uniform[keep], rtol=1e-5, atol=1e-5)


def test_no_gradient_for_coordinates_unless_asked():
    shape = ChainSizes(2, 1, 6, 5, 2)
    x, offsets, table, shared, _ = make(shape, [10, 20])
    local_global_chain(x, offsets, table, shared, shape).sum().backward()
    assert x.grad is None and table.grad is not None


@given(rows=st.lists(st.integers(0, 5), min_size=0, max_size=50))
def test_sorting_is_a_permutation_and_goes_back(rows):
    rows = torch.tensor(rows, dtype=torch.int64)
    by_row = sort_by_row(rows, 6)
    assert torch.equal(by_row.sort(rows), rows.sort()[0])
    assert torch.equal(by_row.unsort(by_row.sort(rows)), rows)
    assert by_row.offsets.diff().tolist() == [int((rows == r).sum()) for r in range(6)]


def test_shapes_that_do_not_fit_are_named():
    shape = ChainSizes(2, 1, 6, 5, 2)
    x, offsets, table, shared, _ = make(shape, [4])
    with pytest.raises(ValueError, match="row size"):
        local_global_chain(x[:, :1], offsets, table, shared, shape)
    with pytest.raises(ValueError, match="both 0"):
        ChainSizes(2, 1, 0, 0, 1)


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_no_points_are_no_values(backend):
    shape = ChainSizes(2, 3, 6, 5, 2, residual=True)
    x, offsets, table, shared, _ = make(shape, [0, 0])
    assert local_global_chain(x, offsets, table, shared, shape, backend=backend).shape == (0, 3)
