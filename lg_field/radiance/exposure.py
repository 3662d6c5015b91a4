"""Photos of one scene differ in exposure and white balance: an affine change of colour for each, 0 on average.

The scene's colours are those of the average photo. The transform is that of Urban Radiance Fields (Rematas et al., CVPR
2022, section 3.2), kept as a table instead of a network and with its mean taken away.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class Exposure(nn.Module):
    """What a camera does to the colours of each photo."""

    change: nn.Parameter
    """(photos, 3, 4): of each channel by each channel, and an offset."""

    def __init__(self, photos: int) -> None:
        """No change of any of so many photos."""
        super().__init__()
        self.change = nn.Parameter(torch.zeros(photos, 3, 4))

    def forward(
        self, rgb: Float[Tensor, "rays 3"], accumulation: Float[Tensor, "rays 1"], photos: Int64[Tensor, " rays"]
    ) -> Float[Tensor, "rays 3"]:
        """Colours as a photo shows them.

        Args:
            rgb: (N, 3) of the scene, weighted by the accumulation.
            accumulation: (N, 1) opacity along the ray.
            photos: (N,) photo of each ray.
        """
        change = (self.change - self.change.mean(0))[photos]
        return rgb + torch.einsum("nij,nj->ni", change, torch.cat([rgb, accumulation], dim=1))

    def penalty(self) -> Float[Tensor, ""]:
        """Mean square of the changes: what the scene can explain is not the camera's."""
        return (self.change - self.change.mean(0)).square().mean()

    @torch.no_grad()
    def gains(self) -> Float[Tensor, " photos"]:
        """(photos,) how bright each photo shows grey, 1 on average."""
        change = self.change - self.change.mean(0)
        return 1.0 + change[:, :, :3].sum(2).mean(1)
