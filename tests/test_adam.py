"""`Adam`: what torch's does, by one kernel."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cpu_kernel import threads
from torch import Tensor, nn

from lg_field.ops import adam
from lg_field.ops.adam import Adam
from lg_field.ops.backends.cpu import SWITCH

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")

SHAPES = ((3, 5), (), (1,), (0, 4), (16,), (17, 31), (9001, 2))
OPTIONS = {"lr": 1e-2, "eps": 1e-15}


def parameters(dtype: torch.dtype = torch.float32, seed: int = 0) -> list[nn.Parameter]:
    """Some of odd sizes."""
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator).to(dtype)) for shape in SHAPES]


def learn(
    values: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int, seed: int = 0, empty: bool = False
) -> None:
    """Steps with gradients of many sizes, most of them 0; `empty`: one parameter has none now and then."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(steps):
        for number, p in enumerate(values):
            drawn = torch.randn(p.shape, generator=generator) * (torch.rand(p.shape, generator=generator) < 0.4)
            size = 10.0 ** float(torch.randint(-12, 4, (), generator=generator))
            p.grad = None if empty and (step + number) % 3 == 0 else (drawn * size).to(p.dtype)
        optimizer.step()


def moments(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """All that its state holds."""
    return [t for state in optimizer.state_dict()["state"].values() for t in state.values()]


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 12), st.booleans())
def test_steps_are_those_of_torch_in_float64(seed: int, steps: int, empty: bool) -> None:
    ours, exact = parameters(seed=seed), parameters(torch.float64, seed)
    optimizers = Adam(ours, **OPTIONS), torch.optim.Adam(exact, **OPTIONS)
    for values, optimizer in zip((ours, exact), optimizers):
        learn(values, optimizer, steps, seed, empty)
    for a, b in zip(ours, exact):
        torch.testing.assert_close(a.detach().double(), b.detach(), rtol=1e-5, atol=1e-6)
    for a, b in zip(*map(moments, optimizers), strict=True):
        torch.testing.assert_close(
            a.double(), b.double(), rtol=1e-5, atol=1e-6 * float(b.abs().amax()) if b.numel() else 0.0
        )


def test_the_kernel_takes_the_steps() -> None:
    with mock.patch.object(adam, "adam_step", side_effect=adam.adam_step) as taken:
        values = parameters()
        learn(values, Adam(values, **OPTIONS), 3)
    assert taken.call_count == 3


def test_results_depend_neither_on_threads_nor_on_what_lies_beside_a_number() -> None:
    found = []
    for count in (1, 2, 3):
        with threads(count):
            values = parameters()
            learn(values, Adam(values, **OPTIONS), 4)
            found.append(values)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    numbers = torch.randn(1000)
    joined, single = nn.Parameter(numbers.clone()), [nn.Parameter(n.clone()) for n in numbers]
    gradients = torch.randn(5, 1000)
    together, apart = Adam([joined], **OPTIONS), Adam(single, **OPTIONS)
    for line in gradients:
        joined.grad = line
        for p, g in zip(single, line):
            p.grad = g.clone()
        together.step(), apart.step()
    assert torch.equal(joined.detach(), torch.stack([p.detach() for p in single]))


@pytest.mark.parametrize("first, second", [(Adam, torch.optim.Adam), (torch.optim.Adam, Adam)])
def test_each_goes_on_from_the_state_of_the_other(first: type, second: type) -> None:
    values = parameters()
    before = first(values, **OPTIONS, fused=True)
    learn(values, before, 3)
    others = copy.deepcopy(values)
    after = second(others, **OPTIONS, fused=True)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    assert before.state_dict()["param_groups"] == after.state_dict()["param_groups"]
    assert [s.keys() for s in before.state.values()] == [s.keys() for s in after.state.values()]
    learn(values, before, 3, seed=1), learn(others, after, 3, seed=1)
    for a, b in zip([*values, *moments(before)], [*others, *moments(after)], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "change",
    [
        {"weight_decay": 0.1},
        {"amsgrad": True},
        {"maximize": True},
        {"fused": False},
        {"lr": torch.tensor(1e-2)},
        {"dtype": torch.float64},
        {"switch": "chain"},
    ],
)
def test_what_the_kernel_does_not_know_is_torchs(change: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCH, change.pop("switch", ""))
    dtype = change.pop("dtype", torch.float32)
    ours, theirs = parameters(dtype), parameters(dtype)
    with mock.patch.object(adam, "adam_step", side_effect=AssertionError("it was asked")):
        learn(ours, Adam(ours, **OPTIONS | change), 3)
    learn(theirs, torch.optim.Adam(theirs, **{"fused": True} | OPTIONS | change), 3)
    assert all(map(torch.equal, ours, theirs))


def test_tensors_that_do_not_lie_in_one_piece_are_left_to_torch() -> None:
    ours, theirs = (nn.Parameter(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)).T) for _ in range(2))
    for p, kind in ((ours, Adam), (theirs, torch.optim.Adam)):
        learn([p], kind([p], **OPTIONS, fused=True), 3)
    assert not ours.is_contiguous() and torch.equal(ours, theirs)


def test_hooks_are_called_once_and_changes_are_noticed() -> None:
    values, calls = parameters(), []
    optimizer = Adam(values, **OPTIONS)
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    versions = [p._version for p in values]
    learn(values, optimizer, 1)
    assert calls == ["before", "after"] and all(p._version > v for p, v in zip(values, versions))
    x = values[0].square().sum()
    learn(values, optimizer, 1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        x.backward()
