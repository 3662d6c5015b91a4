"""Pillow's colour modes and colour profiles as 8-bit sRGB: grey, RGB or RGBA."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")
"""Modes with transparency."""
SRGB_GAMMA = 1.0 / 2.2
TOLERANCE = 2
"""A profile that moves no colour by more, of 255, is sRGB."""


def eight_bits(image: Image.Image, notes: list[str]) -> np.ndarray:
    """(height, width, 1, 3 or 4) uint8 of a decoded image that holds at most 8 bits a channel.

    Args:
        image: of any mode but those of 16 and 32 bits.
        notes: gets a line for whatever is taken as something else.
    """
    profile, transparent = image.info.get("icc_profile"), image.mode in ALPHA or "transparency" in image.info
    if image.mode in ("LA", "La"):
        notes.append("grey with alpha: taken as RGBA")
    if image.mode == "CMYK":
        image = _from_cmyk(image, profile, notes)
        profile = None
    elif image.mode == "1":
        image = image.convert("RGBA" if transparent else "L")
    elif image.mode not in ("L", "RGB", "RGBA") or (transparent and image.mode != "RGBA"):
        if image.mode in ("YCbCr", "LAB", "HSV"):
            notes.append(f"{image.mode} colours: taken as RGB")
        image = image.convert("RGBA" if transparent else "RGB")
    if profile:
        image = _to_srgb(image, profile, notes)
    elif abs(float(image.info.get("gamma", SRGB_GAMMA)) - SRGB_GAMMA) > 0.01 and "srgb" not in image.info:
        notes.append(f"its gamma of {image.info['gamma']:.4g} is left out: pixels are taken as sRGB")
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def _from_cmyk(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """RGB of CMYK, by its profile if it has one that can be read."""
    if profile:
        converted = _transformed(image, profile)
        if converted is not None:
            notes.append("CMYK: converted to sRGB by its colour profile")
            return converted
    notes.append("CMYK: converted to RGB without a colour profile")
    return image.convert("RGB")


def _to_srgb(image: Image.Image, profile: bytes, notes: list[str]) -> Image.Image:
    """L, RGB or RGBA converted from its colour profile to sRGB, and said; unchanged if that is what it is."""
    from PIL import Image

    colours = image.convert("RGB") if image.mode == "RGBA" else image
    probe = _probe(colours.mode)
    after = _transformed(probe, profile)
    if after is None:
        notes.append("its colour profile cannot be read and is left out: pixels are taken as sRGB")
        return image
    before = np.asarray(probe.convert("RGB"), dtype=np.int32)
    if int(np.abs(np.asarray(after, dtype=np.int32) - before).max()) <= TOLERANCE:
        return image
    notes.append(f"colours converted to sRGB from its profile{_name(profile)}")
    converted = _transformed(colours, profile)
    assert converted is not None
    if image.mode == "L":
        return converted.getchannel(1)
    if image.mode == "RGBA":
        return Image.merge("RGBA", (*converted.split(), image.getchannel("A")))
    return converted


def _transformed(image: Image.Image, profile: bytes) -> Image.Image | None:
    """RGB in sRGB of an image in a profile's colours; None if the profile cannot be read or is of other colours."""
    from PIL import ImageCms

    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        result: Any = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None if image.mode != "L" else _transformed(image.convert("RGB"), profile)
    return result


def _probe(mode: str) -> Image.Image:
    """A picture of colours from all over the cube, or of all greys."""
    from PIL import Image

    if mode == "L":
        return Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    steps = np.linspace(0, 255, 9).astype(np.uint8)
    return Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), -1).reshape(27, 27, 3))


def _name(profile: bytes) -> str:
    """A profile's own name, in brackets, if it has one."""
    from PIL import ImageCms

    try:
        name = ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except (ImageCms.PyCMSError, OSError):
        return ""
    return f" ({' '.join(name.split())[:60]})" if name.strip() else ""
