"""A composition opened: its JSON, then each of its files once, and of those only the rows that are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import NamedTuple, cast

import torch
from jaxtyping import Int64
from torch import Tensor

from lg_field.files.container import FileError
from lg_field.files.field_file import FieldFile
from lg_field.radiance.arrangement import Arrangement, PartEntry, located, read_arrangement
from lg_field.radiance.components import settled, settles, shown_voxels
from lg_field.radiance.composition import Composition, Part, common_scene
from lg_field.radiance.field import RadianceField
from lg_field.radiance.scene import Scene
from lg_field.space.regions import Region, both
from lg_field.table.cell_table import NOTHING_KEPT


class Cut(NamedTuple):
    """What is needed of a file of a composition."""

    address: str
    region: Region | None
    """What its copies show of it wherever they stand; None = everything."""
    asked: Region | None
    """What any of them shows in what is shown of the composition, in the file's scene space; None = everything."""


Read = Callable[[Cut], RadianceField]
"""Makes the field of a cut, of which `FieldFile.load` of what is asked is one."""


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
        return both(self.arrangement.region, region)

    def kept(self, region: Region | None) -> Arrangement:
        """The arrangement with less shown.

        Args:
            region: units of the composition; within what is shown of it. None = no less.
        """
        return replace(self.arrangement, region=self.shown(region))

    def parts_in(self, kept: Arrangement) -> tuple[PartEntry, ...]:
        """The parts of which a cell is kept."""
        return tuple(part for part in kept.parts if part.shown and len(self.rows_of(part, kept.region)))

    def rows_of(self, part: PartEntry, region: Region | None) -> Int64[Tensor, " rows"]:
        """Sorted (n,) rows of a part's file that hold what is shown of it.

        Args:
            part: as it is shown.
            region: of which no more is shown, units of the composition; None = everything.
        """
        skeleton, asked = self.file_of(part).skeleton, as_seen_by(part, region)
        return torch.arange(skeleton.num_rows) if asked is None else skeleton.rows_touching(asked)

    def load(
        self, region: Region | None = None, kept: Arrangement | None = None, read: Read | None = None
    ) -> Composition:
        """The composition, or a part of it: then only the rows that this needs are fetched, each file's once, or once
        for each way in which its copies are cut.

        Args:
            region: units of the composition; within the composition's own. None = all that it shows.
            kept: what to show instead: the composition's arrangement, with less in it.
            read: makes the fields; None = all their rows are fetched.

        Raises:
            FileError: NaN or infinite weights.
            ValueError: nothing would be kept.
        """
        kept = self.kept(region) if kept is None else kept
        read = read or (lambda cut: cast(RadianceField, self.files[cut.address].load(cut.asked)))
        fields = {(cut.address, cut.region): self._settled(read(cut), cut) for cut in self.cuts(kept)}
        parts = []
        for part in self.parts_in(kept):
            field = fields[self.addresses[part.name], part.region]
            parts += [] if field is None else [Part(part.name, field, part.place)]
        if not parts:
            raise ValueError(NOTHING_KEPT)
        return Composition(parts, kept.region, self.scene())

    def cuts(self, kept: Arrangement) -> tuple[Cut, ...]:
        """What is needed of each file: once, or once for each way in which its copies are cut.

        Args:
            kept: the composition's arrangement, with less in it.
        """
        copies: dict[tuple[str, Region | None], list[Region | None]] = {}
        for part in self.parts_in(kept):
            asked = as_seen_by(part, kept.region)
            copies.setdefault((self.addresses[part.name], part.region), []).append(asked)
        return tuple(Cut(address, region, _any_of(asked)) for (address, region), asked in copies.items())

    def scene(self) -> Scene:
        """What the composition says of itself, whatever part of it is loaded."""
        pairs = [(cast(Scene, self.file_of(part).description), part.place) for part in self.arrangement.parts]
        return common_scene(pairs, self.arrangement.background)

    def _settled(self, field: RadianceField, cut: Cut) -> RadianceField | None:
        """What was read of a file, which shows what its copies do; None if that holds nothing."""
        if cut.asked is None:
            return field
        own = both(self.files[cut.address].header.region, cut.region)
        field.region = own
        if not settles(field, own):
            return field
        return settled(field) if bool(shown_voxels(field.occupancy, own).any()) else None


def _any_of(asked: Sequence[Region | None]) -> Region | None:
    """What any of several regions holds; None = everything."""
    if any(some is None for some in asked):
        return None
    return reduce(lambda a, b: a | b, cast("list[Region]", asked))


def as_seen_by(part: PartEntry, region: Region | None) -> Region | None:
    """What is shown of a part in a region of the composition, in the part's scene space; None = everything."""
    return both(part.region, None if region is None else region.moved(part.place.similarity().inverse()))
