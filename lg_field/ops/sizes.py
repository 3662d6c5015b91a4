"""The sizes of a Local-Global chain: which numbers a row holds, in which order."""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from lg_field.chain_layers import ChainLayers
from lg_field.ops.activations import Activation, activation_named


@dataclass(frozen=True)
class ChainSizes(ChainLayers):
    """Widths and wiring of the chain (paper, section 3.2).

    Local: in -> h, then `hidden_layers` of h -> h, then h -> out, one set of weights per row. Global: in -> g, then
    `hidden_layers` of g -> g, shared. After every layer the merge operator mixes global features into the local ones.
    A width of 0 leaves that part out: `global_width=0` is SIREN-per-Partition, `local_width=0` is one global network
    with an output layer of its own. ValueError names an entry that makes no sense.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        activation_named(self.activation)

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
