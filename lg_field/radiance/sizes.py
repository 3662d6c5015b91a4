"""Sizes of a radiance field: what its rows and its shared part hold."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from lg_field.chain_layers import ChainLayers
from lg_field.network_parts import PARTS, Network, NetworkParts, parts_of
from lg_field.networks.outline import check_activation
from lg_field.radiance.encodings import SH_FEATURES, frequency_features
from lg_field.radiance.hash_layout import HashLayout
from lg_field.table.checkpoint import CheckpointError

if TYPE_CHECKING:
    from lg_field.ops import ChainSizes
    from lg_field.radiance.hash_grid import HashGrid

OLDER = {"global_reads_grid": False}
"""What entries meant that fields and runs from before there was a choice do not have."""
LARGEST = 1 << 16
"""Bound on every width and count."""
LEAST = {"color_features": 1, "hash_features": 1, "hash_base_res": 2, "log2_hashmap_size": 3, "occupancy_voxels": 2}
"""Of the sizes that may not be 0."""
MOST = {"local_frequencies": 24, "global_frequencies": 24, "hidden_layers": 64, "hash_levels": 16, "hash_features": 8}
MOST |= {"log2_hashmap_size": 24, "occupancy_voxels": 64, "grid_nodes": 256}
"""Tighter bounds than `LARGEST`."""


@dataclass(frozen=True)
class RadianceSizes:
    """Sizes of a radiance field."""

    network: Network = "local-global"
    """local-global, or a baseline: rows without a shared network, or the shared network alone. That one, without
    hash_levels, needs a lower learning rate: --optimizers.fields.optimizer.lr 2e-3."""
    local_width: int = 16
    """h: hidden width of a cell's sub-network."""
    global_width: int = 64
    """g: hidden width of the shared sub-network."""
    hidden_layers: int = 1
    """Hidden layers after the first, in both."""
    activation: str = "relu"
    """relu on encoded inputs, sine, or another activation of `lg_field.ops`."""
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
    A crop keeps what the cells it keeps read of it."""
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
    contraction: bool = False
    """Unbounded scene: the grid divides contracted space."""
    density_bias: float = -3.0
    """Density is exp(output + density_bias)."""
    contracted_density: bool = False
    """Unbounded scenes: density is per length of contracted space. Far steps are then not opaque before anything is
    learned, so that plain surfaces (tables, walls) stay where they are; with distortion_loss_mult. False: per scene
    unit; plain surfaces may end up far away."""
    frame: tuple[float, ...] = ()
    """Lower and upper corner of the box that positions are encoded relative to: the domain the scene had before it
    grew. () = the grid's domain."""

    def __post_init__(self) -> None:
        self.validate()
        object.__setattr__(self, "frame", tuple(float(v) for v in self.frame))

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a config.yml or a copy: entries that it lacks mean what they meant before there was a choice."""
        object.__setattr__(self, "__dict__", {**OLDER, **state})
        self.__post_init__()

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RadianceSizes:
        """The sizes of a field file's or a checkpoint's plain entries; those that it lacks mean what they meant before
        there was a choice.

        Raises:
            ValueError, TypeError: unknown entries, or sizes that make no sense.
        """
        return cls(**{**OLDER, **data})

    def validate(self) -> None:
        """Check every entry.

        Raises:
            ValueError: which entry is wrong, what it is and what it may be.
        """
        self._check_choices()
        self._check_numbers()
        if self.occupancy_voxels % 2 or self.grid_nodes == 1:
            raise ValueError(
                f"occupancy_voxels must be even, grid_nodes 0 or at least 2, got {self.occupancy_voxels} and "
                f"{self.grid_nodes}"
            )
        if self.grid_nodes and not self.grid_features:
            raise ValueError("grid_features must be at least 1 where there is a grid: set grid_nodes 0 for none")
        if not self.color_width and (self.color_features != 3 * SH_FEATURES or self.appearance_features):
            raise ValueError(
                f"color_width 0 needs 27 color_features and no appearance_features, got {self.color_features} and "
                f"{self.appearance_features}: set color_width 32, color_features 15 for a colour layer"
            )
        if self.hash_features not in (1, 2, 4, 8) or self.hash_base_res << self.hash_levels > 2**20:
            raise ValueError(
                "hash_features must be 1, 2, 4 or 8 and the finest of the hash_levels below 2^20 nodes, got "
                f"{self.hash_features} features and {self.hash_levels} levels from {self.hash_base_res} nodes"
            )
        check_activation(self.layers())

    def _check_choices(self) -> None:
        for name, choices in (("network", tuple(PARTS)), ("merge", ("concat", "add"))):
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, got {getattr(self, name)!r}"
                )
        for name in ("global_reads_grid", "contraction", "contracted_density"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} must be true or false, got {getattr(self, name)!r}")
        corners = [v for v in self.frame if isinstance(v, (int, float)) and abs(v) < 1e30]
        if len(corners) != len(self.frame) or len(corners) not in (0, 6):
            raise ValueError(f"frame must be a lower and an upper corner, six numbers, got {self.frame}")
        if not all(a < b for a, b in zip(corners[:3], corners[3:])):
            raise ValueError(f"frame must be a lower and an upper corner, six numbers, got {self.frame}")

    def _check_numbers(self) -> None:
        for name, value in vars(self).items():
            if name in COUNTS:
                least, most = LEAST.get(name, 0), MOST.get(name, LARGEST)
                if type(value) is not int or not least <= value <= most:
                    raise ValueError(f"{name} must be a whole number of {least} to {most}, got {value!r}")
        for name in ("w0", "density_bias"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value!r}")

    @property
    def parts(self) -> NetworkParts:
        """What the network is made of."""
        return parts_of(self.network)

    def hash_layout(self) -> HashLayout | None:
        """Sizes of the shared part's grid."""
        if not self.hash_levels or not self.parts.shared:
            return None
        return HashLayout(self.hash_levels, self.hash_features, self.log2_hashmap_size, self.hash_base_res)

    def hash_grid(self) -> HashGrid | None:
        """The shared part's grid."""
        from lg_field.radiance.hash_grid import HashGrid

        layout = self.hash_layout()
        return None if layout is None else HashGrid(**vars(layout))

    @property
    def grid_width(self) -> int:
        """Features of a cell's grid, all its nodes together."""
        return self.grid_nodes**3 * self.grid_features if self.parts.rows else 0

    def color_layers(self) -> list[tuple[int, int]]:
        """(inputs, outputs) of the layers that make colours of features and directions."""
        inputs = self.color_features + SH_FEATURES + self.appearance_features
        return [(inputs, self.color_width), (self.color_width, 3)] if self.color_width else []

    def chain(self) -> ChainSizes:
        """Wiring of the density network."""
        from lg_field.ops import ChainSizes

        return ChainSizes(**vars(self.layers()))

    def layers(self) -> ChainLayers:
        """The entries of `chain`."""
        rows, shared = self.parts
        grid = self.grid_features if self.grid_nodes else 0
        shared_in = frequency_features(3, self.global_frequencies) + (grid if self.global_reads_grid and rows else 0)
        shared_in += self.hash_levels * self.hash_features
        return ChainLayers(
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


COUNTS = tuple(name for name, default in vars(RadianceSizes).items() if type(default) is int)
"""Entries that are whole numbers."""


def saved_sizes(state: dict[str, Any]) -> RadianceSizes:
    """The sizes of a field, from the extra state in its checkpoint.

    Raises:
        CheckpointError: there are none, or they make no sense.
    """
    try:
        return RadianceSizes.from_dict(state["config"] if "config" in state else state["shape"])  # version 1: shape
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"the sizes in the checkpoint make no sense: {error}") from error
