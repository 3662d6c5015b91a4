"""The scripts of scripts/tables, run as anyone would: one program of each is started, others are forked or called."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from commands import picture
from forked import forked, started
from PIL import Image
from test_placing import capture

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


def results(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_table_goes_on_where_it_stopped_and_compares_all_its_runs(tmp_path: Path):
    sound = tmp_path / "tone.wav"
    soundfile.write(sound, 0.5 * np.sin(np.arange(2000) / 20), 8000)

    command = [SCRIPTS / "signals.py", "audio", "--data", sound, "--steps", "4", "--seeds", "2"]
    command += ["--output", tmp_path / "out"]
    started(*command, "--presets", "audio-per-partition", cwd=tmp_path)
    (first,) = results(tmp_path / "out" / "audio-4")
    kept = tmp_path / "out" / "rows" / "audio-4.jsonl"
    made = kept.read_text().splitlines()
    forked(*command, cwd=tmp_path)
    rows = results(tmp_path / "out" / "audio-4")
    assert len(made) == 2 and kept.read_text().splitlines()[:2] == made, "they were trained again"
    assert len(kept.read_text().splitlines()) == 6
    assert [r["preset"] for r in rows] == ["audio", "audio-per-partition", "audio-global"] and first in rows
    assert all(0.0 < float(r["PSNR"].split()[0]) < 99.0 for r in rows)
    said = (tmp_path / "out" / "audio-4" / "results.md").read_text()
    assert "| audio over |" in said and "of 2 |" in said, "margins, of two seeds each"
    assert (tmp_path / "out" / "audio-4" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_restorations_meet_in_one_table(tmp_path: Path):
    Image.fromarray(picture(64, 80)).save(tmp_path / "true.png")
    command = [SCRIPTS / "restoration.py", "denoising", "--data", tmp_path / "true.png"]
    command += ["--quick", "--stop", "2", "--output", tmp_path, "--rows"]
    started(*command, "denoising", cwd=tmp_path)
    forked(*command, "denoising-siren", cwd=tmp_path)
    rows = results(tmp_path / "denoising-quick")
    assert [r[""] for r in rows] == ["non-local means", "measured", "denoising", "denoising-siren"]
    assert [r["steps"] for r in rows[2:]] == ["2 of 40", "2 of 100"]
    assert (tmp_path / "denoising-quick" / "denoising-siren.png").exists()


def test_captures_are_compared_by_what_their_images_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pixels inside of an alpha or a mask are those of the capture, whatever a method makes of it; settings change."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import captures

    data = capture(tmp_path / "ball", masks="grey")
    args = captures.Args(output=tmp_path, pixels=24, steps=3, set=["pipeline.datamanager.masks=ignore"])
    config = captures.make_config(args, str(data), "hash-global")
    assert captures.image_scale(data, 24) == 0.5 and config.pipeline.datamanager.camera_res_scale_factor == 0.5
    assert config.max_num_iterations == 3 and config.optimizers["grids"]["scheduler"].max_steps == 3
    assert config.pipeline.datamanager.masks == "ignore" and config.pipeline.model.sizes.network == "global"
    outputs = config.pipeline.datamanager.setup(device="cpu", test_mode="test").eval_dataset._dataparser_outputs
    picture, inside = captures.truth(outputs, 0.5, 0)
    assert picture.shape == (24, 24, 3) and 0.02 < float(inside.mean()) < 0.2
    assert float(picture[0, 0].min()) == 1.0 and float(inside[0, 0]) == 0.0, "outside it is white"
    with pytest.raises(SystemExit, match="no maskss"):
        captures.make_config(replace(args, set=["pipeline.datamanager.maskss=ignore"]), str(data), "lg-field-tiny")
    for name in ("truth", "a", "b"):
        captures.strip([picture, picture], tmp_path / "ball" / f"{name}.png")
    captures.compare("ball", ["a", "b"], tmp_path)
    with Image.open(tmp_path / "ball.png") as together:
        assert together.size == (48, 72)


def test_crops_are_measured_against_the_share_of_cells(tmp_path: Path):
    """More cells, more of everything; the whole file is the whole."""
    from small_scene import small_scene

    from lg_field import save

    save(small_scene(), tmp_path / "scene")
    command = [sys.executable, str(SCRIPTS / "proportion.py"), str(tmp_path / "scene"), "--size", "12"]
    subprocess.run([*command, "--shares", "0.1", "1", "0.5", "--output", str(tmp_path / "out")], check=True)
    rows = results(tmp_path / "out")
    assert [r["cells"] for r in rows] == ["32 (100.0%)", "32 (100.0%)", "16 (50.0%)", "3 (9.4%)"]
    for name in ("bytes", "parameters", "memory"):
        shares = [float(r[name].split("(")[1].rstrip("%)")) for r in rows]
        assert shares[0] == 100.0 and shares[1:] == sorted(shares[1:], reverse=True) and 9.4 < shares[-1] < 60
    assert (tmp_path / "out" / "proportion.png").read_bytes().startswith(b"\x89PNG")


def test_crops_of_several_files_are_held_against_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A line and rows for each file; columns that a kind of field has not are empty."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import proportion
    from small_scene import small_scene

    from lg_field import save
    from lg_field.networks import siren_per_partition
    from lg_field.space.partition import PartitionGrid

    image = siren_per_partition(PartitionGrid((4, 4), (-1.0, -1.0), (1.0, 1.0)), 3, 8)
    save(small_scene(), tmp_path / "scene.safetensors")
    save(image, tmp_path / "image.safetensors")
    files = (tmp_path / "image.safetensors", tmp_path / "scene.safetensors")
    proportion.main(proportion.Args(files, shares=(1.0, 0.25), size=8, output=tmp_path / "out"))
    rows = results(tmp_path / "out")
    assert [r["file"] for r in rows] == ["image"] * 3 + ["scene"] * 3
    assert rows[2]["cells"] == "4 (25.0%)" and rows[2]["seconds"] == "" and rows[5]["seconds"] != ""
    assert rows[2]["parameters"].endswith("(25.0%)"), "nothing is shared: the parameters are in proportion"


def test_half_a_signal_is_extended_and_the_old_half_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import extension

    Image.fromarray(picture(64, 64)).save(tmp_path / "b.png")
    extension.main(extension.Args((tmp_path / "b.png",), "image-div2k-auto", 3, rows=tmp_path, output=tmp_path / "out"))
    whole, half, grown = results(tmp_path / "out" / "image-div2k-auto-3")
    assert half["new"] == "" and half["old"] == grown["old"] and grown["old weights unchanged"] == "True"
    assert whole["new"] and grown["new"]


def test_restored_pictures_are_counted_against_the_classical_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Rows are kept; the last line counts who is ahead."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import pictures

    from lg_field.restoration import tasks

    (tmp_path / "true").mkdir()
    Image.fromarray(picture(64, 64)).save(tmp_path / "true" / "a.png")
    for name in ("denoise", "super-resolve"):
        task = replace(tasks.TASKS[name], fit=replace(tasks.TASKS[name].fit, steps=4))
        monkeypatch.setitem(tasks.TASKS, name, task)
        args = pictures.Args(name, tmp_path / "true", reduce=1, looks=2, rows=tmp_path, output=tmp_path / "out")
        pictures.main(args)
        kept = tmp_path / f"{name}.jsonl"
        made = kept.read_text()
        pictures.main(args)
        assert kept.read_text() == made and len(made.splitlines()) == 1
        one, mean = results(tmp_path / "out" / name)
        assert one["picture"] == "a.png, 64 x 64" and one["best"].split(" at ")[1] in ("2", "4")
        assert mean["network"].endswith("ahead in 0") and mean["picture"] == "mean of 1"


def test_a_table_says_where_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Command, machine, code and seconds stand under every table; outside of a repository the code is unknown."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import report

    monkeypatch.setattr(sys, "argv", ["/anywhere/signals.py", "audio", "--output", "here", "--data", "a b.wav"])
    text = report.write(tmp_path, [{"a": 1}], "what", [])
    assert text == (tmp_path / "results.md").read_text() and text.startswith("| a |\n| --- |\n| 1 |\n\nwhat\n\n")
    assert "`python scripts/tables/signals.py audio --data 'a b.wav'`" in text and " cores" in text
    assert "commit" in text and text.rstrip().endswith("s of processor time")
    monkeypatch.setattr(report, "__file__", str(tmp_path / "report.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert "commit unknown" in report.provenance()


def test_variants_are_trained_once_and_meet_in_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Each changes what its name says, and nothing else, of the same initial weights."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import variants

    folder = tmp_path / "images" / "div2k_512"
    folder.mkdir(parents=True)
    Image.fromarray(picture(128, 128)).save(folder / "00.png")
    args = variants.Args("images", tmp_path, 1, 2, ("LG",), rows=tmp_path / "rows", output=tmp_path / "out")
    network = variants.settings_of(args, "LG").network
    field, other = (variants.build_network(variants.read_signal(folder / "00.png").signal, network) for _ in range(2))
    variants.IMAGES["LG merge weights x2"].weights(other)
    for name, tensor in field.shared.items():
        assert (other.shared[name] == tensor * (2.0 if name == "merge_weight" else 1.0)).all(), name
    for names in (("LG",), ("LG", "SPP")):
        variants.main(replace(args, variants=names))
    kept = tmp_path / "rows" / "images.jsonl"
    assert [json.loads(line)["variant"] for line in kept.read_text().splitlines()] == ["LG", "SPP"]
    assert [r[""] for r in results(tmp_path / "out" / "images")] == ["LG", "SPP"]
    with pytest.raises(SystemExit, match="images has no variant LGG; there are LG, SPP"):
        variants.main(replace(args, variants=("LGG",)))


def test_variants_differ_from_their_presets_in_what_their_names_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import variants

    plain, more, denser = (
        variants.settings_of(variants.Args("videos", Path()), name)
        for name in ("LG", "LG, 35 % shared", "LG, 2 % a step")
    )
    assert more == replace(plain, network=replace(plain.network, global_share=0.35)) and plain.fit.steps == 5000
    assert denser == replace(plain, fit=replace(plain.fit, sample_fraction=0.02))


def test_images_are_measured_stretched_too(monkeypatch: pytest.MonkeyPatch):
    """Least and largest value of prediction and truth are made alike: gain is free, one outlier is not."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import signals
    import torch

    from lg_field.signals import SignalData
    from lg_field.signals.signal import Signal

    samples = torch.from_numpy(picture(16, 16))
    data = SignalData(samples, Signal("image", (16, 16), 3))
    shown = data.signal.normalize(samples) * 0.5 + 0.1
    monkeypatch.setattr(signals, "decode", lambda field, raw: [shown])
    assert signals.stretched(None, data)["psnr_stretched"] > 80.0
    shown = data.signal.normalize(samples)
    shown[0, 0, 0] = 5.0
    assert signals.stretched(None, data)["psnr_stretched"] < 20.0


def test_runs_that_are_missing_are_said_and_curves_are_read_at_their_quarters(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import signals

    runs = [{"preset": p, "file": f, "seed": 0} for p, f in (("a", "x"), ("a", "y"), ("b", "x"))]
    assert signals.uneven(runs).startswith("Of 2 runs b 1 are made") and signals.uneven(runs[:2]) == ""
    curve = [(float(n), 0.1 * n, 10.0 + n) for n in range(1, 9)]
    (line,) = signals.by_steps([{"preset": "a"} | signals.late(curve)], {"a": curve})
    assert list(line.values()) == ["a", "12.00", "14.00", "16.00", "18.00", "17.50", "1.00"] and "2 steps" in line
    (line,) = signals.by_steps([{"preset": "a"} | signals.late(curve[:1])], {"a": curve[:1]})
    assert list(line.values()) == ["a", "11.00", "11.00", "0.00"], "a curve of one step"


def test_margins_are_paired_and_read_the_last_step_and_the_last_tenth(monkeypatch: pytest.MonkeyPatch):
    """A file that is easy for both adds to neither margin; a swing at the last step is not in the last tenth's mean."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import margins
    from signals import MEASURES

    def run(preset: str, file: str, psnr: float, late: float) -> dict[str, object]:
        return {"preset": preset, "file": file, "seed": 0, "psnr": psnr, "psnr_late": late}

    runs = [run("a", "x", 30.0, 31.0), run("a", "y", 41.0, 41.0), run("a", "z", 9.0, 9.0)]
    runs += [run("b", "x", 31.0, 30.0), run("b", "y", 40.0, 40.0)]
    (row,) = margins.margins(runs, MEASURES)
    assert row["a over"] == "b" and row["pairs"] == "2" and row["better in (dB)"] == "1 of 2"
    assert (
        row["dB, 95 % interval"].startswith("+0.00 ± 12.7") and row["dB, last tenth, 95 % interval"] == "+1.00 ± 0.00"
    )
    assert "dB, stretched, 95 % interval" not in row, "a sound has no such figure"
    seeds = [r | {"seed": 1, "psnr": 10.0} for r in runs if r["file"] != "z"]
    ours, theirs = (
        list(margins.margins([*runs, *(r for r in seeds if r["preset"] in has)], MEASURES)) for has in ("ab", "")
    )
    assert [r["a over"] for r in ours] == ["b, x", "b, y"] and theirs == [row], "few files with seeds: each by itself"
    assert [r["dB, 95 % interval"][:5] for r in ours] == ["-0.50", "+0.50"]
    many = [r | {"file": f} for r in runs + seeds if r["file"] == "x" for f in "pqrst"]
    (row,) = margins.margins(many, MEASURES)
    assert row["pairs"] == "5" and row["dB, 95 % interval"] == "-0.50 ± 0.00", "a file counts once, whatever its seeds"


@pytest.mark.parametrize("end", ["", "-per-partition", "-global"])
@pytest.mark.parametrize("whole, small, part", [("image-div2k", "image-small", 16), ("audio", "audio-small", 4)])
def test_presets_of_smaller_signals_are_the_whole_ones_in_small(whole: str, small: str, part: int, end: str):
    """Cells, frequencies and parameters for a sample, rate and steps."""
    from lg_field.signals.encode import build_network
    from lg_field.signals.presets import read_preset
    from lg_field.signals.settings import resolve
    from lg_field.signals.signal import Signal

    settings, counts = [], []
    for name, shrink in ((whole + end, 1), (small + end, part)):
        shape = (64 * 64 // shrink,) if whole == "audio" else (int(64 / shrink**0.5),) * 2
        signal = Signal("audio", shape, 1, rate=8000) if whole == "audio" else Signal("image", shape, 3)
        settings.append(resolve(signal.traits, read_preset(name)))
        field = build_network(signal, settings[-1].network)
        counts.append(field.num_parameters()["total"])
        cells = field.grid.num_cells
        assert end == "-global" or cells * shrink == (256 if whole != "audio" else 32)
    side = part ** (1 / len(shape))
    scales = [s.network.coordinate_scale or 1.0 for s in settings]
    assert scales[0] == pytest.approx(side * scales[1]) and settings[0].fit == settings[1].fit
    assert counts[0] == pytest.approx(part * counts[1], rel=0.04)


def test_all_tables_that_were_made_meet_on_one_page(tmp_path: Path):
    for name in ("audio", "images"):
        (tmp_path / "tables" / name).mkdir(parents=True)
        (tmp_path / "tables" / name / "results.md").write_text(f"| {name} |\n| --- |\n| 1 |\n\nmade here\n")
        (tmp_path / "tables" / name / "results.csv").write_text(f"{name}\n1\n")
    command = [SCRIPTS / "page.py", tmp_path / "tables", "-o", tmp_path / "results.md", "--rows", tmp_path / "rows"]
    started(*command, cwd=tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert page.index("## audio") < page.index("| audio |") < page.index("## images") and "made here" in page
    assert (tmp_path / "results" / "images.csv").read_text() == "images\n1\n" and "(results/images.csv)" in page
    around = tmp_path / "around.md"
    around.write_text("# Ours\n\nbefore\n\n{{images}}\n\nafter\n")
    forked(*command, "--around", around, cwd=tmp_path)
    page = (tmp_path / "results.md").read_text()
    order = ["# Ours", "before", "| images |", "after", "## audio", "| audio |"]
    assert [page.index(part) for part in order] == sorted(page.index(part) for part in order) and "{{" not in page
    around.write_text("{{shapes}}")
    failed = forked(*command, "--around", around, cwd=tmp_path, fails=True)
    assert "places for shapes" in failed, "a place without a table is said"
    for beside in ("{{images?}}", "{{images}}"):
        around.write_text(f"two\nlines\n\n\nand {{{{shapes?}}}} and {beside}")
        failed = forked(*command, "--around", around, cwd=tmp_path, fails=True)
        assert f"{around}, line 5: the paragraph has places for shapes?, images" in failed, (
            "which would be gone with it"
        )
    around.write_text("{{shapes?}}\n\n{{images?}}")
    forked(*command, "--around", around, cwd=tmp_path)
    page = (tmp_path / "results.md").read_text()
    assert "| images |" in page and "shapes" not in page
    (tmp_path / "none").mkdir()
    command[1] = tmp_path / "none"
    assert "no results.md" in forked(*command, cwd=tmp_path, fails=True)


def test_bytes_fall_with_the_type_of_weights(tmp_path: Path):
    from small_scene import small_scene

    from lg_field import save

    save(small_scene(), tmp_path / "scene.safetensors")
    command = [sys.executable, str(SCRIPTS / "bytes.py"), str(tmp_path / "scene.safetensors"), "--size", "12"]
    subprocess.run([*command, "--output", str(tmp_path / "out")], check=True)
    rows = results(tmp_path / "out")
    assert [r["weights"] for r in rows] == ["float32", "float16", "bfloat16", "int8"]
    sizes = [int(r["bytes"].split(" ")[0].replace(",", "")) for r in rows]
    assert sizes[0] > sizes[1] > sizes[3] and abs(sizes[1] - sizes[2]) < 100
    assert all(float(r["to float32"].removesuffix(" dB")) > 25 for r in rows[1:])


def test_a_scene_is_compared_with_its_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Pictures of the scene itself, taken where the capture's cameras stand, are shown as well as 8 bits tell."""
    import torch
    from ball_scene import ball_scene
    from test_placing import SIZE, capture

    from lg_field import save
    from lg_field.radiance.render import Camera, render

    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bytes as table

    field = ball_scene()
    to_world = torch.eye(4, dtype=torch.float64)
    to_world[:3] = torch.tensor([[0.0, -0.5, 0.0, 3.0], [0.5, 0.0, 0.0, 2.0], [0.0, 0.0, 0.5, 1.0]])
    field.description = replace(field.description, scene_to_world=tuple(map(tuple, to_world.tolist())))
    save(field, tmp_path / "scene.safetensors")
    data = capture(tmp_path / "photos", count=6)
    frames = json.loads((data / "transforms.json").read_text())["frames"]
    for frame in frames:
        pose = torch.linalg.inv(to_world) @ torch.tensor(frame["transform_matrix"], dtype=torch.float64)
        pose[:3, :3] /= torch.linalg.det(pose[:3, :3]) ** (1 / 3)
        seen = render(field, field.description, Camera(pose, 1.0, SIZE, SIZE)).rgb
        Image.fromarray((seen * 255).round().byte().numpy()).save(data / frame["file_path"])
    files = (tmp_path / "scene.safetensors", data)
    table.main(table.Args(files, size=SIZE, types=("float32", "int8"), output=tmp_path / "out"))
    psnrs = [float(r["PSNR"].split(" dB")[0]) for r in results(tmp_path / "out")]
    assert psnrs[0] > 50 and 35 < psnrs[1] <= psnrs[0] + 1


def test_disturbed_cameras_are_as_far_off_as_told_and_alignment_undoes_a_common_motion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import poses

    data = capture(tmp_path / "ball", masks="alpha")
    parser = poses.DisturbedConfig(data=data, degrees=0.5, share=0.01, seed=3).setup()
    train, test = (parser.get_dataparser_outputs(split) for split in ("train", "test"))
    true = parser.true_outputs()
    names = train.image_filenames
    assert names == true.image_filenames and len({*names, *test.image_filenames}) == 24
    before, after = (out.cameras.camera_to_worlds.double().numpy() for out in (true, train))
    cosine = (np.einsum("nij,nij->n", before[..., :3], after[..., :3]) - 1) / 2
    assert np.allclose(np.degrees(np.arccos(cosine)), 0.5, atol=0.01)
    apart = np.linalg.norm(before[..., 3] - after[..., 3], axis=1)
    assert np.ptp(apart) < 1e-5 and np.isclose(apart.mean(), 0.01 * 3.0 * true.dataparser_scale, rtol=1e-2)
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1.0]])
    similarity = np.concatenate([1.7 * turn, [[0.1], [0.2], [-0.4]]], axis=1)
    moved = poses.moved_by(similarity, poses.torch.from_numpy(before))
    found, left = poses.alignment(before, moved.numpy())
    assert np.allclose(found, similarity, atol=1e-6) and np.abs(left).max() < 1e-4
    assert np.allclose(moved[..., :3].transpose(1, 2) @ moved[..., :3], np.eye(3), atol=1e-6)
    turned, _, aside = poses.alignment(before, after)[1].mean(0)
    assert 0.3 < turned < 0.6 and 0.3 < aside < 1.1, "a motion of all explains little of it"
