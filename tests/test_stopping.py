"""Laws of rays that end where nothing more can be seen: what they show is the full sum, to what was asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import small_scene
from torch import Tensor

from lg_field.radiance.cameras import Camera
from lg_field.radiance.compositing import Samples, composite
from lg_field.radiance.outputs import OUTPUTS, least_light_of, ray_output
from lg_field.radiance.render import ask, ask_view, field_samples, picture, render, render_rays, shade
from lg_field.radiance.stopping import PICTURES, TRAINING, look_at_once, look_front_to_back
from lg_field.radiance.training import RadianceTrainer, TrainingSettings

SHADE = 1.0 / 255.0
Case = tuple[Samples, Tensor, Tensor, int]


@st.composite
def rays(draw) -> tuple[Samples, Tensor, Tensor, int]:
    """Samples, densities and colours of some rays, from thin haze to walls; some rays have none, some many."""
    count, most = draw(st.integers(1, 8)), draw(st.sampled_from([3, 30, 100]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    owner = torch.arange(count).repeat_interleave(torch.randint(0, most, (count,), generator=generator))
    gaps = torch.rand(len(owner), 2, generator=generator).double() + 0.01
    ends = gaps.sum(1).cumsum(0)
    density = torch.randn(len(owner), generator=generator).double().mul(3).exp() * draw(st.sampled_from([0, 0.01, 1]))
    colors = torch.rand(len(owner), 3, generator=generator).double()
    return Samples(owner, ends - gaps[:, 1], ends), density, colors, count


WAYS = st.sampled_from([look_front_to_back, look_at_once])


def stopped(case: Case, least_light: float, way: Callable) -> tuple[Tensor, Samples, Tensor, Tensor]:
    """Numbers of the samples that are kept, those samples, and what was said of them."""
    samples, density, colors, count = case

    def look(some: Samples) -> tuple[Tensor, Tensor]:
        at = torch.searchsorted(samples.starts, some.starts)
        return density[at], colors[at]

    some, thick, seen = way(look, samples, count, least_light)
    return torch.searchsorted(samples.starts, some.starts), some, thick, seen


@settings(max_examples=60)
@given(rays(), st.sampled_from([PICTURES, TRAINING, 0.1]), WAYS)
def test_what_is_left_out_weighs_less_than_was_asked_for(case: Case, least_light: float, way: Callable) -> None:
    samples, density, colors, count = case
    kept, some, thick, seen = stopped(case, least_light, way)
    whole, ours = composite(density, colors, samples, count, 50.0), composite(thick, seen, some, count, 50.0)
    assert torch.equal(thick, density[kept]) and torch.equal(seen, colors[kept])
    for a, b in zip(whole[:2], ours[:2]):
        assert bool((a >= b - 1e-9).all()) and bool((a - b <= least_light).all())
    lost = (whole[1] - ours[1]).abs()
    last = torch.zeros(count, dtype=torch.float64).scatter_reduce(0, samples.rays, samples.ends, "amax")[:, None]
    deep = ours[1] > 0.1
    assert bool(((whole[2] - ours[2]).abs() <= last * lost * 10 + 1e-9)[deep].all())
    for ray in range(count):  # the first of each ray, and all of those that are not dark
        of = (some.rays == ray).nonzero()[:, 0]
        assert torch.equal(kept[of], (samples.rays == ray).nonzero()[: len(of), 0])


@given(rays(), WAYS)
def test_without_a_limit_nothing_is_left_out(case: Case, way: Callable) -> None:
    kept, some, thick, seen = stopped(case, 0.0, way)
    assert torch.equal(kept, torch.arange(len(case[1]))) and all(map(torch.equal, some, case[0]))
    assert torch.equal(thick, case[1]) and torch.equal(seen, case[2])


@given(rays(), st.integers(0, 7), WAYS)
def test_a_ray_ends_where_it_ends_alone(case: Case, number: int, way: Callable) -> None:
    samples, density, colors, count = case
    ray = number % count
    kept, some, _, _ = stopped(case, PICTURES, way)
    alone = (samples.rays == ray).nonzero()[:, 0]
    own = Samples(torch.zeros_like(alone), samples.starts[alone], samples.ends[alone])
    by_itself, *_ = stopped((own, density[alone], colors[alone], 1), PICTURES, way)
    assert torch.equal(kept[some.rays == ray], alone[by_itself])


@pytest.mark.parametrize("contraction", [False, True])
@pytest.mark.parametrize("pieces", [1000, 60, 7])
def test_pictures_are_those_of_the_full_sum(contraction: bool, pieces: int) -> None:
    field = small_scene(contraction=contraction)
    camera = Camera(torch.tensor(field.description.camera).double(), 1.2, 16, 12)
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    whole = render(field, field.description, camera, least_light=0.0)
    parts = [
        render_rays(field, field.description, o, d) for o, d in zip(origins.split(pieces), directions.split(pieces))
    ]
    for name, a, b in zip(whole._fields, whole, map(torch.cat, zip(*parts))):
        tolerance = SHADE * (field.description.far if name == "depth" and contraction else 1.0)
        assert float((a.view(192, -1) - b).abs().max()) < tolerance
    again = [render_rays(field, field.description, o, d, 0.0) for o, d in ((origins, directions),)]
    torch.testing.assert_close(again[0].rgb, whole.rgb.view(-1, 3), rtol=0, atol=1e-6)
    fewer = ask_view(field, field.description, origins, directions)
    assert len(fewer.density) < 0.9 * len(ask_view(field, field.description, origins, directions, 0.0).density)


def test_every_output_is_that_of_the_full_sum() -> None:
    field = small_scene()
    camera = Camera(torch.tensor(field.description.camera).double(), 1.2, 16, 12)
    scene, seen = field.description, [v.view(-1, 3) for v in camera.rays()]
    for name in OUTPUTS:
        ours, whole = (ask_view(field, scene, *seen, least) for least in (least_light_of(name), 0.0))
        for a, b in zip(ray_output(ours, scene, name), ray_output(whole, scene, name)):
            torch.testing.assert_close(a, b, rtol=0, atol=SHADE if name != "seam" else 0.02, equal_nan=True)


def test_gradients_are_those_of_the_full_sum() -> None:
    field = small_scene().train()
    camera = Camera(torch.tensor(field.description.camera).double(), 1.2, 20, 16)
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    near, far = torch.full_like(origins[:, 0], 0.05), torch.full_like(origins[:, 0], 1000.0)
    samples = field_samples(field, origins, directions, near, far, field.description.step)
    parameters = [p for p in field.parameters() if p.requires_grad and p.numel()]
    grads = {}
    for least in (0.0, TRAINING):
        asked = ask(field, origins, directions, samples, least_light=least)
        loss = (picture(asked, shade(asked), 1000.0, None).rgb - 0.5).square().mean()
        grads[least] = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters)])
    full, ours = grads[0.0], grads[TRAINING]
    assert float((full - ours).norm() / full.norm()) < 5 * TRAINING


def test_training_asks_for_what_is_seen_and_remembers_where_rays_went() -> None:
    field = small_scene().train()
    camera = Camera(torch.tensor(field.description.camera).double(), 1.2, 20, 16)
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    seen = {}
    for least in (0.0, TRAINING):
        field.occupancy.seen.fill_(False)
        torch.manual_seed(0)
        trainer = RadianceTrainer(field, TrainingSettings(least_light=least, harmonics_loss_mult=0.1))
        view = trainer.render(origins, directions)
        losses = trainer.losses(view, torch.rand(len(origins), 3))
        assert all(bool(loss.isfinite()) for loss in losses.values())
        seen[least] = len(view.asked.density), field.occupancy.seen.clone(), view.stride
    assert seen[TRAINING][0] < 0.9 * seen[0.0][0]
    assert torch.equal(seen[0.0][1], seen[TRAINING][1]) and seen[0.0][2] == seen[TRAINING][2]
    for bad in (-0.1, 1.0):
        with pytest.raises(ValueError, match="least_light must"):
            TrainingSettings(least_light=bad).check()


def test_renders_of_a_run_end_where_they_are_told_to_and_whole_rays_do_not() -> None:
    pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
    from small_model import bundle, make_model

    asked = {}
    for name, options in (
        ("default", {}),
        ("never", {"render_least_light": 0.0}),
        ("soon", {"render_least_light": 0.5}),
    ):
        model = make_model(**options).eval()
        model.extras = lambda seen, shown, name=name: asked.update({name: len(seen.density)}) or {}
        pictures = dict.fromkeys((False, True))
        for whole in pictures:
            model.whole_rays = whole
            pictures[whole] = model(bundle())
            asked[name, whole] = asked[name]
        limit = max(model.config.render_least_light, 1e-6)
        assert float((pictures[True]["rgb"] - pictures[False]["rgb"]).abs().max()) <= limit
        assert float((pictures[True]["accumulation"] - pictures[False]["accumulation"]).abs().max()) <= limit
    assert asked["soon", False] < asked["default", False] <= asked["never", False]
    assert len({asked[name, True] for name in ("default", "never", "soon")} | {asked["never", False]}) == 1
