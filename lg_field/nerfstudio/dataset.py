"""Photos of a capture as nerfstudio's data set: every kind of picture, one number of channels, masks of any size."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.utils.data_utils import get_image_mask_tensor_from_path
from torch import Tensor

from lg_field.captures import Photo
from lg_field.captures.photo_file import read_mask, read_photo
from lg_field.training.depths import depth_image

DEPTH = "depth_image"
"""Key of the distances of sparse points among an image's data and a batch's; one that nerfstudio knows."""


class CaptureDataset(InputDataset):
    """nerfstudio's data set; where its outputs are of a `Capture`, photos and masks are read as the capture says."""

    def __init__(
        self, outputs: DataparserOutputs, scale_factor: float = 1.0, masks: Literal["empty", "ignore"] = "ignore"
    ) -> None:
        """
        Args:
            outputs: of a data parser.
            scale_factor: of photos and cameras, per axis.
            masks: what lies outside of them; empty: nothing, the mask is alpha. ignore: pixels that do not count.
        """
        super().__init__(outputs, scale_factor)
        self.masks = masks
        points, photos = self.metadata.get("points3D_xyz"), self.metadata.get("photos")
        self.depths = points is not None and photos is not None and any(photo.seen is not None for photo in photos)

    def get_numpy_image(self, image_idx: int) -> np.ndarray:
        """(height, width, 3 or 4) uint8 of a photo, straight alpha, which masks that mean empty space are part of."""
        photo = self.photo(image_idx)
        if photo is None:
            return super().get_numpy_image(image_idx)
        cut = self.masks == "empty" and self._dataparser_outputs.mask_filenames is not None
        scale = self.scale_factor / float(self.metadata["downscale"])
        return read_photo(photo, cut or bool(self.metadata["alpha"]), scale, cut)

    def photo(self, image_idx: int) -> Photo | None:
        """The photo of an image; None where another data parser read it."""
        photos: list[Photo] | None = self.metadata.get("photos")
        return None if photos is None else photos[image_idx]

    def get_mask(self, image_idx: int, width: int, height: int) -> Tensor | None:
        """(height, width, 1) bool: where an image counts; None if no image has a mask."""
        files, photo = self._dataparser_outputs.mask_filenames, self.photo(image_idx)
        if files is None:
            return None
        if photo is None:
            return get_image_mask_tensor_from_path(files[image_idx], self.scale_factor)
        return torch.from_numpy(read_mask(photo, width, height))[..., None]

    def depth(self, image_idx: int, width: int, height: int) -> Tensor:
        """(height, width, 1) `depth_image` of an image."""
        seen, origin = self.metadata["photos"][image_idx].seen, self.cameras.camera_to_worlds[image_idx, :, 3]
        return depth_image(seen, self.metadata["points3D_xyz"], origin, width, height)[..., None]

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """nerfstudio's dictionary of an image: `image_idx`, `image` and, if masks are no alpha, `mask`."""
        image = self.get_image_float32(image_idx) if image_type == "float32" else self.get_image_uint8(image_idx)
        data: dict[str, Any] = {"image_idx": image_idx, "image": image}
        if self.depths:
            data[DEPTH] = self.depth(image_idx, image.shape[1], image.shape[0])
        mask = self.get_mask(image_idx, image.shape[1], image.shape[0])
        if mask is None:
            return data
        if DEPTH in data:
            data[DEPTH] = data[DEPTH] * mask
        if self.masks == "ignore":
            return data | {"mask": mask}
        if self.photo(image_idx) is not None:
            return data
        alpha = (
            image[..., 3:]
            if image.shape[-1] == 4
            else torch.full_like(image[..., :1], 255 if image_type == "uint8" else 1)
        )
        return data | {"image": torch.cat([image[..., :3], alpha * mask], dim=-1)}
