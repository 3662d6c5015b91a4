"""The table of shapes: equal voxels for all networks, rows that outlive an interrupt, meshes and fields of them."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"
PAIR = ("shape", "shape-per-partition")


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def octahedron(path: Path) -> Path:
    """A closed mesh."""
    corners = [(1, 0, 0), (-1, 0, 0), (0, 0.9, 0), (0, -0.9, 0), (0, 0, 0.8), (0, 0, -0.8)]
    faces = [(1, 3, 5), (3, 2, 5), (2, 4, 5), (4, 1, 5), (3, 1, 6), (2, 3, 6), (4, 2, 6), (1, 4, 6)]
    lines = [*(f"v {x} {y} {z}" for x, y, z in corners), *(f"f {a} {b} {c}" for a, b, c in faces)]
    path.write_text("\n".join(lines) + "\n")
    return path


def small(tmp_path: Path, **changes: object):
    """Arguments of a table of 3 steps at 24 voxels."""
    import shapes

    tiny = {"resolution": 24, "steps": 3, "points": 500, "looks": 3, "mesh": 0, "presets": PAIR}
    said = {"data": octahedron(tmp_path / "gem.obj"), "output": tmp_path / "out"} | tiny | changes
    return shapes.Args("meshes", **said)


def test_a_table_of_shapes_goes_on_after_an_interrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """What was finished is not trained again; what was interrupted is not kept; the table is of all rows there are."""
    import shapes

    args = small(tmp_path, seeds=2)
    kept = tmp_path / "out" / "rows" / "meshes-resolution-24-steps-3-points-500.jsonl"
    assert args.finished.path == kept
    real, measured = shapes.measure, []

    def measure(field, data):
        measured.append(field.sizes.global_width)
        if len(measured) == 4:  # in the first step of the second run
            os.kill(os.getpid(), signal.SIGINT)
        return real(field, data)

    monkeypatch.setattr(shapes, "measure", measure)
    shapes.main(args)
    assert "the same command goes on" in capsys.readouterr().out and len(measured) == 4
    first = kept.read_text()
    assert [json.loads(line)["preset"] for line in first.splitlines()] == ["shape"]
    assert (
        not (args.folder / "results.md").exists()
        and not (args.folder / "runs" / f"{PAIR[1]}.gem.0.safetensors").exists()
    )
    shapes.main(args)
    lines = kept.read_text().splitlines()
    assert lines[0] + "\n" == first and len(measured) == 4 + 3 * 3, "the first row was made again"
    rows = [json.loads(line) for line in lines]
    assert [(r["preset"], r["seed"]) for r in rows] == [(p, s) for s in (0, 1) for p in PAIR]
    assert all([p[0] for p in r["curve"]] == [500, 1000, 1500] and r["voxels"] == 1500 for r in rows)
    text = (args.folder / "results.md").read_text()
    assert (
        "| gem | shape |" in text and "IoU at 0.0005 M voxels | IoU at 0.001 M voxels | IoU at 0.0015 M voxels" in text
    )
    assert "| shape over | pairs |" in text and "of 2 |" in text and "--seeds 2`: 4 run(s)" in text
    assert "mesh of" not in text and "seed 0, 1" in text


def test_fields_of_the_table_are_those_that_its_rows_measured(tmp_path: Path):
    """The file of a run has the IoU of its row; seeds differ, the same seed does not."""
    import shapes

    import lg_field

    args = small(tmp_path, presets=("shape-per-partition",), seeds=2)
    shapes.main(args)
    rows = args.finished.all()
    data = shapes.shape_of(args.data, 24)
    for row in rows:
        field = lg_field.load(args.folder / "runs" / f"shape-per-partition.gem.{row['seed']}.safetensors")
        assert shapes.measure(field, data)["iou"] == pytest.approx(row["iou"], abs=1e-6)
        assert field.num_rows == row["rows"] and field.num_parameters()["total"] == row["parameters"]
    assert rows[0]["iou"] != rows[1]["iou"]
    shapes.main(replace(args, again=True, seeds=1))
    again = args.finished.all()
    assert len(again) == 2 and again[-1]["seed"] == 0 and again[-1]["curve"][-1][2] == rows[0]["iou"]


def test_a_row_of_the_defaults_goes_below_the_repository_and_makes_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """`{{shapes/meshes}}` is made of rows alone; of another rate they are left out and that is said."""
    import page
    import shapes
    from rows import ROWS

    assert shapes.Args("lucy", Path()).finished.path == ROWS / "shapes" / "lucy.jsonl"
    assert shapes.Args("lucy", Path(), lr=1e-3).finished.path.parent == Path("outputs/tables/shapes/rows")
    monkeypatch.setitem(shapes.TABLES, "meshes", shapes.Table("shapes", 24, 3, published="Published: .5"))
    args = small(
        tmp_path, resolution=0, steps=0, points=0, mesh=16, presets=PAIR[1:], rows=tmp_path / "rows" / "shapes"
    )
    shapes.main(args)
    (row,) = args.finished.all()
    assert args.finished.path == tmp_path / "rows" / "shapes" / "meshes.jsonl" and row["settings"]["resolution"] == 24
    args.finished.add(row | {"settings": row["settings"] | {"lr": 1.0}, "iou": 0.4321})
    (tmp_path / "around.md").write_text("before\n\n{{shapes/meshes}}\n")
    args.data.unlink()
    capsys.readouterr()
    page.main(page.Args(tmp_path / "t", tmp_path / "page.md", tmp_path / "around.md", tmp_path / "rows"))
    text = (tmp_path / "page.md").read_text()
    assert f" {row['iou']:.4f} |" in text and "0.4321" not in text and "meshes at 16. Published: .5" in text
    assert f"| gem, shape-per-partition | {row['chamfer_to_source'] * 1e4:.2f} /" in text
    command = "shapes.py meshes --data ../shared/data --presets shape-per-partition"
    assert f"`python scripts/tables/{command}`: 1 run(s)" in text
    assert "1 of 2 rows have other settings" in capsys.readouterr().out


def test_the_papers_schedule_is_cut_off_and_stays_its_own(tmp_path: Path):
    """A run that ends early has the rates of the whole schedule, and is no row of a run to its end."""
    import shapes

    args = replace(small(tmp_path), experiment="lucy-paper", steps=2)
    whole = shapes.Args("lucy-paper", Path())
    fit, own = shapes.settings_of(args, "shape").fit, shapes.settings_of(replace(args, experiment="lucy"), "shape").fit
    assert (fit.steps, fit.lr, fit.sample, fit.points) == (26844, 1e-4, "uniform", 500)
    assert (own.steps, own.sample) == (2, "mixed")
    assert shapes.differences(args, "shape")["stop"] == 2 and shapes.differences(whole, "shape")["stop"] == 26844
    assert "stop" not in shapes.differences(shapes.Args("lucy", Path()), "shape")
    assert shapes.Args("lucy", Path()).setting("steps") * 50_000 == 142_500_000
    shapes.main(replace(args, presets=PAIR[1:], looks=1))
    (row,) = args.finished.all()
    assert row["steps"] == 2 and row["voxels"] == 1000 and len(row["curve"]) == 1
    for kept in (False, True):
        with pytest.raises(SystemExit, match=r"--steps 26845 of lucy-paper: .* has 26844 steps: .* the table lucy$"):
            shapes.main(replace(args, steps=26845, kept=kept))
    shapes.check_steps(replace(args, steps=26844))
    shapes.check_steps(replace(args, experiment="lucy", steps=26845))


def test_a_run_that_is_interrupted_in_its_last_step_is_kept_and_no_other_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """It is at its end; an interrupt before that leaves no row. Its mesh is made when the table goes on."""
    import shapes

    args = small(tmp_path, presets=PAIR, looks=3, mesh=16)
    real, measured = shapes.measure, []

    def measure(field, data):
        measured.append(field)
        if len(measured) in (2, 5):
            os.kill(os.getpid(), signal.SIGINT)
        return real(field, data)

    monkeypatch.setattr(shapes, "measure", measure)
    shapes.main(args)
    assert len(measured) == 2 and not args.finished.path.exists()
    shapes.main(args)
    (row,) = args.finished.all()
    assert len(measured) == 5 and row["steps"] == 3 and row["preset"] == PAIR[0] and "mesh" not in row
    assert capsys.readouterr().out.count("interrupted: ") == 2
    shapes.main(args)
    rows = {r["preset"]: r for r in args.finished.all()}
    assert len(measured) == 8 and [r["mesh"] for r in rows.values()] == [16, 16]
    assert row.items() <= rows[PAIR[0]].items(), "the first row was made again"


def test_a_row_outlives_an_interrupt_while_its_mesh_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its figures are then of the field file of just this run, and of no other."""
    import shapes

    args, real = small(tmp_path, presets=PAIR[1:], mesh=16), shapes.meshed

    def interrupted(field, data, resolution):
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "meshed", interrupted)
    with pytest.raises(KeyboardInterrupt):
        shapes.main(args)
    (row,) = args.finished.all()
    monkeypatch.setattr(shapes, "meshed", real)
    args.finished.replace(row, row | {"iou": 2.0})
    shapes.main(args)
    (other,) = args.finished.all()
    assert other["iou"] == 2.0 and "mesh" not in other
    args.finished.replace(other, row)
    shapes.main(args)
    (more,) = args.finished.all()
    assert more["iou"] == row["iou"] and more["chamfer_to_source"] > 0


def test_counts_that_make_no_sense_are_one_line(tmp_path: Path):
    import extension
    import restoration
    import shapes

    for changes in ({"steps": -1}, {"seeds": 0}):
        ((name, value),) = changes.items()
        with pytest.raises(SystemExit, match=f"^--{name} {value}: it is {value + 1} or more$"):
            shapes.main(replace(small(tmp_path), **changes))
    with pytest.raises(SystemExit, match=r"^--stop -1: it is 0 or more$"):
        restoration.main(restoration.Args("ct", Path(), stop=-1))
    with pytest.raises(SystemExit, match=r"^--steps -1: it is 0 or more$"):
        extension.main(extension.Args((), "audio", steps=-1))


def test_commands_of_a_table_train_the_networks_and_seeds_of_its_rows():
    import shapes

    runs = [("shape", 0), ("shape", 1), ("shape-global", 0), ("shape-per-partition", 1)]
    rows = [dict(zip(("preset", "seed"), run)) for run in runs]
    whole = [{"preset": p, "seed": 0} for p in shapes.PRESETS]
    begin = "shapes.py lucy --data ../shared/data"
    assert shapes.commands(shapes.Args("lucy", Path()), whole) == [begin]
    assert shapes.commands(shapes.Args("lucy", Path(), points=9), rows) == [
        f"{begin} --points 9 --presets shape shape-per-partition --seeds 2",
        f"{begin} --points 9 --presets shape-global",
    ]


def test_options_of_other_numbers_are_other_folders():
    """As they are said, to the last digit."""
    import shapes

    first, second = (shapes.Args("lucy", Path(), points=n, lr=0.00012345678) for n in (1234567, 1234568))
    assert first.folder.name == "lucy-points-1234567-lr-0.00012345678"
    assert first.finished.path != second.finished.path


def test_a_look_that_some_runs_of_a_line_lack_is_left_out():
    """All means of a line are of as many runs as it says."""
    import shapes

    known = {"file": "a.obj", "rows": 4, "full": 0, "parameters": 9, "seconds": 1.0, "steps": 2}
    curves = {"shape": ([[1e6, 1, 0.5], [2e6, 2, 0.75]], [[2e6, 2, 0.25]]), "shape-global": ([[2e6, 2, 0.5]],)}
    runs = [known | {"preset": name, "curve": c} for name, each in curves.items() for c in each]
    first, second = shapes.table(runs)
    assert (
        first["runs"] == "2" and first["IoU at 2 M voxels"].startswith("0.5000 ±") and "IoU at 1 M voxels" not in first
    )
    assert second["runs"] == "1" and second["IoU at 2 M voxels"] == "0.5000"
    more = list(shapes.table([*runs, known | {"preset": "shape-per-partition", "curve": curves["shape"][0]}]))
    assert [line["IoU at 1 M voxels"] for line in more] == ["", "", "0.5000"]


def test_what_is_no_table_or_network_or_is_not_installed_is_said_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    import shapes

    with pytest.raises(SystemExit, match=r"no table lucky of .*: tables are lucy, lucy-paper, meshes"):
        shapes.main(shapes.Args("lucky", tmp_path))
    with pytest.raises(
        SystemExit, match=r"no table lucy of audio: .* presets shape, shape-per-partition, shape-global"
    ):
        shapes.main(shapes.Args("lucy", tmp_path, presets=("audio",)))
    monkeypatch.setattr(shapes, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"needs open3d: pip install .*, or --mesh 0 for none"):
        shapes.main(small(tmp_path, mesh=16))
    shapes.main(small(tmp_path, kept=True))
    assert "no run of it is finished" in capsys.readouterr().out and not (tmp_path / "out").exists()


def test_margins_are_of_the_same_shapes_and_seeds():
    """Whichever shape comes first, Local-Global is what the others are held against."""
    import shapes

    runs = [("shape-per-partition", "a", 0, 0.9), ("shape", "b", 0, 0.97), ("shape-per-partition", "b", 0, 0.96)]
    runs += [("shape", "b", 1, 0.99), ("shape-per-partition", "b", 1, 0.96), ("shape-global", "b", 1, 0.5)]
    (row,) = shapes.margins([dict(zip(("preset", "file", "seed", "iou"), run)) for run in runs])
    assert row["shape over"] == "shape-per-partition" and row["pairs"] == "2"
    assert row["IoU x 100, 95 % interval"] == "+2.00 ± 12.71" and row["better in (IoU x 100)"] == "2 of 2"


def test_files_are_those_of_the_folder_of_all_data_of_a_folder_or_one(tmp_path: Path):
    import shapes

    for name in ("shapes/lucy.obj", "shapes/bunny.obj"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    bunny, lucy = (tmp_path / "shapes" / f"{name}.obj" for name in ("bunny", "lucy"))
    assert shapes.files_of(shapes.Args("meshes", tmp_path)) == [bunny, lucy]
    assert shapes.files_of(shapes.Args("meshes", bunny)) == [bunny]
    assert shapes.files_of(shapes.Args("lucy", tmp_path)) == [lucy]
    assert shapes.files_of(shapes.Args("lucy", tmp_path / "shapes")) == [bunny, lucy], "a folder is that folder"
