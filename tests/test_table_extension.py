"""The table of extensions of sounds: kept, of several seeds, made again of its rows alone."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tyro
from commands import picture
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_half_a_sound_is_extended(tmp_path: Path):
    """The old half is of the samples that the first cells hold; its weights stay, the new half gets better."""
    import extension
    import torch

    from lg_field.signals.encode import build_network
    from lg_field.signals.metrics import psnr_of_rows

    time = np.arange(8003) / 8000  # no whole number of samples a cell
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(300 * time) * (time < 0.9), 8000)
    args = extension.Args((tmp_path / "tone.wav",), "audio-small", 30, output=tmp_path / "out")
    extension.main(args)
    assert args.finished.path == tmp_path / "out" / "rows" / "audio-small-30.jsonl"
    (row,) = args.finished.all()
    whole, half, grown = row["parts"]
    assert [p[""] for p in row["parts"]] == ["whole at once", "half", "extended"] and row["kind"] == "audio"
    assert half["old"] == grown["old"] and grown["old weights unchanged"] is True and "new" not in half
    assert all(p["steps"] == 30 and p["seconds"] > 0 for p in row["parts"])

    data = extension.read_signal(tmp_path / "tone.wav")
    settings = extension.settings_of("audio-small", "audio", 30)
    field = build_network(data.signal, settings.network, 0)
    old, new = extension.halves(field)
    assert old.tolist() == [0, 1, 2, 3] and new.tolist() == [4, 5, 6, 7]
    untrained = psnr_of_rows(field, data, new)
    assert grown["new"] > untrained + 1 and whole["new"] > untrained + 1
    shown = data.signal.normalize(data.samples)[:4000]
    silent = float(-10 * torch.log10(shown.square().mean()))
    with torch.no_grad():
        field.local.zero_()
    assert psnr_of_rows(field, data, old) == pytest.approx(silent, abs=0.01), "peak 1, of the first half alone"


def test_files_of_several_seeds_are_lines_of_one_table_and_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An interrupted table goes on; the page is made without the files; other settings are left out, that is said."""
    import extension
    import page
    from rows import ROWS

    assert extension.Args((), "audio").finished.path == ROWS / "extension" / "audio.jsonl"
    real = extension.settings_of
    monkeypatch.setattr(extension, "settings_of", lambda preset, kind, steps: real(preset, kind, steps or 2))
    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "b.wav", 0.5 * np.sin(np.arange(400) / 20), 8000)
    kept = tmp_path / "rows" / "extension"
    args = extension.Args((tmp_path / "b.wav",), "audio-small", seeds=2, rows=kept, output=tmp_path / "out")
    trained, train = [], extension.extended

    def stopped(data, settings, seed):
        trained.append(seed)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return train(data, settings, seed)

    monkeypatch.setattr(extension, "extended", stopped)
    with pytest.raises(KeyboardInterrupt):
        extension.main(args)
    extension.main(args)
    assert trained == [0, 1, 1]
    (first, second) = args.finished.all()
    assert (first["seed"], second["seed"]) == (0, 1) and first["parts"][0]["old"] != second["parts"][0]["old"]
    extension.main(extension.Args((tmp_path / "a.png",), "image-div2k-auto", quick=True, rows=kept, output=tmp_path))
    with pytest.raises(SystemExit, match=r"half is to be added, but \(1,\) cells have one along the last axis"):
        extension.main(extension.Args((tmp_path / "b.wav",), "audio-small-global", rows=tmp_path, output=tmp_path))
    for name in ("a.png", "b.wav"):
        (tmp_path / name).unlink()
    page.main(page.Args(tmp_path / "t", tmp_path / "page.md", rows=tmp_path / "rows"))
    text = (tmp_path / "page.md").read_text()
    assert f"| b.wav | 1 | extended | 2 | {second['parts'][2]['old']:.2f} dB |" in text
    assert "| a.png, a part of it | 0 | half | 2 |" in text
    gains = [r["parts"][2]["new"] - r["parts"][0]["new"] for r in (first, second)]
    assert f" of 2 | {sum(gains) / 2:+.2f} ± " in text
    assert text.count("| extended over |") == 1, "one file is no pair"
    found = re.findall(r"`python scripts/tables/extension.py (.*?)`: (\d) run", text)
    (sound, runs), (image, run) = (
        (tyro.cli(extension.Args, args=shlex.split(command)), count) for command, count in found
    )
    assert (sound.data, sound.preset, sound.seeds, runs) == ((tmp_path / "b.wav",), "audio-small", 2, "2")
    assert (image.data, image.quick, run) == ((tmp_path / "a.png",), True, "1")
    assert "preset audio-small, seed 0, 1" in text
    lines = [json.dumps(r | {"settings": {}}) for r in (first, second)]
    args.finished.path.write_text("\n".join(lines))
    extension.from_rows(args.finished.path, tmp_path / "none")
    assert "audio-small: no file is finished" in capsys.readouterr().out and not (tmp_path / "none").exists()


def test_commands_of_a_table_make_just_its_rows():
    """Files that are alike in seeds and in --quick are of one command; rows that do not say where theirs is are of the
    folder of their kind."""
    import extension

    rows = [{"file": "a.png", "kind": "image", "quick": False, "seed": seed} for seed in (0, 1)]
    rows += [{"file": "c d.png", "kind": "image", "path": "images/kodak/c d.png", "quick": True, "seed": 0}]
    rows += [{"file": name, "kind": "image", "quick": True, "seed": 0} for name in ("b.png", "a.png")]
    rows += [{"file": "e.wav", "kind": "audio", "path": "/elsewhere/e.wav", "quick": True, "seed": 2}]
    said = [tyro.cli(extension.Args, args=shlex.split(c)[1:]) for c in extension.commands(rows, " --preset p")]
    made = [
        (path.as_posix(), args.quick, seed)
        for args in said
        for seed in (range(args.seeds) if args.seeds else (args.seed,))
        for path in args.data
    ]
    images = "../shared/data/images/"
    assert sorted(made) == sorted(
        [
            *((f"{images}div2k_512/a.png", False, seed) for seed in (0, 1)),
            *((images + name, True, 0) for name in ("kodak/c d.png", "div2k_512/b.png", "div2k_512/a.png")),
            ("/elsewhere/e.wav", True, 2),
        ]
    )
    assert len(said) == 3
