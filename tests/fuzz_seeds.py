"""Small valid files of every format that lg-field reads, for `fuzz.py` and the tests to begin with."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lg_field.signals.registry import KINDS


def colours(height: int = 12, width: int = 16, channels: int = 3) -> np.ndarray:
    """(height, width, channels) uint8 of smooth colours."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(9 * x + 5 * y * k + 40 * k) % 256 for k in range(channels)], -1).astype(np.uint8)


def grid() -> np.ndarray:
    """(6, 5, 4) int16 of a ball."""
    ball: np.ndarray = (100 * np.linalg.norm(np.indices((6, 5, 4)) - 2.0, axis=0)).astype(np.int16)
    return ball


def images(folder: Path) -> None:
    """By Pillow: palettes, alpha, EXIF, animations."""
    from PIL import Image

    picture, exif = Image.fromarray(colours()), Image.Exif()
    exif[274] = 6
    for suffix in (".png", ".bmp", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff"):
        picture.save(folder / f"rgb{suffix}", exif=exif.tobytes())
    picture.quantize(16).save(folder / "palette.png")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.convert("LA").save(folder / "la.png")
    Image.fromarray(colours(channels=4)).save(folder / "rgba.webp", lossless=True)
    more = [Image.fromarray(np.roll(colours(), k, 1)) for k in (3, 6)]
    for suffix in (".gif", ".webp", ".png"):
        picture.save(folder / f"moving{suffix}", save_all=True, append_images=more, duration=[100, 100, 300], loop=2)
    picture.save(folder / "moving.apng", format="PNG", save_all=True, append_images=more, duration=100)
    more[0].save(folder / "still.gif")


def deep_images(folder: Path) -> None:
    """By the libraries of 16 bits, real numbers, planes, pages and HEIC."""
    import cv2
    import imagecodecs
    import OpenEXR
    import pillow_heif
    import tifffile
    from PIL import Image

    deep = colours().astype(np.uint16) * 257
    (folder / "deep.png").write_bytes(imagecodecs.png_encode(deep))
    tifffile.imwrite(folder / "planar.tif", np.moveaxis(deep, -1, 0), photometric="rgb", planarconfig="separate")
    tifffile.imwrite(folder / "stack.tif", deep.transpose(2, 0, 1), photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "float.tif", colours()[..., 0] / np.float32(255), photometric="minisblack", tile=(16, 16))
    cv2.imwrite(str(folder / "light.hdr"), colours().astype(np.float32))
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, {"RGB": colours().astype(np.float32)}).write(str(folder / "light.exr"))
    pillow_heif.register_heif_opener()
    for suffix in (".heic", ".heif"):
        Image.fromarray(colours(64, 64)).save(folder / f"photo{suffix}", format="HEIF")


def sounds(folder: Path) -> None:
    """By libsndfile."""
    import soundfile

    wave = 0.5 * np.sin(np.arange(400) / 9.0)
    for subtype in ("PCM_16", "PCM_24", "PCM_U8", "FLOAT", "DOUBLE", "ULAW"):
        soundfile.write(folder / f"{subtype}.wav", wave, 8000, subtype)
    soundfile.write(folder / "two.flac", np.stack([wave, -wave], -1), 8000)
    soundfile.write(folder / "two.ogg", np.stack([wave, -wave], -1), 8000)


def videos(folder: Path) -> None:
    """By FFmpeg, each container with the codec that `lg-field decode` writes, and a sound track."""
    import av

    codecs = {".webm": ("libvpx-vp9", "libopus", 48_000)}
    for suffix in (".mp4", ".avi", ".mov", ".mkv", ".webm"):
        codec, audio, rate = codecs.get(suffix, ("libx264", "pcm_s16le" if suffix != ".mp4" else "aac", 8000))
        with av.open(str(folder / f"film{suffix}"), "w") as container:
            video: Any = container.add_stream(codec, Fraction(25))
            video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
            sound: Any = container.add_stream(audio, rate, layout="mono")
            noise = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
            noise.sample_rate = rate
            for k in range(3):
                frame = av.VideoFrame.from_ndarray(np.roll(colours(32, 48), k, 1), format="rgb24")
                container.mux(video.encode(frame))
            container.mux([*video.encode(), *sound.encode(noise), *sound.encode()])


def arrays(folder: Path) -> None:
    """By NumPy."""
    np.save(folder / "grid.npy", grid())
    np.save(folder / "solid.npy", grid() < 250)
    np.savez(folder / "one.npz", grid())
    np.savez_compressed(folder / "packed.npz", grid() / np.float32(7))


def scans(folder: Path) -> None:
    """By nibabel, pynrrd and pydicom."""
    import nibabel
    import nrrd

    for suffix in (".nii", ".nii.gz"):
        image: Any = nibabel.Nifti1Image(grid(), np.diag([1.0, 2.0, 3.0, 1.0]))
        image.header.set_slope_inter(2.0, -5.0)
        nibabel.save(image, folder / f"scan{suffix}")
    about = {"space": "left-posterior-superior", "space directions": np.diag([1.0, 2.0, 3.0]), "space origin": [0] * 3}
    nrrd.write(str(folder / "scan.nrrd"), grid(), about)
    nrrd.write(str(folder / "raw.nrrd"), grid(), {"encoding": "raw"})
    for suffix in (".dcm", ".dicom", ".ima"):
        dicom_slice(folder / f"slice{suffix}", grid()[..., 0].T, 0.0)


def dicom_slice(path: Path, pixels: np.ndarray, height: float, **more: Any) -> None:
    """A CT slice.

    Args:
        path: the file.
        pixels: (rows, columns) int16.
        height: millimetres of its place along the z axis.
        more: attributes by their DICOM keywords, None to leave one out.
    """
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    rows, columns = pixels.shape
    about = {
        "SOPClassUID": CTImageStorage,
        "SOPInstanceUID": meta.MediaStorageSOPInstanceUID,
        "Modality": "CT",
        "SeriesInstanceUID": "1.2.3",
        "ImagePositionPatient": [-10.0, 20.0, height],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [0.5, 0.25],
        "SliceThickness": 2.0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "Rows": rows,
        "Columns": columns,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 1,
        "PixelData": np.ascontiguousarray(pixels, dtype="<i2").tobytes(),
    }
    for name, value in (about | more).items():
        if value is not None:
            setattr(data, name, value)
    data.save_as(path, enforce_file_format=True)


def meshes(folder: Path) -> None:
    """By trimesh."""
    import trimesh
    import trimesh.exchange.gltf

    box = trimesh.creation.box()
    box.visual.vertex_colors = np.full((8, 4), 200, np.uint8)
    for suffix in ("obj", "ply", "stl", "glb", "off"):
        box.export(folder / f"box.{suffix}")
    (folder / "box.gltf").write_bytes(trimesh.exchange.gltf.export_gltf(box.scene(), embed_buffers=True)["model.gltf"])
    box.export(folder / "text.ply", encoding="ascii")
    box.export(folder / "text.stl", file_type="stl_ascii")


MAKERS: tuple[Callable[[Path], None], ...] = (images, deep_images, sounds, videos, arrays, scans, meshes)


def seeds(folder: Path) -> list[Path]:
    """Write all of them into a folder; there is at least one of each suffix that some kind of signal reads.

    Raises:
        AssertionError: a suffix is without one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for make in MAKERS:
        make(folder)
    files = sorted(folder.iterdir())
    wanted = {suffix for kind in KINDS.values() for suffix in kind.reads}
    missing = [suffix for suffix in sorted(wanted) if not any(file.name.endswith(suffix) for file in files)]
    assert not missing, f"no seed of {', '.join(missing)}"
    return files
