"""Which pixels a training step looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from nerfstudio.data.pixel_samplers import PixelSampler, PixelSamplerConfig
from torch import Tensor

from lg_field.nerfstudio.dataset import DEPTH


@dataclass
class ObjectPixelSamplerConfig(PixelSamplerConfig):
    """nerfstudio's pixel sampler that looks more at what is cut out."""

    _target: type = field(default_factory=lambda: ObjectPixelSampler)
    """target class to instantiate"""
    object_share: float = 0.75
    """Images with alpha: this part of the pixels is on or close to what is there, the rest anywhere."""
    depth_share: float = 0.125
    """Captures with sparse points: this part of the pixels, besides, shows one, so that its depth is known."""


class ObjectPixelSampler(PixelSampler):
    """Takes most pixels on or close to the object of images with alpha; other images as nerfstudio does."""

    config: ObjectPixelSamplerConfig

    def __init__(self, config: ObjectPixelSamplerConfig, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self._images: Tensor | None = None
        self._near: Tensor | None = None
        self._known: Tensor | None = None

    def collate_image_dataset_batch(
        self, batch: dict[str, Any], num_rays_per_batch: int, keep_full_image: bool = False
    ) -> dict[str, Any]:
        """nerfstudio's batch of pixels."""
        images = batch["image"]
        if images is not self._images:
            self._images, self._near = images, near_object(images) if images.shape[-1] == 4 else None
            self._known = (batch[DEPTH].flatten() > 0.0).nonzero()[:, 0] if DEPTH in batch else None
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
        config, known, near = self.config, self._known, self._near
        count = 0
        if mask is None and near is not None and len(near):
            count = int(config.object_share * batch_size)
            indices[:count] = drawn(near, count, image_height, image_width).to(indices)
        if known is not None and len(known):
            more = min(int(config.depth_share * batch_size), batch_size - count)
            indices[count : count + more] = drawn(known, more, image_height, image_width).to(indices)
        return indices


def drawn(places: Int[Tensor, " pixels"], count: int, height: int, width: int) -> Int[Tensor, "count 3"]:
    """Random ones of some places in flattened images of (height, width) pixels, with repetition: image, row, column."""
    flat = places[torch.randint(len(places), (count,), device=places.device)].long()
    return torch.stack([flat // (height * width), flat % (height * width) // width, flat % width], dim=-1)


def near_object(images: Float[Tensor, "images height width 4"], reach: float = 0.03) -> Int[Tensor, " pixels"]:
    """Places in the flattened images of the pixels on or close to what is there.

    Args:
        images: RGBA.
        reach: how close, in image widths.

    Returns:
        int32, or int64 where 32 bits do not hold them.
    """
    radius = max(1, round(reach * images.shape[2]))
    near = []
    for image in images:
        solid = (image[None, None, :, :, 3] > 0.02).float()
        for axis in (0, 1):  # a square window, one axis after the other
            window = [2 * radius + 1 if k == axis else 1 for k in (0, 1)]
            solid = torch.nn.functional.max_pool2d(solid, window, stride=1, padding=[w // 2 for w in window])
        near.append(solid[0, 0] > 0)
    kind = torch.int32 if images[..., 0].numel() < 2**31 else torch.int64
    return torch.stack(near).flatten().nonzero()[:, 0].to(kind)
