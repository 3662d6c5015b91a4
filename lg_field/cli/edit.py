"""Edits of field files: `lg-field crop`, `extend`, `prune`, `merge`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console

from lg_field.cli.fitting import FitFlags, check_flags, run_fit
from lg_field.cli.options import NO_REGION, Address, Output, RegionFlags, pick_device, print_sizes, progress_bar
from lg_field.signals.settings import FitConfig

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.files import FieldFile
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.data import Samples
    from lg_field.space.regions import Region

OptionalOutput = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]


def crop(
    input: Address,
    output: OptionalOutput = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    dtype: Literal["as-is", "float32", "float16", "bfloat16"] = "as-is",
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Keep one part of a field file: smaller in proportion, no kept value changed; the file is never loaded whole.

    Args:
        input: field file, or an address fsspec reads.
        output: the file to write.
        region: what to keep.
        dtype: of the weights written.
        dry_run: only say what would be kept.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, crop_file, refuse_existing
    from lg_field.table.editing import rows_to_keep

    if output is None and not dry_run:
        raise ValueError("give the file to write with -o, or --dry-run")
    if output is not None and not dry_run:
        refuse_existing(output, overwrite)
    console, begin = Console(), time.perf_counter()
    with FieldFile.open(input) as file:
        shape, cells = region.resolve(file.skeleton)
        rows, exact = rows_to_keep(file.skeleton, shape, cells, region.invert)
        report_crop(console, file, rows, None if region.snap else exact)
    if output is None or dry_run:
        return
    with progress_bar(console) as progress:
        task = progress.add_task("copying rows", total=None)
        size = crop_file(
            input,
            output,
            shape,
            cells=cells,
            invert=region.invert,
            snap=region.snap,
            dtype=None if dtype == "as-is" else dtype,
            overwrite=overwrite,
            progress=lambda count: progress.advance(task, count),
        )
    console.print(f"{output}: {size:,} bytes, {time.perf_counter() - begin:.2f} s", highlight=False, soft_wrap=True)


def report_crop(console: Console, file: FieldFile, rows: Tensor, region: Region | None) -> None:
    """Print cells, parameters and bytes before and after, and how close the cells come to the region."""
    field, sizes = file.skeleton, file.bytes_by_part()
    count, part = field.num_parameters(), len(rows) / field.num_rows
    local = round(count["local"] * part)
    kept_bytes = round(sizes["rows"] * part)
    rows_of_table = (
        ("cells", field.num_rows, len(rows)),
        ("local parameters", count["local"], local),
        ("shared parameters", count["shared"], count["shared"]),
        ("total parameters", count["total"], local + count["shared"]),
        ("bytes of weights", sizes["rows"] + sizes["shared"], kept_bytes + sizes["shared"]),
    )
    print_sizes(console, file.reader.name, rows_of_table)
    if region is None:
        console.print("whole cells are kept and shown")
        return
    console.print(f"exact region (domain units): {region.to_dict()}", highlight=False, soft_wrap=True)
    finer = finer_share(field, rows, region)
    if finer is not None:
        saved = round(kept_bytes * (1.0 - finer))
        console.print(
            f"the region is shown exactly, its weights follow the cells; cells half as wide would hold it in "
            f"{finer:.0%} of the space kept here (about {saved:,} bytes less)",
            highlight=False,
            soft_wrap=True,
        )


def finer_share(field: Any, rows: Tensor, region: Region) -> float | None:
    """Part of the kept cells' space that cells half as wide would keep; None for very large grids."""
    children = field.grid.children(field.cells[rows])
    if children.numel() > 1 << 18:
        return None
    boxes = field.grid.refined().boxes(children.flatten())
    boxes = boxes if field.unwarp_boxes is None else field.unwarp_boxes(boxes)
    return float(region.touches(boxes).float().mean())


def extend(
    input: Address,
    target: Annotated[Path, tyro.conf.arg(name="with")],
    output: Output,
    at: tuple[int, ...] = (),
    fit: Annotated[FitConfig, tyro.conf.arg(name="")] = FitConfig(),  # noqa: B008
    flags: Annotated[FitFlags, tyro.conf.arg(name="")] = FitFlags(),  # noqa: B008
) -> None:
    """Grow a field over a larger signal, or give a crop its removed cells back: only new rows are trained.

    Args:
        input: field file of the old signal, or of a crop.
        target: the larger signal: it holds the old one.
        output: the file to write.
        at: sample of the target where the old signal begins (image: x y; video: frame x y), 0 by default.
        fit: training of the new rows; everything else stays as it is to the bit.
        flags: device, pictures, logs, resuming.
    """
    import torch

    from lg_field.files import load
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.encode import check_fit
    from lg_field.signals.fit import Fit
    from lg_field.signals.metrics import psnr_of_rows

    check_flags(flags, output)
    field = load(input)
    if not isinstance(field, LocalGlobalNetwork):
        raise ValueError(f"{input} is a scene; this extends images, sounds, videos and volumes")
    larger, data, fresh = extended(field, target, at)
    check_fit(data.signal, fit)
    console = Console()
    console.print(
        f"{field.num_rows} old cells stay as they are; training {len(fresh)} new ones on "
        f"{' x '.join(map(str, data.signal.shape))} samples",
        highlight=False,
        soft_wrap=True,
    )
    larger = larger.to(pick_device(flags.device))
    run_fit(Fit(larger, data, fit, fresh), output, flags, console)
    new = fresh.to(larger.cells.device)
    kept = torch.isin(torch.arange(larger.num_rows, device=new.device), new, invert=True).nonzero()[:, 0]
    console.print(
        f"PSNR of the old cells {psnr_of_rows(larger, data, kept):.2f} dB, of the new ones "
        f"{psnr_of_rows(larger, data, new):.2f} dB",
        highlight=False,
        soft_wrap=True,
    )


def extended(
    field: LocalGlobalNetwork, target: Path, at: tuple[int, ...]
) -> tuple[LocalGlobalNetwork, Samples, Tensor]:
    """The field with rows for the whole of the target, the data to train them on, and which rows are new."""
    from lg_field.signals import read_signal
    from lg_field.signals.decode import signal_of
    from lg_field.signals.settings import ShapeConfig

    signal = signal_of(field)
    data = read_signal(target, ShapeConfig(max(signal.shape)))
    first = tuple(round(v) for v in signal.traits.to_samples(signal, at)) if at else ()
    return signal.traits.extend(field, data, first)


def prune(input: Address, output: Output, overwrite: bool = False) -> None:
    """Drop the cells that hold nothing: decoded values and renders do not change.

    Signals: cells that decode to black, silence or the lowest value throughout. Scenes: cells with no occupied voxel.

    Args:
        input: field file, or an address fsspec reads.
        output: the file to write.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, refuse_existing, save
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.radiance.field import RadianceField
    from lg_field.signals.decode import blank_rows
    from lg_field.table.editing import prune as drop

    refuse_existing(output, overwrite)
    with FieldFile.open(input) as file:
        field, precision = file.load(), file.precision
    if isinstance(field, LocalGlobalNetwork):
        small: Any = drop(field, blank_rows(field))
    else:
        assert isinstance(field, RadianceField)
        small = drop(field, ~field.occupied.any(1))
    size = save(small, output, dtype=precision, overwrite=overwrite)
    console = Console()
    console.print(f"{output}: {field.num_rows} -> {small.num_rows} cells, {size:,} bytes", highlight=False)


def merge(first: Address, second: Address, output: Output, overwrite: bool = False) -> None:
    """Join two crops of one field into one file.

    Args:
        first: a crop.
        second: another crop of the same field.
        output: the file to write.
        overwrite: replace an existing output.
    """
    from lg_field.files import FieldFile, merge_files

    size = merge_files(first, second, output, overwrite=overwrite)
    with FieldFile.open(output) as file:
        cells = file.skeleton.num_rows
    Console().print(f"{output}: {cells} cells, {size:,} bytes", highlight=False, soft_wrap=True)
