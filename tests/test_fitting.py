"""The laws of fitting: gradients, batches, budgets, presets, samples of every depth."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg, picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from lg_field.networks.budget import sizes_for_budget
from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, accumulate_gradients, local_global_chain
from lg_field.signals import SignalData, read_signal
from lg_field.signals.decode import sample_rows
from lg_field.signals.encode import build_network, domain_grid
from lg_field.signals.fit import Fit
from lg_field.signals.metrics import measure, psnr_of_rows
from lg_field.signals.presets import CONFIGS, read_settings
from lg_field.signals.settings import CompleteFit, FitConfig, NetworkConfig, resolve
from lg_field.signals.signal import Signal


@given(counts=st.lists(st.integers(0, 40), min_size=1, max_size=9), chunk=st.integers(1, 60))
@settings(max_examples=40)
def test_gradients_in_chunks_are_those_of_the_whole(counts: list[int], chunk: int) -> None:
    torch.manual_seed(0)
    shape = ChainSizes(2, 3, 4, 5, 1)
    table = init_rows(shape, len(counts)).double().requires_grad_()
    shared = {k: v.double().requires_grad_() for k, v in init_shared(shape).items()}
    offsets = torch.tensor([0, *np.cumsum(counts).tolist()])
    x, y = (torch.rand(int(offsets[-1]) + 1, n, dtype=torch.float64) for n in (2, 3))
    offsets[-1] += 1
    parameters = [table, *shared.values()]
    loss = (local_global_chain(x, offsets, table, shared, shape) - y).square().mean()
    wanted = torch.autograd.grad(loss, parameters)
    error = accumulate_gradients(x, offsets, y, table, shared, shape, chunk)
    assert math.isclose(error, float(loss.detach()), rel_tol=1e-5)
    assert all(torch.allclose(p.grad, w, atol=1e-12) for p, w in zip(parameters, wanted))


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (picture(7, 11), "uint8"),
        (picture(7, 11, 4), "uint8"),
        (picture(7, 11, 1)[..., 0], "uint8"),
        (picture(1, 5), "uint8"),
        (picture(7, 11, 1, 65535)[..., 0], "uint16"),
        (picture(7, 11, 3, 65535), "uint16"),
        (picture(7, 11, 4, 65535), "uint16"),
    ],
)
def test_images_of_every_depth_come_back_to_the_bit(array: np.ndarray, dtype: str, tmp_path: Path) -> None:
    from lg_field.signals.kinds.image import write_image

    path = tmp_path / "p.png"
    deep = array.astype(np.int32) if dtype == "uint16" else array
    write_image(torch.from_numpy(deep.reshape(*array.shape[:2], -1)), path)
    data = read_signal(path)
    assert data.signal.dtype == dtype and np.array_equal(data.samples.numpy(), deep.reshape(*array.shape[:2], -1))
    again = data.signal.denormalize(data.signal.normalize(data.samples))
    assert torch.equal(again, data.samples)


@pytest.mark.parametrize("shape", [(1, 9), (37, 53), (64, 64)])
@pytest.mark.parametrize("network", ["local-global", "per-partition", "global"])
def test_odd_sizes_train_and_decode(shape: tuple[int, int], network: str) -> None:
    array = torch.from_numpy(picture(*shape))
    data = SignalData(array, Signal("image", shape, 3))
    counts = tuple(min(4, n) for n in shape)
    config = NetworkConfig(network=network, counts=counts, parameters=8000)
    field = build_network(data.signal, config)
    start = measure(field, data)["psnr"]
    for fraction in (1.0, 0.5):
        Fit(field, data, FitConfig(steps=30, lr=5e-4, lr_factor=1.0, sample_fraction=fraction)).run()
    assert measure(field, data)["psnr"] > start + 3
    everything = torch.arange(field.num_rows)
    assert math.isclose(psnr_of_rows(field, data, everything), measure(field, data)["psnr"], abs_tol=1e-3)


@pytest.mark.parametrize("overlap", [1, 3])
def test_an_overlap_gives_every_cell_its_own_samples_and_those_around(overlap: int) -> None:
    shape, counts = (37, 53), (3, 4)
    data = SignalData(torch.from_numpy(picture(*shape)), Signal("image", shape, 3))
    field = build_network(data.signal, NetworkConfig(counts=counts, parameters=8000))
    x, offsets, target = Fit(field, data, FitConfig(overlap=overlap)).batch()
    lower, upper = torch.tensor(field.grid.lower), torch.tensor(field.grid.upper)
    pixel = ((x - lower) / (upper - lower) * torch.tensor(shape)).long()
    assert torch.equal(target, data.signal.normalize(data.samples[tuple(pixel.T)]))
    assert len(offsets.diff().unique()) == 1
    rows = sample_rows(field, data.signal)
    for row in range(field.num_rows):
        seen = torch.zeros(shape, dtype=torch.bool)
        seen[tuple(pixel[offsets[row] : offsets[row + 1]].T)] = True
        assert seen.sum() == offsets[1]  # none twice
        own = (rows == row).float()
        around = torch.nn.functional.max_pool2d(own[None], 2 * overlap + 1, 1, overlap)[0] > 0
        assert bool(seen[around].all()) and bool((own > 0)[seen].float().mean() > 0.4)


def test_samples_a_step_by_number_are_all_of_a_small_signal(tmp_path: Path) -> None:
    assert CompleteFit(points=50).share(200) == 0.25 and CompleteFit(points=50).share(20) == 1.0
    Image.fromarray(picture(48, 64)).save(tmp_path / "image.png")
    say = ("encode", "image.png", "--parameters", 4000, "--steps", 1, "--overwrite", "-o", "image")
    assert "all samples a step" in lg(*say, "--points", 9999, cwd=tmp_path)
    assert "25.00% of the samples a step" in lg(*say, "--points", 768, cwd=tmp_path)


@given(
    budget=st.integers(20_000, 3_000_000),
    cells=st.integers(1, 400),
    share=st.floats(0.05, 0.15),
    axes=st.integers(1, 3),
    merge=st.sampled_from(["concat", "add"]),
)
@settings(max_examples=60)
def test_budgets_are_met(budget: int, cells: int, share: float, axes: int, merge: str) -> None:
    shape = sizes_for_budget("local-global", cells, axes, 3, budget, share, merge=merge)  # type: ignore[arg-type]
    count = shape.count(cells)
    wider = sizes_for_budget("per-partition", cells, axes, 3, budget).count(cells)["total"]
    finest = cells * 8 * (shape.local_width + 2)  # what one neuron more in every cell costs, about
    assert abs(count["total"] - budget) <= max(0.02 * budget, 0.5 * finest), (count, shape)
    assert wider > 0 and count["local"] + count["shared"] == count["total"]


def test_presets_are_the_papers_networks() -> None:
    """The counts that follow from the paper's formulas and widths (paper.md)."""
    signals = {
        "image": Signal("image", (512, 512), 3),
        "audio": Signal("audio", (308_207,), 1, "float32", (-1.0, 1.0), 44_100.0),
        "video": Signal("video", (300, 512, 512), 3),
        "shape": Signal("occupancy", (512, 512, 512), 1, "bool", (0.0, 1.0)),
        "super": Signal("image", (336, 504), 3),
        "denoising": Signal("image", (288, 512), 3),
        "ct": Signal("image", (256, 256), 1),
    }

    def formula(local: int, cells: int, glob: int, d: int, o: int) -> int:
        total = cells * (d * local + local + 3 * (local * local + local) + local * o + o) if local else 0
        total += d * glob + glob + 3 * (glob * glob + glob) if glob else 0
        total += (local + glob) * local + local if local and glob else 0
        return total + (glob * o + o if glob and not local else 0)

    expected = {
        "image-div2k": formula(14, 256, 84, 2, 3),
        "image-div2k-per-partition": formula(15, 256, 0, 2, 3),
        "image-div2k-global": formula(0, 0, 256, 2, 3),
        "audio": formula(42, 32, 72, 1, 1),
        "audio-per-partition": formula(45, 32, 0, 1, 1),
        "audio-global": formula(0, 0, 256, 1, 1),
        "video": formula(55, 320, 180, 3, 3),
        "video-2-percent": formula(55, 320, 180, 3, 3),
        "video-per-partition": formula(56, 320, 0, 3, 3),
        "video-global": formula(0, 0, 1030, 3, 3),
        "shape": formula(17, 512, 76, 3, 1),
        "shape-per-partition": formula(18, 512, 0, 3, 1),
        "shape-global": formula(0, 0, 256, 3, 1),
    }
    assert expected["image-div2k-global"] == 198_915
    for path in sorted(CONFIGS.glob("*.yaml")):
        described = signals[path.stem.split("-")[0]]
        settings_ = resolve(described.traits, read_settings(path))
        field = build_network(described, settings_.network)
        total = field.num_parameters()["total"]
        assert total == expected.get(path.stem, total)
        if "auto" in path.stem.split("-per")[0] and settings_.network.network == "local-global":
            assert abs(total / settings_.network.parameters - 1) < 0.02, path
        assert domain_grid(described, settings_.network).counts == field.grid.counts
