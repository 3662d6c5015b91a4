"""Masks of images: what lies outside them, and masks as alpha.

nerfstudio's meaning of a mask is that pixels outside it say nothing (`ignore`). Where masks cut one object out, their
outside says that nothing is there: it is alpha 0 (`empty`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.utils.rich_utils import CONSOLE
from PIL import Image
from torch import Tensor

from lg_field.errors import UserError

MaskMode = Literal["auto", "empty", "ignore"]
"""empty: outside a mask there is nothing; ignore: outside it pixels are left out; auto: empty where the masks cover one
object."""
OBJECT = (0.002, 0.6)
"""Part of an image that a mask covers if it cuts out an object."""


def read_mask(path: Path, size: tuple[int, int]) -> Float[Tensor, "height width"]:
    """A mask as alpha: 0 outside, 1 inside, between them on its border where it was scaled.

    Args:
        path: an image of any size, grey, RGB or with a palette; every value but black is inside.
        size: wanted (width, height) in pixels.

    Raises:
        UserError: no image.
    """
    try:
        inside = Image.fromarray(np.array(Image.open(path).convert("L")) > 0).convert("L")
    except OSError as error:
        raise UserError(f"the mask {path} cannot be read: {error}") from error
    if inside.size != size:
        inside = inside.resize(size, Image.Resampling.BOX if inside.size[0] > size[0] else Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(inside, dtype=np.float32) / 255)


def cut_out_object(coverage: Sequence[float]) -> bool:
    """Whether masks cut out one object: in nine of ten images they cover some, but far from all, of the image.

    Args:
        coverage: part of each image inside its mask, 0..1.
    """
    good = sum(OBJECT[0] <= part <= OBJECT[1] for part in coverage)
    return len(coverage) > 0 and good >= 0.9 * len(coverage)


def mask_meaning(masks: Sequence[Path] | None, mode: MaskMode) -> Literal["empty", "ignore"]:
    """What lies outside of a data set's masks, said in a line if there are any.

    Raises:
        UserError: no image.
    """
    if masks is None:
        return "ignore"
    parts = [float(read_mask(path, (96, 96)).mean()) for path in masks]
    empty = mode == "empty" or (mode == "auto" and cut_out_object(parts))
    share, outside = 100 * sum(parts) / len(parts), "there is nothing" if empty else "pixels are left out"
    CONSOLE.print(
        f"The masks cover {share:.0f} % of the images; outside of them {outside} "
        f"(--pipeline.datamanager.masks {'ignore' if empty else 'empty'}: otherwise)."
    )
    return "empty" if empty else "ignore"


def read_alphas(images: Sequence[Path], masks: Sequence[Path] | None, size: int = 96) -> Tensor | None:
    """Small alphas of images: their own times that of their masks.

    Args:
        images: files.
        masks: their masks, None = alpha of the images alone.
        size: pixels per axis.

    Returns:
        (images, size, size) float32 in [0, 1]; None where neither a mask nor an image says that something is empty.
    """
    alphas = []
    for k, path in enumerate(images):
        image = Image.open(path)
        alpha = torch.ones(size, size)
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            band = image.convert("RGBA").getchannel("A").resize((size, size), Image.Resampling.BOX)
            alpha = torch.from_numpy(np.array(band, dtype=np.float32) / 255)
        elif masks is None and k == 0:
            return None
        alphas.append(alpha if masks is None else alpha * read_mask(masks[k], (size, size)))
    found = torch.stack(alphas)
    return found if float(found.min()) < 0.5 else None


class CaptureDataset(InputDataset):
    """Images with what is known of their outside: with `masks` "empty" a mask becomes the image's alpha, with "ignore"
    it stays a mask, of the image's size."""

    def __init__(self, outputs: Any, scale_factor: float = 1.0, masks: Literal["empty", "ignore"] = "ignore") -> None:
        super().__init__(outputs, scale_factor)
        self.masks = masks

    def get_data(self, image_idx: int, image_type: Literal["uint8", "float32"] = "float32") -> dict[str, Any]:
        """nerfstudio's dictionary of an image."""
        image = self.get_image_float32(image_idx) if image_type == "float32" else self.get_image_uint8(image_idx)
        data: dict[str, Any] = {"image_idx": image_idx, "image": image}
        files = self._dataparser_outputs.mask_filenames
        if files is not None:
            height, width = image.shape[:2]
            mask = read_mask(files[image_idx], (width, height))[..., None]
            if self.masks == "ignore":
                data["mask"] = mask > 0.5
            else:
                top = 255 if image_type == "uint8" else 1
                alpha = image[..., 3:] * mask if image.shape[-1] == 4 else mask * top
                data["image"] = torch.cat([image[..., :3], alpha.to(image)], dim=-1)
        return data
