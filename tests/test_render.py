"""Laws of the one render path: compositing, cropping, and that nerfstudio's model shows the same to the bit."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_scene import EYE, small_scene

from lg_field import Region, crop
from lg_field.radiance.cameras import Camera
from lg_field.radiance.compositing import Samples, composite, image_on, over, straight_alpha
from lg_field.radiance.outputs import EXTRAS, OUTPUTS, distinct_colors, ray_output
from lg_field.radiance.render import ask, ask_view, field_samples, picture, render, render_rays, shade, show

FIELD = small_scene()
CAMERA = Camera(torch.tensor(FIELD.description.camera).double(), 1.2, 20, 14)


def some_rays() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(v.view(-1, 3) for v in CAMERA.rays())  # type: ignore[return-value]


@st.composite
def packed(draw) -> tuple[Samples, torch.Tensor, torch.Tensor, int]:
    """Samples, densities and colours of some rays, some of them without a sample."""
    rays = draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    counts = torch.randint(0, 5, (rays,), generator=generator)
    owner = torch.arange(rays).repeat_interleave(counts)
    gaps = torch.rand(len(owner), 2, generator=generator).double() + 0.01
    ends = gaps.sum(1).cumsum(0)
    density = torch.randn(len(owner), generator=generator).double().exp() * draw(st.sampled_from([0.0, 1.0, 100.0]))
    colors = torch.rand(len(owner), 3, generator=generator).double()
    return Samples(owner, ends - gaps[:, 1], ends), density, colors, rays


@given(packed())
def test_what_rays_see_is_a_mixture(case):
    samples, density, colors, rays = case
    rgb, accumulation, depth = composite(density, colors, samples, rays, 50.0)
    assert bool(((accumulation >= 0) & (accumulation <= 1 + 1e-9)).all())
    assert bool((rgb <= accumulation + 1e-9).all()) and bool((rgb >= 0).all())
    absorbed = torch.zeros(rays, dtype=torch.float64).index_add(0, samples.rays, density * samples.lengths)
    torch.testing.assert_close(accumulation[:, 0], -torch.expm1(-absorbed), rtol=1e-9, atol=1e-12)
    hit = accumulation[:, 0] > 1e-3
    assert bool((depth[~hit] == 50.0).all())
    for ray in hit.nonzero()[:, 0]:
        of = samples.rays == ray
        assert samples.starts[of].min() <= depth[ray] <= samples.ends[of].max()


@given(packed(), st.integers(0, 5))
def test_a_sample_cut_in_two_changes_nothing(case, number: int):
    samples, density, colors, rays = case
    if len(density) == 0:
        return
    k = number % len(density)
    middle = samples.middles[k : k + 1]
    twice = [torch.cat([v[: k + 1], v[k:]]) for v in (samples.rays, density, colors)]
    starts = torch.cat([samples.starts[: k + 1], middle, samples.starts[k + 1 :]])
    ends = torch.cat([samples.ends[:k], middle, samples.ends[k:]])
    cut = composite(twice[1], twice[2], Samples(twice[0], starts, ends), rays, 50.0)
    whole = composite(density, colors, samples, rays, 50.0)
    for a, b in zip(cut[:2], whole[:2]):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@given(st.integers(0, 10**6))
def test_taking_a_background_away_is_the_inverse_of_putting_it_behind(seed: int):
    generator = torch.Generator().manual_seed(seed)
    color, alpha, background = (torch.rand(5, n, generator=generator) for n in (3, 1, 3))
    seen = over(color * alpha, alpha, background)
    rgba = straight_alpha(seen, alpha, background)
    assert torch.equal(rgba[:, 3:], alpha)
    error = (rgba[:, :3] - color).abs() * alpha
    assert float(error.max()) < 1e-3
    torch.testing.assert_close(image_on(rgba, background), seen, rtol=0, atol=2e-3)
    assert torch.equal(image_on(color, background), color)


def test_a_picture_is_its_rays_however_they_are_cut():
    whole = render(FIELD, FIELD.description, CAMERA)
    origins, directions = some_rays()
    assert whole.rgb.shape == (14, 20, 3) and whole.accumulation.max() > 0.9
    parts = [render_rays(FIELD, FIELD.description, o, d) for o, d in zip(origins.split(37), directions.split(37))]
    for a, b in zip(whole, map(torch.cat, zip(*parts))):
        torch.testing.assert_close(a.view(280, -1), b, rtol=1e-4, atol=1e-5)


def test_the_render_of_a_crop_is_the_crop_of_the_render():
    """Whether the other cells' rows are gone, or are there and hidden."""
    region = Region.box((-1.0, -1.0, -1.0), (0.3, 0.6, 0.9))
    small, origins, directions = crop(FIELD, region), *some_rays()
    hidden = FIELD.selected(torch.arange(FIELD.num_rows))
    hidden.occupied[~torch.isin(hidden.cells, small.cells)] = False
    hidden.region = region
    one, other = (ask_view(f, FIELD.description, origins, directions) for f in (small, hidden))
    assert small.num_rows < FIELD.num_rows and torch.equal(one.positions, other.positions)
    assert region.contains(one.positions).all()
    ours, theirs = (show(asked, 1000.0, torch.ones(3)) for asked in (one, other))
    assert ours.accumulation.max() > 0.9
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    none = torch.nn.functional.normalize(origins, dim=1)  # away from the scene
    nothing = render_rays(small, FIELD.description, origins, none)
    assert (nothing.rgb == 1).all() and (nothing.accumulation == 0).all() and (nothing.depth == 1000.0).all()


def test_gradients_do_not_depend_on_who_looks():
    """Training composites the same samples to the same colours as a render does."""
    origins, directions = some_rays()
    near, far = torch.full_like(origins[:, 0], 0.05), torch.full_like(origins[:, 0], 1000.0)
    samples = field_samples(FIELD, origins, directions, near, far, FIELD.description.step)
    asked = ask(FIELD, origins, directions, samples)
    trained = picture(asked, shade(asked), 1000.0, torch.ones(3))
    shown = render_rays(FIELD, FIELD.description, origins, directions, 0.0)
    assert trained.rgb.requires_grad and not shown.rgb.requires_grad
    assert torch.equal(trained.rgb.clamp(0, 1), shown.rgb) and torch.equal(trained.depth, shown.depth)


def test_every_output_has_a_name_and_an_unknown_one_is_refused():
    scene, asked = FIELD.description, ask_view(FIELD, FIELD.description, *some_rays())
    whole = render_rays(FIELD, scene, *some_rays())
    for name in OUTPUTS:
        value, accumulation, depth = ray_output(asked, scene, name)
        assert len(value) == 280 and torch.equal(accumulation, whole.accumulation) and torch.equal(depth, whole.depth)
    assert torch.equal(ray_output(asked, scene, "rgb")[0], whole.rgb) and EXTRAS == ("cells", "density", "seam")
    with pytest.raises(ValueError, match="output must be one of rgb"):
        ray_output(asked, scene, "colour")
    colors = distinct_colors(torch.arange(64))
    assert len(colors.unique(dim=0)) == 64 and 0.15 <= float(colors.min()) <= float(colors.max()) <= 1.0


@settings(max_examples=20)
@given(st.floats(0.2, 2.0), st.integers(1, 40), st.integers(1, 40))
def test_a_cameras_rays_go_through_its_pixels(focal: float, width: int, height: int):
    camera = Camera(torch.tensor(FIELD.description.camera).double(), focal, width, height)
    origins, directions = camera.rays()
    assert torch.allclose(origins, torch.tensor(EYE)) and torch.allclose(directions.norm(dim=-1), torch.ones(()))
    local = directions.double() @ camera.to_scene[:3, :3]
    x, y = (local[..., k] / -local[..., 2] * focal * height for k in (0, 1))
    torch.testing.assert_close(x[0], torch.arange(width).double() + 0.5 - width / 2, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(y[:, 0], height / 2 - torch.arange(height).double() - 0.5, atol=1e-3, rtol=1e-4)


def test_nerfstudios_model_shows_the_same_to_the_bit():
    pytest.importorskip("nerfstudio", reason="the plugin needs nerfstudio")
    from small_model import bundle, make_model

    from lg_field.radiance.scene import Scene

    for color in ("white", "black"):
        model, rays = make_model(render_background_color=color).eval(), bundle()
        step, back = model.step_length, {"white": (1.0,) * 3, "black": (0.0,) * 3}[color]
        scene = Scene(FIELD.description.scene_to_world, background=back, near=0.05, far=1000.0, step=step)
        ours = render_rays(model.table, scene, rays.origins, rays.directions)
        for name, value in model(rays).items():
            assert torch.equal(value, getattr(ours, name))
