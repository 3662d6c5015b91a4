"""The tables of restoration of several seeds: what depends on them, what is paired, what goes on after an interrupt."""

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
import tyro
from commands import picture
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def small(tmp_path: Path, task: str, *rows: str, **changes: object):
    """Arguments of a table of 2 steps."""
    import restoration

    Image.fromarray(picture(96, 128)).save(tmp_path / "true.png")
    said = {"quick": True, "stop": 2, "every": 1, "rows": rows, "output": tmp_path / "out"} | changes
    return restoration.Args(task, tmp_path / "true.png", **said)


def rows_of(args) -> list[dict]:
    return [json.loads(line) for line in args.finished.path.read_text().splitlines()]


def test_only_noise_makes_a_classical_method_depend_on_the_seed(tmp_path: Path):
    """Denoising measures anew for each seed, all rows of a seed alike; an enlargement is one and the same."""
    import restoration

    args = small(tmp_path, "denoising", "denoising-siren", seeds=2)
    restoration.main(args)
    rows = {(r["row"], r.get("seed")): r for r in rows_of(args)}
    assert list(rows) == [(name, s) for s in (0, 1) for name in ("non-local means", "measured", "denoising-siren")]
    for name in ("non-local means", "measured", "denoising-siren"):
        assert rows[(name, 0)]["psnr"] != rows[(name, 1)]["psnr"], name
    names = ("true", "measured", "measured-1", "non-local-means-1", "denoising-siren", "denoising-siren-1")
    pictures = {name: (args.folder / f"{name}.png").read_bytes() for name in names}
    assert len({*pictures.values()}) == len(names) and not (args.folder / "true-1.png").exists()

    args = small(tmp_path, "super-resolution", "super-resolution", "super-resolution-siren", seeds=3)
    restoration.main(args)
    rows = {(r["row"], r.get("seed")): r for r in rows_of(args)}
    trained = ("super-resolution", "super-resolution-siren")
    assert list(rows) == [("bicubic", None), *((name, s) for s in (0, 1, 2) for name in trained)]
    assert len({r["psnr"] for r in rows.values()}) == 7
    text = (args.folder / "results.md").read_text()
    gains = [rows[(trained[0], s)]["psnr"] - rows[("bicubic", None)]["psnr"] for s in (0, 1, 2)]
    assert f"| bicubic | 3 | {sum(gains) / 3:+.2f} ± " in text and "| super-resolution-siren | 3 |" in text
    assert "seed 0, 1, 2." in text and "--stop 2 --seeds 3`: 7 run(s)" in text


def test_a_run_interrupted_in_its_last_step_is_kept_and_no_other_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import restoration

    args = small(tmp_path, "denoising", "denoising-siren", "denoising-lg-siren", seeds=2)
    real, looks = restoration.pictures.compare, []

    def compare(*pair):
        looks.append(pair)
        if len(looks) == 4:  # two pictures that are not trained, the first and the last step of a run
            os.kill(os.getpid(), signal.SIGTERM)
        return real(*pair)

    monkeypatch.setattr(restoration.pictures, "compare", compare)
    restoration.main(args)
    assert "interrupted: " in capsys.readouterr().out and len(looks) == 4
    last = rows_of(args)[-1]
    assert (last["row"], last["seed"], last["steps"], len(rows_of(args))) == ("denoising-siren", 0, 2, 3)
    assert [p[0] for p in last["curve"]] == [1, 2]


def test_commands_say_where_each_picture_is_and_its_own_seeds(tmp_path: Path):
    """Of rows that do not say it, in the folder of the task."""
    import restoration

    data = tmp_path / "shared" / "data" / "other"
    data.mkdir(parents=True)
    Image.fromarray(picture(96, 96)).save(data / "a.png")
    args = restoration.Args("ct", data / "a.png", ("ct-siren",), stop=1, quick=True, output=tmp_path / "out")
    restoration.main(args)
    rows = rows_of(args)
    assert [r["path"] for r in rows] == ["other/a.png"] * 2
    args.finished.add({k: v for k, v in rows[1].items() if k != "path"} | {"file": "b.png", "seed": 2})
    restoration.write(args)
    text = (args.folder / "results.md").read_text()
    found = re.findall(r"`python scripts/tables/restoration.py ct --data \.\./shared/data/(.*?)`", text)
    assert found == ["ct/b.png --quick --stop 1 --seed 2", "other/a.png --quick --stop 1"]


def test_seeds_go_on_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The run under way is lost, those before are not made again; one seed more adds its own rows."""
    import restoration

    args = small(tmp_path, "ct", "ct-siren", "ct-lg-siren", seeds=2)
    Image.fromarray(picture(96, 96)).save(tmp_path / "true.png")
    real, looks = restoration.pictures.compare, []

    def compare(*pair):
        looks.append(pair)
        if len(looks) == 4:  # filtered back-projection, both steps of a run, the first of the next
            os.kill(os.getpid(), signal.SIGINT)
        return real(*pair)

    monkeypatch.setattr(restoration.pictures, "compare", compare)
    restoration.main(args)
    first = args.finished.path.read_text()
    assert "interrupted" in capsys.readouterr().out
    assert [r["row"] for r in rows_of(args)] == ["filtered back-projection", "ct-siren"] and len(looks) == 4
    assert "| ct-siren |" in (args.folder / "results.md").read_text(), "what is there is shown"
    restoration.main(args)
    assert args.finished.path.read_text().startswith(first) and len(looks) == 4 + 3 * 2
    assert [(r["row"], r["seed"]) for r in rows_of(args)[1:]] == [
        (name, s) for s in (0, 1) for name in ("ct-siren", "ct-lg-siren")
    ]


def test_the_page_shows_mean_and_spread_of_seeds(tmp_path: Path):
    """`{{restoration/ct}}` of rows alone, with the mean of their curves."""
    import page
    import report
    import restoration

    args = restoration.Args("ct", Path("slice.png"), rows_in=tmp_path / "rows" / "restoration")
    assert restoration.Args("ct", Path()).finished.path.parts[-2:] == ("restoration", "ct.jsonl")
    common = {"file": "slice.png", "machine": "m", "commit": "c", "ssim": 0.9}
    args.finished.add({"row": "filtered back-projection", "settings": {}, "psnr": 31.0} | common)
    for seed, name, gain in ((s, n, g) for s in (0, 1) for n, g in (("ct", 1.0), ("ct-incode", 0.75))):
        psnr = 31.0 + gain + seed * 0.2
        known = {"parameters": 9, "steps": 2001, "of": 2001, "seconds": 50.0}
        curve = {"curve": [[100, 2.0, psnr - 3.0], [2001, 50.0, psnr]]}
        row = {"row": name, "seed": seed, "settings": restoration.differences(args, name), "psnr": psnr}
        args.finished.add(row | common | known | curve)
    drawn: dict[str, report.Curve] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "plot", lambda curves, title, path: (drawn.update(curves), path.touch()))
        page.main(page.Args(tmp_path / "t", tmp_path / "page.md", rows=tmp_path / "rows"))
    text = (tmp_path / "page.md").read_text()
    assert "| ct | 9 | 2001 of 2001 | 2 | 32.10 ± 0.14 | 0.900 ± 0.000 | 50 |" in text
    assert "| filtered back-projection |  |  | 1 | 31.00 | 0.900 |  |" in text
    assert "| ct-incode | 2 | +0.25 ± 0.00 | 2 of 2 |" in text
    assert "| filtered back-projection | 2 | +1.10 ± 1.27 | 2 of 2 |" in text, "against each seed"
    (command,) = re.findall(r"`python scripts/tables/restoration.py (.*?)`: 5 run\(s\), 200 s", text)
    said = tyro.cli(restoration.Args, args=shlex.split(command))
    assert (said.task, said.data, said.seeds) == ("ct", Path("../shared/data/ct/slice.png"), 2)
    args.finished.add(row | common | known | curve | {"file": "a b.png"})
    page.main(page.Args(tmp_path / "t", tmp_path / "page.md", rows=tmp_path / "rows"))
    commands = re.findall(r"`python scripts/tables/restoration.py (.*?)`", (tmp_path / "page.md").read_text())
    files = [tyro.cli(restoration.Args, args=shlex.split(command)).data.name for command in commands]
    assert files == ["a b.png", "slice.png"], "a command for each picture"
    assert drawn["ct"] == [(100, 2.0, pytest.approx(29.1)), (2001, 50.0, pytest.approx(32.1))]


def test_rows_of_no_setting_of_now_make_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import restoration

    args = restoration.Args("ct", Path(), rows_in=tmp_path)
    args.finished.add({"row": "ct", "seed": 0, "settings": {"lr": 1.0}})
    restoration.from_rows(tmp_path / "ct.jsonl", tmp_path / "out" / "ct")
    said = capsys.readouterr().out
    assert "1 of 1 rows have other settings" in said and "ct: no row of it is finished" in said
    assert not (tmp_path / "out").exists()


def test_the_seeds_of_a_command_are_those_of_its_rows():
    from rows import seeds_said

    assert [seeds_said(s) for s in ([], [0], [0, 1, 2], [1], [0, 2])] == [
        *([""], [""], [" --seeds 3"], [" --seed 1"], [" --seed 0", " --seed 2"]),
    ]
