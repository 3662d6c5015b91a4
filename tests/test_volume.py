"""Volumes: numbers keep their type, and a crop keeps a surface, however small."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.meshing.tools import is_watertight
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import decode, read_signal
from lg_field.signals.encode import build_network
from lg_field.signals.settings import NetworkConfig
from lg_field.signals.signal import LIMITS, Signal
from lg_field.signals.surface import default_threshold, kept_values, signal_mesh
from lg_field.space.regions import Region


def volume_field(
    shape: tuple[int, int, int] = (256, 256, 256), counts: tuple[int, ...] = (4, 4, 4)
) -> LocalGlobalNetwork:
    signal = Signal("volume", shape, 1, "int16", (-1000.0, 3000.0))
    torch.manual_seed(0)
    return build_network(signal, NetworkConfig(counts=counts, local_width=6, global_width=6, hidden_layers=1))


def cropped(field: LocalGlobalNetwork, low: tuple, high: tuple) -> LocalGlobalNetwork:
    assert isinstance(field.description, Signal)
    return lg_field.crop(field, field.description.to_domain(Region.box(low, high), field.grid))


@pytest.mark.parametrize("dtype", sorted(set(LIMITS) - {"bool"}))
def test_the_type_of_the_numbers_is_kept(dtype: str, tmp_path: Path) -> None:
    array = (np.arange(60).reshape(3, 4, 5) * 3 - 60 * (not dtype.startswith("u"))).astype(dtype)
    np.save(tmp_path / "v.npy", array)
    data = read_signal(tmp_path / "v.npy")
    assert data.signal.dtype == dtype and data.signal.value_range == (array.min(), array.max())
    samples = data.slab(0, 3)
    assert np.array_equal(samples[..., 0].numpy(), array)
    again = data.signal.denormalize(data.signal.normalize(samples))
    assert again.dtype == samples.dtype and torch.allclose(again.double(), samples.double(), atol=1e-4)


def test_other_numbers_are_real_ones_and_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.arange(24, dtype=np.float64).reshape(2, 3, 4))
    assert read_signal(tmp_path / "v.npy").signal.dtype == "float32"
    for array, match in (
        (np.zeros((2, 3)), "has shape"),
        (np.ones((2, 2, 2)), "is constant"),
        (np.full((2, 2, 2), np.nan), "NaN"),
        (np.zeros((2, 2, 2), dtype=complex), "not an array of numbers"),
        (np.array([[["a"]]]), "not an array of numbers"),
    ):
        np.save(tmp_path / "v.npy", array)
        with pytest.raises(ValueError, match=match):
            read_signal(tmp_path / "v.npy")


@given(low=st.tuples(*[st.integers(0, 250)] * 3), size=st.tuples(*[st.integers(1, 6)] * 3))
@settings(max_examples=15)
def test_an_exact_small_crop_has_a_threshold_of_its_own_values(low: tuple, size: tuple) -> None:
    """A volume of 256^3 samples seen 64 at a time would show one value of it, or none."""
    part = cropped(volume_field(), low, tuple(a + n for a, n in zip(low, size)))
    values, level = kept_values(part), default_threshold(part)
    assert len(values) == np.prod(size)
    decoded = torch.cat(list(decode(part, box=(low, tuple(a + n for a, n in zip(low, size)))))).float()
    assert float((values.view(size) - decoded[..., 0]).abs().max()) <= 0.51
    assert -1000 < level < 3000
    if float(values.max() - values.min()) > 0:
        assert float(values.min()) <= level <= float(values.max())


def test_values_all_alike_are_parted_in_the_middle_of_the_range() -> None:
    field = volume_field((32, 32, 32), (2, 2, 2))
    with torch.no_grad():
        field.local.zero_()
        for value in field.shared.values():
            value.zero_()
    assert len(kept_values(field).unique()) == 1 and default_threshold(field) == 1000.0


def test_a_threshold_of_the_whole_is_that_of_all_its_values() -> None:
    from lg_field.meshing.tools import otsu

    field = volume_field((40, 24, 32), (2, 2, 2))
    every = torch.cat(list(decode(field, raw=True))).numpy() * 2000 + 1000
    spread = float(every.max() - every.min())
    assert abs(default_threshold(field) - otsu(every)) < 0.02 * spread


def test_a_small_crop_is_meshed_and_its_cut_is_closed() -> None:
    part = cropped(volume_field(), (100, 100, 60), (109, 110, 70))
    values = kept_values(part)
    mesh = signal_mesh(part, 16, float(values.median()))
    assert is_watertight(mesh) and (mesh.vertices >= 59).all() and (mesh.vertices <= 111).all()


class Thing:
    """Stands for any control of a page."""

    content = ""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: Thing()

    def __enter__(self) -> Thing:
        return self

    def __exit__(self, *_: object) -> None:
        return None


class Server:
    """Stands for viser's: whatever is called on it does nothing."""

    def __init__(self) -> None:
        self.gui, self.scene = Thing(), Thing()

    def on_client_connect(self, call: Any) -> None:
        return None

    def get_port(self) -> int:
        return 0


@pytest.mark.parametrize(
    "error", [ValueError("there is no threshold"), KeyError("x"), MemoryError(), ZeroDivisionError()]
)
def test_the_drawing_thread_outlives_every_error(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from lg_field.viewer import signal_view
    from lg_field.viewer.signals import SignalSubject

    done, lines = threading.Event(), []

    class View(signal_view.SignalView):
        def say(self, text: str) -> None:
            lines.append(text)
            if len(lines) >= 2:
                done.set()

    monkeypatch.setattr(signal_view, "open_server", lambda *_: Server())
    monkeypatch.setattr(signal_view, "Panel", lambda *_: Thing())
    calls = iter([error])

    def draw(self: Any, step: int) -> str:
        for problem in calls:
            raise problem
        return "a surface"

    monkeypatch.setattr(View, "_draw_once", draw)
    field = volume_field((8, 8, 8), (1, 1, 1))
    view = View(SignalSubject(field, Path("x")), 0)
    while not lines:
        done.wait(0.01)
    assert lines[0].startswith("**")
    view.subject.show()  # something has changed: the thread is still there to draw it
    assert done.wait(60) and "a surface" in lines[1]
