"""The radiance field as a nerfstudio `Field`."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import Appearance


class LGField(Field):
    """Density and colour of `RaySamples`; the weights are in `table`, and an image's appearance beside it."""

    def __init__(self, table: RadianceField, num_images: int = 0) -> None:
        """
        Args:
            table: the field.
            num_images: training images, for the appearance embedding if `table` has one.
        """
        super().__init__()
        self.table = table
        width = table.sizes.appearance_features
        self.appearance = torch.nn.Embedding(num_images, width) if width else None

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Density (..., 1) per scene unit and colour features (..., C) at the samples."""
        positions = ray_samples.frustums.get_positions()
        density, features = self.table(positions.reshape(-1, 3))
        return density.view(*positions.shape[:-1], 1), features.view(*positions.shape[:-1], -1)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour (..., 3) in [0, 1] of the samples, from the features of `get_density`."""
        assert density_embedding is not None
        features = density_embedding.reshape(-1, density_embedding.shape[-1])
        directions = ray_samples.frustums.directions.reshape(-1, 3)
        looks = self.appearance_of(ray_samples.camera_indices)
        every = torch.arange(len(features), device=features.device)
        rgb = self.table.rgb(features, directions, None if looks is None else looks(every))
        return {FieldHeadNames.RGB: rgb.view(*density_embedding.shape[:-1], 3)}

    def appearance_of(self, cameras: Tensor | None) -> Appearance | None:
        """From the ray of a sample to its appearance: the image's in training, the average one otherwise.

        Args:
            cameras: (N, 1) image of each ray, None where unknown.
        """
        embedding = self.appearance
        if embedding is None:
            return None

        def looks(rays: Tensor) -> Tensor:
            if self.training and cameras is not None:
                return embedding(cameras.reshape(-1)[rays])
            return embedding.weight.mean(0).expand(len(rays), -1)

        return looks
