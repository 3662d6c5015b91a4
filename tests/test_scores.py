"""Over which pixels a rendered image is scored."""

import math

import pytest
import torch

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
    assert set(scores) == {"psnr", "ssim", "counted_pixels", "psnr_inside"} and all(map(math.isfinite, scores.values()))
    assert set(image_scores(TRUTH[:8], TRUTH[:8])) == {"psnr"}, "SSIM's window does not fit"
