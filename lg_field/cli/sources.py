"""What commands do with a field file (see `opening.Source`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lg_field.cli.objects import VoxelSource
from lg_field.cli.opening import CropFlags, Part, Source

if TYPE_CHECKING:
    from lg_field.cli.options import RegionFlags


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
