"""The registry of backends: each is the reference where it can run and says why where not; the kernel's interface."""

from __future__ import annotations

import ctypes
import logging
import shutil
from collections.abc import Iterator, Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops import make, shapes
from torch import Tensor

from lg_field.ops import ChainSizes, accumulate_gradients, local_global_chain
from lg_field.ops.backends import BACKENDS, Backend, choose_backend
from lg_field.ops.backends.cpu import SWITCH, kernel
from lg_field.ops.backends.reference import reference_chain

SIZES = ChainSizes(2, 1, 6, 5, 2)
needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)


def test_names_are_keys_and_auto_takes_the_first_that_can() -> None:
    assert {backend.name for backend in BACKENDS.values()} == BACKENDS.keys() and "auto" not in BACKENDS
    x, offsets, table, shared, _ = make(SIZES, [3], torch.float32)
    for values in ((x, table), (x.double(), table.double())):
        able = [b for b in BACKENDS.values() if b.why_not(SIZES, *values) is None]
        assert choose_backend("auto", SIZES, *values) is able[0]
    with pytest.raises(ValueError, match="unknown backend 'gpu': use auto, cpu, triton, torch, reference"):
        local_global_chain(x, offsets, table, shared, SIZES, backend="gpu")


@settings(max_examples=40)
@given(
    sizes=shapes,
    counts=st.lists(st.sampled_from([0, 1, 5, 33, 64]), min_size=1, max_size=5),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_every_backend_that_can_equals_the_reference(sizes: ChainSizes, counts: list[int], dtype: torch.dtype) -> None:
    x, offsets, table, shared, global_x = make(sizes, counts, torch.float64)
    wanted = reference_chain(x, offsets, table, shared, sizes, global_x)
    inputs = [t.detach().to(dtype).requires_grad_() for t in (x, table, global_x, *shared.values())]
    named = dict(zip(shared, inputs[3:]))
    exact = torch.autograd.grad(wanted.sum(), [table, *shared.values()], allow_unused=True)
    ran = []
    for name, backend in BACKENDS.items():
        if backend.why_not(sizes, *inputs) is not None:
            continue
        ran.append(name)
        out = local_global_chain(inputs[0], offsets, inputs[1], named, sizes, global_x=inputs[2], backend=name)
        grads = torch.autograd.grad(out.sum(), [inputs[1], *inputs[3:]], allow_unused=True)
        bound = 1e-8 if dtype == torch.float64 else 3e-2  # deep sines magnify rounding; a relu may fall either way
        for got, want in zip((out, *grads), (wanted, *exact)):
            if want is not None and want.numel():
                scale = float(want.detach().abs().max().clamp_min(1e-2))
                assert float((got.detach().double() - want.detach()).abs().max()) <= bound * scale, name
    assert {"torch", "reference"} <= set(ran)


@pytest.mark.parametrize("backend", list(BACKENDS))
@pytest.mark.parametrize("chunk", [1, 20, 1000])
def test_a_step_of_every_backend_adds_the_gradients_of_the_mean_squared_error(backend: str, chunk: int) -> None:
    dtype = torch.float32 if backend == "cpu" else torch.float64
    x, offsets, table, shared, _ = make(SIZES, [17, 0, 1, 40, 0], torch.float64)
    target = torch.rand(len(x), 1, dtype=torch.float64)
    loss = (reference_chain(x, offsets, table, shared, SIZES, x) - target).square().mean()
    wanted = torch.autograd.grad(loss, [table, *shared.values()])
    table = table.detach().to(dtype).requires_grad_()
    shared = {k: v.detach().to(dtype).requires_grad_() for k, v in shared.items()}
    values = (x.to(dtype), offsets, target.to(dtype), table, shared, SIZES, chunk)
    if choose_backend("reference", SIZES) and BACKENDS[backend].why_not(SIZES, *values[:1], table) is not None:
        pytest.skip("the CPU kernel cannot be built here")
    errors = [accumulate_gradients(*values, backend) for _ in range(2)]
    assert errors[0] == errors[1] == pytest.approx(float(loss.detach()), rel=1e-5)
    close = 1e-9 if dtype == torch.float64 else 1e-3
    for got, want in zip([table, *shared.values()], wanted):
        torch.testing.assert_close(got.grad.double(), 2 * want, rtol=close, atol=close * float(want.abs().max()))


class Counting(Backend):
    """The reference, with a count of its calls; only for single outputs."""

    name = "counting"

    def __init__(self) -> None:
        self.calls = 0

    def why_not(self, sizes: ChainSizes, *tensors: Tensor) -> str | None:
        return None if sizes.out_features == 1 else f"it has one output, not {sizes.out_features}"

    def chain(
        self,
        x: Tensor,
        offsets: Tensor,
        table: Tensor,
        shared: Mapping[str, Tensor],
        sizes: ChainSizes,
        global_x: Tensor,
        chunk: int | None = None,
    ) -> Tensor:
        self.calls += 1
        return reference_chain(x, offsets, table, shared, sizes, global_x)


@pytest.fixture
def counting() -> Iterator[Counting]:
    """A backend before all others."""
    backend, others = Counting(), dict(BACKENDS)
    BACKENDS.clear()
    BACKENDS.update({backend.name: backend, **others})
    yield backend
    BACKENDS.clear()
    BACKENDS.update(others)


def test_a_registered_backend_serves_the_chain_and_training_where_it_can(counting: Counting) -> None:
    x, offsets, table, shared, _ = make(SIZES, [9, 4])
    wanted = local_global_chain(x, offsets, table, shared, SIZES, backend="torch")
    torch.testing.assert_close(local_global_chain(x, offsets, table, shared, SIZES), wanted)
    assert counting.calls == 1
    accumulate_gradients(x, offsets, torch.zeros(13, 1, dtype=x.dtype), table, shared, SIZES, 10)
    assert counting.calls == 3, "two chunks of whole rows"
    more = ChainSizes(2, 3, 6, 5, 2)
    x, offsets, table, shared, _ = make(more, [9, 4])
    local_global_chain(x, offsets, table, shared, more)
    assert counting.calls == 3
    with pytest.raises(ValueError, match='backend "counting" cannot run: it has one output, not 3'):
        local_global_chain(x, offsets, table, shared, more, backend="counting")


def test_where_no_backend_can_all_say_why(counting: Counting, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("torch", "reference"):
        monkeypatch.delitem(BACKENDS, name)
    x, offsets, table, shared, _ = make(ChainSizes(2, 3, 6, 5, 2), [4])
    with pytest.raises(ValueError, match=r"counting: it has one output, not 3; cpu: it takes float32 .* got float64"):
        local_global_chain(x, offsets, table, shared, ChainSizes(2, 3, 6, 5, 2))


def test_the_kernel_looks_at_sizes_types_devices_and_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    good, why_not = torch.zeros(3), BACKENDS["cpu"].why_not
    assert why_not(ChainSizes(2, 1, 6, 5, 2, "gauss"), good) == "it does not know the activation 'gauss'"
    odd = ChainSizes(2, 1, 6, 5, 2)
    object.__setattr__(odd, "merge", "multiply")
    assert why_not(odd, good) == "it does not know the merge 'multiply'"
    assert why_not(SIZES, good, good.double()) == "it takes float32 tensors on the CPU, got float64 on cpu"
    assert why_not(SIZES, good.to("meta")) == "it takes float32 tensors on the CPU, got float32 on meta"
    monkeypatch.setenv(SWITCH, "0")
    assert why_not(SIZES, good) == f"the environment variable {SWITCH} is 0"


@pytest.fixture
def fresh_kernel() -> Iterator[None]:
    """The kernel is looked at anew, before and after."""
    kernel.kernel.cache_clear()
    yield
    kernel.kernel.cache_clear()


class LongerTask(ctypes.Structure):
    """A `Task` with one member more."""

    _fields_ = [*kernel.Task._fields_, ("more", ctypes.c_double)]


@needs_compiler
@pytest.mark.parametrize(("name", "value"), [("Task", LongerTask), ("ABI", kernel.ABI + 1)])
@pytest.mark.usefixtures("fresh_kernel")
def test_a_kernel_of_another_task_is_refused_and_torch_takes_over(
    name: str, value: object, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x, offsets, table, shared, _ = make(SIZES, [4, 3], torch.float32)
    before = local_global_chain(x, offsets, table, shared, SIZES, backend="torch")
    monkeypatch.setattr(kernel, name, value)
    kernel.kernel.cache_clear()
    with caplog.at_level(logging.WARNING):
        after = local_global_chain(x, offsets, table, shared, SIZES)
    assert torch.equal(before, after)
    assert len(caplog.messages) == 1 and "does without its CPU kernel: chain.cpp has version" in caplog.messages[0]
    with pytest.raises(ValueError, match=r'"cpu" cannot run: chain.cpp has version \d+ of Task with \d+ bytes'):
        local_global_chain(x, offsets, table, shared, SIZES, backend="cpu")


@needs_compiler
def test_the_kernel_refuses_codes_it_does_not_know() -> None:
    built = kernel.kernel()
    assert isinstance(built, ctypes.CDLL) and kernel.mismatch(built) is None
    assert built.lg_field_chain(ctypes.byref(kernel.Task(activation=7))) == 2
    assert "does not say how it is called" in str(kernel.mismatch(object()))
