"""INCODE (Kazerouni et al., WACV 2024) and Local-Global INCODE: modulated sine layers, folded into plain ones.

A modulated layer is exp(a) sin(exp(b) w0 (x W + b0) + c) + d; the scalars a, b, c, d come from a small network, the
*harmonizer*, that looks at the task's own input. There is one set for the local layers, one for the global layers and
one for the merge (12 scalars), or one set where there is only one kind of layer (4).

Such a network is an ordinary sine network on other weights: exp(b) and c belong to the layer's own weight and bias,
exp(a) and d to those of whatever reads it. `ModulatedWeights.fold` computes these weights, differentiably: training
runs on the ordinary chain, and a finished INCODE is saved, cropped and decoded as an ordinary field, without the
harmonizer.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lg_field.networks.local_global import LocalGlobalNetwork
from lg_field.ops import ChainSizes

SCALARS = 4
PENALTY = (0.1993, 0.0196, 0.0588, 0.0269)
"""Weights of relu(-a), relu(-b), relu(-c), relu(-d) in the loss, for values in [0, 1]."""


class Harmonizer(nn.Module):
    """From features of the task's input to the scalars of each kind of layer, by an MLP with SiLU."""

    features: Tensor
    """(n,) what the MLP sees: constant, computed once."""

    def __init__(
        self,
        features: Tensor,
        hidden: Sequence[int],
        sets: int,
        bias: float = 0.312,
        norm: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        """
        Args:
            features: (n,) float, see `signals.features`.
            hidden: widths of the hidden layers.
            sets: kinds of layers that get (a, b, c, d).
            bias: of every layer at the start; with the tiny initial weights also, about, every scalar's start.
            norm: a LayerNorm after each hidden layer.
            generator: for the initial weights.
        """
        super().__init__()
        self.register_buffer("features", features)
        widths = [len(features), *hidden, SCALARS * sets]
        layers: list[nn.Module] = []
        for k, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
            linear = nn.Linear(fan_in, fan_out)
            nn.init.trunc_normal_(linear.weight, std=0.001, generator=generator)
            nn.init.constant_(linear.bias, bias)
            layers.append(linear)
            if k < len(hidden):
                layers += [nn.LayerNorm(fan_out)] * norm + [nn.SiLU()]
        self.mlp = nn.Sequential(*layers)

    def forward(self) -> Float[Tensor, "sets 4"]:
        """(sets, 4): a, b, c, d."""
        return self.mlp(self.features).view(-1, SCALARS)


class ModulatedWeights(nn.Module):
    """The trainable weights of an INCODE network, and how they become the weights of an ordinary field."""

    def __init__(
        self, field: LocalGlobalNetwork, harmonizer: Harmonizer | None, first_w0: float, unit_values: bool
    ) -> None:
        """
        Args:
            field: a fresh sine network; its weights become the ones before modulation.
            harmonizer: gives one set of scalars for each of `kinds`; None = plain sine layers (for another first w0).
            first_w0: frequency of the first layer: of the cells' networks, or of the global one where it is alone.
                All other layers have the field's w0.
            unit_values: outputs are in [0, 1] (INCODE on images), folded to the field's [-1, 1].

        Raises:
            ValueError: a network that cannot be folded.
        """
        super().__init__()
        self.sizes = field.sizes
        kinds = modulated_kinds(field.sizes)
        self.kinds, self.first_rate, self.unit_values = kinds, first_w0 / field.sizes.w0, unit_values
        self.local = nn.Parameter(field.local.detach().clone())
        self.shared = nn.ParameterDict({k: v.detach().clone() for k, v in field.shared.items()})
        self.harmonizer = harmonizer

    def trainable(self) -> dict[str, nn.Parameter]:
        """Everything to train, by name: `table`, the shared tensors as the field calls them, `harmonizer.*`."""
        inner = {} if self.harmonizer is None else dict(self.harmonizer.named_parameters(prefix="harmonizer"))
        return {"table": self.local, **self.shared, **inner}

    def num_parameters(self) -> dict[str, int]:
        """Trainable numbers: `local`, `shared` (with the harmonizer's MLP) and `total`."""
        total = sum(p.numel() for p in self.parameters())
        return {"local": self.local.numel(), "shared": total - self.local.numel(), "total": total}

    def scalars(self) -> dict[str, Float[Tensor, " 4"]]:
        """(4,) a, b, c, d of each of `kinds`."""
        if self.harmonizer is None:
            return {kind: self.local.new_zeros(SCALARS) for kind in self.kinds}
        return dict(zip(self.kinds, self.harmonizer()))

    def penalty(self) -> Float[Tensor, ""]:
        """The regulariser, summed over the kinds of layers; times 4, for the loss is taken of values in [-1, 1]."""
        weights = self.local.new_tensor(PENALTY)
        scalars = torch.stack(list(self.scalars().values()))
        return (4.0 if self.unit_values else 1.0) * (torch.relu(-scalars) * weights).sum()

    def fold(self) -> dict[str, Tensor]:
        """The ordinary field's weights: `table` (P, K) and the shared tensors; differentiable."""
        scalars = self.scalars()
        folded: dict[str, Tensor] = {"table": self._rows(scalars) if self.sizes.local_width else self.local}
        if self.sizes.global_width:
            folded |= self._global(scalars["global"])
        if self.sizes.merges:
            folded |= self._merge(scalars)
        return folded

    @torch.no_grad()
    def write_to(self, field: LocalGlobalNetwork) -> None:
        """Put the folded weights into the ordinary field."""
        folded = self.fold()
        field.local.copy_(folded.pop("table"))
        for name, value in folded.items():
            field.shared[name].copy_(value)

    def _rows(self, scalars: dict[str, Tensor]) -> Tensor:
        reads = scalars["merge" if self.sizes.merges else "local"]
        parts = []
        for k, (weight, bias) in enumerate(self.sizes.views(self.local)):
            if k > 0:
                weight, bias = absorb(reads, weight, bias)
            if k < self.sizes.depth:
                weight, bias = modulate(scalars["local"], weight, bias, self._rate(k), self.sizes.rate)
            else:
                weight, bias = self._output(weight, bias)
            parts += [weight.flatten(1), bias.flatten(1)]
        return torch.cat(parts, dim=1)

    def _global(self, scalars: Tensor) -> dict[str, Tensor]:
        folded: dict[str, Tensor] = {}
        for k in range(self.sizes.depth):
            weight, bias = self.shared[f"global_weight_{k}"], self.shared[f"global_bias_{k}"]
            if k > 0:
                weight, bias = absorb(scalars, weight, bias)
            rate = 1.0 if self.sizes.local_width else self._rate(k)
            weight, bias = modulate(scalars, weight, bias, rate, self.sizes.rate)
            folded |= {f"global_weight_{k}": weight, f"global_bias_{k}": bias}
        if self.sizes.shared_head:
            weight, bias = self._output(*absorb(scalars, self.shared["head_weight"], self.shared["head_bias"]))
            folded |= {"head_weight": weight, "head_bias": bias}
        return folded

    def _merge(self, scalars: dict[str, Tensor]) -> dict[str, Tensor]:
        width, bias = self.sizes.local_width, self.shared["merge_bias"]
        top, bottom = self.shared["merge_weight"].split([width, self.sizes.global_width])
        top, bias = absorb(scalars["local"], top, bias)
        bottom, bias = absorb(scalars["global"], bottom, bias)
        weight, bias = modulate(scalars["merge"], torch.cat([top, bottom]), bias, 1.0, self.sizes.rate)
        return {"merge_weight": weight, "merge_bias": bias}

    def _rate(self, layer: int) -> float:
        return self.first_rate if layer == 0 else 1.0

    def _output(self, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        return (2.0 * weight, 2.0 * bias - 1.0) if self.unit_values else (weight, bias)


def modulated_kinds(sizes: ChainSizes) -> tuple[str, ...]:
    """The kinds of layers that get scalars of their own.

    Raises:
        ValueError: a network that cannot be folded.
    """
    if not sizes.act.modulated or sizes.residual or (sizes.merges and sizes.merge != "concat"):
        raise ValueError(
            f"INCODE modulates sine layers joined by the paper's merge: use --merge concat, got {sizes.merge} "
            f"and {sizes.activation}"
        )
    if sizes.merges:
        return ("local", "global", "merge")
    return ("local",) if sizes.local_width else ("global",)


def absorb(scalars: Float[Tensor, " 4"], weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Weights that read exp(a) s + d, as weights that read s; weight (..., in, out), bias any shape of as many."""
    return weight * scalars[0].exp(), bias + scalars[3] * weight.sum(-2).view_as(bias)


def modulate(
    scalars: Float[Tensor, " 4"], weight: Tensor, bias: Tensor, faster: float, rate: float
) -> tuple[Tensor, Tensor]:
    """Weights of sin(exp(b) faster rate (x W + b0) + c), as those of sin(rate (x W' + b')); shapes as in `absorb`."""
    scale = scalars[1].exp() * faster
    return weight * scale, bias * scale + scalars[2] / rate
