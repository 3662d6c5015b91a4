"""`info`, `validate` and the map of cells: every kind of file, with and without description, region and full cells."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import lg
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from test_options import PLACES

import lg_field
from lg_field.cli.cell_map import HEIGHT, PLAIN_SHADES, SHADES, WIDTH, cell_map, kept_in_plane, shades_for
from lg_field.networks import local_global_siren
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region

GOLDEN = Path(__file__).parents[2] / "shared/data/golden"


def field_on(counts: tuple[int, ...], kept: list[int] | None = None, signal: Signal | None = None):
    grid = PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))
    cells = None if kept is None else torch.tensor(kept)
    field = local_global_siren(grid, 1 if signal is None else signal.channels, 3, 4, 1, cells=cells)
    field.description = signal
    return field


@pytest.mark.parametrize("axes", [1, 2, 3, 4])
@pytest.mark.parametrize("region", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_files_without_a_description_are_described(axes: int, region: bool, full: bool, tmp_path: Path):
    field = field_on((3,) * axes, list(range(1, 3**axes)))
    field.region = Region.box((-0.9,) * axes, (0.2,) * axes) if region else None
    field.full = torch.tensor([0]) if full else None
    lg_field.save(field, tmp_path / "f")
    text = lg("info", "f", cwd=tmp_path)
    facts = json.loads(lg("info", "f", "--json", cwd=tmp_path))
    assert facts["description"] is None and facts["cells"]["kept"] == field.num_rows
    assert facts["cells"]["without_row"] == ({"full": 1} if full else {}) and (facts["region"] is not None) == region
    assert facts["parameters"]["total"] == field.num_parameters()["total"]
    assert facts["bytes"]["total"] == (tmp_path / "f").stat().st_size
    assert ("exactly" in text) == region and ("full cells" in text) == full and "█" in text
    checked = lg("validate", "f", cwd=tmp_path)
    assert "sound" in checked and "no description" in checked and ("lie outside" in checked) == (region and axes > 0)


@pytest.mark.parametrize("kind", list(PLACES))
@pytest.mark.parametrize("described", [False, True])
def test_signals_are_described_as_what_they_are(kind: str, described: bool, tmp_path: Path):
    signal, box, _ = PLACES[kind]
    field = field_on((2,) * len(signal.shape), None, signal)
    field.description = signal if described else None
    lg_field.save(field, tmp_path / "f")
    text = " ".join(lg("info", "f", cwd=tmp_path).split())
    assert (f"{' x '.join(map(str, signal.shape))} samples" in text) == described
    assert ("place" in text) == (described and bool(signal.origin))
    assert lg("validate", "f", cwd=tmp_path).count("warning: ") == (not described)
    if described:
        lg("crop", "f", "--box", *box, "-o", "part", cwd=tmp_path)
        lg("info", "part", cwd=tmp_path)
        assert "sound" in lg("validate", "part", cwd=tmp_path)


@pytest.mark.parametrize("kind", list(PLACES))
def test_the_region_that_info_prints_crops_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "2000")
    signal, box, _ = PLACES[kind]
    lg_field.save(field_on((2,) * len(signal.shape), None, signal), tmp_path / "f")
    printed = lg("crop", "f", "--box", *box, "-o", "one", cwd=tmp_path)
    shown = lg("info", "one", cwd=tmp_path)
    for text in (printed.split("exact region: ")[1], shown.split("exactly ")[1]):
        region = text[: text.index("}") + 1]
        (tmp_path / "r.json").write_text(region)
        lg("crop", "f", "--region", "r.json", "-o", "two", "--overwrite", cwd=tmp_path)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="needs ../shared/data/golden")
def test_files_of_earlier_versions_are_described(tmp_path: Path):
    paths = [p for p in sorted(GOLDEN.rglob("*")) if p.suffix in (".safetensors", ".lgf")]
    assert paths
    for path in paths:
        facts = json.loads(lg("info", path, "--json", cwd=tmp_path))
        assert facts["bytes"]["total"] == path.stat().st_size
        assert "kept cells" in lg("info", path, cwd=tmp_path)
        assert "sound" in lg("validate", path, cwd=tmp_path)


@given(
    counts=st.lists(st.integers(1, 80), min_size=1, max_size=3).filter(lambda c: math.prod(c) < 5000), data=st.data()
)
@settings(max_examples=30)
def test_the_map_shows_every_kept_cell_and_fits(counts: list[int], data: st.DataObject):
    total = math.prod(counts)
    kept = sorted(data.draw(st.sets(st.integers(0, total - 1), min_size=1, max_size=20)))
    field = field_on(tuple(counts), kept)
    plane = kept_in_plane(field)
    assert float(plane.mean()) == pytest.approx(len(kept) / total)
    edge, *lines, again = cell_map(field, PLAIN_SHADES).split("\n")
    assert edge == again and all(len(line) == len(edge) for line in lines)
    assert 1 <= len(lines) <= HEIGHT and len(edge) <= WIDTH + 2
    assert any(shade in line for line in lines for shade in PLAIN_SHADES[1:])


def test_videos_are_seen_as_frames_and_solids_from_above():
    signal = Signal("video", (4, 6, 9), 1, rate=1.0)
    field = field_on((2, 2, 3), [0, 6], signal)
    assert kept_in_plane(field).tolist() == [[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    field.description = replace(PLACES["volume"][0], shape=(4, 4, 6))
    assert kept_in_plane(field).tolist() == [[0.0, 0.0], [1 / 3, 1 / 3]]


@pytest.mark.parametrize(
    ("encoding", "shades"), [("utf-8", SHADES), ("ascii", PLAIN_SHADES), ("latin-1", PLAIN_SHADES)]
)
def test_shades_are_those_the_terminal_has(encoding: str, shades: str, tmp_path: Path):
    with open(tmp_path / "out", "w", encoding=encoding) as out:
        assert shades_for(Console(file=out)) == shades
