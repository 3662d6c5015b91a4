"""Objects from the command line: components, grounds, unions and differences, floaters; what is said, and refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from ball_scene import LARGE, MEDIUM, SMALL, ball_scene, bias_of_density, random_points
from commands import lg, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lg_field
from lg_field.cli.options import RegionFlags
from lg_field.cli.shapes import shapes_of
from lg_field.radiance.carving import pieces_of_field
from lg_field.space.regions import Region, region_from_dict


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("balls") / "scene.safetensors"
    lg_field.save(ball_scene(), path)
    return path


def held(path: Path, x: torch.Tensor) -> torch.Tensor:
    return lg_field.load(path).is_occupied(x)


def in_ball(x: torch.Tensor, ball: tuple[float, ...], margin: float) -> torch.Tensor:
    return (x - torch.tensor(ball[:3])).norm(dim=-1) < ball[3] + margin


POINT = ("--component", *MEDIUM[:3])
CHOICES = {"largest": (LARGE, ("--component", "largest")), "2": (MEDIUM, ("--component", 2)), "point": (MEDIUM, POINT)}


@pytest.mark.parametrize("name", CHOICES)
def test_a_component_is_kept_whole_and_alone(scene: Path, tmp_path: Path, name: str) -> None:
    ball, words = CHOICES[name]
    said = lg("crop", scene, *words, "-o", tmp_path / "one.safetensors", cwd=tmp_path)
    assert "of 3: 1:" in said and "cut goes through" not in said
    x = random_points()
    before, after = held(scene, x), held(tmp_path / "one.safetensors", x)
    assert torch.equal(after, before & in_ball(x, ball, 0.2))
    small, whole = lg_field.load(tmp_path / "one.safetensors"), lg_field.load(scene)
    assert all(torch.equal(a, b) for a, b in zip(small(x[after]), whole(x[after])))
    assert small.region is None and (tmp_path / "one.safetensors").stat().st_size < scene.stat().st_size
    assert "edited" in lg("info", tmp_path / "one.safetensors", cwd=tmp_path)
    assert "sound" in lg("validate", tmp_path / "one.safetensors", cwd=tmp_path)
    lg("mesh", scene, *words, "-o", tmp_path / "m.ply", "--resolution", 24, "--threshold", 1e-4, cwd=tmp_path)
    assert trimesh.load(tmp_path / "m.ply").body_count == 1


def test_the_other_way_round_everything_else_is_kept(scene: Path, tmp_path: Path) -> None:
    lg("crop", scene, "--component", "largest", "--invert", "-o", tmp_path / "rest.safetensors", cwd=tmp_path)
    x = random_points()
    assert torch.equal(held(tmp_path / "rest.safetensors", x), held(scene, x) & ~in_ball(x, LARGE, 0.2))


def test_precision_stays_and_halves_are_asked_for(scene: Path, tmp_path: Path) -> None:
    lg("crop", scene, "--component", 1, "--dtype", "float16", "-o", tmp_path / "half.safetensors", cwd=tmp_path)
    lg("crop", tmp_path / "half.safetensors", "--component", 1, "-o", tmp_path / "same.safetensors", cwd=tmp_path)
    half, same = (lg_field.load(tmp_path / f"{n}.safetensors") for n in ("half", "same"))
    assert torch.equal(half.local, same.local) and torch.equal(half.occupied, same.occupied)
    assert "float16" in lg("info", tmp_path / "same.safetensors", cwd=tmp_path)


def test_components_are_those_of_what_shapes_leave(scene: Path, tmp_path: Path) -> None:
    right = ("--box", 0.0, -1.0, -1.0, 1.0, 1.0, 1.0)
    lg("crop", scene, *right, "--component", "largest", "-o", tmp_path / "a.safetensors", cwd=tmp_path)
    x = random_points()
    assert torch.equal(held(tmp_path / "a.safetensors", x), held(scene, x) & in_ball(x, MEDIUM, 0.2))
    low = ("--above-plane", 0, 0, -1, 0.5)
    lg("crop", scene, *low, "--component", 2, "-o", tmp_path / "b.safetensors", cwd=tmp_path)
    assert torch.equal(held(tmp_path / "b.safetensors", x), held(scene, x) & in_ball(x, MEDIUM, 0.2) & (x[:, 2] <= 0.5))


def test_unions_and_differences_are_those_of_points(scene: Path, tmp_path: Path) -> None:
    hole = tmp_path / "hole.json"
    hole.write_text(json.dumps(Region.sphere((0.5, 0.4, -0.2), 0.15).to_dict()))
    box = Region.box((-1.0, -1.0, -1.0), (0.0, 0.0, 1.0))
    also, without = Region.sphere((0.5, 0.4, -0.2), 0.3), Region.sphere((-0.4, -0.3, 0.2), 0.3)
    words = ("--box", -1, -1, -1, 0, 0, 1, "--also", "sphere", 0.5, 0.4, -0.2, 0.3)
    words += ("--without", "sphere", -0.4, -0.3, 0.2, 0.3, "region", hole)
    lg("crop", scene, *words, "-o", tmp_path / "a.safetensors", cwd=tmp_path)
    x = random_points()
    kept = (box | also).contains(x) & ~without.contains(x) & ~Region.sphere((0.5, 0.4, -0.2), 0.15).contains(x)
    assert torch.equal(held(tmp_path / "a.safetensors", x), held(scene, x) & kept)
    lg("crop", scene, "--without", "obb", 0, 0, 0, 0, 0, 0, 1, 1, 1, "-o", tmp_path / "b.safetensors", cwd=tmp_path)
    assert torch.equal(held(tmp_path / "b.safetensors", x), held(scene, x) & ~(x.abs() <= 0.5).all(-1))


def test_signals_have_unions_and_differences_too(tmp_path: Path) -> None:
    Image.fromarray(picture(24, 32)).save(tmp_path / "p.png")
    lg("encode", "p.png", "-o", "p.safetensors", "--steps", 2, "--cell-size", 8, 8, cwd=tmp_path)
    words = ("--box", 0, 0, 16, 24, "--also", "box", 24, 0, 32, 8, "--without", "box", 4, 4, 8, 12)
    lg("crop", "p.safetensors", *words, "-o", "c.safetensors", cwd=tmp_path)
    lg("decode", "p.safetensors", "-o", "whole.png", cwd=tmp_path)
    lg("decode", "c.safetensors", "-o", "part.png", cwd=tmp_path)
    whole, part = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("whole", "part"))
    kept = np.zeros((24, 32), dtype=bool)
    kept[:, :16] = kept[:8, 24:] = True
    kept[4:12, 4:8] = False
    assert np.array_equal(part, np.where(kept[..., None], whole, 0))
    lg("crop", "p.safetensors", *words, "--dry-run", "--report", "report.png", cwd=tmp_path)
    shown = np.asarray(Image.open(tmp_path / "report.png")).astype(int)
    left, right = shown[:, :32], shown[:, 32:]
    assert shown.shape == (24, 64, 3) and np.abs(right - part).max() <= 1
    pale = (np.ptp(left, axis=-1) == 0) & (left >= 140).all(-1)
    assert np.abs(left - whole)[kept].max() <= 1 and pale[~kept & (whole > 4).any(-1)].all()
    assert "are for scenes" in lg("crop", "p.safetensors", "--component", 1, "--dry-run", cwd=tmp_path, fails=True)
    said = lg("decode", "p.safetensors", "-o", "x.png", "--without", "box", 0, 0, 8, 8, cwd=tmp_path, fails=True)
    assert "decode takes a --box" in said


def test_cuts_through_density_are_said_and_others_are_not(scene: Path, tmp_path: Path) -> None:
    through = lg("crop", scene, "--box", -0.4, -1, -1, 1, 1, 1, "--dry-run", cwd=tmp_path)
    assert "% of the kept surface" in through and "--component" in through
    between = lg("crop", scene, "--box", 0.12, -1, -1, 1, 1, 1, "--dry-run", cwd=tmp_path)
    assert "kept surface" not in between
    assert sorted(p.name for p in tmp_path.iterdir()) == []


def test_haze_does_not_connect_solid_voxels(tmp_path: Path) -> None:
    """Two balls joined by a thin bridge of haze: one component, or two where only solid voxels count."""
    field = ball_scene([(-0.5, 0.0, 0.0, 0.3), (0.5, 0.0, 0.0, 0.25), (0.0, 0.0, 0.0, 0.3)])
    with torch.no_grad():
        field.local.zero_()
        for parameter in field.shared.parameters():
            parameter.zero_()
        outer = (field.grid.boxes(field.cells).mean(1)[:, 0].abs() > 0.5).nonzero()[:, 0]
    bias = bias_of_density(field)
    with torch.no_grad():
        field.local[:, bias] = -6.0
        field.local[outer, bias] = 3.0
        dense = field.density(torch.tensor([[-0.6, 0.0, 0.0], [0.0, 0.0, 0.0], [0.6, 0.0, 0.0]]))
    assert float(dense[1]) < 1.0 < 20.0 < float(dense[[0, 2]].min())
    lg_field.save(field, tmp_path / "haze.safetensors")
    words = ("crop", "haze.safetensors", "--component", "largest", "--overwrite")
    assert "component 1 of 1" in (said := lg(*words, "-o", "all.safetensors", cwd=tmp_path)) and "--solid 0.5" in said
    assert "component 1 of 2" in lg(*words, "--solid", 0.5, "-o", "one.safetensors", cwd=tmp_path)
    x = random_points()
    one, everything = held(tmp_path / "one.safetensors", x), held(tmp_path / "haze.safetensors", x)
    assert torch.equal(held(tmp_path / "all.safetensors", x), everything)
    assert torch.equal(one[x[:, 0] < -0.5], everything[x[:, 0] < -0.5]) and not bool(one[x[:, 0] > -0.3].any())
    assert "part of the light" in lg(*words, "--solid", 1, "-o", "x.safetensors", cwd=tmp_path, fails=True)


REFUSED = {
    "no such component": (("--component", 9), "no component 9: what is shown has 3"),
    "component zero": (("--component", 0), "no component 0"),
    "words": (("--component", "chair"), "takes largest, a number from 1 or a point X Y Z, got chair"),
    "two numbers": (("--component", 1.0, 2.0), "a point X Y Z"),
    "not finite": (("--component", "nan", 0, 0), "a point X Y Z"),
    "nothing there": (("--box", -1, 0.8, -1, -0.8, 1, 1, "--component", 1), "has 0"),
    "cells": (("--cells", 3, "--component", 1), "not both"),
    "three numbers of a plane": (("--above-plane", 0, 0, 1), "no number or four"),
    "a plane without normal": (("--above-plane", 0, 0, 0, 1), "normal"),
    "above everything": (("--above-plane", 0, 0, 1, -5), "nothing would be kept"),
    "no level plane": (("--sphere", 0.6, -0.7, 0.7, 0.2, "--above-plane"), "no level plane"),
    "itself": (("--sphere", 0, 0, 0, 1, "--without", "sphere", 0, 0, 0, 1), "holds nothing"),
    "no shape": (("--also", 1, 2, 3), "'1' is not box, sphere, obb, region"),
    "too few numbers": (("--without", "sphere", 0, 0, 1), "--without sphere: needs 3 numbers"),
    "no numbers": (("--also", "box", "a"), "--also box takes numbers, got 'a'"),
    "no file": (("--also", "region"), "one JSON file"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused_in_a_line(scene: Path, tmp_path: Path, name: str) -> None:
    words, expected = REFUSED[name]
    said = lg("crop", scene, *words, "-o", tmp_path / "x.safetensors", cwd=tmp_path, fails=True)
    last = said.strip().splitlines()[-1]
    assert expected in last and last.startswith("lg-field: ") and "Traceback" not in said
    assert not (tmp_path / "x.safetensors").exists()


names = st.sampled_from(["box", "sphere", "obb", "region"])
numbers = st.floats(-3, 3, width=32).map(str)


@settings(max_examples=80)
@given(words=st.lists(names | numbers | st.text(max_size=4), max_size=14))
def test_any_words_are_shapes_or_refused(words: list[str]) -> None:
    try:
        found = shapes_of(words, 3, None, "--also")
    except ValueError as error:
        assert "\n" not in str(error) and str(error)
    else:
        named, path_follows = 0, False
        for word in words:
            begins = not path_follows and word in ("box", "sphere", "obb", "region")
            named, path_follows = named + begins, begins and word == "region"
        assert len(found.drawn) + len(found.files) == named


def test_flags_that_are_not_given_change_nothing() -> None:
    flags = RegionFlags()
    assert not flags.given and not flags.objects.given
    with pytest.raises(ValueError, match="say what to keep"):
        flags.resolve(ball_scene())
    shape, cells = RegionFlags(box=(-1.0, -1.0, -1.0, 0.0, 0.0, 0.0)).resolve(ball_scene())
    assert cells is None and shape == Region.box((-1.0, -1.0, -1.0), (0.0, 0.0, 0.0))


# -- clean


def test_clean_drops_floaters_and_nothing_else(scene: Path, tmp_path: Path) -> None:
    said = lg("clean", scene, "-o", tmp_path / "c.safetensors", "--min-share", 0.1, cwd=tmp_path)
    assert "1 of 3 pieces are floaters" in " ".join(said.split())
    x = random_points()
    assert torch.equal(held(tmp_path / "c.safetensors", x), held(scene, x) & ~in_ball(x, SMALL, 0.2))
    small, whole = lg_field.load(tmp_path / "c.safetensors"), lg_field.load(scene)
    assert torch.equal(small.local, whole.local[torch.isin(whole.cells, small.cells)])
    again = lg("clean", tmp_path / "c.safetensors", "-o", tmp_path / "d.safetensors", "--min-share", 0.1, cwd=tmp_path)
    assert "0 of 2 pieces" in " ".join(again.split())
    assert len(pieces_of_field(lg_field.load(tmp_path / "d.safetensors"))) == 2
    assert "clean: voxels" in " ".join(lg("info", tmp_path / "d.safetensors", cwd=tmp_path).split())


def test_clean_knows_cameras_or_says_that_it_does_not(scene: Path, tmp_path: Path) -> None:
    from dataclasses import replace

    said = lg("clean", scene, "--dry-run", "--min-share", 0, "--min-cameras", 2, cwd=tmp_path)
    assert "does not say where cameras were" in said and "0 of 3" in " ".join(said.split())
    field = ball_scene()
    field.description = replace(field.description, viewpoints=((3.0, 0.0, 0.5), (0.0, 3.0, 0.5)))
    lg_field.save(field, tmp_path / "v.safetensors")
    words = ("clean", "v.safetensors", "--dry-run", "--min-share", 0, "--min-cameras")
    assert "0 of 3" in " ".join(lg(*words, 1, cwd=tmp_path).split())
    assert "2 of 3" in " ".join(lg(*words, 3, cwd=tmp_path).split()), "the largest piece stays"


def test_clean_refuses_what_makes_no_sense(scene: Path, tmp_path: Path) -> None:
    for words, expected in (
        ((scene,), "-o, or --dry-run"),
        (("--dry-run",), "either a scene file or --load-config"),
        ((scene, "--dry-run", "--min-share", 2), "a share of the largest piece"),
        ((scene, "-o", scene, "--overwrite"), "is what is read"),
    ):
        assert expected in lg("clean", *words, cwd=tmp_path, fails=True)


def test_regions_of_voxels_are_shown_in_short(scene: Path, tmp_path: Path) -> None:
    from lg_field.cli.region_files import LONGEST, short_json

    field = ball_scene()
    from lg_field.radiance.components import voxel_set

    region = voxel_set(field.occupancy, pieces_of_field(field).voxels([1]))
    assert json.loads(short_json(Region.sphere((0.0,), 1.0).to_dict()))["type"] == "sphere"
    assert len(short_json(region.to_dict() | {"bits": "A" * 5000})) < LONGEST
    (tmp_path / "voxels.json").write_text(json.dumps(region.to_dict()))
    lg("crop", scene, "--region", "voxels.json", "-o", "a.safetensors", cwd=tmp_path)
    lg("crop", scene, "--component", 1, "-o", "b.safetensors", cwd=tmp_path)
    one, two = (lg_field.load(tmp_path / f"{n}.safetensors") for n in "ab")
    assert torch.equal(one.occupied, two.occupied) and torch.equal(one.cells, two.cells)
    assert region_from_dict(json.loads((tmp_path / "voxels.json").read_text())) == region
