"""Photos that differ in exposure are told from photos that show other things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from test_placing import capture, manager

from lg_field.captures import read_capture
from lg_field.nerfstudio.model import LGModelConfig
from lg_field.radiance.sizes import RadianceSizes
from lg_field.training.exposures import LEAST, exposures_differ
from lg_field.training.run import RunSettings, SceneRun


def ring(count: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3) places around the origin, and directions towards it."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    places = np.stack([2 * np.cos(angle), 2 * np.sin(angle), 0.5 * np.sin(3 * angle)], axis=1)
    return places, -places / np.linalg.norm(places, axis=1, keepdims=True)


def photos(folder: Path, gains: np.ndarray, tints: np.ndarray) -> list[Path]:
    """Photos of a scene that is brighter on one side."""
    folder.mkdir(exist_ok=True)
    rng, paths = np.random.default_rng(0), []
    picture = rng.integers(20, 120, (30, 40, 3)).astype(np.float64)
    for k, (gain, tint) in enumerate(zip(gains, tints)):
        side = 1.0 + 0.4 * np.cos(2 * np.pi * k / len(gains))
        paths.append(folder / f"{k:03}.png")
        Image.fromarray((picture * side * gain * tint).clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.mark.parametrize("count", [24, 40, 400])
@pytest.mark.parametrize("seed", range(3))
def test_gains_and_tints_are_found_and_shades_are_none(count: int, seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    same, places = np.ones((count, 3)), ring(count)
    gains, tints = np.exp(0.35 * rng.standard_normal(count)), np.exp(0.3 * rng.standard_normal((count, 3)))
    assert not exposures_differ(photos(tmp_path / "same", same[:, 0], same), *places)
    assert exposures_differ(photos(tmp_path / "gains", gains, same), *places)
    assert exposures_differ(photos(tmp_path / "tints", same[:, 0], tints), *places)


def test_of_a_few_photos_nothing_is_said(tmp_path: Path) -> None:
    count = LEAST - 1
    gains = np.linspace(0.4, 1.6, count)[np.random.default_rng(0).permutation(count)]
    assert not exposures_differ(photos(tmp_path / "few", gains, np.ones((count, 3))), *ring(count))


def change_exposures(data: Path) -> None:
    for k, path in enumerate(sorted((data / "images").iterdir())):
        pixels = np.asarray(Image.open(path)).astype(np.float64) * (0.5, 1.1, 0.7)[k % 3]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def test_both_trainers_are_told_and_correct_it(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    data = capture(tmp_path / "scene")
    assert not manager(data).train_dataset.metadata["exposures_differ"]
    assert "exposure" not in " ".join(SceneRun(read_capture(data), RunSettings("lg-field-tiny")).notes)
    change_exposures(data)
    capsys.readouterr()
    found = manager(data).train_dataset
    assert found.metadata["exposures_differ"]
    assert "--pipeline.model.exposure False" in " ".join(capsys.readouterr().out.split())
    for asked, corrected in (("auto", True), (True, True), (False, False)):
        config = LGModelConfig(exposure=asked, sizes=RadianceSizes(grid_nodes=3, local_width=4, global_width=8))
        model = config.setup(scene_box=found.scene_box, num_train_data=len(found), metadata=found.metadata)
        assert (model.exposure is not None) == corrected
    for asked, corrected in (("auto", True), ("True", True), ("False", False)):
        run = SceneRun(read_capture(data), RunSettings("lg-field-tiny", exposure=asked))
        assert (run.corrections.exposure is not None) == corrected
        assert ("--exposure False: none" in " ".join(run.notes)) == (asked == "auto")
