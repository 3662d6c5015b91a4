"""Where things are in a signal: its axes, and the units in which users name places of it. Without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from lg_field.space.regions import Box, Complement, Intersection, OrientedBox, Region, Scaled, Sphere, Union

if TYPE_CHECKING:
    from lg_field.signals.signal import Signal


class Places:
    """What of a `Kind` of signal says where things are, and what its descriptions may say.

    *Sample units* count samples on the axes of the field's domain, in their order: 0 is the edge of the first sample, 1
    its other edge. Users give and see places in the kind's own units and order (`units`); `to_samples`, `from_samples`
    and `region_to_samples` lead from one to the other.
    """

    name: ClassVar[str]
    """What files and messages call it."""
    axes: ClassVar[tuple[str, ...]]
    """Names of the domain's axes."""
    order: ClassVar[tuple[int, ...] | None] = None
    """Which of a user's numbers belongs to each axis; None = one after the other."""
    units: ClassVar[str]
    """In which units, and order, users give places."""
    round: ClassVar[bool] = True
    """Whether the axes have one unit, so that spheres and turned boxes make sense."""
    sample: ClassVar[str] = "sample"
    """What one sample is called."""
    flat: ClassVar[bool] = False
    """Whether it is shown in a plane: the last two axes as a picture (frames of it, with a third), one as a wave."""

    def check_extra(self, extra: Mapping[str, Any]) -> None:
        """Raise ValueError if this is not what a signal of this kind may say besides (`Signal.extra`): nothing."""
        if extra:
            raise ValueError(f"a {self.name} says nothing besides, got {dict(extra)}")

    def to_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        """A place in the user's units and order, in sample units.

        Raises:
            ValueError: another number of axes.
        """
        self.check_axes(point)
        return tuple(point[i] for i in self._order())

    def from_samples(self, signal: Signal, point: Sequence[float]) -> tuple[float, ...]:
        """Inverse of `to_samples`."""
        self.check_axes(point)
        return tuple(point[self._order().index(i)] for i in range(len(self.axes)))

    def region_to_samples(self, signal: Signal, region: Region) -> Region:
        """A region in the user's units and order, in sample units.

        Raises:
            ValueError: a region of another number of axes, or one that mixes units.
        """
        if isinstance(region, Box):
            return Region.box(self.to_samples(signal, region.lower), self.to_samples(signal, region.upper))
        if isinstance(region, Complement):
            return Complement(self.region_to_samples(signal, region.part))
        if isinstance(region, (Union, Intersection)):
            return type(region)(tuple(self.region_to_samples(signal, part) for part in region.parts))
        if not self.round:
            raise ValueError(f"a sphere or turned box of {self.name} mixes units ({self.units}): use a box")
        return self._placed(signal, self._permuted(region))

    def _placed(self, signal: Signal, region: Region) -> Region:
        """A region with its axes in the domain's order, but in the user's units, in sample units."""
        return region

    def _permuted(self, region: Region) -> Region:
        """A region with its axes in the domain's order."""
        order = self._order()

        def turn(numbers: Sequence[Any]) -> tuple[Any, ...]:
            self.check_axes(numbers)
            return tuple(numbers[i] for i in order)

        if isinstance(region, Sphere):
            return Sphere(turn(region.center), region.radius)
        if isinstance(region, OrientedBox):
            center, rotation = turn(region.center), turn(region.rotation)
            return OrientedBox(center, rotation, region.size)  # type: ignore[arg-type]
        if isinstance(region, Scaled):
            return Scaled(self._permuted(region.part), turn(region.scale), turn(region.offset))
        if isinstance(region, Box):
            return Box(turn(region.lower), turn(region.upper))
        if isinstance(region, Complement):
            return Complement(self._permuted(region.part))
        if isinstance(region, (Union, Intersection)):
            return type(region)(tuple(map(self._permuted, region.parts)))
        raise ValueError(f"a region of type {type(region).__name__} cannot be placed in a {self.name}")

    def check_axes(self, numbers: Sequence[Any]) -> None:
        """Raise ValueError unless there is one of these for each axis."""
        if len(numbers) != len(self.axes):
            raise ValueError(
                f"a place in a {self.name} has {len(self.axes)} numbers ({self.units}), got {len(numbers)}"
            )

    def _order(self) -> tuple[int, ...]:
        return self.order or tuple(range(len(self.axes)))
