"""What of a composition a command line names: shapes, cells of its parts, objects that parts make up together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache, reduce
from typing import TYPE_CHECKING, Any, cast

from lg_field.cli.objects import VoxelSource, in_words, say_nearest, voxels_of_file
from lg_field.errors import tell

if TYPE_CHECKING:
    from lg_field.cli.objects import ObjectFlags
    from lg_field.cli.options import RegionFlags
    from lg_field.radiance.arrangement import Arrangement, PartEntry
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.merged_pieces import PartVoxels
    from lg_field.radiance.opening import CompositionFile
    from lg_field.space.regions import Region, VoxelSet

Each = Mapping[str, "Region"]
"""What is kept of each part by name, in its scene units; of parts that are not in it nothing is."""


def kept_of(flags: RegionFlags, file: CompositionFile) -> Arrangement:
    """What a command line keeps of a composition: its arrangement, with all parts in it, of which less is shown.

    Raises:
        ValueError: nothing given, or what makes no sense.
    """
    from lg_field.space.regions import both

    made, objects = file.arrangement, flags.objects
    if flags.cells:
        if flags.placed or flags.objects.given or flags.region:
            raise ValueError("give cells or a region, not both")
        return narrowed(file, None, cells_of_parts(flags.cells, file), flags.invert, False)
    shape = flags.shape(file.file_of(made.parts[0]).skeleton)
    if shape is None and not objects.given:
        raise ValueError(
            "say what to keep: --box, --sphere, --obb, --cells, --region, --without, --focus, --component or "
            "--above-plane"
        )
    objects.check()
    if objects.above_plane is not None:
        shape = both(shape, above(objects, file, shape))
    each: Each | None = None
    if objects.component:
        each = component(objects, file, shape)
    if objects.focus is not None:
        each = focused(objects, file, shape)
    return narrowed(file, shape, each, flags.invert, flags.snap)


def narrowed(file: CompositionFile, shape: Region | None, each: Each | None, invert: bool, snap: bool) -> Arrangement:
    """An arrangement of which less is shown.

    Args:
        file: says it.
        shape: what is kept, units of the composition; None = everything.
        each: and what of that is kept of each part; None = everything.
        invert: keep everything else.
        snap: keep whole cells of the parts instead.
    """
    made = file.arrangement
    if not snap and not (invert and each is not None):
        shape = ~shape if invert and shape is not None else shape
        parts = made.parts if each is None else tuple(_with(part, each.get(part.name)) for part in made.parts)
        return replace(made, parts=parts, region=file.shown(shape))
    return replace(made, parts=tuple(_cut(file, part, shape, each, invert, snap) for part in made.parts))


def _with(part: PartEntry, region: Region | None) -> PartEntry:
    """A part of which only a region is shown; None: nothing."""
    from lg_field.space.regions import both

    return replace(part, shown=False) if region is None else replace(part, region=both(part.region, region))


def _cut(
    file: CompositionFile, part: PartEntry, shape: Region | None, each: Each | None, invert: bool, snap: bool
) -> PartEntry:
    """`narrowed` of one part, by a region of its own."""
    from lg_field.radiance.opening import as_seen_by
    from lg_field.space.regions import both

    if each is not None and part.name not in each:
        return part if invert else replace(part, shown=False)
    own = as_seen_by(replace(part, region=None), shape)
    own = own if each is None else both(each[part.name], own)
    assert own is not None
    cut = _with(part, ~own if invert else own)
    if not snap or not cut.shown:
        return cut
    field = cast("RadianceField", file.file_of(part).skeleton)
    rows = file.rows_of(cut, file.arrangement.region)
    return _with(part, cell_set(field, field.cells[rows].tolist()) if len(rows) else None)


def cell_set(field: RadianceField, cells: Sequence[int]) -> VoxelSet:
    """Some cells of a field, at least one, as a set of its voxels."""
    import torch

    from lg_field.space.regions import VoxelSet

    dense, r = torch.zeros(field.grid.num_cells, dtype=torch.bool), field.sizes.occupancy_voxels
    dense[torch.tensor(cells)] = True
    dense = dense.view(field.grid.counts)
    for axis in range(3):
        dense = dense.repeat_interleave(r, axis)
    return VoxelSet.of(dense, field.grid.refined(r), field.sizes.contraction)


def cells_of_parts(words: Sequence[str], file: CompositionFile) -> dict[str, Region]:
    """The cells that words name, as `chair:0-7,12 40 room:3`: a name counts until the next one, and may be left out
    where there is one part.

    Raises:
        ValueError: no such part, or cells that `cells.parse_cells` refuses.
    """
    from lg_field.cli.cells import parse_cells

    parts = {part.name: part for part in file.arrangement.parts}
    among = f"the parts are {', '.join(parts)}"[:300]
    found: dict[str, list[str]] = {}
    name = next(iter(parts)) if len(parts) == 1 else ""
    for word in words:
        head, colon, rest = word.rpartition(":")
        name = head if colon else name
        if not name:
            raise ValueError(f"--cells of a composition says of which part they are, as chair:0-7,12: {among}")
        if name not in parts:
            raise ValueError(f"--cells: there is no part {name[:100]!r}: {among}")
        found.setdefault(name, []).append(rest)
    kept: dict[str, Region] = {}
    for name, numbers in found.items():
        field = cast("RadianceField", file.file_of(parts[name]).skeleton)
        try:
            kept[name] = cell_set(field, parse_cells(numbers, field.grid))
        except ValueError as error:
            raise ValueError(f"part {name}: {error}") from error
    return kept


def voxels_of_parts(file: CompositionFile, shape: Region | None) -> list[PartVoxels]:
    """The voxels of what is shown of each part; of each file they are read once, and its weights only where asked.

    Args:
        file: the composition.
        shape: of which no more is shown, units of the composition; None = everything.
    """
    from lg_field.radiance.merged_pieces import PartVoxels
    from lg_field.radiance.opening import as_seen_by
    from lg_field.space.regions import both

    grids = {address: voxels_of_file(of) for address, of in file.files.items()}
    fields: dict[str, Any] = {address: lru_cache(1)(of.load) for address, of in file.files.items()}
    found = []
    for part in file.arrangement.parts:
        address, of = file.addresses[part.name], file.file_of(part)
        if part.shown:
            region = both(of.header.region, as_seen_by(part, file.shown(shape)))
            found.append(PartVoxels(part.name, grids[address], part.place, region, fields[address]))
    return found


def above(objects: ObjectFlags, file: CompositionFile, shape: Region | None) -> Region:
    """The half space above the plane, units of the composition; says where a found plane is."""
    from lg_field.radiance.ground import SOLID
    from lg_field.radiance.merged_pieces import merged_ground, stacks_of

    if objects.above_plane:
        return objects.above_given()
    stacks = stacks_of(voxels_of_parts(file, shape))
    found = merged_ground(stacks, file.scene().up, max(objects.solid or 0.0, SOLID))
    plane = " ".join(f"{v:.4g}" for v in (*found.normal, found.offset))
    tell(f"the ground that was found in all parts together: --above-plane {plane} (units of the composition)")
    return found


def component(objects: ObjectFlags, file: CompositionFile, shape: Region | None) -> Each:
    """The component of all parts together, in the voxels of each part; says which one it is and which parts it is of.

    Raises:
        ValueError: no such component.
    """
    import torch

    from lg_field.radiance.merged_pieces import MergedPieces, stacks_of

    merged = MergedPieces.of(stacks_of(voxels_of_parts(file, shape)), objects.solid or 0.0)
    asked = objects.asked()
    number = asked
    if not isinstance(asked, int):
        number = say_nearest(*merged.nearest(torch.tensor(asked, dtype=torch.float64)))
    kept = merged.kept([cast(int, number)])
    told = in_words(merged.sizes, merged.volumes, merged.inner_point)
    advice = objects.advice(merged.volumes)
    tell(f"component {number} of {len(merged)} of all parts together, of {', '.join(kept)}: {told}{advice}"[:1000])
    return kept


def focused(objects: ObjectFlags, file: CompositionFile, shape: Region | None) -> Each:
    """What the cameras look at, in the voxels of each part; of parts of one scene that stand in one place.

    Raises:
        ValueError: parts that cameras of their own look at.
    """
    from lg_field.radiance.merged_pieces import stacks_of
    from lg_field.radiance.opening import as_seen_by
    from lg_field.table.editing import merge

    stacks = stacks_of(voxels_of_parts(file, None))
    if len(stacks) != 1:
        raise ValueError(
            f"--focus: {len(stacks)} parts of {file.name} were each looked at by cameras of their own: name the object "
            "by --component, or crop the part's file by --focus and compose what is left"
        )
    whole = reduce(merge, [part.field for part in file.load().parts])
    first = replace(file.arrangement.parts[0], region=None)
    found = objects.focused(whole, VoxelSource.of_field(whole), as_seen_by(first, file.shown(shape)))
    return {part.name: found for part in file.arrangement.parts if part.shown}
