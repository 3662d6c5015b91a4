"""docs/format.md is enough to read a file: the reader that stands there, run next to lg-field."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lg_field
from lg_field.networks import LocalGlobalNetwork
from lg_field.ops import ChainSizes
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.signals.signal import Signal
from lg_field.space.partition import PartitionGrid

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
LONGEST = 60
"""Lines of the reader of container, rows and chain."""


def listings() -> list[str]:
    """The page's code, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """The names that the page defines."""
    names: dict[str, Any] = {}
    exec(compile("\n".join(listings()), str(PAGE), "exec"), names)
    return names


def test_the_reader_is_short_and_on_its_own() -> None:
    code = listings()
    assert len(code[0].splitlines()) <= LONGEST
    imports = {
        alias.name
        for node in ast.walk(ast.parse("\n".join(code)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imports == {"json", "struct", "numpy"}


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize(
    ("local", "shared", "activation", "merge"),
    [(5, 7, "sine", "concat"), (4, 6, "gauss", "add"), (6, 0, "sine", "concat"), (0, 8, "relu", "concat")],
)
def test_signals_are_read_by_the_page(
    page: dict[str, Any], tmp_path: Path, local: int, shared: int, activation: str, merge: Any, precision: Any
) -> None:
    torch.manual_seed(0)
    sizes = ChainSizes(2, 3, local, shared, 2, activation, 11.0, merge)
    grid = PartitionGrid((3, 4), (-1.0, -1.0), (1.0, 1.0))
    field = LocalGlobalNetwork(grid, sizes, torch.tensor([0, 2, 3, 7, 11]), fill=-0.5)
    field.description = Signal("image", (24, 32), 3)
    lg_field.save(field, tmp_path / "field", dtype=precision)
    again = lg_field.load(tmp_path / "field")
    about, tensors = page["read"](tmp_path / "field")
    assert ("local_scale" in tensors) == (precision == "int8" and local > 0)
    tensors = page["unpacked"](about, tensors)
    points = torch.cat([torch.rand(200, 2) * 2.4 - 1.2, torch.tensor([[-1.0, -1.0], [1.0, 1.0], [1.0, 0.3]])])
    with torch.no_grad():
        expected = again(points)
    values = page["signal_values"](about, tensors, points.numpy())
    np.testing.assert_allclose(values, expected.numpy(), atol=2e-4)
    assert (values == -0.5).all(1).sum() > 20 and about["description"]["shape"] == [24, 32]


@pytest.mark.parametrize("precision", ["float32", "int8"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hash_levels": 0, "merge": "add"},
        {"network": "per-partition", "hash_levels": 0},
        {"global_reads_grid": False, "grid_nodes": 4, "local_frequencies": 0},
    ],
)
def test_scenes_are_read_by_the_page(
    page: dict[str, Any], tmp_path: Path, changes: dict[str, Any], precision: Any
) -> None:
    torch.manual_seed(0)
    base: dict[str, Any] = {
        "grid_nodes": 3,
        "grid_features": 2,
        "local_width": 4,
        "global_width": 8,
        "hash_levels": 3,
        "hash_base_res": 4,
        "log2_hashmap_size": 7,
        "color_features": 5,
        "occupancy_voxels": 2,
    }
    sizes = RadianceSizes(**{**base, **changes})
    field = RadianceField(PartitionGrid((2, 3, 4), (-1.0, -1.5, -1.0), (1.0, 1.5, 2.0)), sizes)
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.5)
    small = lg_field.crop(field, cells=[0, 5, 6, 13, 22])
    lg_field.save(small, tmp_path / "scene", dtype=precision)
    about, tensors = page["read"](tmp_path / "scene")
    tensors = page["unpacked"](about, tensors)
    points = torch.rand(300, 3) * torch.tensor([2.2, 3.2, 3.2]) - torch.tensor([1.1, 1.6, 1.1])
    with torch.no_grad():
        density, features = lg_field.load(tmp_path / "scene")(points)
    got = page["density"](about, tensors, points.numpy())
    np.testing.assert_allclose(got[0], density.numpy(), rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(got[1], features.numpy(), rtol=2e-3, atol=2e-3)
    assert (got[0] > 0).sum() > 20 and (got[0] == 0).sum() > 50
    if "hash_levels" not in changes:
        assert "hash_table_kept" in tensors
