"""Colours that one photo alone shows: what they weigh, and where that is asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lg_field import PartitionGrid
from lg_field.radiance.color_loss import color_loss
from lg_field.radiance.exposure import Exposure
from lg_field.radiance.field import RadianceField
from lg_field.radiance.sizes import RadianceSizes
from lg_field.radiance.training import RadianceTrainer, TrainingSettings


@given(st.integers(0, 10**6), st.floats(0.01, 1.0))
def test_small_differences_count_squared_and_large_ones_in_proportion(seed: int, limit: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(7, 3, generator=generator, dtype=torch.float64)
    near = truth + limit * (2.0 * torch.rand(7, 3, generator=generator, dtype=torch.float64) - 1.0)
    assert float(color_loss(near, truth, limit)) == pytest.approx(float((near - truth).square().mean()))
    far = (truth + 3.0 * limit).requires_grad_()
    color_loss(far, truth, limit).backward()
    assert far.grad is not None
    torch.testing.assert_close(far.grad, torch.full_like(truth, 2.0 * limit / truth.numel()))
    assert float(color_loss(far.detach(), truth)) == pytest.approx(9.0 * limit * limit)


def test_what_most_photos_show_outvotes_a_passer_by() -> None:
    seen = torch.full((10, 3), 0.4)
    seen[0] = 1.0
    found = {}
    for limit in (0.0, 0.1):
        color = torch.full((1, 3), 0.5, requires_grad=True)
        optimizer = torch.optim.Adam([color], lr=0.01)
        for _ in range(400):
            optimizer.zero_grad()
            color_loss(color.expand(10, 3), seen, limit).backward()
            optimizer.step()
        found[limit] = float((color.detach() - 0.4).abs().max())
    assert found[0.0] == pytest.approx(0.06, abs=2e-3) and found[0.1] < 0.2 * found[0.0]


@pytest.mark.parametrize("limit", [0.0, 0.05])
def test_photos_of_other_exposures_are_compared_so(limit: float) -> None:
    torch.manual_seed(0)
    field = RadianceField(PartitionGrid((2, 2, 2), (-1.0,) * 3, (1.0,) * 3), RadianceSizes())
    settings = replace(TrainingSettings(background_color="white"), outliers_from=limit)
    trainer = RadianceTrainer(field, settings)
    origins = torch.tensor([[0.0, 0.0, 3.0]]).repeat(32, 1)
    directions = torch.nn.functional.normalize(torch.randn(32, 3) * 0.1 + torch.tensor([0.0, 0.0, -1.0]), dim=1)
    truth, exposure = torch.rand(32, 3), Exposure(2)
    for develop in (None, lambda rgb, part: exposure(rgb, part, torch.zeros(32, dtype=torch.int64))):
        view = trainer.render(origins, directions, develop=develop)
        loss = trainer.losses(view, truth)["rgb_loss"].detach()
        rgb, image = trainer.compare(view, truth)
        square = (rgb - image).square().mean().detach()
        assert float(trainer.error) == pytest.approx(float(square)), "what is told is the squared error either way"
        alone = limit if develop is not None else 0.0
        torch.testing.assert_close(loss, color_loss(rgb, image, alone).detach())
        assert (float(loss) < 0.9 * float(square)) == bool(alone)


def test_a_limit_below_nothing_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="outliers_from must not be negative"):
        TrainingSettings(outliers_from=-0.1).check()
