"""Less is learned from what is close to a camera (Philip and Deschaintre, Floaters No More, EGSR 2023).

Rays of one camera are dense near it: what is there is changed by many samples at once and seen by no other camera, so
that haze in front of each camera explains its photo. Gradients that grow with the square of the distance undo that.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from lg_field.radiance.compositing import Samples
from lg_field.radiance.render import Asked


class NearScaling:
    """Scales down gradients of samples nearer to their camera than some distance."""

    def __init__(self, samples: Samples, until: float) -> None:
        """
        Args:
            samples: M packed samples.
            until: distance from which on gradients are whole, scene units; 0: all are.
        """
        self.until = until if torch.is_grad_enabled() else 0.0
        """Distance from which on gradients are whole, scene units; 0: all are."""
        self.factors: Float[Tensor, " samples"] | None = None
        """(M,) what gradients are multiplied with; None: with 1."""
        if until > 0.0 and torch.is_grad_enabled():
            self.factors = ((samples.starts + samples.ends) * (0.5 / until)).clamp_max(1.0).square()

    def __call__(self, values: Float[Tensor, "samples *n"]) -> Float[Tensor, "samples *n"]:
        """(M, ...) values as they are, with other gradients."""
        if self.factors is None:
            return values
        scaled: Tensor = _Scaled.apply(values, self.factors)
        return scaled


def scaled_near(asked: Asked, until: float) -> Asked:
    """What was asked along rays with gradients scaled down near the cameras, but for those of opacity and dependence.

    Args:
        asked: rays with M samples, not composited yet.
        until: as in `NearScaling`.
    """
    scaling = NearScaling(asked.samples, until)
    if scaling.factors is None:
        return asked
    opacity = -torch.expm1(-asked.density * asked.samples.lengths) if asked.opacity is None else asked.opacity
    colors = None if asked.colors is None else scaling(asked.colors)
    return asked._replace(
        density=scaling(asked.density), features=scaling(asked.features), colors=colors, opacity=opacity
    )


class _Scaled(torch.autograd.Function):
    """Values as they are; gradients times a factor per line."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return values.view_as(values)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (factors,) = ctx.saved_tensors
        return grad * factors.view(-1, *(1,) * (grad.dim() - 1)), None


def change_of_scaling(before: float | None, now: float) -> list[str]:
    """What to say where training goes on and scales gradients otherwise: a line, or none.

    Args:
        before: scene units from which on gradients were whole; None: the checkpoint does not say.
        now: the same from here on.
    """
    if before == now or (before is None and not now):
        return []
    was = (
        "does not say whether gradients near cameras were scaled down"
        if before is None
        else (f"is of training that scaled gradients down within {before:g} scene units of cameras")
    )
    return [f"the checkpoint {was}: from here on they are within {now:g} (gradient_scaling; 0: nowhere)"]
