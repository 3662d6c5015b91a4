"""What a field holds is told from its description as the field itself has it, and selected in numpy as in tensors."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from test_schema import networks, scenes

import lg_field
from lg_field import PartitionGrid, Region
from lg_field.arrays import host
from lg_field.chain_layers import OWN_ACTIVATIONS, ChainLayers
from lg_field.files import FieldFile
from lg_field.files.container import TYPES
from lg_field.files.schema import header_of
from lg_field.ops import ChainSizes, activation_names
from lg_field.radiance.components import cut_through, kept_middles, shown_voxels
from lg_field.radiance.outline import voxels_of
from lg_field.radiance.sizes import RadianceSizes
from lg_field.signals.kinds import KINDS
from lg_field.signals.own_places import PLACES
from lg_field.signals.signal import Signal
from lg_field.space.contraction import uncontract_boxes
from lg_field.space.regions import HalfSpace, OrientedBox, VoxelSet
from lg_field.table.editing import cell_sets_to_keep, rows_to_keep

widths = st.tuples(st.integers(0, 5), st.integers(0, 5)).filter(any)


def region_of(dim: int, center: list[float]) -> Region:
    return Region.sphere(center[:dim], 0.6) - Region.box([0.0] * dim, [0.2] * dim)


@settings(max_examples=60)
@given(field=networks() | scenes(), center=st.lists(st.floats(-1.0, 1.0), min_size=4, max_size=4), invert=st.booleans())
def test_an_outline_says_what_the_field_says(field: Any, center: list[float], invert: bool) -> None:
    header, _ = header_of(field)
    outline = header.outline(field.cells)
    outline.sets = {name: host(cells) for name, cells in field.cell_sets().items()}
    state = {name: value for name, value in field.state_dict().items() if torch.is_tensor(value)}
    assert {n: (f.dtype, f.shape) for n, f in outline.forms().items()} == {
        n: (str(v.dtype).removeprefix("torch."), tuple(v.shape)) for n, v in state.items()
    }
    assert outline.num_parameters() == field.num_parameters() and outline.config == field.config()
    assert list(outline.row_names) == [n for n in field.row_names if n in state]
    assert (outline.shown_rows, outline.lines_follow) == (field.shown_rows, field.lines_follow)
    assert (outline.cell_set_names, outline.line_names) == (field.cell_set_names, field.line_names)
    assert (outline.voxel_lattice, outline.unwarp_boxes) == (field.voxel_lattice, field.unwarp_boxes)
    assert (outline.region, outline.description) == (field.region, field.description)
    rows = {name: getattr(field, name) for name in field.lines_follow}
    read = outline.lines_to_keep({name: host(value) for name, value in rows.items()})
    for name, mask in field.lines_to_keep(rows).items():
        assert np.array_equal(read[name], host(mask))
    region = region_of(field.grid.dim, center)
    cells = None
    if not len(field.rows_touching(~region if invert else region)):
        region, cells = None, field.cells[:1].tolist()
        invert = False
    ours, theirs = (rows_to_keep(one, region, cells, invert) for one in (outline, field))
    assert isinstance(ours[0], np.ndarray) and ours[0].tolist() == theirs[0].tolist() and ours[1] == theirs[1]
    sets = cell_sets_to_keep(outline, region, cells, invert)
    assert {n: c.tolist() for n, c in sets.items()} == {
        n: c.tolist() for n, c in cell_sets_to_keep(field, region, cells, invert).items()
    }


def test_the_skeleton_of_a_file_follows_its_outline(tmp_path) -> None:
    """Also where a crop left lines of the shared part out."""
    field = small_scene(hash_levels=3)
    field.occupied.copy_(torch.rand(field.occupied.shape) > 0.8)
    part = lg_field.crop(field, Region.sphere((0.5, 0.5, 0.5), 0.3))
    lg_field.save(part, tmp_path / "part")
    with FieldFile.open(tmp_path / "part") as file:
        assert not file.outline.mask("hash_table").all()
        state = file.skeleton.state_dict()
        assert {n: f.shape for n, f in file.outline.forms().items()} == {
            n: tuple(v.shape) for n, v in state.items() if torch.is_tensor(v)
        }
        assert np.array_equal(file.outline.mask("hash_table"), host(part.kept_lines["hash_table"].mask()))
        bits = file.read_values("occupied", torch.tensor([0, 1]))
        assert np.array_equal(file.read_bits("occupied", np.array([0, 1])), host(bits))


@settings(max_examples=60)
@given(
    widths=widths,
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    depth=st.integers(0, 3),
    merge=st.sampled_from(["concat", "add"]),
    residual=st.booleans(),
    others=st.none() | st.integers(1, 6),
)
def test_layers_are_those_of_the_chain(widths, inputs, outputs, depth, merge, residual, others) -> None:
    entries = (inputs, outputs, *widths, depth, "sine", 30, merge, residual, others)
    layers, sizes = ChainLayers(*entries), ChainSizes(*entries)
    assert asdict(layers) == asdict(sizes) and layers.local_layers() == sizes.local_layers()
    assert (layers.row_size, layers.shared_shapes()) == (sizes.row_size, sizes.shared_shapes())
    assert list(layers.shared_shapes()) == list(sizes.shared_shapes())


@pytest.mark.parametrize(
    "wrong",
    [
        *({"in_features": v} for v in (0, True, 1.5)),
        *({"hidden_layers": v} for v in (-1, 65)),
        *({"w0": v} for v in (0.0, 1e6, True, "30")),
        {"local_width": 0, "global_width": 0},
        {"merge": "sum"},
        {"residual": 1},
        {"global_in_features": 0},
    ],
)
def test_layers_and_chain_refuse_in_the_same_words(wrong: dict[str, Any]) -> None:
    entries = {"in_features": 2, "out_features": 1, "local_width": 3, "global_width": 4, "hidden_layers": 1} | wrong
    said = []
    for kind in (ChainLayers, ChainSizes):
        with pytest.raises(ValueError) as error:
            kind(**entries)
        said.append(str(error.value))
    assert said[0] == said[1]


def test_layers_know_activations_and_defaults_of_the_chain() -> None:
    assert set(OWN_ACTIVATIONS) <= set(activation_names())
    assert [(f.name, f.default) for f in fields(ChainLayers)] == [(f.name, f.default) for f in fields(ChainSizes)]
    with pytest.raises(ValueError, match="unknown activation 'tanh'"):
        RadianceSizes(activation="tanh")
    sizes = RadianceSizes(hash_levels=2)
    assert ChainSizes(**vars(sizes.layers())) == sizes.chain()
    assert vars(sizes.hash_layout()) == vars(sizes.hash_grid())


REGIONS = {
    "box": Region.box((-0.4, -0.5, -0.3), (0.5, 0.2, 0.6)),
    "sphere": Region.sphere((0.1, -0.2, 0.3), 0.7),
    "half space": HalfSpace((0.3, -0.5, 0.7), 0.11),
    "turned box": OrientedBox((0.1, 0.2, 0.0), ((0.8, -0.6, 0.0), (0.6, 0.8, 0.0), (0.0, 0.0, 1.0)), (0.9, 0.4, 1.1)),
    "voxels": VoxelSet.of(torch.arange(64).view(4, 4, 4) % 3 == 0, PartitionGrid((4,) * 3, (-1,) * 3, (1,) * 3), False),
}
REGIONS |= {
    "joined": (REGIONS["box"] | REGIONS["sphere"]) - REGIONS["half space"],
    "contracted voxels": VoxelSet.of(
        torch.arange(64).view(4, 4, 4) % 5 == 0, PartitionGrid((4,) * 3, (-2,) * 3, (2,) * 3), True
    ),
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions_answer_alike_in_numpy_and_in_tensors(name: str) -> None:
    region, points = REGIONS[name], torch.rand(2000, 3, dtype=torch.float64) * 3 - 1.5
    boxes = torch.stack([points, points + torch.rand_like(points) * 0.4], dim=1)
    assert np.array_equal(region.contains(points.numpy()), region.contains(points).numpy())
    assert np.array_equal(region.contains(points.float().numpy()), region.contains(points.float()).numpy())
    for ask in (region.touches, region.covers):
        found = ask(boxes)
        assert np.array_equal(ask(boxes.numpy()), found.numpy()) and (found.any() or ask == region.covers)
    grid = PartitionGrid((5, 4, 3), (-2.0,) * 3, (2.0,) * 3)
    for curve in (None, uncontract_boxes):
        assert region.touched(grid, curve).tolist() == region.touched_cells(grid, curve).tolist()
    assert np.array_equal(uncontract_boxes(boxes.numpy()), uncontract_boxes(boxes).numpy())


@pytest.mark.parametrize("contraction", [False, True])
def test_what_a_cut_goes_through_is_found_alike(contraction: bool) -> None:
    field = small_scene(contraction=contraction)
    field.occupied.copy_(torch.rand(field.occupied.shape) > 0.5)
    outline = header_of(field)[0].outline(field.cells)
    grid = voxels_of(outline, host(field.cells), host(field.occupied))
    for before, region in ((None, REGIONS["joined"]), (REGIONS["sphere"], None), (REGIONS["voxels"], REGIONS["box"])):
        shown = shown_voxels(field.occupancy, before)
        kept = kept_middles(shown, field.cells[::2], region, field.occupancy)
        ours = shown_voxels(grid, before)
        mine = kept_middles(ours, host(field.cells)[::2], region, grid)
        assert np.array_equal(ours, host(shown)) and np.array_equal(mine, host(kept)) and mine.any()
        assert cut_through(ours, mine) == cut_through(shown, kept)


@pytest.mark.parametrize("kind", [kind for kind in TYPES.values() if kind.is_floating_point])
def test_numbers_that_are_not_finite_are_found_in_every_type(kind: Any) -> None:
    for value in (float("nan"), float("inf"), -float("inf")):
        numbers = torch.tensor([1.0, -0.0, value, 65504.0], dtype=getattr(torch, kind.name))
        held = np.frombuffer(numbers.view(torch.uint8).numpy().tobytes(), dtype=kind.held_as)
        assert not kind.all_finite(held) and kind.all_finite(held[:2]) and kind.all_finite(held[3:])
    assert not TYPES["int8"].is_floating_point and TYPES["int8"].all_finite(np.array([-128], dtype=np.int8))


def test_places_of_kinds_are_those_of_the_kinds() -> None:
    assert list(PLACES) == list(KINDS)
    for name, places in PLACES.items():
        assert isinstance(KINDS[name], type(places))
        for fact in ("name", "axes", "order", "units", "round", "sample"):
            assert getattr(KINDS[name], fact) == getattr(places, fact)
    signal = Signal("audio", (100,), 1, "float32", (-1.0, 1.0), 50.0)
    assert signal.places.to_samples(signal, (1.5,)) == signal.traits.to_samples(signal, (1.5,)) == (75.0,)
