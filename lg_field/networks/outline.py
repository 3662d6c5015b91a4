"""What a network of a signal holds, told from its configuration; without torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lg_field.chain_layers import OWN_ACTIVATIONS, ChainLayers
from lg_field.space.partition import PartitionGrid
from lg_field.table.checkpoint import check_cells
from lg_field.table.outline import FLOAT, Form, Outline


def outline(grid: PartitionGrid, config: Mapping[str, Any], cells: np.ndarray) -> Outline:
    """The outline of `LocalGlobalNetwork.from_config` with the same arguments.

    Raises:
        ValueError: as that does.
    """
    layers, fill = checked_layers(config)
    check_cells(cells, grid)
    check_axes(grid, layers.in_features)
    return Outline(
        grid,
        cells,
        dataclasses.asdict(layers) | {"fill": fill},
        rows={"local": Form(FLOAT, (layers.row_size,))},
        shared={f"shared.{name}": Form(FLOAT, shape) for name, shape in layers.shared_shapes().items()},
        cell_set_names=("full",),
        out_features=layers.out_features,
    )


def checked_layers(config: Mapping[str, Any]) -> tuple[ChainLayers, float]:
    """The sizes and the fill that a configuration states.

    Args:
        config: what `LocalGlobalNetwork.config` gives; entries with a default may be missing.

    Raises:
        ValueError: an entry that is missing, unknown or out of range, by name.
    """
    known = {f.name: f.default for f in dataclasses.fields(ChainLayers)} | {"fill": dataclasses.MISSING}
    unknown = sorted(map(str, config.keys() - known.keys()))
    missing = sorted(name for name, default in known.items() if default is dataclasses.MISSING and name not in config)
    if unknown or missing:
        problem = f"unknown {', '.join(unknown)[:100]}" if unknown else f"missing {', '.join(missing)}"
        raise ValueError(f"entries of the network's configuration: {problem}")
    layers = ChainLayers(**{k: v for k, v in config.items() if k != "fill"})
    check_activation(layers)
    return layers, checked_fill(config["fill"])


def check_activation(layers: ChainLayers) -> None:
    """Raise ValueError unless there is such an activation."""
    if layers.activation not in OWN_ACTIVATIONS:
        from lg_field.ops import ChainSizes

        ChainSizes(**vars(layers))


def check_axes(grid: PartitionGrid, inputs: int) -> None:
    """Raise ValueError unless a network has an input for each axis of a grid."""
    if grid.dim != inputs:
        raise ValueError(f"the grid has {grid.dim} axes, the network {inputs} inputs")


def checked_fill(fill: Any) -> float:
    """Raise ValueError unless `fill` is a finite number."""
    if isinstance(fill, bool) or not isinstance(fill, (int, float)) or not math.isfinite(fill):
        raise ValueError(f"fill must be a finite number, got {fill!r}")
    return float(fill)
