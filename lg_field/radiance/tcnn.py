"""Which code evaluates the shared part's grid: plain torch, or tiny-cuda-nn on the very same table."""

from __future__ import annotations

import importlib
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import Literal

import torch
from torch import Tensor

from lg_field.radiance.hash_grid import HashGrid
from lg_field.table.kept_lines import KeptLines

Implementation = Literal["auto", "torch", "tcnn"]
Encode = Callable[[Tensor, Tensor, KeptLines | None], Tensor]
"""`HashGrid.encode`: table, positions, and which entries the table holds -> features."""

TOLERANCE = 1e-3
"""Largest difference between the two, of a table with entries in [-1, 1]; another order of entries makes one near 1."""


@cache
def encoder(grid: HashGrid, implementation: Implementation, device: torch.device) -> Encode:
    """The function that evaluates a grid on a device.

    Args:
        grid: its sizes.
        implementation: torch, tcnn, or auto: tcnn where it can be used, else torch.
        device: where table and positions are.

    Raises:
        ValueError: tcnn is asked for, and it is not installed or broken, the device is not a CUDA GPU, it fails there,
            or it reads other values from the same table. With auto a warning says so, unless it is not installed.
    """
    if implementation == "torch" or (implementation == "auto" and device.type != "cuda"):
        return grid.encode
    try:
        return tcnn_encoder(grid, device)
    except ImportError as error:
        missing = f"implementation tcnn needs tiny-cuda-nn ({error}): install tinycudann, or take auto or torch"
        if implementation == "tcnn":
            raise ValueError(missing) from error
    except ValueError as error:
        if implementation == "tcnn":
            raise
        warnings.warn(f"{error}; torch is used", stacklevel=2)
    return grid.encode


def tcnn_encoder(grid: HashGrid, device: torch.device) -> Encode:
    """tiny-cuda-nn's evaluation of a grid.

    Raises:
        ImportError: it is not installed.
        ValueError: the device is not a CUDA GPU, it is broken or fails there, or a table means something else to it.
    """
    if device.type != "cuda":
        raise ValueError(f"implementation tcnn needs a CUDA GPU, the field is on {device}: take auto or torch")
    try:
        tcnn = importlib.import_module("tinycudann")
    except Exception as error:  # it finds no GPU that it was built for, was built for another torch, ...
        if isinstance(error, ModuleNotFoundError) and error.name == "tinycudann":
            raise
        raise ValueError(f"tiny-cuda-nn is installed but broken ({first_line(error)}): build it anew") from error
    config = {
        "otype": "HashGrid",
        "n_levels": grid.levels,
        "n_features_per_level": grid.features,
        "log2_hashmap_size": grid.log2_size,
        "base_resolution": grid.base_res,
        "per_level_scale": 2.0,
        "interpolation": "Linear",
    }
    try:
        return checked(grid, tcnn.Encoding(3, config, dtype=torch.float32), device)
    except OtherValues:
        raise
    except Exception as error:
        line = f"tiny-cuda-nn does not run here ({first_line(error)}): take implementation torch"
        raise ValueError(line) from error


class OtherValues(ValueError):
    """Two evaluations of one table differ."""


def first_line(error: Exception) -> str:
    """What an exception says, in short."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def checked(grid: HashGrid, module: torch.nn.Module, device: torch.device) -> Encode:
    """The same as `grid.encode` by a module with one flat parameter `params`, after a look that it is the same. The
    module is given the whole table, with zeros where an entry is not kept, one call at a time: its parameter is another
    one meanwhile.

    Raises:
        OtherValues: it is not.
    """
    one_at_a_time = threading.Lock()

    def encode(table: Tensor, unit: Tensor, kept: KeptLines | None = None) -> Tensor:
        whole = table if kept is None else kept.spread(table)
        with one_at_a_time:
            result: Tensor = torch.func.functional_call(module, {"params": whole.flatten()}, (unit.clamp(0.0, 1.0),))
        return result.to(table.dtype)

    generator = torch.Generator().manual_seed(0)
    table = torch.rand(grid.num_entries, grid.features, generator=generator).to(device) * 2 - 1
    unit = torch.rand(4096, 3, generator=generator).to(device)
    same = sum(p.numel() for p in module.parameters()) == table.numel()
    if not same or float((encode(table, unit) - grid.encode(table, unit)).abs().max()) > TOLERANCE:
        raise OtherValues("this tiny-cuda-nn reads other values from the same table: take implementation torch")
    return encode
