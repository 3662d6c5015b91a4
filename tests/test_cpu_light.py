"""What the CPU's kernels say of rays: light along them, and all of a training step, as torch has it in float64."""

from __future__ import annotations

import copy
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_at_once import STEP, a_field, some_rays
from test_cpu_kernel import threads
from torch import Tensor

from lg_field.ops.backends.cpu import SWITCH, light, march, native
from lg_field.ops.backends.cpu.encode import sort_points
from lg_field.ops.sorting import sort_by_row
from lg_field.radiance.at_once import Marched, ask_at_once, march_training
from lg_field.radiance.beside import Beside, disagreement, haze, points_beside
from lg_field.radiance.compositing import Samples, composite_weights, weights_and_light
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import asks_at_once, fused_light, fused_look
from lg_field.radiance.render import picture
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")


def lit(density: Tensor, rgb: Tensor, samples: Samples, num_rays: int, least: float, fused: bool) -> list[Tensor]:
    """Weights, what rays see, whether samples are seen, and gradients of a weighted sum of the first two."""
    density, rgb = density.detach().requires_grad_(), rgb.detach().requires_grad_()
    if fused:
        weights, sums, through = light.light(density, rgb, tuple(samples), num_rays, least)
        seen, shown = [sums], through > 0.0
    else:
        weights, shown = weights_and_light(density * samples.lengths, samples, num_rays, least)
        color, accumulation, _ = composite_weights(weights, rgb, samples, num_rays, 9.0)
        depth = torch.zeros(num_rays, 1).to(rgb).index_add(0, samples.rays, (weights * samples.middles)[:, None])
        seen = [torch.cat([color, accumulation, depth], dim=1)]
    generator = torch.Generator().manual_seed(1)
    total = sum((part * torch.randn(part.shape, generator=generator).to(part)).sum() for part in (weights, *seen))
    grads = torch.autograd.grad(total, (density, rgb))
    return [weights.detach(), *(part.detach() for part in seen), shown, *grads]


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(0, 400), st.sampled_from([0.0, 1e-4, 0.1]), st.sampled_from([0.1, 3.0, 60.0]))
def test_light_along_rays_is_what_torch_finds(seed: int, count: int, least: float, scale: float) -> None:
    torch.manual_seed(seed)
    rays = torch.randint(0, 70, (count,)).sort().values
    starts = torch.rand(count).sort().values
    samples = Samples(rays, starts, starts + 0.2 * torch.rand(count))
    density, rgb = torch.rand(count) * scale, torch.rand(count, 3)
    ours = lit(density, rgb, samples, 71, least, fused=True)
    exact = Samples(rays, samples.starts.double(), samples.ends.double())
    for a, b in zip(ours, lit(density.double(), rgb.double(), exact, 71, least, fused=False), strict=True):
        if a.dtype == torch.bool:
            assert torch.equal(a, b)
        else:
            torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
    with threads(3):
        assert all(map(torch.equal, ours, lit(density, rgb, samples, 71, least, fused=True)))


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(0, 300), st.integers(1, 40))
def test_points_are_sorted_by_row(seed: int, count: int, num_rows: int) -> None:
    rows = torch.randint(-1, num_rows, (count,), generator=torch.Generator().manual_seed(seed))
    expected = sort_by_row(rows, num_rows)
    order, offsets = sort_points(rows, num_rows)
    assert torch.equal(order, expected.order) and torch.equal(offsets, expected.offsets)


def exactly(values: tuple) -> tuple:
    """The same numbers in float64."""
    parts = [exactly(v) if isinstance(v, tuple) else v.double() if v.dtype == torch.float32 else v for v in values]
    return type(values)(*parts)


def step(field: RadianceField, marched: Marched, beside: Beside, least_light: float) -> list[Tensor]:
    """What a training step sees and what it learns of it."""
    origins, directions = (values.to(field.local.dtype) for values in some_rays()[:2])
    asked, answers = ask_at_once(field, origins, directions, marched, beside, 0.0, least_light)
    seen = picture(asked, asked.colors, 9.0, None)
    losses = [seen.rgb.square().mean(), asked.dependence.mean(), disagreement(beside, answers, STEP)]
    losses += [asked.opacity.mean() + haze(beside, answers, STEP).mean()] if field.sizes.contraction else []
    parameters = [field.local, field.features, field.hash_table, *field.shared.values()]
    return [*seen, *torch.autograd.grad(sum(losses), [p for p in parameters if p is not None])]


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("least_light", [0.0, 0.3])
def test_a_step_sees_and_learns_what_torch_does(contraction: bool, least_light: float) -> None:
    field = a_field(contraction)
    torch.manual_seed(3)
    marched = march_training(field, *some_rays(), STEP)
    beside = points_beside(field, marched.unit, marched.samples.rays, 64, 32 if contraction else 0)
    ours = step(field, marched, beside, least_light)
    with threads(3):
        assert all(map(torch.equal, ours, step(field, marched, beside, least_light)))
    exact = step(copy.deepcopy(field).double(), exactly(marched), exactly(beside), least_light)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=2e-3, atol=2e-4 * float(b.detach().abs().max()) + 1e-7)


def test_where_samples_are_is_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for contraction in (False, True):
        field = a_field(contraction)
        torch.manual_seed(2)
        ours = march_training(field, *some_rays(), STEP)
        assert len(ours.unit) > 100 and bool((ours.rows >= 0).all())
        assert torch.equal(ours.rows, field.rows_of_unit(ours.unit))
        positions = ours.samples.positions(*some_rays()[:2])
        torch.testing.assert_close(ours.unit, field.frame.to_unit(positions), rtol=1e-5, atol=1e-6)
        numbers = field.occupancy.numbers(positions)
        assert float((field.occupancy.places_of_voxels()[numbers] == ours.voxels).float().mean()) > 0.99
        assert bool(field.occupied.view(-1)[ours.voxels].float().mean() > 0.99)


def test_what_these_kernels_cannot_do_is_left_to_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    field, (origins, directions, *_) = a_field(), some_rays()
    rows, rays = torch.zeros(40, dtype=torch.int64), torch.arange(40)
    samples = Samples(rays, torch.rand(40), 1 + torch.rand(40))
    assert asks_at_once(field, origins, directions) and fused_look(field, origins, rows, rays, directions) is not None
    assert not asks_at_once(a_field(color=True), origins, directions)
    assert not asks_at_once(field, origins.clone().requires_grad_(), directions)
    assert fused_look(field, origins, rows, rays, directions.clone().requires_grad_()) is None
    assert "three colours" in str(light.why_not(samples.starts, torch.rand(40, 2), samples.starts))
    assert "no gradients to distances" in str(
        light.why_not(samples.starts, directions, samples.starts.clone().requires_grad_())
    )
    monkeypatch.setenv(SWITCH, "chain")
    assert not asks_at_once(field, origins, directions) and march.why_not(origins) is not None
    assert fused_look(field, origins, rows, rays, directions) is None
    assert fused_light(field, samples.starts, directions.abs(), samples, 40) is None


@pytest.mark.parametrize("options", [{"network": "global"}, {"grid_nodes": 0}])
def test_nothing_is_asked_at_once_of_what_they_cannot_look_at(options: dict) -> None:
    sizes = RadianceSizes(**vars(a_field().sizes) | options)
    field = RadianceField(a_field().grid, sizes)
    origins, directions, *_ = some_rays()
    rows, rays = torch.zeros(40, dtype=torch.int64), torch.arange(40)
    assert march.why_not(origins, directions) is None and not asks_at_once(field, origins, directions)
    assert fused_look(field, origins, rows, rays, directions) is None


@pytest.mark.parametrize("refusing", ["light", "shade", "encode", "march"])
def test_a_kernel_that_cannot_be_built_leaves_training_to_torch(
    refusing: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    field = a_field()
    trainer = RadianceTrainer(field, TrainingSettings(split_steps=(), least_light=0.0))

    def seen() -> list[Tensor]:
        torch.manual_seed(3)
        return list(trainer.render(*some_rays()[:2]).picture[:3])

    with monkeypatch.context() as switched:
        switched.setenv(SWITCH, "0")
        expected = seen()
    library = native.library
    request.addfinalizer(native.native.cache_clear)
    monkeypatch.setattr(native, "library", lambda name: "no compiler" if name == refusing else library(name))
    native.native.cache_clear()
    assert not asks_at_once(field, *some_rays()[:2])
    marched = march_training(field, *some_rays(), STEP)
    beside = points_beside(field, marched.unit, marched.samples.rays, 50, 20)
    assert torch.isfinite(ask_at_once(field, *some_rays()[:2], marched, beside).asked.weights).all()
    for a, b in zip(seen(), expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_training_takes_them_and_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    """One loop with the kernels, one with the chain's alone: both learn the same grey."""
    found = {}
    for value in ("1", "chain"):
        monkeypatch.setenv(SWITCH, value)
        torch.manual_seed(0)
        field = a_field()
        settings = TrainingSettings(split_steps=(), samples_per_batch=2000, harmonics_loss_mult=1e-3)
        trainer = RadianceTrainer(field, settings)
        optimizer = torch.optim.Adam([p for p in field.parameters() if p.numel()], lr=1e-2)
        for number in range(25):
            trainer.begin(number, [optimizer])
            view = trainer.render(*some_rays()[:2])
            losses = trainer.losses(view, torch.full((40, 3), 0.4))
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
        found[value] = float(losses["rgb_loss"].detach())
        assert (view.voxels is not None) == (value == "1")
    assert isinstance(field.sizes, RadianceSizes) and max(found.values()) < 0.05
