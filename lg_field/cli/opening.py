"""What commands open: a field file, or a composition of scene files. Its name says which; each does what it can."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from lg_field.cli.options import RegionFlags
    from lg_field.cli.sights import SightFlags


class Part(NamedTuple):
    """What was read of a file."""

    field: Any
    precision: str
    """Of the weights in the file, a torch dtype's name."""
    bytes_read: int


class Shown(NamedTuple):
    """What is to be looked at, while its file is open."""

    field: Any
    precision: str
    """Of the weights in the file, a torch dtype's name."""
    bytes_read: Callable[[], int]
    """Of the file so far."""


class CropFlags(NamedTuple):
    """What is asked of `lg-field crop`."""

    output: Path | None
    region: RegionFlags
    dtype: str
    """Of the weights written, or as-is."""
    dry_run: bool
    report: Path | None
    overwrite: bool
    sights: SightFlags | None = None
    """What the training images say; None = nothing is asked of them."""


class Source(ABC):
    """A file by its path or address; nothing is read before a method is called."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def part(self, region: RegionFlags) -> Part:
        """What is in the file, or only the part that the region names; no more than that is read."""

    @contextmanager
    def shown(self, region: RegionFlags, device: str, memory: float) -> Iterator[Shown]:
        """`part` on a device, to be looked at.

        Args:
            region: what to show.
            device: a torch device.
            memory: GB for what is computed at a time, and for rows where not all have to be there.
        """
        from lg_field.cli.options import bounded

        part = self.part(region)
        yield Shown(bounded(part.field.to(device), memory), part.precision, lambda: part.bytes_read)

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


SOURCES: dict[bool, str] = {False: "lg_field.cli.sources:FieldSource", True: "lg_field.cli.compose:CompositionSource"}
"""module:class of what is open, by whether its name is that of a composition."""


OF_RUNS = (".yml", ".yaml", ".ckpt", ".shards")
"""What names of a run's parts end with."""


def source_of(name: str) -> Source:
    """What a path or an address names.

    Raises:
        ValueError: it is that of a run.
    """
    from lg_field.cli.lazy import function_at
    from lg_field.radiance.arrangement import is_composition

    if name.rstrip("/").lower().endswith(OF_RUNS):
        raise ValueError(
            f"{name} is of a training run, a field file is needed: `lg-field pack --load-config config.yml -o "
            "scene.safetensors` makes one, a few rows at a time"
        )
    found: Source = function_at(SOURCES[is_composition(name)])(name)  # type: ignore[assignment]
    return found
