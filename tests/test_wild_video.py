"""Videos as they are in the world: upright, timed right, pixels of any shape; what is left out is said."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from commands import lg
from hypothesis import given
from hypothesis import strategies as st
from wild import field_file

from lg_field.errors import Notice
from lg_field.signals import read_signal
from lg_field.signals.kinds.frames import even_timing, upright
from lg_field.signals.kinds.video import write_video
from lg_field.signals.signal import Signal
from lg_field.signals.writing import write_samples

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [200, 30, 120]], dtype=np.uint8)
TURNS = {0: ((1, 0), (0, 1)), 1: ((0, -1), (1, 0)), 2: ((-1, 0), (0, -1)), 3: ((0, 1), (-1, 0))}


def quarters(height: int = 32, width: int = 48) -> np.ndarray:
    """A frame whose quarters have four colours."""
    y, x = np.mgrid[0:height, 0:width]
    return COLORS[2 * (y >= height // 2) + (x >= width // 2)]


def write(
    path: Path, times: list[int], aspect: Fraction | None = None, sizes: Any = None, fmt: str = "yuv420p"
) -> None:
    """A video of frames shown at these hundredths of a second."""
    codec = {".webm": "libvpx-vp9", ".mov": "qtrle" if fmt == "argb" else "libx264"}.get(path.suffix, "libx264")
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, 100)
        stream.height, stream.width, stream.pix_fmt = 32, 48, fmt
        stream.codec_context.time_base = Fraction(1, 100)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        for time in times:
            frame = av.VideoFrame.from_ndarray(quarters(), format="rgb24").reformat(format=fmt)
            frame.pts, frame.time_base = time, Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@given(
    st.integers(2, 40),
    st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(30000, 1001), Fraction(60)]),
    st.sampled_from([1000, 90000, 12800]),
)
def test_even_times_stay_as_they_are(count: int, rate: Fraction, ticks: int):
    times = [Fraction(round(i / rate * ticks), ticks) for i in range(count)]
    timing = even_timing(times, 1 / rate, rate, rate)
    assert timing.picks == tuple(range(count)) and timing.rate == pytest.approx(float(rate), rel=1e-9)


@given(st.lists(st.integers(1, 40), min_size=2, max_size=20), st.integers(1, 40))
def test_the_duration_of_uneven_times_is_kept(steps: list[int], last: int):
    times = [Fraction(sum(steps[:i]), 100) for i in range(len(steps) + 1)]
    timing = even_timing(times, Fraction(last, 100), Fraction(25), Fraction(100))
    length = len(timing.picks) / timing.rate
    if timing.even:  # or nearly: the last frame is as long as the others
        assert length == pytest.approx(float(times[-1] + times[-1] / len(steps)), rel=0.02)
    else:
        assert length == pytest.approx(float(times[-1]) + last / 100, rel=1e-6)
        assert sorted(timing.picks) == list(timing.picks) and len(timing.picks) <= 8 * len(times)


def test_uneven_frames_are_shown_as_long_as_they_were(tmp_path: Path):
    times = [0, 4, 8, 12, 16, 56, 96, 136, 140]
    write(tmp_path / "v.mkv", times)
    with pytest.warns(Notice, match=r"v\.mkv: its 9 frames come unevenly in time"):
        data = read_signal(tmp_path / "v.mkv")
    assert data.signal.shape[0] / data.signal.rate == pytest.approx(1.41, abs=0.04)


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("mirrored", [False, True])
def test_frames_stand_upright(turn: int, mirrored: bool):
    matrix, picture = np.zeros((3, 3), dtype=np.int32), quarters(4, 6)
    matrix[:2, :2] = np.array(TURNS[turn]) * 65536
    shown = np.rot90(picture, turn)
    if mirrored:  # after the turn, left and right change places: the column of x changes its sign
        matrix[:, 0] *= -1
        shown = shown[:, ::-1]
    np.testing.assert_array_equal(upright(picture, matrix), shown)
    np.testing.assert_array_equal(upright(picture, None), picture)


def test_other_angles_are_refused():
    with pytest.raises(ValueError, match="no quarter turn"):
        upright(quarters(4, 6), np.array([[46341, -46341, 0], [46341, 46341, 0], [0, 0, 1 << 30]]))


def test_a_turned_file_is_read_upright(tmp_path: Path):
    write(tmp_path / "flat.mp4", [0, 4, 8])
    raw = (tmp_path / "flat.mp4").read_bytes()
    plain = np.array([65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    turned = np.array([0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30], dtype=">i4").tobytes()
    at = raw.rindex(plain)  # the track's; the film's comes first
    (tmp_path / "turned.mp4").write_bytes(raw[:at] + turned + raw[at + len(plain) :])
    flat, data = (read_signal(tmp_path / f"{name}.mp4") for name in ("flat", "turned"))
    assert data.signal.shape == (3, 48, 32)
    assert torch.equal(data.slab(0, 3), flat.slab(0, 3).rot90(-1, (1, 2)))


@pytest.mark.parametrize("suffix", [".mp4", ".avi", ".mov", ".mkv", ".webm"])
def test_what_is_written_is_read(tmp_path: Path, suffix: str):
    frames = torch.from_numpy(np.stack([quarters()] * 5))
    for rate in (25.0, 30000 / 1001):
        signal = Signal("video", (5, 32, 48), 3, rate=rate)
        write_samples([frames], tmp_path / f"a{suffix}", signal)
        back = read_signal(tmp_path / f"a{suffix}")
        assert back.signal.shape == signal.shape and back.signal.rate == pytest.approx(rate, rel=1e-3)
        inner = (slice(None), [8, 8, 24, 24], [12, 36, 12, 36])
        assert (back.slab(0, 5)[inner].int() - torch.from_numpy(COLORS).int()).abs().max() <= 4
    with av.open(str(tmp_path / f"a{suffix}")) as container:
        frame = next(container.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (1, 1)  # BT.709, said so


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi"])
def test_the_shape_of_pixels_is_kept(tmp_path: Path, suffix: str):
    write(tmp_path / "a.mp4", [0, 4, 8], aspect=Fraction(4, 3))
    data = read_signal(tmp_path / "a.mp4")
    assert data.signal.extra == {"pixel_aspect": [4, 3]}
    field_file(data.signal, tmp_path / "a.st")
    lg("decode", "a.st", "-o", f"b{suffix}", cwd=tmp_path)
    assert read_signal(tmp_path / f"b{suffix}").signal.extra == data.signal.extra


def test_webm_says_that_pixels_become_square(tmp_path: Path):
    with pytest.warns(Notice, match="2:1 become square"):
        write_video([torch.zeros(1, 32, 48, 3, dtype=torch.uint8)], tmp_path / "a.webm", 25.0, Fraction(2))


@pytest.mark.parametrize("extra", [{"pixel_aspect": [0, 1]}, {"pixel_aspect": "4:3"}, {"other": 1}])
def test_a_description_says_pixels_only(extra: dict):
    with pytest.raises(ValueError, match="pixel_aspect"):
        Signal("video", (2, 4, 4), 3, rate=25.0, extra=extra)


def test_frames_of_several_sizes_are_refused(tmp_path: Path):
    write(tmp_path / "a.mkv", [0, 4])
    parts = []
    for size in ((48, 32), (64, 48)):
        context: Any = av.CodecContext.create("libx264", "w")
        context.width, context.height, context.pix_fmt, context.time_base = *size, "yuv420p", Fraction(1, 25)
        blank = av.VideoFrame(*size, "yuv420p")
        parts += [bytes(p) for p in [*context.encode(blank), *context.encode()]]
    (tmp_path / "b.mkv").write_bytes(b"".join(parts))  # a bare stream, which is told by its bytes
    with pytest.raises(ValueError, match=r"b\.mkv: its frames change size, from 48 x 32 to 64 x 48 at frame 1; cut"):
        read_signal(tmp_path / "b.mkv")


def test_sound_depth_and_transparency_are_said_to_be_left_out(tmp_path: Path):
    write(tmp_path / "alpha.mov", [0, 4], fmt="argb")
    with pytest.warns(Notice, match=r"alpha\.mov: left out: its transparency"):
        read_signal(tmp_path / "alpha.mov")
    write(tmp_path / "deep.mp4", [0, 4], fmt="yuv420p10le")
    with pytest.warns(Notice, match=r"deep\.mp4: its 10 bits a colour are rounded to 8"):
        read_signal(tmp_path / "deep.mp4")
    with av.open(str(tmp_path / "loud.mkv"), "w") as container:
        video: Any = container.add_stream("libx264", 25)
        video.height, video.width, video.pix_fmt = 32, 48, "yuv420p"
        audio: Any = container.add_stream("pcm_s16le", 8000, layout="mono")
        noise = av.AudioFrame.from_ndarray(np.zeros((1, 400), dtype=np.int16), format="s16", layout="mono")
        noise.sample_rate = 8000
        container.mux(video.encode(av.VideoFrame.from_ndarray(quarters(), format="rgb24")))
        container.mux([*video.encode(), *audio.encode(noise), *audio.encode()])
    with pytest.warns(Notice, match=r"loud\.mkv: left out: its sound"):
        data = read_signal(tmp_path / "loud.mkv")
    assert data.signal.shape == (1, 32, 48)


def test_frames_that_no_encoder_takes_are_refused_at_once(tmp_path: Path):
    field_file(Signal("video", (2, 8, 9), 3, rate=25.0), tmp_path / "a.st")
    text = lg("decode", "a.st", "-o", "a.mp4", "--scale", 2000, cwd=tmp_path, fails=True)
    assert "at most 16,384 pixels a side, these frames are 18,000 x 16,000" in text and text.count("\n") == 1
