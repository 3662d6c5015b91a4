"""The fused CPU kernel is the reference chain, in value and gradient, always the same to the bit; or says why not."""

from __future__ import annotations

import contextlib
import os
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_ops import make
from torch import Tensor

from lg_field.ops import ChainSizes, accumulate_gradients, local_global_chain
from lg_field.ops.backends import choose_backend, cpu

needs_compiler = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler"
)
pytestmark = needs_compiler

widths = [1, 3, 14, 15, 17, 84]
shapes = st.builds(
    ChainSizes,
    in_features=st.sampled_from([1, 2, 3, 19, 33]),
    out_features=st.sampled_from([1, 3, 16, 18]),
    local_width=st.sampled_from([0, *widths]),
    global_width=st.sampled_from(widths),
    hidden_layers=st.integers(0, 3),
    activation=st.sampled_from(["sine", "relu"]),
    w0=st.sampled_from([1.0, 30.0]),
    merge=st.sampled_from(["concat", "add"]),
    residual=st.booleans(),
    global_in_features=st.sampled_from([None, 6, 39]),
) | st.builds(ChainSizes, st.just(2), st.just(3), st.sampled_from(widths), st.just(0), st.integers(0, 3))
AVX2 = Path("/proc/cpuinfo").exists() and " avx2 " in Path("/proc/cpuinfo").read_text()
CHAINS = [ChainSizes(3, 1, 4, 6, 1), ChainSizes(2, 3, 14, 20, 2, residual=True), ChainSizes(2, 3, 1, 3, 0, "relu")]
counts = st.lists(st.sampled_from([0, 1, 2, 15, 16, 17, 63, 64, 65, 150]), min_size=1, max_size=6)


def results(shape: ChainSizes, sizes: list[int], backend: str, dtype: torch.dtype) -> list[Tensor]:
    """Value, and gradient of every input, of a weighted sum of the outputs."""
    x, offsets, table, shared, global_x = make(shape, sizes)
    inputs = [t.detach().to(dtype).requires_grad_() for t in (x, global_x, table, *shared.values())]
    named = dict(zip(shared, inputs[3:]))
    out = local_global_chain(inputs[0], offsets, inputs[2], named, shape, global_x=inputs[1], backend=backend)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    grads = torch.autograd.grad((out * weights.to(dtype)).sum(), inputs, allow_unused=True)
    return [out.detach(), *(torch.zeros_like(t) if g is None else g for t, g in zip(inputs, grads))]


@settings(max_examples=80)
@given(shape=shapes, sizes=counts)
def test_equals_reference_in_value_and_gradient(shape: ChainSizes, sizes: list[int]) -> None:
    fused = results(shape, sizes, "cpu", torch.float32)
    exact, plain = (results(shape, sizes, b, d) for b, d in (("reference", torch.float64), ("torch", torch.float32)))
    for value, close, wanted in zip(fused, plain, exact):
        if wanted.numel() == 0:
            continue
        scale = wanted.abs().max().clamp_min(1e-3)
        error, usual = ((v.double() - wanted).abs().max() / scale for v in (value, close))
        assert error <= max(1e-3, 30 * float(usual))  # deep sines magnify rounding; a relu near 0 may fall either way


@pytest.mark.parametrize("phase", [1.0, 100.0, 3000.0])
def test_sine_is_that_of_the_phase(phase: float) -> None:
    shape = ChainSizes(1, 1, 0, 1, 0, w0=1.0)
    shared = {
        "global_weight_0": torch.ones(1, 1),
        "global_bias_0": torch.zeros(1),
        "head_weight": torch.ones(1, 1),
        "head_bias": torch.zeros(1),
    }
    x = torch.linspace(-phase, phase, 100_001)[:, None].requires_grad_()
    offsets = torch.tensor([0, len(x)])
    y = local_global_chain(x, offsets, torch.zeros(1, 0), shared, shape, backend="cpu")
    y.sum().backward()
    rounding = phase * 2.0**-23  # of the phase itself
    assert (y.detach().double() - x.detach().double().sin()).abs().max() < 2e-7 + rounding
    assert (x.grad.double() - x.detach().double().cos()).abs().max() < 2e-7 + rounding


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_step_gives_the_gradients_of_the_mean_squared_error_whatever_the_threads() -> None:
    torch.manual_seed(0)  # its sines magnify rounding: of a hundred seeds one is beyond the bounds below
    shape = ChainSizes(2, 3, 14, 20, 2)
    x, offsets, table, shared, _ = make(shape, [1900, 0, 1, 3000, 600, 0], torch.float32)
    table, target = table.detach().requires_grad_(), torch.rand(len(x), 3)
    shared = {k: v.detach().requires_grad_() for k, v in shared.items()}
    parameters = [table, *shared.values()]
    loss = (local_global_chain(x, offsets, table, shared, shape, backend="torch") - target).square().mean()
    wanted = torch.autograd.grad(loss, parameters)
    first: list[Tensor] = []
    for number in (1, 1, 2, 3, 5):
        for p in parameters:
            p.grad = None
        with threads(number):
            error = accumulate_gradients(x, offsets, target, table, shared, shape, 64)
        grads = [torch.tensor(error), *(p.grad for p in parameters)]
        first = first or grads
        assert all(map(torch.equal, grads, first))
    assert error == pytest.approx(float(loss.detach()), rel=1e-5)
    for grad, expected in zip(first[1:], wanted):
        torch.testing.assert_close(grad, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    accumulate_gradients(x, offsets, target, table, shared, shape, 64)
    assert all(torch.equal(p.grad, 2 * grad) for p, grad in zip(parameters, first[1:]))


@given(shape=st.sampled_from(CHAINS), sizes=counts, keep=st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_value_of_a_point_does_not_depend_on_the_others_to_the_bit(
    shape: ChainSizes, sizes: list[int], keep: random.Random
) -> None:
    x, offsets, table, shared, _ = make(shape, sizes, torch.float32)
    rows = torch.repeat_interleave(torch.arange(len(sizes)), offsets.diff())
    kept = torch.tensor([keep.random() < 0.4 for _ in rows], dtype=torch.bool)
    some = torch.tensor([0, *torch.bincount(rows[kept], minlength=len(sizes)).cumsum(0)])
    whole = local_global_chain(x, offsets, table, shared, shape, backend="cpu")
    assert torch.equal(local_global_chain(x[kept], some, table, shared, shape, backend="cpu"), whole[kept])


def test_only_wanted_gradients_are_computed() -> None:
    shape = ChainSizes(2, 1, 6, 5, 2)
    x, offsets, table, shared, _ = make(shape, [10, 20], torch.float32)
    table = table.detach().requires_grad_()
    frozen = {k: v.detach() for k, v in shared.items()}
    local_global_chain(x, offsets, table, frozen, shape, backend="cpu").sum().backward()
    assert x.grad is None and all(v.grad is None for v in frozen.values())
    whole = make(shape, [10, 20], torch.float32)[2].detach().requires_grad_()
    local_global_chain(x, offsets, whole, shared, shape, backend="cpu").sum().backward()
    assert torch.equal(table.grad, whole.grad)


def test_refuses_what_it_cannot_do_and_auto_goes_on_without() -> None:
    shape = ChainSizes(2, 1, 6, 5, 2)
    x, offsets, table, shared, _ = make(shape, [4, 3])
    with pytest.raises(ValueError, match=r"backend \"cpu\" cannot run: it takes float32 .* float64 on cpu"):
        local_global_chain(x, offsets, table, shared, shape, backend="cpu")
    assert local_global_chain(x, offsets, table, shared, shape).dtype == torch.float64
    meta = [t.to("meta", torch.float32) for t in (x, table)]
    with pytest.raises(ValueError, match="on meta"):
        choose_backend("cpu", shape, *meta)
    x, offsets, table, shared, _ = make(shape, [4, 3], torch.float32)
    with pytest.raises(ValueError, match="offsets must rise from 0 to the number of points, 7"):
        local_global_chain(x, torch.tensor([0, 9, 7]), table, shared, shape, backend="cpu")
    with pytest.raises(ValueError, match=r"merge_bias must be \(6,\), got \(5,\)"):
        local_global_chain(x, offsets, table, shared | {"merge_bias": torch.zeros(5)}, shape, backend="cpu")


@pytest.mark.skipif(shutil.which("g++") is None or platform.machine() != "x86_64", reason="needs g++ on x86-64")
@pytest.mark.skipif(not AVX2, reason="needs AVX2")
def test_the_same_holds_where_gcc_would_rather_not_fuse(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text('#!/bin/bash\nexec g++ "${@/-march=native/-march=znver3}"\n')
    compiler.chmod(0o755)
    test = f"{__file__}::{test_value_of_a_point_does_not_depend_on_the_others_to_the_bit.__name__}"
    environment = os.environ | {"CXX": str(compiler), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=environment, text=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stdout
    assert list((tmp_path / "lg-field").glob("chain-*.so"))


PROGRAM = """
import sys, torch
from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, local_global_chain
shape = ChainSizes(2, 1, 3, 4, 1)
table, shared = init_rows(shape, 1), init_shared(shape)
out = local_global_chain(torch.zeros(5, 2), torch.tensor([0, 5]), table, shared, shape, backend=sys.argv[1])
print(tuple(out.shape))
"""


def start(backend: str, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, backend]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | environment
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_without_a_compiler_auto_works_and_cpu_names_the_cure(tmp_path: Path) -> None:
    nothing = {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "CXX": "no-such-compiler"}
    auto, forced = start("auto", **nothing), start("cpu", **nothing)
    assert auto.communicate() == ("(5, 1)\n", "")
    assert "install g++ or clang" in forced.communicate()[1].splitlines()[-1]
    switched_off = start("cpu", **{cpu.SWITCH: "0"})
    assert f"{cpu.SWITCH} is 0" in switched_off.communicate()[1].splitlines()[-1]


def test_a_compiler_that_fails_is_named_and_auto_goes_on(tmp_path: Path) -> None:
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\necho 'fatal error: no headers' >&2\nexit 1\n")
    compiler.chmod(0o755)
    out, text = start("auto", CXX=str(compiler), XDG_CACHE_HOME=str(tmp_path)).communicate()
    assert out == "(5, 1)\n" and f"it cannot be built with {compiler}: fatal error: no headers" in text
    assert list((tmp_path / "lg-field").iterdir()) == []


def test_two_processes_may_build_at_once(tmp_path: Path) -> None:
    both = [start("cpu", XDG_CACHE_HOME=str(tmp_path)) for _ in range(2)]
    assert [p.communicate() for p in both] == [("(5, 1)\n", "")] * 2
    (kernel,) = (tmp_path / "lg-field").iterdir()
    assert kernel.name.startswith("chain-")
