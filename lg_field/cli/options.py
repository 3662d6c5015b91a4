"""Options that several commands share: which files, which region in which units, on which device."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from lg_field.cli.console import print_sizes as print_sizes
from lg_field.cli.console import progress_bar as progress_bar
from lg_field.cli.region_files import oriented_box, read_cells, read_region
from lg_field.signals.registry import KINDS

if TYPE_CHECKING:
    from lg_field.signals.signal import Signal
    from lg_field.space.regions import Region
    from lg_field.table.cell_table import CellTable

Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
OptionalOutput = Annotated[Path | None, tyro.conf.arg(aliases=["-o"])]
Input = tyro.conf.Positional[Path]
Address = tyro.conf.Positional[
    Annotated[
        str,
        PrimitiveConstructorSpec(
            nargs=1,
            metavar="FILE",
            instance_from_str=lambda words: os.path.expanduser(words[0]),
            is_instance=lambda value: isinstance(value, str),
            str_from_instance=lambda value: [value],
        ),
    ]
]
"""A field file: a path, or an address fsspec reads."""

UNITS = ", ".join(f"{kind.name}: {kind.units}" for kind in KINDS.values())
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
    invert: bool = False
    """Keep everything else."""
    snap: bool = False
    """Keep whole cells, not the exact region."""

    @property
    def given(self) -> bool:
        """Whether any region was asked for."""
        return bool(self.box or self.sphere or self.obb or self.cells or self.region)

    def resolve(self, field: CellTable) -> tuple[Region | None, list[int] | None]:
        """For `editing.crop`: the region in the field's units, or the cells.

        Raises:
            ValueError: nothing given, or not fitting the field.
        """
        from lg_field.cli.cells import parse_cells

        listed = None if self.region is None else read_cells(self.region, field.grid)
        placed = self.box or self.sphere or self.obb or (self.region is not None and listed is None)
        if (self.cells or listed) and (placed or (self.cells and listed)):
            raise ValueError("give cells or a region, not both")
        if self.cells:
            return None, parse_cells(self.cells, field.grid)
        if listed:
            return None, listed
        parts = self.parts(field)
        if not parts:
            raise ValueError("say what to keep: --box, --sphere, --obb, --cells or --region")
        region = parts[0]
        for part in parts[1:]:
            region = region | part
        return region, None

    def parts(self, field: CellTable) -> list[Region]:
        """The regions asked for, in the field's units."""
        from lg_field.signals.signal import Signal

        about, axes = field.description, field.grid.dim
        signal = about if isinstance(about, Signal) else None
        parts = self.drawn(axes, signal)
        exact: list[Region] = []
        if self.region is not None:
            region, in_domain = read_region(self.region)
            if signal is not None and not in_domain:
                with naming(self.region):
                    signal.traits.region_to_samples(signal, region)
            (exact if in_domain else parts).append(region)
        if signal is None:
            return [*parts, *exact]
        placed = [signal.traits.region_to_samples(signal, part) for part in parts]
        return [*([signal.to_domain(joined(placed), field.grid)] if placed else []), *exact]

    def drawn(self, axes: int, signal: Signal | None) -> list[Region]:
        """The box, sphere and turned box of the flags, in their units.

        Raises:
            ValueError: another number of numbers than the axes need.
        """
        from lg_field.space.regions import Region

        parts: list[Region] = []
        if self.box:
            parts.append(Region.box(*corners_of(self.box, axes, signal)))
        if self.sphere:
            if len(self.sphere) != axes + 1:
                raise ValueError(f"--sphere needs {axes} numbers of the center and a radius, got {len(self.sphere)}")
            parts.append(Region.sphere(self.sphere[:-1], self.sphere[-1]))
        if self.obb:
            if axes != 3 or len(self.obb) != 9:
                raise ValueError("--obb is for scenes and shapes and needs nine numbers: center, roll pitch yaw, size")
            parts.append(oriented_box(self.obb[:3], self.obb[3:6], self.obb[6:]))
        return parts


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


def corners_of(box: tuple[float, ...], axes: int, signal: Signal | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper corner of a --box, in the units and order it is given in.

    Raises:
        ValueError: another number of numbers than the axes need, or ones that are no numbers; infinite ones of scenes.
    """

    if len(box) != 2 * axes:
        what = "scene" if signal is None else f"{signal.kind} ({signal.traits.units})"
        raise ValueError(f"--box of a {what} needs {2 * axes} numbers, got {len(box)}")
    if signal is not None:
        box = half_open(box, signal)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"--box needs finite numbers, got {box}")
    return box[:axes], box[axes:]


def half_open(box: tuple[float, ...], signal: Signal) -> tuple[float, ...]:
    """A box with the ends of the signal in the place of infinite numbers, in the user's units and order."""
    axes = len(signal.shape)
    ends = [signal.traits.from_samples(signal, corner) for corner in ((0.0,) * axes, tuple(map(float, signal.shape)))]
    least, most = (tuple(pick(pair) for pair in zip(*ends)) for pick in (min, max))
    return tuple(
        {-math.inf: low, math.inf: high}.get(number, number) for number, low, high in zip(box, least * 2, most * 2)
    )


def sample_corners(box: tuple[float, ...], signal: Signal) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper corner of a --box in sample units and the domain's order of axes."""
    from lg_field.space.regions import Region

    low, high = corners_of(box, len(signal.shape), signal)
    Region.box(low, high)  # raises ValueError if they are not a lower and an upper corner
    ends = [signal.traits.to_samples(signal, corner) for corner in (low, high)]
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
