"""Losses of where along its ray the light of a pixel comes from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from lg_field.radiance.compositing import render_weights, spread
from lg_field.radiance.render import Asked

Measure = Callable[[Float[Tensor, "*n"]], Float[Tensor, "*n"]]
"""From (...,) distances along rays, scene units, to places in [0, 1] that grow with them."""


def _weights(asked: Asked) -> Tensor:
    return render_weights(asked.density, asked.samples, len(asked.origins)) if asked.weights is None else asked.weights


def distortion(asked: Asked, measure: Measure) -> Float[Tensor, ""]:
    """How far apart along its ray what a ray sees lies, mean over rays (mip-NeRF 360, eq. 15)."""
    samples = asked.samples
    starts, ends = measure(torch.stack([samples.starts, samples.ends]))
    return spread(_weights(asked), 0.5 * (starts + ends), ends - starts, samples, len(asked.origins))


def away(asked: Asked, depth: Float[Tensor, " rays"], measure: Measure) -> Float[Tensor, " samples"]:
    """How far samples lie from where it is known that their rays see something; 0 where that is not known.

    Args:
        asked: N rays with M samples.
        depth: (N,) known distances along rays, scene units; 0: not known.
        measure: in which distances are compared.
    """
    samples = asked.samples
    places = 0.5 * (measure(samples.starts) + measure(samples.ends))
    return (places - measure(depth)[samples.rays]).abs() * (depth > 0.0)[samples.rays]


def misplacement(asked: Asked, away: Float[Tensor, " samples"]) -> Float[Tensor, ""]:
    """How far what rays see lies from where it is known to be: sum over rays, from `away`."""
    return (_weights(asked) * away).sum()
