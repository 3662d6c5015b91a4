"""Fits whose loss is of a measurement of the picture that the network shows, not of its samples one by one."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.ops import accumulate_gradients, local_global_chain
from lg_field.signals.fit import Fit


class MeasuredFit(Fit):
    """A fit whose loss is a function of many network values at once."""

    @torch.no_grad()
    def values(
        self, x: Float[Tensor, "n d"], offsets: Int64[Tensor, " edges"], table: Tensor, shared: Mapping[str, Tensor]
    ) -> Float[Tensor, "n channels"]:
        """Network values at points sorted by row, a chunk at a time.

        Args:
            x: (n, d) points.
            offsets: (P + 1,) first point of each row.
            table: (P, K) rows.
            shared: the shared tensors.
        """
        out, edges = [], offsets.tolist()
        for row, (first, last) in enumerate(itertools.pairwise(edges)):
            for part in x[first:last].split(self.chunk):
                ends = torch.tensor([0, len(part)], device=x.device)
                out.append(local_global_chain(part, ends, table[row : row + 1], shared, self.field.sizes))
        return torch.cat(out)

    def carry_on(
        self,
        slope: Float[Tensor, "n channels"],
        values: Float[Tensor, "n channels"],
        x: Float[Tensor, "n d"],
        offsets: Int64[Tensor, " edges"],
        table: Tensor,
        shared: Mapping[str, Tensor],
    ) -> None:
        """Add the gradients of a loss by the weights, from those by the values.

        They are the gradients of a squared error whose target lies off the values by just the slope: the chunked
        `accumulate_gradients` serves both kinds of loss.

        Args:
            slope: (n, channels) the loss' gradient by the values.
            values: (n, channels) as `values` gives them for the other arguments.
            x: (n, d) points.
            offsets: (P + 1,) first point of each row.
            table: (P, K) rows; the gradients are added to its own.
            shared: the shared tensors; likewise.
        """
        target = values - 0.5 * values.numel() * slope
        accumulate_gradients(x, offsets, target, table, shared, self.field.sizes, self.chunk)
