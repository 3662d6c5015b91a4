"""From a parameter budget to widths (paper, appendix A: automatic partitioning)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

from lg_field.network_parts import Network, parts_of
from lg_field.ops import ChainSizes


def sizes_for_budget(
    network: Network,
    num_cells: int,
    in_features: int,
    out_features: int,
    parameters: int,
    global_share: float = 0.1,
    hidden_layers: int = 3,
    merge: Literal["concat", "add"] = "concat",
    w0: float = 30.0,
) -> ChainSizes:
    """Widths that spend a parameter budget.

    Args:
        network: local-global, or a baseline.
        num_cells: cells that get a row.
        in_features: axes of the domain.
        out_features: values per sample.
        parameters: budget for all weights and biases.
        global_share: part of it for the global sub-network and the merge (paper: 0.05 to 0.15); 0 = global layers are
            about half as wide as those of cells, a quarter at least and as wide at most.
        hidden_layers: hidden layers after the first.
        merge: merge operator.
        w0: frequency of the sine layers.

    Returns:
        The sizes whose count comes closest to the budget; for local-global, of the widths within 2 % of it the ones
        closest to the share, or to the half.

    Raises:
        ValueError: the budget does not buy one neuron per cell, or a senseless share.
    """

    def sizes(h: int, g: int) -> ChainSizes:
        return ChainSizes(in_features, out_features, h, g, hidden_layers, "sine", w0, merge)

    def total(h: int, g: int) -> int:
        return sizes(h, g).count(num_cells)["total"]

    if not parts_of(network).rows:
        return sizes(0, _closest(lambda g: total(0, g), parameters))
    least = total(1, 0)
    if least > parameters:
        raise ValueError(
            f"{parameters:,} parameters do not buy one neuron in each of {num_cells:,} cells, which takes {least:,}: "
            "use fewer cells or a larger budget"
        )
    if not parts_of(network).shared:
        return sizes(_closest(lambda h: total(h, 0), parameters), 0)
    if not 0.0 <= global_share < 1.0:
        raise ValueError(f"global_share must be at least 0 and less than 1, got {global_share}")
    _, _, best_h, best_g = min(_candidates(sizes, num_cells, parameters, global_share))
    return sizes(best_h, best_g)


def _candidates(
    sizes: Callable[[int, int], ChainSizes], num_cells: int, parameters: int, share: float
) -> Iterator[tuple[float, float, int, int]]:
    """By how much a pair of widths misses 2 % of the budget, and the share or the half, and the widths."""
    h = 1
    while h == 1 or sizes(h, 1).count(num_cells)["total"] <= parameters * 1.02:
        spent = _closest(lambda g, h=h: sizes(h, g).count(num_cells)["total"], parameters)  # type: ignore[misc]
        for g in [spent] if share else range(max(1, h // 4), h + 1):
            count = sizes(h, g).count(num_cells)
            miss = max(0.0, abs(count["total"] / parameters - 1.0) - 0.02)
            yield miss, abs(count["shared"] / count["total"] - share) if share else abs(g / h - 0.5), h, g
        h += 1


def _closest(count, budget: int) -> int:  # type: ignore[no-untyped-def]
    """The width >= 1 whose rising count is closest to the budget."""
    low, high = 1, 2
    while count(high) < budget:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) < budget else (low, middle)
    return min((low, high), key=lambda width: abs(count(width) - budget))
