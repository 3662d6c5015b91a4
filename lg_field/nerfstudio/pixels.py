"""Which pixels a training step looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor

from lg_field.nerfstudio.dataset import DEPTH
from lg_field.training.depths import DEPTH_SHARE
from lg_field.training.masks import near_object
from lg_field.training.shares import drawn_shares, near_each_other


@dataclass
class ObjectPixelSamplerConfig(PixelSamplerConfig):
    """nerfstudio's pixel sampler that looks more at what is cut out."""

    _target: type = field(default_factory=lambda: ObjectPixelSampler)
    """target class to instantiate"""
    object_share: float = 0.75
    """Images with alpha: this part of the pixels is on or close to what is there, the rest anywhere."""
    depth_share: float = DEPTH_SHARE
    """Captures with sparse points: this part of the pixels, besides, shows one, so that its depth is known."""


class ObjectPixelSampler(PixelSampler):
    """Takes most pixels on or close to the object of images with alpha; other images as nerfstudio does. After
    `look_near`, each step's pixels are of photos that were taken near each other."""

    config: ObjectPixelSamplerConfig

    def __init__(self, config: ObjectPixelSamplerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._images: Tensor | None = None
        self._near: Tensor | None = None
        self._known: Tensor | None = None
        self._positions: Tensor | None = None
        self._near_photos = 0
        self._photos: Tensor | None = None

    def look_near(self, positions: Float[Tensor, "photos 3"], near_photos: int) -> None:
        """From now on take each step's pixels of some photos that were taken near each other.

        Args:
            positions: (n, 3) where each photo of the data set was taken.
            near_photos: so many.
        """
        self._positions, self._near_photos = positions.detach().cpu(), near_photos

    def _draw_photos(self, numbers: Int[Tensor, " photos"]) -> None:
        """Which of a batch's photos, given by their numbers in the data set, a step looks at."""
        if self._positions is not None:
            self._photos = near_each_other(self._positions[numbers.cpu()], self._near_photos)

    def collate_image_dataset_batch(
        self, batch: dict[str, Any], num_rays_per_batch: int, keep_full_image: bool = False
    ) -> dict[str, Any]:
        """nerfstudio's batch of pixels."""
        images = batch["image"]
        if images is not self._images:
            self._images, self._near = images, near_object(images) if images.shape[-1] == 4 else None
            self._known = (batch[DEPTH].flatten() > 0.0).nonzero()[:, 0] if DEPTH in batch else None
        self._draw_photos(batch["image_idx"])
        return super().collate_image_dataset_batch(batch, num_rays_per_batch, keep_full_image)

    def collate_image_dataset_batch_list(
        self, batch: dict[str, Any], num_rays_per_batch: int, keep_full_image: bool = False
    ) -> dict[str, Any]:
        """nerfstudio's batch of pixels, of photos of several sizes."""
        self._draw_photos(batch["image_idx"])
        photos, self._photos = self._photos, None
        if photos is not None:
            numbers = photos.tolist()
            batch = {
                key: [values[k] for k in numbers] if isinstance(values, list) else values[photos.to(values.device)]
                for key, values in batch.items()
            }
        return super().collate_image_dataset_batch_list(batch, num_rays_per_batch, keep_full_image)

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
        photos = None if self._photos is None else self._photos.to(device)
        if photos is not None:
            num_images, mask_of = len(photos), None if mask is None else mask[photos.to(mask.device)]
            indices = super().sample_method(batch_size, num_images, image_height, image_width, mask_of, device)
            indices[:, 0] = photos.to(indices.device)[indices[:, 0]]
        else:
            indices = super().sample_method(batch_size, num_images, image_height, image_width, mask, device)
        near = (self._near if mask is None else None, self.config.object_share)
        shares = near, (self._known, self.config.depth_share)
        for some, places in drawn_shares(batch_size, *shares, photos=photos, pixels=image_height * image_width):
            indices[some] = unflattened(places.long(), image_height, image_width).to(indices)
        return indices


def unflattened(places: Int[Tensor, " pixels"], height: int, width: int) -> Int[Tensor, "pixels 3"]:
    """Places in flattened images of (height, width) pixels as image, row, column."""
    inside = places % (height * width)
    return torch.stack([places // (height * width), inside // width, inside % width], dim=-1)
