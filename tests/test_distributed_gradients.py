"""Sums of gradients over ranks: those of dense tensors, in fewer bytes where a rank has few lines of them."""

from __future__ import annotations

import math

import pytest
import torch
from on_ranks import on_ranks
from torch import nn

from lg_field.distributed.gradients import sum_gradients, sum_lines
from lg_field.distributed.ranks import Ranks

LINES, WIDTH = 50, 2  # no multiple of the ranks, nor of 8


def lines_of(rank: int, share: float) -> torch.Tensor:
    """Of which about so large a part is not zero."""
    generator = torch.Generator().manual_seed(rank)
    some = torch.rand(LINES, 1, generator=generator) < share
    return torch.randn(LINES, WIDTH, generator=generator, dtype=torch.float64) * some


def of_shares(shares: list[float]) -> tuple[torch.Tensor, int]:
    ranks = Ranks()
    return sum_lines(lines_of(ranks.rank, shares[ranks.rank]), ranks), ranks.sent["gradients"]


@pytest.mark.parametrize("shares", [[0.2, 0.4, 0.1], [0.0, 0.3, 0.0], [0.0] * 3, [1.0] * 3, [0.3]], ids=str)
def test_sums_are_those_of_whole_tensors_and_lines_of_zeros_stay(shares: list[float]):
    size, answers = len(shares), on_ranks(len(shares), of_shares, shares)
    every = [lines_of(rank, share) for rank, share in enumerate(shares)]
    whole = torch.stack(every).sum(0)
    kept = [len(range(rank, LINES, size)) for rank in range(size)]
    padded = -(-max(kept) // 8)  # bytes of a keeper's bits
    some = [(lines != 0.0).any(1) for lines in every]
    most = max(int((whole != 0.0).any(1)[rank::size].sum()) for rank in range(size))
    for rank, (total, sent) in enumerate(answers):
        assert torch.allclose(total, whole, rtol=1e-14, atol=0.0) and torch.equal(total, answers[0][0])
        given = int(some[rank].sum() - some[rank][rank::size].sum())
        line = 8 * WIDTH
        assert sent == (size > 1) * (line * given + (size - 1) * (2 * padded + line * most))
        assert sent <= 2 * (size - 1) * (line * math.ceil(LINES / size) + padded), "more than all of it"


def broken() -> torch.Tensor:
    lines = lines_of(0, 1.0) * 0.0
    lines[7, 1] = (math.nan, math.inf)[Ranks().rank]
    return sum_lines(lines, Ranks())


def test_what_is_no_number_is_not_lost():
    for total in on_ranks(2, broken):
        assert total.isnan().nonzero().tolist() == [[7, 1]]


def reached(names: dict[str, list[int]]) -> dict[str, torch.Tensor | None]:
    """Gradients after the sum of parameters that some ranks reached."""
    ranks = Ranks()
    found = {}
    for name, by in names.items():
        parameter = nn.Parameter(torch.zeros(3, 2))
        if ranks.rank in by:
            parameter.grad = torch.full((3, 2), 1.0 + ranks.rank)
        found[name] = parameter
    sum_gradients(ranks, [found["shared"], found["never"]], [found["lines"], found["unread"]], [found["own"]])
    return {name: parameter.grad for name, parameter in found.items()}


def test_parameters_that_some_ranks_reached_have_gradients_on_all():
    by = {"shared": [0, 1], "never": [], "lines": [1], "unread": [], "own": [0]}
    first, second = on_ranks(2, reached, by)
    for found in (first, second):
        assert found["never"] is None and found["unread"] is None
        assert torch.equal(found["shared"], torch.full((3, 2), 3.0))
        assert torch.equal(found["lines"], torch.full((3, 2), 2.0))
    assert torch.equal(first["own"], torch.ones(3, 2)) and torch.equal(second["own"], torch.zeros(3, 2))
