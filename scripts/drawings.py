"""The drawings of docs/concepts.md, as SVG: `python scripts/drawings.py docs/drawings`."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

INK, PALE, CELL, ROW, SHARED, GONE = "#334155", "#94a3b8", "#dbeafe", "#2563eb", "#f59e0b", "#f1f5f9"
SIDE = 36
"""Pixels of a cell's side."""
KEPT = {1, 2, 5, 6, 7, 10, 11}
"""Cells of a 4 x 4 grid that have a row."""
CROPPED = {2, 6, 7, 10, 11}
"""Those that the drawn crop keeps."""


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str = INK) -> str:
    """A rectangle."""
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{fill}" stroke="{stroke}"/>'


def text(x: float, y: float, words: str, size: int = 13, anchor: str = "middle", fill: str = INK) -> str:
    """Words; y is their base line."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" text-anchor="{anchor}" fill="{fill}" '
        f'font-family="sans-serif">{words}</text>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" stroke="{INK}" marker-end="url(#head)"/>'


def drawing(width: int, height: int, parts: list[str]) -> str:
    """A whole SVG, on white so that it can be read in a dark theme."""
    head = (
        '<defs><marker id="head" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{INK}"/></marker></defs>'
    )
    body = "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">\n{body}\n</svg>\n'


def grid(x: float, y: float, kept: set[int]) -> list[str]:
    """A partition of 4 x 4 cells; those with a row are blue and numbered."""
    parts = []
    for cell in range(16):
        left, top = x + cell % 4 * SIDE, y + cell // 4 * SIDE
        parts.append(box(left, top, SIDE, SIDE, CELL if cell in kept else GONE, PALE))
        parts.append(text(left + SIDE / 2, top + 23, str(cell), fill=INK if cell in kept else PALE))
    return [*parts, box(x, y, 4 * SIDE, 4 * SIDE, "none")]


def table(x: float, y: float, kept: set[int], of: set[int] = frozenset()) -> list[str]:  # type: ignore[assignment]
    """The table: a line for each cell of `kept`; those that are not in `of` go."""
    parts = []
    for line, cell in enumerate(sorted(kept)):
        top, stays = y + line * 18, not of or cell in of
        parts.append(text(x - 8, top + 13, str(cell), 11, "end", INK if stays else PALE))
        parts.append(box(x, top, 170, 14, ROW if stays else GONE, ROW if stays else PALE))
    return parts


def draw_table() -> str:
    """A field: cells, their rows, the shared part."""
    parts = [text(92, 24, "cells of the domain"), *grid(20, 40, KEPT)]
    parts += [arrow(170, 112, 222, 112), text(335, 24, "table: one row for each kept cell"), *table(250, 40, KEPT)]
    parts += [text(335, 192, "weights of its local network, its feature grid, its occupancy", 11, fill=PALE)]
    parts += [box(470, 40, 130, 54, SHARED), text(535, 64, "shared part", fill="white")]
    parts += [text(535, 82, "1 to 15 %", 11, fill="white"), text(535, 116, "global network,", 11, fill=PALE)]
    return drawing(620, 206, [*parts, text(535, 132, "merge, coarse grid", 11, fill=PALE)])


def draw_crop() -> str:
    """A crop selects rows."""
    parts = [text(92, 24, "before"), *grid(20, 40, KEPT), *table(210, 40, KEPT, CROPPED)]
    region = f'<ellipse cx="{20 + 3 * SIDE:g}" cy="{40 + 1.55 * SIDE:g}" rx="34" ry="52" fill="none" '
    parts += [f'{region}stroke="#dc2626" stroke-width="2.5"/>', box(210, 172, 170, 14, SHARED)]
    parts += [arrow(396, 112, 436, 112), text(532, 24, "after"), *grid(460, 40, CROPPED), *table(650, 40, CROPPED)]
    parts += [box(650, 172, 130, 14, SHARED), text(780, 204, "what those cells read of it", 11, "end", PALE)]
    parts += [text(20, 204, "the region, and the cells that it touches", 11, "start", "#dc2626")]
    return drawing(840, 220, parts)


def draw_layers() -> str:
    """How a point goes through a cell's network and the shared one."""
    parts = [text(320, 24, "a point x in cell c"), arrow(320, 30, 320, 48)]
    parts += [box(160, 52, 320, 30, GONE), text(320, 72, "encoded x, features of c's own grid")]
    left, right = 100, 340
    for number, top in enumerate((110, 170), 1):
        parts += [box(left, top, 200, 34, SHARED), text(left + 100, top + 22, f"global layer {number}", fill="white")]
        parts += [
            box(right, top, 200, 34, ROW),
            text(right + 100, top + 22, f"local layer {number} of c", fill="white"),
        ]
        parts += [arrow(left + 200, top + 17, right - 2, top + 17), text(320, top + 10, "merge", 11)]
        parts += [arrow(left + 100, top - 28, left + 100, top - 2), arrow(right + 100, top - 28, right + 100, top - 2)]
    parts += [arrow(200, 204, 200, 230), arrow(440, 204, 440, 230), text(200, 248, "shared output")]
    parts += [text(320, 248, "+"), text(440, 248, "output of c, which starts at 0"), arrow(320, 258, 320, 280)]
    parts += [text(320, 298, "density, and with the direction of view: colour")]
    return drawing(640, 312, parts)


def contracted(reach: float) -> float:
    """Where nerfstudio's contraction puts a distance (max norm) from the origin, of 0 to 2."""
    return reach if reach <= 1 else 2 - 1 / reach


def draw_contraction() -> str:
    """Unbounded space, and where it is cut into cells."""
    parts, scale = [text(120, 24, "the world"), text(400, 24, "contracted: cells are equal here")], 52.0
    for line in range(5):
        at, across = 296 + line * scale, 36 + line * scale
        parts.append(f'<line x1="{at:g}" y1="36" x2="{at:g}" y2="244" stroke="{ROW}" opacity="0.4"/>')
        parts.append(f'<line x1="296" y1="{across:g}" x2="504" y2="{across:g}" stroke="{ROW}" opacity="0.4"/>')
    for reach in (1, 2, 4, 16):
        dashes = ' stroke-dasharray="3 3"' if reach > 1 else ""
        for x, half in ((120, 0.5 * reach * scale), (400, contracted(reach) * scale)):
            if reach < 16 or x == 400:
                square = f'<rect x="{x - half:g}" y="{140 - half:g}" width="{2 * half:g}" height="{2 * half:g}"'
                parts.append(f'{square} fill="none" stroke="{INK}"{dashes}/>')
                parts.append(text(x, 140 + half - 4, str(reach), 10))
    return drawing(540, 262, parts)


def draw_overlap() -> str:
    """A sine wave over cells: what a cell owns."""
    wave = " ".join(f"{20 + t},{70 - 30 * math.sin(t / 40)}" for t in range(0, 561, 8))
    parts = [f'<polyline points="{wave}" fill="none" stroke="{ROW}" stroke-width="2"/>']
    for cell in range(5):
        left = 20 + cell * 112
        parts += [box(left, 20, 112, 100, "none", PALE), text(left + 56, 138, f"cell {cell}")]
    parts.append(text(300, 158, "a sample belongs to the cell that holds its middle; [lower, upper)", 11, fill=PALE))
    return drawing(600, 170, parts)


DRAWINGS: dict[str, Callable[[], str]] = {
    "table": draw_table,
    "crop": draw_crop,
    "layers": draw_layers,
    "contraction": draw_contraction,
    "cells": draw_overlap,
}
"""Name of the file -> what draws it."""


def main() -> None:
    """Write them all."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, draw in DRAWINGS.items():
        (folder / f"{name}.svg").write_text(draw(), encoding="utf-8")
        print(folder / f"{name}.svg")


if __name__ == "__main__":
    main()
