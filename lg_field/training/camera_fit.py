"""Cameras are turned and moved until a field shows at their pixels what the photos have there.

A Gauss-Newton step of a camera (as in direct image alignment, Lucas and Kanade 1981) renders some of its rays, and the
same with the camera turned and moved a little about and along each axis, and solves for the change that explains the
difference to the photo best. That needs no gradient of the field and, for a turn and a move together, far fewer rays
than small steps along gradients: moves and turns of a camera show almost the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

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
    """[0, 1], of what transparent pixels show on the background of `Show`."""
    pixel: Float[Tensor, " cameras"]
    """Radians from a pixel to the next."""


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
        no change was found that comes nearer to the photo.
    """
    base, depths = _shown(show, seen, torch.zeros(len(seen.pixel), 1, 6, dtype=torch.float64))
    far = depths[:, 0].nanmedian(dim=-1).values
    far = torch.where(far.isnan(), seen.origins[:, 0].norm(dim=-1), far).clamp_min(1e-3)
    probe = PROBE * torch.stack([seen.pixel * far] * 3 + [seen.pixel] * 3, dim=-1)
    axes = torch.eye(6, dtype=torch.float64)
    probes, _ = _shown(show, seen, torch.cat([axes, -axes]) * probe[:, None])
    slopes = (probes[:, :6] - probes[:, 6:]).flatten(2).mT / 2.0
    off = seen.colors.flatten(1) - base.flatten(1)
    counts = (OUTLIER / off.abs().clamp_min(OUTLIER)).unsqueeze(-1)
    normal = slopes.mT @ (counts * slopes)
    usual = torch.stack([MOVE * far] * 3 + [torch.full_like(far, TURN)] * 3, dim=-1)
    doubt = ALIKE * (counts[..., 0] * off.square()).mean(1, keepdim=True) * (probe / usual).square()
    normal = normal + torch.diag_embed(DAMPING * normal.diagonal(dim1=1, dim2=2) + doubt) + LEAST * axes
    wanted = slopes.mT @ (counts * off.unsqueeze(-1)) - (doubt * changed / probe).unsqueeze(-1)
    step = torch.linalg.solve(normal, wanted)[..., 0].clamp(-FARTHEST, FARTHEST) * probe
    parts = torch.tensor(PARTS, dtype=torch.float64)
    tried, _ = _shown(show, seen, parts[:, None] * step[:, None])
    left = torch.cat([base, tried], dim=1).flatten(2) - seen.colors.flatten(1)[:, None]
    parts = torch.cat([parts.new_zeros(1), parts])
    strange = doubt[:, None] * ((changed[:, None] + parts[:, None] * step[:, None]) / probe[:, None]).square()
    best = ((counts[:, None, :, 0] * left.square()).sum(-1) + strange.sum(-1)).argmin(1)
    return step * parts[best, None]


def _shown(show: Show, seen: Seen, changes: Float[Tensor, "cameras tries 6"]) -> tuple[Tensor, Tensor]:
    """(c, tries, n, 3) float64 colours and (c, tries, n) distances as each camera sees them after some changes."""
    directions = torch.einsum("ctij,cnj->ctni", turned(changes[..., 3:]), seen.directions)
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
        seen = look()
        step = fit_step(show, moved(seen, change), change)
        if not bool(step.any()):
            break
        change = composed(change, step)
    return change[0]


def moved(seen: Seen, changes: Float[Tensor, "cameras 6"]) -> Seen:
    """The same pixels of cameras that are moved and turned."""
    directions = torch.einsum("cij,cnj->cni", turned(changes[:, 3:]), seen.directions)
    return seen._replace(origins=seen.origins + changes[:, None, :3], directions=directions)


def turned(turns: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """(..., 3) turns about x, y, z, radians -> (..., 3, 3) rotations."""
    x, y, z = turns.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(*turns.shape, 3)
    return torch.linalg.matrix_exp(skew)


def turns_of(rotations: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch 3"]:
    """The inverse of `turned`, of turns below half a circle."""
    r = rotations
    sines = torch.stack([r[..., 2, 1] - r[..., 1, 2], r[..., 0, 2] - r[..., 2, 0], r[..., 1, 0] - r[..., 0, 1]], -1) / 2
    sine, cosine = sines.norm(dim=-1, keepdim=True), (r.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1.0) / 2.0
    angle = torch.atan2(sine, cosine)
    return sines * torch.where(sine > 1e-9, angle / sine.clamp_min(1e-9), torch.ones_like(sine))


def composed(first: Float[Tensor, "cameras 6"], then: Float[Tensor, "cameras 6"]) -> Float[Tensor, "cameras 6"]:
    """Two changes of cameras, one after the other, as one."""
    turns = turns_of(turned(then[:, 3:]) @ turned(first[:, 3:]))
    return torch.cat([first[:, :3] + then[:, :3], turns], dim=1)


def telling_pixels(
    image: Tensor, count: int, counted: Bool[Tensor, "height width"] | None = None
) -> tuple[Int64[Tensor, " rays"], Int64[Tensor, " rays"]]:
    """Rows and columns of random pixels of a photo, most of them where colours change.

    Args:
        image: (height, width, channels), bytes or [0, 1].
        count: how many.
        counted: pixels that say something; None = all.
    """
    height, width = image.shape[:2]
    candidates = torch.randint(height * width, (CANDIDATES * count,))
    rows, columns = candidates // width, candidates % width
    strength = torch.full((len(rows),), ANYWHERE)
    scale = 1.0 if image.is_floating_point() else 255.0
    for down, right in ((1, 0), (0, 1)):
        after = image[(rows + down).clamp(max=height - 1), (columns + right).clamp(max=width - 1)]
        before = image[(rows - down).clamp(min=0), (columns - right).clamp(min=0)]
        strength += (after.float() - before.float()).abs().sum(-1).cpu() / scale
    if counted is not None:
        strength = strength * counted[rows, columns].cpu()
        strength = strength if bool(strength.any()) else torch.ones_like(strength)
    chosen = torch.multinomial(strength, count, replacement=int((strength > 0).sum()) < count)
    return rows[chosen], columns[chosen]
