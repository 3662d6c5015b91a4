"""INCODE: the fold is the modulated network, the paper's counts, and files that are ordinary fields."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import lg, picture, tone
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field import PartitionGrid, Region, crop
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.incode import Harmonizer, ModulatedWeights, modulated_kinds
from lg_field.ops import ChainSizes
from lg_field.signals import SignalData, decode
from lg_field.signals.encode import build_fit
from lg_field.signals.features import cepstral_coefficients, mel_filters
from lg_field.signals.fit import Fit
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal


def modulated(shape: ChainSizes, counts: tuple[int, ...], first_w0: float, unit: bool) -> ModulatedWeights:
    """With scalars of every size and sign, in float64."""
    torch.manual_seed(0)
    grid = PartitionGrid(counts, (-1.0,) * len(counts), (1.0,) * len(counts))
    field = LocalGlobalNetwork(grid, shape)
    field.description = Signal("image", (16, 12), 3)
    harmonizer = Harmonizer(torch.rand(7), (5,), len(modulated_kinds(shape)))
    torch.nn.init.normal_(harmonizer.mlp[-1].bias, std=0.4)
    weights = ModulatedWeights(field, harmonizer, first_w0, unit).double()
    weights.field = field.double()  # type: ignore[assignment]
    return weights


def restated(weights: ModulatedWeights, x: torch.Tensor, rows: torch.Tensor, first_w0: float) -> torch.Tensor:
    """Layers exp(a) sin(exp(b) w0 (W x + b0) + c) + d written out, point by point, from the unfolded weights."""
    shape, scalars = weights.sizes, weights.scalars()

    def layer(kind: str, w0: float, linear: torch.Tensor) -> torch.Tensor:
        a, b, c, d = scalars[kind]
        return a.exp() * torch.sin(b.exp() * w0 * linear + c) + d

    m = g = x
    layers = [(w[rows], b[rows, 0]) for w, b in shape.views(weights.local)]
    for k in range(shape.depth):
        first = first_w0 if k == 0 else shape.w0
        if shape.global_width:
            linear = g @ weights.shared[f"global_weight_{k}"] + weights.shared[f"global_bias_{k}"]
            g = layer("global", shape.w0 if shape.local_width else first, linear)
        if shape.local_width:
            m = layer("local", first, torch.einsum("mi,mio->mo", m, layers[k][0]) + layers[k][1])
        if shape.merges:
            linear = torch.cat([m, g], -1) @ weights.shared["merge_weight"] + weights.shared["merge_bias"]
            m = layer("merge", shape.w0, linear)
    if shape.local_width:
        out = torch.einsum("mi,mio->mo", m, layers[-1][0]) + layers[-1][1]
    else:
        out = g @ weights.shared["head_weight"] + weights.shared["head_bias"]
    return 2 * out - 1 if weights.unit_values else out


@settings(max_examples=30)
@given(
    widths=st.sampled_from([(5, 7), (6, 0), (0, 8)]),
    layers=st.integers(0, 3),
    first_w0=st.sampled_from([30.0, 10.0]),
    unit=st.booleans(),
)
def test_the_fold_is_the_modulated_network_in_value_and_gradient(widths, layers, first_w0, unit):
    weights = modulated(ChainSizes(2, 3, *widths, layers), (2, 3), first_w0, unit)
    field, points = weights.field, torch.rand(60, 2, dtype=torch.float64) * 2 - 1
    rows = field.locate_rows(points)
    wanted = restated(weights, points, rows, first_w0)
    weights.write_to(field)
    torch.testing.assert_close(field(points), wanted, rtol=1e-9, atol=1e-9)

    part = crop(field, Region.box((-1, -1), (0, 1)))
    inside = points[:, 0] < 0
    torch.testing.assert_close(part(points)[inside], wanted[inside], rtol=1e-9, atol=1e-9)

    folded = weights.fold()
    named = dict(weights.trainable())
    used = {k: v for k, v in named.items() if v.numel()}
    fields = torch.func.functional_call(
        field, {"local": folded["table"]} | {f"shared.{k}": v for k, v in folded.items() if k != "table"}, (points,)
    )
    for ours, theirs in zip(
        torch.autograd.grad(fields.square().sum(), list(used.values())),
        torch.autograd.grad(restated(weights, points, rows, first_w0).square().sum(), list(used.values())),
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("counts", "widths", "layers", "channels", "hidden", "norm", "shared", "local"),
    [
        ((6, 8), (34, 68), 3, 3, (64, 32), False, 24_418, 181_296),
        ((2, 4), (80, 82), 3, 3, (32, 16, 12), True, 36_792, 159_384),
        ((1, 2), (230, 300), 1, 1, (64, 32), False, 219_966, 108_102),
    ],
    ids=["super-resolution", "denoising", "ct"],
)
def test_the_counts_of_the_paper(counts, widths, layers, channels, hidden, norm, shared, local):
    field = LocalGlobalNetwork(PartitionGrid(counts, (-1, -1), (1, 1)), ChainSizes(2, channels, *widths, layers))
    weights = ModulatedWeights(field, Harmonizer(torch.zeros(64), hidden, 3, norm=norm), 30.0, True)
    assert weights.num_parameters() == {"local": local, "shared": shared, "total": local + shared}


def test_the_penalty_is_the_papers_sum_over_the_sets():
    weights = modulated(ChainSizes(2, 3, 4, 5, 1), (2, 2), 30.0, False)
    total = 0.0
    for scalars in weights.scalars().values():
        total += sum(k * max(0.0, -v) for k, v in zip((0.1993, 0.0196, 0.0588, 0.0269), scalars.tolist()))
    assert total > 0 and float(weights.penalty().detach()) == pytest.approx(total)


def test_training_reaches_every_part_and_resumes_exactly(tmp_path: Path):
    data = SignalData(torch.from_numpy(picture(32, 24)), Signal("image", (32, 24), 3))
    config = NetworkConfig(counts=(2, 2), local_width=8, global_width=10, activation="incode", harmonizer=(8,))

    def fit(steps: int) -> Fit:
        return build_fit(data, config, FitConfig(steps=steps, lr=1e-3, lr_factor=1.0, global_lr_scale=0.5))

    one, two = fit(20), fit(10)
    before = {k: v.detach().clone() for k, v in one.weights.items()}
    one.run()
    assert all(not torch.equal(v, before[k]) for k, v in one.weights.items())
    two.run()
    two.save_state(tmp_path / "state")
    two = fit(20)
    two.load_state(tmp_path / "state")
    two.run()
    assert all(torch.equal(v, two.weights[k]) for k, v in one.weights.items())
    assert torch.equal(one.field.local, two.field.local)


def test_an_encoded_file_is_an_ordinary_field(tmp_path: Path):
    from PIL import Image

    Image.fromarray(picture(32, 48)).save(tmp_path / "a.png")
    sizes = ("--counts", 2, 3, "--local-width", 10, "--global-width", 12)
    common = (*sizes, "--steps", 80, "--lr", 1e-3, "--lr-factor", 1)
    text = lg("encode", "a.png", "-o", "a", "--activation", "incode", *common, cwd=tmp_path)
    assert "PSNR" in text
    history = lg_field.load(tmp_path / "a").history
    assert history["harmonizer_parameters"] == 64 * 64 + 64 + 64 * 32 + 32 + 32 * 12 + 12
    assert set(history["scalars"]) == {"local", "global", "merge"} and history["psnr"] > 15
    lg("crop", "a", "--box", 0, 0, 16, 16, "-o", "part", cwd=tmp_path)
    whole, part = (torch.cat(list(decode(lg_field.load(tmp_path / n)))) for n in ("a", "part"))
    assert torch.equal(whole[:16, :16], part[:16, :16]) and (part[16:] == 0).all()
    error = lg(
        "encode", "a.png", "-o", "x", "--activation", "incode", "--merge", "add", *common, cwd=tmp_path, fails=True
    )
    assert "use --merge concat" in error and error.count("\n") == 1
    missing = ("--activation", "incode", "--harmonizer-weights", "pretrained")
    error = lg("encode", "a.png", "-o", "x", *missing, *common, cwd=tmp_path, fails=True)
    assert "no pretrained weights at" in error and not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["audio", "video", "volume"])
def test_sounds_videos_and_volumes_have_harmonizers(kind: str):
    shape = {"audio": (3000,), "video": (4, 24, 20), "volume": (12, 10, 8)}[kind]
    values = {
        "audio": tone(3000)[:, None],
        "video": np.stack([picture(24, 20)] * 4),
        "volume": np.linspace(0, 1, 960, dtype=np.float32).reshape(12, 10, 8, 1),
    }[kind]
    samples = torch.from_numpy(values)
    dtype, high = ("uint8", 255.0) if kind == "video" else ("float32", 1.0)
    low = -1.0 if kind == "audio" else 0.0
    signal = Signal(kind, shape, samples.shape[-1], dtype, (low, high), 8000.0 if kind == "audio" else 0.0)
    features = signal.traits.features(samples, signal)
    assert features.shape == ((50,) if kind == "audio" else (64,)) and bool(features.isfinite().all())
    assert torch.equal(features, signal.traits.features(samples, signal)), "the extractor's weights are fixed"
    other = signal.traits.features(samples.flip(0) // 2 if kind == "video" else samples.flip(0) * 0.1, signal)
    assert not torch.allclose(features, other)
    config = NetworkConfig(counts=(2,) * len(shape), local_width=8, global_width=8, activation="incode")
    fit = build_fit(SignalData(samples, signal), config, FitConfig(steps=40, lr=1e-3, sample_fraction=1.0, overlap=0))
    errors: list[float] = []
    fit.run(lambda step, error: errors.append(error))
    assert errors[-1] < 0.7 * errors[0]


def test_cepstral_coefficients_tell_pitches_apart():
    """A tone's energy lies in the mel band of its pitch; the transform back from cepstrum finds it."""
    rate = 8000.0
    filters = mel_filters(rate)
    assert filters.shape == (50, 201) and (filters >= 0).all() and filters.max() <= 1
    t = torch.arange(8000) / rate
    transform = torch.cos(torch.pi / 50 * torch.arange(50.0)[:, None] * (torch.arange(50) + 0.5)) * (2 / 50) ** 0.5
    transform[0] /= 2**0.5
    for pitch in (300.0, 1000.0, 3000.0):
        bands = transform.T @ cepstral_coefficients(torch.sin(2 * torch.pi * pitch * t), rate).mean(1)
        heard = filters[int(bands.argmax())].argmax() * rate / 400
        assert abs(float(heard) - pitch) < 0.15 * pitch


def test_shapes_have_a_harmonizer_too():
    from lg_field.signals.encode import domain_grid
    from lg_field.signals.shapes.occupancy import from_array, shape_cells

    at = np.stack(np.mgrid[:26, :20, :18]) - np.array([13, 10, 9])[:, None, None, None]
    data = from_array((at**2).sum(0) < 49, "ball")
    coarse = data.overview(1000)
    assert coarse.signal.num_samples <= 1000 and coarse.signal.shape == (9, 7, 6)
    assert float(data.overview(10**6).samples.sum()) == data.voxels.count()
    assert float(coarse.samples[:8, :6, :6].sum()) * 27 == pytest.approx(data.voxels.count(), rel=1e-5)
    config = NetworkConfig(counts=(2, 2, 2), local_width=8, global_width=8, activation="incode", harmonizer_bias=0.0005)
    cells = shape_cells(data, domain_grid(data.signal, config), 1)
    fit = build_fit(data, config, FitConfig(steps=90, lr=2e-3, points=1500), cells=cells)
    errors: list[float] = []
    fit.run(lambda step, error: errors.append(error))
    assert errors[-1] < 0.5 * errors[0]
