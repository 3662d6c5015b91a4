"""The table of activations: what its entries are, that networks of each begin well and live in files, and new ones."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from commands import picture
from test_ops import make

import lg_field
from lg_field import PartitionGrid, Region, crop
from lg_field.networks import LocalGlobalNetwork
from lg_field.networks.incode import Harmonizer, ModulatedWeights
from lg_field.networks.initialization import init_rows, init_shared
from lg_field.ops import ChainSizes, activation_names, local_global_chain
from lg_field.ops.activations import ACTIVATIONS, Activation, activation_named, kaiming_weights, usual_biases
from lg_field.signals import SignalData, decode
from lg_field.signals.fit import Fit, FitConfig
from lg_field.signals.signal import Signal

every = pytest.mark.parametrize("name", activation_names())


def alone(name: str, w0: float, x: torch.Tensor) -> torch.Tensor:
    """One neuron whose linear output is x, and an output layer that passes it on: the activation itself."""
    ones, zeros = torch.ones(1, 1, dtype=x.dtype), torch.zeros(1, dtype=x.dtype)
    shared = {"global_weight_0": ones, "global_bias_0": zeros, "head_weight": ones, "head_bias": zeros}
    sizes = ChainSizes(1, 1, 0, 1, 0, name, w0)
    table = torch.zeros(1, 0, dtype=x.dtype)
    return local_global_chain(x[:, None], torch.tensor([0, len(x)]), table, shared, sizes)[:, 0]


def test_the_functions_are_those_of_their_papers() -> None:
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)
    torch.testing.assert_close(alone("sine", 30.0, x), torch.sin(30 * x))
    torch.testing.assert_close(alone("relu", 30.0, x), x.clamp_min(0))
    torch.testing.assert_close(alone("gauss", 30.0, x), torch.exp(-((10 * x) ** 2)))
    sigma = 1 / (math.sqrt(2) * 5.0)
    torch.testing.assert_close(alone("gauss", 15.0, x), torch.exp(-(x**2) / (2 * sigma**2)))


def test_an_unknown_activation_is_refused_with_the_names_there_are() -> None:
    for make_one in (lambda: ChainSizes(2, 1, 4, 5, 1, "siren"), lambda: activation_named("siren")):
        with pytest.raises(ValueError, match="unknown activation 'siren': use one of sine, relu, gauss"):
            make_one()
    field = LocalGlobalNetwork(PartitionGrid((2,), (-1.0,), (1.0,)), ChainSizes(1, 1, 3, 4, 1))
    with pytest.raises(ValueError, match="unknown activation 'siren'"):
        LocalGlobalNetwork.from_config(field.grid, field.config() | {"activation": "siren"}, field.cells)


@every
def test_initial_weights_are_within_the_bounds_and_reach_them(name: str) -> None:
    sizes = ChainSizes(2, 3, 8, 32, 2, name, 20.0)
    act, shared = sizes.act, init_shared(sizes, torch.Generator().manual_seed(0))
    bounds = {
        "global_weight_0": act.weight_bound(2, True, sizes.rate),
        "global_bias_0": act.bias_bound(2, True, sizes.rate),
        "global_weight_1": act.weight_bound(32, False, sizes.rate),
        "global_bias_1": act.bias_bound(32, False, sizes.rate),
        "merge_weight": act.weight_bound(40, False, sizes.rate),
    }
    for tensor, bound in bounds.items():
        assert 0.8 * bound < float(shared[tensor].abs().max()) <= bound
    rows = init_rows(sizes, 50, torch.Generator().manual_seed(0))
    (first, first_bias), *_, (last, _) = sizes.views(rows)
    assert 0.9 * bounds["global_weight_0"] < float(first.abs().max()) <= bounds["global_weight_0"]
    assert 0.9 * bounds["global_bias_0"] < float(first_bias.abs().max()) <= bounds["global_bias_0"]
    assert float(last.abs().max()) <= act.weight_bound(8, False, sizes.rate)


@every
def test_signals_and_gradients_pass_through_deep_networks_at_the_start(name: str) -> None:
    sizes = ChainSizes(2, 1, 0, 128, 4, name)
    shared = {k: v.requires_grad_() for k, v in init_shared(sizes, torch.Generator().manual_seed(0)).items()}
    x = torch.rand(2000, 2, generator=torch.Generator().manual_seed(1)) * 2 - 1
    out = local_global_chain(x, torch.tensor([0, 2000]), torch.zeros(1, 0), shared, sizes)
    grads = torch.autograd.grad(out.square().mean(), [shared[f"global_weight_{k}"] for k in range(5)])
    sizes_of = [float(g.norm()) for g in grads]
    assert float(out.detach().std()) > 1e-4 and min(sizes_of) > 1e-3 * max(sizes_of) > 0


def small_fit(name: str, widths: tuple[int, int] = (10, 24)) -> tuple[LocalGlobalNetwork, float]:
    """A picture of 32 x 32 in 2 x 2 cells, 150 steps; the field and the PSNR of the last step."""
    torch.manual_seed(0)
    data = SignalData(torch.from_numpy(picture(32, 32)), Signal("image", (32, 32), 3))
    field = LocalGlobalNetwork(PartitionGrid((2, 2), (-1, -1), (1, 1)), ChainSizes(2, 3, *widths, 1, name))
    field.description = data.signal
    errors: list[float] = []
    Fit(field, data, FitConfig(steps=150, lr=3e-3, lr_factor=1.0)).run(lambda step, error: errors.append(error))
    return field, -10 * math.log10(errors[-1] / 4)


@pytest.mark.parametrize("widths", [(10, 24), (12, 0), (0, 32)])
def test_a_small_picture_fits_with_bells(widths: tuple[int, int]) -> None:
    _, bells = small_fit("gauss", widths)
    _, ramps = small_fit("relu", widths)
    assert bells > 28 and bells > ramps + 3


@every
def test_fields_of_every_activation_live_in_files(tmp_path: Path, name: str) -> None:
    field, _ = small_fit(name, (4, 6))
    lg_field.save(field, tmp_path / "a")
    loaded = lg_field.load(tmp_path / "a")
    assert loaded.config() == field.config() and loaded.config()["activation"] == name
    half = Region.box((-1, -1), (0, 1))
    lg_field.save(crop(loaded, half), tmp_path / "half")
    assert torch.equal(lg_field.load(tmp_path / "half").local, lg_field.load(tmp_path / "a", half).local)
    whole, part, read = (
        torch.cat(list(decode(f)))
        for f in (field.eval(), lg_field.load(tmp_path / "half"), lg_field.load(tmp_path / "a", half))
    )
    assert torch.equal(part[:16], whole[:16]) and torch.equal(part, read)


@every
def test_only_modulated_activations_take_incode(name: str) -> None:
    field = LocalGlobalNetwork(PartitionGrid((2,), (-1.0,), (1.0,)), ChainSizes(1, 1, 3, 4, 1, name))
    harmonizer = Harmonizer(torch.rand(4), (3,), 3)
    if activation_named(name).modulated:
        assert ModulatedWeights(field, harmonizer, 30.0, False).kinds == ("local", "global", "merge")
    else:
        with pytest.raises(ValueError, match=f"INCODE modulates sine layers .* got concat and {name}"):
            ModulatedWeights(field, harmonizer, 30.0, False)


def test_a_new_entry_never_runs_as_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Activation(lambda p: p * torch.sigmoid(p), lambda w0: 1.0, kaiming_weights, usual_biases)
    monkeypatch.setitem(ACTIVATIONS, "swish", entry)
    sizes = ChainSizes(2, 1, 6, 5, 2, "swish")
    x, offsets, table, shared, _ = make(sizes, [7, 0, 12], torch.float32)
    wanted = local_global_chain(x, offsets, table, shared, sizes, backend="reference")
    torch.testing.assert_close(local_global_chain(x, offsets, table, shared, sizes), wanted, rtol=1e-5, atol=1e-5)
    ramp = local_global_chain(x, offsets, table, shared, ChainSizes(2, 1, 6, 5, 2, "relu"))
    assert not torch.allclose(wanted, ramp, atol=1e-3)
    with pytest.raises(ValueError, match="\"cpu\" cannot run: it does not know the activation 'swish'"):
        local_global_chain(x, offsets, table, shared, sizes, backend="cpu")
