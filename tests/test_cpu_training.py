"""The CPU's kernels around a training step's samples: marching, points beside them, light, seams; as torch has them."""

from __future__ import annotations

import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_at_once import STEP, a_field, some_rays
from test_cpu_kernel import threads
from torch import Tensor

from lg_field import Region
from lg_field.ops.adam import Adam
from lg_field.ops.backends.cpu import SWITCH
from lg_field.ops.backends.cpu.light import light_of_looks
from lg_field.radiance import render
from lg_field.radiance.beside import ASIDE, REACH, Answers, Beside, disagreement, points_beside
from lg_field.radiance.compositing import Samples, composite_weights, weights_and_light
from lg_field.radiance.fused import fused_place
from lg_field.radiance.fused_training import fused_beside, fused_march_training
from lg_field.radiance.gradient_scaling import NearScaling
from lg_field.radiance.render import field_samples
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="needs a C++ compiler")


def odd_rays() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Rays of photos, and some along axes, from inside, away from the scene, far off and with no length."""
    origins, directions, near, far = (torch.cat([t, t[:9]]) for t in some_rays())
    directions[-9:-6], origins[-9:-6] = (
        torch.eye(3),
        torch.tensor([[-3.0, 0.1, 0.2], [0.1, -3.0, 0.2], [0.0, 0.3, -3.0]]),
    )
    origins[-6] = 0.0
    directions[-5] *= -1.0
    near[-4], far[-4] = 3.0, 2.0
    origins[-3], far[-2], near[-1] = 50.0, 0.0, 1e6
    return origins, directions, near, far


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("step", [STEP, 0.013])
def test_rays_are_clipped_marched_and_placed_in_one_pass(contraction: bool, step: float) -> None:
    field, rays = a_field(contraction), odd_rays()
    torch.manual_seed(2)
    samples = field_samples(field, *rays, step, jitter=True)
    torch.manual_seed(2)
    found = fused_march_training(field, *rays, step)
    expected = fused_place(field, *rays[:2], samples)
    assert found is not None and expected is not None and len(samples.rays) > 100
    assert all(map(torch.equal, (*found[0], *found[1:]), (*samples, *expected)))
    with threads(3):
        torch.manual_seed(2)
        again = fused_march_training(field, *rays, step)
    assert again is not None and all(map(torch.equal, (*found[0], *found[1:]), (*again[0], *again[1:])))


@pytest.mark.parametrize("broken", [0, 1])
def test_rays_of_no_numbers_find_nothing(broken: int) -> None:
    rays = [t.clone() for t in some_rays()]
    rays[broken][3, 1] = torch.nan
    found = fused_march_training(a_field(), *rays, STEP)
    assert found is not None and len(found[0].rays) > 100 and 3 not in found[0].rays


def test_marching_leaves_to_others_what_it_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    field, rays = a_field(), some_rays()
    assert fused_march_training(field, *(t.double() for t in rays), STEP) is None
    assert fused_march_training(field, *(t[:0] for t in rays), STEP) is None
    field.region = Region.box((-1.0,) * 3, (0.0,) * 3)
    assert fused_march_training(field, *rays, STEP) is None
    field.region = None
    monkeypatch.setenv(SWITCH, "chain")
    assert fused_march_training(field, *rays, STEP) is None


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([1, 7, 300]), st.integers(0, 40), st.integers(0, 9))
def test_points_beside_samples_are_those_of_torch(
    seed: int, contraction: bool, count: int, on_borders: int, anywhere: int
) -> None:
    field = a_field(contraction)
    torch.manual_seed(seed)
    unit, rays = torch.rand(count, 3), torch.randint(0, 20, (count,)).sort().values
    found: list[Beside] = []
    for backend in ("auto", "torch"):
        field.backend = backend
        torch.manual_seed(seed)
        found.append(points_beside(field, unit, rays, on_borders, anywhere))
    ours, theirs = found
    assert ours.rows is not None and theirs.rows is None
    assert torch.equal(ours.rows, field.rows_of_unit(ours.located)) and torch.equal(ours.rays, theirs.rays)
    for a, b in ((ours.located, theirs.located), (ours.unit, theirs.unit), (ours.lengths, theirs.lengths)):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert torch.equal(ours.near, theirs.near)


def test_no_kernel_tells_rows_by_voxels_that_do_not() -> None:
    field = a_field(voxels=6)
    unit, rays = torch.rand(20, 3), torch.zeros(20, dtype=torch.int64)
    assert fused_beside(field, unit, rays, (5, 0, 2), torch.rand(2, 3), (ASIDE, REACH)) is None


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.sampled_from([0, 1, 33]), st.sampled_from([0.0, 0.5, 1.0]))
def test_borders_disagree_as_torch_finds(seed: int, count: int, share: float) -> None:
    torch.manual_seed(seed)
    near, both = torch.rand(2, count) < share
    density, colors, lengths = 4 * torch.rand(2 * count), torch.rand(2 * count, 3), torch.rand(2 * count)
    found = []
    for kind, backend in ((torch.float32, "auto"), (torch.float64, "torch")):
        asked = [t.to(kind).requires_grad_() for t in (density, colors)]
        nothing = torch.zeros(0, dtype=kind)
        beside = Beside(nothing.view(0, 3), nothing.view(0, 3), near, nothing.long(), lengths.to(kind))
        loss = disagreement(beside, Answers(both, *asked, nothing), 0.7, backend)
        found.append([loss.detach(), *torch.autograd.grad(3.0 * loss, asked)])
    for a, b in zip(*found):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-7)


@settings(max_examples=30)
@given(
    st.integers(0, 10**6),
    st.sampled_from([0, 1, 300]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.8]),
    st.integers(0, 2**8 - 1),
)
def test_light_of_what_was_asked_together(seed: int, count: int, least: float, until: float, wanted: int) -> None:
    """Gradients of any part of the results, alone and together."""
    torch.manual_seed(seed)
    border, free = 6, 3
    rays = torch.randint(0, 40, (count,)).sort().values
    starts = torch.rand(count)
    samples = Samples(rays, starts, starts + 0.2 * torch.rand(count))
    looked = (
        20 * torch.rand(count + border + free),
        torch.rand(count + border + free, 3),
        torch.rand(count + border + free),
    )
    ours = [t.clone().requires_grad_() for t in looked]
    exact = [t.double().requires_grad_() for t in looked]
    lit = light_of_looks(tuple(ours), tuple(samples), 41, least, until, border, True)
    assert lit.opacity is not None
    exact_samples = Samples(rays, samples.starts.double(), samples.ends.double())
    scaling, (density, rgb, said) = NearScaling(exact_samples, until), (t[:count] for t in exact)
    weights, shown = weights_and_light(scaling(density) * exact_samples.lengths, exact_samples, 41, least)
    color, accumulation, _ = composite_weights(weights, scaling(rgb), exact_samples, 41, 9.0)
    depth = torch.zeros(41, 1).double().index_add(0, rays, (weights * exact_samples.middles)[:, None])
    opacity = -torch.expm1(-density * exact_samples.lengths)
    seen = torch.where(shown, said, 0.0) if least else said
    others = exact[0][count : count + border], exact[1][count : count + border], exact[0][count + border :]
    theirs = [weights, torch.cat([color, accumulation, depth], 1), opacity, seen, *others]
    parts = [lit.weights, lit.sums, lit.opacity, lit.seen, lit.border_density, lit.border_rgb, lit.free_density]
    totals = [torch.zeros(()), torch.zeros((), dtype=torch.float64)]
    for number, (a, b) in enumerate(zip(parts, theirs, strict=True)):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)
        factors = torch.randn(a.shape) * (wanted >> number & 1)
        if wanted >> number & 1:
            totals = [totals[0] + (a * factors).sum(), totals[1] + (b * factors.double()).sum()]
    if not totals[0].requires_grad:
        return
    grads = [torch.autograd.grad(t, values, allow_unused=True) for t, values in zip(totals, (ours, exact))]
    for a, b in zip(*grads):
        torch.testing.assert_close(a.double(), torch.zeros_like(a).double() if b is None else b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("contraction", [False, True])
def test_pictures_in_training_are_asked_in_rounds_and_show_what_torch_does(
    contraction: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    field, rays = a_field(contraction), some_rays()
    trainer = RadianceTrainer(field, TrainingSettings(split_steps=(), steps_per_scene=60))
    asked: list[object] = []
    rounds = render.fused_rounds
    monkeypatch.setattr(render, "fused_rounds", lambda *given: asked.append(rounds(*given)) or asked[-1])
    ours = trainer.look(rays, torch.ones(len(rays[0]), 3), None, 1e-3)[1]
    assert len(asked) == 1 and asked[0] is not None
    monkeypatch.setenv(SWITCH, "0")
    theirs = trainer.look(rays, torch.ones(len(rays[0]), 3), None, 1e-3)[1]
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("scaled", [0.0, 0.8])
def test_steps_make_the_same_field_on_any_number_of_threads(contraction: bool, scaled: float) -> None:
    found = []
    for count in (1, 3):
        with threads(count):
            field = a_field(contraction)
            settings_ = TrainingSettings(split_steps=(), gradient_scaling=scaled, harmonics_loss_mult=1e-3)
            trainer, optimizer = RadianceTrainer(field, settings_), Adam(field.parameters(), lr=1e-2, eps=1e-15)
            torch.manual_seed(5)
            for step in range(4):
                trainer.begin(step, [optimizer])
                view = trainer.render(*some_rays())
                losses = trainer.losses(view, torch.full((len(some_rays()[0]), 3), 0.5))
                optimizer.zero_grad()
                sum(losses.values()).backward()
                optimizer.step()
            found.append([p.detach().clone() for p in field.parameters()])
    assert all(map(torch.equal, *found))
    assert not torch.equal(found[0][0], next(a_field(contraction).parameters()))
