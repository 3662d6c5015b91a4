"""Which pixels a training step looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor

from lg_field.training.masks import near_object


@dataclass
class ObjectPixelSamplerConfig(PixelSamplerConfig):
    """nerfstudio's pixel sampler that looks more at what is cut out."""

    _target: type = field(default_factory=lambda: ObjectPixelSampler)
    """target class to instantiate"""
    object_share: float = 0.75
    """Images with alpha: this part of the pixels is on or close to what is there, the rest anywhere."""


class ObjectPixelSampler(PixelSampler):
    """Takes most pixels on or close to the object of images with alpha; other images as nerfstudio does."""

    config: ObjectPixelSamplerConfig

    def __init__(self, config: ObjectPixelSamplerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._images: Tensor | None = None
        self._near: Tensor | None = None

    def collate_image_dataset_batch(
        self, batch: dict[str, Any], num_rays_per_batch: int, keep_full_image: bool = False
    ) -> dict[str, Any]:
        """nerfstudio's batch of pixels."""
        images = batch["image"]
        if images is not self._images:
            self._images, self._near = images, near_object(images) if images.shape[-1] == 4 else None
        return super().collate_image_dataset_batch(batch, num_rays_per_batch, keep_full_image)

    def sample_method(
        self,
        batch_size: int,
        num_images: int,
        image_height: int,
        image_width: int,
        mask: Tensor | None = None,
        device: Any = "cpu",
    ) -> Int[Tensor, "batch_size 3"]:
        """(batch_size, 3) image, row and column of pixels."""
        indices = super().sample_method(batch_size, num_images, image_height, image_width, mask, device)
        near = self._near
        if mask is None and near is not None and len(near):
            count = int(self.config.object_share * batch_size)
            flat = near[torch.randint(len(near), (count,), device=near.device)].long().to(indices.device)
            pixels = image_height * image_width
            column, row = flat % image_width, flat % pixels // image_width
            indices[:count] = torch.stack([flat // pixels, row, column], dim=-1)
        return indices
