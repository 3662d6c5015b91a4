"""Going on from a saved state: to the bit with the same settings, refused with any other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import picture

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import SignalData
from lg_field.signals.encode import build_fit
from lg_field.signals.fit import Fit
from lg_field.signals.settings import FitConfig, NetworkConfig
from lg_field.signals.signal import Signal
from lg_field.signals.state import fingerprint

FIT = FitConfig(steps=6, lr=1e-3, lr_factor=0.5, sample_fraction=0.4, overlap=1)
NETWORK = NetworkConfig(counts=(2, 2), local_width=4, global_width=4, hidden_layers=1, first_w0=10.0)
OTHER_FIT: dict[str, Any] = {
    "steps": 7,
    "lr": 2e-3,
    "lr_factor": 0.4,
    "global_lr_scale": 0.5,
    "sample_fraction": 0.5,
    "points": 30,
    "stratified": False,
    "sample": "uniform",
    "overlap": 2,
    "center_cells": False,
    "seed": 1,
}
OTHER_NETWORK: dict[str, Any] = {
    "network": "per-partition",
    "counts": (2, 3),
    "parameters": 5000,
    "per_sample": 20.0,
    "global_share": 0.2,
    "local_width": 5,
    "global_width": 5,
    "hidden_layers": 2,
    "merge": "concat",
    "w0": 20.0,
    "first_w0": 20.0,
    "activation": "incode",
    "harmonizer": (8,),
    "harmonizer_bias": 0.1,
    "harmonizer_norm": True,
    "harmonizer_weights": "pretrained",
    "coordinate_scale": 0.5,
    "coordinate_step": 0.5,
    "cell_size": (8, 8),
}
"""Another value of every setting, where the first one is not the only one that this network can have."""


def data(seed: int = 0) -> SignalData:
    samples = torch.from_numpy(picture(20, 18)).roll(seed, 0)
    return SignalData(samples, Signal("image", (20, 18), 3))


def fit_of(fit: FitConfig = FIT, network: NetworkConfig = NETWORK, signal: SignalData | None = None) -> Fit:
    return build_fit(signal or data(), network, fit)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state after three of six steps."""
    fit = fit_of()
    fit.run(lambda step, error: setattr(fit, "stopping", step == 3))
    path = tmp_path_factory.mktemp("states") / "three.resume"
    fit.save_state(path)
    return path


def test_every_setting_has_another_value_here() -> None:
    for other, config in ((OTHER_FIT, FitConfig), (OTHER_NETWORK, NetworkConfig)):
        assert other.keys() == {f.name for f in dataclasses.fields(config)}


def test_going_on_gives_the_weights_of_a_run_without_a_stop(saved: Path) -> None:
    straight, broken = fit_of(), fit_of()
    straight.run()
    broken.load_state(saved)
    assert broken.step == 3
    broken.run()
    for name, value in straight.field.named_parameters():
        assert torch.equal(value, dict(broken.field.named_parameters())[name]), name


def test_a_loaded_state_is_what_the_field_shows(saved: Path) -> None:
    once, again = fit_of(), fit_of()
    once.run(lambda step, error: setattr(once, "stopping", step == 3))
    again.load_state(saved)
    assert torch.equal(once.field.local, again.field.local)


@pytest.mark.parametrize("name", list(OTHER_FIT))
def test_another_setting_of_training_is_refused_by_name(saved: Path, name: str) -> None:
    other = fit_of(dataclasses.replace(FIT, **{name: OTHER_FIT[name]}))
    before = {k: v.detach().clone() for k, v in other.weights.items()}
    with pytest.raises(ValueError, match=rf"another fit: .*{name}.*\(here ") as caught:
        other.load_state(saved)
    assert "\n" not in str(caught.value) and other.step == 0
    assert all(torch.equal(v, before[k]) for k, v in other.weights.items())


@pytest.mark.parametrize("name", [n for n in OTHER_NETWORK if n != "merge"])
def test_another_network_is_refused_by_name(saved: Path, name: str) -> None:
    """A state saved with first_w0=10 must not go on with 20: the weights have the same shapes."""
    change: dict[str, Any] = {name: OTHER_NETWORK[name]}
    change |= {"counts": None} if name == "cell_size" else {}
    with pytest.raises(ValueError, match=rf"another fit: .*{name}"):
        fit_of(network=dataclasses.replace(NETWORK, **change)).load_state(saved)


def test_more_steps_go_on_where_the_rate_does_not_fall(tmp_path: Path) -> None:
    level = dataclasses.replace(FIT, lr_factor=1.0)
    short = fit_of(level)
    short.run()
    short.save_state(tmp_path / "s")
    longer, straight = (fit_of(dataclasses.replace(level, steps=9)) for _ in range(2))
    longer.load_state(tmp_path / "s")
    longer.run()
    straight.run()
    assert torch.equal(longer.field.local, straight.field.local) and longer.step == 9


def test_another_signal_is_refused_though_its_sum_is_the_same(saved: Path) -> None:
    assert int(data(3).samples.sum()) == int(data().samples.sum())
    with pytest.raises(ValueError, match="samples"):
        fit_of(signal=data(3)).load_state(saved)


def test_old_cells_and_the_cells_to_train_must_agree(tmp_path: Path) -> None:
    whole = fit_of(network=dataclasses.replace(NETWORK, first_w0=None)).field
    assert isinstance(whole, LocalGlobalNetwork)

    def extension(rows: list[int], change: float = 0.0) -> Fit:
        field = lg_field.crop(whole, cells=[0, 1, 2, 3])
        with torch.no_grad():
            field.local[0] += change
        return Fit(field, data(), FIT, torch.tensor(rows))

    first = extension([2, 3])
    first.save_state(tmp_path / "s")
    extension([2, 3]).load_state(tmp_path / "s")
    with pytest.raises(ValueError, match="cells"):
        extension([1, 3]).load_state(tmp_path / "s")
    with pytest.raises(ValueError, match="old cells"):
        extension([2, 3], 0.1).load_state(tmp_path / "s")


def test_other_files_are_one_line(saved: Path, tmp_path: Path) -> None:
    torch.save({"weights": {}}, tmp_path / "foreign")
    torch.save([1, 2], tmp_path / "list")
    (tmp_path / "torn").write_bytes(saved.read_bytes()[:300])
    (tmp_path / "text").write_text("hello")
    state = torch.load(saved, weights_only=True)
    torch.save(state | {"version": 99}, tmp_path / "later")
    torch.save({k: v for k, v in state.items() if k != "generator"}, tmp_path / "less")
    torch.save(state | {"weights": {"table": torch.zeros(1)}}, tmp_path / "odd")
    for name in ("foreign", "list", "torn", "text", "later", "less", "odd"):
        with pytest.raises(ValueError, match="cannot be resumed from") as caught:
            fit_of().load_state(tmp_path / name)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match="nothing to resume"):
        fit_of().load_state(tmp_path / "none")


def test_fingerprints_tell_tensors_apart() -> None:
    a = torch.arange(12.0).view(3, 4)
    assert fingerprint(a) == fingerprint(a.clone()) == fingerprint(a.t().contiguous().t())
    assert len({fingerprint(t) for t in (a, a.flip(0), a + 1e-6, a.double())}) == 4
    assert fingerprint(torch.zeros(0)) == 0 and fingerprint(torch.tensor([True, False])) == fingerprint(
        torch.tensor([1, 0]).byte()
    )
