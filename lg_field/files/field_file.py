"""Reading field files: everything is checked before anything is allocated, and only the rows asked for are fetched."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import torch
from torch import Tensor

from lg_field.files.container import FileError, Reader, parse_json
from lg_field.space.partition import PartitionGrid
from lg_field.space.regions import Region, region_from_dict
from lg_field.table.cell_table import CellTable, check_cells, check_full
from lg_field.table.description import Description
from lg_field.table.editing import full_to_keep, rows_to_keep

VERSION = 1
KEY = "lg_field"
"""Name of the metadata entry that holds the description."""
NETWORKS = {
    "signal": ("lg_field.networks.local_global:LocalGlobalNetwork", "lg_field.signals.signal:Signal"),
    "radiance": ("lg_field.radiance.field:RadianceField", "lg_field.radiance.scene:Scene"),
}
"""What a file may hold, and what describes it. A file names a key of this table, never a class."""
MAX_CELLS = 1 << 24
MAX_SIZE = 1 << 16
"""Bound on every size in a network's configuration."""
ENTRIES = {"format", "version", "network", "config", "grid", "region", "description", "history"}


class FieldFile:
    """A field file open for reading. Get one with `FieldFile.open`."""

    def __init__(self, reader: Reader) -> None:
        """Check everything but the weights' values.

        Raises:
            FileError: what is wrong, in one line.
        """
        self.reader = reader
        self.data = self._description_of(reader)
        try:
            self.grid, self.region, self.skeleton = self._build()
        except FileError:
            raise
        except (ValueError, TypeError, KeyError, OverflowError, AttributeError, RuntimeError, RecursionError) as error:
            raise FileError(f"{reader.name}: {str(error).splitlines()[0][:300]}") from error
        self._check_tensors()

    @staticmethod
    @contextmanager
    def open(path: str | os.PathLike[str]) -> Iterator[FieldFile]:
        """Open a local file, or any address fsspec reads (http, s3, memory; needs lg-field[remote]).

        Raises:
            FileNotFoundError: no such file.
            FileError: not a field file, or a damaged one.
        """
        with open_binary(str(path)) as file:
            yield FieldFile(Reader(file, str(path)))

    @property
    def cells(self) -> Tensor:
        """(P,) int64 kept cells."""
        return self.skeleton.cells

    @property
    def precision(self) -> Any:
        """Type of the rows' weights: float32, float16 or bfloat16."""
        rows = [e.dtype for n, e in self.reader.entries.items() if n in self.skeleton.row_names]
        return next((str(d).removeprefix("torch.") for d in rows if d.is_floating_point), "float32")

    @property
    def description(self) -> Description | None:
        """What the field is of."""
        return self.skeleton.description

    def load(self, region: Region | None = None, cells: Sequence[int] | None = None, invert: bool = False) -> CellTable:
        """The field, or the part of it that `editing.crop` with the same arguments would keep; float32.

        Raises:
            FileError: NaN or infinite weights.
            ValueError: nothing would be kept.
        """
        rows = None
        new_region = self.region
        if region is not None or cells is not None:
            rows, new_region = rows_to_keep(self.skeleton, region, cells, invert)
        kept = self.cells if rows is None else self.cells[rows]
        field = network_class(self.data["network"]).from_config(self.grid, self.data["config"], kept)
        field.region, field.description, field.history = new_region, self.description, self.data["history"]
        state: dict[str, Any] = {}
        for name, template in self.saved().items():
            if name == "cells":
                state[name] = kept
                continue
            if name == "full":
                continue
            values = self._finite(name, self.reader.read(name, rows if name in self.skeleton.row_names else None))
            state[name] = unpack_bits(values, template) if template.dtype == torch.bool else values.float()
        full = self.skeleton.full if rows is None else full_to_keep(self.skeleton, region, cells, invert)
        if full is not None:
            state["full"] = full
        state["_extra_state"] = field.get_extra_state()
        field.load_state_dict(state)
        return field.eval()

    def values(self, name: str, rows: Tensor) -> Iterator[Tensor]:
        """Flat pieces of some lines of a tensor, a few MB each.

        Raises:
            FileError: NaN or infinite weights.
        """
        dtype = self.reader.entries[name].dtype
        for piece in self.reader.pieces(name, rows):
            yield self._finite(name, torch.frombuffer(piece, dtype=dtype))

    def _finite(self, name: str, values: Tensor) -> Tensor:
        if values.is_floating_point() and not bool(values.isfinite().all()):
            raise FileError(f"{self.reader.name}: {name} holds NaN or infinite values")
        return values

    def bytes_by_part(self) -> dict[str, int]:
        """Bytes of the file: `header`, `rows`, `shared` and `total`."""
        rows = sum(self.reader.entries[n].num_bytes for n in self.saved() if n in self.skeleton.row_names)
        shared = sum(self.reader.entries[n].num_bytes for n in self.saved()) - rows
        total = self.reader.size
        return {"header": total - rows - shared, "rows": rows, "shared": shared, "total": total}

    # -- checks

    @staticmethod
    def _description_of(reader: Reader) -> dict[str, Any]:
        if KEY not in reader.metadata:
            raise FileError(f"{reader.name} is a safetensors file, but not a field file: it has no {KEY!r} metadata")
        data = parse_json(reader.metadata[KEY], reader.name)
        if data.get("format") != "lg-field" or data.get("version") != VERSION:
            got = f"{data.get('format')!r} version {data.get('version')!r}"
            raise FileError(f"{reader.name}: this lg-field reads format 'lg-field' version {VERSION}, not {got[:80]}")
        if data.keys() != ENTRIES:
            raise FileError(f"{reader.name}: the description needs {sorted(ENTRIES)}, got {sorted(data)}"[:400])
        if data["network"] not in NETWORKS:
            raise FileError(f"{reader.name}: unknown network {str(data['network'])[:80]!r}")
        if not isinstance(data["history"], dict):
            raise FileError(f"{reader.name}: the history must be an object")
        return data

    def _build(self) -> tuple[PartitionGrid, Region | None, CellTable]:
        """The field without its weights (tensors on the meta device take no memory)."""
        data, reader = self.data, self.reader
        check_sizes(data["config"])
        if not isinstance(data["grid"], dict) or data["grid"].keys() != {"counts", "lower", "upper"}:
            raise ValueError("the grid needs counts, lower and upper")
        if not all(type(c) is int for c in data["grid"]["counts"]) or len(data["grid"]["counts"]) > 4:
            raise ValueError("grid counts must be at most 4 whole numbers")
        grid = PartitionGrid.from_dict(data["grid"])
        if grid.num_cells > MAX_CELLS:
            raise ValueError(f"the grid has {grid.num_cells:,} cells; at most {MAX_CELLS:,} are read")
        region = None if data["region"] is None else region_from_dict(data["region"])
        cells = reader.entries.get("cells")
        if cells is None or cells.dtype != torch.int64 or len(cells.shape) != 1 or cells.shape[0] > grid.num_cells:
            raise ValueError("the list of kept cells is missing or does not fit the grid")
        kept = reader.read("cells")
        check_cells(kept, grid)
        full = read_full(reader, kept, grid)
        with torch.device("meta"):
            skeleton = network_class(data["network"]).from_config(grid, data["config"], kept)
        if region is not None:
            region.contains(torch.zeros(1, grid.dim))
        skeleton.region, skeleton.history, skeleton.full = region, data["history"], full
        skeleton.description = description_from_dict(data["network"], data["description"])
        if skeleton.description is not None:
            skeleton.description.check(skeleton)
        return grid, region, skeleton

    def saved(self) -> dict[str, Tensor]:
        """Name -> meta tensor of everything the file holds, `cells` included."""
        return {k: v for k, v in self.skeleton.state_dict().items() if torch.is_tensor(v)}

    def _check_tensors(self) -> None:
        wanted, entries = self.saved(), self.reader.entries
        if wanted.keys() != entries.keys():
            odd = sorted(wanted.keys() ^ entries.keys())[:5]
            raise FileError(f"{self.reader.name}: tensors do not fit the description: {', '.join(odd)[:200]}")
        for name, template in wanted.items():
            entry, shape = entries[name], stored_shape(template)
            floating = entry.dtype in (torch.float32, torch.float16, torch.bfloat16)
            fits = floating if template.is_floating_point() else entry.dtype == stored_dtype(template)
            if entry.shape != shape or not fits:
                raise FileError(
                    f"{self.reader.name}: {name} is {entry.dtype} {entry.shape}, the description needs "
                    f"{stored_dtype(template)} {shape}"
                )


def load(
    path: str | os.PathLike[str],
    region: Region | None = None,
    *,
    cells: Sequence[int] | None = None,
    invert: bool = False,
) -> CellTable:
    """Read a field, or only one region of it: then only the header, the shared part and the kept rows are fetched.

    Args:
        path: local file or an address fsspec reads.
        region: keep this, as `editing.crop` does.
        cells: or these cells.
        invert: remove them instead.

    Returns:
        The field in float32 on the CPU, with `description` and `history` set.

    Raises:
        FileNotFoundError: no such file.
        FileError: not a field file, or a damaged one.
        ValueError: nothing would be kept.
    """
    with FieldFile.open(path) as file:
        return file.load(region, cells, invert)


def read_full(reader: Reader, cells: Tensor, grid: PartitionGrid) -> Tensor | None:
    """The full cells of a file, None if it names none.

    Raises:
        ValueError: they do not fit the grid or the kept cells.
    """
    entry = reader.entries.get("full")
    if entry is None:
        return None
    if entry.dtype != torch.int64 or len(entry.shape) != 1 or entry.shape[0] > grid.num_cells:
        raise ValueError("the list of full cells does not fit the grid")
    full = reader.read("full")
    check_full(full, cells, grid)
    return full


def network_class(name: str) -> type[CellTable]:
    """The class of a `NETWORKS` entry, imported only now."""
    return _named(NETWORKS[name][0])


def description_from_dict(network: str, data: Any) -> Description | None:
    """The description of a field of this network; None stays None."""
    return None if data is None else _named(NETWORKS[network][1]).from_dict(data)


def _named(path: str) -> Any:
    """What `module:name` stands for."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def describe(field: CellTable) -> str:
    """The description of a field, as the JSON text its file holds.

    Raises:
        ValueError: not a kind of field that can be saved.
    """
    names = [n for n, (path, _) in NETWORKS.items() if type(field).__name__ == path.split(":")[1]]
    if not names:
        raise ValueError(f"{type(field).__name__} cannot be saved as a field file")
    return describe_as(names[0], field)


def describe_as(network: str, field: CellTable) -> str:
    """`describe` for a known network name."""
    data = {
        "format": "lg-field",
        "version": VERSION,
        "network": network,
        "config": field.config(),
        "grid": field.grid.to_dict(),
        "region": None if field.region is None else field.region.to_dict(),
        "description": None if field.description is None else field.description.to_dict(),
        "history": field.history,
    }
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def check_sizes(config: Any) -> None:
    """Raise ValueError if a configuration is not a flat object of text, booleans, bounded numbers and corners."""
    if not isinstance(config, dict):
        raise ValueError("the configuration must be an object")
    for name, value in config.items():
        corners = isinstance(value, list) and len(value) <= 8 and all(isinstance(v, float) for v in value)
        plain = value is None or corners or isinstance(value, (str, bool, float))
        if not plain and not (type(value) is int and 0 <= value <= MAX_SIZE):
            raise ValueError(f"configuration entry {str(name)[:40]!r} is out of range: {str(value)[:40]}")


def stored_shape(template: Tensor) -> tuple[int, ...]:
    """Shape in the file: booleans are packed into bits along the last axis."""
    if template.dtype != torch.bool:
        return tuple(template.shape)
    return (*template.shape[:-1], -(-template.shape[-1] // 8))


def stored_dtype(template: Tensor) -> torch.dtype:
    """Type in the file of a tensor saved as it is."""
    return torch.uint8 if template.dtype == torch.bool else template.dtype


def pack_bits(values: Tensor) -> Tensor:
    """(..., n) bool -> (..., ceil(n / 8)) uint8, first value in the highest bit."""
    padded = torch.nn.functional.pad(values.to(torch.uint8), (0, -values.shape[-1] % 8))
    weights = torch.tensor([128, 64, 32, 16, 8, 4, 2, 1], dtype=torch.uint8, device=values.device)
    return (padded.unflatten(-1, (-1, 8)) * weights).sum(-1, dtype=torch.uint8)


def unpack_bits(packed: Tensor, template: Tensor) -> Tensor:
    """Inverse of `pack_bits`; the last axis is as long as the template's."""
    shifts = torch.arange(7, -1, -1, dtype=torch.uint8)
    bits = (packed[..., None] >> shifts) & 1
    return bits.flatten(-2)[..., : template.shape[-1]].bool()


@contextmanager
def open_binary(path: str) -> Iterator[BinaryIO]:
    """A local file, or whatever fsspec opens for an address with ://."""
    if "://" not in path:
        if os.path.isdir(path):
            raise FileError(f"{path} is a folder, a field file is needed")
        with open(path, "rb") as local:
            yield local
        return
    try:
        import fsspec
    except ImportError as error:
        raise ImportError("reading addresses needs fsspec: pip install 'lg-field[remote]'") from error
    with fsspec.open(path, "rb", cache_type="none") as remote:
        yield remote
