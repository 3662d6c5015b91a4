"""Where things are in the signals that are part of lg-field, and what their descriptions may say. Without torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from lg_field.signals.places import Places
from lg_field.space.regions import Region, Scaled

if TYPE_CHECKING:
    from lg_field.signals.signal import Signal

KNEE = "log_knee"
"""Entry of a picture's `Signal.extra`: where its curve goes from straight to logarithmic, in values of the file."""
KEPT = ("PCM_S8", "PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "ALAW")
"""Sample formats, by libsndfile's names, that a sound is written in again."""
PLAYS = "plays"
"""Entry of `Signal.extra`: how often an animation is played, 0 = for ever."""
EXTRA: dict[str, float] = {"slope": 1.0, "intercept": 0.0, "qform": 0, "sform": 2, "units": 2}
"""Entries of a scan's `Signal.extra`, and what is written where there are none: value = slope * stored number +
intercept, and NIfTI's codes of the two affines and of the units (2: millimetres)."""
SPACE = "space"
"""Entry of a scan's `Signal.extra`: the name of an NRRD file's space, "" where it named none."""


class ImagePlaces(Places):
    """Pixels, x first."""

    name = "image"
    flat = True
    axes = ("y", "x")
    order = (1, 0)
    units = "pixels (x, y)"
    sample = "pixel"

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """What linear float pictures say: the knee of their logarithm, and whether they were of 16 bits."""
        knee = extra.get(KNEE, 1.0)
        sound = (
            isinstance(knee, (int, float)) and 0.0 < knee < float("inf") and isinstance(extra.get("half", True), bool)
        )
        if not (sound and extra.keys() <= {KNEE, "half"}):
            raise ValueError(f"extra of an image may have a positive {KNEE} and half, true or false; got {dict(extra)}")


class AudioPlaces(Places):
    """Seconds."""

    name = "audio"
    flat = True
    axes = ("time",)
    units = "seconds"
    round = False

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """The sample format it was read from, one of `KEPT`."""
        if extra and (set(extra) != {"subtype"} or extra["subtype"] not in KEPT):
            raise ValueError(f"a sound says its subtype besides, one of {', '.join(KEPT)}, got {dict(extra)}")

    def to_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        return (point[0] * signal.rate,)

    def from_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        return (point[0] / signal.rate,)


class VideoPlaces(Places):
    """The number of a frame, then x and y in pixels."""

    name = "video"
    flat = True
    axes = ("time", "y", "x")
    order = (0, 2, 1)
    units = "frame, x, y"
    round = False
    sample = "pixel"

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """The shape of pixels that are not square, or how often an animation is played."""
        if PLAYS in extra:
            check_plays(extra)
        pixel_aspect(extra)


class VolumePlaces(Places):
    """Voxels."""

    name = "volume"
    axes = ("x", "y", "z")
    units = "voxels"


class ScanPlaces(VolumePlaces):
    """Voxels of a volume that lies in the world."""

    sample = "voxel"

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """`EXTRA`, all of it or nothing, and the name of a space."""
        rest = {name: value for name, value in extra.items() if name != SPACE}
        numbers = [isinstance(v, (int, float)) and math.isfinite(v) for v in rest.values()]
        space = extra.get(SPACE, "")
        named = isinstance(space, str) and len(space) < 80 and space.isprintable()
        if not named or (rest and not (rest.keys() == EXTRA.keys() and all(numbers) and rest["slope"])):
            raise ValueError(f"extra of {self.name} needs finite numbers {', '.join(EXTRA)}, got {dict(extra)}")


class NiftiPlaces(ScanPlaces):
    """Voxels of a NIfTI scan."""

    name = "nifti"


class NrrdPlaces(ScanPlaces):
    """Voxels of a NRRD scan."""

    name = "nrrd"


class DicomPlaces(ScanPlaces):
    """Voxels of a DICOM scan."""

    name = "dicom"


class ShapePlaces(Places):
    """The units and pose of the mesh file."""

    name = "occupancy"
    axes = ("x", "y", "z")
    units = "the mesh's units"
    sample = "voxel"

    def to_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        origin = signal.origin or (0.0,) * len(point)
        return tuple((p - o) / signal.spacing for p, o in zip(point, origin))

    def from_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        self.check_axes(point)
        origin = signal.origin or (0.0,) * len(point)
        return tuple(p * signal.spacing + o for p, o in zip(point, origin))

    def _placed(self, signal: Signal, region: Region) -> Region:
        return Scaled(region, (signal.spacing,) * 3, signal.origin) if signal.origin else region


def pixel_aspect(extra: Mapping[str, Any]) -> Fraction | None:
    """Width of a pixel over its height, as a description's `extra` says it; None if it says nothing.

    Raises:
        ValueError: something else is said.
    """
    if not extra or PLAYS in extra:
        return None
    pair: Any = extra.get("pixel_aspect")
    whole = isinstance(pair, (list, tuple)) and len(pair) == 2 and all(type(n) is int for n in pair)
    if set(extra) != {"pixel_aspect"} or not whole or not all(0 < n < 2**31 for n in pair):
        raise ValueError(f"a video says its pixel_aspect besides, two positive whole numbers, got {dict(extra)}")
    return Fraction(*pair)


def check_plays(extra: Mapping[str, Any]) -> None:
    """Raise ValueError unless this says how often an animation is played, and nothing else."""
    plays = extra.get(PLAYS)
    if set(extra) != {PLAYS} or type(plays) is not int or not 0 <= plays < 2**31:
        raise ValueError(f"a video says its pixel_aspect or how often it plays besides, got {dict(extra)}")


PLACES: dict[str, Places] = {
    places.name: places
    for places in (
        ImagePlaces(),
        AudioPlaces(),
        VideoPlaces(),
        VolumePlaces(),
        ShapePlaces(),
        NiftiPlaces(),
        NrrdPlaces(),
        DicomPlaces(),
    )
}
"""By the names of the kinds."""
