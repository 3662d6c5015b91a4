"""Laws that every kind of signal keeps: places, regions, files, defaults, and what a decoded part says of itself."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import picture, tone
from hypothesis import given, settings
from hypothesis import strategies as st

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.signals import SignalData, decode, read_signal
from lg_field.signals.decode import decoded_signal, sample_window
from lg_field.signals.encode import build_network
from lg_field.signals.kinds import KINDS, Kind, kind_named, kind_of_file
from lg_field.signals.registry import readable_suffixes, register
from lg_field.signals.settings import CompleteFit, CompleteNetwork, FitConfig, NetworkConfig, ShapeConfig
from lg_field.signals.signal import Signal
from lg_field.signals.writing import check_output, write_samples
from lg_field.space.regions import Box, Complement, Intersection, OrientedBox, Region, Sphere, Union

ALL = sorted(KINDS)
SMALL = NetworkConfig(local_width=3, global_width=4, hidden_layers=1)
SHAPES = {1: (40,), 2: (12, 17), 3: (6, 10, 15)}
TURNED = ((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0))


def signal_of_kind(name: str) -> Signal:
    """A signal of a kind, with a rate and a place in the world where the kind has them."""
    axes = len(kind_named(name).axes)
    more = {"audio": {"rate": 100.0, "value_range": (-1.0, 1.0)}, "video": {"rate": 10.0}}.get(name, {})
    if name == "occupancy":
        more = {"dtype": "bool", "value_range": (0.0, 1.0), "origin": (1.0, -2.0, 0.5), "spacing": 0.25}
    dtype = {"audio": "float32", "volume": "int16", "nifti": "int16"}.get(name, "uint8")
    return Signal(name, SHAPES[axes], 1, **{"dtype": dtype} | more)


def field_of_kind(name: str) -> LocalGlobalNetwork:
    signal = signal_of_kind(name)
    counts = tuple(2 + k % 2 for k in range(len(signal.shape)))
    return build_network(signal, dataclasses.replace(SMALL, counts=counts))


@pytest.mark.parametrize("name", ALL)
def test_a_kind_states_everything_and_its_defaults_are_settings(name: str) -> None:
    kind = KINDS[name]
    assert kind.name == name and kind.units and kind.sample and len(set(kind.axes)) == len(kind.axes)
    assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in (*kind.reads, *kind.writes))
    assert set(kind.writes) <= set(readable_suffixes()) and set(kind.frozen) <= set(kind.axes) and kind.reach > 0
    assert kind.fit.keys() <= {f.name for f in dataclasses.fields(FitConfig)}
    assert kind.network.keys() <= {f.name for f in dataclasses.fields(NetworkConfig)}
    CompleteFit(**kind.fit).check()
    CompleteNetwork(**kind.network)
    for shape in (SHAPES[len(kind.axes)], (1,) * len(kind.axes), (300,) * len(kind.axes)):
        counts = kind.counts(shape)
        assert len(counts) == len(shape) and all(1 <= c <= n for c, n in zip(counts, shape))
    assert signal_of_kind(name).traits is kind


def test_no_name_is_taken_twice_and_unknown_ones_are_refused() -> None:
    with pytest.raises(ValueError, match="already"):
        register(KINDS["image"])
    with pytest.raises(ValueError, match=f"one of {', '.join(KINDS)}"):
        kind_named("smell")
    with pytest.raises(ValueError, match=r"x\.txt: cannot encode \.txt; use \.png"):
        kind_of_file(Path("x.txt"))
    assert len(readable_suffixes()) == len(set(readable_suffixes()))
    for name, kind in KINDS.items():
        own = set(kind.writes) & set(kind.reads)
        assert {kind_of_file(Path(f"X{suffix.upper()}")).name for suffix in own} <= {name}


def test_kinds_are_compared_by_name_nowhere_else() -> None:
    root = Path(lg_field.__file__).parent
    for room in ("signals", "viewer", "restoration"):
        for path in (root / room).rglob("*.py"):
            odd = re.findall(r".*(?<!dtype\.)\bkind (?:==|!=|in|not in) [(\"].*", path.read_text())
            assert "kinds" in path.parts or not odd, (path, odd)


# -- places


@given(name=st.sampled_from(ALL), numbers=st.lists(st.floats(-50, 50), min_size=3, max_size=3))
@settings(max_examples=60)
def test_places_lead_to_samples_and_back(name: str, numbers: list[float]) -> None:
    signal = signal_of_kind(name)
    kind, point = signal.traits, numbers[: len(signal.shape)]
    there = kind.to_samples(signal, point)
    assert kind.from_samples(signal, there) == pytest.approx(point, abs=1e-9)
    assert kind.to_samples(signal, kind.from_samples(signal, point)) == pytest.approx(point, abs=1e-9)
    with pytest.raises(ValueError, match=rf"{len(point)} numbers \({re.escape(kind.units)}\), got {len(point) + 1}"):
        kind.to_samples(signal, [*point, 0.0])


@pytest.mark.parametrize(
    ("name", "place", "samples"),
    [
        ("image", (3, 5), (5, 3)),
        ("audio", (0.5,), (50.0,)),
        ("video", (1, 3, 5), (1, 5, 3)),
        ("volume", (1, 3, 5), (1, 3, 5)),
        ("occupancy", (1.5, -1.0, 0.5), (2.0, 4.0, 0.0)),
    ],
)
def test_users_give_x_before_y_seconds_and_the_meshs_units(name: str, place: tuple, samples: tuple) -> None:
    signal = signal_of_kind(name)
    assert signal.traits.to_samples(signal, place) == samples


def inside(region: Region, points: np.ndarray) -> list[bool]:
    return region.contains(torch.from_numpy(points)).tolist()


@given(name=st.sampled_from(ALL), seed=st.integers(0, 10_000))
@settings(max_examples=40)
def test_a_region_holds_the_same_places_in_both_units(name: str, seed: int) -> None:
    signal, rng = signal_of_kind(name), np.random.default_rng(seed)
    kind, axes = signal.traits, len(signal.shape)
    size = np.array(kind.from_samples(signal, signal.shape)) - np.array(kind.from_samples(signal, (0,) * axes))
    start = np.array(kind.from_samples(signal, (0,) * axes))
    low = start + rng.random(axes) * 0.5 * size
    boxes = [Region.box(low.tolist(), (low + f * size).tolist()) for f in (0.3, 0.6)]
    regions: list[Region] = [boxes[0], Complement(boxes[0]), Union(tuple(boxes)), Intersection(tuple(boxes))]
    middle = tuple((start + 0.5 * size).tolist())
    balls: list[Region] = [Sphere(middle, float(0.4 * size.min()))]
    if axes == 3:
        balls.append(OrientedBox(middle, TURNED, tuple((0.5 * size).tolist())))  # type: ignore[arg-type]
    if kind.round:
        regions += [*balls, Complement(balls[0]), Union((boxes[0], balls[0]))]
    else:
        with pytest.raises(ValueError, match="mixes units"):
            kind.region_to_samples(signal, balls[0])
    users = start + rng.random((50, axes)) * size
    samples = np.array([kind.to_samples(signal, p) for p in users.tolist()])
    for region in regions:
        assert inside(region, users) == inside(kind.region_to_samples(signal, region), samples)


def test_a_region_of_another_number_of_axes_is_refused() -> None:
    for name in ("image", "volume", "occupancy"):
        signal = signal_of_kind(name)
        for region in (Region.sphere((0.0,), 1.0), Region.box((0.0,), (1.0,))):
            with pytest.raises(ValueError, match="numbers"):
                signal.traits.region_to_samples(signal, region)


@pytest.mark.parametrize("name", ALL)
def test_a_box_of_places_crops_to_what_decode_gives_for_it(name: str) -> None:
    field, signal = field_of_kind(name), signal_of_kind(name)
    kind = signal.traits
    low, high = (2,) * len(signal.shape), tuple(n - 1 for n in signal.shape)
    places = (kind.from_samples(signal, low), kind.from_samples(signal, high))
    region = kind.region_to_samples(signal, Region.box(*places))
    assert isinstance(region, Box)
    box = (region.lower, region.upper)
    assert sample_window(signal, box) == list(zip(low, high))
    whole = torch.cat(list(decode(field)))
    part = torch.cat(list(decode(field, box=box)))
    window = tuple(slice(a, b) for a, b in zip(low, high))
    assert torch.equal(part, whole[window])
    cropped = lg_field.crop(field, signal.to_domain(region, field.grid))
    assert torch.equal(torch.cat(list(decode(cropped, box=box))), part)
    outside = torch.ones(signal.shape, dtype=torch.bool)
    outside[window] = False
    kept = torch.cat(list(decode(cropped)))
    assert (kept[outside] == signal.denormalize(torch.tensor([field.fill]))).all()


# -- what a decoded part says of itself


@given(name=st.sampled_from(ALL), scale=st.sampled_from([0.5, 1.0, 1.5, 3.0]), start=st.integers(0, 3))
@settings(max_examples=40)
def test_a_decoded_part_lies_where_it_lay(name: str, scale: float, start: int) -> None:
    signal = signal_of_kind(name)
    if name == "nifti":
        signal = dataclasses.replace(signal, affine=((0, -2.0, 0, 5), (3.0, 0, 0.5, -1), (0, 0, 4.0, 2), (0, 0, 0, 1)))
    box = ((float(start),) * len(signal.shape), tuple(float(n) for n in signal.shape))
    part = decoded_signal(signal, scale, box)
    first = next(iter(decode(field_of_kind(name), scale, box)))
    assert first.shape[1:-1] == part.shape[1:]
    world, old = part.to_world(), signal.to_world()
    if signal.origin or signal.affine:
        ends = (torch.zeros(3), torch.tensor(part.shape)), (torch.full((3,), float(start)), torch.tensor(signal.shape))
        one = torch.ones(1, dtype=torch.float64)
        for mine, theirs in zip(*ends):
            a, b = (m @ torch.cat([p.double(), one]) for m, p in ((world, mine), (old, theirs)))
            slack = 0 if signal.affine or scale in (1.0, 3.0) else 0.26  # one spacing for axes of odd sizes
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 + slack)
    if signal.rate:
        assert part.shape[0] / part.rate == pytest.approx((signal.shape[0] - start) / signal.rate)
    same = decoded_signal(signal)
    assert same == signal and decoded_signal(part) == part


@pytest.mark.parametrize("name", ALL)
def test_a_description_is_its_dictionary(name: str) -> None:
    signal = signal_of_kind(name)
    for other in (signal, decoded_signal(signal, 2.0)):
        assert Signal.from_dict(other.to_dict()) == other
    absent = {"affine", "extra"} | ({"origin", "spacing"} if name != "occupancy" else set())
    assert not absent & signal.to_dict().keys()
    for bad in ({"affine": [[1.0]]}, {"affine": np.zeros((9, 9)).tolist()}, {"extra": {"colour": 1}}, {"extra": 3}):
        with pytest.raises(ValueError):
            Signal.from_dict(signal.to_dict() | bad)


# -- files


def samples_of(kind: Kind, dtype: str) -> SignalData | None:
    """Something each kind can write."""
    if kind.name == "image":
        return SignalData(torch.from_numpy(picture(21, 16)), Signal("image", (21, 16), 3))
    if kind.name == "audio":
        wave = torch.from_numpy(np.stack([tone(900), tone(900)[::-1]], 1).copy())
        wave = wave / wave.abs().max() if dtype == "float32" else (wave / wave.abs().max() * 32767).round().short()
        peak = 1.0 if dtype == "float32" else 32767.0
        return SignalData(wave, Signal("audio", (900,), 2, dtype, (-peak, peak), 8000.0))
    if kind.name == "video":
        frames = torch.from_numpy(np.stack([np.roll(picture(32, 48), k, 1) for k in range(5)]))
        return SignalData(frames, Signal("video", (5, 32, 48), 3, rate=12.5))
    return None


EXACT = (".png", ".bmp", ".tif", ".tiff", ".wav", ".flac")
"""Files that keep every sample; the others keep about what is seen or heard."""


WRITTEN = [(n, s) for n in ("image", "audio", "video") for s in KINDS[n].writes if s not in (".exr", ".hdr")]
"""Linear light, of which these two files are, is not normalized as 8 bits are: `test_wild_images` has laws for it."""


@pytest.mark.parametrize(("name", "suffix"), WRITTEN)
def test_what_is_written_reads_as_the_same_signal(name: str, suffix: str, tmp_path: Path) -> None:
    for dtype in ("int16", "float32") if name == "audio" else ("uint8",):
        data = samples_of(KINDS[name], dtype)
        assert data is not None
        path = tmp_path / f"{dtype}{suffix}"
        write_samples([data.samples[:2], data.samples[2:]], path, data.signal)
        back = read_signal(path)
        assert back.signal.shape == data.signal.shape and back.signal.channels == data.signal.channels
        assert back.signal.rate == pytest.approx(data.signal.rate, rel=1e-3) and back.signal.kind == name
        a, b = (d.signal.normalize(d.slab(0, 10**6)) for d in (data, back))
        assert float((a - b).abs().mean()) < 0.15
        if suffix in EXACT and not (suffix == ".flac" and dtype == "float32"):
            assert back.signal.dtype == dtype and torch.equal(back.slab(0, 10**6), data.samples)


@pytest.mark.parametrize("name", ALL)
def test_every_kind_is_written_as_an_array_of_its_type(name: str, tmp_path: Path) -> None:
    field, signal = field_of_kind(name), signal_of_kind(name)
    write_samples(decode(field), tmp_path / "a.npy", signal)
    array = np.load(tmp_path / "a.npy")
    assert array.dtype == signal.dtype and array.shape == (*signal.shape, 1)
    assert np.array_equal(array, torch.cat(list(decode(field))).numpy().astype(signal.dtype))
    with pytest.raises(ValueError, match=f"write a decoded {name} to"):
        check_output(signal.traits, tmp_path / "a.xyz")
    with pytest.raises(ValueError, match=r"\.npy"):
        write_samples(decode(field), tmp_path / "a", signal)


def test_arrays_of_booleans_are_shapes_and_others_volumes(tmp_path: Path) -> None:
    solid = np.linalg.norm(np.indices((9, 8, 7)) - 4, axis=0) < 3
    for name, array in {"occupancy": solid, "volume": solid * 3.0}.items():
        np.save(tmp_path / "a.npy", array)
        np.savez(tmp_path / "b.npz", array)
        for path in (tmp_path / "a.npy", tmp_path / "b.npz"):
            assert kind_of_file(path).name == name and read_signal(path, ShapeConfig()).signal.kind == name


def test_figures_of_a_perfect_copy_are_perfect() -> None:
    from lg_field.quality import psnr, ssim

    for name in ALL:
        signal = dataclasses.replace(signal_of_kind(name), shape=tuple(n + 11 for n in signal_of_kind(name).shape))
        figures, values = signal.traits.figures(signal), torch.rand(*signal.shape, 1)
        figures.add(values, values)
        assert all(v == pytest.approx(1.0, abs=1e-5) for v in figures.result().values())
        assert signal.traits.step_psnr(1e-3) >= psnr(1e-3)
    assert psnr(1.0) == 0.0 and psnr(0.0) == 120.0 and psnr(0.01) == pytest.approx(20.0)
    with pytest.raises(ValueError, match="at least 11"):
        ssim(torch.rand(4, 30, 3), torch.rand(4, 30, 3))


def test_similarity_of_bands_is_that_of_the_whole_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    from lg_field import quality

    for height in (11, 40, 57):
        true = torch.rand(height, 30, 3, generator=torch.Generator().manual_seed(height))
        shown = (true + 0.2 * torch.rand(true.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
        whole = quality.ssim(shown, true)
        for pixels in (1, 30 * 12, 30 * (height - 1)):
            monkeypatch.setattr(quality, "SSIM_PIXELS", pixels)
            assert quality.ssim(shown, true) == pytest.approx(whole, abs=1e-6)
        monkeypatch.undo()


@pytest.mark.parametrize("name", ALL)
def test_a_still_is_a_picture_of_the_signal(name: str) -> None:
    field, signal = field_of_kind(name), signal_of_kind(name)
    box = signal.traits.still(signal)
    if box is None:
        with pytest.raises(NotImplementedError):
            signal.traits.picture(torch.zeros(1), signal)
        return
    shown = signal.traits.picture(torch.cat(list(decode(field, box=box))), signal)
    assert shown.shape == (*signal.shape[-2:], 1) and shown.dtype == torch.uint8


@pytest.mark.parametrize("name", ALL)
def test_what_the_viewer_saves_is_the_box_that_was_typed(name: str, tmp_path: Path) -> None:
    from lg_field.cli.options import RegionFlags
    from lg_field.viewer.signals import SignalSubject

    field, signal = field_of_kind(name), signal_of_kind(name)
    low, high = (1,) * len(signal.shape), tuple(n - 2 for n in signal.shape)
    numbers = (*signal.traits.from_samples(signal, low), *signal.traits.from_samples(signal, high))
    read = lambda box: RegionFlags(box=box).resolve(field)[0]  # noqa: E731
    subject = SignalSubject(field, Path("x.safetensors"), box=read)
    region = subject.box_region(" ".join(map(repr, numbers)))
    subject.selection.keep_region(region)
    (tmp_path / "r.json").write_text(json.dumps(subject.region_json()))
    assert RegionFlags(region=tmp_path / "r.json").resolve(field) == (region, None)
    assert [unit for unit, _ in subject.extent(field.cells)] == [signal.traits.units]
    whole = read(tuple(float(v) for v in SignalSubject(field, Path("x"), box=read).box_text().split()))
    assert len(field.rows_touching(whole)) == field.num_rows
