"""What a checkpoint must hold to be loaded into a field: checked whole before anything of the field changes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from lg_field.arrays import Array, namespace, torch
from lg_field.space.partition import PartitionGrid

KEPT = "_kept"
"""Ends the name under which a state holds which lines of a tensor are kept: (N,) bool; not there if all are."""


@runtime_checkable
class Checked(Protocol):
    """What of a `CellTable` a checkpoint must fit."""

    @property
    def row_names(self) -> tuple[str, ...]:
        """Names of the tensors with one line per kept cell."""

    @property
    def cell_set_names(self) -> tuple[str, ...]:
        """Names of the sets of cells without a row."""

    def line_counts(self) -> dict[str, int]:
        """How many lines each of the shared tensors has that rows read line by line, kept or not."""

    def config(self) -> dict[str, Any]:
        """Sizes and wiring."""

    def state_dict(self) -> dict[str, Any]:
        """Names -> tensors, and `_extra_state`."""


class CheckpointError(ValueError):
    """A checkpoint does not fit the field it is loaded into, or is damaged."""


def check_cells(cells: Array, grid: PartitionGrid) -> None:
    """Raise CheckpointError unless `cells` is a non-empty sorted list of distinct cells of `grid`."""
    if cells.ndim != 1 or cells.dtype != namespace(cells).int64 or len(cells) == 0:
        raise CheckpointError(f"cells must be (P,) int64 with P >= 1, got {cells.dtype} {tuple(cells.shape)}")
    if int(cells[0]) < 0 or int(cells[-1]) >= grid.num_cells or not bool((cells[1:] > cells[:-1]).all()):
        raise CheckpointError(f"cells must be sorted, distinct and in 0..{grid.num_cells - 1}")


def check_cell_sets(sets: Mapping[str, Array], cells: Array, grid: PartitionGrid) -> None:
    """Raise CheckpointError unless each set is a non-empty sorted list of distinct cells of `grid` that have no row
    and are in no other set."""
    taken, xp = cells, namespace(cells)
    for name, members in sets.items():
        try:
            check_cells(members, grid)
        except CheckpointError as error:
            raise CheckpointError(f"{name} {error}") from error
        if bool(xp.isin(members, taken).any()):
            raise CheckpointError(f"{name} cells must have no row, and be in no other set")
        taken = xp.concatenate([taken, members])


def check_kept_lines(mask: Array, name: str, total: int) -> None:
    """Raise CheckpointError unless `mask` says of each of `total` lines of a tensor whether it is kept, and some are
    not."""
    if str(mask.dtype) not in ("bool", "torch.bool") or tuple(mask.shape) != (total,) or bool(mask.all()):
        raise CheckpointError(
            f"{name}{KEPT} must say of each of {total} lines whether it is kept, and not be there if all are; got "
            f"{mask.dtype} {tuple(mask.shape)}"
        )


def check_state(field: Checked, state: Mapping[str, Any]) -> None:
    """Raise CheckpointError, in one line, unless a state dict fits a field up to the number of its rows.

    Args:
        field: to be loaded into; it says which tensors there are and of which sizes.
        state: names without prefix -> tensors, and the `_extra_state`.
    """
    lines = field.line_counts()
    optional = {*field.cell_set_names, *(name + KEPT for name in lines)}
    wanted = {name: value for name, value in field.state_dict().items() if name not in optional}
    missing = [name for name in wanted if name not in state]
    extra = state.get("_extra_state")
    if missing or not isinstance(extra, dict) or "grid" not in extra:
        lacking = ", ".join(missing[:8]) or "its geometry"
        raise CheckpointError(f"the checkpoint lacks {lacking} of the field: truncated or not lg-field's")
    check_config(field, extra.get("config"))
    cells, grid = state["cells"], PartitionGrid.from_dict(extra["grid"])
    check_cells(cells, grid)
    check_cell_sets({name: state[name] for name in field.cell_set_names if name in state}, cells, grid)
    for name, total in lines.items():
        if name + KEPT in state:
            check_kept_lines(state[name + KEPT], name, total)
            lines[name] = int(state[name + KEPT].sum())
    for name, old in wanted.items():
        if name == "_extra_state":
            continue
        new, is_row = state[name], name in field.row_names
        first = (len(cells),) if is_row else (lines[name],) if name in lines else tuple(old.shape[:1])
        size = (*first, *old.shape[1:])
        if tuple(new.shape) != size:
            needed = f"the {len(cells)} kept cells and the configuration need" if is_row else "the configuration needs"
            raise CheckpointError(
                f"{name} in the checkpoint has shape {tuple(new.shape)}, {needed} {size}: rows are missing or the "
                "run's config.yml is another run's"
            )
    for name, value in state.items():
        if torch.is_tensor(value) and not bool(torch.isfinite(value).all()):
            raise CheckpointError(f"{name} in the checkpoint holds NaN or infinite values")


def check_config(field: Checked, saved: Any) -> None:
    """Raise CheckpointError unless a checkpoint's configuration is the field's own; None (checkpoints from before there
    was one) passes."""
    if saved is None:
        return
    if not isinstance(saved, dict):
        raise CheckpointError(f"the checkpoint's configuration must be an object, got {type(saved).__name__}")
    ours, theirs = _plain(field.config()), _plain(saved)
    differ = [name for name in (*ours, *(theirs.keys() - ours.keys())) if ours.get(name) != theirs.get(name)]
    if differ:
        parts = ", ".join(f"{name} is {theirs.get(name)!r} there, {ours.get(name)!r} here" for name in sorted(differ))
        raise CheckpointError(f"the checkpoint is of another network than the field: {parts[:400]}")


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """As it reads after JSON: tuples and lists are one."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
