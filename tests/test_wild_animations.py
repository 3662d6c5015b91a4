"""Animated pictures as videos: times, loop and alpha come back, or the difference is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from commands import lg, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from wild import field_file

import lg_field
from lg_field.errors import Notice
from lg_field.signals import read_signal
from lg_field.signals.kinds.animation import durations, is_animation, read_animation
from lg_field.signals.pictures.reading import read_image
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

QUICK = ("--steps", 2, "--local-width", 4, "--global-width", 4)
SUFFIXES = (".gif", ".webp", ".apng", ".png")
WRITTEN = (".gif", ".webp", ".apng")
FRAMES = np.stack([np.roll(picture(12, 16), 4 * k, 1) for k in range(4)])


def save(path: Path, frames: np.ndarray = FRAMES, duration: Any = 80, **more: Any) -> Path:
    """An animation as others write it."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    form = {"format": "PNG"} if path.suffix in (".png", ".apng") else {}
    more |= {"lossless": True} if path.suffix == ".webp" else {}
    first.save(path, save_all=True, append_images=rest, duration=duration, **form, **more)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_animation_is_a_video_and_a_frame_of_it_an_image(suffix: str, tmp_path: Path) -> None:
    path = save(tmp_path / f"a{suffix}", loop=0)
    data: Any = read_signal(path)
    assert (data.signal.kind, data.signal.shape, data.signal.channels) == ("video", (4, 12, 16), 3)
    assert data.signal.rate == pytest.approx(12.5) and data.signal.extra == {"plays": 0}
    error = np.abs(data.samples.numpy().astype(int) - FRAMES)
    assert error.max() == 0 if suffix != ".gif" else error.mean() < 12
    assert is_animation(path) and not is_animation(Path(f"{path}:2"))
    if suffix != ".apng":
        one: Any = read_signal(Path(f"{path}:2"))
        assert one.signal.kind == "image" and np.array_equal(one.samples[..., :3], data.samples[1])


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("plays", [0, 1, 3])
@pytest.mark.parametrize("channels", [3, 4])
def test_what_is_written_is_read(suffix: str, plays: int, channels: int, tmp_path: Path) -> None:
    frames = np.concatenate([FRAMES, np.where(FRAMES[..., :1] > 90, 255, 0)], -1)[..., :channels].astype(np.uint8)
    signal = Signal("video", (4, 12, 16), channels, rate=10.0, extra={"plays": plays})
    write_samples([torch.from_numpy(part) for part in (frames[:3], frames[3:])], tmp_path / f"a{suffix}", signal)
    back: Any = read_signal(tmp_path / f"a{suffix}")
    assert back.signal == signal or pytest.approx(10.0) == back.signal.rate
    assert (back.signal.shape, back.signal.channels, back.signal.extra) == (signal.shape, channels, {"plays": plays})
    seen = frames[..., -1] > 0 if channels == 4 else np.ones(frames.shape[:3], bool)
    error = np.abs(back.samples.numpy().astype(int) - frames)[seen]
    assert error.max() == 0 if suffix == ".apng" else error.mean() < 14
    if channels == 4:
        assert np.array_equal(back.samples[..., 3] > 127, frames[..., 3] > 127)


@given(st.integers(1, 60), st.floats(0.5, 90.0), st.sampled_from([1, 10]))
def test_durations_are_true_in_their_sum(count: int, rate: float, tick: int) -> None:
    shown = durations(count, rate, tick)
    assert len(shown) == count and all(d >= tick and d % tick == 0 for d in shown)
    assert sum(shown) == pytest.approx(1000.0 * count / rate, abs=tick)


def test_frames_too_short_for_the_format_are_said() -> None:
    with pytest.warns(Notice, match="at least 10 ms: 200 a second become 100"):
        assert durations(3, 200.0, 10) == [10, 10, 10]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_uneven_times_keep_their_duration_and_are_said(suffix: str, tmp_path: Path) -> None:
    save(tmp_path / f"a{suffix}", duration=[100, 100, 100, 500])
    with pytest.warns(Notice, match="its 4 frames come unevenly in time; 8 at 10 a second stand for them, 0.8 s"):
        signal = read_signal(tmp_path / f"a{suffix}").signal
    assert signal.shape[0] / signal.rate == pytest.approx(0.8)


def test_frames_without_a_duration_are_shown_as_browsers_do(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", duration=0)
    with pytest.warns(Notice, match=r"4 of its 4 frames have no duration: taken as 0.1 s"):
        assert read_signal(tmp_path / "a.gif").signal.rate == pytest.approx(10.0)


def test_the_still_of_an_apng_is_no_frame(tmp_path: Path) -> None:
    save(tmp_path / "a.png", default_image=True)
    assert read_signal(tmp_path / "a.png").signal.shape == (3, 12, 16)


def test_commands_take_animations_both_ways(tmp_path: Path) -> None:
    save(tmp_path / "a.gif", loop=2)
    lg("encode", "a.gif", "-o", "f", *QUICK, cwd=tmp_path)
    assert lg_field.load(tmp_path / "f").description.extra == {"plays": 3}
    text = lg("decode", "f", "-o", "b.gif", cwd=tmp_path)
    assert ".gif has 256 colours a frame" in text
    assert read_signal(tmp_path / "b.gif").signal.extra == {"plays": 3}
    assert "that it repeats is left out" in lg("decode", "f", "-o", "b.mp4", cwd=tmp_path)
    text = lg("denoise", "a.gif", "-o", "x.png", *QUICK, cwd=tmp_path, fails=True)
    assert "is of kind video, a picture is needed (one frame: a.gif:1)" in text and text.count("\n") == 1
    Image.fromarray(FRAMES[0]).save(tmp_path / "one.gif")
    assert read_signal(tmp_path / "one.gif").signal.kind == "image"
    assert read_signal(tmp_path / "one.gif", kind="video").signal.shape == (1, 12, 16)


def test_what_the_formats_do_not_hold_is_refused_or_said(tmp_path: Path) -> None:
    clear = Signal("video", (2, 12, 16), 4, rate=10.0, extra={"plays": 0})
    field_file(clear, tmp_path / "f")
    text = lg("decode", "f", "-o", "a.mp4", cwd=tmp_path, fails=True)
    assert ".mp4 has 3 channels, this video 4; decode to .apng or .webp" in text and text.count("\n") == 1
    text = lg("decode", "f", "-o", "a.webp", "--scale", 2000, "--max-size", 99, cwd=tmp_path, fails=True)
    assert "at most 16,383 pixels a side" in text
    for extra in ({"plays": -1}, {"plays": 1.0}, {"plays": 1, "pixel_aspect": [2, 1]}):
        with pytest.raises(ValueError, match="plays"):
            Signal("video", (2, 4, 4), 3, rate=25.0, extra=extra)
    wide = Signal("video", (2, 12, 16), 3, rate=10.0, extra={"pixel_aspect": [4, 3]})
    with pytest.warns(Notice, match="has square pixels"):
        write_samples([torch.zeros(2, 12, 16, 3, dtype=torch.uint8)], tmp_path / "b.apng", wide)


# -- colours of videos


def film(path: Path, colours: np.ndarray, matrix: int, full: int, curve: int, primaries: int) -> Path:
    """Frames of these 16-bit colours in stripes, 10 bits a colour, with these numbers of FFmpeg's."""
    frame = np.repeat(np.repeat(colours[None], 32, 0), 16, 1).astype(np.uint16)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", 25)
        stream.height, stream.width, stream.pix_fmt, stream.options = *frame.shape[:2], "yuv420p10le", {"crf": "2"}
        context = stream.codec_context
        context.colorspace, context.color_range = matrix, full
        context.color_trc, context.color_primaries = curve, primaries
        picture: Any = av.VideoFrame.from_ndarray(frame, format="rgb48le")
        picture = picture.reformat(format="yuv420p10le", dst_colorspace=matrix, dst_color_range=full)
        picture.time_base, picture.pts = Fraction(1, 25), 0
        container.mux([*stream.encode(picture), *stream.encode()])
    return path


COLOURS = np.array([[60000, 3000, 3000], [3000, 60000, 3000], [9000, 9000, 60000], [33000, 33000, 33000]])


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("full", [1, 2])
def test_the_matrix_and_the_range_of_a_video_are_honoured(matrix: int, full: int, tmp_path: Path) -> None:
    data: Any = read_signal(film(tmp_path / "a.mkv", COLOURS, matrix, full, 1, 1))
    assert (data.samples[0, 16, 8::16].int() - torch.from_numpy(COLOURS // 257)).abs().max() <= 5


@pytest.mark.parametrize(("curve", "words"), [(16, "HDR with PQ BT.2020"), (18, "HDR with HLG BT.2020")])
def test_hdr_becomes_standard_light_and_that_is_said(curve: int, words: str, tmp_path: Path) -> None:
    white = {16: 0.5807, 18: 0.75}[curve]  # 203 candela a square metre, reference white
    greys = (np.array([0.0, 0.5 * white, white, 0.95])[:, None] * np.ones(3) * 65535).astype(int)
    film(tmp_path / "a.mkv", greys, 9, 1, curve, 9)
    with pytest.warns(Notice) as said:
        data: Any = read_signal(tmp_path / "a.mkv")
    assert any(f"its colours ({words}) become BT.709" in str(one.message) for one in said)
    shown = data.samples[0, 16, 8::16].int()
    assert shown[0].max() <= 3 and shown[2].min() >= 235 and shown[3].min() >= 250
    assert 20 < shown[1].min() < shown[2].min() and (shown.amax(1) - shown.amin(1)).max() <= 4


@pytest.mark.parametrize("read", [read_animation, read_image])
def test_a_canvas_larger_than_webp_has_is_refused_before_it_is_decoded(read: Any, tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(tmp_path / "a.webp", save_all=True, append_images=frames[1:], duration=100)
    data = bytearray((tmp_path / "a.webp").read_bytes())
    at = data.index(b"VP8X") + 12
    data[at : at + 3] = (12_058_639).to_bytes(3, "little")
    (tmp_path / "a.webp").write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.webp is broken: it claims 12058640 x 8 pixels, a WebP"):
        read(tmp_path / "a.webp")
