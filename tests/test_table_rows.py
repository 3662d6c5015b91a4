"""Rows of tables that outlive the machine: read again, of their own settings only, and made into the page."""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from commands import picture
from PIL import Image

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def refuse() -> dict[str, float]:
    raise AssertionError("it was made again")


def test_a_finished_row_is_read_again_and_one_of_other_settings_or_data_is_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from rows import Rows

    kept = Rows(tmp_path / "new" / "a.jsonl")
    said = {"preset": "p", "seed": 0, "data": 7, "settings": {"lr": 1e-3, "counts": (2, 2)}}
    assert kept.once(said, lambda: None) is None and kept.all() == [], "an interrupted run is not kept"
    made = kept.once(said, lambda: {"psnr": 30.0, "seconds": 1.0})
    assert made is not None and made["machine"] and "commit" in made and made["settings"]["counts"] == [2, 2]
    assert Rows(kept.path).once(said, refuse) == made
    other = said | {"settings": {"lr": 2e-3}}
    assert kept.once(other, lambda: {"psnr": 31.0})["psnr"] == 31.0
    assert "1 row(s) of p 0 have other settings and are left out" in capsys.readouterr().out
    assert [r["psnr"] for r in kept.of_now(lambda r: {"lr": 2e-3})] == [31.0]
    assert "1 of 2 rows have other settings" in capsys.readouterr().out
    assert kept.of_now(lambda r: None) == []
    with pytest.raises(SystemExit, match=r"a.jsonl has p 0 of other data: .*--rows"):
        kept.once(said | {"data": 8}, refuse)
    again = Rows(kept.path, again=True).once(said, lambda: {"psnr": 32.0})
    assert again["psnr"] == 32.0 and [r["psnr"] for r in kept.all()] == [31.0, 32.0]


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from rows import Rows

    kept = Rows(tmp_path / "a.jsonl")
    kept.add({"n": 1})
    kept.path.write_text(kept.path.read_text() + '{"n": 2, "psn')
    kept.add({"n": 3})
    assert [r["n"] for r in kept.all()] == [1, 3]
    assert "a.jsonl, line 2 is not JSON and left out" in capsys.readouterr().out


def test_settings_are_what_is_not_the_default_and_the_seed_is_none():
    from rows import changed

    from lg_field.signals.settings import CompleteFit, CompleteNetwork

    assert changed(CompleteNetwork(), CompleteFit(seed=4)) == {}
    assert changed(CompleteNetwork(counts=(2, 2)), CompleteFit(lr=1.0)) == {"counts": (2, 2), "lr": 1.0}


def test_a_curve_is_kept_at_its_quarters_and_its_end():
    from rows import thinned

    curve = [(k, 0.1 * k, 20.0) for k in range(1, 1001)]
    steps = [p[0] for p in thinned(curve)]
    assert len(steps) == 20 and {250, 500, 750, 1000} <= set(steps)
    assert thinned(curve[:3]) == curve[:3] and thinned([]) == []


def test_a_table_is_written_of_its_rows_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the data; a row of settings that the preset has no more is not mixed in; seconds and commits add up."""
    import page
    import signals

    (tmp_path / "images").mkdir()
    Image.fromarray(picture(128, 128)).save(tmp_path / "images" / "a.png")
    presets = ("image-small-per-partition",)
    args = signals.Args("images-small", tmp_path / "images", 0, 1, presets, output=tmp_path / "t" / "signals")
    short = replace(signals.settings_of(args, "image", "image-small-per-partition").fit, steps=3)
    real = signals.read_preset
    monkeypatch.setattr(signals, "read_preset", lambda name: replace(real(name), fit=short))
    args = replace(args, rows=tmp_path / "rows" / "signals")
    signals.main(args)
    kept = tmp_path / "rows" / "signals" / "images-small.jsonl"
    (row,) = [json.loads(line) for line in kept.read_text().splitlines()]
    assert row["steps"] == 3 and row["settings"]["steps"] == 3 and len(row["curve"]) == 3
    other = row | {"settings": row["settings"] | {"lr": 1.0}, "psnr": 99.0}
    kept.write_text("".join(json.dumps(r | {"commit": c}) + "\n" for r, c in ((row, "abc"), (other, "def"))))
    page.main(page.Args(tmp_path / "again", tmp_path / "page.md", rows=tmp_path / "rows"))
    text = (tmp_path / "page.md").read_text()
    assert f"| image-small-per-partition | 13,008 | 1 | {row['psnr']:.2f} |" in text and "99.00" not in text
    assert "1 run(s)" in text and "commit abc," in text and "def" not in text
    assert "`python scripts/tables/signals.py images-small --data ../shared/data`" in text


def test_a_run_interrupted_in_its_last_step_is_kept_and_no_other_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """An interrupt before that leaves no row."""
    import signals

    Image.fromarray(picture(64, 64)).save(tmp_path / "a.png")
    presets = ("image-small-per-partition", "image-small-global")
    args = signals.Args("images-small", tmp_path / "a.png", 0, 1, presets, steps=3, output=tmp_path / "out")
    real, times = signals.report.now, []

    def now():
        times.append(real())
        if len(times) in (3, 7):  # in the second step of the first run, in the last of the next
            os.kill(os.getpid(), signal.SIGINT)
        return times[-1]

    monkeypatch.setattr(signals.report, "now", now)
    kept = args.finished("images-small")
    signals.main(args)
    assert len(times) == 3 and not kept.path.exists()
    signals.main(args)
    assert len(times) == 3 + 4 and [(r["preset"], r["steps"]) for r in kept.all()] == [(presets[0], 3)]
    assert capsys.readouterr().out.count("interrupted: ") == 2
    signals.main(args)
    assert [r["preset"] for r in kept.all()] == list(presets)


def test_curves_are_of_the_runs_that_all_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A preset that was tried on the easy picture only does not look better for it; the plot goes beside the page."""
    import page
    import report
    import signals

    def row(preset: str, file: str, psnr: float) -> dict[str, object]:
        found = {"preset": preset, "file": file, "seed": 0, "kind": "image", "machine": "m", "commit": "c"}
        settings = signals.differences(signals.Args("images", Path()), found)
        curve = [[k, 0.1 * k, psnr - 10.0 / k] for k in (250, 500, 750, 1000)]
        figures = {"psnr": psnr, "psnr_late": psnr, "swing": 0.0, "mse": 1e-3, "ssim": 0.9, "psnr_stretched": psnr}
        known = {"parameters": 5, "steps": 1000, "seconds": 100.0, "curve": curve}
        return found | {"settings": settings} | figures | known

    kept = tmp_path / "rows" / "signals" / "images.jsonl"
    kept.parent.mkdir(parents=True)
    rows = [row("image-div2k", "easy", 40.0), row("image-div2k", "hard", 20.0), row("image-div2k-global", "easy", 39.0)]
    kept.write_text("".join(json.dumps(r) + "\n" for r in rows))
    drawn = []
    real = report.plot
    monkeypatch.setattr(report, "plot", lambda *arguments: (drawn.append(arguments), real(*arguments)))
    page.main(page.Args(tmp_path / "t", tmp_path / "page.md", rows=tmp_path / "rows"))
    curves, title, _ = drawn[0]
    assert {name: round(points[-1][2]) for name, points in curves.items()} == {
        "image-div2k (1 run)": 40,
        "image-div2k-global (1 run)": 39,
    }
    assert title == "images: easy, 1 seed(s), 1,000 steps"
    text = (tmp_path / "page.md").read_text()
    assert "| image-div2k | 5 | 2 | 30.00 ± 14.14 |" in text and "| image-div2k | 39.96 | 39.98 | 39.99 |" in text
    assert "Of 2 runs image-div2k-global 1 are made" in text and "are of only the 1 that all have." in text
    drawing = (tmp_path / "page" / "signals-images.png").read_bytes()
    assert drawing == (tmp_path / "t" / "signals" / "images" / "curves.png").read_bytes() and len(drawing) > 5000
    assert "(page/signals-images.png)" in text
    apart = [r for r in rows if r["file"] != ("easy" if r["preset"] == "image-div2k" else "hard")]
    assert signals.shared(apart) == apart and "for no run is made by all" in signals.uneven(apart)


def test_a_mean_curve_is_of_the_steps_that_all_curves_have():
    import report

    curves = [[(1, 1.0, 10.0), (2, 2.0, 20.0), (4, 4.0, 30.0)], [(2, 4.0, 30.0), (3, 5.0, 0.0), (4, 8.0, 40.0)]]
    assert report.mean_curve(curves) == [(2, 3.0, 25.0), (4, 6.0, 35.0)]
    assert report.mean([1.0, 3.0], 2) == "2.00 ± 1.41" and report.mean([1.0, 3.0], 1, spread=False) == "2.0"
    assert report.mean([1234.5], 1) == "1,234.5" and report.mean([], 1) == ""


def test_a_table_that_was_not_made_now_stays_in_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    import page

    around = tmp_path / "around.md"
    around.write_text("{{one}}\n\nbetween\n\n{{two}}\n")
    for name in ("one", "two"):
        (tmp_path / "first" / name).mkdir(parents=True)
        (tmp_path / "first" / name / "results.md").write_text(f"table {name}\n")
    (tmp_path / "second" / "one").mkdir(parents=True)
    (tmp_path / "second" / "one" / "results.md").write_text("new\n")
    written = page.Args(tmp_path / "first", tmp_path / "page.md", around, tmp_path / "none")
    page.main(written)
    page.main(replace(written, tables=tmp_path / "second"))
    text = (tmp_path / "page.md").read_text()
    assert "new" in text and "table one" not in text and text.index("between") < text.index("table two")
    assert "left as they were: two" in capsys.readouterr().out
    (tmp_path / "page.md").unlink()
    with pytest.raises(SystemExit, match="has places for two, which are not in"):
        page.main(replace(written, tables=tmp_path / "second"))


def test_a_place_for_a_table_that_may_be_missing_is_left_out_with_its_paragraph(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Until there is the table; then it stands there, and stays."""
    import page

    (tmp_path / "around.md").write_text("# A\n\nOf one:\n{{one?}}\n\nbetween\n\nOf two:\n{{two?}}\n")
    (tmp_path / "t" / "one").mkdir(parents=True)
    (tmp_path / "t" / "one" / "results.md").write_text("table one\n")
    args = page.Args(tmp_path / "t", tmp_path / "page.md", tmp_path / "around.md", tmp_path / "none")
    page.main(args)
    text = (tmp_path / "page.md").read_text()
    assert text == "# A\n\nOf one:\n<!-- one -->\n\ntable one\n\n<!-- end of one -->\n\nbetween\n"
    assert "1 tables; not made yet: two\n" in capsys.readouterr().out
    (tmp_path / "t" / "one").rename(tmp_path / "t" / "two")
    page.main(args)
    text = (tmp_path / "page.md").read_text()
    assert text.index("table one") < text.index("between") < text.index("Of two:\n<!-- two -->\n\ntable one")
    assert text.endswith("<!-- end of two -->\n") and "?}}" not in text
    assert "left as they were: one\n" in capsys.readouterr().out


def test_restorations_of_several_seeds_are_one_line_each_with_paired_margins(monkeypatch: pytest.MonkeyPatch):
    import restoration

    def row(name: str, seed: int, psnr: float) -> dict[str, object]:
        return {"row": name, "file": "a", "seed": seed, "psnr": psnr, "ssim": 0.9}

    runs = [row("ct", s, 30.0 + s) | {"steps": 2, "of": 4, "seconds": 1.0, "parameters": 5} for s in (0, 1, 2)]
    runs += [row("ct-incode", s, 29.5 + s) for s in (0, 1, 2)] + [row("ct-siren", 0, 20.0)]
    lines = list(restoration.table(runs))
    assert [line["PSNR"] for line in lines] == ["31.00 ± 1.00", "30.50 ± 1.00", "20.00"]
    assert lines[0]["steps"] == "2 of 4" and lines[2]["seconds"] == "" and lines[0]["runs"] == "3"
    (over,) = restoration.margins(runs, "ct")
    assert over["ct over"] == "ct-incode" and over["dB, 95 % interval"] == "+0.50 ± 0.00"


def test_the_rows_of_the_repository_are_of_the_settings_of_now(capsys: pytest.CaptureFixture[str]):
    """Whoever changes a preset takes its rows out, or makes them anew."""
    import signals
    from rows import ROWS, Rows

    for path in sorted((ROWS / "signals").glob("*.jsonl")):
        args = signals.Args(path.stem, Path())
        rows = Rows(path)
        assert rows.of_now(lambda r: signals.differences(args, r)) == rows.all(), path.name  # noqa: B023
        assert path.stat().st_size < 500_000 and all(len(r["curve"]) <= 20 for r in rows.all())
    assert "left out" not in capsys.readouterr().out and sys.path[0]


def test_every_file_of_rows_in_the_repository_makes_a_table_of_all_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    import page
    from rows import ROWS, Rows

    page.from_rows(ROWS, tmp_path)
    said = capsys.readouterr().out
    for path in ROWS.rglob("*.jsonl"):
        text = (tmp_path / path.relative_to(ROWS).with_suffix("") / "results.md").read_text()
        assert f"{len(Rows(path).all())} run(s)" in text, path.name
    assert "left out" not in said and "no table is written" not in said
