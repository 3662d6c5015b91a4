"""`lg-field compose`: several scene files in one scene; and what the other commands do with such a composition."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lg_field.cli.composed_regions import kept_of
from lg_field.cli.console import say
from lg_field.cli.opening import CropFlags, Part, Shown, Source
from lg_field.cli.options import Output, check_outputs
from lg_field.cli.sights import NO_SIGHTS
from lg_field.errors import doing, notice

if TYPE_CHECKING:
    from lg_field.cli.options import RegionFlags
    from lg_field.radiance.arrangement import Arrangement, PartEntry, Place
    from lg_field.radiance.opening import CompositionFile

NUMBERS = {"move": 3, "turn": 3, "scale": 1}
"""Words of a place, and how many numbers follow each."""
Inputs = tyro.conf.Positional[tuple[str, ...]]


def compose(
    inputs: Annotated[Inputs, tyro.conf.arg(metavar="FILE [FILE ...]")],
    output: Output,
    place: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = (),
    move: tuple[float, float, float] = (0.0, 0.0, 0.0),
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0),
    scale: float = 1.0,
    background: tuple[float, float, float] | None = None,
    overwrite: bool = False,
) -> None:
    """Put scene files together: a small JSON that says where each one stands, which commands take like a scene file.

    render, mesh, view, crop and info take it. A file given twice is a copy that costs nothing more. The first part says
    world units, background and where a viewer starts. Nothing is copied: keep the files where the JSON finds them.

    Args:
        inputs: scene files, addresses fsspec reads, or compositions, whose parts are taken over. Parts are called as
            their files; copies get a number: chair, chair-2.
        output: the composition to write (.json).
        place: the part that --move, --turn and --scale are of. For several parts the words after each name:
            chair move 1 0 0.2 turn 0 0 90 scale 0.8 lamp move 0 1 0.
        move: shift X Y Z, in units of the composition.
        turn: degrees about the x, then the y, then the z axis of the part.
        scale: how many times as large; first the part is scaled, then turned, then moved.
        background: R G B behind everything, 0 to 1; the default is the first part's.
        overwrite: replace an existing output.
    """
    from lg_field.radiance.arrangement import SUFFIX, Arrangement, is_composition, write_arrangement
    from lg_field.radiance.opening import CompositionFile

    if not is_composition(str(output)):
        raise ValueError(f"{output}: a composition is called NAME{SUFFIX}")
    check_outputs(overwrite, [output], [i for i in inputs if not is_composition(i) or not overwrite])
    with doing(f"composing {output}"):
        made = Arrangement(entries_of(inputs, output), background=background)
        for name, where in places_of(place, {"move": move, "turn": turn, "scale": scale}).items():
            made = made.placed(name, where)
        check_parts(made, output)
        size = write_arrangement(made, output, overwrite)
        with CompositionFile.open(str(output)) as file:
            print_parts(Console(), file)
    say(Console(), f"{output}: {len(made.parts)} parts of {len(file.files)} files, {size:,} bytes")


def entries_of(inputs: Sequence[str], output: Path) -> tuple[PartEntry, ...]:
    """The parts that files and compositions make, named, with paths as the output says them.

    Raises:
        ValueError: no input, or a composition that shows only a region, which would be lost.
    """
    from lg_field.radiance.arrangement import PartEntry, is_composition, located, read_arrangement, relative_to

    found: list[PartEntry] = []
    for name in inputs:
        if not is_composition(name):
            stem = name.split("?")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".safetensors")
            found.append(PartEntry(stem, relative_to(name, output)))
            continue
        inner = read_arrangement(name)
        if inner.region is not None:
            raise ValueError(f"{name} is cropped: compose its parts first, then crop what comes of it")
        taken_over = [part for part in inner.parts if part.shown or not found]
        found += [replace(part, file=relative_to(located(part.file, name), output)) for part in taken_over]
    taken: set[str] = set()
    for number, part in enumerate(found):
        name, copy = part.name, 1
        while name in taken:
            copy += 1
            name = f"{part.name}-{copy}"
        taken.add(name)
        found[number] = replace(part, name=name)
    return tuple(found)


def places_of(words: Sequence[str], flags: dict[str, Any]) -> dict[str, Place]:
    """Where the parts named on a command line go.

    Args:
        words: of --place: a name, or names with words of their own.
        flags: --move, --turn and --scale.

    Raises:
        ValueError: words that make no sense, or flags that no part is named for.
    """
    from lg_field.radiance.arrangement import Place

    still = Place()
    wanted = Place(**flags)
    found: dict[str, dict[str, Any]] = {}
    rest = list(words)
    name = ""
    while rest:
        word = rest.pop(0)
        if word in NUMBERS and name:
            found[name][word] = _numbers(word, [rest.pop(0) for _ in range(min(NUMBERS[word], len(rest)))])
            continue
        if word in found:
            raise ValueError(f"--place names {word} twice")
        name, found[word] = word, {}
    if wanted != still:
        if len(found) != 1 or found[name]:
            raise ValueError(
                "--move, --turn and --scale are of one part, named by --place NAME; for several parts: "
                "--place chair move 1 0 0 turn 0 0 90 lamp scale 0.5"
            )
        return {name: wanted}
    return {name: Place(**numbers) for name, numbers in found.items()}


def _numbers(word: str, given: list[str]) -> Any:
    try:
        numbers = tuple(float(v) for v in given)
    except ValueError:
        numbers = ()
    if len(numbers) != NUMBERS[word] or not all(map(math.isfinite, numbers)):
        raise ValueError(f"--place: {word} takes {NUMBERS[word]} numbers, got {' '.join(given) or 'none'}")
    return numbers if NUMBERS[word] > 1 else numbers[0]


def check_parts(made: Arrangement, output: Path) -> None:
    """Raise before anything is written if a part is missing, damaged or no scene file."""
    from lg_field.files import FieldFile
    from lg_field.radiance.arrangement import located
    from lg_field.radiance.scene import Scene

    for address in dict.fromkeys(located(part.file, str(output)) for part in made.parts):
        with FieldFile.open(address) as file:
            if not isinstance(file.description, Scene):
                raise ValueError(f"{address} is no scene file, and only scenes can be put together")


def print_parts(console: Console, file: CompositionFile) -> None:
    """A line for each part: file, cells, bytes and place."""
    table = Table(title=Text(file.name))
    for head in ("part", "file", "cells", "bytes", "move", "turn", "scale"):
        table.add_column(head)
    for part in file.arrangement.parts:
        of, place = file.file_of(part), part.place
        shift, angles = (" ".join(f"{v:g}" for v in values) for values in (place.move, place.turn))
        numbers = (f"{of.skeleton.num_rows:,}", f"{of.reader.size:,}", shift, angles, f"{place.scale:g}")
        table.add_row(Text(part.name), Text(part.file), *numbers)
    console.print(table, highlight=False)


class CompositionSource(Source):
    """A composition."""

    arrangement: Arrangement | None = None
    """Of the part of it that was read, if that was not all."""

    def part(self, region: RegionFlags) -> Part:
        """Of each file the rows that are shown are read once, whatever the number of its copies that are cut alike."""
        from lg_field.radiance.opening import CompositionFile

        with CompositionFile.open(self.name) as file:
            return Part(file.load(kept=self._kept(file, region)), "float32", file.bytes_read)

    @contextmanager
    def shown(self, region: RegionFlags, device: str, memory: float) -> Iterator[Shown]:
        """Of files whose rows are too many only those are read that are looked at (see `FieldSource.shown`)."""
        from lg_field.cli.options import bounded, check_memory_flag
        from lg_field.cli.sources import GIGABYTE, ROWS_SHARE
        from lg_field.radiance.opening import CompositionFile
        from lg_field.stored.composed import composition_sizes, stored_composition

        check_memory_flag(memory)
        with CompositionFile.open(self.name) as file:
            kept, limit = self._kept(file, region), int(ROWS_SHARE * memory * GIGABYTE)
            size = sum(composition_sizes(file, kept).values())
            field = stored_composition(file, limit, kept)
            if size > limit:
                memory *= 1.0 - ROWS_SHARE
                notice(
                    f"{size / GIGABYTE:,.2f} GB of rows of {len(field.parts)} parts are read as they are looked at: a "
                    "larger --memory keeps more"
                )
            yield Shown(bounded(field.to(device), memory), "float32", lambda: file.bytes_read)

    def _kept(self, file: CompositionFile, region: RegionFlags) -> Arrangement:
        """What flags show of a composition; says how much of each part that is."""
        if not region.given:
            return file.arrangement
        kept = kept_of(region, file)
        self.arrangement = left_of(file, kept, Path(self.name))
        say_kept(file, kept)
        return kept

    def crop(self, flags: CropFlags) -> None:
        """Writes another composition, of the parts that are left; their files stay as they are."""
        from lg_field.cli.edit import check_crop
        from lg_field.radiance.arrangement import SUFFIX, is_composition, write_arrangement
        from lg_field.radiance.opening import CompositionFile

        if flags.dtype != "as-is" or flags.report is not None or (flags.sights or NO_SIGHTS) != NO_SIGHTS:
            raise ValueError(
                "--dtype, --report, --data and --masks are for field files: crop the files of a composition for that"
            )
        check_crop(self.name, flags)
        if flags.output is not None and not is_composition(str(flags.output)):
            raise ValueError(f"{flags.output}: what is left of a composition is a composition, called NAME{SUFFIX}")
        with doing(f"reading {self.name}"), CompositionFile.open(self.name) as file:
            kept = kept_of(flags.region, file)
            left = left_of(file, kept, flags.output or Path(self.name))
            say_kept(file, kept)
        if not left.parts[0].shown:
            first = left.parts[0].name
            notice(f"the first part, {first}, has nothing there; it stays listed, since it says world units")
        if flags.output is None or flags.dry_run:
            return
        size = write_arrangement(left, flags.output, flags.overwrite)
        say(Console(), f"{flags.output}: {len(left.parts)} parts, {size:,} bytes; the parts' files stay as they are")

    def info(self, as_json: bool) -> None:
        """Parts, and what is shown."""
        from lg_field.cli.region_files import short_json
        from lg_field.radiance.opening import CompositionFile

        with doing(f"reading {self.name}"), CompositionFile.open(self.name) as file:
            made = file.arrangement
            if as_json:
                print(json.dumps({"file": self.name, **made.to_dict(), "parts": facts_of_parts(file)}, indent=1))
                return
            console = Console()
            print_parts(console, file)
            total = sum(of.reader.size for of in file.files.values())
            say(console, f"{len(made.parts)} parts of {len(file.files)} files, {total:,} bytes")
            less = [part for part in made.parts if part.region is not None or not part.shown]
            shown = "everything" if made.region is None else f"exactly {short_json(made.region.to_dict())}"
            say(console, f"shown: {shown}{', of these parts less:' if less else ''}")
            for part in less:
                what = "nothing" if part.region is None else f"exactly {short_json(part.region.to_dict())}"
                say(console, f"  {part.name}: {what if part.shown else 'nothing'}")

    def validate(self) -> None:
        """Checks the JSON, and every file it names, weights included."""
        from lg_field.cli.info import validate_field
        from lg_field.radiance.opening import CompositionFile

        with doing(f"checking {self.name}"), CompositionFile.open(self.name) as file:
            addresses, count = list(file.files), len(file.arrangement.parts)
        for address in addresses:
            validate_field(address)
        print(f"{self.name}: sound, {count} parts")

    def view(self, part: Part, port: int) -> Any:
        """Parts can be moved, and the arrangement saved."""
        from lg_field.cli.view import local_name
        from lg_field.radiance.arrangement import read_arrangement
        from lg_field.viewer.arranging import open_composition

        made = self.arrangement or read_arrangement(self.name)
        return open_composition(part.field, made, self.name, local_name(self.name), port)


def left_of(file: CompositionFile, kept: Arrangement, output: Path) -> Arrangement:
    """What is kept of a composition as another one. The first part stays, since it says world units.

    Raises:
        ValueError: nothing would be kept.
    """
    from lg_field.radiance.arrangement import located, relative_to
    from lg_field.table.cell_table import NOTHING_KEPT

    names = {part.name for part in file.parts_in(kept)}
    if not names:
        raise ValueError(NOTHING_KEPT)
    first, *others = kept.parts
    if first.name not in names:
        first = replace(first, region=None, shown=False)
    parts = [first, *(part for part in others if part.name in names)]
    moved = tuple(replace(part, file=relative_to(located(part.file, file.name), output)) for part in parts)
    return replace(kept, parts=moved)


def say_kept(file: CompositionFile, kept: Arrangement) -> None:
    """How many cells of each part are kept, in a line."""
    counts = []
    for part in kept.parts:
        rows = file.rows_of(part, kept.region) if part.shown else ()
        counts.append(f"{part.name}: {len(rows):,} of {file.file_of(part).skeleton.num_rows:,} cells")
    say(Console(), "; ".join(counts))


def facts_of_parts(file: CompositionFile) -> list[dict[str, Any]]:
    """What `info --json` says of each part."""
    return [
        {
            **part.to_dict(),
            "cells": file.file_of(part).skeleton.num_rows,
            "bytes": file.file_of(part).reader.size,
        }
        for part in file.arrangement.parts
    ]
