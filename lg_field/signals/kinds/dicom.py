"""DICOM scans through pydicom: a folder with the slices of a series, or one file of one or many frames.

Slices are put in order by where they lie. What a file says of a patient is not kept.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.errors import tell
from lg_field.signals.arrays import as_samples
from lg_field.signals.data import SignalData
from lg_field.signals.kinds.scan import Scan
from lg_field.signals.kinds.volume import as_volume
from lg_field.signals.own_places import DicomPlaces
from lg_field.signals.parts import split_part
from lg_field.signals.settings import ShapeConfig

UNEVEN, TOO_UNEVEN = 0.01, 0.1
"""Parts of the distance of slices by which it may change without a word, and at all."""
SCANNER, MILLIMETRES = 1, 2
"""NIfTI's codes of such an affine and of its units."""


class Dicom(DicomPlaces, Scan):
    """A scan in DICOM files."""

    folders = True
    reads = (".dcm", ".dicom", ".ima")

    def matches(self, path: Path) -> bool:
        """A file of these suffixes or that begins like one, or a folder that holds one."""
        file = split_part(path)[0]
        if file.is_dir():
            return any(self.matches(inner) for inner in sorted(file.iterdir()) if inner.is_file())
        return super().matches(path) or _begins(file)

    def can_read(self, path: Path) -> bool:
        """Any folder and any file: many have no suffix."""
        return True

    def read(self, path: Path, options: ShapeConfig) -> SignalData:
        return read_dicom(path)


@dataclass
class Slice:
    """A plane of a scan."""

    pixels: np.ndarray
    """(rows, columns) as stored."""
    number: float
    """Its InstanceNumber, or the number of its frame."""
    position: np.ndarray | None
    """(3,) millimetres, to the left, back and up; of the middle of the first pixel."""
    across: np.ndarray
    """(6,) directions of a row's pixels and of a column's."""
    spacing: tuple[float, float, float]
    """Millimetres between rows, between columns, between slices as the file says it."""
    scale: tuple[float, float]
    """value = scale[0] * pixel + scale[1]."""


def read_dicom(path: Path) -> SignalData:
    """Read a scan: pixels as they are stored, `extra` with the slope and intercept that scale them.

    Args:
        path: a file; a folder of the files of one series (other files in it are counted in a line); or one of several
            series of a folder, `scans:2`.

    Raises:
        ValueError: no DICOM files, several series, slices that are not parallel and evenly apart, colours.
        ImportError: pydicom is missing.
    """
    _pydicom()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, of values that are against the standard and read all the same
        try:
            planes = [plane for data, file in _series(path) for plane in _planes(data, file)]
        except (TypeError, AttributeError, KeyError, IndexError) as error:  # entries of another form than they should
            raise ValueError(f"{path} is broken: {str(error)[:200]}") from error
    first = planes[0]
    if len({plane.pixels.shape for plane in planes}) > 1:
        raise ValueError(f"{path}: its slices are of several sizes; give a folder with the slices of one scan")
    planes, step = _ordered(planes, path)
    stored, scale = np.stack([plane.pixels for plane in planes], -1).swapaxes(0, 1), first.scale
    if len({plane.scale for plane in planes}) > 1:
        tell(f"{path}: its slices have scales of their own: values are kept, as float32")
        slopes, intercepts = np.array([plane.scale for plane in planes], dtype=np.float64).T
        stored, scale = (stored * slopes + intercepts).astype(np.float32), (1.0, 0.0)
    data = as_volume(*as_samples(stored, str(path)), str(path), Dicom.name)
    affine, (rows, columns, _) = np.eye(4), first.spacing
    affine[:3, 0], affine[:3, 1] = first.across[:3] * columns, first.across[3:] * rows
    affine[:3, 2] = step
    affine[:3, 3] = 0.0 if planes[0].position is None else planes[0].position
    affine[:2] *= -1.0  # from left and back to right and front
    extra = {"slope": scale[0], "intercept": scale[1], "qform": SCANNER, "sform": SCANNER, "units": MILLIMETRES}
    rows_of = tuple(tuple(row) for row in affine.tolist())
    return SignalData(data.samples, replace(data.signal, affine=rows_of, extra=extra))


def _series(path: Path) -> list[tuple[Any, Path]]:
    """The data sets of one series, with their files."""
    pydicom = _pydicom()
    place, part = split_part(path)
    files, others = sorted(place.iterdir()) if place.is_dir() else [place], 0
    found: dict[str, list[tuple[Any, Path]]] = {}
    for file in (file for file in files if file.is_file()):
        try:
            head = pydicom.dcmread(file, stop_before_pixels=True)
        except (pydicom.errors.InvalidDicomError, OSError, ValueError, EOFError) as error:
            if not place.is_dir():
                raise ValueError(
                    f"{path} is not a DICOM file or is broken: {str(error).split('. ')[0][:200]}"
                ) from error
            others += 1
            continue
        if "Rows" in head:
            found.setdefault(str(head.get("SeriesInstanceUID", "")), []).append((head, file))
        else:
            others += 1
    if not found:
        raise ValueError(f"{path} holds no DICOM slices")
    series = sorted(found.values(), key=lambda those: float(those[0][0].get("SeriesNumber") or 0))
    if not part and len(series) > 1:
        listed = [f"{i + 1}: {_title(those[0][0])} ({len(those)} files)" for i, those in enumerate(series)]
        raise ValueError(f"{path} holds {len(series)} series: choose one, {path}:1 ...; {'; '.join(listed)[:300]}")
    if part and not (part.isdecimal() and 1 <= int(part) <= len(series)):
        raise ValueError(f"{path}: the folder holds {len(series)} series, numbered from 1")
    if others:
        tell(f"{path}: {others} other files are left out")
    return [(pydicom.dcmread(file), file) for _, file in series[int(part or 1) - 1]]


def _title(data: Any) -> str:
    """A series' own words for itself."""
    return " ".join(str(data.get("SeriesDescription") or data.get("Modality") or "unnamed").split())[:40]


def _planes(data: Any, file: Path) -> list[Slice]:
    """The planes of a file, of one or several frames."""
    if "PixelData" not in data:
        raise ValueError(f"{file} holds no pixels of whole numbers")
    meaning = data.get("PhotometricInterpretation")
    if int(data.get("SamplesPerPixel", 1)) != 1 or meaning == "PALETTE COLOR":
        raise ValueError(f"{file} holds colours ({meaning}), a scan has one value a voxel")
    try:
        pixels = data.pixel_array
    except (RuntimeError, NotImplementedError) as error:  # no decoder
        name = data.file_meta.TransferSyntaxUID.name
        raise ValueError(
            f"{file}: its pixels cannot be unpacked ({name}): install pydicom[pixeldata], or store them uncompressed "
            f"(gdcmconv --raw); {str(error)[:120]}"
        ) from error
    except Exception as error:  # whatever pydicom and NumPy raise of a broken one
        raise ValueError(f"{file} is broken: {str(error)[:200] or type(error).__name__}") from error
    if meaning == "MONOCHROME1":
        tell(f"{file}: its low numbers are shown bright (MONOCHROME1): numbers are kept as they are")
    frames = pixels[None] if pixels.ndim == 2 else pixels
    return [_plane(data, k, frame, len(frames)) for k, frame in enumerate(frames)]


def _plane(data: Any, index: int, pixels: np.ndarray, count: int) -> Slice:
    """One frame with its place: of the file itself, or where it has several of its functional groups."""

    def said(name: str, group: str) -> Any:
        for place in ("PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"):
            groups = data.get(place) or []
            k = index if place.startswith("Per") else 0
            inner = groups[k].get(group) if k < len(groups) else None
            if inner and inner[0].get(name) is not None:
                return inner[0].get(name)
        return data.get(name)

    position = said("ImagePositionPatient", "PlanePositionSequence")
    across = said("ImageOrientationPatient", "PlaneOrientationSequence")
    spacing = said("PixelSpacing", "PixelMeasuresSequence") or data.get("ImagerPixelSpacing") or (1.0, 1.0)
    between = data.get("SpacingBetweenSlices") or said("SpacingBetweenSlices", "PixelMeasuresSequence")
    between = between or said("SliceThickness", "PixelMeasuresSequence") or 1.0
    slope, intercept = (said(f"Rescale{name}", "PixelValueTransformationSequence") for name in ("Slope", "Intercept"))
    slope = data.get("DoseGridScaling") if slope is None else slope
    placed = position is not None and across is not None
    across = np.array([float(v) for v in across] if placed else [1.0, 0.0, 0.0, 0.0, 1.0, 0.0])
    place = np.array([float(v) for v in position]) if placed else None
    steps = data.get("GridFrameOffsetVector")  # of a dose, whose frames have a place only together
    if place is not None and steps is not None and len(steps) == count > 1:
        place = place + np.cross(across[:3], across[3:]) * (float(steps[index]) - float(steps[0]))
    return Slice(
        pixels,
        float(index if count > 1 else data.get("InstanceNumber") or 0),
        place,
        across,
        (float(spacing[0]), float(spacing[1]), abs(float(between))),
        (float(1.0 if slope is None else slope) or 1.0, float(intercept or 0.0)),
    )


def _ordered(planes: list[Slice], path: Path) -> tuple[list[Slice], np.ndarray]:
    """Planes in order, and the step from each to the next, (3,) millimetres.

    Raises:
        ValueError: they are not parallel, lie in the same place, or at uneven distances.
    """
    first = planes[0]
    normal = np.cross(first.across[:3], first.across[3:])
    if any(plane.position is None for plane in planes) or not np.linalg.norm(normal) > 0.5:
        tell(f"{path}: its slices have no place: in order of their numbers, {first.spacing[2]:g} apart")
        return sorted(planes, key=lambda plane: plane.number), np.array([0.0, 0.0, first.spacing[2]])
    turned = max(float(np.abs(plane.across - first.across).max()) for plane in planes)
    if turned > 1e-3 or len({plane.spacing[:2] for plane in planes}) > 1:
        raise ValueError(f"{path}: its slices have several directions or pixel sizes; give those of one scan only")
    if len(planes) == 1:
        return planes, normal * first.spacing[2]
    places = {id(plane): float(np.asarray(plane.position) @ normal) for plane in planes}
    planes = sorted(planes, key=lambda plane: places[id(plane)])
    gaps = np.diff([places[id(plane)] for plane in planes])
    middle, spread = float(np.median(gaps)), float(gaps.max() - gaps.min())
    if gaps.min() < 1e-3 * gaps.max() or gaps.max() <= 0:
        raise ValueError(f"{path}: several slices lie in one place (times or echoes?); give those of one time only")
    if spread > TOO_UNEVEN * middle:
        raise ValueError(f"{path}: its slices are {gaps.min():g} to {gaps.max():g} mm apart: resample them first")
    if spread > UNEVEN * middle:
        tell(f"{path}: its slices are {gaps.min():g} to {gaps.max():g} mm apart: taken as even")
    ends = [np.asarray(plane.position) for plane in (planes[0], planes[-1])]
    return planes, (ends[1] - ends[0]) / (len(planes) - 1)


def _begins(file: Path) -> bool:
    """Whether a file has DICOM's signature."""
    try:
        with open(file, "rb") as opened:
            return opened.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _pydicom() -> Any:
    """The library.

    Raises:
        ImportError: it is missing.
    """
    try:
        import pydicom
    except ImportError as error:
        raise ImportError("DICOM files need pydicom: pip install 'lg-field[medical]'") from error
    return pydicom
