"""The saved state of a fit: a file that training goes on from, to the same weights as if it had never stopped."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from lg_field.files import atomic_write

FORMAT = "lg-field fit"
VERSION = 1
ENTRIES = {"format", "version", "settings", "step", "seconds", "weights", "optimizer", "generator"}
MOST_NAMED = 5
"""Settings that differ which a message names."""


def write_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state; replaces the file at once or not at all.

    Args:
        path: the file.
        state: `ENTRIES` but for the format and its version.
    """
    with atomic_write(path, overwrite=True) as temporary:
        torch.save({"format": FORMAT, "version": VERSION, **state}, temporary)


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """Read what `write_state` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another kind of file, or a damaged one.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist: there is nothing to resume")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # whatever torch, zip and pickle raise on a file that is none
        raise ValueError(f"{path} cannot be resumed from: {str(error).splitlines()[0][:100]}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} cannot be resumed from: it is a torch file, but no state of a fit")
    if state.get("version") != VERSION or state.keys() != ENTRIES:
        raise ValueError(f"{path} cannot be resumed from: it is the state of a fit by another version of lg-field")
    return state


def check_same(path: Path, theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raise ValueError, naming what differs, unless a state's settings are those of the fit that is to go on."""
    odd = [name for name in (*ours, *(n for n in theirs if n not in ours)) if theirs.get(name) != ours.get(name)]
    if not odd:
        return
    named = ", ".join(f"{name} {_short(theirs.get(name))} (here {_short(ours.get(name))})" for name in odd[:MOST_NAMED])
    more = f" and {len(odd) - MOST_NAMED} more" if len(odd) > MOST_NAMED else ""
    raise ValueError(f"{path} is of another fit: {named}{more}; give the same, or leave out --resume")


def _short(value: Any) -> str:
    text = "unsaid" if value is None else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def fingerprint(tensor: Shaped[Tensor, "*shape"]) -> int:
    """CRC-32 of a tensor's bytes: differs for tensors that differ, all but surely."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return zlib.crc32(flat.view(torch.uint8).numpy().data) if flat.numel() else 0
