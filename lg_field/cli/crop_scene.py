"""`crop-scene`: keep one part of a trained scene as a new, smaller nerfstudio run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from lg_field.cli import user_errors

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.nerfstudio.runs import Run
    from lg_field.radiance.field import RadianceField
    from lg_field.regions import Region

Six = tuple[float, float, float, float, float, float]


def crop_scene(
    load_config: Path,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    box: Six | None = None,
    cells: tuple[int, ...] = (),
    world: bool = False,
    dry_run: bool = False,
    keep_optimizer: bool = False,
    overwrite: bool = False,
) -> None:
    """Crop a trained lg-field scene: no retraining, no kept value changed, smaller in proportion.

    Args:
        load_config: config.yml of the run.
        output: folder of the new run; every ns-* command works on its config.yml.
        box: X0 Y0 Z0 X1 Y1 Z1, the lower then the upper corner, in nerfstudio's scene space.
        cells: or the numbers of the cells to keep.
        world: the box is in the data set's own units.
        dry_run: only say what would be kept.
        keep_optimizer: keep the optimizer state of the kept rows, to go on training.
        overwrite: replace an existing output folder.
    """
    from lg_field.editing import crop
    from lg_field.files import refuse_existing
    from lg_field.nerfstudio.runs import cropped_checkpoint, load_run, write_run

    if (box is None) == (not cells):
        raise ValueError("give either --box X0 Y0 Z0 X1 Y1 Z1 or --cells")
    if output is None and not dry_run:
        raise ValueError("give the new run's folder with -o, or --dry-run")
    if output is not None and not dry_run:
        refuse_existing(output, overwrite)
    begin = time.perf_counter()
    run = load_run(load_config)
    field = run.field()
    region = make_region(box, run.scene_to_world() if world else None) if box is not None else None
    if region is not None:
        check_inside(region, field)
    small = crop(field, region) if region is not None else crop(field, cells=list(cells))
    console = Console()
    _report(console, run, field, small, region)
    if output is None or dry_run:
        return
    extra = {"region.json": small.region.to_dict()} if small.region is not None else {}
    path = write_run(run, cropped_checkpoint(run, small, keep_optimizer), output, overwrite, extra)
    before, after = run.checkpoint_path.stat().st_size, path.stat().st_size
    console.print(
        f"checkpoint {before:,} -> {after:,} bytes{'' if keep_optimizer else ' (optimizer state left out)'}, "
        f"{time.perf_counter() - begin:.1f} s\n{output / 'config.yml'}",
        highlight=False,
        soft_wrap=True,
    )


def make_region(box: Six, scene_to_world: Tensor | None) -> Region:
    """The box as a region of scene space.

    Args:
        box: lower and upper corner.
        scene_to_world: (4, 4); None: the box is in scene space already. Otherwise it is in world units, and a turned
            box in scene space if the data parser turned the scene.
    """
    import torch

    from lg_field.regions import Box, OrientedBox, Region

    region = Region.box(box[:3], box[3:])
    if scene_to_world is None:
        return region
    to_scene = torch.linalg.inv(scene_to_world)
    scale = float(torch.linalg.det(to_scene[:3, :3]) ** (1 / 3))
    turn = to_scene[:3, :3] / scale
    lower, upper = torch.tensor(box[:3], dtype=torch.float64), torch.tensor(box[3:], dtype=torch.float64)
    center = to_scene[:3, :3] @ ((lower + upper) / 2) + to_scene[:3, 3]
    size = (upper - lower) * scale
    if torch.allclose(turn, torch.eye(3, dtype=torch.float64), atol=1e-6):
        return Box(tuple((center - size / 2).tolist()), tuple((center + size / 2).tolist()))
    return OrientedBox(tuple(center.tolist()), tuple(tuple(row) for row in turn.tolist()), tuple(size.tolist()))


def check_inside(region: Region, field: RadianceField) -> None:
    """Raise ValueError if the region touches no cell of the grid, or none that holds anything."""
    touched = region.touched(field.grid, field.unwarp_boxes)
    if len(touched) == 0:
        grid = field.grid
        raise ValueError(f"the box is outside the scene, which reaches from {grid.lower} to {grid.upper}")
    if len(field.rows_touching(region)) == 0:
        bounds = [tuple(round(v, 3) for v in corner) for corner in field.occupied_bounds().tolist()]
        raise ValueError(f"the box holds only empty space; what the scene holds lies within {bounds[0]} to {bounds[1]}")


def _report(console: Console, run: Run, field: RadianceField, small: RadianceField, region: Region | None) -> None:
    """Print kept cells, parameters and bytes of weights, before and after."""
    table = Table("", "before", "after", "kept", title=f"{run.config_path.parent} (step {run.step})")
    old, new = field.num_parameters(), small.num_parameters()
    sizes = [sum(v.numel() * v.element_size() for v in (*f.parameters(), *f.buffers())) for f in (field, small)]
    rows = [("cells", field.num_rows, small.num_rows)]
    rows += [(f"{part} parameters", old[part], new[part]) for part in ("local", "shared", "total")]
    rows += [("bytes in memory", sizes[0], sizes[1])]
    for name, before, after in rows:
        table.add_row(name, f"{before:,}", f"{after:,}", f"{after / max(before, 1):.1%}")
    console.print(table)
    if region is not None:
        console.print(f"region (scene space): {region.to_dict()}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `crop-scene`."""
    with user_errors("crop-scene"):
        tyro.cli(crop_scene, prog="crop-scene")
