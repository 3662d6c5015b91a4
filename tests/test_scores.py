"""Over which pixels a rendered image is scored."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_field.quality import FIT_PIXELS, color_fitted, mean_squared_error
from lg_field.training.scores import image_scores

TRUTH = torch.rand(24, 32, 3, generator=torch.Generator().manual_seed(0))


def test_a_pixel_that_does_not_count_changes_nothing():
    counted = torch.zeros(24, 32, dtype=torch.bool)
    counted[4:20, 6:30] = True
    rendered = (TRUTH + 0.1).clamp(0, 1)
    spoiled = torch.where(counted[..., None], rendered, torch.rand_like(rendered))
    first, second = (image_scores(image, TRUTH, counted=counted) for image in (rendered, spoiled))
    assert first == second and math.isclose(first["counted_pixels"], 16 * 24 / (24 * 32))
    assert first["psnr"] != image_scores(spoiled, TRUTH)["psnr"]
    assert image_scores(TRUTH, TRUTH, counted=counted)["ssim"] == pytest.approx(1.0)


def test_inside_an_alpha_the_background_does_not_help():
    alpha = torch.zeros(24, 32)
    alpha[10:14, 10:14] = 1.0
    rendered = torch.where(alpha[..., None] > 0, TRUTH + 0.1, TRUTH)
    scores = image_scores(rendered, TRUTH, alpha)
    assert scores["psnr_inside"] == pytest.approx(20.0, abs=1e-3)
    assert scores["psnr"] == pytest.approx(20.0 + 10 * math.log10(24 * 32 / 16), abs=1e-3)
    half = torch.zeros(24, 32, dtype=torch.bool)
    half[:, :12] = True
    assert image_scores(rendered, TRUTH, alpha, half)["psnr_inside"] == pytest.approx(20.0, abs=1e-3)


def test_images_without_such_pixels_still_have_the_same_scores():
    """An average over images needs each score of each."""
    nothing = torch.zeros(24, 32)
    scores = image_scores(TRUTH + 0.1, TRUTH, nothing, nothing.bool())
    named = {"psnr", "psnr_color_fitted", "ssim", "counted_pixels", "psnr_inside"}
    assert set(scores) == named and all(map(math.isfinite, scores.values()))
    few = image_scores(TRUTH[:8], TRUTH[:8])
    assert set(few) == {"psnr", "psnr_color_fitted"}, "SSIM's window does not fit"


def change(seed: int) -> torch.Tensor:
    """(3, 4) of a photo of another exposure and white balance."""
    noise = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
    return torch.eye(3, 4) * 0.7 + 0.1 * noise * torch.tensor([1, 1, 1, 0.3])


@given(seed=st.integers(0, 1000), masked=st.booleans(), noise=st.sampled_from([0.0, 0.02]))
@settings(max_examples=25, deadline=None)
def test_another_exposure_is_no_error_once_colors_are_fitted(seed, masked, noise):
    affine, scene = change(seed), 0.3 + 0.4 * TRUTH
    photo = scene @ affine[:, :3].T + affine[:, 3]
    inside = (photo > 0.0).all(-1) & (photo < 1.0).all(-1)
    photo = (photo + noise * torch.randn(photo.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)
    inside[:12] &= not masked
    scores = image_scores(scene, photo, counted=inside)
    assert scores["psnr"] <= scores["psnr_color_fitted"] + 1e-6
    assert scores["psnr_color_fitted"] > (100.0 if noise == 0.0 else 33.0), scores
    assert scores["psnr"] < 40.0, "it is as it was"


@given(seed=st.integers(0, 1000), share=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_fitted_colors_are_never_farther_off_and_others_stay(seed, share):
    generator = torch.Generator().manual_seed(seed)
    rendered, fit = torch.rand(TRUTH.shape, generator=generator), torch.rand(24, 32, generator=generator) < share
    fitted = color_fitted(rendered, TRUTH, fit)
    assert torch.equal(fitted[~fit], rendered[~fit]) and 0.0 <= float(fitted.min()) <= float(fitted.max()) <= 1.0
    assert mean_squared_error(fitted, TRUTH) <= mean_squared_error(rendered, TRUTH) + 1e-9
    if int(fit.sum()) < FIT_PIXELS:
        assert torch.equal(fitted, rendered), "as many numbers as pixels fit anything"


def test_of_a_plain_picture_the_smallest_change_is_taken():
    plain, other = torch.full((24, 32, 3), 0.5), torch.full((24, 32, 3), 0.25)
    everywhere = torch.ones(24, 32, dtype=torch.bool)
    assert torch.allclose(color_fitted(plain, other, everywhere), other, atol=1e-6)
    assert torch.equal(color_fitted(TRUTH, TRUTH, everywhere), TRUTH)


def test_the_background_of_a_cut_out_object_is_not_fitted():
    alpha = torch.zeros(24, 32)
    alpha[4:20, 4:28] = 1.0
    truth = torch.where(alpha[..., None] > 0, 0.5 * TRUTH, 1.0)
    rendered = torch.where(alpha[..., None] > 0, TRUTH, 1.0)
    scores = image_scores(rendered, truth, alpha)
    assert scores["psnr_color_fitted"] > 100.0 > scores["psnr_inside"]
