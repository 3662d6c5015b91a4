"""What one can say about encoding a signal: entries with their meaning and general defaults, as plain data.

`FitConfig`, `NetworkConfig` and `ShapeConfig` hold what was said: None is "not said". The `Complete...` classes state
the general defaults; `signals.settings.resolve` fills in those of a kind of signal. Nothing here needs torch: commands
say in their help what the entries mean.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

from lg_field.network_parts import Network

Sampling = Literal["uniform", "surface", "mixed"]
Weights = Literal["random", "pretrained"]
USUAL_STEPS = 1000
"""Optimizer steps where nothing is said and each draws all samples, as in the paper."""
INSTEAD: dict[str, tuple[str, ...]] = {
    "counts": ("cell_size",),
    "cell_size": ("counts",),
    "parameters": ("local_width", "global_width", "per_sample"),
    "per_sample": ("local_width", "global_width", "parameters"),
    "local_width": ("per_sample", "global_share"),
    "global_width": ("per_sample", "global_share"),
    "coordinate_scale": ("coordinate_step",),
    "coordinate_step": ("coordinate_scale",),
    "sample_fraction": ("points",),
}
"""Entries that, said, make what less specific settings say of others void."""


@dataclass(frozen=True)
class FitConfig:
    """How to fit."""

    steps: int | None = None
    """Optimizer steps; 0 = 1,000, where each draws only a part of the samples 1,000 over the root of that part."""
    lr: float | None = None
    """Adam's learning rate at the start; of INCODE of images and volumes a quarter of the default."""
    lr_factor: float | None = None
    """The rate falls exponentially to this part of itself at the last step."""
    global_lr_scale: float | None = None
    """The global sub-network learns at this times the rate."""
    sample_fraction: float | None = None
    """Part of the samples drawn each step; 1 = all of them."""
    points: int | None = None
    """Samples drawn each step, of signals with fewer all; 0 = by sample_fraction."""
    stratified: bool | None = None
    """Samples drawn are spread evenly over each cell, instead of independent of each other; not of shapes."""
    sample: Sampling | None = None
    """Shapes: draw voxels of all cells alike (uniform), near the surface, or half and half (mixed)."""
    overlap: int | None = None
    """Samples beyond a cell's borders that it trains on too (paper: overlaps)."""
    center_cells: bool | None = None
    """First layers of cells learn about the middles of their cells, so that cells far out learn as well."""
    seed: int | None = None
    """For the initial weights and the samples drawn."""


@dataclass(frozen=True)
class CompleteFit(FitConfig):
    """A `FitConfig` that says everything; the general defaults."""

    steps: int = USUAL_STEPS
    lr: float = 5e-4
    lr_factor: float = 1.0
    global_lr_scale: float = 1.0
    sample_fraction: float = 1.0
    points: int = 0
    stratified: bool = False
    sample: Sampling = "mixed"
    overlap: int = 0
    center_cells: bool = False
    seed: int = 0

    def share(self, num_samples: int) -> float:
        """Part of a signal's samples that a step draws, in (0, 1]."""
        return min(1.0, self.points / num_samples) if self.points else self.sample_fraction

    def of_size(self, num_samples: int) -> CompleteFit:
        """The same with a number of steps, for a signal of so many samples.

        Raises:
            ValueError: settings that make no sense.
        """
        self.check()
        return self if self.steps else replace(self, steps=round(USUAL_STEPS / math.sqrt(self.share(num_samples))))

    def check(self) -> None:
        """Raise ValueError for settings that make no sense."""
        if self.steps < 0 or not min(self.lr, self.lr_factor, self.global_lr_scale) > 0:
            raise ValueError(f"lr, lr_factor and global_lr_scale must be positive, and steps not negative, got {self}")
        if not 0.0 < self.sample_fraction <= 1.0:
            raise ValueError(f"sample_fraction must be in (0, 1], got {self.sample_fraction}")
        if self.overlap < 0 or self.points < 0:
            raise ValueError(f"overlap and points must not be negative, got {self.overlap} and {self.points}")


@dataclass(frozen=True)
class NetworkConfig:
    """Which network."""

    network: Network | None = None
    """local-global, or a baseline: SIREN-per-Partition or one SIREN."""
    counts: tuple[int, ...] | None = None
    """Cells per axis (image: y x; video: time y x), instead of --cell-size."""
    cell_size: tuple[int, ...] | None = None
    """Samples per cell and axis, about, instead of --counts."""
    parameters: int | None = None
    """Budget for the widths, instead of --per-sample; 0 = 200,000, of signals below 40,000 samples 5 for each."""
    per_sample: float | None = None
    """Parameters for each sample, where that is more than the budget of --parameters 0; 0 = by --parameters."""
    global_share: float | None = None
    """Part of the budget for the global sub-network and the merge; 0 = global layers half as wide as those of cells."""
    local_width: int | None = None
    """h: neurons of a cell's layers; 0 = from the budget."""
    global_width: int | None = None
    """g: neurons of the global layers; 0 = from the budget."""
    hidden_layers: int | None = None
    """Hidden layers after the first."""
    merge: Literal["concat", "add"] | None = None
    """Merge operator."""
    w0: float | None = None
    """Frequency of the sine layers."""
    first_w0: float | None = None
    """Of the first layer (next to cells' networks the global one keeps w0); 0 = w0. For noisy input: 5 to 20."""
    activation: str | None = None
    """sine, another of `ops.activations`, or incode: sine layers whose amplitude, frequency, phase and
    offset are predicted from the input (INCODE)."""
    harmonizer: tuple[int, ...] | None = None
    """Hidden widths of the network that predicts them."""
    harmonizer_bias: float | None = None
    """Where the predicted numbers start."""
    harmonizer_norm: bool | None = None
    """LayerNorm in the harmonizer (the published denoising has it)."""
    harmonizer_weights: Weights | None = None
    """Of its frozen feature extractor: random, or pretrained ones, which must be in torch's cache:
    nothing is downloaded."""
    coordinate_scale: float | None = None
    """The domain is [-this, this] on every axis; 0 = 1, and 100 for sound (paper)."""
    coordinate_step: float | None = None
    """Domain from sample to sample, of videos from pixel to pixel (frames: twice that); 0 = by --coordinate-scale."""


@dataclass(frozen=True)
class CompleteNetwork(NetworkConfig):
    """A `NetworkConfig` that says everything; the general defaults."""

    network: Network = "local-global"
    counts: tuple[int, ...] = ()
    cell_size: tuple[int, ...] = ()
    parameters: int = 200_000
    per_sample: float = 0.0
    global_share: float = 0.1
    local_width: int = 0
    global_width: int = 0
    hidden_layers: int = 3
    merge: Literal["concat", "add"] = "concat"
    w0: float = 30.0
    first_w0: float = 0.0
    activation: str = "sine"
    harmonizer: tuple[int, ...] = (64, 32)
    harmonizer_bias: float = 0.312
    harmonizer_norm: bool = False
    harmonizer_weights: Weights = "random"
    coordinate_scale: float = 0.0
    coordinate_step: float = 0.0


@dataclass(frozen=True)
class ShapeConfig:
    """How a mesh becomes voxels."""

    resolution: int | None = None
    """Meshes: voxels along the longest side."""
    margin: int | None = None
    """Meshes: a cell gets a row if this many voxels around it hold surface: so no surface lies on the border of a cell
    without one."""


@dataclass(frozen=True)
class CompleteShape(ShapeConfig):
    """A `ShapeConfig` that says everything; the general defaults."""

    resolution: int = 256
    margin: int = 1


@dataclass(frozen=True)
class Settings:
    """Everything that decides what `lg-field encode` makes of a file; a preset is a YAML file of these entries."""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    """Which network."""
    fit: FitConfig = field(default_factory=FitConfig)
    """How to train it."""
    shape: ShapeConfig = field(default_factory=ShapeConfig)
    """Meshes: which voxels."""


@dataclass(frozen=True)
class CompleteSettings(Settings):
    """`Settings` that say everything."""

    network: CompleteNetwork = field(default_factory=CompleteNetwork)
    fit: CompleteFit = field(default_factory=CompleteFit)
    shape: CompleteShape = field(default_factory=CompleteShape)


Complete = TypeVar("Complete", CompleteFit, CompleteNetwork, CompleteShape)


def filled(general: Complete, said: Sequence[Any], last: Mapping[str, Any]) -> Complete:
    """The general defaults with what was said, first to last, in their place.

    Args:
        general: the defaults.
        said: settings, the ones that win first.
        last: entries that win over the defaults only.
    """
    names: list[str] = [f.name for f in fields(general)]
    values: dict[str, Any] = {}
    void: set[str] = set()
    for layer in (*({n: getattr(s, n) for n in names} for s in said), last):
        given = {name: value for name, value in layer.items() if value is not None}
        values = {n: v for n, v in given.items() if n not in void} | values
        void |= {name for entry in given for name in INSTEAD.get(entry, ())}
    return type(general)(**values)
