"""Which pixels a step looks at more than at others: those on what is cut out, those of known depth, and those of photos
that were taken near each other."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

Share = tuple[Tensor | None, float]
"""Places among the flattened pixels of all photos, None or empty where there are none, and which part of a step's
pixels is drawn among them."""


def drawn_shares(
    count: int, *shares: Share, photos: Int[Tensor, " photos"] | None = None, pixels: int = 0
) -> Iterator[tuple[slice, Int[Tensor, " some"]]]:
    """Random places, with repetition, for the first of a step's pixels; the rest are drawn anywhere.

    Args:
        count: pixels of the step.
        shares: one after the other, until there are no more pixels. Places are sorted.
        photos: (n,) numbers of the only photos that are drawn from; None = all are.
        pixels: of each photo, all of them the same; where `photos` are given.

    Yields:
        Which of the step's pixels, and their places, on the device where the given ones are.
    """
    at = 0
    for places, share in shares:
        if places is None or len(places) == 0:
            continue
        some = min(int(share * count), count - at)
        chosen = drawn(len(places), some, places.device) if photos is None else within(places, photos, pixels, some)
        if len(chosen):
            yield slice(at, at + some), places[chosen]
            at += some


def drawn(size: int, count: int, device: torch.device) -> Int[Tensor, " count"]:
    """`count` random numbers below `size`."""
    return torch.randint(size, (count,), device=device)


def within(
    places: Int[Tensor, " places"], photos: Int[Tensor, " photos"], pixels: int, count: int
) -> Int[Tensor, " drawn"]:
    """Random ones of those places that are in some photos.

    Args:
        places: (m,) sorted, among the flattened pixels of all photos.
        photos: (n,) numbers of photos.
        pixels: of each photo.
        count: wanted.

    Returns:
        (count,) numbers of places, with repetition; (0,) where the photos have none.
    """
    photos = photos.to(places.device)
    begins, ends = (torch.searchsorted(places, (photos + more) * pixels) for more in (0, 1))
    until = (ends - begins).cumsum(0)
    if int(until[-1]) == 0:
        return begins[:0]
    number = drawn(int(until[-1]), count, places.device)
    photo = torch.searchsorted(until, number, right=True)
    return ends[photo] - (until[photo] - number)


def near_each_other(positions: Float[Tensor, "photos 3"], count: int) -> Int[Tensor, " near"]:
    """(count,) numbers of the photos that were taken nearest to a random one, itself included; fewer where there are no
    more."""
    middle = positions[int(torch.randint(len(positions), ()))]
    return (positions - middle).norm(dim=1).topk(min(count, len(positions)), largest=False).indices
