"""Shapes on a command line by their names: `sphere 0 0 0 1 box 0 0 0 1 1 1 region part.json`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lg_field.cli.region_files import oriented_box

if TYPE_CHECKING:
    from lg_field.signals.signal import Signal
    from lg_field.space.regions import Region


class Shapes(NamedTuple):
    """What words on a command line name."""

    drawn: list[Region]
    """In the units in which places are given."""
    files: list[Path]
    """JSON files of regions."""


def box_of(numbers: Sequence[float], axes: int, signal: Signal | None) -> Region:
    """The box with a lower and an upper corner.

    Raises:
        ValueError: another number of numbers than the axes need, or infinite ones.
    """
    from lg_field.space.regions import Region

    return Region.box(*corners_of(tuple(numbers), axes, signal))


def sphere_of(numbers: Sequence[float], axes: int, signal: Signal | None) -> Region:
    """The ball with a center and a radius.

    Raises:
        ValueError: another number of numbers than the axes need.
    """
    from lg_field.space.regions import Region

    if len(numbers) != axes + 1:
        raise ValueError(f"--sphere needs {axes} numbers of the center and a radius, got {len(numbers)}")
    return Region.sphere(numbers[:-1], numbers[-1])


def obb_of(numbers: Sequence[float], axes: int, signal: Signal | None) -> Region:
    """The turned box of nine numbers.

    Raises:
        ValueError: another number of numbers, or not of 3D space.
    """
    if axes != 3 or len(numbers) != 9:
        raise ValueError("--obb is for scenes and shapes and needs nine numbers: center, roll pitch yaw, size")
    return oriented_box(numbers[:3], numbers[3:6], numbers[6:])


SHAPES: dict[str, Callable[[Sequence[float], int, "Signal | None"], Region]] = {
    "box": box_of,
    "sphere": sphere_of,
    "obb": obb_of,
}
"""Shapes by name: from the numbers after it, the number of axes, and the signal if it is of one."""
REGION = "region"
"""The name that a path follows."""


def shapes_of(words: Sequence[str], axes: int, signal: Signal | None, flag: str) -> Shapes:
    """The shapes that words name.

    Args:
        words: a name of `SHAPES` and its numbers, or "region" and a path, again and again.
        axes: of the space.
        signal: whose units and order of axes places are given in; None = a scene's.
        flag: named in messages.

    Raises:
        ValueError: no such shape, numbers that are none, or not as many as the shape needs.
    """
    groups: list[list[str]] = []
    for word in words:
        path_follows = bool(groups) and groups[-1] == [REGION]
        if not path_follows and (word in SHAPES or word == REGION):
            groups.append([word])
        elif groups:
            groups[-1].append(word)
        else:
            names = ", ".join((*SHAPES, REGION))
            raise ValueError(f"{flag} takes a shape and its numbers, such as sphere 0 0 0 1; {word!r} is not {names}")
    found = Shapes([], [])
    for name, *rest in groups:
        if name == REGION:
            if len(rest) != 1:
                raise ValueError(f"{flag} region needs one JSON file, got {' '.join(rest)!r}")
            found.files.append(Path(rest[0]).expanduser())
            continue
        try:
            numbers = [float(word) for word in rest]
        except ValueError as error:
            raise ValueError(f"{flag} {name} takes numbers, got {' '.join(rest)[:60]!r}") from error
        try:
            found.drawn.append(SHAPES[name](numbers, axes, signal))
        except ValueError as error:
            raise ValueError(f"{flag} {name}: {str(error).removeprefix(f'--{name} ')}") from error
    return found


def corners_of(box: tuple[float, ...], axes: int, signal: Signal | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lower and upper corner of a --box, in the units and order it is given in.

    Raises:
        ValueError: another number of numbers than the axes need, or ones that are no numbers; infinite ones of scenes.
    """
    if len(box) != 2 * axes:
        what = "scene" if signal is None else f"{signal.kind} ({signal.places.units})"
        raise ValueError(f"--box of a {what} needs {2 * axes} numbers, got {len(box)}")
    if signal is not None:
        box = half_open(box, signal)
    if not all(map(math.isfinite, box)):
        raise ValueError(f"--box needs finite numbers, got {box}")
    return box[:axes], box[axes:]


def half_open(box: tuple[float, ...], signal: Signal) -> tuple[float, ...]:
    """A box with the ends of the signal in the place of infinite numbers, in the user's units and order."""
    axes = len(signal.shape)
    ends = [signal.places.from_samples(signal, corner) for corner in ((0.0,) * axes, tuple(map(float, signal.shape)))]
    least, most = (tuple(pick(pair) for pair in zip(*ends)) for pick in (min, max))
    return tuple(
        {-math.inf: low, math.inf: high}.get(number, number) for number, low, high in zip(box, least * 2, most * 2)
    )
