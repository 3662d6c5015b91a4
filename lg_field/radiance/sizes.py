"""Sizes of a radiance field: what its rows and its shared part hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from lg_field.ops import ChainSizes
from lg_field.radiance.encodings import SH_FEATURES, frequency_features
from lg_field.radiance.hash_grid import HashGrid


@dataclass(frozen=True)
class RadianceSizes:
    """Sizes of a radiance field."""

    network: Literal["local-global", "per-partition", "global"] = "local-global"
    """local-global, or a baseline: rows without a shared network, or the shared network alone. That one, without
    hash_levels, needs a lower learning rate: --optimizers.fields.optimizer.lr 2e-3."""
    local_width: int = 16
    """h: hidden width of a cell's sub-network."""
    global_width: int = 64
    """g: hidden width of the shared sub-network."""
    hidden_layers: int = 1
    """Hidden layers after the first, in both."""
    activation: Literal["relu", "sine"] = "relu"
    """relu on encoded inputs, or sine."""
    w0: float = 10.0
    """Frequency of sine layers."""
    merge: Literal["concat", "add"] = "concat"
    """Merge operator."""
    local_frequencies: int = 2
    """Frequencies of the position encoding the rows see."""
    global_frequencies: int = 6
    """Frequencies of the position encoding the shared part sees."""
    grid_nodes: int = 9
    """Nodes per axis of a cell's feature grid, borders included; 0 = no grid."""
    grid_features: int = 4
    """Features per node."""
    global_reads_grid: bool = True
    """The shared sub-network reads the cell's grid, too: what decodes features is learned from all cells at once."""
    hash_levels: int = 0
    """Levels of a feature grid over the whole domain that the shared sub-network reads, each twice as fine; 0 = none.
    Every crop keeps all of it."""
    hash_features: Literal[1, 2, 4, 8] = 2
    """Features per node of it."""
    hash_base_res: int = 16
    """Nodes per axis of its first level."""
    log2_hashmap_size: int = 13
    """A level of it has at most 2^this entries; one with more nodes is hashed."""
    color_features: int = 15
    """Outputs of the chain beside density; the view-dependent colour layers read them."""
    color_width: int = 32
    """Width of the shared colour layer. 0 = there is none: the features are spherical harmonics of the direction, 9 for
    each of red, green and blue (27 color_features)."""
    appearance_features: int = 0
    """Width of the per-image appearance the colour layers read; 0 = none."""
    occupancy_voxels: int = 8
    """Occupancy voxels per cell and axis (even)."""
    contraction: Annotated[bool, tyro.conf.Suppress] = False
    """Unbounded scene: the grid divides contracted space."""
    density_bias: float = -3.0
    """Density is exp(output + density_bias)."""
    frame: Annotated[tuple[float, ...], tyro.conf.Suppress] = ()
    """Lower and upper corner of the box that positions are encoded relative to: the domain the scene had before it
    grew. () = the grid's domain."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", tuple(float(v) for v in self.frame))
        ordered = len(self.frame) == 6 and all(-1e30 < a < b < 1e30 for a, b in zip(self.frame[:3], self.frame[3:]))
        if self.frame and not ordered:
            raise ValueError(f"frame must be a lower and an upper corner, six numbers, got {self.frame}")
        if self.network not in ("local-global", "per-partition", "global"):
            raise ValueError(f"network must be local-global, per-partition or global, got {self.network!r}")
        if self.occupancy_voxels < 2 or self.occupancy_voxels % 2 or self.grid_nodes == 1:
            raise ValueError(f"occupancy_voxels must be even, grid_nodes 0 or at least 2, got {self}")
        if not self.color_width and (self.color_features != 3 * SH_FEATURES or self.appearance_features):
            raise ValueError(
                f"color_width 0 needs 27 color_features and no appearance_features, got {self.color_features} and "
                f"{self.appearance_features}: set color_width 32, color_features 15 for a colour layer"
            )
        sizes = self.hash_levels <= 16 and self.hash_features in (1, 2, 4, 8) and 3 <= self.log2_hashmap_size <= 24
        if not (sizes and self.hash_base_res >= 2 and self.hash_base_res << self.hash_levels <= 2**20):
            raise ValueError(
                "hash_levels must be at most 16, hash_features 1, 2, 4 or 8, log2_hashmap_size in 3..24, "
                f"hash_base_res at least 2 and the finest level below 2^20, got {self}"
            )
        if max(self.local_frequencies, self.global_frequencies) > 24:
            raise ValueError(f"at most 24 frequencies, got {self}")

    def hash_grid(self) -> HashGrid | None:
        """The shared part's grid."""
        if not self.hash_levels or self.network == "per-partition":
            return None
        return HashGrid(self.hash_levels, self.hash_features, self.log2_hashmap_size, self.hash_base_res)

    def chain(self) -> ChainSizes:
        """Wiring of the density network."""
        rows, shared = self.network != "global", self.network != "per-partition"
        grid = self.grid_features if self.grid_nodes else 0
        shared_in = frequency_features(3, self.global_frequencies) + (grid if self.global_reads_grid and rows else 0)
        shared_in += self.hash_levels * self.hash_features
        return ChainSizes(
            in_features=frequency_features(3, self.local_frequencies) + grid,
            out_features=1 + self.color_features,
            local_width=self.local_width if rows else 0,
            global_width=self.global_width if shared else 0,
            hidden_layers=self.hidden_layers,
            activation=self.activation,
            w0=self.w0,
            merge=self.merge,
            residual=rows and shared,
            global_in_features=shared_in if shared else None,
        )
