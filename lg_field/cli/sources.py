"""What commands do with a field file (see `opening.Source`)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lg_field.cli.objects import VoxelSource
from lg_field.cli.opening import CropFlags, Part, Shown, Source
from lg_field.errors import notice

if TYPE_CHECKING:
    from lg_field.cli.options import RegionFlags
    from lg_field.files import FieldFile

GIGABYTE = 1e9
ROWS_SHARE = 0.5
"""Part of the memory that rows may take, which are read as they are looked at where all of them would take more."""


class FieldSource(Source):
    """A field file."""

    def part(self, region: RegionFlags) -> Part:
        """Of a region just its rows are read, and its mask is exact unless whole cells are wanted."""
        from lg_field.files import FieldFile

        with FieldFile.open(self.name) as file:
            shape, cells = kept_of(file, region)
            field = as_kept(file.load(shape, cells, region.invert), file, region)
            return Part(field, file.precision, file.reader.bytes_read)

    @contextmanager
    def shown(self, region: RegionFlags, device: str, memory: float) -> Iterator[Shown]:
        """Of a scene whose rows are too many only those are read that are looked at, along rays the nearest first;
        those that were looked at last stay."""
        from lg_field.cli.options import bounded, check_memory_flag
        from lg_field.files import FieldFile
        from lg_field.radiance.field import RadianceField
        from lg_field.stored.file_rows import row_bytes, stored_field
        from lg_field.table.editing import rows_to_keep

        check_memory_flag(memory)
        with FieldFile.open(self.name) as file:
            shape, cells = kept_of(file, region)
            limit, size = int(ROWS_SHARE * memory * GIGABYTE), 0
            if isinstance(file.skeleton, RadianceField):
                whole = shape is None and cells is None
                rows = file.cells if whole else rows_to_keep(file.skeleton, shape, cells, region.invert)[0]
                size = len(rows) * row_bytes(file)
            if size <= limit:
                field: Any = file.load(shape, cells, region.invert)
            else:
                field, memory = stored_field(file, limit, shape, cells, region.invert), (1.0 - ROWS_SHARE) * memory
                notice(
                    f"{len(rows):,} rows of {size / GIGABYTE:,.2f} GB are read as they are looked at, "
                    f"{field.source.most:,} at a time: a larger --memory keeps more"
                )
            field = as_kept(field, file, region)
            yield Shown(bounded(field.to(device), memory), file.precision, lambda: file.reader.bytes_read)

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


def kept_of(file: FieldFile, region: RegionFlags) -> tuple[Any, Any]:
    """The region and the cells that flags name, for `FieldFile.load`; (None, None): everything."""
    return region.resolve(file.skeleton, VoxelSource.of_file(file)) if region.given else (None, None)


def as_kept(field: Any, file: FieldFile, region: RegionFlags) -> Any:
    """What was read of a file, with the mask that the flags ask for."""
    from lg_field.radiance.components import settled, settles

    field.region = file.header.region if region.snap else field.region
    return settled(field) if settles(field, field.region) else field
