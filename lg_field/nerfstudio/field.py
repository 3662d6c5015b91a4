"""The radiance field as a nerfstudio `Field`."""

from __future__ import annotations

import torch
from nerfstudio.cameras.rays import RaySamples
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.fields.base_field import Field
from torch import Tensor

from lg_field.radiance.field import RadianceField


class LGField(Field):
    """Density and colour of `RaySamples`; the weights are in `table`."""

    def __init__(self, table: RadianceField, num_images: int = 0, overlap: float = 0.0) -> None:
        """
        Args:
            table: the field.
            num_images: training images, for the appearance embedding if `table` has one.
            overlap: in training, samples this part of a cell from a border go to either neighbour.
        """
        super().__init__()
        self.table, self.overlap = table, overlap
        width = table.sizes.appearance_features
        self.appearance = torch.nn.Embedding(num_images, width) if width else None

    def get_density(self, ray_samples: RaySamples) -> tuple[Tensor, Tensor]:
        """Density (..., 1) per scene unit and colour features (..., C) at the samples."""
        positions = ray_samples.frustums.get_positions()
        density, features = self.table(positions.reshape(-1, 3), self.overlap if self.training else 0.0)
        self.last_features = features
        return density.view(*positions.shape[:-1], 1), features.view(*positions.shape[:-1], -1)

    def get_outputs(
        self, ray_samples: RaySamples, density_embedding: Tensor | None = None
    ) -> dict[FieldHeadNames, Tensor]:
        """Colour (..., 3) in [0, 1] of the samples, from the features of `get_density`."""
        assert density_embedding is not None
        features = density_embedding.reshape(-1, density_embedding.shape[-1])
        directions = ray_samples.frustums.directions.reshape(-1, 3)
        rgb = self.table.rgb(features, directions, self._appearance_of(ray_samples, len(features)))
        return {FieldHeadNames.RGB: rgb.view(*density_embedding.shape[:-1], 3)}

    def _appearance_of(self, ray_samples: RaySamples, count: int) -> Tensor | None:
        """(M, A) embedding of each sample's image in training, the average image's otherwise."""
        if self.appearance is None:
            return None
        if self.training and ray_samples.camera_indices is not None:
            return self.appearance(ray_samples.camera_indices.reshape(-1))
        return self.appearance.weight.mean(0).expand(count, -1)
