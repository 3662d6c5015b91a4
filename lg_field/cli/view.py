"""`lg-field view`: look at a field file in the browser, pick cells, crop, undo, save."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from lg_field.cli.options import NO_REGION, Address, RegionFlags, bounded, pick_device
from lg_field.cli.scene import part_of_file


def view(
    input: Address,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    port: int = 8080,
    device: str = "auto",
    memory: float = 2.0,
) -> None:
    """Show a field file on a page of this machine; nothing on disk changes until "Save crop".

    Args:
        input: field file, or an address fsspec reads.
        region: load and show only this part.
        port: of the page, on 127.0.0.1; the next free one if it is taken.
        device: auto, cpu, cuda, ...
        memory: GB that what is computed of a picture of a scene may take at a time.
    """
    from dataclasses import replace

    import torch

    from lg_field.space.regions import Region
    from lg_field.viewer.view import open_view

    part = part_of_file(input, region)
    field, precision = bounded(part.field.to(pick_device(device)), memory), getattr(torch, part.precision)

    def box(numbers: tuple[float, ...]) -> Region:
        shape, _ = replace(NO_REGION, box=numbers).resolve(field)
        assert shape is not None
        return shape

    path = Path(input) if "://" not in input else Path(input.rsplit("/", 1)[1])
    page = open_view(field, path, precision, box, port)
    print(f"{input}: {page.url}", flush=True)
    page.wait()
