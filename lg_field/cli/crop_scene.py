"""`crop-scene`: keep one part of a trained scene as a new, smaller nerfstudio run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lg_field.cli.options import NO_REGION, RegionFlags, print_sizes
from lg_field.cli.running import run_command

if TYPE_CHECKING:
    from lg_field.nerfstudio.runs import Run
    from lg_field.radiance.field import RadianceField
    from lg_field.space.regions import Region


def crop_scene(
    load_config: Path,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    world: bool = False,
    dry_run: bool = False,
    keep_optimizer: bool = False,
    overwrite: bool = False,
) -> None:
    """Crop a trained lg-field scene: no retraining, no kept value changed, smaller in proportion.

    Args:
        load_config: config.yml of the run.
        output: folder of the new run; every ns-* command works on its config.yml.
        region: what to keep, in nerfstudio's scene space; several shapes are joined.
        world: the region is given in the data set's own units (world), not in scene units.
        dry_run: only say what would be kept.
        keep_optimizer: keep the optimizer state of the kept rows, to go on training.
        overwrite: replace an existing output folder.
    """
    import torch

    from lg_field.files import refuse_existing
    from lg_field.nerfstudio.runs import cropped_checkpoint, load_run, write_run
    from lg_field.space.regions import transformed
    from lg_field.table.editing import crop

    if output is None and not dry_run:
        raise ValueError("give the new run's folder with -o, or --dry-run")
    if output is not None and not dry_run:
        refuse_existing(output, overwrite)
    begin = time.perf_counter()
    run = load_run(load_config)
    field = run.field()
    shape, cells = region.resolve(field)
    if shape is not None:
        shape = transformed(shape, torch.linalg.inv(run.scene_to_world())) if world else shape
        check_inside(shape, field)
    small = crop(field, shape, cells=cells, invert=region.invert)
    small.region = field.region if region.snap else small.region
    console = Console()
    _report(console, run, field, small)
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


def check_inside(region: Region, field: RadianceField) -> None:
    """Raise ValueError if the region touches no cell of the grid, or none that holds anything."""
    touched = region.touched(field.grid, field.unwarp_boxes)
    if len(touched) == 0:
        grid = field.grid
        raise ValueError(f"the box is outside the scene, which reaches from {grid.lower} to {grid.upper}")
    if len(field.rows_touching(region)) == 0:
        bounds = [tuple(round(v, 3) for v in corner) for corner in field.occupancy.bounds().tolist()]
        raise ValueError(f"the box holds only empty space; what the scene holds lies within {bounds[0]} to {bounds[1]}")


def _report(console: Console, run: Run, field: RadianceField, small: RadianceField) -> None:
    """Print kept cells, parameters and bytes of weights, before and after, and the exact region in both units."""
    from lg_field.nerfstudio.runs import TRANSFORMS
    from lg_field.space.regions import transformed

    old, new = field.num_parameters(), small.num_parameters()
    sizes = [sum(v.numel() * v.element_size() for v in (*f.parameters(), *f.buffers())) for f in (field, small)]
    rows = [("cells", field.num_rows, small.num_rows)]
    rows += [(f"{part} parameters", old[part], new[part]) for part in ("local", "shared", "total")]
    rows += [("bytes in memory", sizes[0], sizes[1])]
    print_sizes(console, f"{run.config_path.parent} (step {run.step})", rows)
    if small.region is None:
        console.print("whole cells are kept and shown")
        return
    console.print(f"region (scene units): {small.region.to_dict()}", highlight=False, soft_wrap=True)
    if (run.config_path.parent / TRANSFORMS).exists():
        world = transformed(small.region, run.scene_to_world())
        console.print(f"region (world units): {world.to_dict()}", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `crop-scene`."""
    run_command("crop-scene", crop_scene)
