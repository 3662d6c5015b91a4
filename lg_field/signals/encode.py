"""From a signal and a few choices to a network that is ready to train."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.budget import Network, sizes_for_budget
from lg_field.networks.incode import Harmonizer, ModulatedWeights, modulated_kinds
from lg_field.ops import ChainSizes
from lg_field.signals.data import SignalData
from lg_field.signals.features import MAX_VOLUME, Weights, features_of
from lg_field.signals.fit import Fit, FitConfig
from lg_field.signals.shapes.occupancy import OccupancyData, ShapeCells
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid, automatic_counts


@dataclass(frozen=True)
class NetworkConfig:
    """Which network."""

    network: Network = "local-global"
    """local-global, or a baseline: SIREN-per-Partition or one SIREN."""
    counts: tuple[int, ...] = ()
    """Cells per axis (image: y x; video: time y x). Default: from --cell-size."""
    cell_size: tuple[int, ...] = ()
    """Samples per cell and axis, about. Default: 32 x 32 pixels, 32 cells of a sound, 60 x 64 x 64 of a video."""
    parameters: int = 200_000
    """Budget that the widths are chosen for; 0 = 200,000, of signals below 40,000 samples 5 for each."""
    global_share: float = 0.1
    """Part of the budget for the global sub-network and the merge."""
    local_width: int = 0
    """h: neurons of a cell's layers; 0 = from the budget."""
    global_width: int = 0
    """g: neurons of the global layers; 0 = from the budget."""
    hidden_layers: int = 3
    """Hidden layers after the first."""
    merge: Literal["concat", "add"] = "concat"
    """Merge operator."""
    w0: float = 30.0
    """Frequency of the sine layers."""
    first_w0: float = 0.0
    """Of the first layer (next to cells' networks the global one keeps w0); 0 = w0. For noisy input: 5 to 20."""
    activation: Literal["sine", "incode"] = "sine"
    """incode: sine layers whose amplitude, frequency, phase and offset are predicted from the input (INCODE)."""
    harmonizer: tuple[int, ...] = (64, 32)
    """Hidden widths of the network that predicts them."""
    harmonizer_bias: float = 0.312
    """Where the predicted numbers start."""
    harmonizer_norm: bool = False
    """LayerNorm in the harmonizer (the published denoising has it)."""
    harmonizer_weights: Weights = "random"
    """Of its frozen feature extractor; pretrained ones must be in torch's cache, nothing is downloaded."""
    coordinate_scale: float = 0.0
    """The domain is [-this, this] on every axis; 0 = 1, and 100 for sound (paper)."""


SHAPE_COUNTS = (8, 8, 8)
"""Cells of a shape (paper)."""
CELL_SIZES = {"image": (32, 32), "video": (60, 64, 64), "volume": (32, 32, 32)}
FILLS = {"audio": 0.0, "image": -1.0, "video": -1.0, "volume": -1.0, "occupancy": -1.0}
"""Network value outside the kept cells: black, silence, the volume's lowest value, empty space."""
FIT_DEFAULTS: dict[str, dict[str, Any]] = {
    "image": {"lr": 5e-4},
    "audio": {"lr": 1e-4},
    "video": {"lr": 1e-4, "steps": 5000, "sample_fraction": 0.002, "overlap": 2},
    "volume": {"lr": 1e-4, "steps": 2000, "sample_fraction": 0.02, "overlap": 1},
    "occupancy": {"lr": 1.5e-3, "steps": 1500, "points": 50_000, "overlap": 1, "lr_factor": 0.03},
}
"""The paper's settings per kind of signal; what a preset or a flag does not say."""
NETWORK_DEFAULTS: dict[str, dict[str, Any]] = {
    kind: {"harmonizer_bias": 0.0005} for kind in ("audio", "video", "volume", "occupancy")
}
"""The same for the network: INCODE's usual start (0.312) suits images; elsewhere it is noise that training keeps."""


def domain_grid(signal: Signal, config: NetworkConfig) -> PartitionGrid:
    """The partition of a signal.

    Raises:
        ValueError: wrong number of axes, or more cells than samples on an axis.
    """
    axes = len(signal.shape)
    if config.counts and config.cell_size:
        raise ValueError("give either --counts or --cell-size")
    if config.counts:
        counts = config.counts
    elif config.cell_size:
        if len(config.cell_size) != axes:
            raise ValueError(f"--cell-size needs {axes} numbers for a {signal.kind}, got {len(config.cell_size)}")
        counts = automatic_counts(signal.shape, config.cell_size)
    elif signal.kind == "audio":
        counts = (min(32, signal.shape[0]),)
    elif signal.kind == "occupancy":
        counts = tuple(min(c, n) for c, n in zip(SHAPE_COUNTS, signal.shape))
    else:
        counts = automatic_counts(signal.shape, CELL_SIZES[signal.kind])
    if len(counts) != axes:
        raise ValueError(f"--counts needs {axes} numbers for a {signal.kind}, got {len(counts)}")
    if any(not 1 <= c <= n for c, n in zip(counts, signal.shape)):
        raise ValueError(f"{counts} cells for {signal.shape} samples: at least 1, and no more cells than samples")
    scale = config.coordinate_scale or (100.0 if signal.kind == "audio" else 1.0)
    return PartitionGrid(counts, (-scale,) * axes, (scale,) * axes)


def build_network(
    signal: Signal, config: NetworkConfig, seed: int = 0, cells: ShapeCells | None = None
) -> LocalGlobalNetwork:
    """A fresh network for a signal, with the signal as its description; `seed` is for the initial weights.

    `cells` says which cells of `domain_grid` need a row, and which are full; None = all need one.

    Raises:
        ValueError: settings that do not fit the signal or each other.
    """
    grid = domain_grid(signal, config)
    axes = len(signal.shape)
    if config.local_width or config.global_width:
        local, shared = config.network != "global", config.network != "per-partition"
        if (local and not config.local_width) or (shared and not config.global_width):
            raise ValueError(f"{config.network} needs every width it has: give --local-width and --global-width")
        shape = ChainSizes(
            axes,
            signal.channels,
            config.local_width * local,
            config.global_width * shared,
            config.hidden_layers,
            "sine",
            config.w0,
            config.merge,
        )
    else:
        shape = sizes_for_budget(
            config.network,
            grid.num_cells if cells is None else len(cells.rows),
            axes,
            signal.channels,
            config.parameters or min(200_000, 5 * signal.num_samples),
            config.global_share,
            config.hidden_layers,
            config.merge,
            config.w0,
        )
    generator = torch.Generator().manual_seed(seed)
    rows = None if cells is None else cells.rows
    network = LocalGlobalNetwork(grid, shape, rows, fill=FILLS[signal.kind], generator=generator)
    if cells is not None and len(cells.full):
        network.full = cells.full
    network.description = signal
    return network


def build_fit(
    data: SignalData | OccupancyData,
    network: NetworkConfig,
    config: FitConfig,
    device: str = "cpu",
    seen: SignalData | None = None,
    kind: type[Fit] = Fit,
    cells: ShapeCells | None = None,
    **arguments: Any,
) -> Fit:
    """A fit of a fresh network to a signal.

    Args:
        data: the signal.
        network: which network.
        config: how to train it.
        device: where.
        seen: what INCODE's harmonizer looks at, None = the signal.
        kind: of fit, built with `arguments` too.
        cells: of a shape: which need a row.

    Raises:
        ValueError: settings that do not fit the signal or each other.
    """
    check_fit(data.signal, config)
    field = build_network(data.signal, network, config.seed, cells)
    modulation = modulated_weights(field, network, seen or data, config.seed)
    if modulation is not None:
        modulation = modulation.to(device)
    return kind(field.to(device), data, config, modulation=modulation, **arguments)


def modulated_weights(
    field: LocalGlobalNetwork, config: NetworkConfig, seen: SignalData | OccupancyData, seed: int
) -> ModulatedWeights | None:
    """INCODE's weights for a fresh field, or those of sine layers with another first frequency; None if plain.

    Raises:
        ValueError: settings out of range, or a network that cannot be modulated.
    """
    first_w0 = config.first_w0 or config.w0
    if first_w0 < 0 or min(config.harmonizer, default=1) < 1:
        raise ValueError(f"first_w0 and the harmonizer's widths must be positive, got {config}")
    if config.activation == "sine" and first_w0 == config.w0:
        return None
    kinds, harmonizer = modulated_kinds(field.sizes), None
    if config.activation == "incode":
        generator = torch.Generator().manual_seed(seed)
        seen = seen.coarse(MAX_VOLUME) if isinstance(seen, OccupancyData) else seen
        features = features_of(seen.samples, seen.signal, config.harmonizer_weights)
        sizes = (config.harmonizer, len(kinds), config.harmonizer_bias, config.harmonizer_norm)
        harmonizer = Harmonizer(features, *sizes, generator)
    unit = config.activation == "incode" and seen.signal.kind != "audio"
    return ModulatedWeights(field, harmonizer, first_w0, unit)


def check_fit(signal: Signal, config: FitConfig) -> None:
    """Raise ValueError if the overlap is wider than the signal."""
    if config.overlap and config.overlap * 2 >= min(signal.shape):
        raise ValueError(f"an overlap of {config.overlap} samples is wider than the signal {signal.shape}")
