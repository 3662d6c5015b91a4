"""Cameras are turned and moved until a field shows at their pixels what the photos have there.

A Gauss-Newton step of a camera (as in direct image alignment, Lucas and Kanade 1981) renders some of its rays, and the
same with the camera turned and moved a little about and along each axis, and solves for the change that explains the
difference to the photo best. That needs no gradient of the field and, for a turn and a move together, far fewer rays
than small steps along gradients: moves and turns of a camera show almost the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lg_field.radiance.compositing import as_float, image_on

PROBE = 0.7
"""Probes turn and move cameras so that the picture moves by this many pixels."""
FARTHEST = 6.0
"""A step changes each of the six numbers by at most so many probes."""
DAMPING = 1e-2
"""Part of the normal matrix's diagonal that is added to it,"""
LEAST = 1e-6
"""and what is added where nothing tells, squared colours."""
MOVE, TURN = 0.01, 0.01
"""How far off poses are, about: parts of the distance to what is seen, and radians."""
ALIKE = 16.0
"""Differences of so many pixels say as much as one would alone, for what is next to each other is wrong alike."""
OUTLIER = 0.1
"""Differences of colour from which on they count in proportion, not squared."""
PARTS = (1.0, 0.4)
"""Parts of a step that are tried; none is taken where none comes nearer to the photo."""
CANDIDATES = 8
"""Pixels that are looked at for each that is used: where colours change pixels tell more."""
ANYWHERE = 0.02
"""Weight of a pixel on a plain area, where an edge from black to white has 3."""
ROUNDS, RAYS_ALONE = 6, 1536
"""Steps and rays of a step for a camera that is fitted alone."""


class Seen(NamedTuple):
    """What c cameras have at n pixels each."""

    origins: Float[Tensor, "cameras rays 3"]
    """float64, scene units, where the cameras are thought to be now."""
    directions: Float[Tensor, "cameras rays 3"]
    """float64 unit vectors."""
    colors: Float[Tensor, "cameras rays 3"]
    """float64 in [0, 1], of what transparent pixels show on the background of `Show`."""
    counted: Bool[Tensor, "cameras rays"]
    """Which of them say something; the others fill up photos that have fewer."""
    pixel: Float[Tensor, " cameras"]
    """float64: radians from a pixel to the next."""


Show = Callable[[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]], tuple[Tensor, Tensor]]
"""From (N, 3) float32 origins and directions to (N, 3) colours and (N,) distances of what they see, scene units, nan
where they see nothing."""


def fit_step(show: Show, seen: Seen, changed: Float[Tensor, "cameras 6"]) -> Float[Tensor, "cameras 6"]:
    """One step of each camera, towards what is most likely: what the photo shows, not far from where it is given.

    Args:
        show: renders rays, a camera's after another's.
        seen: what the cameras should see.
        changed: (c, 6) float64, how they have been moved and turned so far.

    Returns:
        (c, 6) float64: by how much to move each along x, y, z, scene units, and to turn it about them, radians; 0 where
        no change was found that comes nearer to the photo, or something shown is not a number.
    """
    base, depths = _shown(show, seen, torch.zeros(len(seen.pixel), 1, 6, dtype=torch.float64))
    far = depths[:, 0].where(seen.counted, torch.nan).nanmedian(dim=-1).values
    far = torch.where(far.isnan(), seen.origins[:, 0].norm(dim=-1), far).clamp_min(1e-3)
    probe = PROBE * torch.stack([seen.pixel * far] * 3 + [seen.pixel] * 3, dim=-1)
    axes = torch.eye(6, dtype=torch.float64)
    probes, _ = _shown(show, seen, torch.cat([axes, -axes]) * probe[:, None])
    jacobian = (probes[:, :6] - probes[:, 6:]).flatten(2).mT / 2.0
    residuals = seen.colors.flatten(1) - base.flatten(1)
    counted = seen.counted[..., None].expand_as(seen.colors).flatten(1)
    weights = counted * OUTLIER / residuals.abs().clamp_min(OUTLIER)
    normal = jacobian.mT @ (weights[..., None] * jacobian)
    usual = torch.stack([MOVE * far] * 3 + [torch.full_like(far, TURN)] * 3, dim=-1)
    variance = (weights * residuals.square()).sum(1, keepdim=True) / counted.sum(1, keepdim=True).clamp_min(1)
    prior = ALIKE * variance * (probe / usual).square()
    normal = normal + torch.diag_embed(DAMPING * normal.diagonal(dim1=1, dim2=2) + prior) + LEAST * axes
    against = jacobian.mT @ (weights * residuals)[..., None] - (prior * changed / probe)[..., None]
    known = normal.isfinite().all((1, 2)) & against.isfinite().all((1, 2))
    normal = torch.where(known[:, None, None], normal, axes)
    against = torch.where(known[:, None, None], against, 0.0)
    step = torch.linalg.solve(normal, against)[..., 0].clamp(-FARTHEST, FARTHEST) * probe
    parts = torch.tensor(PARTS, dtype=torch.float64)
    tried, _ = _shown(show, seen, parts[:, None] * step[:, None])
    left = torch.cat([base, tried], dim=1).flatten(2) - seen.colors.flatten(1)[:, None]
    parts = torch.cat([parts.new_zeros(1), parts])
    unlikely = prior[:, None] * ((changed[:, None] + parts[:, None] * step[:, None]) / probe[:, None]).square()
    costs = (weights[:, None] * left.square()).sum(-1) + unlikely.sum(-1)
    return step * parts[costs.nan_to_num(torch.inf).argmin(1), None]


def squared_error(show: Show, seen: Seen) -> Float[Tensor, " cameras"]:
    """(c,) float64: what cameras see and should see, squared difference of colours, mean over what is counted; 0 where
    nothing is."""
    shown, _ = _shown(show, seen, torch.zeros(len(seen.pixel), 1, 6, dtype=torch.float64))
    squares = (shown[:, 0] - seen.colors).square().mean(-1) * seen.counted
    return squares.sum(1) / seen.counted.sum(1).clamp_min(1)


def _shown(show: Show, seen: Seen, changes: Float[Tensor, "cameras tries 6"]) -> tuple[Tensor, Tensor]:
    """(c, tries, n, 3) float64 colours and (c, tries, n) distances as each camera sees them after some changes."""
    directions = torch.einsum("ctij,cnj->ctni", rotations(changes[..., 3:]), seen.directions)
    origins = (seen.origins[:, None] + changes[:, :, None, :3]).expand_as(directions)
    colors, depths = show(origins.reshape(-1, 3).float(), directions.reshape(-1, 3).float())
    return colors.double().view_as(directions), depths.double().view(directions.shape[:3])


def fit_alone(show: Show, look: Callable[[], Seen]) -> Float[Tensor, " 6"]:
    """Where one camera of a finished field is, from where it is said to be: its photo alone says so.

    Args:
        show: renders rays.
        look: draws pixels of the one camera, as it is said to be.

    Returns:
        (6,) float64 moves and turns, as `fit_step`.
    """
    change = torch.zeros(1, 6, dtype=torch.float64)
    for _ in range(ROUNDS):
        step = fit_step(show, moved(look(), change), change)
        if not bool(step.any()):
            break
        change = composed(change, step)
    return change[0]


def moved(seen: Seen, changes: Float[Tensor, "cameras 6"]) -> Seen:
    """The same pixels of cameras that are moved and turned."""
    directions = torch.einsum("cij,cnj->cni", rotations(changes[:, 3:]), seen.directions)
    return seen._replace(origins=seen.origins + changes[:, None, :3], directions=directions)


def rotations(turns: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """(..., 3) turns about x, y, z, radians -> (..., 3, 3) rotations."""
    x, y, z = turns.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(*turns.shape, 3)
    return torch.linalg.matrix_exp(skew)


def turns_of(found: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `rotations`, of turns below half a circle."""
    r = found
    sines = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1) / 2
    sine, cosine = sines.norm(dim=-1, keepdim=True), (r.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1.0) / 2.0
    angle = torch.atan2(sine, cosine)
    return sines * torch.where(sine > 1e-9, angle / sine.clamp_min(1e-9), torch.ones_like(sine))


def composed(first: Float[Tensor, "cameras 6"], then: Float[Tensor, "cameras 6"]) -> Float[Tensor, "cameras 6"]:
    """Two changes of cameras, one after the other, as one."""
    turns = turns_of(rotations(then[:, 3:]) @ rotations(first[:, 3:]))
    return torch.cat([first[:, :3] + then[:, :3], turns], dim=1)


def seen_by(
    image: Tensor,
    counted: Bool[Tensor, "height width"] | None,
    rays: Callable[[Int64[Tensor, " rays"], Int64[Tensor, " rays"]], tuple[Tensor, Tensor]],
    pixel: float,
    count: int,
    background: Float[Tensor, " 3"],
    generator: torch.Generator | None = None,
) -> Seen:
    """What one camera has at so many of its photo's pixels that tell most.

    Args:
        image: (height, width, 3 or 4), bytes or [0, 1], straight alpha.
        counted: pixels that say something; None = all.
        rays: from rows and columns of pixels to (n, 3) origins and (n, 3) unit directions.
        pixel: radians from a pixel to the next.
        count: pixels.
        background: (3,) behind what transparent pixels show.
        generator: draws pixels; None = torch's.
    """
    rows, columns = telling_pixels(image, count, counted, background, generator)
    chosen = torch.arange(count) < len(rows)
    if len(rows) < count:
        rows, columns = (torch.cat([part, part.new_zeros(count - len(part))]) for part in (rows, columns))
    origins, directions = rays(rows, columns)
    found = origins, directions, _colors(image, rows, columns, background)
    origins, directions, colors = (part[None].double().cpu() for part in found)
    return Seen(origins, directions, colors, chosen[None], torch.tensor([pixel], dtype=torch.float64))


def together(cameras: Sequence[Seen]) -> Seen:
    """Cameras with as many pixels each, as one."""
    return Seen(*map(torch.cat, zip(*cameras)))


def telling_pixels(
    image: Tensor,
    count: int,
    counted: Bool[Tensor, "height width"] | None,
    background: Float[Tensor, " 3"],
    generator: torch.Generator | None = None,
) -> tuple[Int64[Tensor, " rays"], Int64[Tensor, " rays"]]:
    """Rows and columns of random pixels of a photo, most of them where colours change; none twice.

    Arguments as in `seen_by`. Of a photo with fewer pixels that count there are fewer.
    """
    height, width = image.shape[:2]
    allowed = None if counted is None else counted.flatten().nonzero()[:, 0].cpu()
    most = height * width if allowed is None else len(allowed)
    draws = torch.randint(max(most, 1), (CANDIDATES * count if most else 0,), generator=generator).unique()
    candidates = draws if allowed is None else allowed[draws]
    rows, columns = candidates // width, candidates % width
    strength = torch.full((len(rows),), ANYWHERE)
    for down, right in ((1, 0), (0, 1)):
        after = (rows + down).clamp(max=height - 1), (columns + right).clamp(max=width - 1)
        before = (rows - down).clamp(min=0), (columns - right).clamp(min=0)
        change = _colors(image, *after, background) - _colors(image, *before, background)
        strength += change.abs().sum(-1).cpu()
    if not len(rows):
        return rows, columns
    chosen = torch.multinomial(strength, min(count, len(rows)), generator=generator)
    return rows[chosen], columns[chosen]


def _colors(image: Tensor, rows: Tensor, columns: Tensor, background: Tensor) -> Float[Tensor, "rays 3"]:
    """Colours of pixels on a background, [0, 1]."""
    return image_on(as_float(image[rows, columns]), background.to(image.device))
