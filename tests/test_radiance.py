"""Laws of the radiance field: compositing, marching, splitting, cropping."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lg_field import PartitionGrid, Region, crop, load, prune, save
from lg_field.ops.backends.cpu import SWITCH
from lg_field.radiance.compositing import Samples, accumulate, render_weights
from lg_field.radiance.encodings import frequency_encoding, frequency_features, spherical_harmonics
from lg_field.radiance.feature_grid import interpolate
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import field_samples, orbit
from lg_field.radiance.sampling import march, ray_box
from lg_field.radiance.scene import Scene
from lg_field.radiance.seams import border_disagreement, evenly, measure_seams
from lg_field.radiance.surface import radiance_mesh


def make_field(network: str = "local-global", contraction: bool = False, **sizes) -> RadianceField:
    torch.manual_seed(0)
    shape = RadianceSizes(
        network=network,
        local_width=8,
        global_width=16,
        grid_nodes=5,
        occupancy_voxels=4,
        contraction=contraction,
        **sizes,
    )
    side = 2.0 if contraction else 1.5
    field = RadianceField(PartitionGrid((3, 2, 4), (-side,) * 3, (side,) * 3), shape)
    with torch.no_grad():
        field.local.add_(torch.randn_like(field.local) * 0.3)
        field.features.add_(torch.randn_like(field.features))
    return field.eval()


def render(field: RadianceField, origins: torch.Tensor, directions: torch.Tensor) -> torch.Tensor:
    near, far = ray_box(origins, directions, torch.tensor([field.grid.lower, field.grid.upper]))
    samples = march(origins, directions, near, far, 0.05, field.is_occupied)
    positions = origins[samples.rays] + directions[samples.rays] * samples.middles[:, None]
    density, features = field(positions)
    weights = render_weights(density, samples, len(origins))
    return accumulate(weights, field.rgb(features, directions[samples.rays]), samples, len(origins))


def some_rays(count: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    origins = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1) * 4
    targets = torch.rand(count, 3, generator=generator) - 0.5
    return origins, torch.nn.functional.normalize(targets - origins, dim=-1)


def test_weights_are_those_of_the_rendering_integral():
    rays = torch.tensor([0, 0, 0, 2, 2, 3])
    starts = torch.tensor([0.0, 1.0, 2.0, 0.5, 0.9, 1.0])
    samples = Samples(rays, starts, starts + torch.tensor([0.5, 0.3, 0.2, 0.4, 0.1, 2.0]))
    density = torch.tensor([0.3, 2.0, 5.0, 1.0, 9.0, 0.0], dtype=torch.float64, requires_grad=True)
    weights = render_weights(density, samples, 4)
    for ray in range(4):
        left = 1.0
        for k in (rays == ray).nonzero()[:, 0]:
            alpha = 1 - torch.exp(-density[k] * (samples.ends[k] - samples.starts[k]))
            torch.testing.assert_close(weights[k], left * alpha)
            left = left * (1 - alpha)
    total = accumulate(weights, None, samples, 4)
    assert total[1] == 0 and total.max() <= 1
    assert torch.autograd.gradcheck(lambda d: render_weights(d, samples, 4), (density,))


@pytest.mark.parametrize("linear_until", [None, 2.0])
def test_samples_stay_between_near_and_far_and_in_occupied_space(linear_until):
    origins, directions = some_rays()
    near, far = torch.full((64,), 1.0), torch.linspace(0.5, 9, 64)

    def occupied(points: torch.Tensor) -> torch.Tensor:
        return (points[:, 0] * 20).sin() > 0

    samples = march(origins, directions, near, far, 0.1, occupied, linear_until, jitter=True)
    assert (samples.ends > samples.starts).all()
    assert (samples.middles >= near[samples.rays] - 0.11).all() and (samples.middles <= far[samples.rays] + 0.4).all()
    positions = torch.addcmul(origins[samples.rays], directions[samples.rays], samples.middles[:, None])
    assert occupied(positions).all()  # where the field is asked, not only near there
    assert not torch.isin(samples.rays, (far <= near).nonzero()).any()
    assert (samples.rays.diff() >= 0).all()


def test_steps_fill_the_ray_without_gaps():
    origins, directions = some_rays(4)
    far = torch.full((4,), 500.0)
    samples = march(origins, directions, far * 0, far, 0.05, lambda p: torch.ones(len(p), dtype=torch.bool), 2.0)
    one = samples.rays == 2
    torch.testing.assert_close(samples.starts[one][1:], samples.ends[one][:-1])
    assert samples.ends[one].max() > 70


@pytest.mark.parametrize("network", ["local-global", "per-partition"])
@pytest.mark.parametrize("contraction", [False, True])
def test_splitting_cells_changes_nothing(network, contraction):
    field = make_field(network, contraction)
    field.occupied.copy_(torch.rand_like(field.thickness) < 0.5)
    points = (torch.rand(500, 3) * 2 - 1) * (5.0 if contraction else 1.5)
    density, features = field(points)
    occupied = field.is_occupied(points)
    field.split_()
    assert field.num_rows == 8 * 24 and field.grid.counts == (6, 4, 8)
    assert torch.equal(field.cells, torch.arange(192))
    torch.testing.assert_close(field(points)[0], density, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(field(points)[1], features, rtol=1e-3, atol=1e-4)
    assert torch.equal(field.is_occupied(points), occupied)


def test_optimizers_follow_a_split():
    field = make_field()
    optimizer = torch.optim.Adam([{"params": [field.features]}, {"params": [field.local]}], lr=1e-2)
    points = torch.rand(500, 3) * 2 - 1
    for _ in range(2):
        optimizer.zero_grad()
        field(points)[0].sum().backward()
        optimizer.step()
        field.split_([optimizer])
    assert optimizer.state[field.local]["exp_avg"].shape == field.local.shape
    assert optimizer.param_groups[0]["params"][0] is field.features


@pytest.mark.parametrize("network", ["local-global", "per-partition", "global"])
@pytest.mark.parametrize("contraction", [False, True])
def test_a_crop_keeps_density_and_colour_and_empties_the_rest(network, contraction):
    field = make_field(network, contraction)
    region = Region.box((-0.9, -1.2, 0.2), (0.3, 0.5, 1.4 if not contraction else 7.0))
    small = crop(field, region)
    assert 0 < small.num_rows < field.num_rows
    points = (torch.rand(2000, 3) * 2 - 1) * (4.0 if contraction else 1.5)
    inside = region.contains(points)
    for kept, all_ in zip(small(points), field(points)):
        torch.testing.assert_close(kept[inside], all_[inside], rtol=1e-4, atol=1e-5)
    assert (small(points)[0][~inside] == 0).all() and not small.is_occupied(points)[~inside].any()
    assert torch.equal(small.local, field.local[torch.isin(field.cells, small.cells)])


def test_a_removed_cell_is_empty_whatever_the_shared_part_says():
    field = make_field()
    points = torch.rand(1000, 3) * 3 - 1.5
    density = crop(field, cells=[0, 1, 2])(points)[0]
    owned = torch.isin(field.grid.locate(points), torch.tensor([0, 1, 2]))
    assert (density[~owned] == 0).all() and (density[owned] > 0).all()


def test_pruning_empty_cells_changes_no_render():
    field = make_field()
    field.occupied.zero_()
    field.occupied[5:9] = True
    origins, directions = some_rays()
    before = render(field, origins, directions)
    empty = field.occupancy.empty_rows()
    assert not empty[5:9].any() and empty.any()
    after = render(prune(field, empty), origins, directions)
    assert before.abs().sum() > 0
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-6)


def test_occupancy_finds_what_is_there():
    field = make_field(density_bias=0.0)
    with torch.no_grad():
        for p in field.parameters():
            p.zero_()
        field.local[7, -field.chain.out_features] = 5.0
        field.local[:7, -field.chain.out_features] = -20.0
        field.local[8:, -field.chain.out_features] = -20.0
    for _ in range(10):
        field.occupancy.update(lambda points: field.opacity(points, 0.02), 0.01, 10**6, field.frozen)
    assert field.occupied[7].all() and field.occupied.sum() == field.occupied[7].sum()
    box = field.grid.boxes(torch.tensor([7]))[0].float()
    torch.testing.assert_close(field.occupancy.bounds(), box, rtol=1e-4, atol=1e-4)


def test_the_state_describes_the_field():
    field = crop(make_field(appearance_features=3), Region.box((-1, -1, -1), (0.2, 0.2, 0.2)))
    state = field.state_dict()
    extra = state["_extra_state"]
    again = RadianceField(PartitionGrid.from_dict(extra["grid"]), RadianceSizes(**extra["config"]), state["cells"])
    again.load_state_dict(state)
    points = torch.rand(300, 3) * 3 - 1.5
    for a, b in zip(again(points), field(points)):
        assert torch.equal(a, b)
    assert "thickness" not in state


@pytest.mark.parametrize("reads", [True, False])
def test_the_shared_part_decodes_the_grid_of_the_cell_it_is_asked_in_and_of_no_other(reads: bool):
    field = make_field(global_reads_grid=reads)
    with torch.no_grad():
        for values in field.chain.views(field.local)[-1]:
            values.zero_()  # no cell corrects the shared part
    points, rows = torch.rand(500, 3), torch.randint(field.num_rows, (500,))
    density, _ = field.of_rows(points, rows)
    (gradient,) = torch.autograd.grad(density[rows == 5].sum(), field.features)
    assert bool(gradient[5].any()) == reads
    assert not gradient[torch.arange(field.num_rows) != 5].any()


def test_a_field_from_before_the_shared_part_read_grids_is_what_it_was():
    field = make_field(global_reads_grid=False)
    config = {name: value for name, value in field.config().items() if name != "global_reads_grid"}
    again = RadianceField.from_config(field.grid, config, field.cells)
    again.load_state_dict(field.state_dict())
    points = torch.rand(300, 3) * 3 - 1.5
    assert all(torch.equal(a, b) for a, b in zip(again(points), field(points)))


def test_without_a_colour_layer_features_are_harmonics_of_the_direction(tmp_path: Path):
    field = make_field("per-partition", color_width=0, color_features=27)
    assert field.num_parameters()["shared"] == 0
    features = torch.randn(500, 3, 9)
    one, two = (torch.nn.functional.normalize(torch.randn(500, 3), dim=1) for _ in range(2))
    colors = field.rgb(features.flatten(1), one)
    expected = torch.sigmoid((features * spherical_harmonics(one)[:, None]).sum(-1))
    torch.testing.assert_close(colors, expected)
    assert bool(((colors - field.rgb(features.flatten(1), two)).abs() > 1e-4).all())
    features[..., 1:] = 0.0  # the constant alone: no direction matters
    torch.testing.assert_close(field.rgb(features.flatten(1), one), field.rgb(features.flatten(1), two))
    save(field, tmp_path / "field")
    again, points = load(tmp_path / "field"), torch.rand(300, 3) * 3 - 1.5
    for a, b in zip(again(points), field(points)):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    with pytest.raises(ValueError, match="27 color_features"):
        RadianceSizes(color_width=0)


def test_haze_counts_wherever_there_is_a_row_and_teaches_its_grid():
    field = make_field(contraction=True, density_bias=2.0)
    anywhere = field.frame.from_unit(torch.rand(20_000, 3))
    haze = field.opacity(anywhere, 0.05)
    assert ((haze > 0) & (haze <= 1)).all()
    haze.mean().backward()
    assert field.features.grad is not None and bool(field.features.grad.any(1).all())
    one = crop(field, cells=field.cells[:1])
    part = (one.opacity(anywhere, 0.05) > 0).float().mean()
    torch.testing.assert_close(float(part), 1 / field.num_rows, atol=0.01, rtol=0)


def test_a_mesh_of_a_field_stays_in_its_kept_region():
    field = make_field(density_bias=2.0)
    region = Region.box((-0.9, -1.2, -0.8), (0.3, 0.5, 1.1))
    mesh = radiance_mesh(crop(field, region), 40, threshold=1.0)
    assert mesh.colors is not None
    step = 3.0 / 40
    low, high = torch.tensor([-0.9, -1.2, -0.8]) - step, torch.tensor([0.3, 0.5, 1.1]) + step
    vertices = torch.from_numpy(mesh.vertices)
    assert ((vertices >= low) & (vertices <= high)).all()


def test_interpolation_is_exact_at_nodes_and_on_linear_grids():
    axis = torch.linspace(0, 1, 4)
    nodes = torch.cartesian_prod(axis, axis, axis)
    table = (nodes @ torch.tensor([[1.0, 0.5], [2.0, 0.0], [-3.0, 1.0]])).reshape(1, -1)
    points = torch.rand(50, 3)
    values = interpolate(table, torch.zeros(50, dtype=torch.int64), points, 4, 2)
    torch.testing.assert_close(values, points @ torch.tensor([[1.0, 0.5], [2.0, 0.0], [-3.0, 1.0]]))


def test_encodings():
    points = torch.rand(5, 3)
    assert frequency_encoding(points, 4).shape == (5, frequency_features(3, 4))
    directions = torch.nn.functional.normalize(torch.randn(200_000, 3), dim=-1)
    basis = spherical_harmonics(directions)
    gram = basis.T @ basis / len(basis) * 4 * torch.pi
    torch.testing.assert_close(gram, torch.eye(9), atol=0.03, rtol=0)


@pytest.mark.parametrize("contraction", [False, True])
def test_a_seam_is_seen_where_cells_disagree_and_not_where_they_agree(contraction: bool):
    """A field whose rows are all one function has no seams; another function in every other cell makes them."""
    torch.manual_seed(0)
    shape = RadianceSizes(local_width=4, global_width=8, grid_nodes=0, density_bias=0.0, contraction=contraction)
    reach = 2.0 if contraction else 1.0
    field = RadianceField(PartitionGrid((4, 4, 4), (-reach,) * 3, (reach,) * 3), shape)
    scene = Scene(tuple(tuple(row) for row in torch.eye(4).tolist()), step=0.02)
    cameras = list(orbit(field, scene, 3, 24, 24))
    with torch.no_grad():
        field.local.copy_(field.local[:1].expand_as(field.local))
        field.local += torch.randn(1, field.local.shape[1]) * 0.3
    smooth = measure_seams(field, scene, cameras)
    assert smooth.pairs_across > 100 and 0.8 < smooth.ratio < 1.25
    with torch.no_grad():
        odd = field.grid.unravel(field.cells).sum(1) % 2 == 1
        field.local[odd] += torch.randn(1, field.local.shape[1])
    assert measure_seams(field, scene, cameras).ratio > 3 * smooth.ratio
    with pytest.raises(ValueError, match="crosses a border between two cells"):
        measure_seams(RadianceField(PartitionGrid((1, 1, 1), (-1.0,) * 3, (1.0,) * 3), shape), scene, cameras)


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize("step", [0.01, 0.03, 0.11])
def test_looking_at_blocks_of_steps_first_loses_no_sample(step: float, jitter: bool, monkeypatch):
    monkeypatch.setenv(SWITCH, "chain")
    field = make_field()
    with torch.no_grad():
        field.occupied.copy_(torch.rand(field.occupied.shape) < 0.02)
    origins = torch.nn.functional.normalize(torch.randn(200, 3), dim=-1) * 3
    directions = torch.nn.functional.normalize(torch.randn(200, 3) * 0.5 - origins, dim=-1)
    near, far = torch.zeros(200), torch.full((200,), 10.0)
    torch.manual_seed(5)
    fast = field_samples(field, origins, directions, near, far, step, jitter)
    enter, leave = ray_box(origins, directions, field.occupancy.bounds())
    torch.manual_seed(5)
    plain = march(origins, directions, torch.maximum(near, enter), leave, step, field.is_occupied, None, jitter)
    assert len(plain.rays) > 100 and all(torch.equal(a, b) for a, b in zip(fast, plain))


def test_what_is_chosen_evenly_moves_by_one_where_there_is_one_more():
    """So that a sample more or less, which rounding decides, changes nearly nothing."""
    device, times = torch.device("cpu"), torch.zeros(40)
    for seed in range(400):
        chosen = []
        for size in (40, 41):
            torch.manual_seed(seed)
            chosen.append(evenly(size, 13, device))
            assert len(chosen[-1].unique()) == 13 and int(chosen[-1].min()) >= 0 and int(chosen[-1].max()) < size
        assert bool(((chosen[1] - chosen[0]).abs() <= 1).all())
        times[chosen[0]] += 1
    assert bool(((times / 400 - 13 / 40).abs() < 0.1).all()), "some are chosen more often than others"
    for few in (0, 5, 13):
        assert evenly(few, 13, device).tolist() == list(range(few))
    states = []
    for size in (0, 5, 13, 40):
        torch.manual_seed(7)
        evenly(size, 13, device)
        states.append(torch.get_rng_state())
    assert all(torch.equal(state, states[0]) for state in states)


def test_the_seam_loss_is_zero_without_seams_and_closes_them():
    field = make_field().train()
    points, directions = torch.rand(4000, 3) * 3 - 1.5, torch.nn.functional.normalize(torch.randn(4000, 3), dim=1)
    first = border_disagreement(field, points, directions, 0.05, 1000)
    assert first > 0
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        border_disagreement(field, points, directions, 0.05, 1000).backward()
        optimizer.step()
    assert border_disagreement(field, points, directions, 0.05, 1000) < 0.3 * first
    alone = crop(field, cells=[0])
    assert border_disagreement(alone, points, directions, 0.05, 1000) == 0
    with torch.no_grad():
        field.local.copy_(field.local[:1].expand_as(field.local))
        field.features.zero_()
    assert border_disagreement(field, points, directions, 0.05, 1000) < 1e-10
