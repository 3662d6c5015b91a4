"""What the layers of a chain apply to their outputs: one table, read by every backend, the initial weights and INCODE.

A layer is f(s (x W + b)): a function f of the *phase*, and a rate s that belongs to the activation and to the chain's
w0. Backends fold s into weights and bias and apply f alone. A new activation is one entry of `ACTIVATIONS`; one that
the fused kernel does not know runs on the other backends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An entry of the table: a function of the phase, and how layers that end in it begin."""

    function: Callable[[Tensor], Tensor]
    """f: phases -> activated features, elementwise and differentiable by autograd (twice, for the reference)."""
    rate: Callable[[float], float]
    """w0 -> s, the factor of a layer's linear output in its phase."""
    weight_bound: Callable[[int, bool, float], float]
    """(fan-in, whether it reads the network's input, s) -> initial weights are uniform in +- this."""
    bias_bound: Callable[[int, bool, float], float]
    """The same of initial biases."""
    modulated: bool = False
    """Whether INCODE's frequency and phase, exp(b) and c of f(exp(b) s (x W + b0) + c), are meant for it."""
    period: float | None = None
    """Phases that differ by it are alike; None = there are no such phases."""
    kernel_code: int | None = None
    """What the fused CPU kernel calls it (`Activation` of chain.cpp); None = it does not know it."""


def bell(phase: Tensor) -> Tensor:
    """exp(-p^2): (...) phases -> (...) in (0, 1]."""
    return torch.exp(-phase.square())


def siren_weights(fan_in: int, first: bool, rate: float) -> float:
    """1/n in a first layer, sqrt(6/n)/s in later ones (SIREN's scheme; paper, appendix A).

    Phases then have unit variance where features have mean square 1/2: a sine's is 1/2, a bell's 1/sqrt(5).
    """
    return 1.0 / fan_in if first else math.sqrt(6.0 / fan_in) / rate


def kaiming_weights(fan_in: int, first: bool, rate: float) -> float:
    """sqrt(6/n) in all layers (He et al., ICCV 2015)."""
    return math.sqrt(6.0 / fan_in)


def usual_biases(fan_in: int, first: bool, rate: float) -> float:
    """1/sqrt(n) in all layers."""
    return 1.0 / math.sqrt(fan_in)


def gauss_biases(fan_in: int, first: bool, rate: float) -> float:
    """1/sqrt(n) in a first layer, whose bells lie all over the domain; 1/s in later ones: a phase far off is dead."""
    return 1.0 / math.sqrt(fan_in) if first else 1.0 / rate


ACTIVATIONS: dict[str, Activation] = {
    "sine": Activation(
        torch.sin, lambda w0: w0, siren_weights, usual_biases, modulated=True, period=2.0 * math.pi, kernel_code=1
    ),
    "relu": Activation(torch.relu, lambda w0: 1.0, kaiming_weights, usual_biases, kernel_code=0),
    "gauss": Activation(bell, lambda w0: w0 / 3.0, siren_weights, gauss_biases),
}
"""Name -> activation.

- sine: sin(w0 x) (paper, eq. 1).
- relu: max(x, 0).
- gauss: exp(-(s x)^2) (Ramasinghe & Lucey, "Beyond Periodicity", ECCV 2022, with sigma = 1 / (sqrt(2) s)). s is w0 / 3,
  so that w0 = 30, which suits sines, gives s = 10 (sigma 0.07), which suits bells: a picture of 64 x 64 is fitted best
  with it among s = 3, 5, 10, 20 and 30, by Local-Global networks, rows alone and one global network.
"""


def activation_names() -> tuple[str, ...]:
    """The names that `ChainSizes.activation` may have."""
    return tuple(ACTIVATIONS)


def activation_named(name: str) -> Activation:
    """The entry of a name.

    Raises:
        ValueError: there is none of this name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}: use one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
