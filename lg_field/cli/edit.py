"""Edits of field files: `lg-field crop`, `prune`, `merge`."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from lg_field.cli.console import print_sizes, progress_bar, say
from lg_field.cli.cuts import around, warn_of_cut
from lg_field.cli.objects import VoxelSource, bits_of_file, voxels_of_file
from lg_field.cli.opening import CropFlags, source_of
from lg_field.cli.options import NO_REGION, Address, OptionalOutput, Output, RegionFlags, check_outputs
from lg_field.cli.region_files import region_json
from lg_field.cli.sights import NO_SIGHTS, SightFlags
from lg_field.errors import doing

if TYPE_CHECKING:
    import numpy as np

    from lg_field.files import FieldFile
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline

REPORT_SIZE = 320
"""Pixels of a view in a crop's picture, along each side."""


def crop(
    input: Address,
    output: OptionalOutput = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    sights: Annotated[SightFlags, tyro.conf.arg(name="")] = NO_SIGHTS,
    dtype: Literal["as-is", "float32", "float16", "bfloat16", "int8"] = "as-is",
    dry_run: bool = False,
    report: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Keep one part of a field file: smaller in proportion, no kept value changed; the file is never loaded whole.

    Of a composition a smaller one is written: the parts that are left, and what of them is shown.

    Args:
        input: field file or composition, or an address fsspec reads.
        output: the file to write.
        region: what to keep.
        sights: what the training images say of it.
        dtype: of the weights written.
        dry_run: only say what would be kept.
        report: write a picture (.png) of what is kept, of scenes with the cut marked; this reads the whole file.
        overwrite: replace an existing output.
    """
    source_of(input).crop(CropFlags(output, region, dtype, dry_run, report, overwrite, sights))


def crop_field(input: str, flags: CropFlags, as_result: bool = True) -> None:
    """`lg-field crop` of a field file; `as_result`: say where the output lies, which is what was asked for."""
    from lg_field.files import FieldFile, crop_file

    write: Callable[..., int] = crop_file
    output, region, dtype, dry_run, _, overwrite, _ = flags
    check_crop(input, flags)
    console, begin = Console(), time.perf_counter()
    with ExitStack() as stack:
        with doing(f"reading {input}"):
            file = stack.enter_context(FieldFile.open(input))
            shape, cells, by_voxels = planned(console, file, flags)
        if output is None or dry_run:
            return
        if by_voxels:
            from lg_field.radiance.carving import crop_voxels as write
        with doing(f"writing {output}"), progress_bar(console) as progress:
            task = progress.add_task("copying rows", total=None)
            size = write(
                file,
                output,
                shape,
                cells=cells,
                invert=region.invert,
                snap=region.snap,
                dtype=None if dtype == "as-is" else dtype,  # type: ignore[arg-type]
                overwrite=overwrite,
                progress=lambda count: progress.advance(task, count),
            )
    if as_result:
        say(console, f"{output}: {size:,} bytes, {time.perf_counter() - begin:.2f} s")


def planned(console: Console, file: FieldFile, flags: CropFlags) -> tuple[Region | None, Any, bool]:
    """The region or the cells that a crop keeps, and whether it clears voxels; what is kept is said."""
    from lg_field.arrays import like_number
    from lg_field.radiance.components import settles
    from lg_field.radiance.scene import Scene
    from lg_field.table.keeping import rows_to_keep

    _, region, _, _, report, overwrite, asked = flags
    source = (asked or NO_SIGHTS).seen_from(VoxelSource.of_file(file), file.description)
    limit = (asked or NO_SIGHTS).limit(source, file.header.region, file.description)
    shape, cells = region.resolve(file.outline, source, limit=limit)
    rows, exact = rows_to_keep(file.outline, shape, cells, region.invert)
    exact = file.header.region if region.snap else exact
    may_cut = isinstance(file.description, Scene) and (region.placed or not region.objects.says_cut)
    near = around(file, rows) if may_cut else rows
    file.prefetch_rows(file.outline.shown_rows, near)
    report_crop(console, file, rows, exact)
    if may_cut:
        hazy = region.objects.through_haze
        grid = voxels_of_file(file, like_number(file.cells, near)) if hazy else bits_of_file(file, near)
        warn_of_cut(grid, file.header.region, file.outline.cells[rows], exact, source.field if hazy else None)
    if report is not None:
        write_report(console, file, report, file.load(shape, cells, region.invert), region.snap, overwrite)
    return shape, cells, settles(file.outline, exact)


def check_crop(input: str, flags: CropFlags) -> None:
    """Raise, before any work, if there is nothing to write, or it may not be written."""
    if flags.output is None and not flags.dry_run:
        raise ValueError("give the file to write with -o, or --dry-run")
    if flags.report is not None and flags.report.suffix.lower() != ".png":
        raise ValueError(f"--report writes a .png, got {flags.report}")
    (flags.sights or NO_SIGHTS).check(flags.region.objects.focus is not None)
    outputs = [flags.report] if flags.dry_run else [flags.output, flags.report]
    check_outputs(flags.overwrite, outputs, [input])


def report_crop(console: Console, file: FieldFile, rows: np.ndarray, region: Region | None) -> None:
    """Print cells, parameters and bytes before and after, and how close the cells come to the region."""
    from lg_field.table.checkpoint import KEPT

    field, sizes = file.outline, file.bytes_by_part()
    count, part = field.num_parameters(), len(rows) / field.num_rows
    local = round(count["local"] * part)
    kept_bytes = round(sizes["rows"] * part)
    shared, shared_bytes = count["shared"], sizes["shared"]
    entries = []
    for name, mask in file.lines_of_rows(rows).items():
        old = file.reader.entries[name]
        kept = int(mask.sum())
        shared -= (old.shape[0] - kept) * old.shape[1]
        shared_bytes -= (old.shape[0] - kept) * old.row_bytes
        if not bool(mask.all()) and name + KEPT not in file.reader.entries:
            shared_bytes += -(-len(mask) // 8)
        entries.append((f"{name.replace('_', ' ')} entries", old.shape[0], kept))
    rows_of_table = (
        ("cells", field.num_rows, len(rows)),
        *entries,
        ("local parameters", count["local"], local),
        ("shared parameters", count["shared"], shared),
        ("total parameters", count["total"], local + shared),
        ("bytes of weights", sizes["rows"] + sizes["shared"], kept_bytes + shared_bytes),
    )
    print_sizes(console, file.reader.name, rows_of_table)
    if region is None:
        say(console, "whole cells are kept and shown")
        return
    say(console, f"exact region: {region_json(region, field)}")
    finer = finer_share(field, rows, region)
    if finer is not None:
        saved = round(kept_bytes * (1.0 - finer))
        say(
            console,
            f"the region is shown exactly, its weights follow the cells; cells half as wide would hold it in "
            f"{finer:.0%} of the space kept here (about {saved:,} bytes less)",
        )


def write_report(
    console: Console, file: FieldFile, path: Path, part: CellTable, whole_cells: bool, overwrite: bool
) -> None:
    """Write the picture of what a crop keeps of a scene or of a flat signal.

    Raises:
        ValueError: another kind of field.
    """
    import torch

    from lg_field.files import atomic_write
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.radiance.cut_picture import cut_picture
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.scene import Scene
    from lg_field.signals.kinds.image import write_image
    from lg_field.viewer.signals import kept_picture

    scene, field = file.description, file.load()
    part.region = field.region if whole_cells else part.region
    if isinstance(part, RadianceField) and isinstance(field, RadianceField) and isinstance(scene, Scene):
        picture = (cut_picture(field, part, scene, REPORT_SIZE) * 255.0).round().to(torch.uint8)
        what = "the scene from two sides, what goes is grey; beside it what is kept, with the cut in red"
    elif isinstance(part, LocalGlobalNetwork) and isinstance(field, LocalGlobalNetwork) and scene is not None:
        picture = torch.from_numpy(kept_picture(field, part, 2 * REPORT_SIZE))
        what = "what goes is pale, and what is kept"
    else:
        raise ValueError(f"--report shows scenes and signals; {file.reader.name} does not say what it is of")
    with atomic_write(path, overwrite) as temporary:
        write_image(picture, temporary)
    say(console, f"{path}: {what}")


def finer_share(field: Outline, rows: np.ndarray, region: Region) -> float | None:
    """Part of the kept cells' space that cells half as wide would keep; None for very large grids."""
    children = field.grid.children(field.cells[rows])
    if children.size > 1 << 18:
        return None
    boxes = field.grid.refined().boxes(children.reshape(-1))
    boxes = boxes if field.unwarp_boxes is None else field.unwarp_boxes(boxes)
    return float(region.touches(boxes).mean())


def prune(input: Address, output: Output, overwrite: bool = False) -> None:
    """Drop the cells that hold nothing: decoded values and renders do not change.

    Signals: cells that decode to black, silence or the lowest value throughout. Scenes: cells with no occupied voxel.

    Args:
        input: field file, or an address fsspec reads.
        output: the file to write.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, save
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.radiance.field import RadianceField
    from lg_field.signals.decode import blank_rows
    from lg_field.table.editing import prune as drop

    check_outputs(overwrite, [output], [input])
    with doing(f"pruning {input}"):
        with FieldFile.open(input) as file:
            field = file.load()
            precision: Any = file.precision
        if isinstance(field, LocalGlobalNetwork):
            small: Any = drop(field, blank_rows(field))
        else:
            assert isinstance(field, RadianceField)
            small = drop(field, ~field.occupied.any(1))
        size = save(small, output, dtype=precision, overwrite=overwrite)
    say(Console(), f"{output}: {field.num_rows} -> {small.num_rows} cells, {size:,} bytes")


def merge(first: Address, second: Address, output: Output, overwrite: bool = False) -> None:
    """Join two crops of one field into one file.

    Args:
        first: a crop.
        second: another crop of the same field.
        output: the file to write.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, merge_files

    check_outputs(overwrite, [output], [first, second])
    with doing(f"merging {first} and {second}"):
        size = merge_files(first, second, output, overwrite=overwrite)
        with FieldFile.open(output) as file:
            cells = file.skeleton.num_rows
    say(Console(), f"{output}: {cells} cells, {size:,} bytes")
