"""What the web page fetches of scenes: bytes, requests and round trips to the first cells and to all of them.

    python scripts/bench/web.py demo/scene.safetensors --megabytes 100

Node runs the page's own modules against a host on this machine that answers late. Each scene is read whole, then only
a box of at most a tenth of its cells. Round trips are those that wait for each other: a second host answers only once
nobody asks for more, and counts how often it does. (It counts for HTTP/2, as most hosts speak; over HTTP/1.1 a browser
keeps six connections to a host, and what is left waits.) With --megabytes a synthetic scene of that size is measured,
too. For comparison the sizes of a million splats: nerfstudio's .ply, and SOG by the ratio that its authors publish.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import torch
import tyro

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
WINDOW = (240, 160)
LINE = {"latency": 50, "downloadThroughput": 2_000_000, "uploadThroughput": 2_000_000}
"""Of the browser: milliseconds before an answer, and bytes a second."""
SPLATS = 1_000_000
SPLAT_BYTES = 62 * 4
"""Of one in nerfstudio's .ply: place, normal, 3 + 45 numbers of colour, opacity, scale and rotation."""
SOG_RATIOS = (15, 20)
"""How much smaller SOG is than a .ply (developer.playcanvas.com/user-manual/gaussian-splatting/formats)."""
READ = """
const start = performance.now(), field = await openField({ url, ranges });
const now = () => [field.bytesFetched, field.requests, performance.now() - start], opened = now();
const rows = keep ? rowsToKeep(field, { cells: keep }).rows : Int32Array.from(field.cells.keys());
let first = null;
await field.rows(rows, () => { first ??= now(); });
const line = field.entry("features").rowBytes + field.entry("local").rowBytes;
return { size: field.bytesTotal, opened, first, all: now(), rows: rows.length, count: field.numRows, line };
"""

WATCH = """
globalThis.seen = {};
new MutationObserver(() => {
  const data = document.body?.dataset, field = globalThis.page?.field;
  const state = data?.picture === "sharp" && data.loading === "no" ? "sharp" : data?.picture === "old" ? null : "first";
  if (field && state && data.picture !== "none") seen[state] ??= [field.bytesFetched, field.requests];
}).observe(document, { subtree: true, attributes: true, attributeFilter: ["data-picture"] });
"""
"""Notes what has been fetched when there are pictures."""


@dataclass
class Args:
    """Measure."""

    scenes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Scene files."""
    megabytes: float = 0.0
    """Size of a synthetic scene that is measured, too; 0 = none."""
    latency: float = 50.0
    """Milliseconds before the host answers."""
    part: float = 0.1
    """Part of the cells that the box holds."""
    browser: bool = False
    """Open the page in chromium, too, in a small window and over a line of 2 MB a second: bytes and requests to its
    first picture and to the sharp one. A headless chromium without a card draws slowly: its seconds are no measure."""


def synthetic(path: Path, megabytes: float) -> None:
    """A scene of random weights whose cells all have a row."""
    import lg_field
    from lg_field.radiance.field import RadianceField, RadianceSizes
    from lg_field.radiance.scene import Scene

    count = max(2, round((megabytes * 1e6 / 26_600) ** (1 / 3)))
    grid = lg_field.PartitionGrid((count,) * 3, (-1.0,) * 3, (1.0,) * 3)
    field = RadianceField(grid, RadianceSizes(grid_nodes=11, color_features=27, color_width=0)).eval()
    eye = tuple(tuple(float(i == k) for k in range(4)) for i in range(4))
    field.description = Scene(eye)
    lg_field.save(field, path)


def middle_cells(path: Path, part: float) -> list[int]:
    """The kept cells of a box around the middle of all of them: the largest that holds at most a part of them."""
    from lg_field.files import FieldFile

    with FieldFile.open(path) as file:
        cells, index = file.cells, file.skeleton.grid.unravel(file.cells).double()
        longer = torch.tensor([1.0, 1.01, 1.02], dtype=torch.float64)  # no two sides grow at once
        away = ((index - index.mean(0) - 0.1).abs() * longer).amax(1)
        sizes, counts = away.unique(return_counts=True)
        fits = sizes[counts.cumsum(0) <= max(part * len(cells), int(counts[0]))]
        return cells[away <= fits[-1]].tolist()


def measured(path: Path, keep: list[int] | None, latency: float) -> dict[str, Any]:
    """What the page does for a scene, and how many of its requests wait for each other."""
    from web_node import Rounds, host, node, ranges

    from lg_field.files import FieldFile
    from lg_field.web.publish import read_at_once

    def late(to: BaseHTTPRequestHandler, data: bytes, first: int, end: int) -> None:
        time.sleep(latency / 1e3)
        ranges(to, data, first, end)

    with FieldFile.open(path) as file:
        known = read_at_once(file)
    with host(path.read_bytes(), late) as server:
        found: dict[str, Any] = node(READ, url=server.url, ranges=known, keep=keep)
    rounds = Rounds()
    with host(path.read_bytes(), rounds) as server:
        node(READ, url=server.url, ranges=known, keep=keep)
    return found | {"trips": rounds.number}


def line_of(name: str, found: dict[str, Any]) -> str:
    """The figures in words."""
    rows = found["rows"] * found["line"]
    beyond = (found["all"][0] - found["opened"][0]) / (found["count"] * found["line"])
    first, every = found["first"], found["all"]
    cells = [
        name,
        f"{found['size'] / 1e6:.2f}",
        f"{found['rows']} of {found['count']} ({rows / 1e6:.2f} MB)",
        f"{found['opened'][0] / 1e6:.2f}",
        f"{first[0] / 1e6:.2f} in {first[1]}, {first[2] / 1e3:.2f} s",
        f"{every[0] / 1e6:.2f} in {every[1]}, {every[2] / 1e3:.2f} s",
        f"{beyond:.1%}",
        str(found["trips"]),
    ]
    return f"| {' | '.join(cells)} |"


def in_browser(name: str, path: Path, keep: list[int] | None, seconds: float = 120.0) -> str:
    """What the page has fetched when its first picture is there, and when the sharp one is, of some cells or all."""
    import threading

    from browser import GRAPHICS, Browser, wait_for

    from lg_field.web.publish import Site, contents
    from lg_field.web.server import PageServer

    size = {"width": WINDOW[0], "height": WINDOW[1], "deviceScaleFactor": 1, "mobile": False}
    page = contents(str(path), Site(path.stem), still=False)
    with PageServer({**page.files, path.name: path}, 0) as server, Browser(*GRAPHICS) as browser:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        tab = browser.open("about:blank")
        tab.call("Emulation.setDeviceMetricsOverride", **size)
        tab.call("Network.emulateNetworkConditions", offline=False, **LINE)
        tab.call("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        tab.call("Page.navigate", url=server.url if keep is None else f"{server.url}#c={'.'.join(map(str, keep))}")
        seen = wait_for(lambda: tab.evaluate("globalThis.seen?.sharp && globalThis.seen"), "a sharp picture", seconds)
        server.shutdown()
    said = (f"{state}: {count / 1e6:.2f} MB in {requests} requests" for state, (count, requests) in seen.items())
    return f"{name} in chromium: " + "; ".join(said)


def main() -> None:
    """Measure and print a table."""
    args = tyro.cli(Args, description=__doc__)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        scenes = list(args.scenes)
        if args.megabytes:
            scenes.append(Path(folder, f"synthetic-{args.megabytes:g}MB.safetensors"))
            synthetic(scenes[-1], args.megabytes)
        print("| scene | MB | rows read | MB before rows | first cells | all | of all rows' bytes | round trips |")
        print("| --- | --- | --- | --- | --- | --- | --- | --- |")
        for path in scenes:
            boxed = {path.stem: None, f"{path.stem}, a box": middle_cells(path, args.part)}
            for name, keep in boxed.items():
                print(line_of(name, measured(path, keep, args.latency)), flush=True)
            for name, keep in boxed.items() if args.browser else ():
                print(in_browser(name, path, keep), flush=True)
    ply, smaller = SPLATS * SPLAT_BYTES / 1e6, [SPLATS * SPLAT_BYTES / 1e6 / ratio for ratio in reversed(SOG_RATIOS)]
    print(f"{SPLATS:,} splats: {ply:.0f} MB as nerfstudio's .ply, {smaller[0]:.1f} to {smaller[1]:.1f} MB as SOG")


if __name__ == "__main__":
    main()
