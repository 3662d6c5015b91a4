"""Checkpoints of rows on many ranks: written by all of them at once, read by any number, one included.

A checkpoint is nested plain data with tensors (nerfstudio's, for one). Some of its tensors are rows, a line for each
kept cell; the others are the same on all ranks. torch.distributed.checkpoint writes them into a folder: of each rank
its rows in blocks `RANK/BLOCK/PATH`, where PATH says where in the nested data the tensor belongs, and once `rest`, a
file of torch.save with all else. A folder is there whole or not at all.
"""

from __future__ import annotations

import io
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from jaxtyping import Bool, Int64
from torch import Tensor
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from lg_field.distributed.ranks import Ranks

REST = "rest"
"""Key of what is no rows."""
BLOCK_BYTES = 1 << 26
"""Rows of a rank are read at least this many bytes at a time, if there are as many."""

NewTensor = Callable[..., Tensor]
"""Makes a tensor of a shape and a `dtype`, whatever it holds."""
TreePath = tuple[str | int, ...]
"""Where in nested dictionaries something is."""


def at(tree: Any, path: TreePath) -> Any:
    """What is at a place in nested dictionaries."""
    for key in path:
        tree = tree[key]
    return tree


def replaced(tree: Any, values: dict[TreePath, Any]) -> Any:
    """Nested dictionaries with other values at some places; the dictionaries on the way there are copied."""
    result = dict(tree)
    for key in {path[0] for path in values}:
        inner = {path[1:]: value for path, value in values.items() if path[0] == key}
        result[key] = inner[()] if () in inner else replaced(tree[key], inner)
    return result


def name_of(path: TreePath) -> str:
    """A place as part of a key; keys may hold dots, but no `|`."""
    return "|".join(f"#{key}" if isinstance(key, int) else key for key in path)


def save_shards(
    folder: Path, checkpoint: dict[str, Any], cells: TreePath, rows: Sequence[TreePath], ranks: Ranks
) -> None:
    """Write a checkpoint from all ranks.

    Args:
        folder: becomes the checkpoint when everything is there; one of that name is replaced.
        checkpoint: with this rank's rows.
        cells: where the rows' cells are, (P,) int64.
        rows: where all rows are, the cells among them; the same on all ranks.
        ranks: all of them.

    Raises:
        OSError: of this rank's disk.
    """
    temporary = folder.parent.parent / f".{folder.name}.tmp"
    if ranks.rank == 0:
        shutil.rmtree(temporary, ignore_errors=True)
    ranks.barrier()
    state: dict[str, Any] = {}
    own = {path: at(checkpoint, path) for path in rows}
    count = len(own[cells])
    size = sum(v[:1].numel() * v.element_size() for v in own.values())
    block = max(1, BLOCK_BYTES // max(1, size))
    for number, first in enumerate(range(0, count, block)):
        for path, values in own.items():
            state[f"{ranks.rank}/{number}/{name_of(path)}"] = values[first : first + block].contiguous()
    if ranks.rank == 0:
        rest = replaced(checkpoint, dict.fromkeys(rows))
        buffer = io.BytesIO()
        torch.save({"checkpoint": rest, "cells": cells, "rows": list(rows)}, buffer)
        state[REST] = torch.frombuffer(bytearray(buffer.getbuffer()), dtype=torch.uint8)
    dcp.save(state, checkpoint_id=temporary)
    ranks.barrier()
    if ranks.rank == 0:
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        os.replace(temporary, folder)
    ranks.barrier()


@dataclass(frozen=True)
class Shards:
    """A checkpoint that ranks wrote, read by one process."""

    folder: Path

    @cached_property
    def _sizes(self) -> dict[str, tuple[torch.Size, torch.dtype]]:
        """Shape and type of every tensor, after a look at whether the files are there.

        Raises:
            ValueError: they are not.
        """
        reader = dcp.FileSystemReader(self.folder)
        try:
            metadata = reader.read_metadata()
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(f"{self.folder} is no checkpoint of ranks: its .metadata cannot be read") from error
        ends: dict[str, int] = {}
        for info in metadata.storage_data.values():
            ends[info.relative_path] = max(ends.get(info.relative_path, 0), info.offset + info.length)
        for name, end in sorted(ends.items()):
            file = self.folder / name
            if not file.is_file():
                raise ValueError(f"{self.folder} lacks {name}, the rows of one of its ranks: copy the whole folder")
            if file.stat().st_size < end:
                raise ValueError(f"{file} is truncated: {file.stat().st_size:,} of {end:,} bytes are there")
        return {
            key: (value.size, value.properties.dtype)
            for key, value in metadata.state_dict_metadata.items()
            if isinstance(value, TensorStorageMetadata)
        }

    def _load(self, keys: Sequence[str]) -> dict[str, Tensor]:
        found = {key: torch.empty(self._sizes[key][0], dtype=self._sizes[key][1]) for key in keys}
        dcp.load(found, checkpoint_id=self.folder, no_dist=True)
        return found

    @cached_property
    def _rest(self) -> dict[str, Any]:
        if REST not in self._sizes:
            raise ValueError(f"{self.folder} is no checkpoint of lg-field: it has no {REST!r}")
        data = io.BytesIO(self._load([REST])[REST].numpy().tobytes())
        return torch.load(data, map_location="cpu", weights_only=True)

    @property
    def rest(self) -> dict[str, Any]:
        """The checkpoint with None in the place of rows."""
        return self._rest["checkpoint"]

    @property
    def rows(self) -> list[TreePath]:
        """Where the rows are."""
        return [tuple(path) for path in self._rest["rows"]]

    @property
    def cells_path(self) -> TreePath:
        """Where the rows' cells are."""
        return tuple(self._rest["cells"])

    @cached_property
    def blocks(self) -> list[tuple[str, Int64[Tensor, " rows"]]]:
        """Each block and the cells of its rows."""
        end = "/" + name_of(self.cells_path)
        names = sorted(key[: -len(end)] for key in self._sizes if key.endswith(end))
        return [(name, self._load([name + end])[name + end]) for name in names]

    @property
    def cells(self) -> Int64[Tensor, " cells"]:
        """(P,) sorted cells of all rows."""
        return torch.cat([cells for _, cells in self.blocks]).sort().values

    def read_blocks(self, rows: Sequence[TreePath]) -> Iterator[tuple[Int64[Tensor, " rows"], dict[TreePath, Tensor]]]:
        """Block by block, so that one is in memory at a time: the cells of its rows, and some of its tensors."""
        for name, cells in self.blocks:
            found = self._load([f"{name}/{name_of(path)}" for path in rows])
            yield cells, {path: found[f"{name}/{name_of(path)}"] for path in rows}

    def checkpoint(
        self, wanted: Bool[Tensor, " cells"] | None = None, leave_out: Sequence[str] = (), new: NewTensor = torch.empty
    ) -> dict[str, Any]:
        """The nested data with the rows of some cells, sorted by cell.

        Args:
            wanted: (P,) bool, one for each of `cells`; None = all.
            leave_out: keys of the outermost dictionary whose rows are not read: None is in their place.
            new: makes the tensors that rows are put in, a block at a time; they may be in a file.
        """
        paths = [path for path in self.rows if path[0] not in leave_out]
        cells = self.cells if wanted is None else self.cells[wanted]
        whole: dict[TreePath, Any] = {}
        for here, block in self.read_blocks(paths):
            some = torch.isin(here, cells)
            places = torch.searchsorted(cells, here[some])
            for path, values in block.items():
                if path not in whole:
                    whole[path] = new((len(cells), *values.shape[1:]), dtype=values.dtype)
                whole[path][places] = values[some]
        return replaced(self.rest, whole)
