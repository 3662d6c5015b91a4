"""Learning from a trained field instead of from images (KiloNeRF, Reiser et al., ICCV 2021, section 3.2).

The baseline a Local-Global field is compared with: networks per partition that first imitate one big network.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lg_field.radiance.field import RadianceField


def imitation_loss(
    teacher: RadianceField, positions: Tensor, directions: Tensor, density: Tensor, colors: Tensor, lengths: Tensor
) -> Tensor:
    """Mean squared difference from a teacher, of the opacity of each sample and of its colour times that opacity.

    Args:
        teacher: a trained field of the same scene; gets no gradient.
        positions: (M, 3) samples, scene units.
        directions: (M, 3) unit vectors.
        density: (M,) of the student there, per scene unit.
        colors: (M, 3) of the student there.
        lengths: (M,) of the samples, scene units.
    """
    with torch.no_grad():
        wanted_density, features = teacher(positions)
        wanted_colors = teacher.rgb(features, directions)
    opacity, wanted = (-torch.expm1(-d * lengths)[:, None] for d in (density, wanted_density))
    return (opacity - wanted).square().mean() + (opacity * colors - wanted * wanted_colors).square().mean()
