"""Super-resolution by the means of pixels: its loss, its windows, and the command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import lg, picture
from forked import forked
from PIL import Image

import lg_field
from lg_field.ops import local_global_chain, sort_by_row
from lg_field.restoration import averages, pictures, super_resolution
from lg_field.restoration.averages import AveragesFit
from lg_field.restoration.tasks import PRIORS
from lg_field.signals.decode import decode, decoded_signal
from lg_field.signals.settings import FitConfig, NetworkConfig

PRIOR = PRIORS["super-resolve"]


def fit_of(points: int = 0, smoothness: float = 0.01, seed: int = 0) -> AveragesFit:
    """To a coarse picture of 6 x 8 pixels in cells whose borders run through blocks of the fine one."""
    values = torch.rand(6, 8, 3, generator=torch.Generator().manual_seed(seed))
    coarse = pictures.from_values(values)
    network = NetworkConfig(counts=(5, 3), local_width=4, global_width=5, hidden_layers=1)
    config = FitConfig(steps=3, points=points, seed=seed)
    return averages.build_fit(coarse, decoded_signal(coarse.signal, 2), 2, network, config, PRIOR, smoothness)


@pytest.mark.parametrize("points", [0, 100])
def test_the_gradient_of_the_means_reaches_the_weights(points: int, monkeypatch: pytest.MonkeyPatch):
    """It is that of the loss written out over the picture, or over the windows that were drawn."""
    monkeypatch.setattr(averages, "WINDOW", 8)
    fit = fit_of(points)
    table, shared = fit.table.detach().requires_grad_(), {k: v.detach().requires_grad_() for k, v in fit.shared.items()}
    state = fit.generator.get_state()
    error = fit.gradients(table, shared)
    fit.generator.set_state(state)
    rows, columns = fit.windows()
    assert rows.shape == ((1, 6) if points == 0 else (1, 4)) and columns.shape[1] == (8 if points == 0 else 4)

    y, x = torch.meshgrid(torch.arange(12), torch.arange(16), indexing="ij")
    at = torch.stack([fit.axes[0][y], fit.axes[1][x]], dim=-1).view(-1, 2)
    by_row = sort_by_row(fit.row_of_sample, len(table))
    sorted_values = local_global_chain(at[by_row.order], by_row.offsets, table, shared, fit.field.sizes)
    shown = torch.empty_like(sorted_values).index_copy(0, by_row.order, sorted_values).view(12, 16, 3)
    wanted = fit.wanted
    errors, rough = [], [[], []]
    for r, c in zip(rows, columns):
        part = shown[int(r[0]) * 2 : int(r[-1]) * 2 + 2, int(c[0]) * 2 : int(c[-1]) * 2 + 2]
        means = part.unflatten(0, (-1, 2)).unflatten(2, (-1, 2)).mean((1, 3))
        errors.append((means - wanted[r][:, c]).square())
        for axis in (0, 1):
            r, g, b = part.diff(dim=axis).unbind(-1)
            grey = (r + g + b) / 3
            square = grey**2 / 3 + (r - grey) ** 2 + (g - grey) ** 2 + (b - grey) ** 2
            rough[axis].append((square + 1e-4).sqrt())
    mean = torch.stack(errors).mean()
    assert error == pytest.approx(float(mean.detach()), rel=1e-4)
    loss = mean + 0.01 * sum(torch.stack(r).mean() for r in rough)
    used = {k: v for k, v in (shared | {"table": table}).items() if v.numel()}
    for name, gradient in zip(used, torch.autograd.grad(loss, list(used.values()))):
        torch.testing.assert_close(used[name].grad, gradient, rtol=2e-3, atol=2e-4 * float(gradient.abs().max()))


def test_the_roughness_of_one_channel_is_its_total_variation_and_no_channel_is_another():
    picture = torch.rand(2, 5, 4, 3, generator=torch.Generator().manual_seed(0))
    grey = picture[..., :1]
    total = grey.diff(dim=1).abs().mean() + grey.diff(dim=2).abs().mean()
    torch.testing.assert_close(averages.roughness(grey), total, rtol=2e-2, atol=0)
    torch.testing.assert_close(averages.roughness(picture[..., [2, 0, 1]]), averages.roughness(picture))
    assert averages.roughness(grey[:, :1, :1]) == 0.0
    tinted = torch.cat([grey, -grey, torch.zeros_like(grey)], dim=-1)
    assert averages.roughness(tinted) > 2 * averages.roughness(grey.expand_as(picture)), "colour counts more"


def test_windows_see_pixels_at_the_edges_as_often_as_others():
    fit = fit_of(points=64 * 300)
    fit.wanted = torch.zeros(40, 60, 3)
    seen = torch.zeros(40, 60)
    for _ in range(60):
        rows, columns = fit.windows()
        seen.index_put_((rows[:, :, None], columns[:, None, :]), torch.ones(()), accumulate=True)
    seen /= seen.mean()
    inner = seen[8:-8, 8:-8].mean()
    for edge in (seen[:4], seen[-4:], seen[:, :4], seen[:, -4:]):
        assert 0.8 < float(edge.mean() / inner) < 1.25


@pytest.mark.parametrize("command", PRIORS)
def test_a_larger_picture_has_more_cells_of_the_same_network(command: str):
    """And every step looks at all of it: what the defaults do for a small picture they do for a large one."""
    prior, fits = PRIORS[command], []
    side = prior.settings.network.cell_size[0]  # type: ignore[index]
    for cells in (3, 6, 12):
        data = pictures.from_values(torch.rand(cells * side, cells * side, 3))
        network, config = prior.settings.network, prior.settings.fit
        fits.append(averages.build_fit(data, decoded_signal(data.signal, 2), 2, network, config, prior, 0.1))
    assert [f.field.num_rows for f in fits] == [9, 36, 144]
    assert fits[1].field.sizes == fits[2].field.sizes
    assert abs(fits[0].field.sizes.local_width - fits[1].field.sizes.local_width) <= 1
    assert all(f.places().points.shape[0] == f.data.signal.num_samples for f in fits)
    data, one = pictures.from_values(torch.rand(12 * side, 12 * side, 3)), replace(network, network="global")
    whole = averages.build_fit(data, decoded_signal(data.signal, 2), 2, one, config, prior, 0.1)
    assert whole.num_parameters()["total"] == pytest.approx(averages.MOST, rel=0.02), "every pixel passes all of it"


def test_a_smooth_picture_is_found_better_than_by_bicubic_enlargement():
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    truth = torch.stack([(((x - 0.5) ** 2 + (y - 0.4) ** 2) < 0.1).float(), x, y], dim=-1)
    coarse, truth = super_resolution.downsample(truth, 4)
    data = pictures.from_values(coarse)
    network, config = NetworkConfig(counts=(2, 2), parameters=4000), FitConfig(steps=250, lr=2e-3, lr_factor=0.1)
    fit = averages.build_fit(data, decoded_signal(data.signal, 4), 4, network, config, PRIOR, 0.002)
    fit.run()
    shown = torch.cat(list(decode(fit.field, raw=True)))
    found = pictures.compare(fit.data.signal.traits.unit_values(shown), truth)["psnr"]
    assert found > pictures.compare(super_resolution.bicubic(coarse, (64, 64)), truth)["psnr"] + 0.2


def test_the_command_enlarges_by_means_and_the_field_decodes_to_the_same(tmp_path: Path):
    Image.fromarray(picture(64, 80)).save(tmp_path / "true.png")
    text = lg("super-resolve", "true.png", "-o", "a.png", "--simulate", "--averages", "--steps", 30, cwd=tmp_path)
    assert "bicubic" in text and Image.open(tmp_path / "a.png").size == (80, 64)
    assert lg_field.load(tmp_path / "a.safetensors").num_parameters()["total"] < 13.5 * 20 * 16
    forked("lg-field", "decode", "a.safetensors", "-o", "again.png", cwd=tmp_path)
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "a.png").read_bytes()
    for words, match in (
        (("--scale", 2.5), "--scale must be a whole number, got 2.5"),
        (("--scale", 2, "--smoothness", -1), "--smoothness must be finite and not negative, got -1"),
        (("--scale", 2, "--overlap", 1), "whole windows are drawn, by --points"),
    ):
        text = lg("super-resolve", "true.png", "-o", "b.png", "--averages", *words, cwd=tmp_path, fails=True)
        assert match in text and text.count("\n") == 1
    assert not (tmp_path / "b.png").exists()


def test_noise_is_taken_away(tmp_path: Path):
    Image.fromarray(picture(64, 80)).save(tmp_path / "true.png")
    words = ("denoise", "true.png", "--simulate", "--smoothness", 0.1, "--steps", 150, "--lr", 2e-3)
    lg(*words, "-o", "a.png", "--save-input", "noisy.png", cwd=tmp_path)
    true, noisy, found = (
        pictures.values_of(pictures.read_picture(tmp_path / n)) for n in ("true.png", "noisy.png", "a.png")
    )
    assert pictures.compare(found, true)["psnr"] > pictures.compare(noisy, true)["psnr"] + 3
