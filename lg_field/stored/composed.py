"""Compositions whose rows are in their parts' files, within one budget for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from lg_field.radiance.arrangement import Arrangement
from lg_field.radiance.composition import Composition
from lg_field.radiance.field import RadianceField
from lg_field.radiance.opening import CompositionFile, Cut
from lg_field.stored.file_rows import row_bytes, stored_field


def shares(sizes: Sequence[int], budget: int) -> list[int]:
    """How a budget is divided: what needs less than an equal part of it gets what it needs, the others what is left, in
    equal parts.

    Args:
        sizes: what each would need.
        budget: for all of them, in the same unit.
    """
    found, left = [0] * len(sizes), budget
    order = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, number in enumerate(order):
        found[number] = min(sizes[number], left // (len(order) - done))
        left -= found[number]
    return found


def composition_sizes(file: CompositionFile, kept: Arrangement) -> dict[Cut, int]:
    """Bytes that the rows of each cut of a composition's files take in memory."""
    sizes = {}
    for cut in file.cuts(kept):
        of = file.files[cut.address]
        rows = of.skeleton.num_rows if cut.asked is None else len(of.skeleton.rows_touching(cut.asked))
        sizes[cut] = rows * row_bytes(of)
    return sizes


def stored_composition(file: CompositionFile, budget: int, kept: Arrangement) -> Composition:
    """A composition whose rows are read as they are asked, but those of small files, which are loaded.

    Args:
        file: open as long as the composition is asked.
        budget: bytes for the rows of all parts; copies share theirs.
        kept: what is shown: the file's arrangement, with less in it.

    Raises:
        FileError: NaN or infinite weights.
        ValueError: nothing would be kept.
    """
    sizes = composition_sizes(file, kept)
    share = dict(zip(sizes, shares(list(sizes.values()), budget)))

    def read(cut: Cut) -> RadianceField:
        of = file.files[cut.address]
        if sizes[cut] <= share[cut]:
            return cast(RadianceField, of.load(cut.asked))
        return stored_field(of, share[cut], cut.asked)

    return file.load(kept=kept, read=read)
