"""From a signal and a few choices to a network that is ready to train."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from lg_field.errors import tell
from lg_field.network_parts import parts_of
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.budget import sizes_for_budget
from lg_field.networks.incode import Harmonizer, ModulatedWeights, modulated_kinds
from lg_field.ops import ChainSizes
from lg_field.signals.centering import center
from lg_field.signals.data import NeededCells, Samples
from lg_field.signals.features import MAX_VOLUME
from lg_field.signals.fit import Fit
from lg_field.signals.settings import (
    INCODE,
    CompleteFit,
    CompleteNetwork,
    FitConfig,
    NetworkConfig,
    resolve_fit,
    resolve_network,
)
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid, automatic_counts

SINE = "sine"
"""The activation of plain networks, and what `NetworkConfig.activation` calls sine layers with a harmonizer."""

USUAL_BUDGET = 200_000
"""Parameters of signals of at least 40,000 samples where no budget is said (paper, images and sounds)."""
MOST_REACH = 8192.0
"""From the middle to the ends of a domain that grows with the signal: further out float32 phases are hardly exact."""
LEAST_BUDGET = 500
"""Parameters for a cell, on the average, that signals of few samples get where no budget is said."""


def domain_grid(signal: Signal, said: NetworkConfig) -> PartitionGrid:
    """The partition of a signal; what `said` does not say is the kind's default.

    Raises:
        ValueError: wrong number of axes, more cells than samples on an axis, or a negative domain.
    """
    config, axes, kind = resolve_network(signal.traits, said), len(signal.shape), signal.traits
    if config.counts and config.cell_size:
        raise ValueError("give either --counts or --cell-size")
    if config.counts:
        counts = config.counts
    elif config.cell_size:
        if len(config.cell_size) != axes:
            raise ValueError(f"--cell-size needs {axes} numbers for a {signal.kind}, got {len(config.cell_size)}")
        counts = automatic_counts(signal.shape, config.cell_size)
    else:
        counts = kind.counts(signal.shape)
    if len(counts) != axes:
        raise ValueError(f"--counts needs {axes} numbers for a {signal.kind}, got {len(counts)}")
    if any(not 1 <= c <= n for c, n in zip(counts, signal.shape)):
        raise ValueError(f"{counts} cells for {signal.shape} samples: at least 1, and no more cells than samples")
    scale, step = config.coordinate_scale or kind.reach, config.coordinate_step
    if config.coordinate_scale and step:
        raise ValueError("give either --coordinate-scale or --coordinate-step")
    if min(scale, step) < 0.0:
        raise ValueError(f"--coordinate-scale and --coordinate-step must not be negative, got {scale:g} and {step:g}")
    reach = tuple(min(n * p * step / 2, MOST_REACH) if step else scale for n, p in zip(signal.shape, kind.paces(axes)))
    return PartitionGrid(counts, tuple(-r for r in reach), reach)


def build_network(
    signal: Signal, said: NetworkConfig, seed: int = 0, cells: NeededCells | None = None
) -> LocalGlobalNetwork:
    """A fresh network for a signal, with the signal as its description; `seed` is for the initial weights.

    `cells` says which cells of `domain_grid` need a row, and which are full; None = all need one.

    Raises:
        ValueError: settings that do not fit the signal or each other.
    """
    config = resolve_network(signal.traits, said)
    grid = domain_grid(signal, config)
    sizes = chain_sizes(signal, config, grid.num_cells if cells is None else len(cells.rows))
    generator = torch.Generator().manual_seed(seed)
    rows = None if cells is None else cells.rows
    network = LocalGlobalNetwork(grid, sizes, rows, fill=signal.traits.fill, generator=generator)
    if cells is not None and len(cells.full):
        network.full = cells.full
    network.description = signal
    return network


def chain_sizes(signal: Signal, config: CompleteNetwork, rows: int) -> ChainSizes:
    """The sizes of a network of so many rows: of the widths that were said, else from the budget.

    Raises:
        ValueError: a width is missing, or the budget buys none.
    """
    axes, activation = len(signal.shape), SINE if config.activation == INCODE else config.activation
    if not (config.local_width or config.global_width):
        budget = budget_of(signal.num_samples, config, rows)
        wiring = (config.global_share, config.hidden_layers, config.merge, config.w0)
        sizes = sizes_for_budget(config.network, rows, axes, signal.channels, budget, *wiring)
        return replace(sizes, activation=activation)
    local, shared = parts_of(config.network)
    if (local and not config.local_width) or (shared and not config.global_width):
        raise ValueError(f"{config.network} needs every width it has: give --local-width and --global-width")
    return ChainSizes(
        axes,
        signal.channels,
        config.local_width * local,
        config.global_width * shared,
        config.hidden_layers,
        activation,
        config.w0,
        config.merge,
    )


def budget_of(num_samples: int, config: CompleteNetwork, rows: int) -> int:
    """Parameters that a network of so many rows may have for so many samples.

    Raises:
        ValueError: a negative number for each sample, or one beside a budget.
    """
    if config.per_sample < 0.0:
        raise ValueError(f"--per-sample must not be negative, got {config.per_sample:g}")
    if config.per_sample and config.parameters not in (0, CompleteNetwork.parameters):
        raise ValueError("give either --parameters or --per-sample")
    if config.parameters and not config.per_sample:
        return config.parameters
    usual = min(USUAL_BUDGET, max(5 * num_samples, LEAST_BUDGET * rows))
    return max(usual, round(config.per_sample * num_samples))


def build_fit(
    data: Samples,
    network: NetworkConfig,
    config: FitConfig,
    device: str = "cpu",
    seen: Samples | None = None,
    kind: type[Fit] = Fit,
    cells: NeededCells | None = None,
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
    traits = data.signal.traits
    said = resolve_network(traits, network)
    fit = fitting(resolve_fit(traits, config, activation=said.activation), data.signal, config)
    check_fit(data.signal, fit)
    field = build_network(data.signal, said, fit.seed, cells)
    say_too_fine(data.signal, field.grid)
    if fit.center_cells:
        center(field)
    modulation = modulated_weights(field, said, seen or data, fit.seed)
    if modulation is not None:
        modulation = modulation.to(device)
    return kind(field.to(device), data, fit, modulation=modulation, network=said, **arguments)


def modulated_weights(
    field: LocalGlobalNetwork, said: NetworkConfig, seen: Samples, seed: int
) -> ModulatedWeights | None:
    """INCODE's weights for a fresh field, or those of sine layers with another first frequency; None if plain.

    Raises:
        ValueError: settings out of range, or a network that cannot be modulated.
    """
    traits = seen.signal.traits
    config = resolve_network(traits, said)
    first_w0 = config.first_w0 or config.w0
    if first_w0 < 0 or min(config.harmonizer, default=1) < 1:
        raise ValueError(f"first_w0 and the harmonizer's widths must be positive, got {config}")
    if config.activation != INCODE and first_w0 == config.w0:
        return None
    kinds, harmonizer = modulated_kinds(field.sizes), None
    if config.activation == INCODE:
        generator = torch.Generator().manual_seed(seed)
        view = seen.overview(MAX_VOLUME)
        features = view.signal.traits.features(view.samples, view.signal, config.harmonizer_weights)
        sizes = (config.harmonizer, len(kinds), config.harmonizer_bias, config.harmonizer_norm)
        harmonizer = Harmonizer(features, *sizes, generator)
    unit = config.activation == INCODE and traits.unit_values_in_incode
    return ModulatedWeights(field, harmonizer, first_w0, unit)


def say_too_fine(signal: Signal, grid: PartitionGrid) -> None:
    """Say on which axes samples lie closer together than usual, for the domain ends at `MOST_REACH`, or so close that
    float32 coordinates hardly tell neighbours apart."""
    for name, low, high, n in zip(signal.traits.axes, grid.lower, grid.upper, signal.shape):
        if (high - low) / n < torch.finfo(torch.float32).eps * max(abs(low), abs(high)):
            tell(f"{n:,} samples along {name} are more than coordinates tell apart: encode the {signal.kind} in parts")
        elif high == MOST_REACH:
            tell(f"{n:,} samples along {name} lie {(high - low) / n:.2g} apart, closer than usual: less is exact")


def check_fit(signal: Signal, said: FitConfig) -> None:
    """Raise ValueError if the overlap is wider than the signal."""
    config: CompleteFit = resolve_fit(signal.traits, said)
    if config.overlap > widest_overlap(signal):
        raise ValueError(f"an overlap of {config.overlap} samples is wider than the signal {signal.shape}")


def widest_overlap(signal: Signal) -> int:
    """Samples of the widest overlap that a signal has room for on all its axes."""
    return (min(signal.shape) - 1) // 2


def fitting(fit: CompleteFit, signal: Signal, said: FitConfig) -> CompleteFit:
    """The same for a signal: with steps, and the overlap made to fit if nobody asked for just this one; that is said.

    Args:
        fit: complete settings.
        signal: what they are for.
        said: what the user said of them; an overlap that is said stays.
    """
    fit, widest = fit.of_size(signal.num_samples), widest_overlap(signal)
    if said.overlap is not None or fit.overlap <= widest:
        return fit
    tell(f"the signal {signal.shape} is narrow: the overlap is {widest} samples instead of {fit.overlap}")
    return replace(fit, overlap=widest)
