"""Weights as small whole numbers: what rounding costs, and that files of them keep every law of files."""

from __future__ import annotations

import json
import struct
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from ball_scene import ball_scene
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from small_shared_grid import make as shared_grid_scene
from test_files import HALF, KINDS, allowed, corner, make, same

import lg_field
from lg_field import PartitionGrid
from lg_field.files import FieldFile, FileError, crop_file, merge_files
from lg_field.files.small_numbers import FINE, SCALE, Layout, Segment, compact, layouts, restore
from lg_field.networks.local_global import local_global_siren
from lg_field.radiance.render import orbit, render
from lg_field.table.cell_table import CellTable

ALL = [*KINDS, "shared grid"]
MIXED = Layout((Segment(0, 3, 16), Segment(3, 8), Segment(8, 13, 12), Segment(13, 15, 24)))
COLUMNS = Layout((Segment(0, 15),), by_column=True)


def field_of(kind: str) -> CellTable:
    if kind != "shared grid":
        return make(kind)
    field = shared_grid_scene()
    field.drop_unread_lines_()
    return field


def saved(field: CellTable, path: Path) -> Path:
    lg_field.save(field, path, dtype="int8", overwrite=True)
    return path


# -- numbers


@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 5),
    st.sampled_from([1e-35, 1e-20, 1e-3, 1.0, 7.0, 1e30]),
    st.sampled_from([MIXED, COLUMNS]),
)
@settings(max_examples=80)
def test_numbers_are_off_by_half_a_step_at_most_and_rounded_once(seed: int, rows: int, size: float, layout: Layout):
    values = torch.randn(rows, 15, generator=torch.Generator().manual_seed(seed)) * size
    parts = compact(values, layout)
    back = restore(parts, layout)
    for segment in layout.segments:
        some = values[:, segment.start : segment.stop]
        largest = some.abs().amax(0, keepdim=True) if layout.by_column and rows else some.abs().amax(1, keepdim=True)
        step = (2 if layout.by_column or segment.bits == 24 else 1) * largest / segment.most
        off = (back[:, segment.start : segment.stop] - some).abs()
        assert bool((off <= 0.51 * step + 2e-30).all())
    again = compact(back, layout)
    assert all(torch.equal(again[end], parts[end]) for end in parts) and torch.equal(restore(again, layout), back)


def test_lines_that_are_left_are_the_same_whatever_goes() -> None:
    """A crop drops lines of a shared tensor: those that stay keep their values although the largest one is gone."""
    layout = Layout((Segment(0, 2),), by_column=True)
    lines = torch.randn(50, 2) * torch.logspace(-2, 1, 50)[:, None]
    whole = restore(compact(lines, layout), layout)
    for count in (40, 20, 5):
        part = compact(whole[:count], layout)
        assert torch.equal(restore(part, layout), whole[:count])


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_has_no_scale_is_refused(bad: float, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NaN or infinite"):
        compact(torch.tensor([[1.0, bad]]), Layout((Segment(0, 2),)))
    field = make("image")
    with torch.no_grad():
        field.local[1, 1] = bad
    with pytest.raises(ValueError, match="local holds values that are NaN"):
        saved(field, tmp_path / "f")
    assert not list(tmp_path.iterdir())


def test_sine_layers_keep_more_bits_where_rounding_would_show() -> None:
    field = make("image")
    segments = layouts(field)["local"].segments
    assert [s.bits for s in segments] == [24, 24, 12, 16, 12, 16, 12, 16]
    assert segments[-1].stop == field.local.shape[1] and all(a.stop == b.start for a, b in pairwise(segments))
    assert {s.bits for s in layouts(make("radiance"))["local"].segments} == {8}


# -- files


@pytest.mark.parametrize("kind", ALL)
def test_a_file_of_whole_numbers_is_read_as_it_was_written(kind: str, tmp_path: Path) -> None:
    field = field_of(kind)
    path = saved(field, tmp_path / "f")
    back = lg_field.load(path)
    again = saved(back, tmp_path / "again")
    assert again.read_bytes() == path.read_bytes(), "rounded once"
    with FieldFile.open(path) as file:
        assert (
            file.precision == "int8"
            and sum(v for k, v in file.bytes_by_part().items() if k != "total") == file.reader.size
        )
        small = file.small
    assert load_file(path)["local"].dtype == torch.int8, "the safetensors package reads it too"
    for name, value in field.state_dict().items():
        if torch.is_tensor(value) and name not in small:
            assert torch.equal(back.state_dict()[name], value)
    with torch.no_grad():
        assert float((back.local - field.local).abs().max()) <= 0.02 * float(field.local.abs().max())


@pytest.mark.parametrize("kind", ALL)
def test_crops_of_files_files_of_crops_and_regions_agree_to_the_bit(kind: str, tmp_path: Path) -> None:
    whole, part, rest = (tmp_path / name for name in ("whole", "part", "rest"))
    saved(field_of(kind), whole)
    field = lg_field.load(whole)
    region = corner(field.grid.dim)
    small = lg_field.crop(field, region)
    assert same(small, lg_field.load(whole, region))
    crop_file(whole, part, region)
    assert same(small, lg_field.load(part))
    crop_file(whole, rest, cells=small.cells.tolist(), invert=True)
    crop_file(whole, part, region, snap=True, overwrite=True)
    merge_files(part, rest, tmp_path / "again")
    assert same(lg_field.load(tmp_path / "again"), field)
    if kind != "shared grid":
        assert (tmp_path / "again").read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("kind", ALL)
def test_converting_on_disk_is_converting_the_field(kind: str, tmp_path: Path) -> None:
    field, every = field_of(kind), {"cells": field_of(kind).cells.tolist()}
    plain, small, back = (tmp_path / name for name in ("plain", "small", "back"))
    lg_field.save(field, plain)
    crop_file(plain, small, dtype="int8", **every)
    assert small.read_bytes() == saved(field, tmp_path / "direct").read_bytes()
    crop_file(small, back, dtype="float32", **every)
    assert same(lg_field.load(back), lg_field.load(small))
    crop_file(small, tmp_path / "same", dtype="int8", **every)
    assert (tmp_path / "same").read_bytes() == small.read_bytes()
    crop_file(small, tmp_path / "half", dtype="float16", **every)
    with FieldFile.open(tmp_path / "half") as file:
        assert file.precision == "float16" and not file.small


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_costs_only_its_rows(kind: str, tmp_path: Path) -> None:
    path, region = saved(make(kind), tmp_path / "f"), HALF if kind == "audio" else corner(make(kind).grid.dim)
    with FieldFile.open(path) as file:
        part = file.load(region)
        read = file.reader.bytes_read
    assert read <= allowed(path, make(kind).num_rows, part.num_rows)


def test_a_large_signal_takes_two_fifths_and_a_scene_a_quarter(tmp_path: Path) -> None:
    field = local_global_siren(PartitionGrid((6, 6), (-1.0,) * 2, (1.0,) * 2), 3, 40, 40, 3)
    field.description = lg_field.signals.signal.Signal("image", (32, 32), 3)
    big, little = lg_field.save(field, tmp_path / "big"), saved(field, tmp_path / "little").stat().st_size
    assert 0.37 < little / big < 0.45
    scene = ball_scene()
    big, little = (
        lg_field.save(scene, tmp_path / "big", overwrite=True),
        saved(scene, tmp_path / "little").stat().st_size,
    )
    assert little < 0.5 * big, "most of so small a scene is header and voxels"


def test_a_scene_looks_the_same(tmp_path: Path) -> None:
    field = ball_scene()
    back = lg_field.load(saved(field, tmp_path / "f"))
    camera = next(orbit(field, field.description, 1, 24, 24))
    a, b = (render(f, f.description, camera).rgb for f in (field, back))
    assert a.std() > 0.01 and float((a - b).square().mean()) < 1e-4


def test_commands_write_and_read_it(tmp_path: Path) -> None:
    lg_field.save(make("radiance"), tmp_path / "f.safetensors")
    lg("crop", "f.safetensors", "-o", "s.safetensors", "--cells", "0-30", "--dtype", "int8", cwd=tmp_path)
    assert json.loads(lg("info", "s.safetensors", "--json", cwd=tmp_path))["precision"] == "int8"
    assert "sound" in lg("validate", "s.safetensors", cwd=tmp_path)
    lg("prune", "s.safetensors", "-o", "p.safetensors", cwd=tmp_path)
    assert json.loads(lg("info", "p.safetensors", "--json", cwd=tmp_path))["precision"] == "int8"


# -- from strangers


def changed(path: Path, change) -> None:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])
    change(header, body)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(body))


def scale_of(value: float):
    def change(header: dict, body: bytearray) -> None:
        first, _ = header["local" + SCALE]["data_offsets"]
        body[first : first + 4] = struct.pack("<f", value)

    return change


def renamed(old: str, new: str):
    return lambda header, body: header.update({new: header.pop(old)})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (scale_of(float("nan")), "scales must be finite"),
        (scale_of(-1.0), "scales must be finite and not negative"),
        (scale_of(3e38), "values are infinite"),
        (renamed("local" + SCALE, "local_x"), "do not fit the description"),
        (renamed("local" + FINE, "other"), "do not fit the description"),
        (lambda h, b: h["local"].update(dtype="U8"), "do not fit the description"),
        (lambda h, b: h["local" + SCALE].update(shape=[h["local" + SCALE]["shape"][0] * 8]), "the description needs"),
    ],
)
def test_hostile_files_are_refused_in_one_line(tmp_path: Path, change, match: str) -> None:
    path = saved(make("image"), tmp_path / "f")
    changed(path, change)
    with pytest.raises(FileError, match=match) as refusal:
        lg_field.load(path)
    assert "\n" not in str(refusal.value)
