"""NIfTI: numbers, their type and scale, and the place in the world survive encoding and decoding."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.signals import read_signal
from lg_field.signals.decode import decoded_signal
from lg_field.signals.kinds import kind_of_file
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

nibabel = pytest.importorskip("nibabel", reason="NIfTI files are read by nibabel")

AFFINE = np.array([[-2.0, 0.1, 0.0, 90.0], [0.0, 1.5, -0.2, -126.0], [0.05, 0.0, 3.0, -72.0], [0.0, 0.0, 0.0, 1.0]])
"""Turned, sheared, mirrored and moved, as scanners have it."""


def write(path: Path, stored: np.ndarray, affine: np.ndarray = AFFINE, scale: tuple = (1.0, 0.0), codes=(1, 2)) -> None:
    image = nibabel.Nifti1Image(stored, affine, dtype=stored.dtype)
    image.header.set_qform(affine, codes[0])
    image.header.set_sform(affine, codes[1])
    image.header["xyzt_units"] = 10
    image.header.set_slope_inter(*scale)
    nibabel.save(image, path)


def ball(dtype: str = "int16", shape: tuple = (12, 10, 8)) -> np.ndarray:
    distance = np.linalg.norm(np.indices(shape).T - np.array(shape) / 2, axis=-1).T
    return (100.0 - 20.0 * distance).clip(0 if dtype.startswith("u") else -100, 100).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "float32"])
def test_what_is_read_is_written_back(tmp_path: Path, suffix: str, dtype: str) -> None:
    source, copy = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    write(source, ball(dtype), scale=(0.5, -3.0))
    data = read_signal(source)
    assert kind_of_file(source).name == data.signal.kind == "nifti" and data.signal.dtype == dtype
    write_samples([data.slab(0, 5), data.slab(5, 12)], copy, Signal.from_dict(data.signal.to_dict()))
    one, two = nibabel.load(source), nibabel.load(copy)
    assert two.get_data_dtype() == one.get_data_dtype() == np.dtype(dtype)
    assert np.array_equal(one.dataobj.get_unscaled(), two.dataobj.get_unscaled())
    assert np.array_equal(one.get_fdata(), two.get_fdata()) and two.dataobj.slope == 0.5 and two.dataobj.inter == -3.0
    assert np.array_equal(one.affine, two.affine) and np.allclose(one.header.get_zooms(), two.header.get_zooms())
    for entry in ("qform_code", "sform_code", "xyzt_units"):
        assert int(one.header[entry]) == int(two.header[entry])


@given(
    first=st.tuples(*[st.integers(0, 5)] * 3),
    size=st.tuples(*[st.integers(1, 4)] * 3),
    index=st.tuples(*[st.integers(0, 3)] * 3),
)
@settings(max_examples=25)
def test_a_voxel_of_a_part_lies_where_it_lay(first: tuple, size: tuple, index: tuple) -> None:
    rows = tuple(map(tuple, AFFINE.tolist()))
    signal = Signal("nifti", (12, 10, 9), 1, "int16", (0.0, 9.0), affine=rows)
    part = decoded_signal(signal, 1.0, (first, tuple(a + n for a, n in zip(first, size))))
    there = np.array(part.affine) @ np.array([*index, 1.0])
    here = AFFINE @ np.array([*(a + i for a, i in zip(first, index)), 1.0])
    np.testing.assert_allclose(there, here, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(
        signal.to_world().numpy() @ np.array([*(i + 0.5 for i in index), 1.0]), AFFINE @ [*index, 1]
    )


def test_commands_keep_it_all_and_meshes_are_in_millimetres(tmp_path: Path) -> None:
    write(tmp_path / "scan.nii.gz", ball(shape=(16, 16, 16)), scale=(2.0, 10.0))
    common = ("--counts", 2, 2, 2, "--parameters", 6000, "--steps", 200, "--lr", 2e-3)
    common += ("--sample-fraction", 1, "--overlap", 0)
    lg("encode", "scan.nii.gz", "-o", "scan", *common, cwd=tmp_path)
    lg("decode", "scan", "-o", "back.nii.gz", cwd=tmp_path)
    lg("decode", "scan", "-o", "part.nii", "--box", 8, 0, 0, 16, 8, 16, cwd=tmp_path)
    lg("decode", "scan", "-o", "fine.nii", "--scale", 2, cwd=tmp_path)
    source, back, part, fine = (
        nibabel.load(tmp_path / n) for n in ("scan.nii.gz", "back.nii.gz", "part.nii", "fine.nii")
    )
    assert back.get_data_dtype() == np.int16 and np.array_equal(back.affine, source.affine)
    error = np.abs(back.dataobj.get_unscaled().astype(float) - source.dataobj.get_unscaled()).mean()
    assert error < 20 and (back.dataobj.slope, back.dataobj.inter) == (2.0, 10.0)
    assert np.array_equal(part.dataobj.get_unscaled(), back.dataobj.get_unscaled()[8:, :8])
    np.testing.assert_allclose(part.affine[:, 3], AFFINE @ [8, 0, 0, 1], rtol=1e-6)
    assert fine.shape == (32, 32, 32)
    np.testing.assert_allclose(np.abs(fine.header.get_zooms()), np.array(source.header.get_zooms()) / 2, rtol=1e-5)
    np.testing.assert_allclose(fine.affine @ [-0.5, -0.5, -0.5, 1], source.affine @ [-0.5, -0.5, -0.5, 1], rtol=1e-5)

    lg("mesh", "scan", "-o", "scan.ply", "--resolution", 24, "--threshold", 20, cwd=tmp_path)
    from lg_field.signals.shapes.mesh_file import read_mesh

    middle = read_mesh(tmp_path / "scan.ply").vertices.mean(0)
    np.testing.assert_allclose(middle, (AFFINE @ [8, 8, 8, 1])[:3], atol=2.5)
    lg("crop", "scan", "--box", 0, 0, 0, 8, 16, 16, "-o", "half", cwd=tmp_path)
    assert lg_field.load(tmp_path / "half").description == lg_field.load(tmp_path / "scan").description


def test_bad_files_are_one_line(tmp_path: Path) -> None:
    write(tmp_path / "flat.nii", np.ones((4, 4, 4), np.int16))
    write(tmp_path / "films.nii", np.stack([ball()] * 3, -1))
    write(tmp_path / "nan.nii", np.where(ball("float32") > 50, np.nan, ball("float32")).astype("float32"))
    write(tmp_path / "good.nii.gz", ball())
    (tmp_path / "torn.nii.gz").write_bytes((tmp_path / "good.nii.gz").read_bytes()[:200])
    (tmp_path / "text.nii").write_text("hello")
    write(tmp_path / "single.nii", ball()[..., None])
    assert read_signal(tmp_path / "single.nii").signal.shape == (12, 10, 8)
    for name, match in (
        ("flat.nii", "is constant"),
        ("films.nii", r"a volume \(x, y, z\) is needed"),
        ("nan.nii", "NaN"),
        ("torn.nii.gz", "is broken"),
        ("text.nii", "is not a NIfTI file"),
    ):
        with pytest.raises(ValueError, match=match) as caught:
            read_signal(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_without_nibabel_a_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.nii", ball())
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    with pytest.raises(ImportError, match=r"lg-field\[medical\]"):
        read_signal(tmp_path / "a.nii")


def test_files_say_of_it_only_what_is_sound(tmp_path: Path) -> None:
    write(tmp_path / "a.nii", ball())
    said = read_signal(tmp_path / "a.nii").signal.to_dict()
    assert Signal.from_dict(said).to_dict() == said
    for bad in ({"slope": 0.0}, {"slope": float("nan")}, {"qform": "x"}, {"colour": 1}):
        with pytest.raises(ValueError, match="extra"):
            Signal.from_dict(said | {"extra": said["extra"] | bad})
    assert torch.equal(Signal.from_dict(said).to_world(), read_signal(tmp_path / "a.nii").signal.to_world())
