"""The Triton kernels where there is no GPU: laws in Triton's interpreter, machine code for three chips, refusals."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lg_field.ops import ChainSizes
from lg_field.ops.backends import BACKENDS, choose_backend, may_take
from lg_field.ops.backends.cpu.encode import EncodeSizes
from lg_field.ops.backends.cpu.march import Voxels
from lg_field.ops.backends.triton import ahead, encode, march, runtime, shade
from lg_field.ops.backends.triton.chain import triton_chain

triton = pytest.importorskip("triton", reason="Triton has no wheels for this system")

RAYS = ChainSizes(19, 28, 16, 64, 1, "relu", residual=True, global_in_features=51)
"""Of lg-field and lg-field-tiny."""
WIDE = ChainSizes(64, 64, 64, 128, 2, "sine", residual=True, global_in_features=100)


def test_laws_hold_in_the_interpreter() -> None:
    """In a process of its own: kernels are for the interpreter or for a GPU from when they are imported."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        str(Path(__file__).with_name("triton_laws.py")),
    ]
    environment = os.environ | {runtime.INTERPRETED: "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed" in done.stdout and "skipped" not in done.stdout


def chain_of(sizes: ChainSizes) -> Callable[[], None]:
    """A chain and its backward pass, with all gradients."""

    def work() -> None:
        shapes = [
            (300, sizes.in_features),
            (300, sizes.global_in),
            (3, sizes.row_size),
            *sizes.shared_shapes().values(),
        ]
        x, gx, table, *shared = (torch.zeros(shape, requires_grad=True) for shape in shapes)
        triton_chain(x, torch.tensor([0, 100, 100, 300]), table, shared, sizes, gx).sum().backward()

    return work


def around() -> None:
    """What surrounds the chain of lg-field, and its backward pass."""
    sizes = EncodeSizes((8, 8, 8), 17, 4, 2, 6, True, True, levels=4, level_features=2, log2_size=15, base_res=16)
    grids, table = torch.zeros(3, 17**3 * 4, requires_grad=True), torch.zeros(102400, 2, requires_grad=True)
    offsets = torch.tensor([0, 100, 100, 300])
    local, everywhere = encode.encode(torch.rand(300, 3), offsets, torch.zeros(3, 3), grids, table, sizes)
    (local.sum() + everywhere.sum()).backward()
    rays, directions = torch.zeros(300, dtype=torch.int64), torch.ones(4, 3)
    out = torch.zeros(300, 28, requires_grad=True)
    density, rgb, dependence = shade.shade(out, torch.arange(300), rays, directions, -3.0)
    seen = shade.composite(density, rgb, rays, torch.zeros(300), torch.ones(300), 4)
    (seen.sum() + dependence.sum()).backward()
    for contraction in (False, True):
        where = Voxels((8, 8, 8), 8, (-1.0,) * 3, (1.0,) * 3, (8.0,) * 3, (0.0,) * 3, contraction)
        span = torch.zeros(4), torch.ones(4)
        voxels = torch.zeros(64**3, dtype=torch.bool)
        march.march_voxels(
            (directions, directions), span, torch.zeros(4), 0.1, where, voxels, 2.0 if contraction else None
        )


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_machine_code_spills_no_registers_and_fits_the_shared_memory(
    capability: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(runtime, "precision", lambda: "tf32")
    monkeypatch.setattr("lg_field.ops.backends.triton.chain.precision", lambda: "tf32")
    found = ahead.compiled(capability, chain_of(RAYS)) + ahead.compiled(capability, around)
    names = {"chain_forward", "chain_backward", "tile_edges", "encode_forward", "encode_backward", "march"}
    names |= {"shade_forward", "shade_backward", "composite_forward", "composite_backward"}
    assert {kernel.name for kernel in found} == names
    for kernel in found:
        assert kernel.spilled == 0, kernel
        assert kernel.shared <= 1024 * ahead.SHARED_MEMORY[capability] and 0 < kernel.registers <= 255, kernel
        assert kernel.registers * kernel.threads <= 1 << 16, kernel


@pytest.mark.parametrize(("sizes", "precision"), [(WIDE, "tf32"), (RAYS, "tf32x3")], ids=["wide", "float32"])
def test_wide_chains_and_those_in_full_precision_fit_a_hopper(
    sizes: ChainSizes, precision: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("lg_field.ops.backends.triton.chain.precision", lambda: precision)
    for kernel in ahead.compiled(90, chain_of(sizes)):
        assert kernel.spilled == 0 and kernel.shared <= 1024 * ahead.SHARED_MEMORY[90], kernel


def test_without_a_gpu_it_says_so_and_auto_takes_another() -> None:
    tensors = torch.zeros(3, 19), torch.zeros(3, 51)
    with pytest.raises(
        ValueError, match=r'backend "triton" cannot run: it takes float32 tensors on cuda, got float32 on cpu'
    ):
        choose_backend("triton", RAYS, *tensors)
    assert choose_backend("auto", RAYS, *tensors).name != "triton"
    assert may_take("auto", "triton") and not may_take("cpu", "triton") and may_take("triton", "triton")
    unit = tensors[0][:, :3]
    sizes = EncodeSizes((1, 1, 1), 2, 2, 1, 1, False, False)
    for reason in (
        encode.why_not(sizes, unit),
        march.why_not(unit),
        shade.why_not(torch.zeros(2, 28), unit),
        shade.why_not_composite(unit[:, 0], unit, unit[:, 0]),
    ):
        assert "float32 tensors on cuda" in str(reason)


def test_what_the_kernels_cannot_do_is_named() -> None:
    unit = torch.rand(3, 3)
    sizes = EncodeSizes((1, 1, 1), 2, 2, 1, 1, False, False)
    assert "no gradients to points" in str(encode.why_not(sizes, unit.clone().requires_grad_()))
    assert "24 frequencies" in str(encode.why_not(EncodeSizes((1, 1, 1), 2, 2, 25, 1, False, False), unit))
    assert "64 features" in str(encode.why_not(EncodeSizes((1, 1, 1), 2, 65, 1, 1, False, False), unit))
    assert "1, 2, 4 or 8" in str(encode.why_not(EncodeSizes((1, 1, 1), 2, 2, 1, 1, True, True, 1, 3, 5, 4), unit))
    assert "28 outputs" in str(shade.why_not(torch.zeros(2, 5), unit))
    assert "no gradients to directions" in str(shade.why_not(torch.zeros(2, 28), unit.clone().requires_grad_()))
    assert "three channels" in str(shade.why_not_composite(unit[:, 0], unit[:, :0], unit[:, 0]))
    assert "no gradients to places" in str(
        shade.why_not_composite(unit[:, 0], unit, unit[:, 0].clone().requires_grad_())
    )


def test_a_switch_and_a_missing_triton_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.missing.cache_clear()
    monkeypatch.setitem(sys.modules, "triton", None)
    assert "Triton cannot be imported (ModuleNotFoundError" in str(runtime.missing())
    runtime.missing.cache_clear()
    monkeypatch.setenv(runtime.INTERPRETED, "1")  # so that tensors of the CPU will do
    monkeypatch.setenv(runtime.SWITCH, "0")
    assert "LG_FIELD_TRITON is 0" in str(BACKENDS["triton"].why_not(RAYS, torch.zeros(1)))
    assert "TRITON_INTERPRET is 1, which is slow" in str(BACKENDS["triton"].why_not_unasked(RAYS, torch.zeros(1)))
    with pytest.raises(RuntimeError, match="nothing is compiled"):
        ahead.compiled(90, around)


def test_tiles_are_powers_of_two() -> None:
    assert [runtime.padded(n) for n in (0, 1, 16, 17, 64, 65)] == [16, 16, 16, 32, 64, 128]
    assert runtime.processors(torch.device("cpu")) == 1
