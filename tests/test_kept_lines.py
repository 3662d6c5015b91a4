"""Crops keep of the shared part's grid what their cells read: the same values, files in proportion, merges."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_shared_grid import TABLE, entries, make, occupied_points, said, same

from lg_field import Region, crop, extend, load, merge, save
from lg_field.files import FieldFile, FileError, crop_file, merge_files
from lg_field.files.container import runs
from lg_field.radiance.hash_grid import HashGrid
from lg_field.table.checkpoint import CheckpointError
from lg_field.table.editing import prune
from lg_field.table.kept_lines import KEPT, KeptLines

cell_lists = st.lists(st.integers(0, 26), min_size=1, max_size=20, unique=True).map(sorted)


# -- the set of lines


@given(st.integers(1, 700), st.floats(0, 1), st.integers(0, 9))
def test_places_are_ranks_among_the_kept_lines(total: int, share: float, seed: int) -> None:
    torch.manual_seed(seed)
    mask, values = torch.rand(total) < share, torch.randn(total, 2)
    lines = KeptLines(total)
    assert lines.whole and torch.equal(lines.spread(values), values)
    lines.set_(mask)
    assert torch.equal(lines.mask(), mask) and lines.whole == bool(mask.all())
    kept = values[mask]
    asked = torch.randint(total, (4, 50), dtype=torch.int32)
    places = lines.places(asked, absent=len(kept))
    assert places.dtype == torch.int32 and places.shape == asked.shape
    read = torch.cat([kept, torch.zeros(1, 2)])[places.long()]
    assert torch.equal(read, torch.where(mask[asked.long()][..., None], values[asked.long()], 0.0))
    assert torch.equal(lines.spread(kept), values * mask[:, None])
    fewer = torch.rand(total) < 0.5
    assert torch.equal(lines.pick(kept, fewer & mask), values[fewer & mask])


@given(st.lists(st.integers(0, 60), min_size=1, unique=True).map(sorted), st.integers(1, 6))
def test_few_stretches_hold_every_line_and_the_narrowest_gaps(lines: list[int], most: int) -> None:
    exact, few = runs(torch.tensor(lines)), runs(torch.tensor(lines), most)
    held = [n for first, last in few for n in range(first, last)]
    assert set(lines) <= set(held) and len(held) == len(set(held))
    assert [n for first, last in exact for n in range(first, last)] == lines
    assert len(few) == min(most, len(exact)) and few[0][0] == lines[0] and few[-1][1] == lines[-1] + 1
    gaps = sorted(b[0] - a[1] for a, b in itertools.pairwise(exact))
    assert len(held) - len(lines) == sum(gaps[: len(exact) - len(few)])


# -- which lines a box reads


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(2, 9), st.integers(4, 10))
def test_a_box_reads_the_lines_of_its_points_and_of_no_others(seed: int, base: int, log2_size: int) -> None:
    torch.manual_seed(seed)
    grid = HashGrid(levels=3, features=1, log2_size=log2_size, base_res=base)
    lower = torch.rand(3, 3, dtype=torch.float64) * 1.4 - 0.3
    boxes = torch.stack([lower, lower + torch.rand(3, 3, dtype=torch.float64) * 0.3], dim=1)
    read = grid.read(boxes)
    inside = torch.rand(200, 3, 3)
    inside[:40] = inside[:40].round()  # corners and edges
    points = (boxes[:, 0] + inside * (boxes[:, 1] - boxes[:, 0])).view(-1, 3)
    for kind in (points, points.float()):
        assert bool(read[grid.lines(kind)[0].flatten().long()].all())
    assert torch.equal(read, by_walking(grid, boxes)) and not bool(grid.read(boxes[:0]).any())


def by_walking(grid: HashGrid, boxes: torch.Tensor) -> torch.Tensor:
    """The lines of all nodes around each box, one after the other."""
    found, first = torch.zeros(grid.num_entries, dtype=torch.bool), 0
    for level in range(grid.levels):
        nodes, size = grid.resolution(level), grid.entries(level)
        for box in boxes.clamp(0, 1):
            spans = [range(int(a * (nodes - 1) + 0.5), int(b * (nodes - 1) + 0.5) + 2) for a, b in box.T.tolist()]
            for x, y, z in itertools.product(*spans):
                hashed = (x * 1) ^ (y * 2654435761 % 2**32) ^ (z * 805459861 % 2**32)
                found[first + (hashed if nodes**3 > size else x + nodes * (y + nodes * z)) % size] = True
        first += size
    return found


# -- crops and merges


@pytest.mark.parametrize("contraction", [False, True])
@settings(max_examples=12)
@given(cells=cell_lists, seed=st.integers(0, 5))
def test_a_crop_says_the_same_to_the_bit_where_it_holds_something(contraction: bool, cells, seed: int) -> None:
    field = make(seed, contraction)
    small = crop(field, cells=cells)
    points = occupied_points(small)
    lines = field.hash_grid.lines(field.frame.to_unit(points))[0]
    assert bool(small.kept_lines[TABLE].mask()[lines.flatten().long()].all())
    assert torch.equal(said(small, points), said(field, points))
    assert entries(small) == int(small.kept_lines[TABLE].mask().sum()) < entries(field)
    assert small.num_parameters()["shared"] == field.num_parameters()["shared"] - 2 * (entries(field) - entries(small))
    assert field.kept_lines[TABLE].whole, "the source is untouched"
    again = crop(crop(field, cells=sorted({*cells, 5, 13})), cells=cells)
    assert same(small, again)


def test_points_that_rounding_takes_to_be_in_a_voxel_read_what_counts_as_read() -> None:
    """Far from the first cell places are coarse and unit coordinates are not; a node's border is the voxel's."""
    field = make(hash_levels=1, hash_base_res=3, log2_hashmap_size=10)
    field = extend(field, [-1.3 - 1000 * 2.6 / 3, -1.0, -1.0], field.grid.upper)
    cell = int(field.grid.ravel(torch.tensor([1000, 1, 1])))
    field.occupied[:] = False
    field.occupied[cell, 3 * 16 :] = True  # from 3/12 of the way across the old domain
    unit = (
        torch.tensor([[0.25, 0.5, 0.5]]) - torch.arange(-500, 500)[:, None] * torch.tensor([[1.0, 0.0, 0.0]]) * 2.0**-26
    )
    voxels = (field.frame.unit_to_places(unit) * 4).long()
    unit = unit[voxels[:, 0] == 4 * 1000 + 3]
    read = field.lines_read({"cells": field.cells, "occupied": field.occupied})[TABLE]
    assert float(unit[:, 0].min()) < 0.25 and bool(read[field.hash_grid.lines(unit)[0].flatten().long()].all())
    assert not bool(read.all())


@pytest.mark.parametrize("contraction", [False, True])
@settings(max_examples=8)
@given(cells=cell_lists)
def test_two_crops_merge_into_all_that_the_field_says(contraction: bool, cells) -> None:
    field = make(1, contraction)
    one, other = crop(field, cells=cells), crop(field, cells=cells, invert=True)
    both = merge(one, other)
    points = occupied_points(field)
    assert torch.equal(said(both, points), said(field, points))
    pruned = crop(field, cells=range(27))
    assert same(both, pruned) and same(merge(other, one), pruned)
    assert same(merge(field, one), field) and same(merge(one, field), field)
    assert max(entries(one), entries(other)) <= entries(both) <= entries(one) + entries(other)


def test_crops_of_fields_that_differ_in_an_entry_do_not_merge() -> None:
    field = make()
    one, other = crop(field, cells=range(14)), crop(field, cells=range(13, 27))
    with torch.no_grad():
        other.hash_table.add_(1.0)
    with pytest.raises(ValueError, match="hash_table of the shared part differs"):
        merge(one, other)


def test_a_region_and_pruning_drop_entries_too() -> None:
    field = make(filled=0.0, log2_hashmap_size=14)
    field.occupied[:9, :8] = True
    points = occupied_points(field, 20000)
    small = prune(field, ~field.occupied.any(1))
    assert small.num_rows == 9 and entries(small) < entries(field) / 2
    assert torch.equal(said(small, points), said(field, points))
    region = Region.box([-1.3, -1.0, -1.0], [-0.5, 0.0, 0.0])
    part = crop(field, region)
    inside = points[region.contains(points)]
    assert entries(part) < entries(small) and len(inside)
    assert torch.equal(said(part, inside), said(field, inside))


def test_entries_follow_the_part_that_is_kept() -> None:
    """A slab of the scene takes little more than its part of the entries of a level that is not hashed."""
    field = make(filled=1.0, hash_levels=1, hash_base_res=24, log2_hashmap_size=14)
    whole = crop(field, cells=range(27))
    third = crop(field, cells=range(9))
    assert entries(whole) == 24**3 and entries(third) / entries(whole) == pytest.approx(1 / 3, abs=2.5 / 24)


# -- files


@settings(max_examples=3)
@given(cells=cell_lists, dtype=st.sampled_from([None, "float16"]))
def test_a_file_is_cropped_as_the_field_in_memory_byte_for_byte(cells, dtype, tmp_path_factory) -> None:
    folder = tmp_path_factory.mktemp("files")
    save(make(2), folder / "whole")
    field = load(folder / "whole")
    for number, source in enumerate((field, crop(field, cells=range(20)))):
        kept = [cell for cell in cells if cell < 20] or [3]
        path, cut, mine = (folder / f"{name}{number}" for name in ("source", "cut", "mine"))
        save(source, path)
        assert same(load(path), source)
        crop_file(path, cut, cells=kept, dtype=dtype)
        save(crop(source, cells=kept), mine, dtype=dtype or "float32")
        assert cut.read_bytes() == mine.read_bytes()
        assert same(load(path, cells=kept), crop(source, cells=kept))


def test_merged_files_are_the_pruned_whole(tmp_path: Path) -> None:
    field = make()
    for name, kept in (("one", range(9)), ("other", range(9, 27)), ("all", range(27))):
        save(crop(field, cells=kept), tmp_path / name)
    merge_files(tmp_path / "one", tmp_path / "other", tmp_path / "both")
    assert (tmp_path / "both").read_bytes() == (tmp_path / "all").read_bytes()


def test_a_region_is_read_by_ranges_of_its_entries(tmp_path: Path, monkeypatch) -> None:
    """Of a level that is not hashed, a slab across the slowest axis is one range; of others few requests suffice."""
    field = make(filled=1.0, hash_levels=1, hash_base_res=24, log2_hashmap_size=14)
    save(field, tmp_path / "f")
    asked: list[tuple[int, int]] = []
    with FieldFile.open(tmp_path / "f") as file:
        entry, before, read_at = file.reader.entries[TABLE], file.reader.bytes_read, file.reader.read_at
        monkeypatch.setattr(file.reader, "read_at", lambda a, n: asked.append((a, n)) or read_at(a, n))
        part = file.load(cells=range(0, 27, 3))  # the lowest cells of the last axis, which is the slowest of the grid
        of_table = [(a, n) for a, n in asked if entry.start <= a < entry.start + entry.num_bytes]
        assert len(of_table) == 1 and of_table[0][1] == 8 * entries(part) < entry.num_bytes / 2
        assert file.reader.bytes_read - before == sum(n for _, n in asked)
    save(make(), tmp_path / "g")
    with FieldFile.open(tmp_path / "g") as file:
        entry, asked[:], read_at = file.reader.entries[TABLE], [], file.reader.read_at
        monkeypatch.setattr(file.reader, "read_at", lambda a, n: asked.append((a, n)) or read_at(a, n))
        file.load(cells=[4])
        of_table = [n for a, n in asked if entry.start <= a < entry.start + entry.num_bytes]
        assert len(of_table) == 16 and sum(of_table) < entry.num_bytes


@pytest.mark.parametrize(
    "what, match",
    [
        ("full", "not be there if all are"),
        ("more", "hash_table is"),
        ("longer", "must hold a bit for each of 32 lines"),
    ],
)
def test_a_file_whose_list_of_entries_is_wrong_is_refused(what: str, match: str, tmp_path: Path) -> None:
    field = make(hash_levels=1, hash_base_res=3, log2_hashmap_size=12)
    assert field.hash_grid.num_entries == 32
    save(crop(field, cells=[0]), tmp_path / "f")
    data = bytearray((tmp_path / "f").read_bytes())
    length = int.from_bytes(data[:8], "little")
    start, end = json.loads(data[8 : 8 + length])[TABLE + KEPT]["data_offsets"]
    at = slice(8 + length + start, 8 + length + end)
    if what == "longer":
        text = data[8 : 8 + length].replace(
            b'"hash_table_kept":{"dtype":"U8","shape":[4]', b'"hash_table_kept":{"dtype":"U8","shape":[4,1]'
        )
        data = len(text).to_bytes(8, "little") + text + data[8 + length :]
    else:
        data[at] = {"full": b"\xff" * 4, "more": b"\xff\xff\xff\x00"}[what]
    (tmp_path / "f").write_bytes(data)
    with pytest.raises(FileError, match=match):
        load(tmp_path / "f")


def test_a_state_whose_entries_do_not_fit_is_refused_and_changes_nothing() -> None:
    field, small = make(), crop(make(), cells=[0])
    state = small.state_dict()
    before = {k: v.clone() for k, v in field.state_dict().items() if torch.is_tensor(v)}
    for damaged in (
        {TABLE: state[TABLE][:-1]},
        {TABLE + KEPT: state[TABLE + KEPT][:-1]},
        {TABLE + KEPT: torch.ones_like(state[TABLE + KEPT])},
    ):
        with pytest.raises(CheckpointError, match=TABLE):
            field.load_state_dict(state | damaged)
        assert all(torch.equal(before[k], v) for k, v in field.state_dict().items() if torch.is_tensor(v))
    field.load_state_dict(state)
    assert same(field, small)
    field.load_state_dict(make().state_dict())
    assert same(field, make())
