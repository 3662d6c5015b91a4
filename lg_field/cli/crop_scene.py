"""`crop-scene`: keep one part of a trained scene as a new, smaller nerfstudio run."""

from __future__ import annotations

import json
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lg_field.cli.console import say
from lg_field.cli.cuts import warn_of_cut
from lg_field.cli.objects import VoxelSource
from lg_field.cli.options import NO_REGION, RegionFlags, print_sizes
from lg_field.cli.region_files import short_json
from lg_field.cli.running import run_command
from lg_field.cli.sights import Sights, masked

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.nerfstudio.runs import Run
    from lg_field.radiance.field import RadianceField
    from lg_field.space.regions import Region


def crop_scene(
    load_config: Path,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    masks: Path | None = None,
    world: bool = False,
    dry_run: bool = False,
    keep_optimizer: bool = False,
    overwrite: bool = False,
) -> None:
    """Crop a trained lg-field scene: no retraining, no kept value changed, smaller in proportion.

    Args:
        load_config: config.yml of the run.
        output: folder of the new run; every ns-* command works on its config.yml.
        region: what to keep, in nerfstudio's scene space; several shapes are joined, and objects chosen within them.
        masks: folder with one mask per training image, named as the images, bright where the object is: what the masks
            agree on is kept. Images without one count for nothing.
        world: the region is given in the data set's own units (world), not in scene units.
        dry_run: only say what would be kept.
        keep_optimizer: keep the optimizer state of the kept rows, to go on training.
        overwrite: replace an existing output folder.
    """
    from lg_field.files import refuse_existing
    from lg_field.nerfstudio.runs import cropped_checkpoint, load_run, write_run
    from lg_field.radiance.components import settled
    from lg_field.table.editing import crop

    region.objects.check()
    if output is None and not dry_run:
        raise ValueError("give the new run's folder with -o, or --dry-run")
    if output is not None and not dry_run:
        refuse_existing(output, overwrite)
    begin = time.perf_counter()
    run = load_run(load_config)
    field = run.field()
    shape, cells = asked(region, masks, world, run, field)
    small = crop(field, shape, cells=cells, invert=region.invert)
    small.region = exact = field.region if region.snap else small.region
    small = settled(small, keep_region=keep_optimizer)
    console = Console()
    _report(console, run, field, small)
    if region.placed or not region.objects.says_cut:
        dense = voxels_of_run(run).field if region.objects.through_haze else None
        warn_of_cut(field.occupancy, field.region, small.cells, exact, dense)
    if output is None or dry_run:
        return
    extra = {"region.json": exact.to_dict()} if exact is not None else {}
    path = write_run(run, cropped_checkpoint(run, small, keep_optimizer), output, overwrite, extra)
    before, after = run.size, path.stat().st_size
    say(
        console,
        f"checkpoint {before:,} -> {after:,} bytes{'' if keep_optimizer else ' (optimizer state left out)'}, "
        f"{time.perf_counter() - begin:.1f} s\n{output / 'config.yml'}",
    )


def asked(
    region: RegionFlags, masks: Path | None, world: bool, run: Run, field: RadianceField
) -> tuple[Region | None, list[int] | None]:
    """For `editing.crop`: what to keep, as a region in scene units or as cells."""
    import torch

    to_scene: Tensor | None = torch.linalg.inv(run.scene_to_world()) if world else None
    shape, cells = region.resolve(field, voxels_of_run(run), to_scene, masked_in_run(masks, run, field))
    if shape is not None:
        check_inside(shape, field)
    return shape, cells


def masked_in_run(masks: Path | None, run: Run, field: RadianceField) -> Region | None:
    """The voxels that masks of the training images agree on, in scene units; None without masks."""
    from lg_field.nerfstudio.looking import training_cameras
    from lg_field.nerfstudio.placing import views_of

    if masks is None:
        return None
    outputs = training_cameras(run)
    return masked(field.occupancy, field.region, Sights(views_of(outputs.cameras), outputs.image_filenames), masks)


def voxels_of_run(run: Run) -> VoxelSource:
    """The voxels of a run's scene; its cameras are those of its data set."""
    from lg_field.nerfstudio.looking import look_of_run
    from lg_field.nerfstudio.runs import pack

    whole = lru_cache(1)(lambda: pack(run))
    return VoxelSource(lambda: whole().occupancy, whole, lambda: look_of_run(run))


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
    rows += [("occupied voxels", int(field.occupied.sum()), int(small.occupied.sum()))]
    print_sizes(console, f"{run.config_path.parent} (step {run.step})", rows)
    if small.region is None:
        say(console, "whole cells are kept, and shown as far as their voxels are occupied")
        return
    say(console, f"region (scene units): {short_json(small.region.to_dict())}")
    if (run.config_path.parent / TRANSFORMS).exists():
        try:
            world = transformed(small.region, run.scene_to_world())
        except ValueError:
            return  # voxels are of scene space alone
        say(console, f"region (world units): {json.dumps(world.to_dict())}")


def main() -> None:
    """Entry point of `crop-scene`."""
    run_command("crop-scene", crop_scene)
