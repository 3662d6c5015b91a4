"""The laws of defaults that follow the size of a signal: its domain, its budget, and cells that learn alike wherever
they lie."""

from __future__ import annotations

import math

import pytest
import torch
from commands import picture

from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.signals import SignalData
from lg_field.signals.centering import center
from lg_field.signals.encode import build_fit, build_network, chain_sizes, domain_grid, say_too_fine
from lg_field.signals.extend import extend_to
from lg_field.signals.fit import Fit
from lg_field.signals.registry import KINDS
from lg_field.signals.settings import FitConfig, NetworkConfig, Settings, resolve, resolve_network
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

SHAPES = {
    "image": [(512, 512), (700, 90), (3060, 4080)],
    "audio": [(308_207,), (3_000_000,)],
    "video": [(40, 144, 176), (300, 1080, 1920)],
    "volume": [(96, 96, 96), (512, 300, 40)],
}


def data() -> SignalData:
    return SignalData(torch.from_numpy(picture(24, 24)), Signal("image", (24, 24), 3))


def errors(at: float, config: FitConfig, activation: str = "sine", steps: int = 40) -> list[float]:
    """Errors of the steps of one cell's network in a domain of length 1 about a place, from the same function of what
    lies about its middle."""
    sizes = ChainSizes(2, 3, 16, 0, 1, activation)
    field = LocalGlobalNetwork(
        PartitionGrid((1, 1), (at - 0.5,) * 2, (at + 0.5,) * 2), sizes, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        weight, bias = sizes.views(field.local)[0]
        bias -= at * weight.sum(1, keepdim=True)
    found: list[float] = []
    Fit(field, data(), config).run(lambda step, error: found.append(error), steps)
    return found


@pytest.mark.parametrize("activation", ["sine", "gauss", "relu"])
def test_cells_learn_alike_wherever_they_lie(activation: str) -> None:
    centered = FitConfig(steps=1000, lr=2e-3, center_cells=True)
    middle, far = errors(0.0, centered, activation), errors(64.0, centered, activation)
    assert max(abs(a - b) / a for a, b in zip(middle, far)) < 0.02


def test_without_that_cells_far_away_learn_less() -> None:
    far, plain = (errors(64.0, FitConfig(steps=1000, lr=2e-3, center_cells=c)) for c in (True, False))
    assert plain[-1] > 1.1 * far[-1]


def test_about_the_middle_of_the_domain_centering_changes_nothing() -> None:
    one, other = (errors(0.0, FitConfig(steps=1000, center_cells=c)) for c in (True, False))
    assert one == pytest.approx(other, rel=1e-3)


def test_biases_of_sines_stay_within_a_period() -> None:
    network = NetworkConfig(counts=(3, 3), coordinate_scale=50.0)
    fit = build_fit(data(), network, FitConfig(steps=5, center_cells=True))
    fit.run()
    _, bias = fit.field.sizes.views(fit.field.local.detach())[0]
    assert bias.abs().max() <= math.pi / fit.field.sizes.rate + 1e-6


@pytest.mark.parametrize("activation", ["gauss", "relu"])
def test_fresh_cells_begin_about_their_middles(activation: str) -> None:
    """Bells and bends of cells that are far from the domain's middle would lie outside them."""
    network = NetworkConfig(network="per-partition", counts=(2, 2), coordinate_scale=40.0, activation=activation)
    field = build_fit(data(), network, FitConfig(center_cells=True)).field
    plain = build_network(data().signal, network)
    middles = field.grid.boxes(field.cells).mean(1).float()
    for f, wanted in ((field, 0.0), (plain, 1.0)):
        weight, bias = f.sizes.views(f.local.detach())[0]
        at_middle = (middles[:, :, None] * weight).sum(1, keepdim=True) + bias
        spread = float((at_middle - plain.sizes.views(plain.local.detach())[0][1]).abs().max())
        assert (spread > 1.0) == bool(wanted)


def test_rows_that_stay_are_not_moved() -> None:
    field = build_network(data().signal, NetworkConfig(counts=(1, 2), activation="gauss"))
    larger, _, fresh = extend_to(field, SignalData(data().samples.repeat(1, 2, 1), Signal("image", (24, 48), 3)))
    before = larger.local.detach().clone()
    center(larger, fresh)
    old = torch.ones(larger.num_rows, dtype=torch.bool)
    old[fresh] = False
    assert torch.equal(larger.local[old], before[old]) and not torch.equal(larger.local[fresh], before[fresh])


@pytest.mark.parametrize("kind", list(SHAPES))
def test_samples_are_as_far_apart_in_large_signals_as_in_small_ones(kind: str) -> None:
    steps = set()
    for shape in SHAPES[kind]:
        grid = domain_grid(Signal(kind, shape, 3), NetworkConfig())
        steps.add(tuple(round((b - a) / n, 9) for a, b, n in zip(grid.lower, grid.upper, shape)))
    assert len(steps) == 1
    scaled = domain_grid(Signal(kind, SHAPES[kind][-1], 3), NetworkConfig(coordinate_scale=2.0))
    assert set(scaled.upper) == {2.0}


@pytest.mark.parametrize("kind", list(SHAPES))
def test_large_signals_have_parameters_in_proportion_most_of_them_in_cells(kind: str) -> None:
    config, least = resolve_network(kind), 0
    large = SHAPES[kind][-1]
    for shape in (large, tuple(2 * n for n in large)):
        signal = Signal(kind, shape, 3)
        rows = domain_grid(signal, config).num_cells
        count = chain_sizes(signal, config, rows).count(rows)
        assert count["total"] == pytest.approx(config.per_sample * signal.num_samples, rel=0.1)
        assert count["shared"] < 0.02 * count["total"] and count["total"] > 1.5 * least
        least = count["total"]
    said = resolve_network(kind, NetworkConfig(parameters=300_000))
    assert chain_sizes(Signal(kind, large, 3), said, 9).count(9)["total"] == pytest.approx(300_000, rel=0.05)


def test_samples_that_coordinates_hardly_tell_apart_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    for n, said in (
        (8_000_000, ""),
        (10_000_000, "lie 0.0016 apart"),
        (40_000_000, "coordinates tell apart"),
    ):
        signal = Signal("audio", (n,), 1)
        say_too_fine(signal, domain_grid(signal, NetworkConfig()))
        line = capsys.readouterr().err
        assert said in line and bool(line) == bool(said)


@pytest.mark.parametrize("kind", list(SHAPES))
def test_incode_keeps_the_papers_domain_and_share(kind: str) -> None:
    incode, plain = (resolve(kind, Settings(NetworkConfig(activation=a))) for a in ("incode", "sine"))
    assert (incode.network.coordinate_step, incode.network.global_share, incode.fit.center_cells) == (0.0, 0.1, False)
    assert plain.network.coordinate_step > 0.0 and plain.network.global_share == 0.0 and plain.fit.center_cells
    assert incode.network.per_sample == plain.network.per_sample
    said = resolve(
        kind, Settings(NetworkConfig(activation="incode", coordinate_step=0.5), FitConfig(center_cells=True))
    )
    assert said.network.coordinate_step == 0.5 and said.fit.center_cells


@pytest.mark.parametrize(
    "network",
    [NetworkConfig(coordinate_step=-0.1), NetworkConfig(coordinate_scale=-1.0), NetworkConfig(per_sample=-1.0)],
)
def test_negative_numbers_are_refused(network: NetworkConfig) -> None:
    with pytest.raises(ValueError, match="must not be negative, got"):
        build_network(data().signal, network)


def test_what_says_the_same_twice_is_refused() -> None:
    for twice in ({"coordinate_scale": 2.0, "coordinate_step": 0.1}, {"parameters": 5000, "per_sample": 2.0}):
        with pytest.raises(ValueError, match="give either --"):
            build_network(data().signal, NetworkConfig(**twice))


def test_long_sounds_have_more_cells() -> None:
    counts = [KINDS["audio"].counts((n,))[0] for n in (5, 22_050, 537_936, 8_000_000)]
    assert counts == [5, 32, 32, 400]
