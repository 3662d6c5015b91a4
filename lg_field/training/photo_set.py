"""The photos of a split as pixels with rays: what training steps draw from, and what tests are compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from lg_field.captures import Photo
from lg_field.captures.photo_file import read_mask, read_photo
from lg_field.training.camera_fit import Seen, seen_by, together
from lg_field.training.depths import DEPTH_SHARE, depth_image
from lg_field.training.lenses import Lenses
from lg_field.training.masks import SIZE, near_object, something_empty, to_size
from lg_field.training.shares import drawn_shares

Report = Callable[[int, int], None]
"""Told how many of how many are done."""


class Pixels(NamedTuple):
    """Some pixels of photos."""

    photos: Int64[Tensor, " rays"]
    """Which photo."""
    rows: Int64[Tensor, " rays"]
    """From the top."""
    columns: Int64[Tensor, " rays"]
    """From the left."""


@dataclass
class PhotoSet:
    """Photos in memory, 8 bits a channel."""

    lenses: Lenses
    """Their cameras, in scene units once they are `placed`."""
    images: list[UInt8[Tensor, "height width channels"]]
    """RGB or, all of them, RGBA with straight alpha."""
    counted: list[Bool[Tensor, "height width"]] | None
    """Pixels that say something; None = all."""
    depths: Float[Tensor, " pixels"] | None = None
    """How far what each pixel shows is, scene units, 0 where that is not known, row by row and photo after photo; None
    = it is known nowhere."""

    @staticmethod
    def read(
        photos: Sequence[Photo],
        alpha: bool,
        masks: Literal["empty", "ignore"],
        scale: float = 1.0,
        report: Report = lambda done, total: None,
    ) -> PhotoSet:
        """Read photos.

        Args:
            photos: at least one.
            alpha: whether any photo of the capture has transparency: then all get a fourth channel.
            masks: what lies outside of them. empty: nothing, the mask is alpha. ignore: pixels that do not count.
            scale: of width and height.
            report: told after each photo.

        Raises:
            CaptureError: a file is broken.
        """
        masked = any(photo.mask for photo in photos)
        cut = masked and masks == "empty"
        images, counted = [], []
        for done, photo in enumerate(photos):
            image = torch.from_numpy(read_photo(photo, alpha or cut, scale, cut))
            if masked and not cut:
                counted.append(torch.from_numpy(read_mask(photo, image.shape[1], image.shape[0])))
            images.append(image)
            report(done + 1, len(photos))
        lenses = Lenses.of(photos, [(image.shape[1], image.shape[0]) for image in images])
        return PhotoSet(lenses, images, counted or None)

    def mean_color(self) -> tuple[float, float, float]:
        """`mean_color` of the photos."""
        return mean_color(len(self), lambda k: self.images[k].float() / 255.0)

    def measure(self, photos: Sequence[Photo], points: Float[Tensor, "points 3"] | None) -> None:
        """Find `depths`, by (n, 3) sparse points in the lenses' coordinates that these photos show."""
        if points is None or all(photo.seen is None for photo in photos):
            return
        depths = []
        for k, (photo, image) in enumerate(zip(photos, self.images)):
            height, width = image.shape[:2]
            depth = depth_image(photo.seen, points, self.lenses.poses[k, :, 3], width, height)
            outside = None if photo.mask is None else ~torch.from_numpy(read_mask(photo, width, height))
            depths.append((depth if outside is None else depth.masked_fill(outside, 0.0)).flatten())
        self.depths = torch.cat(depths)

    def __len__(self) -> int:
        return len(self.images)

    def rays(self, pixels: Pixels) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
        """(n, 3) float32 origins and unit directions through the middles of pixels."""
        return self.lenses.rays(*pixels)

    def colors(self, pixels: Pixels) -> Float[Tensor, "rays channels"]:
        """(n, 3 or 4) colours of pixels, in [0, 1]."""
        found = torch.empty(len(pixels.photos), self.images[0].shape[-1], dtype=torch.uint8)
        for photo in pixels.photos.unique().tolist():
            here = (pixels.photos == photo).nonzero()[:, 0]
            found[here] = self.images[photo][pixels.rows[here], pixels.columns[here]]
        return found.float() / 255.0

    def depth(self, pixels: Pixels) -> Float[Tensor, " rays"] | None:
        """(n,) of `depths`."""
        if self.depths is None:
            return None
        widths, sizes = self.lenses.sizes[:, 0], self.lenses.sizes.prod(1)
        begins = sizes.cumsum(0) - sizes
        return self.depths[begins[pixels.photos] + pixels.rows * widths[pixels.photos] + pixels.columns]

    def seen(
        self,
        photos: Int64[Tensor, " cameras"],
        count: int,
        background: Sequence[float],
        generator: torch.Generator | None = None,
    ) -> Seen:
        """What the cameras of some photos have at so many of the pixels that tell most, on a (3,) background."""
        found = []
        for photo in photos.tolist():

            def rays(rows: Tensor, columns: Tensor, photo: int = photo) -> tuple[Tensor, Tensor]:
                return self.rays(Pixels(torch.full_like(rows, photo), rows, columns))

            counted = None if self.counted is None else self.counted[photo]
            pixel = 1.0 / float(self.lenses.focals[photo].mean())
            found.append(seen_by(self.images[photo], counted, rays, pixel, count, torch.tensor(background), generator))
        return together(found)

    def all_of(self, photo: int) -> Pixels:
        """Every pixel of a photo, row by row."""
        height, width = self.images[photo].shape[:2]
        number = torch.arange(height * width)
        return Pixels(torch.full_like(number, photo), number // width, number % width)


def mean_color(
    count: int, image_of: Callable[[int], Float[Tensor, "height width channels"]], most: int = 16
) -> tuple[float, float, float]:
    """Mean colour in [0, 1] of so many images, of at most `most` that are spread over them.

    Args:
        count: images.
        image_of: number -> (height, width, 3 or 4) in [0, 1].
        most: that are looked at.
    """
    numbers = torch.linspace(0, count - 1, min(most, count)).round().long().tolist()
    red, green, blue = torch.stack([image_of(k)[..., :3].mean((0, 1)) for k in numbers]).mean(0).tolist()
    return red, green, blue


class Draw:
    """Draws pixels for training steps."""

    def __init__(self, photos: PhotoSet, object_share: float) -> None:
        """
        Args:
            photos: from which.
            object_share: photos with alpha: so many of the pixels are on or close to what is there, 0..1.
        """
        heights, widths = (torch.tensor([image.shape[axis] for image in photos.images]) for axis in (0, 1))
        self.widths, self.share = widths, object_share
        self.ends = (heights * widths).cumsum(0)
        self.anywhere = None if photos.counted is None else self._places(photos.counted)
        self.near: Tensor | None = None
        if photos.images[0].shape[-1] == 4 and photos.counted is None:
            found = [near_object(image[None].float() / 255.0).long() for image in photos.images]
            self.near = torch.cat([places + begin for places, begin in zip(found, self._begins().tolist())])
        self.known = None if photos.depths is None else (photos.depths > 0.0).nonzero()[:, 0]

    def _begins(self) -> Tensor:
        return torch.cat([torch.zeros(1, dtype=torch.int64), self.ends[:-1]])

    def _places(self, marked: list[Tensor]) -> Tensor:
        """Numbers of marked pixels among all."""
        found = torch.cat([mask.flatten() for mask in marked]).nonzero()[:, 0]
        if not len(found):
            raise ValueError("the masks leave no pixel to train on: are they bright where photos count?")
        return found

    def __call__(self, count: int) -> Pixels:
        """So many pixels, by torch's random numbers."""
        if self.anywhere is None:
            number = torch.randint(int(self.ends[-1]), (count,))
        else:
            number = self.anywhere[torch.randint(len(self.anywhere), (count,))]
        for some, places in drawn_shares(count, (self.near, self.share), (self.known, DEPTH_SHARE)):
            number[some] = places
        photos = torch.searchsorted(self.ends, number, right=True)
        inside = number - self._begins()[photos]
        return Pixels(photos, inside // self.widths[photos], inside % self.widths[photos])


def small_masks(photos: Sequence[Photo]) -> Float[Tensor, "views SIZE SIZE"] | None:
    """Small masks of photos, in [0, 1], full for a photo without; None if no photo has one."""
    if not any(photo.mask for photo in photos):
        return None
    masks = (torch.from_numpy(read_mask(photo, SIZE, SIZE)).float() for photo in photos)
    return torch.stack([to_size(mask[..., None]) for mask in masks])


def small_alphas(photos: Sequence[Photo], alpha: bool, masked: bool) -> Float[Tensor, "views SIZE SIZE"] | None:
    """Small alphas of photos; None where nothing says that something is empty.

    Args:
        photos: which.
        alpha: whether any photo of the capture has transparency.
        masked: a mask is alpha, too.
    """
    own, masks = None, small_masks(photos) if masked else None
    if alpha:
        largest = max(max(photo.lens.width, photo.lens.height) for photo in photos)
        scale = min(1.0, 1.5 * SIZE / largest)
        bands = (np.ascontiguousarray(read_photo(photo, True, scale)[..., 3:]) for photo in photos)
        own = torch.stack([to_size(torch.from_numpy(band).float() / 255) for band in bands])
    return something_empty(own, masks)
