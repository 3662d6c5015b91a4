"""The commands under tables of many pictures: run as they stand, they make such rows."""

import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import tyro

SCRIPTS = Path(__file__).parents[1] / "scripts" / "tables"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPTS))


def test_variants_say_steps_files_and_which():
    import variants

    given = variants.Args("images", Path())
    whole = [{"variant": name, "file": file} for name in variants.IMAGES for file in ("00", "01")]
    assert variants.command(given, whole) == "variants.py images --data ../shared/data"
    some = [r for r in whole if r["variant"] in ("LG", "LG lr 1e-3") and r["file"] == "00"]
    said = variants.command(replace(given, steps=40), some)
    args = tyro.cli(variants.Args, args=shlex.split(said)[1:])
    assert (args.table, args.files, args.steps, args.variants) == ("images", 1, 40, ("LG", "LG lr 1e-3"))


RESTORED = {"size": "8 x 8", "parameters": 9, "classical": 20.0, "network": 22.0, "curve": [[1, 22.0]], "seconds": 1.0}


def test_pictures_say_folder_number_factor_seed_and_noise():
    import pictures

    rows = [{"picture": f"{k}.png", "reduce": 4, "seed": 0} for k in range(3)]
    rows += [{"picture": "0.png", "reduce": 2, "seed": 1, "path": "images/some more/0.png"}]
    rows += [{"picture": "0.png", "reduce": 4, "seed": 0, "tau": 400.0}]
    said = pictures.commands(rows, "pictures.py denoise --preset p")
    found = [tyro.cli(pictures.Args, args=shlex.split(command)[1:]) for command in said]
    data = Path("../shared/data/images")
    assert [(a.data, a.pictures, a.reduce, a.seed, a.tau, a.preset) for a in found] == [
        (data / "kodak", 3, 4, 0, 40.0, "p"),
        (data / "kodak", 1, 4, 0, 400.0, "p"),
        (data / "some more", 1, 2, 1, 40.0, "p"),
    ]
    means = [line for line in pictures.table([r | RESTORED for r in rows], "classical") if "mean" in line["picture"]]
    assert [(line["picture"], line["network"]) for line in means] == [
        ("mean of 3, averaged down by 4", "+2.00, ahead in 3"),
        ("mean of 1, averaged down by 2", "+2.00, ahead in 1"),
        ("mean of 1, averaged down by 4, tau 400", "+2.00, ahead in 1"),
    ], "pictures of one size and noise are counted together"
    with pytest.raises(SystemExit, match="--tau is of the noise that denoise adds"):
        pictures.main(pictures.Args("super-resolve", Path(), tau=400.0))


def test_a_row_says_where_its_file_is_below_the_folder_of_all_data(tmp_path: Path):
    from rows import below_data, data_path

    assert below_data(Path("../shared/data/images/a/b.png")) == "images/a/b.png"
    assert below_data(tmp_path / "b.png") == str(tmp_path / "b.png"), "in no such folder: as it is"
    for row in ({"file": "b.png"}, {"file": "c", "path": "images/a/b.png"}):
        assert data_path(row, "images/a") == "../shared/data/images/a/b.png"
    assert data_path({"file": "b.png", "path": "/x/b.png"}, "images") == "/x/b.png"
