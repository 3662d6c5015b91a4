"""Training rays as a GPU is asked for them: the same as on a CPU, in few operations and with one wait."""

from __future__ import annotations

import copy

import pytest
import second_device
import torch
from small_scene import small_scene
from test_radiance_training import RAYS, SIZES

from lg_field import PartitionGrid
from lg_field.radiance.at_once import ask_at_once, march_training
from lg_field.radiance.beside import disagreement, haze, points_beside
from lg_field.radiance.compositing import Samples, render_weights, transmittances, weights_and_light
from lg_field.radiance.encodings import _products, spherical_harmonics
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import ask, field_samples, picture, shade
from lg_field.radiance.seams import border_disagreement
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

HARMONICS = {"color_width": 0, "color_features": 27}
STEP = 0.05


def a_field(contraction: bool = False, color: bool = False, voxels: int = 4) -> RadianceField:
    """A field of random weights, some cells without a row and some voxels empty."""
    torch.manual_seed(0)
    look = {} if color else HARMONICS
    options = {"contraction": contraction, "occupancy_voxels": voxels, "density_bias": 1.0}
    sizes = RadianceSizes(**vars(SIZES) | look | options)
    reach = 2.0 if contraction else 1.2
    cells = torch.arange(27)[torch.arange(27) % 5 > 0]
    field = RadianceField(PartitionGrid((3, 3, 3), (-reach,) * 3, (reach,) * 3), sizes, cells)
    with torch.no_grad():
        field.local.normal_(std=0.3)
    field.occupancy.restore_(torch.rand_like(field.occupied, dtype=torch.float32) < 0.7)
    return field


def some_rays(count: int = 40) -> tuple[torch.Tensor, ...]:
    chosen = torch.randperm(len(RAYS[0]), generator=torch.Generator().manual_seed(1))[:count]
    origins, directions = RAYS[0][chosen], RAYS[1][chosen]
    return origins, directions, torch.full((count,), 0.05), torch.full((count,), 1000.0)


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("voxels", [4, 6])
def test_marching_finds_the_same_samples_and_where_they_are(contraction: bool, voxels: int):
    field = a_field(contraction, voxels=voxels)
    torch.manual_seed(2)
    expected = field_samples(field, *some_rays(), STEP, jitter=True)
    torch.manual_seed(2)
    marched = march_training(field, *some_rays(), STEP)
    assert len(expected.rays) > 100 and torch.equal(marched.samples.rays, expected.rays)
    torch.testing.assert_close(marched.samples.starts, expected.starts, rtol=1e-5, atol=1e-5)
    unit = field.frame.to_unit(expected.positions(*some_rays()[:2]))
    torch.testing.assert_close(marched.unit, unit, rtol=1e-5, atol=1e-6)
    assert torch.equal(marched.rows, field.rows_of_unit(marched.unit))
    field.seen.zero_()
    field.occupancy.mark_voxels_seen(marched.voxels)
    ours = field.seen.clone()
    field.seen.zero_()
    field.occupancy.mark_seen(marched.unit, marched.rows)
    assert torch.equal(ours, field.seen)


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("color", [False, True])
def test_what_is_seen_and_learned_is_the_same(contraction: bool, color: bool):
    """Pictures, dependence on the direction, and gradients."""
    field = a_field(contraction, color)
    origins, directions, near, far = some_rays()
    marched = march_training(field, origins, directions, near, far, STEP)
    beside = points_beside(field, marched.unit, marched.samples.rays, 50, 20)
    ours, answers = ask_at_once(field, origins, directions, marched, beside, 0.0, 1e-2)
    theirs = ask(field, origins, directions, marched.samples, 0.0, 1e-2)
    assert (ours.weights == 0).any() and len(theirs.density) == (ours.weights > 0).sum()
    found = []
    for asked in (ours, theirs):
        shown = picture(asked, shade(asked), 1000.0, None)
        loss = shown.rgb.square().sum() + shown.accumulation.sum()
        loss = loss if color else loss + asked.dependence.sum()
        parameters = [p for p in field.parameters() if p.numel()]
        found.append((*shown, *torch.autograd.grad(loss, parameters, allow_unused=True)))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    opacity = haze(beside, answers, STEP)
    expected = field.opacity(field.frame.from_unit(beside.unit[-20:]), STEP)
    torch.testing.assert_close(opacity, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("contraction", [False, True])
def test_sides_of_borders_disagree_as_much(contraction: bool):
    field = a_field(contraction)
    origins, directions, near, far = some_rays()
    marched = march_training(field, origins, directions, near, far, STEP)
    count = len(marched.unit)
    beside = points_beside(field, marched.unit, marched.samples.rays, count, 0)
    _, answers = ask_at_once(field, origins, directions, marched, beside)
    positions = marched.samples.positions(origins, directions)
    expected = border_disagreement(field, positions, directions[marched.samples.rays], STEP, count)
    assert expected > 0
    torch.testing.assert_close(disagreement(beside, answers, STEP), expected, rtol=1e-3, atol=1e-9)


def test_no_border_is_no_disagreement():
    field = a_field()
    alone = RadianceField(PartitionGrid((1, 1, 1), (-1.2,) * 3, (1.2,) * 3), field.sizes)
    origins, directions, near, far = some_rays()
    marched = march_training(alone, origins, directions, near, far, STEP)
    beside = points_beside(alone, marched.unit, marched.samples.rays, 30, 5)
    _, answers = ask_at_once(alone, origins, directions, marched, beside)
    assert disagreement(beside, answers, STEP) == 0


def test_weights_and_their_gradients_are_those_of_the_formula():
    torch.manual_seed(0)
    counts = torch.tensor([0, 3, 0, 5, 1, 0])
    rays = torch.repeat_interleave(torch.arange(6), counts)
    samples = Samples(rays, torch.zeros(9).double(), torch.ones(9).double())
    thickness = torch.rand(9, dtype=torch.float64).requires_grad_()
    weights, shown = weights_and_light(thickness, samples, 6)
    assert shown.all()
    torch.testing.assert_close(weights, render_weights(thickness, samples, 6))
    assert torch.autograd.gradcheck(lambda x: weights_and_light(x, samples, 6)[0], (thickness,))
    weights, shown = weights_and_light(thickness * 4, samples, 6, 0.1)
    assert torch.equal(shown, transmittances(thickness * 4, samples, 6) >= 0.1) and not shown.all()
    assert torch.equal(weights > 0, shown)
    assert torch.autograd.gradcheck(lambda x: weights_and_light(x * 4, samples, 6, 0.1)[0], (thickness,))


def test_harmonics_are_products():
    directions = torch.nn.functional.normalize(torch.randn(50, 3), dim=1)
    torch.testing.assert_close(_products(directions), spherical_harmonics(directions), rtol=1e-5, atol=1e-6)


# -- counted


def of_a_method(contraction: bool) -> tuple[RadianceTrainer, torch.optim.Optimizer]:
    """A trainer with the sizes and settings of the method `lg-field`, on few samples."""
    method = pytest.importorskip("lg_field.nerfstudio.config", reason="methods need nerfstudio").lg_field
    model = method.config.pipeline.model
    torch.manual_seed(0)
    reach = 2.0 if contraction else 1.2
    sizes = RadianceSizes(**vars(model.sizes) | {"contraction": contraction})
    field = RadianceField(PartitionGrid((2, 2, 2), (-reach,) * 3, (reach,) * 3), sizes).to(second_device.NAME)
    options = {name: getattr(model, name) for name in vars(TrainingSettings())}
    few = {"samples_per_batch": 1024, "occupancy_points": 1024, "split_steps": ()}
    parameters = [p for p in field.parameters() if p.numel()]
    trainer = RadianceTrainer(field, TrainingSettings(**options | few))
    return trainer, torch.optim.Adam(parameters, lr=1e-2, eps=1e-15, fused=True)


def counted_step(trainer: RadianceTrainer, optimizer: torch.optim.Optimizer, step: int) -> tuple[int, int]:
    """Launches and waits of a training step."""
    chosen = torch.randint(len(RAYS[0]), (64,))
    origins, directions, colors = (v[chosen].to(second_device.NAME) for v in RAYS)
    optimizer.zero_grad()
    with second_device.counted() as counts:
        trainer.begin(step, [optimizer])
        losses = trainer.losses(trainer.render(origins, directions), colors)
        sum(losses.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    return counts.total


@pytest.mark.skipif(second_device.available() is not None, reason=second_device.available() or "")
@pytest.mark.parametrize(("contraction", "launches"), [(False, 400), (True, 510)])
def test_a_step_begins_few_operations_and_waits_once(contraction: bool, launches: int):
    """Ceilings of what a GPU is asked for, and with the update of occupancy every 16th step on average."""
    trainer, optimizer = of_a_method(contraction)
    found = [counted_step(trainer, optimizer, step) for step in range(33)]
    usual, mean = found[-2], [sum(column) / 16 for column in zip(*found[-16:])]
    assert usual[0] <= launches and usual[1] <= 1, f"{usual} launches and waits"
    assert mean[0] <= launches + 20 and mean[1] <= 2, f"{mean} launches and waits on average"


@pytest.mark.skipif(second_device.available() is not None, reason=second_device.available() or "")
def test_uniform_rows_are_seen_on_the_host():
    """What signals train on has as many points in each row: blocks and their gathered weights are not needed."""
    from lg_field.networks.initialization import init_rows, init_shared
    from lg_field.ops import ChainSizes, accumulate_gradients

    sizes = ChainSizes(2, 3, 8, 16, 1)
    table, shared = init_rows(sizes, 4).to(second_device.NAME), init_shared(sizes)
    shared = {k: v.to(second_device.NAME).requires_grad_() for k, v in shared.items()}
    counts = {}
    for name, edges in (("uniform", [0, 10, 20, 30, 40]), ("ragged", [0, 9, 20, 30, 40])):
        x, y = (torch.rand(40, n, device=second_device.NAME) for n in (2, 3))
        offsets = torch.tensor(edges, device=second_device.NAME)
        with second_device.counted() as found:
            accumulate_gradients(x, offsets, y, table.requires_grad_(), shared, sizes, 100)
        counts[name] = found.total
    assert counts["uniform"][0] < counts["ragged"][0] - 10 and counts["uniform"][1] <= 3


def test_a_copy_of_a_scene_is_asked_the_same_way():
    """Nothing of a field's kept tensors is shared with a copy of it."""
    field = small_scene()
    field.occupancy.corners(), field.occupancy.reach()
    other = copy.deepcopy(field)
    assert other.occupancy._kept is None and torch.equal(other.occupancy.corners(), field.occupancy.corners())
