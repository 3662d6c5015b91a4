"""3D shapes: the laws of voxels, full cells, batches and mesh files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.files import FieldFile, FileError, crop_file
from lg_field.signals import decode, read_signal
from lg_field.signals.encode import build_network, domain_grid
from lg_field.signals.presets import read_preset
from lg_field.signals.settings import NetworkConfig, ShapeConfig, resolve
from lg_field.signals.shapes.mesh_file import read_mesh
from lg_field.signals.shapes.occupancy import OccupancyData, from_array, shape_cells
from lg_field.signals.shapes.sampling import BAND, ShapeSampler
from lg_field.signals.shapes.voxelize import voxelize
from lg_field.signals.shapes.voxels import BitGrid, bits_at
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region


def ball(radius: float = 1.0, subdivisions: int = 3) -> trimesh.Trimesh:
    return trimesh.creation.icosphere(subdivisions, radius)


def without_cap(mesh: trimesh.Trimesh, above: float) -> trimesh.Trimesh:
    """A mesh with a hole at the top."""
    return trimesh.Trimesh(mesh.vertices, mesh.faces[mesh.triangles_center[:, 2] < above], process=False)


def cut(mesh: trimesh.Trimesh, shape: tuple[int, int, int] = (40, 33, 29), **options) -> np.ndarray:
    """Voxels of a mesh that lies in about [-1, 1]^3."""
    vertices = (np.asarray(mesh.vertices) * 0.45 + 0.5) * np.array(shape)
    grid = voxelize(vertices, np.asarray(mesh.faces), shape, **{"closed": True} | options)
    return grid.slab(0, shape[0])


def centers(shape: tuple[int, ...]) -> np.ndarray:
    """(nx, ny, nz, 3) voxel centres in the units of `cut`."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    return ((index + 0.5) / np.array(shape) - 0.5) / 0.45


# -- voxels


def test_voxels_are_those_with_their_centre_inside():
    inside = cut(trimesh.creation.box((1.2, 0.8, 1.0)))
    truth = (np.abs(centers(inside.shape)) < np.array([0.6, 0.4, 0.5])).all(-1)
    assert np.array_equal(inside, truth)
    round_ = cut(ball())
    radius = np.linalg.norm(centers(round_.shape), axis=-1)
    assert round_[radius < 0.99].all() and not round_[radius > 1.0].any()


@given(turn=st.integers(0, 10_000), seed=st.integers(0, 10_000))
@settings(max_examples=15)
def test_voxels_do_not_depend_on_the_order_or_winding_of_faces_nor_on_the_way_they_are_found(turn: int, seed: int):
    rng = np.random.default_rng(seed)
    mesh = trimesh.creation.torus(0.65, 0.25, 24, 12)
    mesh.apply_transform(trimesh.transformations.random_rotation_matrix(rng.random(3)))
    wanted = cut(mesh)
    faces = np.roll(rng.permutation(mesh.faces), turn % 3, axis=1)
    other = trimesh.Trimesh(mesh.vertices, faces, process=False)
    inverted = trimesh.Trimesh(mesh.vertices, mesh.faces[:, ::-1], process=False)
    assert np.array_equal(wanted, cut(other)) and np.array_equal(wanted, cut(inverted))
    assert np.array_equal(wanted, cut(mesh, rule="parity"))
    assert np.array_equal(wanted, cut(mesh, closed=False))


def test_lines_through_edges_and_vertices_count_once():
    """Vertices on voxel centres: every line of the grid meets edges or corners."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * 6 + 2.5
    box = trimesh.convex.convex_hull(corners)
    for closed in (True, False):
        grid = voxelize(np.asarray(box.vertices), np.asarray(box.faces), (12, 12, 12), closed=closed)
        assert grid.count() == 6**3


def test_overlapping_bodies_are_united_and_parity_makes_holes():
    a, b = ball(0.6), ball(0.6)
    b.apply_translation((0.4, 0, 0))
    both = trimesh.util.concatenate([a, b])
    union = cut(a) | cut(b)
    assert np.array_equal(cut(both), union)
    assert np.array_equal(cut(both, rule="parity"), cut(a) ^ cut(b))


def test_a_hole_is_closed_by_the_vote_of_three_axes():
    whole, torn = ball(), without_cap(ball(), 0.85)
    assert not torn.is_watertight
    voted = cut(torn, closed=False)
    wanted = cut(whole)
    low = centers(wanted.shape)[..., 2] < 0.8
    assert np.array_equal(voted[low], wanted[low])
    assert (voted ^ wanted).sum() < 0.02 * wanted.sum()


@given(shape=st.tuples(*[st.integers(1, 19)] * 3), share=st.floats(0.05, 0.95), seed=st.integers(0, 999))
@settings(max_examples=30)
def test_bits_are_the_booleans(shape: tuple[int, int, int], share: float, seed: int):
    array = np.random.default_rng(seed).random(shape) < share
    grid = BitGrid.from_array(array)
    assert np.array_equal(grid.slab(0, shape[0]), array) and grid.count() == array.sum()
    x, y, z = (torch.from_numpy(i.flatten()) for i in np.indices(shape))
    assert np.array_equal(bits_at(torch.from_numpy(grid.bits), x, y, z).numpy(), array.flatten())
    edge = np.zeros(shape, dtype=bool)
    for axis in range(3):
        for step in (-1, 1):
            moved = np.roll(array, step, axis)
            index = np.indices(shape)[axis] - step
            edge |= (moved != array) & (index >= 0) & (index < shape[axis])
    assert np.array_equal(grid.surface().numpy(), np.flatnonzero(edge))


@given(shape=st.tuples(*[st.integers(6, 17)] * 3), margin=st.integers(0, 2), seed=st.integers(0, 999))
@settings(max_examples=20)
def test_cells_are_sorted_by_what_they_hold(shape: tuple[int, int, int], margin: int, seed: int):
    rng = np.random.default_rng(seed)
    array = np.linalg.norm(np.indices(shape).T.T - rng.random(3)[:, None, None, None] * 9, axis=0) < 5
    if array.all() or not array.any():
        return
    data = from_array(array, "a")
    counts = tuple(int(c) for c in rng.integers(1, 5, 3))
    grid = PartitionGrid(counts, (-1,) * 3, (1,) * 3)
    found = shape_cells(data, grid, margin)
    rows, full, occupied = [], [], 0
    for number in range(grid.num_cells):
        index = np.unravel_index(number, counts)
        middle = [np.floor((np.arange(n) + 0.5) / n * c).astype(int) == i for n, c, i in zip(shape, counts, index)]
        bounds = [(np.flatnonzero(m).min(), np.flatnonzero(m).max() + 1) for m in middle]
        occupied += bool(array[tuple(slice(a, b) for a, b in bounds)].any())
        part = array[tuple(slice(max(0, a - margin), b + margin) for a, b in bounds)]
        (rows if part.any() and not part.all() else full if part.all() else []).append(number)
    assert found.rows.tolist() == rows and found.full.tolist() == full and found.occupied == occupied


# -- the network of a shape


def test_lucys_parameters_are_the_papers():
    """179 occupied cells of 512: 179,716 local and 19,458 shared parameters (paper, 3D shapes)."""
    preset = resolve("occupancy", read_preset("shape"))
    size, chosen = 64, np.random.default_rng(0).permutation(512)[:179]
    array = np.zeros((size,) * 3, dtype=bool)
    for cell in chosen:
        x, y, z = (8 * i + 3 for i in np.unravel_index(cell, (8, 8, 8)))
        array[x : x + 2, y : y + 2, z : z + 2] = True
    data = from_array(array, "a")
    cells = shape_cells(data, domain_grid(data.signal, preset.network), preset.shape.margin)
    field = build_network(data.signal, preset.network, 0, cells)
    assert cells.occupied == field.num_rows == 179 and field.full is None
    assert field.num_parameters() == {"local": 179_716, "shared": 19_458, "total": 199_174}
    assert preset.fit.steps * preset.fit.points == pytest.approx(20 * 512**3, rel=1e-4)
    budget = NetworkConfig(parameters=50_000)
    total = build_network(data.signal, budget, 0, cells).num_parameters()["total"]
    assert abs(total / 50_000 - 1) < 0.02  # of the cells that have a row


def solid_data() -> OccupancyData:
    """A ball that fills whole cells of a 6 x 6 x 6 partition."""
    return from_array(np.linalg.norm(np.indices((36, 36, 36)) - 17.5, axis=0) < 16, "ball")


def solid_field(seed: int = 0):
    data = solid_data()
    config = NetworkConfig(counts=(6, 6, 6), local_width=4, global_width=6, hidden_layers=1)
    cells = shape_cells(data, domain_grid(data.signal, config), 1)
    field = build_network(data.signal, config, seed, cells)
    assert field.full is not None and len(field.full) == 32 and 0 < field.num_rows < 216 - 32
    return field, data


def test_full_cells_are_full_and_follow_every_edit(tmp_path: Path):
    field, _ = solid_field()
    assert field.full is not None
    centre = field.grid.boxes(field.full).mean(1).float()
    assert (field(centre) == 1.0).all()
    lg_field.save(field, tmp_path / "f")
    again = lg_field.load(tmp_path / "f")
    points = torch.rand(5000, 3) * 2.2 - 1.1
    assert torch.equal(again(points), field(points)) and torch.equal(again.full, field.full)
    region = Region.box((-2, -2, -2), (-0.01, 2, 2))
    inside = region.contains(points)
    crop_file(tmp_path / "f", tmp_path / "left", region)
    left, rest = lg_field.crop(field, region), lg_field.crop(field, region, invert=True)
    for part in (left, lg_field.load(tmp_path / "left"), lg_field.load(tmp_path / "f", region)):
        assert part.full is not None and len(part.full) == 16
        assert torch.equal(part(points)[inside], field(points)[inside]) and (part(points)[~inside] == -1).all()
    assert (tmp_path / "left").stat().st_size < (tmp_path / "f").stat().st_size
    joined = lg_field.merge(left, rest)
    assert torch.equal(joined.full, field.full) and torch.equal(joined(points), field(points))
    cells = field.cells.tolist()[:5] + field.full.tolist()[:2]
    some = lg_field.crop(field, cells=cells)
    assert some.full.tolist() == cells[5:] and some.num_rows == 5
    corner = lg_field.crop(field, cells=field.cells[:1])
    assert corner.full is None
    lg_field.save(corner, tmp_path / "corner")
    assert "full" not in FieldFile.open(tmp_path / "corner").__enter__().saved()
    larger = lg_field.extend(field, (-1, -1, -1), (1.3, 1, 1))
    old = points[(points.abs() <= 1).all(1)]
    assert torch.equal(larger(old), field(old)) and len(larger.full) == 32
    regrown = lg_field.table.editing.regrow(corner, field.full)
    assert regrown.full is None and regrown.num_rows == 33
    others = lg_field.crop(field, cells=cells, invert=True)
    assert torch.equal(lg_field.merge(some, others).full, field.full)
    some.full = field.cells[-1:]
    with pytest.raises(ValueError, match="full in one"):
        lg_field.merge(some, field)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda full, cells: full.flip(0), "sorted"),
        (lambda full, cells: full + 10_000, "sorted, distinct and in"),
        (lambda full, cells: cells[: len(full)], "must have no row"),
    ],
)
def test_files_with_wrong_full_cells_are_refused(tmp_path: Path, change, match: str):
    """Nor can they be written: the file here is changed by hand."""
    field, _ = solid_field()
    lg_field.save(field, tmp_path / "f")
    with FieldFile.open(tmp_path / "f") as file:
        place = file.reader.entries["full"].start
    wrong = change(field.full, field.cells)
    data = bytearray((tmp_path / "f").read_bytes())
    data[place : place + 8 * len(wrong)] = wrong.numpy().tobytes()
    (tmp_path / "f").write_bytes(bytes(data))
    with pytest.raises(FileError, match=match):
        lg_field.load(tmp_path / "f")
    with pytest.raises(ValueError, match=match):
        field.full = wrong
        lg_field.save(field, tmp_path / "g")
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize("sampling", ["uniform", "surface", "mixed"])
def test_batches_hold_the_truth_near_each_rows_cell(sampling):
    field, data = solid_field()
    sampler = ShapeSampler(
        data.signal, data.voxels, field.grid, field.cells, 6000, sampling, 2, torch.Generator().manual_seed(0)
    )
    x, offsets, target = sampler.draw()
    assert len(x) == len(target) == offsets[-1] and len(offsets) == field.num_rows + 1
    assert 0.9 * 6000 < len(x) <= 6000
    voxel = ((x.double() + 1) / 2 * 36 - 0.5).round().long()
    assert torch.allclose(x.double(), (voxel.double() + 0.5) / 36 * 2 - 1, atol=1e-6)
    truth = data.slab(0, 36)[..., 0][tuple(voxel.T)]
    assert torch.equal(target[:, 0] > 0, truth) and set(target.unique().tolist()) == {-1.0, 1.0}
    rows = torch.repeat_interleave(torch.arange(field.num_rows), offsets.diff())
    boxes = field.grid.boxes(field.cells)[rows].float()
    reach = 2.5 / 36 * 2 if sampling == "surface" else 4.5 / 36 * 2  # windows at the edge are shifted inward
    assert ((x >= boxes[:, 0] - reach) & (x <= boxes[:, 1] + reach)).all()
    outside = ((x < boxes[:, 0]) | (x > boxes[:, 1])).any(1).float().mean()
    assert 0.05 < outside < 0.9
    if sampling == "surface":
        radius = (voxel.double() - 17.5).norm(dim=1)
        assert ((radius - 16).abs() < 3 + BAND * 3**0.5).all()
    again = ShapeSampler(
        data.signal, data.voxels, field.grid, field.cells, 6000, sampling, 2, torch.Generator().manual_seed(0)
    ).draw()
    assert all(torch.equal(a, b) for a, b in zip((x, offsets, target), again))


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".glb", ".off"])
def test_every_format_is_the_same_shape(tmp_path: Path, suffix: str):
    mesh = trimesh.creation.box((3.0, 2.0, 1.0))
    mesh.apply_translation((5, 6, 7))
    mesh.export(tmp_path / f"m{suffix}")
    source = read_mesh(tmp_path / f"m{suffix}")
    assert source.closed and source.consistent and not source.warnings and len(source.vertices) == 8
    data = read_signal(tmp_path / f"m{suffix}", ShapeConfig(34))
    assert isinstance(data, OccupancyData) and data.signal.shape == (34, 24, 14)
    assert data.voxels.count() == 30 * 20 * 10
    np.testing.assert_allclose(data.signal.to_world()[:3, 3], (3.3, 4.8, 6.3), atol=1e-6)


def test_decoding_says_full_where_it_is_full():
    field, _ = solid_field()
    decoded = torch.cat(list(decode(field)))
    full = field.grid.locate(torch.zeros(1, 3) + 0.01)
    assert full in field.full and bool(decoded[18, 18, 18])
