"""The sizes of a Local-Global chain: which numbers a row holds, in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from lg_field.ops.activations import Activation, activation_named

LEAST = {
    "in_features": 1,
    "out_features": 1,
    "local_width": 0,
    "global_width": 0,
    "hidden_layers": 0,
    "global_in_features": 1,
}
"""Least value of each whole number of `ChainSizes`."""


@dataclass(frozen=True)
class ChainSizes:
    """Widths and wiring of the chain (paper, section 3.2).

    Local: in -> h, then `hidden_layers` of h -> h, then h -> out, one set of weights per row. Global: in -> g, then
    `hidden_layers` of g -> g, shared. After every layer the merge operator mixes global features into the local ones.
    A width of 0 leaves that part out: `global_width=0` is SIREN-per-Partition, `local_width=0` is one global network
    with an output layer of its own. ValueError names an entry that makes no sense.
    """

    in_features: int
    out_features: int
    local_width: int
    global_width: int
    hidden_layers: int
    activation: str = "sine"
    """A name of `activations.ACTIVATIONS`."""
    w0: float = 30.0
    """Frequency of the activated layers, for activations that have one."""
    merge: Literal["concat", "add"] = "concat"
    """concat: act(W [local; global] + b), one W for all depths. add: local + act(W_l global + b_l), one per depth."""
    residual: bool = False
    """The global part has an output layer too and the rows correct it (not in the paper; for radiance fields)."""
    global_in_features: int | None = None
    """Inputs of the global part; None = the same inputs as the local part."""

    def __post_init__(self) -> None:
        self._check_entries()
        if self.local_width == 0 and self.global_width == 0:
            raise ValueError("local_width and global_width are both 0: the network would be empty")
        activation_named(self.activation)
        if self.merge not in ("concat", "add"):
            raise ValueError(f"unknown merge {self.merge!r}: use concat or add")
        object.__setattr__(self, "w0", float(self.w0))

    def _check_entries(self) -> None:
        """Raise ValueError that names the entry which is not of its kind, or out of range."""
        for name, least in LEAST.items():
            value = getattr(self, name)
            if name == "global_in_features" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
        if self.hidden_layers > 64:
            raise ValueError(f"hidden_layers must be at most 64, got {self.hidden_layers}")
        if isinstance(self.w0, bool) or not isinstance(self.w0, (int, float)) or not 0.0 < self.w0 < 1e6:
            raise ValueError(f"w0 must be a positive number below a million, got {self.w0!r}")
        if not isinstance(self.residual, bool):
            raise ValueError(f"residual must be true or false, got {self.residual!r}")

    @property
    def depth(self) -> int:
        """Number of activated layers, hidden_layers + 1."""
        return self.hidden_layers + 1

    @property
    def act(self) -> Activation:
        """What the activated layers apply."""
        return activation_named(self.activation)

    @property
    def rate(self) -> float:
        """Factor of an activated layer's linear output in its phase."""
        return self.act.rate(self.w0)

    @property
    def global_in(self) -> int:
        """Inputs of the global part."""
        return self.in_features if self.global_in_features is None else self.global_in_features

    @property
    def shared_head(self) -> bool:
        """Whether the shared part has its own output layer."""
        return self.global_width > 0 and (self.residual or self.local_width == 0)

    @property
    def merges(self) -> bool:
        """Whether there is a merge operator."""
        return self.global_width > 0 and self.local_width > 0

    def local_layers(self) -> list[tuple[int, int]]:
        """(fan_in, fan_out) of the row's layers."""
        h = self.local_width
        if h == 0:
            return []
        return [(self.in_features, h)] + [(h, h)] * self.hidden_layers + [(h, self.out_features)]

    @property
    def row_size(self) -> int:
        """K: parameters of one row."""
        return sum(i * o + o for i, o in self.local_layers())

    def shared_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of the shared tensors; weights are (fan_in, fan_out)."""
        h, g = self.local_width, self.global_width
        shapes: dict[str, tuple[int, ...]] = {}
        if g > 0:
            for layer in range(self.depth):
                shapes[f"global_weight_{layer}"] = (self.global_in if layer == 0 else g, g)
                shapes[f"global_bias_{layer}"] = (g,)
        if self.merges and self.merge == "concat":
            shapes |= {"merge_weight": (h + g, h), "merge_bias": (h,)}
        if self.merges and self.merge == "add":
            for layer in range(self.depth):
                shapes |= {f"merge_weight_{layer}": (g, h), f"merge_bias_{layer}": (h,)}
        if self.shared_head:
            shapes |= {"head_weight": (g, self.out_features), "head_bias": (self.out_features,)}
        return shapes

    def count(self, rows: int) -> dict[str, int]:
        """Parameters with this many rows: `local`, `shared`, `total`."""
        shared = sum(math.prod(shape) for shape in self.shared_shapes().values())
        return {"local": rows * self.row_size, "shared": shared, "total": rows * self.row_size + shared}

    def views(self, table: Float[Tensor, "rows K"]) -> list[tuple[Tensor, Tensor]]:
        """(P, K) table -> per layer weight (P, fan_in, fan_out) and bias (P, 1, fan_out), as views."""
        sizes = [n for i, o in self.local_layers() for n in (i * o, o)]
        parts = table.split(sizes, dim=1) if sizes else []
        return [
            (parts[2 * k].unflatten(1, (i, o)), parts[2 * k + 1].unsqueeze(1))
            for k, (i, o) in enumerate(self.local_layers())
        ]
