"""CONTRIBUTING's recipes, followed: its code blocks are run as they stand, and what they add is used."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands import lg, picture
from test_ops import make

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes, accumulate_gradients, activation_names, activations, backends, local_global_chain
from lg_field.signals import SignalData, kinds
from lg_field.signals.fit import Fit
from lg_field.signals.settings import CompleteFit
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

ROOT = Path(__file__).parents[1]


def blocks() -> dict[str, str]:
    """File named in the first line -> the code block."""
    found = re.findall(r"^```python\n# (\S+)\n(.*?)^```$", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S)
    return dict(found)


def follow(file: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block where a file's names are in sight; returns the names after it."""
    after = dict(names)
    exec(compile(blocks()[file], file, "exec"), after)
    return after


def test_every_block_names_a_file_beside_those_there_are() -> None:
    assert len(blocks()) == 5 and all((ROOT / file).parent.is_dir() for file in blocks())


def test_the_kind_encodes_crops_and_decodes(tmp_path: Path) -> None:
    made = follow("lg_field/signals/kinds/heights.py", {})
    try:
        follow("lg_field/signals/kinds/__init__.py", vars(kinds) | made)
        y, x = np.mgrid[:40, :64]
        heights = 300 + 40 * np.sin(x / 9) * np.cos(y / 7)
        np.savetxt(tmp_path / "hills.asc", heights)
        lg("encode", "hills.asc", "-o", "hills", "--steps", 150, "--parameters", 4000, cwd=tmp_path)
        assert lg_field.load(tmp_path / "hills").description.kind == "heights"
        lg("decode", "hills", "-o", "again.asc", cwd=tmp_path)
        again = np.loadtxt(tmp_path / "again.asc")
        assert again.shape == heights.shape and np.abs(again - heights).mean() < 8
        lg("crop", "hills", "--box", 32, 0, 64, 40, "-o", "right", cwd=tmp_path)
        lg("decode", "right", "-o", "right.asc", cwd=tmp_path)
        assert np.array_equal(np.loadtxt(tmp_path / "right.asc")[:, -32:], again[:, 32:])
        assert "heights" in lg("info", "hills", cwd=tmp_path)
    finally:
        kinds.KINDS.pop("heights", None)


def test_the_activation_trains_on_the_torch_path_and_saves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activations, "ACTIVATIONS", dict(activations.ACTIVATIONS))
    follow("lg_field/ops/activations.py", vars(activations))
    assert "softplus" in activation_names()
    sizes = ChainSizes(2, 3, 8, 16, 1, "softplus")
    x, offsets, table, shared, _ = make(sizes, [5, 0, 40])
    values = [local_global_chain(x, offsets, table, shared, sizes, backend=name) for name in ("torch", "reference")]
    torch.testing.assert_close(*values)
    data = SignalData(torch.from_numpy(picture(24, 24)), Signal("image", (24, 24), 3))
    field = LocalGlobalNetwork(PartitionGrid((2, 2), (-1, -1), (1, 1)), sizes)
    field.description = data.signal
    errors: list[float] = []
    Fit(field, data, CompleteFit(steps=60, lr=3e-3)).run(lambda step, error: errors.append(error))
    assert errors[-1] < 0.7 * errors[0]
    lg_field.save(field, tmp_path / "a")
    assert lg_field.load(tmp_path / "a").sizes == sizes


def test_the_backend_runs_the_chain_and_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "BACKENDS", dict(backends.BACKENDS))
    made = follow("lg_field/ops/backends/recomputed.py", {})
    follow("lg_field/ops/backends/__init__.py", vars(backends) | made)
    sizes = ChainSizes(2, 3, 0, 8, 1)
    x, offsets, table, shared, _ = make(sizes, [5, 0, 20])
    got = local_global_chain(x, offsets, table, shared, sizes, backend="recomputed")
    torch.testing.assert_close(got, local_global_chain(x, offsets, table, shared, sizes, backend="reference"))
    error = accumulate_gradients(x, offsets, torch.zeros(25, 3).double(), table, shared, sizes, 100, "recomputed")
    assert error == pytest.approx(float(got.detach().square().mean()))
    assert shared["head_bias"].grad is not None
    local = ChainSizes(2, 3, 4, 8, 1)
    x, offsets, table, shared, _ = make(local, [5])
    with pytest.raises(ValueError, match='"recomputed" cannot run: it takes global networks only'):
        local_global_chain(x, offsets, table, shared, local, backend="recomputed")
