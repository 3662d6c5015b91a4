"""What help says of the kinds of signals, so that no kind, and no torch, is imported for help."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

ARRAY = ".npy"
"""Every kind of signal can be written as an array."""
OTHERS = {"harmonizer_bias": 0.0005}
"""`Kind.network` of kinds that say nothing else."""
VOLUME = {
    "lr": 7e-4,
    "lr_factor": 0.03,
    "steps": 2000,
    "sample_fraction": 0.02,
    "stratified": True,
    "overlap": 1,
    "center_cells": True,
}
"""`Kind.fit` of volumes and scans."""
VOLUME_NETWORK = {**OTHERS, "per_sample": 0.2, "global_share": 0.0, "coordinate_step": 1 / 32}
"""`Kind.network` of volumes and scans."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".exr", ".hdr")
"""What pictures are written to, and read from."""
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm")
"""The same of videos."""
SCANS = (".nii", ".nii.gz", ".nrrd")
"""What scans are written to."""


@dataclass(frozen=True)
class KindFacts:
    """Entries of a `Kind`, by their names there."""

    name: str
    units: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    fit: Mapping[str, Any]
    network: Mapping[str, Any] = field(default_factory=lambda: OTHERS)


FACTS = (
    KindFacts(
        "image",
        "pixels (x, y)",
        (*PICTURES, ".gif", ".avif", ".heic", ".heif"),
        PICTURES,
        {"lr": 2e-3, "lr_factor": 0.1, "steps": 0, "points": 1 << 18, "stratified": True, "center_cells": True},
        {"per_sample": 0.8, "global_share": 0.0, "coordinate_step": 1 / 96},
    ),
    KindFacts(
        "audio",
        "seconds",
        (".wav", ".flac", ".ogg"),
        (".wav", ".flac", ".ogg"),
        {"lr": 1e-3, "lr_factor": 0.1, "stratified": True, "center_cells": True},
        {**OTHERS, "per_sample": 0.5, "global_share": 0.0, "coordinate_step": 0.002},
    ),
    KindFacts(
        "video",
        "frame, x, y",
        (*FILMS, ".apng"),
        (*FILMS, ".gif", ".webp", ".apng"),
        {
            "lr": 7e-4,
            "lr_factor": 0.03,
            "steps": 5000,
            "sample_fraction": 0.002,
            "stratified": True,
            "overlap": 2,
            "center_cells": True,
        },
        {**OTHERS, "per_sample": 0.04, "global_share": 0.0, "coordinate_step": 1 / 128},
    ),
    KindFacts("volume", "voxels", (".npy", ".npz"), (".tif", ".tiff"), VOLUME, VOLUME_NETWORK),
    KindFacts(
        "occupancy",
        "the mesh's units",
        (".npy", ".npz", ".obj", ".ply", ".stl", ".glb", ".gltf", ".off"),
        (),
        {"lr": 1.5e-3, "steps": 1500, "points": 50_000, "overlap": 1, "lr_factor": 0.03},
    ),
    KindFacts("nifti", "voxels", (".nii", ".nii.gz"), SCANS, VOLUME, VOLUME_NETWORK),
    KindFacts("nrrd", "voxels", (".nrrd",), SCANS, VOLUME, VOLUME_NETWORK),
    KindFacts("dicom", "voxels", (".dcm", ".dicom", ".ima"), SCANS, VOLUME, VOLUME_NETWORK),
)
"""In the order in which kinds are registered."""
