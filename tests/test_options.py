"""Options that commands share: cells in words, regions in the units of each kind, which files may be written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lg_field.cli.cells import parse_cells
from lg_field.cli.options import RegionFlags, check_outputs, pick_device, sample_corners
from lg_field.cli.region_files import region_json
from lg_field.networks import siren_per_partition
from lg_field.signals.kinds.scan import Scan
from lg_field.signals.registry import KINDS
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region

GRID = PartitionGrid((6, 7), (-1.0, -1.0), (1.0, 1.0))
spans = st.lists(st.tuples(st.integers(0, 41), st.integers(0, 41)).map(sorted).map(tuple), min_size=1, max_size=6)


def field_of(signal: Signal, counts: tuple[int, ...], reach: float = 1.0):
    """A small field that says it is of this signal."""
    axes = len(signal.shape)
    grid = PartitionGrid(counts, (-reach,) * axes, (reach,) * axes)
    field = siren_per_partition(grid, signal.channels, 4)
    field.description = signal
    return field


# -- cells


@given(spans=spans, commas=st.lists(st.sampled_from([",", " ", ", "]), min_size=6, max_size=6))
def test_cells_are_those_of_the_ranges_however_they_are_written(spans, commas):
    text = "".join(
        f"{low}-{high}{comma}" if low < high else f"{low}{comma}" for (low, high), comma in zip(spans, commas)
    ).rstrip(", ")
    wanted = sorted({cell for low, high in spans for cell in range(low, high + 1)})
    assert parse_cells([text], GRID) == parse_cells(text.split(), GRID) == wanted


@given(cells=st.sets(st.integers(0, 41), min_size=1))
def test_numbers_one_by_one_are_what_they_were(cells):
    assert parse_cells([str(c) for c in cells], GRID) == sorted(cells)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("0-99999999999999999999999999", "no cell 0-9999.*has 0..41"),
        ("42", "no cell 42"),
        ("7-3", "ends before it begins"),
        ("a", "'a' is neither"),
        ("-3", "'-3' is neither"),
        ("1,,2", "'' is neither"),
        ("1-", "'1-' is neither"),
        ("0x10", "is neither"),
        ("\u0663", "is neither"),
        ("", "'' is neither"),
    ],
)
def test_bad_cells_are_named_and_cost_nothing(text, match):
    with pytest.raises(ValueError, match=match):
        parse_cells([text], GRID)


# -- regions


PLACES = {
    # kind: signal, --box, the same in samples and the domain's order of axes
    "image": (Signal("image", (20, 30), 3), (3, 2, 12, 10), ((2, 3), (10, 12))),
    "audio": (Signal("audio", (800,), 1, "float32", (-1.0, 1.0), 100.0), (0.5, 2.5), ((50,), (250,))),
    "video": (Signal("video", (6, 20, 30), 3, rate=5.0), (1, 3, 2, 4, 12, 10), ((1, 2, 3), (4, 10, 12))),
    "volume": (Signal("volume", (8, 9, 10), 1, "float32"), (1, 2, 3, 4, 5, 6), ((1, 2, 3), (4, 5, 6))),
    "occupancy": (
        Signal("occupancy", (8, 9, 10), 1, "bool", (0.0, 1.0), origin=(10.0, -20.0, 5.0), spacing=0.5),
        (10.5, -19.0, 6.5, 12.0, -17.5, 8.0),
        ((1, 2, 3), (4, 5, 6)),
    ),
}


@pytest.mark.parametrize("kind", list(PLACES))
def test_boxes_are_in_the_units_and_order_of_their_kind(kind: str, tmp_path: Path):
    """By flag, by JSON and by the JSON that `info` prints: the same region, and the samples asked for."""
    signal, box, (low, high) = PLACES[kind]
    field = field_of(signal, (2,) * len(signal.shape))
    assert sample_corners(box, signal) == (low, high)
    region, cells = RegionFlags(box=box).resolve(field)
    assert cells is None and region == signal.to_domain(Region.box(low, high), field.grid)
    half = len(box) // 2
    (tmp_path / "flags.json").write_text(json.dumps({"type": "box", "lower": box[:half], "upper": box[half:]}))
    (tmp_path / "domain.json").write_text(region_json(region, field))
    for name in ("flags.json", "domain.json"):
        assert RegionFlags(region=tmp_path / name).resolve(field)[0] == region


@pytest.mark.parametrize("kind", ["image", "volume", "occupancy"])
def test_spheres_hold_the_samples_around_their_center(kind: str):
    signal, box, (low, high) = PLACES[kind]
    field, half = field_of(signal, (2,) * len(signal.shape)), len(box) // 2
    center = [(a + b) / 2 for a, b in zip(box[:half], box[half:])]
    radius = 0.3 * (box[half] - box[0])
    region, _ = RegionFlags(sphere=(*center, radius)).resolve(field)
    steps = [torch.arange(n) for n in signal.shape]
    x = [signal.coordinates(field.grid, k, s) for k, s in enumerate(steps)]
    inside = region.contains(torch.stack(torch.meshgrid(*x, indexing="ij"), -1).reshape(-1, len(x)))
    at = torch.stack(torch.meshgrid(*[s + 0.5 for s in steps], indexing="ij"), -1).reshape(-1, len(x))
    middle = torch.tensor([(a + b) / 2 for a, b in zip(low, high)])
    scale = (high[0] - low[0]) / (box[half] - box[0]) if kind != "image" else 1.0
    wanted = (at - middle).square().sum(-1) <= (radius * scale) ** 2
    assert wanted.any() and torch.equal(inside, wanted)


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_spheres_that_mix_units_are_refused(kind: str):
    signal = PLACES[kind][0]
    with pytest.raises(ValueError, match="mixes units"):
        RegionFlags(sphere=(1.0,) * (len(signal.shape) + 1)).resolve(field_of(signal, (2,) * len(signal.shape)))


@pytest.mark.parametrize("kind", list(PLACES))
def test_wrong_numbers_of_numbers_say_how_many_are_needed(kind: str):
    signal, box, _ = PLACES[kind]
    field, axes = field_of(signal, (2,) * len(signal.shape)), len(signal.shape)
    for flags, match in (
        (RegionFlags(box=box[1:]), f"needs {2 * axes} numbers"),
        (RegionFlags(box=(float("nan"), *box[1:])), "finite"),
        (RegionFlags(box=box[axes:] + box[:axes]), "lower corner"),
        (RegionFlags(sphere=(1.0,)), "--sphere needs"),
        (RegionFlags(obb=(1.0,) * 8), "--obb"),
        (RegionFlags(), "say what to keep"),
        (RegionFlags(cells=("0",), box=box), "not both"),
    ):
        with pytest.raises(ValueError, match=match):
            flags.resolve(field)


def test_every_kind_has_a_law_above():
    assert {name for name in KINDS if not isinstance(KINDS[name], Scan)} == set(PLACES)


def test_json_of_unknown_units_is_refused(tmp_path: Path):
    (tmp_path / "r.json").write_text('{"type": "box", "lower": [0, 0], "upper": [1, 1], "units": "feet"}')
    with pytest.raises(ValueError, match='"units" must be'):
        RegionFlags(region=tmp_path / "r.json").resolve(field_of(PLACES["image"][0], (2, 2)))


# -- files


def test_inputs_are_never_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    photo, link = tmp_path / "photo.png", tmp_path / "link.png"
    photo.write_text("x")
    (tmp_path / "a").mkdir()
    link.symlink_to(photo)
    for other in (photo, Path("photo.png"), tmp_path / "a/../photo.png", link):
        with pytest.raises(ValueError, match="is what is read"):
            check_outputs(True, [other], [photo])
        with pytest.raises(FileExistsError, match="--overwrite"):
            check_outputs(False, [other], [])
        check_outputs(True, [other], ["https://somewhere/photo.png", None])
    with pytest.raises(ValueError, match="written twice"):
        check_outputs(True, [tmp_path / "b", None, tmp_path / "b"], [])


def test_devices_that_are_not_there_are_named():
    assert pick_device("cpu") == "cpu"
    with pytest.raises(ValueError, match="--device nonsense cannot be used here"):
        pick_device("nonsense")
