"""Compositions of files whose rows are read as rays reach them: the same pictures, within one budget for all parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ball_scene import MEDIUM, ball_scene
from bench.large_scenes import write_city
from commands import lg
from hypothesis import given
from hypothesis import strategies as st

import lg_field
from lg_field import Region
from lg_field.radiance.arrangement import Place
from lg_field.radiance.composition import Composition
from lg_field.radiance.opening import CompositionFile
from lg_field.radiance.render import Camera, ask_view, orbit, render
from lg_field.stored.composed import composition_sizes, shares, stored_composition
from lg_field.stored.field import StoredField
from lg_field.stored.file_rows import FileRows, row_bytes

PLACES = ("--place", "chair", "move", 0.9, 0, 0.2, "turn", 0, 0, 40, "chair-2", "move", -0.9, 0.3, 0, "scale", 0.5)
HALF = Region.box((-9.0, -9.0, -9.0), (0.1, 9.0, 0.4))


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A room and two copies of a chair; and the same scene, cropped."""
    folder = tmp_path_factory.mktemp("parts")
    lg_field.save(ball_scene(), folder / "room.safetensors")
    lg_field.save(ball_scene([MEDIUM]), folder / "chair.safetensors")
    lg("compose", "room.safetensors", *["chair.safetensors"] * 2, *PLACES, "-o", "scene.json", cwd=folder)
    lg("crop", "scene.json", "-o", "part.json", "--box", -0.9, -0.9, -0.9, 0.4, 0.9, 0.9, cwd=folder)
    return folder


def cameras(field: Composition) -> list[Camera]:
    return list(orbit(field, field.description, 2, 24, 16, None))


def same_pictures(a: Composition, b: Composition) -> None:
    for camera in cameras(a):
        pictures = [render(field, field.description, camera) for field in (a, b)]
        assert pictures[0].accumulation.max() > 0.1
        assert all(torch.equal(x, y) for x, y in zip(*pictures))


def rows_of(field: Composition) -> list[FileRows]:
    """Of the parts that are not loaded, each file's once."""
    found = {id(part.field): part.field for part in field.parts}
    return [some.source for some in found.values() if isinstance(some, StoredField)]


@pytest.mark.parametrize("name", ["scene.json", "part.json"])
@pytest.mark.parametrize("region", [None, HALF], ids=["all", "half"])
def test_pictures_are_those_of_loaded_parts_to_the_bit(parts: Path, name: str, region: Region | None) -> None:
    with CompositionFile.open(str(parts / name)) as file:
        kept, row = file.kept(region), max(map(row_bytes, file.files.values()))
        whole = file.load(kept=kept)
        size = sum(composition_sizes(file, kept).values())
        for rows, stored in ((4, 2), (40, 2), (size // row + 1, 0)):
            part = stored_composition(file, rows * row, kept)
            assert len(rows_of(part)) == stored, "copies share their rows"
            assert sum(some.budget for some in rows_of(part)) <= rows * row
            same_pictures(whole, part)
        points = torch.rand(60, 3) * 2 - 1
        with torch.no_grad():
            assert torch.equal(part.density(points), whole.density(points))


def test_of_a_part_that_no_ray_reaches_nothing_is_read(parts: Path) -> None:
    with CompositionFile.open(str(parts / "scene.json")) as file:
        made = file.arrangement.placed("room", Place((0.0, 0.0, 50.0)))
        field = stored_composition(file, 20 * row_bytes(file.file_of(made.parts[0])), made)
        room, *others = rows_of(field)
        origins = torch.tensor([3.0, 0.0, -0.2]) + torch.rand(400, 3) * torch.tensor([0.0, 1.0, 1.0])
        asked = ask_view(field, field.description, origins, torch.tensor([[-1.0, 0.0, 0.0]]).expand(400, 3))
        assert len(asked.density) and int((room._place >= 0).sum()) == 0
        assert any(int((some._place >= 0).sum()) for some in others)


@given(st.lists(st.integers(0, 100), min_size=1, max_size=6), st.integers(0, 300))
def test_a_budget_is_shared_by_what_is_needed(sizes: list[int], budget: int) -> None:
    found = shares(sizes, budget)
    assert sum(found) <= budget and all(0 <= share <= size for share, size in zip(found, sizes, strict=True))
    short = [share for share, size in zip(found, sizes) if share < size]
    if not short:
        return
    assert budget - sum(found) == 0, "something is left though someone lacks it"
    assert max(short) - min(short) <= len(sizes) and max(found) - min(short) <= len(sizes)


def test_commands_keep_within_the_memory_and_say_so(parts: Path, tmp_path: Path) -> None:
    write_city(tmp_path / "city.safetensors", 5, 7)
    lg_field.save(ball_scene(), tmp_path / "room.safetensors")
    lg("compose", "city.safetensors", "room.safetensors", "--place", "room", "--move", 2, 2, 1, "-o", "all.json",
       cwd=tmp_path)  # fmt: skip
    looks = ("--orbit", 1, "--width", 32, "--height", 32, "--overwrite")
    told = {}
    for memory in (2.0, 0.001):
        told[memory] = lg("render", "all.json", *looks, "-o", f"{memory}.png", "--memory", memory, cwd=tmp_path)
    assert (tmp_path / "2.0.png").read_bytes() == (tmp_path / "0.001.png").read_bytes()
    assert "of rows of 2 parts are read as they are looked at" in told[0.001] and "looked at" not in told[2.0]
    mesh = ("--resolution", 24, "--threshold", 0.05, "--overwrite")
    for memory in (2.0, 0.0005):
        lg("mesh", parts / "scene.json", "-o", f"{memory}.ply", *mesh, "--memory", memory, cwd=tmp_path)
    assert (tmp_path / "2.0.ply").read_bytes() == (tmp_path / "0.0005.ply").read_bytes()
    said = lg("render", "all.json", *looks, "-o", "no.png", "--memory", 0, cwd=tmp_path, fails=True)
    assert "--memory must be a positive number of GB, got 0" in said


def test_copies_of_a_file_take_turns(parts: Path) -> None:
    """However they are cut: their rows are read at one place of the file at a time."""
    with CompositionFile.open(str(parts / "scene.json")) as file:
        composition = stored_composition(file, 4 * max(map(row_bytes, file.files.values())), file.kept(HALF))
        turns = [part.field._turn for part in composition.parts if isinstance(part.field, StoredField)]
        assert len(turns) > 1 and len({id(turn) for turn in turns}) <= len(file.files)
        assert {id(turn) for turn in turns} <= {id(one.turn) for one in file.files.values()}
