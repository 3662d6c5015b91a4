"""Formats told by a file's first bytes, for streams, which have no name."""

from __future__ import annotations

import zlib

LOOKED_AT = 4096
"""First bytes that are looked at, at most."""
STARTS: tuple[tuple[bytes, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", ".png"),
    (b"\xff\xd8\xff", ".jpg"),
    (b"GIF8", ".gif"),
    (b"BM", ".bmp"),
    (b"II*\0", ".tif"),
    (b"MM\0*", ".tif"),
    (b"II+\0", ".tif"),
    (b"MM\0+", ".tif"),
    (b"v/1\x01", ".exr"),
    (b"#?RADIANCE", ".hdr"),
    (b"#?RGBE", ".hdr"),
    (b"fLaC", ".flac"),
    (b"OggS", ".ogg"),
    (b"\x93NUMPY", ".npy"),
    (b"PK\x03\x04", ".npz"),
    (b"NRRD000", ".nrrd"),
    (b"glTF", ".glb"),
    (b"ply\n", ".ply"),
    (b"ply\r", ".ply"),
    (b"OFF", ".off"),
    (b"solid", ".stl"),
)
"""How files begin."""
RIFF = {b"WAVE": ".wav", b"WEBP": ".webp", b"AVI ": ".avi"}
"""What a RIFF file names at byte 8."""
BRANDS = {b"avif": ".avif", b"avis": ".avif", b"heic": ".heic", b"heix": ".heic", b"mif1": ".heic", b"qt  ": ".mov"}
"""What an ISO media file names at byte 8; others are .mp4."""


def sniffed(head: bytes) -> str:
    """The suffix of the format that a file with these first bytes has, "" if they tell none. Text (.obj, .gltf), and
    volumes in two files, are not told."""
    for start, suffix in STARTS:
        if head.startswith(start):
            return suffix
    if head[:4] == b"RIFF":
        return RIFF.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return BRANDS.get(head[8:12], ".mp4")
    if head[:4] == b"\x1aE\xdf\xa3":
        return ".webm" if b"webm" in head[:64] else ".mkv"
    if head[128:132] == b"DICM":
        return ".dcm"
    if head[:2] == b"\x1f\x8b":
        return ".nii.gz" if _is_nifti(_unpacked(head)) else ""
    if _is_nifti(head):
        return ".nii"
    count = int.from_bytes(head[80:84], "little")
    return ".stl" if 0 < count < 1 << 24 and len(head) == min(LOOKED_AT, 84 + 50 * count) else ""


def _is_nifti(head: bytes) -> bool:
    """NIfTI-1 in one file, or NIfTI-2."""
    return head[344:347] == b"n+1" or head[4:7] == b"n+2"


def _unpacked(head: bytes) -> bytes:
    """The first bytes of a gzip file's content."""
    try:
        return zlib.decompressobj(31).decompress(head, 600)
    except zlib.error:
        return b""
