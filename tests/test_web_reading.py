"""The page's reading side: crops equal to the package's by bytes, hosts of all kinds, files from strangers."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import small_shared_grid
import torch
from small_scene import small_scene
from web_node import Host, Rounds, host, needs_node, node, ranges, send

from lg_field.files import FieldFile, crop_file, load, save
from lg_field.radiance.carving import crop_voxels
from lg_field.radiance.components import settles
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.space.cell_list import cells_from_dict
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import HalfSpace, Region, VoxelSet, region_from_dict
from lg_field.table.editing import extend, rows_to_keep
from lg_field.web.publish import read_at_once

pytestmark = needs_node
SCENE = Scene(((1.0, 0.0, 0.0, 0.5),) * 4, step=0.01, up=(0.0, 1.0, 1e-7), viewpoints=((1.0, 2.0, 3.0),))
CROP = """
const field = await fromDisk(source);
for (const [k, keep] of keeps.entries()) {
  if (keep.region) keep.region = await space.regionFromDict(keep.region);
  const blob = await cropFile(field, keep);
  await writeFile(`${target}${k}`, new Uint8Array(await blob.arrayBuffer()));
}
"""
BOX = Region.box((-0.6, -0.6, -0.6), (0.3, 0.35, 0.2))


def hashed(**sizes: Any) -> RadianceField:
    field = small_shared_grid.make(**sizes)
    field.description = SCENE
    field.history = {"steps": 20, "name": "café\n", "psnr": 31.5, "parts": [1e-5, {"a": None}]}
    return field


def python_crop(source: Path, target: Path, keep: dict[str, Any]) -> bytes:
    """What `lg-field crop` writes."""
    region, cells = keep.get("region"), keep.get("cells")
    region, invert, snap = region and region_from_dict(region), keep.get("invert", False), keep.get("snap", False)
    with FieldFile.open(source) as file:
        _, exact = rows_to_keep(file.skeleton, region, cells, invert)
        by_voxels = settles(file.skeleton, file.header.region if snap else exact)
    write = crop_voxels if by_voxels else crop_file
    write(source, target, region, cells=cells, invert=invert, snap=snap, overwrite=True)
    if "within" in keep:
        return python_crop(target, target, {"cells": keep["within"]})
    return target.read_bytes()


def lattice_voxels(field: RadianceField, part: float = 0.4) -> VoxelSet:
    lattice = field.grid.refined(field.sizes.occupancy_voxels)
    return VoxelSet.of(torch.rand(lattice.counts) < part, lattice, field.sizes.contraction)


def check_crops(field: RadianceField, folder: Path, keeps: list[dict[str, Any]], dtype: Any = "float32") -> None:
    """The page's crops are the package's, by bytes; and so are crops of crops."""
    source = folder / "scene.safetensors"
    save(field, source, dtype=dtype)
    node(CROP, source=str(source), target=str(folder / "page-"), keeps=keeps)
    for number, keep in enumerate(keeps):
        crop = folder / f"page-{number}"
        assert crop.read_bytes() == python_crop(source, folder / "package", keep), keep
    again = {"region": HalfSpace((0.3, 1.0, -0.2), 0.4).to_dict()}
    node(CROP, source=str(folder / "page-0"), target=str(folder / "again-"), keeps=[again])
    assert (folder / "again-0").read_bytes() == python_crop(folder / "page-0", folder / "package", again)


@pytest.mark.parametrize("contraction", [False, True])
def test_a_crop_is_the_package_s_by_bytes(contraction: bool, tmp_path: Path) -> None:
    field = hashed(contraction=contraction)
    keeps: list[dict[str, Any]] = [
        {"region": BOX.to_dict()},
        {"region": Region.sphere((0.2, 0.1, 0.3), 0.5).to_dict(), "invert": True},
        {"region": (~BOX | Region.sphere((0.0, 0.0, 0.0), 0.1)).to_dict(), "snap": True},
        {"cells": [0, 3, 4, 26]},
        {"cells": [1, 2, 5], "invert": True},
        {"region": BOX.to_dict(), "within": list(range(14))},
        {"region": lattice_voxels(field).to_dict()},
        {"region": (lattice_voxels(field) & BOX).to_dict()},
        {"region": lattice_voxels(field).to_dict(), "snap": True},
    ]
    check_crops(field, tmp_path, keeps)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_of_two_bytes_are_cropped_as_they_are(dtype: str, tmp_path: Path) -> None:
    check_crops(hashed(filled=0.6), tmp_path, [{"region": BOX.to_dict()}, {"cells": [7, 8]}], dtype)


@pytest.mark.parametrize("sizes", [{}, {"activation": "sine"}, {"merge": "add", "hidden_layers": 2, "w0": 30.0}])
def test_weights_of_8_bits_are_cropped_as_they_are(sizes: dict[str, Any], tmp_path: Path) -> None:
    field = hashed(filled=0.6, **sizes)
    keeps = [{"region": BOX.to_dict()}, {"cells": [7, 8]}, {"region": lattice_voxels(field, 0.1).to_dict()}]
    check_crops(field, tmp_path, keeps, "int8")


@pytest.mark.parametrize("network", ["per-partition", "global"])
def test_other_networks_are_cropped_too(network: str, tmp_path: Path) -> None:
    field = RadianceField(PartitionGrid((3, 3, 3), (-1.0,) * 3, (1.0,) * 3), small_scene().sizes)
    sizes = type(field.sizes)(network=network, grid_nodes=3, local_width=4, global_width=8, occupancy_voxels=2)  # type: ignore[arg-type]
    field = RadianceField(field.grid, sizes).eval()
    field.description = SCENE
    check_crops(field, tmp_path, [{"region": BOX.to_dict()}])


def test_a_grown_scene_is_cropped_by_its_own_frame(tmp_path: Path) -> None:
    larger = extend(hashed(), (-2.5, -1.0, -1.0), (1.3, 1.0, 1.1))
    larger.description = SCENE
    check_crops(larger.eval(), tmp_path, [{"region": BOX.to_dict()}, {"cells": [0, 1, 30]}])


def test_region_json_is_what_the_package_reads(tmp_path: Path) -> None:
    field = small_scene()
    save(field, tmp_path / "scene.safetensors")
    code = """const field = await fromDisk(source);
    return [regionJson(field, { region: space.not(space.box([-1, 0, 0], [0.5, 1, 1.25])) }),
            regionJson(field, { region: space.sphere([0, 0, 0], 0.5), invert: true }),
            regionJson(field, { cells: field.cells.slice(0, 3) }), regionJson(field, { cells: [0], invert: true })];"""
    box, ball, cells, others = map(json.loads, node(code, source=str(tmp_path / "scene.safetensors")))
    assert region_from_dict(box) == ~Region.box((-1.0, 0.0, 0.0), (0.5, 1.0, 1.25))
    assert region_from_dict(ball) == ~Region.sphere((0.0, 0.0, 0.0), 0.5)
    assert cells_from_dict(cells, field.grid) == field.cells[:3].tolist()
    assert cells_from_dict(others, field.grid) == [c for c in field.cells.tolist() if c != 0]


def scene_bytes(folder: Path) -> bytes:
    path = folder / "scene.safetensors"
    if not path.exists():
        field = hashed()
        save(field, path)
    return path.read_bytes()


READ = """
const lines = [], seen = [];
const error = await refused(async () => {
  const onNotice = (line) => lines.push(line), onProgress = (count) => seen.push(count);
  const field = await openField({ url }, { pause: 5, onNotice, onProgress });
  const come = [];
  await field.rows(wanted, (rows) => come.push(...rows.rows));
  seen.push(field.numRows, field.bytesFetched, field.requests, ...come);
});
return { error, lines, seen };
"""


def read(server: Host, wanted: list[int]) -> dict[str, Any]:
    return node(READ, url=server.url, wanted=wanted)


def test_rows_come_by_ranges_and_those_not_asked_for_do_not(tmp_path: Path) -> None:
    field = small_scene((6, 6, 6), kept=1.0, nodes=12)
    save(field, tmp_path / "large.safetensors")
    data = (tmp_path / "large.safetensors").read_bytes()
    code = """const field = await openField({ url });
    const before = field.bytesFetched, come = [], sums = [];
    await field.rows(wanted, ({ rows, features, local }) => { come.push(...rows);
      sums.push([features.length / rows.length, local.length / rows.length]); });
    const requests = field.requests, fetched = field.bytesFetched;
    await field.rows(wanted, () => {});
    const blob = await cropFile(field, { cells: wanted });
    return { before, fetched, requests, come, sums, again: field.bytesFetched - fetched, crop: blob.size }; """
    wanted = [100, 101, 102, 7, 8, 150]
    with host(data) as server:
        found = node(code, url=server.url, wanted=wanted)
    assert sorted(found["come"]) == sorted(wanted) and found["again"] == 0
    rows = (field.features.nbytes + field.local.nbytes) / field.num_rows
    assert found["fetched"] - found["before"] <= 1.18 * rows * len(wanted) + 1
    assert found["fetched"] < len(data) / 3
    assert found["sums"][0] == [field.features.shape[1], field.local.shape[1]]
    assert len(server.asked) == found["requests"] <= 12
    assert len({start for start, _ in server.asked}) == len(server.asked)


@pytest.mark.parametrize(("dtype", "activation"), [("float32", "relu"), ("int8", "relu"), ("int8", "sine")])
def test_values_are_the_field_s(dtype: Any, activation: str, tmp_path: Path) -> None:
    save(hashed(filled=0.05, activation=activation), tmp_path / "scene.safetensors", dtype=dtype)
    field: Any = load(tmp_path / "scene.safetensors")
    code = """const field = await fromDisk(source), found = {};
    const voxels = [...Array(field.sizes.occupancy_voxels ** 3).keys()];
    await field.rows(Array.from(field.cells.keys()).reverse(), ({ rows, features, local }) => rows.forEach((row, k) => {
      const line = (v) => Array.from(v.slice((k * v.length) / rows.length, ((k + 1) * v.length) / rows.length));
      found[row] = [line(features), line(local)];
    }));
    const bits = Array.from(field.cells, (_, row) => voxels.map((k) => field.isOccupied(row, k)));
    const shared = Object.fromEntries([...field.shared].map(([name, values]) => [name, Array.from(values)]));
    return { found, bits, shared,
      scene: field.scene, rowOf: [-1, 0, 13, 26, 27].map((cell) => field.rowOfCell(cell)) };"""
    found = node(code, source=str(tmp_path / "scene.safetensors"))
    for row in range(field.num_rows):
        features, local = found["found"][str(row)]
        assert torch.equal(torch.tensor(features), field.features[row].detach())
        assert torch.equal(torch.tensor(local), field.local[row].detach())
    assert found["bits"] == field.occupied.tolist()
    state = field.state_dict()
    assert {"hash_table", "color.0.weight", "shared.head_bias"} <= set(found["shared"])
    for name, values in found["shared"].items():
        assert torch.equal(torch.tensor(values), state[name].flatten())
    assert found["scene"]["viewpoints"] == [[1.0, 2.0, 3.0]] and found["rowOf"] == [-1, 0, 13, 26, -1]


def ranges_of(path: Path) -> list[list[int]]:
    with FieldFile.open(path) as file:
        return read_at_once(file)


def test_few_requests_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "many.safetensors"
    save(small_scene((10, 10, 10), kept=1.0, nodes=10), path)  # 17 MB
    wanted = [100 * x + 10 * y + z for x in range(3, 8) for y in range(3, 8) for z in range(2, 6)]
    code = """const field = await openField({ url, ranges }), opened = field.bytesFetched;
    await field.rows(wanted, () => {}); return [opened, field.bytesFetched, field.numRows]; """
    rounds = Rounds()
    with host(path.read_bytes(), rounds) as server:
        opened, fetched, count = node(code, url=server.url, ranges=ranges_of(path), wanted=wanted)
    rows = path.stat().st_size - sum(end - start for start, end in ranges_of(path))
    assert rounds.number <= 8 and len(wanted) == count // 10
    assert fetched - opened <= 0.12 * rows
    assert opened <= 1.01 * (path.stat().st_size - rows) + (1 << 16)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_nothing_but_what_was_known_before_is_asked_for_at_first(dtype: Any, tmp_path: Path) -> None:
    path = tmp_path / "scene.safetensors"
    save(small_scene((6, 6, 6), kept=1.0, nodes=8), path, dtype=dtype)
    known = ranges_of(path)
    code = "const field = await openField({ url, ranges }); return [field.requests, field.bytesFetched];"
    with host(path.read_bytes()) as server:
        requests, fetched = node(code, url=server.url, ranges=known)
    assert requests == len(known) and fetched <= sum(end - start for start, end in known) + (1 << 16)


@pytest.mark.parametrize("odd", [[[0, 1 << 17], [1 << 18, 1 << 19]], [[1 << 20, 1 << 40]], [[70_000, 70_008]], []])
def test_guessed_ranges_that_do_not_fit_do_no_harm(odd: list[list[int]], tmp_path: Path) -> None:
    data = large(tmp_path)
    code = """const field = await openField({ url, ranges: odd }, { pause: 5 }), come = [];
    await field.rows([0, 100], ({ rows, features }) => come.push([...rows], [...features.slice(0, 8)]));
    return come; """

    def answers(to: BaseHTTPRequestHandler, held: bytes, first: int, end: int) -> None:
        send(to, 416, b"") if first >= len(held) else ranges(to, held, first, end)

    with host(data, answers) as server:
        found = node(code, url=server.url, odd=odd)
    with host(data) as server:
        assert node(code, url=server.url, odd=[]) == found


def test_a_host_without_ranges_sends_the_whole_file_and_it_is_said(tmp_path: Path) -> None:
    def whole(to: BaseHTTPRequestHandler, data: bytes, *_: int) -> None:
        send(to, 200, data)

    data = scene_bytes(tmp_path)
    with host(data, whole) as server:
        found = read(server, [0, 5])
    assert found["error"] is None and len(found["lines"]) == 1 and "no byte ranges" in found["lines"][0]
    assert f"{len(data):,}" in found["lines"][0] and found["seen"][-4:-2] == [len(data), 1] and len(server.asked) == 1
    # one that is asked for several parts at once sends it twice at most, and it is read once
    code = """const field = await openField({ url, ranges: [[70000, 80000]] }); await field.rows([0, 5], () => {});
    return [field.numRows, field.bytesFetched];"""
    with host(data, whole) as server:
        assert node(code, url=server.url) == [found["seen"][-5], len(data)]


def test_a_lost_connection_is_tried_again_then_said(tmp_path: Path) -> None:
    data, left = scene_bytes(tmp_path) + b"", {"fails": 2}

    def falters(to: BaseHTTPRequestHandler, held: bytes, first: int, end: int) -> None:
        if left["fails"] and first:
            left["fails"] -= 1
            send(to, 206, held[first : first + 10], end - first, Content_Range=f"bytes {first}-{end - 1}/{len(held)}")
            to.close_connection = True
        else:
            ranges(to, held, first, end)

    def breaks(to: BaseHTTPRequestHandler, held: bytes, first: int, end: int) -> None:
        send(to, 503, b"") if first else ranges(to, held, first, end)

    padded = large(tmp_path)
    with host(padded, falters) as server:
        found = read(server, [0, 100])
    assert found["error"] is None and left["fails"] == 0 and set(found["seen"][-2:]) == {0, 100}
    with host(padded, breaks) as server:
        found = read(server, [0])
    assert "connection to the host was lost" in found["error"] and "HTTP 503" in found["error"]
    assert "\n" not in found["error"] and len(server.asked) <= 1 + 4 * 3
    assert data


def large(folder: Path) -> bytes:
    """A scene that its first request does not hold."""
    path = folder / "padded.safetensors"
    save(small_scene((6, 6, 6), kept=1.0, nodes=8), path)
    return path.read_bytes()


@pytest.mark.parametrize("status", [404, 403, 416])
def test_what_a_host_refuses_is_said_at_once(status: int, tmp_path: Path) -> None:
    with host(b"", lambda to, *_: send(to, status, b"")) as server:
        found = read(server, [0])
    assert ("HTTP" in found["error"] or "empty" in found["error"]) and len(server.asked) == 1


def test_a_host_that_sends_something_else_is_refused(tmp_path: Path) -> None:
    data = large(tmp_path)
    odd: list[Any] = [
        lambda to, held, first, end: send(to, 206, held[first:end]),
        lambda to, held, first, end: send(
            to, 206, held[first:end], Content_Range=f"bytes {first + 1}-{end}/{len(held)}"
        ),
        lambda to, held, first, end: send(
            to, 206, held[first:end], Content_Range=f"bytes {first}-{end - 1}/{len(held) + first}", ETag=f'"{first}"'
        ),
        lambda to, held, first, end: send(
            to, 206, held[first:end] + bytes(99), Content_Range=f"bytes {first}-{end - 1}/{len(held)}"
        ),
    ]
    for answer, words in zip(odd, ("Content-Range", "Content-Range", "changed on the host", "more of")):
        with host(data, answer) as server:
            assert words in read(server, [0])["error"]


def test_a_reader_that_gives_up_stops_asking_and_nothing_comes_twice(tmp_path: Path) -> None:
    def slow(to: BaseHTTPRequestHandler, held: bytes, first: int, end: int) -> None:
        time.sleep(0.05 if first else 0.0)
        ranges(to, held, first, end)

    code = """const field = await openField({ url }), stop = new AbortController(), all = [...field.cells.keys()];
    const first = [], later = [];
    let name = null, given = null;
    const one = ({ rows }) => { first.push(...rows); given ??= performance.now(); stop.abort(); };
    await field.rows(all, one, { signal: stop.signal }).catch((error) => { name = error.name; });
    const asked = field.requests, quick = performance.now() - given < 5000;
    const other = ({ rows }) => later.push(...rows);
    await Promise.all([field.rows(all.reverse(), other), cropFile(field, { cells: [5] })]);
    return [name, quick, asked, field.requests, field.bytesFetched,
            new Set(later).size, later.length]; """
    data = large(tmp_path)
    with host(data, slow) as server:
        name, quick, asked, requests, fetched, rows, delivered = node(code, url=server.url)
    assert name == "AbortError" and quick and asked < requests == len(server.asked)
    assert rows == delivered == 216 and fetched <= len(data)


def test_what_would_keep_nothing_is_said(tmp_path: Path) -> None:
    scene_bytes(tmp_path)
    code = """const field = await fromDisk(source);
    return [await refused(() => cropFile(field, { region: space.box([50, 50, 50], [51, 51, 51]) })),
            await refused(() => cropFile(field, { cells: [999] })), await refused(() => cropFile(field, {})),
            await refused(() => space.and(space.box([0, 0, 0], [1, 1, 1]), space.box([2, 2, 2], [3, 3, 3])))];"""
    nothing, cell, neither, apart = node(code, source=str(tmp_path / "scene.safetensors"))
    assert "nothing would be kept" in nothing and "no cell 999" in cell and "either" in neither and "overlap" in apart
