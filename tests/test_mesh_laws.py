"""Laws of meshes of a part: closed, and the inside is where the masked density reaches the threshold."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene

from lg_field.cli.region_files import oriented_box
from lg_field.meshing.bounds import common, hull, region_bounds
from lg_field.meshing.cut import HALVINGS, edges_of, placed_on_cuts
from lg_field.meshing.mesh import EmptyMeshError, Mesh, marching_cubes
from lg_field.meshing.tools import is_watertight, volume, without_small_pieces
from lg_field.radiance.field import RadianceField
from lg_field.radiance.surface import mesh_bounds, occupied_boxes, radiance_mesh
from lg_field.space.regions import Region, Scaled
from lg_field.table.editing import crop

BOX, BALL = Region.box((-0.5, -0.4, -0.6), (0.3, 0.5, 0.6)), Region.sphere((0.3, 0.1, 0.0), 0.62)
TURNED = oriented_box((0.1, 0.0, -0.1), (0.3, 0.4, 0.5), (1.1, 0.9, 0.7))
REGIONS = {
    "box": BOX,
    "box on nodes": Region.box((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5)),
    "sphere": BALL,
    "turned box": TURNED,
    "removed box": ~BOX,
    "removed sphere": ~BALL,
    "removed turned box": ~TURNED,
    "two": Region.box((-0.9, -0.9, -0.9), (-0.3, 0.0, 0.0)) | BALL,
    "hollow": BOX & ~Region.sphere((0.0, 0.0, 0.0), 0.3),
    "removed two": ~(BALL | TURNED),
}
RESOLUTION = 24
CUBE = (-1.0,) * 3, (1.0,) * 3
centers, radii = st.tuples(*[st.floats(-0.6, 0.6)] * 3), st.floats(0.2, 0.7)
solids = st.recursive(
    st.builds(Region.sphere, centers, radii)
    | st.builds(lambda c, r: Region.box([v - r for v in c], [v + r for v in c]), centers, radii)
    | st.builds(lambda c, a, r: oriented_box(c, a, (r, 2 * r, r)), centers, st.tuples(*[st.floats(-3, 3)] * 3), radii),
    lambda parts: st.builds(lambda a, b: a | b, parts, parts) | st.builds(lambda a, b: a & ~b, parts, parts),
    max_leaves=3,
)


def solid(points: torch.Tensor) -> torch.Tensor:
    """A density far above the threshold everywhere, as that of trained scenes is."""
    return torch.full((len(points),), 300.0)


def expected_volume(region: Region, inside: float = 1.0, nodes: int = 90) -> float:
    """Volume of a region's part of [-inside, inside]^3, by counting."""
    steps = (torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes * 2 - 1
    points = torch.cartesian_prod(steps, steps, steps) * inside
    return float(region.contains(points).double().mean()) * (2 * inside) ** 3


def area(mesh: Mesh) -> float:
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float(np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2)


def inside_of(mesh: Mesh, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) bool inside, and (n,) distance to the surface."""
    o3d = pytest.importorskip("open3d", reason="asking what is inside a mesh needs open3d")
    scene = o3d.t.geometry.RaycastingScene()
    tensor = o3d.core.Tensor
    scene.add_triangles(tensor(mesh.vertices.astype(np.float32)), tensor(mesh.faces.astype(np.uint32)))
    asked = tensor(points.astype(np.float32))
    return scene.compute_occupancy(asked, nsamples=3).numpy() > 0.5, scene.compute_distance(asked).numpy()


@pytest.mark.parametrize("name", REGIONS)
def test_a_cut_is_closed_and_lies_on_the_regions_border(name):
    region = REGIONS[name]
    mesh = marching_cubes(solid, *CUBE, RESOLUTION, 10.0, mask=region.contains, block=16)
    voxel = 2.0 / RESOLUTION
    assert is_watertight(mesh) and volume(mesh) > 0
    assert volume(mesh) == pytest.approx(expected_volume(region), abs=0.25 * voxel * area(mesh))
    assert without_small_pieces(mesh, 1e-3)[1] == 0
    assert np.abs(mesh.vertices).max() <= 1.0 + voxel / 2**HALVINGS


@pytest.mark.parametrize("name", ["box", "sphere", "removed turned box"])
def test_the_border_is_met_to_a_part_of_a_voxel(name):
    region = REGIONS[name]
    mesh = marching_cubes(solid, *CUBE, RESOLUTION, 10.0, mask=region.contains)
    voxel = 2.0 / RESOLUTION
    places = (mesh.vertices + 1.0) / voxel
    inner = np.abs(mesh.vertices).max(1) < 1.0 - voxel  # not where the lattice ends
    _, axis = edges_of(places)
    step = np.eye(3)[axis] * voxel / 2**HALVINGS
    sides = [region.contains(torch.from_numpy(mesh.vertices + sign * step)).numpy() for sign in (-1, 1)]
    assert inner.sum() > 100 and (sides[0] != sides[1])[inner].all()


@settings(max_examples=8)
@given(region=solids, resolution=st.integers(8, 14), block=st.sampled_from([4, 8, 64]))
def test_any_region_is_cut_watertight(region, resolution, block):
    try:
        mesh = marching_cubes(solid, *CUBE, resolution, 10.0, mask=region.contains, block=block)
    except EmptyMeshError:
        return
    assert is_watertight(mesh) and volume(mesh) > 0
    whole = marching_cubes(solid, *CUBE, resolution, 10.0, mask=region.contains, block=resolution + 1)
    assert len(whole.faces) == len(mesh.faces)
    assert np.allclose(np.sort(whole.vertices, 0), np.sort(mesh.vertices, 0), atol=1e-9)


@given(
    edges=st.lists(st.tuples(st.tuples(*[st.integers(-1, 5)] * 3), st.integers(0, 2), st.floats(0.01, 0.99))),
    border=st.floats(0.3, 4.7),
)
def test_only_vertices_on_the_border_move_and_only_along_their_edge(edges, border):
    vertices = np.array([[c + t * (k == a) for k, c in enumerate(node)] for node, a, t in edges]).reshape(-1, 3)

    def kept(at: np.ndarray) -> np.ndarray:
        return at[:, 0] <= border

    placed = placed_on_cuts(vertices, kept, kept)
    base, axis = edges_of(vertices)
    assert placed.shape == vertices.shape
    for k in range(len(vertices)):
        cut = axis[k] == 0 and base[k, 0] <= border < base[k, 0] + 1
        if not cut:
            assert (placed[k] == vertices[k]).all()
            continue
        assert (placed[k, 1:] == vertices[k, 1:]).all() and abs(placed[k, 0] - border) <= 2.0**-HALVINGS
        assert base[k, 0] < placed[k, 0] < base[k, 0] + 1


# -- bounds


@given(region=solids, scale=st.floats(0.5, 3.0))
def test_bounds_hold_the_region(region, scale):
    points = torch.rand(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    for asked in (region, Scaled(region, (scale,) * 3, (0.1, 0.2, 0.3)), ~~region):
        low, high = region_bounds(asked)
        held = points[asked.contains(points)]
        assert bool(((held >= low - 1e-9) & (held <= high + 1e-9)).all())
    assert bool(region_bounds(~region).isinf().all()) and bool(region_bounds(None).isinf().all())
    assert bool(region_bounds(~region & BOX).isfinite().all())


def test_bounds_of_plain_shapes_are_tight():
    assert region_bounds(BALL).flatten().tolist() == pytest.approx([-0.32, -0.52, -0.62, 0.92, 0.72, 0.62])
    assert region_bounds(BOX).flatten().tolist() == [-0.5, -0.4, -0.6, 0.3, 0.5, 0.6]
    eighth = oriented_box((0, 0, 0), (0, 0, math.pi / 4), (2, 2, 2))
    assert region_bounds(eighth)[1].tolist() == pytest.approx([math.sqrt(2), math.sqrt(2), 1.0])
    boxes = torch.tensor([[[0.0, 0, 0], [1, 1, 1]], [[2, -1, 0], [3, 0, 4]]])
    assert hull(boxes).tolist() == [[0, -1, 0], [3, 1, 4]]
    assert common(boxes, boxes[0])[1].tolist() == [[2, 0, 0], [1, 0, 1]]


# -- radiance fields


def dense_scene() -> RadianceField:
    """A scene whose kept cells are dense throughout."""
    return small_scene((4, 4, 4), kept=0.6)


@pytest.mark.parametrize("name", REGIONS)
def test_the_inside_is_where_the_density_of_the_crop_reaches_the_threshold(name):
    part = crop(dense_scene(), REGIONS[name])
    mesh = radiance_mesh(part, RESOLUTION, 0.5, colors=False)
    assert is_watertight(mesh)
    points = torch.rand(4000, 3, generator=torch.Generator().manual_seed(1)) * 2.4 - 1.2
    with torch.no_grad():
        want = (part.density(points) >= 0.5) & part.is_occupied(points)
    inside, distance = inside_of(mesh, points.numpy())
    low, high = mesh_bounds(part).box
    clear = distance > 1.5 * float((high - low).max()) / RESOLUTION
    assert (inside == want.numpy())[clear].all() and inside[clear].any() and not inside[clear].all()


def test_bounds_follow_the_region_that_is_kept_not_the_one_removed():
    field = dense_scene()
    whole = mesh_bounds(field).box
    assert torch.allclose(mesh_bounds(crop(field, ~BOX)).box, whole)
    kept = mesh_bounds(crop(field, BOX)).box
    assert bool((kept[0] >= region_bounds(BOX)[0]).all()) and bool((kept[1] <= region_bounds(BOX)[1]).all())
    both = mesh_bounds(crop(field, BOX | BALL)).box
    assert float(both[1, 0]) > 0.8
    field.occupancy.restore_(torch.zeros_like(field.occupied))
    with pytest.raises(EmptyMeshError, match="nothing"):
        mesh_bounds(field)


def only(field: RadianceField, low: tuple[float, ...], high: tuple[float, ...]) -> RadianceField:
    """The field with only those voxels occupied whose middles lie between two corners of contracted space."""
    r, grid = field.sizes.occupancy_voxels, field.grid
    inner = torch.cartesian_prod(*[torch.arange(r)] * 3)
    place = grid.unravel(field.cells)[:, None] + (inner + 0.5) / r
    middle = torch.tensor(grid.lower) + place * torch.tensor(grid.cell_size)
    field.occupancy.restore_(((middle > torch.tensor(low)) & (middle < torch.tensor(high))).all(-1))
    return field


@pytest.mark.parametrize(
    ("low", "high", "reach", "left_out"),
    [
        ((-2.0, -1.0, -2.0), (2.0, -0.5, 2.0), 1.0, True),  # a floor out to the horizon
        ((-0.5, -0.5, -0.5), (0.5, 0.5, 0.5), 1.0, False),
        ((1.25, -0.5, -0.5), (1.5, 0.5, 0.5), 20.0, False),  # beside the middle
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), 20.0, True),
    ],
)
def test_unbounded_scenes_are_meshed_wherever_they_lie(low, high, reach, left_out):
    torch.manual_seed(0)
    field = only(small_scene((4, 4, 4), kept=1.0, contraction=True), low, high)
    bounds = mesh_bounds(field)
    assert bool((bounds.box[0] < bounds.box[1]).all()) and float(bounds.box.abs().max()) <= reach
    assert (bounds.left_out > 0) == left_out and 0.0 <= bounds.left_out < 1.0
    mesh = radiance_mesh(field, 16, 1.0, colors=False)
    assert is_watertight(mesh)
    places, voxel = torch.from_numpy(mesh.vertices), float((bounds.box[1] - bounds.box[0]).max()) / 16
    low, high = bounds.box
    assert bool(((places >= low - voxel / 32) & (places <= high + voxel / 32)).all())


def test_a_bounded_part_of_an_unbounded_scene_is_meshed_whole():
    field = small_scene((4, 4, 4), kept=1.0, contraction=True)
    ball = Region.sphere((2.0, 0.0, 0.0), 1.0)
    bounds = mesh_bounds(crop(field, ball))
    assert bounds.left_out == 0.0 and torch.allclose(bounds.box, region_bounds(ball))
    mesh = radiance_mesh(crop(field, ball), 20, 1.0, colors=False)
    assert is_watertight(mesh) and volume(mesh) == pytest.approx(4 / 3 * math.pi, rel=0.05)


def test_every_occupied_voxel_is_counted_once():
    field = only(small_scene((4, 4, 4), kept=0.7), (-0.6, -0.2, -0.9), (0.4, 0.9, 0.1))
    boxes = torch.cat(list(occupied_boxes(field)))
    assert len(boxes) == int(field.occupied.sum()) == len(boxes.unique(dim=0))
    assert bool(field.is_occupied(boxes.mean(1).float()).all())
    assert torch.allclose(hull(boxes).float(), field.occupancy.bounds(), atol=1e-5)


# -- meshes


@settings(max_examples=6)
@given(numbers=st.lists(st.floats(-2, 2), min_size=12, max_size=12), region=solids)
def test_moving_a_mesh_multiplies_its_volume_and_never_turns_it_inside_out(numbers, region):
    matrix = np.eye(4)
    matrix[:3] = np.array(numbers).reshape(3, 4)
    factor = abs(float(np.linalg.det(matrix[:3, :3])))
    try:
        mesh = marching_cubes(solid, *CUBE, 9, 10.0, mask=region.contains)
    except EmptyMeshError:
        return
    moved = mesh.transformed(matrix)
    assert is_watertight(moved)
    assert volume(moved) == pytest.approx(factor * volume(mesh), rel=1e-6, abs=1e-9)


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (2, 0.05), (4, 0.2), (4, 0.9)])
def test_small_pieces_go_whole_and_once(count, share):
    balls = [Region.sphere((4.0 * k, 0.0, 0.0), 0.3 + 0.3 * k) for k in range(count)]
    region = balls[0]
    for ball in balls[1:]:
        region = region | ball
    mesh = marching_cubes(solid, (-1, -2, -2), (4.0 * count, 2, 2), 20 * count, 10.0, mask=lambda p: region.contains(p))
    left, dropped = without_small_pieces(mesh, share)
    assert is_watertight(left) and 0 <= dropped < count and volume(left) <= volume(mesh) + 1e-9
    assert without_small_pieces(left, share)[1] == 0
    assert without_small_pieces(mesh, 1.0)[1] == count - 1
