"""A composition opened: its JSON, then each of its files once, and of those only the rows that are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import reduce
from typing import cast

from lg_field.files.container import FileError
from lg_field.files.field_file import FieldFile
from lg_field.radiance.arrangement import Arrangement, PartEntry, located, read_arrangement
from lg_field.radiance.composition import Composition, Part, common_scene
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.space.regions import Region
from lg_field.table.cell_table import NOTHING_KEPT


@dataclass(frozen=True)
class CompositionFile:
    """A composition open for reading. Get one with `CompositionFile.open`."""

    name: str
    """Its path or address."""
    arrangement: Arrangement
    addresses: dict[str, str]
    """Name of each part -> where its file is."""
    files: dict[str, FieldFile]
    """Address -> its open file; copies share one."""

    @staticmethod
    @contextmanager
    def open(path: str) -> Iterator[CompositionFile]:
        """Open the JSON and the files it names; of those only their headers are read.

        Args:
            path: local file, or an address fsspec reads.

        Raises:
            FileNotFoundError: no such file, or a part's is missing.
            FileError: no composition, or a part that is no scene file, or a damaged one.
        """
        arrangement = read_arrangement(path)
        with ExitStack() as stack:
            addresses = {part.name: located(part.file, path) for part in arrangement.parts}
            files = {a: stack.enter_context(FieldFile.open(a)) for a in dict.fromkeys(addresses.values())}
            for address, file in files.items():
                if not isinstance(file.description, Scene):
                    raise FileError(f"{path}: its part {address} is no scene file, and only scenes can be put together")
            yield CompositionFile(path, arrangement, addresses, files)

    @property
    def bytes_read(self) -> int:
        """Fetched so far, of all files."""
        return sum(file.reader.bytes_read for file in self.files.values())

    def file_of(self, part: PartEntry) -> FieldFile:
        """The open file of a part."""
        return self.files[self.addresses[part.name]]

    def shown(self, region: Region | None) -> Region | None:
        """The composition's exact region within another one; None = everything."""
        own = self.arrangement.region
        return region if own is None else own if region is None else own & region

    def parts_in(self, region: Region | None) -> tuple[PartEntry, ...]:
        """The parts that have a kept cell in a region.

        Args:
            region: units of the composition; None = everything.
        """
        if region is None:
            return self.arrangement.parts
        return tuple(
            part
            for part in self.arrangement.parts
            if len(self.file_of(part).skeleton.rows_touching(as_seen_by(part, region)))
        )

    def load(self, region: Region | None = None) -> Composition:
        """The composition, or a part of it: then only the rows that this needs are fetched, each file's once.

        Args:
            region: units of the composition; within the composition's own. None = all that it shows.

        Raises:
            FileError: NaN or infinite weights.
            ValueError: nothing would be kept.
        """
        region = self.shown(region)
        entries = self.parts_in(region)
        if not entries:
            raise ValueError(NOTHING_KEPT)
        fields = {}
        for address in dict.fromkeys(self.addresses[part.name] for part in entries):
            copies = [part for part in entries if self.addresses[part.name] == address]
            fields[address] = self._load(address, copies, region)
        parts = [Part(part.name, fields[self.addresses[part.name]], part.place) for part in entries]
        return Composition(parts, region, self.scene())

    def scene(self) -> Scene:
        """What the composition says of itself, whatever part of it is loaded."""
        pairs = [(cast(Scene, self.file_of(part).description), part.place) for part in self.arrangement.parts]
        return common_scene(pairs, self.arrangement.background)

    def _load(self, address: str, copies: list[PartEntry], region: Region | None) -> RadianceField:
        """The rows of a file that any of its copies shows."""
        file = self.files[address]
        if region is None:
            return cast(RadianceField, file.load())
        field = file.load(reduce(lambda a, b: a | b, [as_seen_by(part, region) for part in copies]))
        field.region = file.header.region
        return cast(RadianceField, field)


def as_seen_by(part: PartEntry, region: Region) -> Region:
    """A region of the composition in a part's scene space."""
    return region.moved(part.place.similarity().inverse())
