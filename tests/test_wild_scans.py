"""Scans as scanners and their tools write them: DICOM series, NRRD and stacks of pages, each in its place."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import nibabel
import nrrd
import numpy as np
import pytest
import tifffile
from commands import lg
from fuzz_seeds import dicom_slice, grid
from wild import field_file

from lg_field.errors import Notice
from lg_field.signals import read_signal
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)
GRID = grid()  # (6, 5, 4): columns, rows, slices


def series(folder: Path, order: tuple[int, ...] = (2, 0, 3, 1), step: float = 2.5, **more: Any) -> Path:
    """The slices of `GRID` as files whose names and numbers are in another order than their places."""
    folder.mkdir(exist_ok=True)
    for number, k in enumerate(order):
        dicom_slice(folder / f"IM{number:04d}", GRID[..., k].T, k * step, InstanceNumber=number, **more)
    return folder


def numbers(path: Path, kind: str = "") -> np.ndarray:
    data: Any = read_signal(path, kind=kind)
    return data.samples[..., 0].numpy()


def test_a_series_is_ordered_by_place_and_lies_where_it_was(tmp_path: Path) -> None:
    data = read_signal(series(tmp_path / "ct"))
    assert data.signal.dtype == "int16" and np.array_equal(numbers(tmp_path / "ct"), GRID)
    # half a millimetre between rows, a quarter between columns; left and back become right and front
    wanted = [[-0.25, 0, 0, 10], [0, -0.5, 0, -20], [0, 0, 2.5, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(data.signal.affine, wanted)
    assert (data.signal.extra["slope"], data.signal.extra["intercept"]) == (1.0, -1024.0)


def test_a_scan_is_decoded_to_every_format_of_scans_in_one_place(tmp_path: Path) -> None:
    signal = read_signal(series(tmp_path / "ct")).signal
    field_file(signal, tmp_path / "f")
    for name in ("a.nii.gz", "a.nii", "a.npy", "a.nrrd"):
        text = lg("decode", "f", "-o", name, cwd=tmp_path)
        assert ("1 * number -1024" in text) == (name[-3:] in ("npy", "rrd")), text
    image: Any = nibabel.load(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(image.affine, signal.affine)
    array = nrrd.read(str(tmp_path / "a.nrrd"))[0]
    np.testing.assert_allclose(array, image.get_fdata(), atol=1e-3)
    again = read_signal(tmp_path / "a.nrrd").signal
    np.testing.assert_allclose(again.affine, signal.affine)
    stored = np.load(tmp_path / "a.npy")[..., 0]
    assert stored.dtype == np.int16 and np.array_equal(stored, np.asarray(image.dataobj.get_unscaled()))


def test_slices_with_scales_of_their_own_are_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(4):
        dicom_slice(tmp_path / f"{k}.dcm", GRID[..., k].T, float(k), RescaleSlope=k + 1, RescaleIntercept=0.5)
    np.testing.assert_allclose(numbers(tmp_path), GRID * np.arange(1, 5) + 0.5)
    assert "scales of their own" in capsys.readouterr().err


def test_tilted_slices_keep_their_shear(tmp_path: Path) -> None:
    for k in range(4):
        place = {"ImagePositionPatient": [0.0, 1.0 * k, 2.0 * k], "ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}
        dicom_slice(tmp_path / f"{k}.dcm", GRID[..., k].T, 0.0, **(place | {"ImagePositionPatient": [3.0 * k, k, 0]}))
    affine = np.asarray(read_signal(tmp_path).signal.affine)
    np.testing.assert_allclose(affine[:3, 2], [-3.0, -1.0, 0.0])
    np.testing.assert_allclose(affine[:3, :2], [[0, 0], [-0.25, 0], [0, 0.5]])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, 1]}, "several directions"),
        ({"PixelSpacing": [1, 1]}, "several directions or pixel sizes"),
        ({"ImagePositionPatient": [-10.0, 20.0, 2.5]}, "several slices lie in one place"),
        ({"ImagePositionPatient": [-10.0, 20.0, 99.0]}, "mm apart"),
        ({"SeriesInstanceUID": "1.2.4"}, "holds 2 series: choose one"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "holds colours (RGB)"),
        ({"PixelData": None}, "holds no pixels"),
        ({"Rows": 500}, "broken"),
    ],
)
def test_what_is_no_one_scan_is_refused_in_a_line(more: dict, words: str, tmp_path: Path) -> None:
    folder = series(tmp_path / "ct")
    dicom_slice(folder / "IM0009", GRID[..., 0].T, 10.0, **more)
    text = lg("encode", "ct", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert words in text and "ct" in text and text.count("\n") == 1


def test_a_series_of_several_is_chosen_and_other_files_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = series(tmp_path / "ct")
    for k in range(2):
        dicom_slice(folder / f"other{k}", GRID[..., k].T, 1.0 * k, SeriesInstanceUID="9.9", SeriesNumber=7)
    (folder / "notes.txt").write_text("not a slice")
    assert numbers(tmp_path / "ct:2").shape == (6, 5, 2) and np.array_equal(numbers(tmp_path / "ct:1"), GRID)
    assert "1 other files are left out" in capsys.readouterr().err
    with pytest.raises(ValueError, match="numbered from 1"):
        read_signal(tmp_path / "ct:3")
    (tmp_path / "empty").mkdir()
    for kind in ("", "dicom"):
        with pytest.raises(ValueError, match=r"empty.* DICOM slices"):
            read_signal(tmp_path / "empty", kind=kind)


def test_slices_without_places_are_in_the_order_of_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = series(tmp_path / "ct", (3, 2, 1, 0), ImagePositionPatient=None)
    assert np.array_equal(numbers(folder), GRID[..., ::-1])
    assert "have no place" in capsys.readouterr().err
    one = folder / "IM0000"
    assert numbers(one).shape == (6, 5, 1)


@pytest.mark.parametrize("enhanced", [False, True])
def test_frames_of_one_file_are_slices(enhanced: bool, tmp_path: Path) -> None:
    from pydicom import dcmread
    from pydicom.dataset import Dataset

    dicom_slice(tmp_path / "a.dcm", GRID[..., 0].T, 0.0, RescaleSlope=None, RescaleIntercept=None)
    data = dcmread(tmp_path / "a.dcm")
    data.NumberOfFrames, data.PixelData = 4, np.ascontiguousarray(GRID.transpose(2, 1, 0), dtype="<i2").tobytes()
    if enhanced:  # last slice first
        groups = []
        for k in range(4):
            group, place = Dataset(), Dataset()
            place.ImagePositionPatient = [-10.0, 20.0, -3.0 * k]
            group.PlanePositionSequence = [place]
            groups.append(group)
        data.PerFrameFunctionalGroupsSequence = groups
    else:
        data.GridFrameOffsetVector, data.DoseGridScaling = [0.0, 3.0, 6.0, 9.0], 0.5
    data.save_as(tmp_path / "b.dcm")
    signal = read_signal(tmp_path / "b.dcm").signal
    assert np.array_equal(numbers(tmp_path / "b.dcm"), GRID[..., ::-1] if enhanced else GRID)
    assert signal.affine[2][2:] == ((3.0, -9.0) if enhanced else (3.0, 0.0))
    assert signal.extra["slope"] == (1.0 if enhanced else 0.5)


# -- NRRD


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float32"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "left-anterior-superior", "scanner-xyz", None])
def test_an_nrrd_comes_back_as_it_was(dtype: str, space: str | None, tmp_path: Path) -> None:
    directions = np.array([[0.0, 2.0, 0.0], [0.5, 0.0, 0.1], [0.0, 0.0, 3.0]])
    array = (GRID % 100).astype(dtype)
    header = {"space directions": directions, "space origin": [1.0, -2.0, 30.0]}
    header |= {"space dimension": 3} if space is None else {"space": space}
    nrrd.write(str(tmp_path / "a.nrrd"), array, header)
    data: Any = read_signal(tmp_path / "a.nrrd")
    assert data.signal.dtype == dtype and data.signal.kind == "nrrd"
    write_samples([data.samples], tmp_path / "b.nrrd", Signal.from_dict(data.signal.to_dict()))
    back, after = nrrd.read(str(tmp_path / "b.nrrd"))
    assert back.dtype == dtype and np.array_equal(back, array)
    np.testing.assert_allclose(after["space directions"], directions)
    np.testing.assert_allclose(after["space origin"], header["space origin"])
    assert after.get("space") == {"RAS": "right-anterior-superior"}.get(str(space), space)


def test_nrrd_and_nifti_agree_on_the_world(tmp_path: Path) -> None:
    header = {"space": "LPS", "space directions": np.diag([1.0, 2.0, 3.0]), "space origin": [5.0, 6.0, 7.0]}
    nrrd.write(str(tmp_path / "a.nrrd"), GRID, header)
    data: Any = read_signal(tmp_path / "a.nrrd")
    write_samples([data.samples], tmp_path / "a.nii", data.signal)
    image: Any = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine, [[-1, 0, 0, -5], [0, -2, 0, -6], [0, 0, 3, 7], [0, 0, 0, 1]])
    assert np.array_equal(np.asarray(image.dataobj), GRID)


def test_spacings_stand_for_directions_and_other_fields_are_said(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "a.nrrd"), GRID, {"spacings": [1.0, 2.0, 4.0], "tissue": "bone"})
    with pytest.warns(Notice, match="left out: its fields tissue"):
        signal = read_signal(tmp_path / "a.nrrd").signal
    assert np.array_equal(np.diag(signal.affine), [1, 2, 4, 1])
    nrrd.write(str(tmp_path / "b.nrrd"), np.stack([GRID] * 3, -1))
    with pytest.raises(ValueError, match=r"b\.nrrd has shape \(6, 5, 4, 3\)"):
        read_signal(tmp_path / "b.nrrd")


@pytest.mark.parametrize(("module", "name"), [("pydicom", "ct"), ("nrrd", "a.nrrd"), ("nibabel", "a.nii")])
def test_a_missing_library_is_named_with_its_cure(
    module: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    series(tmp_path / "ct")
    nrrd.write(str(tmp_path / "a.nrrd"), GRID)
    nibabel.save(nibabel.Nifti1Image(GRID, np.eye(4)), tmp_path / "a.nii")
    real = builtins.__import__

    def without(wanted: str, *more: Any, **options: Any) -> Any:
        if wanted.split(".")[0] == module:
            raise ImportError(wanted)
        return real(wanted, *more, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    text = lg("encode", name, "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "pip install 'lg-field[medical]'" in text and text.count("\n") == 1


# -- stacks of pages


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pages_are_a_volume_where_one_is_asked_for(dtype: str, tmp_path: Path) -> None:
    array = (GRID % 200).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", array.transpose(2, 1, 0), photometric="minisblack", metadata=None)
    data: Any = read_signal(tmp_path / "a.tif", kind="volume")
    assert data.signal.dtype == dtype and np.array_equal(numbers(tmp_path / "a.tif", "volume"), array)
    write_samples([data.samples], tmp_path / "b.tif", data.signal)
    again = tifffile.imread(tmp_path / "b.tif")
    assert again.dtype == dtype and np.array_equal(again, array.transpose(2, 1, 0))
    text = lg("encode", "a.tif", "-o", "x", *QUICK, cwd=tmp_path, fails=True)
    assert "--kind volume" in text and text.count("\n") == 1


def test_pages_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRID[..., 0], metadata=None)
        file.write(GRID[:3, :, 0], metadata=None)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((4, 5, 6, 3), np.uint8), photometric="rgb", metadata=None)
    for name, words in (("a.tif", "2 stacks or sizes"), ("b.tif", "one grey value a pixel")):
        with pytest.raises(ValueError, match=words):
            read_signal(tmp_path / name, kind="volume")
    tifffile.imwrite(tmp_path / "c.tif", GRID.transpose(2, 1, 0), imagej=True, metadata={"spacing": 3.0})
    with pytest.warns(Notice, match="sizes of its voxels are left out"):
        assert np.array_equal(numbers(tmp_path / "c.tif", "volume"), GRID)


def test_pages_in_a_circle_and_missing_strips_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GRID.transpose(2, 1, 0), photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        first, second = (file.pages[k].offset for k in (0, 1))
        count = int.from_bytes(data[second : second + 2], "little")
    data[second + 2 + 12 * count : second + 6 + 12 * count] = first.to_bytes(4, "little")
    (tmp_path / "b.tif").write_bytes(data)
    for kind in ("image", "volume"):
        with pytest.raises(ValueError, match=r"b\.tif is broken: its pages follow one another in a circle"):
            read_signal(tmp_path / "b.tif", kind=kind)
    tifffile.imwrite(tmp_path / "c.tif", GRID[..., 0], photometric="minisblack", metadata=None)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        at = file.pages[0].tags["ImageLength"].valueoffset
    data = bytearray((tmp_path / "c.tif").read_bytes())
    data[at : at + 4] = (1 << 24).to_bytes(4, "little")
    (tmp_path / "c.tif").write_bytes(data)
    with pytest.raises(ValueError, match=r"c\.tif is broken: it names 1 of its [\d,]+ strips"):
        read_signal(tmp_path / "c.tif")
