"""The page's modules agree with the package: text, numbers, cells and regions, by vectors that the package writes."""

from __future__ import annotations

import base64
import json
import math
import os
import struct
import subprocess
import zlib
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from web_node import NODE, STATIC, needs_node

from lg_field.files.bits import pack_bits
from lg_field.files.container import write_container
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.frame import Frame
from lg_field.space.contraction import contract, uncontract, uncontract_boxes
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import HalfSpace, OrientedBox, Region, Scaled, VoxelSet

TESTS = Path(__file__).parent / "web"
GRIDS = (
    PartitionGrid((4, 5, 3), (-1.0, -1.3, 0.1), (1.0, 1.7, 0.7)),
    PartitionGrid((7, 7, 7), (-0.3, -0.3, -0.3), (0.4, 0.4, 0.4)),
)
CURVED = PartitionGrid((4, 4, 4), (-2.0,) * 3, (2.0,) * 3)


def text(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def points_of(grid: PartitionGrid, count: int = 60) -> torch.Tensor:
    """Float32 points within and around a grid, many of them on borders of cells."""
    low, high = torch.tensor(grid.lower), torch.tensor(grid.upper)
    points = low + (torch.rand(count, 3) * 1.4 - 0.2) * (high - low)
    borders = low + (torch.rand(count, 3) * torch.tensor(grid.counts)).round() * torch.tensor(grid.cell_size)
    return torch.cat([points, borders, low[None], high[None]])


def grid_vectors() -> list[dict[str, Any]]:
    found = []
    for grid in GRIDS:
        points = points_of(grid)
        found.append({"grid": grid.to_dict(), "points": points.tolist(), "cells": grid.locate(points).tolist()})
    return found


def frame_vectors() -> list[dict[str, Any]]:
    grown = PartitionGrid((6, 5, 4), (-1.5, -1.0, -1.0), (1.5, 1.5, 1.0))
    frames = [Frame(GRIDS[0]), Frame(CURVED, True), Frame(grown, False, (-1.0, -1.0, -0.5, 1.0, 0.5, 1.0))]
    found = []
    for frame in frames:
        points = points_of(frame.grid) * (3.0 if frame.contraction else 1.0)
        unit = frame.to_unit(points)
        found.append(
            {
                "grid": frame.grid.to_dict(),
                "contraction": frame.contraction,
                "box": list(frame.box),
                "points": points.tolist(),
                "unit": unit.tolist(),
                "cells": frame.locate(unit).tolist(),
            }
        )
    return found


def curve_vectors() -> dict[str, Any]:
    points = torch.randn(40, 3, dtype=torch.float64) * torch.tensor([0.3, 1.0, 30.0]).repeat(14)[:40, None]
    contracted = contract(points)
    boxes = CURVED.boxes(torch.arange(CURVED.num_cells))
    triples = zip(points.tolist(), contracted.tolist(), uncontract(contracted).tolist())
    return {
        "contracted": [{"point": p, "contracted": c, "back": b} for p, c, b in triples],
        "curvedBoxes": [{"box": b, "around": a} for b, a in zip(boxes.tolist(), uncontract_boxes(boxes).tolist())],
    }


def turned() -> OrientedBox:
    turn, _ = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3)))
    return OrientedBox((0.1, 0.2, 0.3), tuple(map(tuple, turn.tolist())), (0.9, 0.4, 0.7))  # type: ignore[arg-type]


def voxels(grid: PartitionGrid, contracted: bool) -> VoxelSet:
    lattice = grid.refined(2)
    return VoxelSet.of(torch.rand(lattice.counts) < 0.1, lattice, contracted)


def shapes(grid: PartitionGrid, contraction: bool) -> list[Region]:
    size = grid.cell_size
    along = tuple(low + s for low, s in zip(grid.lower, size)), tuple(up - s for up, s in zip(grid.upper, size))
    box, ball = Region.box((-0.7, -0.9, 0.15), (0.2, 0.65, 0.6)), Region.sphere((0.3, 0.1, 0.4), 0.45)
    half, set_of = HalfSpace((0.5, -2.0, 1e-7), 0.125), voxels(grid, contraction)
    lone = Region.box((0.1, 0.1, 0.2), (0.1 + 1e-9, 3.0, 0.3))
    joined = [box | ball | half, ball & half, box & Region.box((0.0, -3.0, 0.0), (5.0, 5.0, 5.0)), ~box, ~(ball | half)]
    scaled = Scaled(ball | box, (2.0, 0.5, 1.25), (0.25, -0.1, 0.0))
    return [box, Region.box(*along), lone, ball, half, turned(), *joined, scaled, ~~scaled, set_of, ~set_of & box]


def region_vectors() -> list[dict[str, Any]]:
    found = []
    for grid, contraction in ((GRIDS[0], False), (CURVED, True)):
        for region in shapes(grid, contraction):
            points = points_of(grid, 30).double() + 1e-3 * torch.randn(62, 3, dtype=torch.float64)
            touched = region.touched(grid, uncontract_boxes if contraction else None)
            found.append(
                {
                    "data": region.to_dict(),
                    "text": text(region.to_dict()),
                    "points": points.tolist(),
                    "holds": region.contains(points).tolist(),
                    "grid": grid.to_dict(),
                    "contraction": contraction,
                    "touched": touched.tolist(),
                }
            )
    return found


def bad_regions() -> list[Any]:
    deep: Any = {"type": "sphere", "center": [0, 0, 0], "radius": 1}
    for _ in range(70):
        deep = {"type": "complement", "part": deep}
    lattice = {"type": "voxels", "counts": [1 << 20, 1 << 20, 4], "lower": [0, 0, 0], "upper": [1, 1, 1]}
    bomb = in_base64(zlib.compress(bytes(1 << 20)))
    return [
        *(None, 3, [], {}, {"type": "toString"}, {"type": "box"}, {"type": "box", "lower": [0, 0], "upper": [1, 1]}),
        {"type": "box", "lower": [0, 0, 1], "upper": [1, 1, 1]},
        {"type": "sphere", "center": [0, 0, 0], "radius": -1},
        {"type": "half_space", "normal": [0, 0, 0], "offset": 0},
        {"type": "oriented_box", "center": [0, 0, 0], "rotation": [[1, 1, 0], [0, 1, 0], [0, 0, 1]], "size": [1, 1, 1]},
        *({"type": "union", "parts": parts} for parts in ([], 3, [None])),
        {"type": "scaled", "part": {"type": "sphere", "center": [0, 0, 0], "radius": 1}, "scale": [1], "offset": [0]},
        deep,
        lattice | {"contracted": False, "bits": ""},
        lattice | {"counts": [2, 2, 2], "contracted": False, "bits": bomb},
        lattice | {"counts": [2, 2, 2], "contracted": False, "bits": "no base64!"},
    ]


def float_vectors() -> list[dict[str, str]]:
    generator = np.random.default_rng(0)
    values = [0.0, -0.0, 1.0, 0.1, 1e16, 123456789012345680.0, 1e-5, 0.0001, 1e22, 5e-324, 1.7976931348623157e308, 1e21]
    values += [-3.5e-7, 9007199254740993.0, 1e15, 999999999999999.9, 100.0, 1e100, math.pi, 0.00012345]
    values += np.frombuffer(generator.bytes(8 * 200)).tolist()
    return [{"bits": in_base64(struct.pack("<d", v)), "text": repr(v)} for v in values if math.isfinite(v)]


def number_vectors() -> list[dict[str, Any]]:
    values = torch.cat([torch.randn(40), torch.tensor([0.0, -0.0, 6e-8, 65504.0, -1e-5])])
    found = []
    for name, dtype in (("F32", torch.float32), ("F16", torch.float16), ("BF16", torch.bfloat16)):
        stored = values.to(dtype)
        data = in_base64(stored.view(torch.uint8).numpy().tobytes())
        found.append({"dtype": name, "data": data, "values": stored.float().tolist()})
    return found


def container_vector(path: Path) -> dict[str, Any]:
    shapes = {
        "b.0": ("F32", (2, 3)),
        "a": ("F32", (4,)),
        "cells": ("I64", (2,)),
        "bits": ("U8", (2, 8)),
        "h": ("F16", (0, 3)),
    }
    types = {"F32": torch.float32, "I64": torch.int64, "U8": torch.uint8, "F16": torch.float16}
    metadata = {"lg_field": text({"é": '\n"\\\x7f😀', "n": [1, 1.0]})}
    sizes = {name: math.prod(shape) * types[code].itemsize for name, (code, shape) in shapes.items()}
    with open(path, "wb") as file:
        write_container(
            file,
            {name: (types[code], shape) for name, (code, shape) in shapes.items()},
            metadata,
            {name: [bytes(size)] for name, size in sizes.items()},
        )
    header = path.read_bytes()[: -sum(sizes.values())]
    listed = {n: {"dtype": code, "shape": list(shape), "bytes": sizes[n]} for n, (code, shape) in shapes.items()}
    return {"shapes": listed, "metadata": metadata, "header": in_base64(header)}


def tensor_vectors() -> list[dict[str, Any]]:
    kinds: list[dict[str, Any]] = [
        {},
        {"network": "per-partition", "hash_levels": 2},
        {"network": "global", "hash_levels": 3, "color_features": 27, "color_width": 0},
        {"merge": "add", "hidden_layers": 2, "appearance_features": 4, "grid_nodes": 0},
        {
            "hash_levels": 4,
            "log2_hashmap_size": 9,
            "hash_base_res": 5,
            "global_reads_grid": False,
            "activation": "sine",
        },
    ]
    found = []
    for kind in kinds:
        sizes = RadianceSizes(**{"grid_nodes": 3, **kind})
        field = RadianceField(PartitionGrid((1, 1, 2), (0.0,) * 3, (1.0,) * 3), sizes)
        state = {name: list(value.shape) for name, value in field.state_dict().items() if torch.is_tensor(value)}
        rows = {name: state.pop(name)[1] for name in ("local", "features")}
        lines = state.pop("hash_table", [0])[0]
        shared = {name: shape for name, shape in state.items() if name not in ("cells", "occupied")}
        found.append({"config": asdict(sizes), "rows": rows, "shared": shared, "lines": lines})
    return found


def vectors(folder: Path) -> dict[str, Any]:
    torch.manual_seed(0)
    texts = [{"a": [1, 1.0, -0.0, 1e-7, None, True], "é\n": {"": '\u2028\\"/😀'}, "n": 1 << 40}, [], 1.5, "x", [[[]]]]
    bad = ["", "{", "[1,]", '{"a":1,"a":2}', "NaN", "01", "1.", '"\n"', '"\\x"', "nul", "{'a':1}", "[1] 2", "[" * 600]
    rows = [torch.rand(n) < 0.5 for n in (1, 8, 13, 64)]
    return {
        "floats": float_vectors(),
        "texts": [text(data) for data in texts],
        "bad": bad,
        "numbers": number_vectors(),
        "infinite": in_base64(torch.tensor([1.0, math.inf]).half().view(torch.uint8).numpy().tobytes()),
        "bits": [{"values": row.int().tolist(), "packed": pack_bits(row).tolist()} for row in rows],
        "container": container_vector(folder / "container"),
        "grids": grid_vectors(),
        "frames": frame_vectors(),
        **curve_vectors(),
        "regions": region_vectors(),
        "badRegions": bad_regions(),
        "sizes": [field.name for field in fields(RadianceSizes)],
        "tensors": tensor_vectors(),
    }


@needs_node
def test_the_page_agrees_with_the_package(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps(vectors(tmp_path)))
    environment = os.environ | {"LG_FIELD_VECTORS": str(path), "LG_FIELD_STATIC": STATIC.as_uri() + "/"}
    command = [str(NODE), "--test", "--test-reporter=tap", str(TESTS / "vectors.test.mjs")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and "# fail 0" in done.stdout, done.stdout[-6000:]


def test_the_modules_types_are_sound() -> None:
    compiler = TESTS / "node_modules" / "typescript" / "bin" / "tsc"
    if NODE is None or not compiler.exists():
        pytest.skip("needs node and TypeScript, which scripts/setup.sh installs: npm ci in tests/web")
    done = subprocess.run([NODE, str(compiler), "-p", str(TESTS)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout[-3000:]
