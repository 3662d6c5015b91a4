"""What lies outside of masks, and which pixels are near what photos with alpha show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lg_field.captures import Capture

MaskMode = Literal["auto", "empty", "ignore"]
"""empty: outside a mask there is nothing; ignore: outside it pixels are left out; auto: empty where the masks cover one
object."""
OBJECT = (0.002, 0.6)
"""Part of an image that a mask covers if it cuts out an object."""
SIZE = 96
"""Pixels per axis of small alphas."""


def cut_out_object(coverage: Sequence[float]) -> bool:
    """Whether masks cut out one object: in nine of ten images they cover some, but far from all, of the image.

    Args:
        coverage: part of each image inside its mask, 0..1.
    """
    good = sum(OBJECT[0] <= part <= OBJECT[1] for part in coverage)
    return len(coverage) > 0 and good >= 0.9 * len(coverage)


def meaning(
    masks: Float[Tensor, "views height width"] | None, mode: MaskMode, flag: str
) -> tuple[Literal["empty", "ignore"], str | None]:
    """What lies outside of a data set's masks, and a line that says so if there are any.

    Args:
        masks: of all images, in [0, 1]; None = there are none.
        mode: what was asked for.
        flag: by which option that is, for the line.
    """
    if masks is None:
        return "ignore", None
    parts = masks.flatten(1).mean(1).tolist()
    empty = mode == "empty" or (mode == "auto" and cut_out_object(parts))
    share, outside = 100 * sum(parts) / len(parts), "there is nothing" if empty else "pixels are left out"
    line = (
        f"The masks cover {share:.0f} % of the images; outside of them {outside} "
        f"({flag} {'ignore' if empty else 'empty'}: otherwise)."
    )
    return "empty" if empty else "ignore", line


def masked_ones(files: Sequence[Path | None]) -> list[int]:
    """Numbers of the photos that stay where masks mean empty space, by their masks: a photo without one would say that
    all it shows is part of the object. All stay where none has one.
    """
    masked = [k for k, file in enumerate(files) if file is not None]
    return masked or list(range(len(files)))


def left_out(count: int, total: int) -> str:
    """The line for photos that do not stay."""
    return f"{count} of {total} photos have no mask and are left out: the masks of the others say what is empty"


def only_masked(capture: Capture) -> tuple[Capture, list[str]]:
    """A capture whose masks mean empty space, without the photos that have none; and notes."""
    splits = {}
    for split, numbers in capture.splits.items():
        stay = masked_ones([capture.photos[k].mask for k in numbers])
        splits[split] = tuple(numbers[k] for k in stay)
    before, after = ({k for part in parts.values() for k in part} for parts in (capture.splits, splits))
    notes = [left_out(len(before - after), len(before))] if before - after else []
    return replace(capture, splits=splits), notes


def to_size(band: Float[Tensor, "height width 1"]) -> Float[Tensor, "SIZE SIZE"]:
    """A mask or an alpha as a small one."""
    return torch.nn.functional.interpolate(band.permute(2, 0, 1)[None], (SIZE, SIZE), mode="area")[0, 0]


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
