"""Masks of images: what lies outside of them, and what the images leave of a scene.

nerfstudio's meaning of a mask is that pixels outside of it say nothing (`ignore`). Where masks cut one object out,
their outside says that nothing is there: it is alpha 0 (`empty`).
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from lg_field.nerfstudio.dataset import CaptureDataset
from lg_field.training.masks import SIZE, MaskMode, left_out, masked_ones, meaning, to_size


def mask_meaning(masks: Float[Tensor, "views height width"] | None, mode: MaskMode) -> Literal["empty", "ignore"]:
    """What lies outside of a data set's masks, said in a line if there are any.

    Args:
        masks: of all images, in [0, 1]; None = there are none.
        mode: what was asked for.
    """
    found, line = meaning(masks, mode, "--pipeline.datamanager.masks")
    if line is not None:
        CONSOLE.print(line)
    return found


def leave_out_unmasked(outputs: DataparserOutputs) -> None:
    """Take the images without a mask out of what a data parser found, in place, and say so: for masks that mean empty
    space."""
    files = outputs.mask_filenames
    stay = masked_ones(files or [])
    if files is None or len(stay) == len(files):
        return
    CONSOLE.print(left_out(len(files) - len(stay), len(files)))
    outputs.image_filenames, outputs.mask_filenames = (
        [part[k] for k in stay] for part in (outputs.image_filenames, files)
    )
    outputs.cameras = outputs.cameras[torch.tensor(stay)]
    if "photos" in outputs.metadata:
        outputs.metadata["photos"] = [outputs.metadata["photos"][k] for k in stay]


def small_masks(outputs: DataparserOutputs) -> Float[Tensor, "views height width"] | None:
    """Small masks of images, in [0, 1], full for an image without; None if no image has one."""
    if outputs.mask_filenames is None:
        return None
    images = _small(outputs)
    masks = [images.get_mask(k, SIZE, SIZE) for k in range(len(images))]
    return torch.stack([to_size(mask.float()) for mask in masks if mask is not None])


def small_alphas(outputs: DataparserOutputs, masked: bool) -> Float[Tensor, "views height width"] | None:
    """Small alphas of images; None where nothing says that something is empty.

    Args:
        outputs: of a data parser.
        masked: a mask is alpha, too.
    """
    images = _small(outputs)
    first = images.get_numpy_image(0)
    alphas = small_masks(outputs) if masked else None
    if first.shape[-1] == 4:
        bands = (torch.from_numpy(images.get_numpy_image(k)[..., 3:].copy()) / 255 for k in range(len(images)))
        own = torch.stack([to_size(band) for band in bands])
        alphas = own if alphas is None else own * alphas
    return alphas if alphas is not None and float(alphas.min()) < 0.5 else None


def _small(outputs: DataparserOutputs) -> CaptureDataset:
    """The images at about the size of small alphas."""
    largest = max(int(outputs.cameras.width.max()), int(outputs.cameras.height.max()))
    return CaptureDataset(outputs, min(1.0, 1.5 * SIZE / largest))
