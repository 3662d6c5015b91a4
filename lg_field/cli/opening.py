"""What commands open: a field file, or a composition of scene files. Its name says which; each does what it can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lg_field.cli.objects import VoxelSource

if TYPE_CHECKING:
    from lg_field.cli.options import RegionFlags


class Part(NamedTuple):
    """What was read of a file."""

    field: Any
    precision: str
    """Of the weights in the file, a torch dtype's name."""
    bytes_read: int


class CropFlags(NamedTuple):
    """What is asked of `lg-field crop`."""

    output: Path | None
    region: RegionFlags
    dtype: str
    """Of the weights written, or as-is."""
    dry_run: bool
    report: Path | None
    overwrite: bool


class Source(ABC):
    """A file by its path or address; nothing is read before a method is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def part(self, region: RegionFlags) -> Part:
        """What is in the file, or only the part that the region names; no more than that is read."""

    @abstractmethod
    def crop(self, flags: CropFlags) -> None:
        """`lg-field crop` of it."""

    @abstractmethod
    def info(self, as_json: bool) -> None:
        """`lg-field info` of it."""

    @abstractmethod
    def validate(self) -> None:
        """`lg-field validate` of it."""

    @abstractmethod
    def view(self, part: Part, port: int) -> Any:
        """A page that shows what was read of it (see `open_view`)."""


class FieldSource(Source):
    """A field file."""

    def part(self, region: RegionFlags) -> Part:
        """Of a region just its rows are read, and its mask is exact unless whole cells are wanted."""
        from lg_field.files import FieldFile
        from lg_field.radiance.components import settled, settles

        with FieldFile.open(self.name) as file:
            source = VoxelSource.of_file(file)
            shape, cells = region.resolve(file.skeleton, source) if region.given else (None, None)
            field: Any = file.load(shape, cells, region.invert)
            field.region = file.header.region if region.snap else field.region
            field = settled(field) if settles(field, field.region) else field
            return Part(field, file.precision, file.reader.bytes_read)

    def crop(self, flags: CropFlags) -> None:
        """Keeps rows."""
        from lg_field.cli.edit import crop_field

        crop_field(self.name, flags)

    def info(self, as_json: bool) -> None:
        """Grid, cells, parameters, bytes."""
        from lg_field.cli.info import info_of_field

        info_of_field(self.name, as_json)

    def validate(self) -> None:
        """Reads every weight."""
        from lg_field.cli.info import validate_field

        validate_field(self.name)

    def view(self, part: Part, port: int) -> Any:
        """Cells can be picked and cropped."""
        from lg_field.cli.view import view_of_field

        return view_of_field(self.name, part, port)


def source_of(name: str) -> Source:
    """What a path or an address names."""
    from lg_field.radiance.arrangement import is_composition

    if is_composition(name):
        from lg_field.cli.compose import CompositionSource

        return CompositionSource(name)
    return FieldSource(name)


def part_of_file(input: str, region: RegionFlags) -> Part:
    """What is in a file, or only the part that the region names (see `Source.part`)."""
    return source_of(input).part(region)
