"""Options that several commands share: which files, which region in which units, on which device."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from lg_field.cli.console import print_sizes as print_sizes
from lg_field.cli.console import progress_bar as progress_bar
from lg_field.cli.kind_facts import FACTS
from lg_field.cli.objects import NO_OBJECT, ObjectFlags, VoxelSource, both
from lg_field.cli.region_files import read_cells, read_region
from lg_field.cli.shapes import box_of, corners_of, obb_of, shapes_of, sphere_of

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.signals.signal import Signal
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable
    from lg_field.table.outline import Outline

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
OptionalOutput = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]
Input = tyro.conf.Positional[Path]
_PATH = PrimitiveConstructorSpec(
    nargs=1,
    metavar="FILE",
    instance_from_str=lambda words: os.path.expanduser(words[0]),
    is_instance=lambda value: isinstance(value, str),
    str_from_instance=lambda value: [value],
)
Address = tyro.conf.Positional[Annotated[str, _PATH]]
"""A field file: a path, or an address fsspec reads."""
OptionalAddress = tyro.conf.Positional[Annotated[str, _PATH] | None]

UNITS = ", ".join(f"{kind.name}: {kind.units}" for kind in FACTS)
"""In which units each kind of signal takes places."""


@dataclass(frozen=True)
class RegionFlags:
    """What to keep."""

    box: Annotated[
        tuple[float, ...],
        tyro.conf.arg(
            help="Lower corner, then upper corner (image: LEFT TOP RIGHT BOTTOM; sound: START END; inf: to "
            "the end of a signal). "
            f"Units - scene: nerfstudio's scene space, {UNITS}."
        ),
    ] = ()
    """Lower corner, then upper corner, in the units of the kind of signal; scenes: nerfstudio's scene space."""
    sphere: tuple[float, ...] = ()
    """Center, then radius."""
    obb: tuple[float, ...] = ()
    """Turned box of a scene or shape: center, rotation (roll pitch yaw, radians), size; nine numbers, as the viewer
    shows them."""
    cells: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CELLS")] = ()
    """Numbers of cells and ranges of them, as `lg-field info` counts them: 0-7,12 40."""
    region: Path | None = None
    """JSON of a region in the units of --box (as crops of scenes save it), or with "units": "domain" as `info` prints
    it; of cells (by the viewer); or a nerfstudio camera path with a crop box."""
    also: tuple[str, ...] = ()
    """More shapes to keep, by name: box, sphere or obb with their numbers, or region and a JSON file; as many as
    wanted: sphere 0 0 0 1 sphere 1 0 0 0.5."""
    without: tuple[str, ...] = ()
    """Shapes to leave out of what is kept, written as for --also."""
    objects: Annotated[ObjectFlags, tyro.conf.arg(name="")] = NO_OBJECT
    """An object within all that."""
    invert: bool = False
    """Keep everything else."""
    snap: bool = False
    """Keep whole cells, not the exact region."""

    @property
    def given(self) -> bool:
        """Whether any region was asked for."""
        return self.placed or bool(self.cells or self.region or self.objects.given)

    @property
    def placed(self) -> bool:
        """Whether a shape was asked for, other than by --region."""
        return bool(self.box or self.sphere or self.obb or self.also or self.without)

    def resolve(
        self,
        field: CellTable | Outline,
        source: VoxelSource | None = None,
        to_field: Tensor | None = None,
        limit: Region | None = None,
    ) -> tuple[Region | None, list[int] | None]:
        """For `editing.crop`: the region in the field's units, or the cells.

        Args:
            field: what is to be cropped; on the meta device only if `source` is given.
            source: gives the voxels of a scene; None = the field's own.
            to_field: scenes: (4, 4) from the units of the flags' numbers; None where those are the field's.
            limit: what is kept of all that, in the field's units; None = everything.

        Raises:
            ValueError: nothing given, or not fitting the field.
        """
        from lg_field.cli.cells import parse_cells
        from lg_field.space.regions import transformed

        listed = None if self.region is None else read_cells(self.region, field.grid)
        placed = self.placed or self.objects.given or limit or (self.region is not None and listed is None)
        if (self.cells or listed) and (placed or (self.cells and listed)):
            raise ValueError("give cells or a region, not both")
        if self.cells:
            return None, parse_cells(self.cells, field.grid)
        if listed:
            return None, listed
        shape = self.shape(field)
        if shape is None and limit is None and not self.objects.given:
            raise ValueError(
                "say what to keep: --box, --sphere, --obb, --cells, --region, --without, --focus, --component or "
                "--above-plane"
            )
        if shape is not None and to_field is not None:
            shape = transformed(shape, to_field)
        shape = both(shape, limit)
        if self.objects.given:
            shape = self.objects.within(field, source or VoxelSource.of_field(field), shape, to_field)
        return shape, None

    def shape(self, field: CellTable | Outline) -> Region | None:
        """The shapes asked for, joined, without those to leave out; None if there are none."""
        from lg_field.signals.signal import Signal

        about, axes = field.description, field.grid.dim
        signal = about if isinstance(about, Signal) else None
        more, less = (
            shapes_of(words, axes, signal, flag) for words, flag in ((self.also, "--also"), (self.without, "--without"))
        )
        files = [] if self.region is None else [self.region]
        kept = self.placed_in(field, [*self.drawn(axes, signal), *more.drawn], [*files, *more.files])
        holes = self.placed_in(field, *less)
        shape = joined(kept) if kept else None
        if not holes:
            return shape
        return ~joined(holes) if shape is None else shape - joined(holes)

    def placed_in(self, field: CellTable | Outline, parts: list[Region], files: list[Path]) -> list[Region]:
        """Shapes and regions of files, in the field's units."""
        from lg_field.signals.signal import Signal

        about = field.description
        signal = about if isinstance(about, Signal) else None
        parts = list(parts)
        exact: list[Region] = []
        for path in files:
            region, in_domain = read_region(path)
            if signal is not None and not in_domain:
                with naming(path):
                    signal.places.region_to_samples(signal, region)
            (exact if in_domain else parts).append(region)
        if signal is None:
            return [*parts, *exact]
        placed = [signal.places.region_to_samples(signal, part) for part in parts]
        return [*([signal.to_domain(joined(placed), field.grid)] if placed else []), *exact]

    def drawn(self, axes: int, signal: Signal | None) -> list[Region]:
        """The box, sphere and turned box of the flags, in their units.

        Raises:
            ValueError: another number of numbers than the axes need.
        """
        given = ((self.box, box_of), (self.sphere, sphere_of), (self.obb, obb_of))
        return [make(numbers, axes, signal) for numbers, make in given if numbers]


NO_REGION = RegionFlags()


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Context: a ValueError inside says which file it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def joined(regions: list[Region]) -> Region:
    """The union of regions."""
    first, *rest = regions
    for region in rest:
        first = first | region
    return first


def sample_corners(box: tuple[float, ...], signal: Signal) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper corner of a --box in sample units and the domain's order of axes."""
    from lg_field.space.regions import Region

    low, high = corners_of(box, len(signal.shape), signal)
    Region.box(low, high)  # raises ValueError if they are not a lower and an upper corner
    ends = [signal.places.to_samples(signal, corner) for corner in (low, high)]
    return tuple(map(min, *ends)), tuple(map(max, *ends))


def check_outputs(overwrite: bool, outputs: Sequence[Path | None], inputs: Sequence[Path | str | None]) -> None:
    """Raise, before any work, if a file to write may not be written.

    Args:
        overwrite: outputs that exist may be replaced; inputs may not.
        outputs: files to write; None are left out.
        inputs: what is read: paths or addresses; None are left out.

    Raises:
        FileExistsError: an output exists.
        ValueError: an output is one of the inputs, another output, or standard output.
        OSError: an output is a folder or a device.
    """
    from lg_field.files import file_to_write, refuse_existing
    from lg_field.signals.parts import split_part

    read = [split_part(Path(path))[0].resolve() for path in inputs if path is not None]
    read += [inner.resolve() for folder in read if folder.is_dir() for inner in folder.iterdir()]
    seen: dict[Path, str] = dict.fromkeys(read, "is what is read")
    for path in outputs:
        if path is None:
            continue
        if str(path) == "-":
            raise ValueError("files are written whole or not at all, never to standard output: give a path")
        same = path.resolve() if path.resolve() in seen else _other_name(path, seen)
        if same is not None:
            raise ValueError(f"{path} {seen[same]}; give another path to write to")
        refuse_existing(path, overwrite)
        file_to_write(path)
        seen[path.resolve()] = "is to be written twice"


def _other_name(path: Path, seen: Iterable[Path]) -> Path | None:
    """Which of these is the same file by another name (a hard link, or another case of letters)."""
    return next((p for p in seen if path.is_file() and p.is_file() and path.samefile(p)), None)


def bounded(field: Any, memory: float) -> Any:
    """A field whose pictures take no more than so many GB at a time, where it is one of a scene.

    Raises:
        ValueError: not a positive number.
    """
    check_memory_flag(memory)
    from lg_field.radiance.composition import parts_of
    from lg_field.radiance.volume import Volume

    for part in parts_of(field) if isinstance(field, Volume) else ():
        part.field.memory = memory
    return field


def check_memory_flag(memory: float) -> None:
    """Raise ValueError unless --memory is a positive number."""
    if not 0.0 < memory < float("inf"):
        raise ValueError(f"--memory must be a positive number of GB, got {memory}")


def pick_device(device: str) -> str:
    """`auto` is the GPU where there is one.

    Raises:
        ValueError: a device that this machine lacks.
    """
    import torch

    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device} cannot be used here: {str(error).splitlines()[0]}") from error
    return device
