"""The layers of a Local-Global chain by their sizes alone: which numbers rows and shared part hold, in which order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

LEAST = {
    "in_features": 1,
    "out_features": 1,
    "local_width": 0,
    "global_width": 0,
    "hidden_layers": 0,
    "global_in_features": 1,
}
"""Least value of each whole number of `ChainLayers`."""
OWN_ACTIVATIONS = ("sine", "relu", "gauss")
"""Activations that `lg_field.ops` is sure to have; of others it has to be asked."""


@dataclass(frozen=True)
class ChainLayers:
    """Widths and wiring of the chain, and the tensors that follow from them (see `lg_field.ops.ChainSizes`).

    ValueError names an entry that makes no sense; which activations there are is the affair of `lg_field.ops`.
    """

    in_features: int
    out_features: int
    local_width: int
    global_width: int
    hidden_layers: int
    activation: str = "sine"
    """A name of `lg_field.ops.activations.ACTIVATIONS`."""
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
        h, g, depth = self.local_width, self.global_width, self.hidden_layers + 1
        first = self.in_features if self.global_in_features is None else self.global_in_features
        shapes: dict[str, tuple[int, ...]] = {}
        for layer in range(depth) if g else ():
            shapes[f"global_weight_{layer}"] = (first if layer == 0 else g, g)
            shapes[f"global_bias_{layer}"] = (g,)
        if g and h and self.merge == "concat":
            shapes |= {"merge_weight": (h + g, h), "merge_bias": (h,)}
        if g and h and self.merge == "add":
            for layer in range(depth):
                shapes |= {f"merge_weight_{layer}": (g, h), f"merge_bias_{layer}": (h,)}
        if g and (self.residual or h == 0):
            shapes |= {"head_weight": (g, self.out_features), "head_bias": (self.out_features,)}
        return shapes
