"""Encoding and decoding as a user does it: files in, commands run, files out."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import BIN, lg, lg_process, picture, tone
from forked import forked
from PIL import Image

import lg_field
from lg_field.quality import psnr
from lg_field.signals import decode, read_signal
from lg_field.signals.presets import CONFIGS

SMALL = ("--parameters", 6000, "--steps", 120)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory) -> Path:
    """A folder with one encoded file of every kind."""
    import soundfile

    from lg_field.signals.kinds.video import write_video

    folder = tmp_path_factory.mktemp("encoded")
    Image.fromarray(picture(48, 64)).save(folder / "image.png")
    soundfile.write(folder / "audio.wav", np.stack([tone(4000), tone(4000)[::-1]], 1), 8000, subtype="PCM_16")
    clip = torch.from_numpy(np.stack([np.roll(picture(32, 48), k, 1) for k in range(6)]))
    write_video([clip], folder / "video.mp4", 12.0)
    grid = np.stack(np.mgrid[-1:1:20j, -1:1:16j, -1:1:12j])
    np.save(folder / "volume.npy", np.sqrt((grid**2).sum(0)))
    lg_process("encode", "image.png", "-o", "image", "--counts", 3, 4, *SMALL, "--preview", "seen", cwd=folder)
    lg("encode", "audio.wav", "-o", "audio", "--counts", 8, *SMALL, "--lr", 1e-3, "--log", "tensorboard", cwd=folder)
    windows = ("--sample-fraction", 0.2, "--overlap", 1)
    lg("encode", "video.mp4", "-o", "video", "--counts", 2, 2, 3, *SMALL, *windows, cwd=folder)
    lg("encode", "volume.npy", "-o", "volume", "--counts", 2, 2, 2, *SMALL, "--lr", 1e-3, *windows, cwd=folder)
    return folder


SUFFIX = {"image": "png", "audio": "wav", "video": "mp4", "volume": "npy"}
BOX = {
    "image": (16, 16, 48, 32),
    "audio": (0.125, 0.25),
    "video": (3, 0, 0, 6, 32, 16),
    "volume": (0, 0, 0, 10, 8, 6),
}
"""Along cell borders: lower corner, upper corner."""


@pytest.mark.parametrize("kind", list(SUFFIX))
def test_encode_then_decode_resembles_the_signal(encoded: Path, kind: str) -> None:
    out = encoded / f"back.{SUFFIX[kind]}"
    lg("decode", kind, "-o", out, "--overwrite", cwd=encoded)
    before, after = read_signal(str(encoded / f"{kind}.{SUFFIX[kind]}")), read_signal(out) if kind != "volume" else None
    info = json.loads(lg("info", kind, "--json", cwd=encoded))
    assert info["history"]["steps"] == 120 and info["history"]["psnr"] > 13
    assert info["bytes"]["total"] == (encoded / kind).stat().st_size
    assert abs(info["parameters"]["total"] - 6000) < 0.02 * 6000
    if after is None:
        assert np.load(out).shape == (20, 16, 12, 1)
        return
    assert after.signal.shape == before.signal.shape and after.signal.channels == before.signal.channels
    assert after.signal.rate == before.signal.rate
    a, b = (before.signal.normalize(d.samples) for d in (before, after))
    assert psnr(float((a - b).square().mean()) / (1 if kind == "audio" else 4)) > 13


@pytest.mark.parametrize("kind", list(SUFFIX))
def test_a_cropped_file_decodes_to_the_same_samples(encoded: Path, kind: str) -> None:
    box = BOX[kind]
    half = len(box) // 2
    lg("crop", kind, "--box", *box, "-o", f"{kind}.crop", "--overwrite", cwd=encoded)
    assert "sound" in lg("validate", f"{kind}.crop", cwd=encoded)
    whole, part = lg_field.load(encoded / kind), lg_field.load(encoded / f"{kind}.crop")
    ideal = part.num_rows / whole.num_rows
    assert part.num_rows == {"image": 2, "audio": 2, "video": 2, "volume": 1}[kind]
    lg("decode", kind, "-o", "a.npy", "--box", *box, "--overwrite", cwd=encoded)
    lg("decode", f"{kind}.crop", "-o", "b.npy", "--box", *box, "--overwrite", cwd=encoded)
    lg("decode", f"{kind}.crop", "-o", "c.npy", "--overwrite", cwd=encoded)
    a, b, c = (np.load(encoded / n) for n in ("a.npy", "b.npy", "c.npy"))
    assert np.array_equal(a, b)
    signal_, full = whole.description, np.prod(whole.description.shape)
    assert c.shape[:-1] == tuple(signal_.shape) and a[..., 0].size < 0.4 * full
    fill = signal_.denormalize(torch.tensor(part.fill)).item()
    assert (c != fill).any(-1).sum() <= a[..., 0].size
    rows = lg_field.files.FieldFile
    with rows.open(encoded / kind) as one, rows.open(encoded / f"{kind}.crop") as two:
        x, y = one.bytes_by_part(), two.bytes_by_part()
    assert y["rows"] == round(x["rows"] * ideal) and y["shared"] == x["shared"] and half


def test_previews_logs_and_scaled_decoding(encoded: Path) -> None:
    assert Image.open(encoded / "seen/step-000100.png").size == (64, 48)
    assert list((encoded / "audio.tensorboard").iterdir())
    lg("decode", "image", "-o", "large.png", "--scale", 2, cwd=encoded)
    assert Image.open(encoded / "large.png").size == (128, 96)
    assert "decode takes a --box" in lg("decode", "image", "-o", "x.png", "--cells", 1, cwd=encoded, fails=True)
    assert "write a decoded image to" in lg("decode", "image", "-o", "x.wav", cwd=encoded, fails=True)


def test_inverse_merge_prune_and_dry_run(encoded: Path) -> None:
    before = sorted(encoded.iterdir())
    text = lg("crop", "image", "--box", 4, 4, 20, 12, "--dry-run", cwd=encoded)
    assert sorted(encoded.iterdir()) == before and "bytes less" in text
    lg("crop", "image", "--cells", 0, 5, "-o", "some", cwd=encoded)
    lg("crop", "image", "--cells", 0, 5, "--invert", "-o", "others", "--dtype", "float16", cwd=encoded)
    assert "differs" in lg("merge", "some", "others", "-o", "joined", cwd=encoded, fails=True)
    lg("crop", "image", "--cells", 0, 5, "--invert", "-o", "others", "--overwrite", cwd=encoded)
    lg("merge", "some", "others", "-o", "joined", cwd=encoded)
    assert (encoded / "joined").read_bytes() == (encoded / "image").read_bytes()
    field = lg_field.load(encoded / "image")
    with torch.no_grad():
        last = field.sizes.row_size - 3
        field.local[2, last - 3 * field.sizes.local_width :] = 0
        field.local[2, last:] = -1.0
    lg_field.save(field, encoded / "dark")
    assert "12 -> 11 cells" in lg("prune", "dark", "-o", "pruned", cwd=encoded)
    a, b = (torch.cat(list(decode(lg_field.load(encoded / n)))) for n in ("dark", "pruned"))
    assert torch.equal(a, b)


def test_an_image_grows_and_its_old_half_does_not_change(encoded: Path) -> None:
    image = Image.open(encoded / "image.png")
    image.crop((0, 0, 32, 48)).save(encoded / "left.png")
    lg("encode", "left.png", "-o", "left", "--counts", 3, 2, *SMALL, cwd=encoded)
    text = lg("extend", "left", "--with", "image.png", "-o", "grown", "--steps", 60, cwd=encoded)
    assert "6 old cells" in text and "of the new ones" in text
    left, grown = (torch.cat(list(decode(lg_field.load(encoded / n)))) for n in ("left", "grown"))
    assert torch.equal(grown[:, :32], left) and grown.shape == (48, 64, 3)
    a, b = lg_field.load(encoded / "left"), lg_field.load(encoded / "grown")
    assert torch.equal(b.local[(b.cells % 4) < 2], a.local)
    assert all(torch.equal(b.shared[k], v) for k, v in a.shared.items())
    error = lg("extend", "left", "--with", "left.png", "-o", "x", cwd=encoded, fails=True)
    assert "nothing to add" in error and not (encoded / "x").exists()
    image.crop((9, 0, 64, 48)).save(encoded / "right.png")
    assert "does not lie within" in lg("extend", "grown", "--with", "right.png", "-o", "x", cwd=encoded, fails=True)


def test_ctrl_c_keeps_the_state_and_resuming_gives_the_same_weights(encoded: Path) -> None:
    options = ("--counts", 4, 4, "--parameters", 4000, "--steps", 1500, "--sample-fraction", 0.3, "--overlap", 2)
    forked("lg-field", "encode", "image.png", "-o", "straight", *options, cwd=encoded)
    watched = (*options, "--preview", "trained", "--preview-every", 20)
    command = [str(BIN / "lg-field"), "encode", "image.png", "-o", "broken", *map(str, watched)]
    with subprocess.Popen(command, cwd=encoded, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        while not (encoded / "trained/step-000020.png").exists() and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        text = process.stdout.read()
    assert "go on with --resume" in text and process.returncode == 0, text
    stopped = json.loads(lg("info", "broken", "--json", cwd=encoded))["history"]["steps"]
    assert 20 <= stopped < 1500
    forked("lg-field", "encode", "image.png", "-o", "broken", *options, "--resume", cwd=encoded)
    a, b = (lg_field.load(encoded / n).state_dict() for n in ("straight", "broken"))
    assert all(torch.equal(a[k], b[k]) for k in a if torch.is_tensor(a[k]))
    assert not (encoded / "broken.resume").exists()
    assert "nothing to resume" in lg("encode", "image.png", "-o", "broken", "--resume", cwd=encoded, fails=True)


BAD = [
    (("encode", "none.png"), "does not exist"),
    (("encode", "torn.png"), "not an image or is broken"),
    (("encode", "text.txt"), "cannot encode .txt"),
    (("encode", "empty.wav"), "has no samples"),
    (("encode", "silent.wav"), "silent"),
    (("encode", "torn.mp4"), "not a video or is broken"),
    (("encode", "nan.npy"), "NaN or infinite"),
    (("encode", "image.png", "--counts", 100, 1), "no more cells than samples"),
    (("encode", "image.png", "--counts", 3), "needs 2 numbers"),
    (("encode", "image.png", "--parameters", 10), "do not buy one neuron"),
    (("encode", "image.png", "--overlap", 40, "--sample-fraction", 0.1), "wider than the signal"),
    (("encode", "image.png", "--lr", -1), "must be positive"),
    (("encode", "image.png", "--preset", "nope"), "no preset 'nope'"),
    (("encode", "image.png", "--device", "cuda:77"), "cannot be used here"),
    (("crop", "image", "--box", 5, 5, 1, 1), "lower corner"),
    (("crop", "image", "--box", 500, 500, 600, 600), "nothing would be kept"),
    (("crop", "image", "--box", 1, 2, 3), "needs 4 numbers"),
    (("crop", "image"), "say what to keep"),
    (("render", "image", "--orbit", 1), "is no scene file"),
    (("decode", "image.png"), "not a field file"),
]


def test_bad_input_is_one_line_and_nothing_is_written(encoded: Path) -> None:
    """In one process, through the real entry point."""
    import soundfile

    (encoded / "torn.png").write_bytes((encoded / "image.png").read_bytes()[:300])
    (encoded / "torn.mp4").write_bytes((encoded / "video.mp4").read_bytes()[:200])
    (encoded / "text.txt").write_text("hello")
    soundfile.write(encoded / "empty.wav", np.zeros(0), 8000)
    soundfile.write(encoded / "silent.wav", np.zeros(100), 8000)
    np.save(encoded / "nan.npy", np.full((4, 4, 4), np.nan))
    files = sorted(encoded.iterdir())
    for arguments, match in BAD:
        text = lg(*arguments, "-o", "never", cwd=encoded, fails=True)
        assert match in text and text.count("\n") == 1, (arguments, text)
    assert sorted(encoded.iterdir()) == files


def test_a_preset_is_its_config_and_flags_win(encoded: Path) -> None:
    common = ("--steps", 3, "--counts", 3, 4, "--overwrite")
    lg("encode", "image.png", "-o", "one", "--preset", "image-div2k", *common, cwd=encoded)
    lg("encode", "image.png", "-o", "two", "--config", CONFIGS / "image-div2k.yaml", *common, cwd=encoded)
    one, two = (lg_field.load(encoded / n) for n in ("one", "two"))
    assert torch.equal(one.local, two.local) and one.sizes == two.sizes
    assert (one.sizes.local_width, one.sizes.global_width, one.grid.counts) == (14, 84, (3, 4))
    (encoded / "odd.yaml").write_text("network: {colour: 1}\n")
    error = lg("encode", "image.png", "-o", "x", "--config", "odd.yaml", cwd=encoded, fails=True)
    assert "unknown settings ['colour']" in error
