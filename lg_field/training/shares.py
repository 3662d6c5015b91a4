"""Which pixels a step looks at more than at others: those on what is cut out, and those of known depth."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor

Share = tuple[Tensor | None, float]
"""Places among the flattened pixels of all photos, None or empty where there are none, and which part of a step's
pixels is drawn among them."""


def drawn_shares(count: int, *shares: Share) -> Iterator[tuple[slice, Int[Tensor, " some"]]]:
    """Random places, with repetition, for the first of a step's pixels; the rest are drawn anywhere.

    Args:
        count: pixels of the step.
        shares: one after the other, until there are no more pixels.

    Yields:
        Which of the step's pixels, and their places, on the device where the given ones are.
    """
    at = 0
    for places, share in shares:
        if places is not None and len(places):
            some = min(int(share * count), count - at)
            yield slice(at, at + some), places[torch.randint(len(places), (some,), device=places.device)]
            at += some
