"""What a scene's history says of parts that were dropped voxel by voxel. Without torch."""

from __future__ import annotations

from typing import Any

EDITS = "edits"
"""Entry of a field's history that holds what was dropped voxel by voxel."""
CROP = "crop"
"""The edit that keeps a part of a scene."""
MOST_EDITS = 16
"""The latest ones are kept."""


def with_edit(history: dict[str, Any], edit: str, voxels: tuple[int, int], cells: tuple[int, int]) -> dict[str, Any]:
    """A history with one more edit.

    Args:
        history: of a field.
        edit: its name.
        voxels: occupied ones before and after it.
        cells: kept ones, likewise.
    """
    old = history.get(EDITS, [])
    entry = {"edit": edit, "voxels": list(voxels), "cells": list(cells)}
    return history | {EDITS: [*(old if isinstance(old, list) else []), entry][-MOST_EDITS:]}


def was_cropped(history: dict[str, Any]) -> bool:
    """Whether a history, perhaps one from anyone, says that a part of a scene was kept, voxel by voxel."""
    found = history.get(EDITS, [])
    return isinstance(found, list) and any(isinstance(one, dict) and one.get("edit") == CROP for one in found)


def edit_words(history: dict[str, Any]) -> list[str]:
    """The edits of a history in words; of one from anyone, those that make sense."""
    found = history.get(EDITS, [])
    words = []
    for entry in found if isinstance(found, list) else []:
        try:
            (a, b), (c, d) = entry["voxels"], entry["cells"]
            words.append(f"{str(entry['edit'])[:40]}: voxels {a:,} -> {b:,}, cells {c:,} -> {d:,}")
        except (TypeError, KeyError, ValueError):
            continue
    return words
