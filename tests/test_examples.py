"""The examples are short, and run: each in the folder that those before it wrote to, with few steps."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from ball_scene import ball_scene

import lg_field

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 60


def example(name: str) -> ModuleType:
    """An example as a module; `name` begins with its number."""
    (path,) = (ROOT / "examples").glob(f"{name}*.py")
    spec = importlib.util.spec_from_file_location(f"example_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the scene of the first example, trained for a moment."""
    folder = tmp_path_factory.mktemp("examples")
    assert example("01").main(folder, steps=40) < 0.3
    return folder


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_short_numbered_and_explained(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert len(lines) < LONGEST and path.name[:2].isdigit() and lines[0].startswith('"""') and len(lines[0]) > 20
    assert path in EXAMPLES and hasattr(example(path.name[:3]), "main")


def test_numbers_are_given_once() -> None:
    numbers = [path.name[:2] for path in EXAMPLES]
    assert len(set(numbers)) == len(numbers) >= 7


def test_a_scene_is_trained(folder: Path) -> None:
    field = lg_field.load(folder / "scene.safetensors")
    assert field.grid.counts == (8, 8, 8) and field.description is not None


def test_a_crop_shows_the_same_pixels(folder: Path) -> None:
    assert example("02").main(folder) == 0.0
    assert (folder / "crop.safetensors").stat().st_size < (folder / "scene.safetensors").stat().st_size


def test_extending_changes_no_old_row(folder: Path) -> None:
    assert example("03").main(folder, steps=5)


def test_a_removed_object_takes_its_cells_along(tmp_path: Path) -> None:
    lg_field.save(ball_scene(), tmp_path / "scene.safetensors")
    before, after = example("04").main(tmp_path)
    assert 0 < after < before


def test_scenes_are_put_together(folder: Path) -> None:
    example("02").main(folder)
    together, apart = example("05").main(folder)
    assert together == apart and (folder / "both.json").is_file()


def test_a_region_is_read_over_http(folder: Path) -> None:
    sent, whole = example("06").main(folder, steps=2)
    assert sent < 0.2 * whole


def test_a_new_kind_of_signal_is_encoded_and_cropped(folder: Path) -> None:
    assert example("07").main(folder, steps=150) < 8


def test_a_field_learns_in_a_loop_of_ones_own(folder: Path) -> None:
    assert example("08").main(folder, steps=60) < 6.0
