"""What the description in a field file may say: checked alike before a file is written and after it is read.

A file names its network by a key of `NETWORKS`, never by a class, and holds plain data only: nothing in it is code.
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lg_field.arrays import Array, Tensor, host, torch
from lg_field.files.bits import stored_form
from lg_field.files.small_numbers import Layout
from lg_field.space.partition import MAX_CELLS, PartitionGrid
from lg_field.space.regions import Region, region_from_dict
from lg_field.table.description import Description
from lg_field.table.outline import FLOAT, Form, Outline

if TYPE_CHECKING:
    from lg_field.table.cell_table import CellTable

FORMAT = "lg-field"
VERSION = 1
"""The version that is written."""
KEY = "lg_field"
"""Name of the metadata entry that holds the description."""
ENTRIES = {"format", "version", "network", "config", "grid", "region", "description", "history"}
MAX_AXES = 4
MAX_SIZE = 1 << 16
"""Bound on every whole number in a network's configuration."""
MAX_DEPTH = 32
"""Levels of lists and objects in a history."""
MISTAKES = (ValueError, TypeError, KeyError, OverflowError, AttributeError, RuntimeError, RecursionError)
"""What senseless data can make the code of networks and descriptions raise."""


@dataclass(frozen=True)
class NetworkKind:
    """A kind of field that a file may hold. Its classes are imported only when they are asked for."""

    network: str
    """module:class of the field."""
    description: str
    """module:class of what describes it."""
    outline: str
    """module:function of the field's outline, from grid, configuration and cells."""

    def network_class(self) -> type[CellTable]:
        """The field's class."""
        found: type[CellTable] = _named(self.network)
        return found

    def description_class(self) -> type[Description]:
        """The class of its descriptions."""
        found: type[Description] = _named(self.description)
        return found


NETWORKS = {
    "signal": NetworkKind(
        "lg_field.networks.local_global:LocalGlobalNetwork",
        "lg_field.signals.signal:Signal",
        "lg_field.networks.outline:outline",
    ),
    "radiance": NetworkKind(
        "lg_field.radiance.field:RadianceField",
        "lg_field.radiance.scene:Scene",
        "lg_field.radiance.outline:outline",
    ),
}
"""What a file may hold, by the name it gives it."""


@dataclass(frozen=True)
class Header:
    """A checked description."""

    network: str
    """Key of `NETWORKS`."""
    config: dict[str, Any]
    """Sizes and wiring, as `CellTable.from_config` takes them."""
    grid: PartitionGrid
    region: Region | None
    description: Description | None
    history: dict[str, Any]

    def field(self, cells: Tensor, device: str) -> CellTable:
        """A field of this description with fresh weights, in evaluation mode.

        Args:
            cells: (P,) sorted cells that have a row.
            device: "cpu", or "meta" for one that takes no memory. The global random state stays as it is.

        Raises:
            ValueError: a configuration or a description that makes no sense, or does not fit the grid.
        """
        with one_line(), torch.random.fork_rng(devices=[]), torch.device(device):
            made = NETWORKS[self.network].network_class().from_config(self.grid, self.config, cells)
            made.region, made.description, made.history = self.region, self.description, self.history
            if self.description is not None:
                self.description.check(made)
        return made.eval()

    def outline(self, cells: Array) -> Outline:
        """What such a field holds; no torch is imported.

        Args:
            cells: (P,) sorted cells that have a row.

        Raises:
            ValueError: as `field` does.
        """
        with one_line():
            made: Outline = _named(NETWORKS[self.network].outline)(self.grid, self.config, host(cells))
            made.region, made.description, made.history = self.region, self.description, self.history
            if self.description is not None:
                self.description.check(made)
        return made


def header_of(field: CellTable) -> tuple[Header, str]:
    """The description of a field: checked as if it had been read, and the JSON text that goes into its file.

    Raises:
        ValueError: a field that cannot be saved, or whose file could not be read.
    """
    path = f"{field.saved_as.__module__}:{field.saved_as.__name__}"
    names = [name for name, kind in NETWORKS.items() if kind.network == path]
    if not names:
        raise ValueError(f"{type(field).__name__} cannot be saved as a field file")
    text = description_text(names[0], field.config(), field.grid, field.region, field.description, field.history)
    return validate(json.loads(text)), text


def description_text(
    network: str,
    config: Any,
    grid: PartitionGrid,
    region: Region | None,
    about: Description | None,
    history: Any,
) -> str:
    """The JSON text of a description. `network` is a key of `NETWORKS`, `about` says what the field is of.

    Raises:
        ValueError: something that JSON would not give back as it is.
    """
    data = {
        "format": FORMAT,
        "version": VERSION,
        "network": network,
        "config": config,
        "grid": grid.to_dict(),
        "region": None if region is None else region.to_dict(),
        "description": None if about is None else about.to_dict(),
        "history": history,
    }
    for name, value in data.items():
        check_plain(value, name)
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def validate(data: Any) -> Header:
    """Check everything in a description that can be checked without the tensors.

    Args:
        data: of JSON, from anyone.

    Raises:
        ValueError: what is wrong, in one line.
    """
    version = data.get("version") if isinstance(data, dict) else None
    if version is None or data.get("format") != FORMAT or type(version) is not int or version not in READERS:
        got = f"{data.get('format')!r} version {version!r}" if isinstance(data, dict) else type(data).__name__
        known = " or ".join(map(str, READERS))
        raise ValueError(f"this lg-field reads format {FORMAT!r} version {known}, not {got[:80]}")
    with one_line():
        return READERS[version](data)


def _version_1(data: dict[str, Any]) -> Header:
    if data.keys() != ENTRIES:
        raise ValueError(f"the description needs {sorted(ENTRIES)}, got {sorted(data)}"[:400])
    for name, value in data.items():
        check_plain(value, name)
    network = data["network"]
    if not isinstance(network, str) or network not in NETWORKS:
        raise ValueError(f"unknown network {str(network)[:80]!r}")
    if not isinstance(data["history"], dict):
        raise ValueError("the history must be an object")
    kind, grid = NETWORKS[network], _grid(data["grid"])
    check_config(data["config"])
    region = None if data["region"] is None else region_from_dict(data["region"])
    if region is not None:
        region.check_dim(grid.dim, "the field has")
    about = None if data["description"] is None else kind.description_class().from_dict(data["description"])
    return Header(network, data["config"], grid, region, about, data["history"])


READERS: dict[int, Callable[[dict[str, Any]], Header]] = {1: _version_1}
"""Versions that are read: from a description's data to the header it stands for."""


def _grid(data: Any) -> PartitionGrid:
    if not isinstance(data, dict) or data.keys() != {"counts", "lower", "upper"}:
        raise ValueError("the grid needs counts, lower and upper")
    if not all(isinstance(values, list) for values in data.values()):
        raise ValueError("counts, lower and upper of the grid must be lists")
    if not all(type(c) is int for c in data["counts"]) or len(data["counts"]) > MAX_AXES:
        raise ValueError(f"grid counts must be at most {MAX_AXES} whole numbers, got {str(data['counts'])[:60]}")
    if not all(type(v) in (int, float) for v in (*data["lower"], *data["upper"])):
        raise ValueError("lower and upper of the grid must be numbers")
    grid = PartitionGrid.from_dict(data)
    if grid.num_cells > MAX_CELLS:
        raise ValueError(f"the grid has {grid.num_cells:,} cells; a field file has at most {MAX_CELLS:,}")
    return grid


def check_config(config: Any) -> None:
    """Raise ValueError if a configuration is not a flat object of text, booleans, bounded numbers and corners. Which
    numbers make sense is the network's affair."""
    if not isinstance(config, dict):
        raise ValueError("the configuration must be an object")
    for name, value in config.items():
        corners = isinstance(value, list) and len(value) <= 2 * MAX_AXES and all(isinstance(v, float) for v in value)
        plain = value is None or corners or isinstance(value, (str, bool, float))
        if not plain and not (type(value) is int and abs(value) <= MAX_SIZE):
            raise ValueError(f"configuration entry {str(name)[:40]!r} is out of range: {str(value)[:40]}")


def check_plain(value: Any, name: str, levels: int = MAX_DEPTH * 8) -> None:
    """Raise ValueError unless a value is data that JSON gives back as it is (but for tuples, which become lists).

    Args:
        value: to be checked.
        name: of the entry, for the message.
        levels: lists and objects may be so deep.
    """
    if levels < 1:
        raise ValueError(f"{name} is nested too deeply")
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError(f"names in {name} must be text, got {str(list(value))[:60]}")
        for key, inner in value.items():
            check_plain(inner, f"{name}.{key[:40]}" if levels == MAX_DEPTH * 8 else name, levels - 1)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            check_plain(inner, name, levels - 1)
    elif type(value) is int and abs(value) >= 1 << 63:
        raise ValueError(f"{name} holds a whole number of more than 64 bits")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")
    elif value is not None and not isinstance(value, (str, bool, int, float)):
        raise ValueError(f"{name} must be plain numbers and text, got {type(value).__name__}")


def check_tensors(outline: Outline, stored: Mapping[str, Form], small: Mapping[str, Layout]) -> None:
    """Raise ValueError unless a file's tensors are those of the field it describes.

    Args:
        outline: of the field.
        stored: name -> type and size in the file.
        small: how those lie in it that it holds as whole numbers.
    """
    wanted = outline.forms()
    beside = {n + end: v for n, layout in small.items() for end, v in layout.beside(tuple(wanted[n].shape)).items()}
    needed = wanted.keys() | beside.keys()
    if needed != stored.keys():
        odd = sorted(needed ^ stored.keys())[:5]
        raise ValueError(f"tensors do not fit the description: {', '.join(odd)[:200]}")
    for name, template in wanted.items():
        (dtype, size), needs = stored[name], stored_form(template)
        floating = name in small or dtype in ("float32", "float16", "bfloat16")
        fits = floating if template.dtype == FLOAT else dtype == needs.dtype
        if size != needs.shape or not fits:
            raise ValueError(f"{name} is {dtype} {size}, the description needs {needs.dtype} {needs.shape}")
    for name, (dtype, size) in beside.items():
        if stored[name] != (dtype, size):
            raise ValueError(f"{name} is {stored[name][0]} {stored[name][1]}, the description needs {dtype} {size}")


class one_line(AbstractContextManager[None]):
    """Context: whatever senseless data makes other code raise is a ValueError of one line."""

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, MISTAKES):
            said = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError((said.splitlines() or [type(error).__name__])[0][:400]) from error


def _named(path: str) -> Any:
    """What `module:name` stands for."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)
