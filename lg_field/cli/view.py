"""`lg-field view`: look at a field file in the browser, pick cells, crop, undo, save."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import tyro

from lg_field.cli.opening import Part, source_of
from lg_field.cli.options import NO_REGION, Address, RegionFlags, pick_device
from lg_field.cli.publish import serve

MEMORY = 2.0
"""GB for rows and what is computed of a picture, unless something else is asked for."""


def view(
    input: Address,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    port: int = 8080,
    device: str = "auto",
    web: bool = False,
    memory: float = MEMORY,
) -> None:
    """Show a field file on a page of this machine; nothing on disk changes until "Save crop".

    Of a composition the parts can be moved, turned and scaled, and the arrangement saved.

    Args:
        input: field file or composition, or an address fsspec reads.
        region: load and show only this part.
        port: of the page, on 127.0.0.1; the next free one if it is taken.
        device: auto, cpu, cuda, ...
        web: serve the page that `lg-field publish` writes: a scene is drawn by the browser, on its graphics card.
        memory: GB that rows and what is computed of a picture of a scene may take at a time. Of a scene file with more
            rows only those are read that are looked at.
    """
    if web:
        if device != "auto":
            raise ValueError("--web draws in the browser, on its graphics card: no --device")
        if memory != MEMORY:
            raise ValueError("--web draws in the browser, which takes what memory it needs: no --memory")
        serve(input, region, port)
        return
    source = source_of(input)
    with source.shown(region, pick_device(device), memory) as shown:
        page = source.view(Part(shown.field, shown.precision, shown.bytes_read()), port)
        print(f"{input}: {page.url}", flush=True)
        page.wait()


def view_of_field(name: str, part: Part, port: int) -> Any:
    """The page of a field file.

    Args:
        name: its path or address.
        part: what was read of it.
        port: of the page.
    """
    from dataclasses import replace

    import torch

    from lg_field.space.regions import Region
    from lg_field.viewer.view import open_view

    field, precision = part.field, getattr(torch, part.precision)

    def box(numbers: tuple[float, ...]) -> Region:
        shape, _ = replace(NO_REGION, box=numbers).resolve(field)
        assert shape is not None
        return shape

    return open_view(field, local_name(name), precision, box, port)


def local_name(name: str) -> Path:
    """Where files are saved beside: a path as it is, of an address the last word, in this folder."""
    return Path(name) if "://" not in name else Path(name.rsplit("/", 1)[1])
