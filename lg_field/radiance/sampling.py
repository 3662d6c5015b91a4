"""Ray marching in pure torch: where along each ray to ask the field, skipping empty space."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.constants import constant, counting
from lg_field.radiance.compositing import Samples

LINEAR_UNTIL = 2.0
"""Contracted scenes: distance up to which marching steps are equal; farther out they grow with its square."""


def ray_box(
    origins: Float[Tensor, "rays 3"], directions: Float[Tensor, "rays 3"], box: Float[Tensor, "2 3"]
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]]:
    """Where rays enter and leave an axis-aligned box.

    Args:
        origins: (N, 3).
        directions: (N, 3).
        box: (2, 3) corners.

    Returns:
        (N,) entry (at least 0) and exit distance; entry >= exit where the ray misses.
    """
    safe = torch.where(directions.abs() < 1e-9, constant(1e-9, directions), directions)
    crossed = (box[:, None] - origins) / safe
    return crossed.amin(0).amax(-1).clamp_min(0.0), crossed.amax(0).amin(-1)


def steps_at(positions: Float[Tensor, "points 3"], step: float, contraction: bool) -> Float[Tensor, " points"]:
    """Length of a marching step at points, scene units.

    Args:
        positions: (M, 3) scene points.
        step: its length near the origin.
        contraction: of a contracted scene, whose steps grow far out; else all are equal.

    Returns:
        (M,).
    """
    if not contraction:
        return torch.full_like(positions[:, 0], step)
    return (positions.norm(dim=-1) / LINEAR_UNTIL).clamp_min(1.0).square() * step


def march(
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, " rays"],
    far: Float[Tensor, " rays"],
    step: float,
    occupied: Callable[[Tensor], Tensor],
    linear_until: float | None = None,
    jitter: bool = False,
    block: int = 1,
    near_occupied: Callable[[Tensor], Tensor] | None = None,
    reach: float | None = None,
) -> Samples:
    """Samples at regular steps between near and far, only where space is occupied.

    Args:
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        near: (N,) first distance.
        far: (N,) last distance; rays with far <= near get no sample.
        step: length of a step.
        occupied: (n, 3) scene points -> (n,) bool.
        linear_until: None: all steps are equal. A distance: beyond it steps grow with the square of the distance
            (equal steps in disparity), so that an unbounded ray needs finitely many.
        jitter: shift each ray's steps by a random part of a step (training).
        block: look at this many steps at a time first, by
        near_occupied: (n, 3) middles of such blocks -> (n,) bool: False only if none of their steps is occupied.
        reach: as in `steps_of_rays`.

    Returns:
        Packed samples in ray order; the same ones for every `block`.
    """
    s_near, s_far, count, shift = steps_of_rays(near, far, step, linear_until, jitter, reach)
    if near_occupied is None and not near.is_cpu:
        return march_at_once((origins, directions), (s_near, s_far), shift, step, count, occupied, linear_until)[0]

    def place(rays: Tensor, slots: Tensor) -> Tensor:
        """Where steps begin."""
        return s_near[rays] + (slots + shift[rays]) * step

    blocks = torch.arange(0, count, block, device=near.device)
    begins = s_near[:, None] + (blocks + shift[:, None]) * step
    rays, first = (begins + 0.5 * step < s_far[:, None]).nonzero(as_tuple=True)
    slots = blocks[first]
    if near_occupied is not None:
        middles = place(rays, slots) + 0.5 * block * step
        some = near_occupied(torch.addcmul(origins[rays], directions[rays], middles[:, None])).nonzero()[:, 0]
        rays, slots = rays[some], slots[some]
    rays = rays.repeat_interleave(block)
    slots = (slots[:, None] + torch.arange(block, device=near.device)).flatten()
    s = place(rays, slots)
    before_far, s = s + 0.5 * step < s_far[rays], s.clamp_min(0.0)
    samples = Samples(rays, _from_steps(s, linear_until), _from_steps(s + step, linear_until))
    points = torch.addcmul(origins[rays], directions[rays], samples.middles[:, None])
    hit = (before_far & occupied(points)).nonzero()[:, 0]
    return Samples(*(values[hit] for values in samples))


def march_at_once(
    rays: tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]],
    span: tuple[Float[Tensor, " rays"], Float[Tensor, " rays"]],
    shift: Float[Tensor, " rays"],
    step: float,
    count: int,
    occupied: Callable[[Tensor], Tensor],
    linear: float | None,
) -> tuple[Samples, Int64[Tensor, " samples"]]:
    """`march` by one look at all steps: more work, but a GPU's host waits only once, for the number of samples.

    Args:
        rays: (N, 3) origins and (N, 3) directions.
        span: (N,) first and (N,) last marching coordinate,
        shift: (N,) part of a step: see `steps_of_rays`.
        step: length of a step.
        count: steps of a ray at most.
        occupied: asked once, for all (N count, 3) scene points.
        linear: `linear_until` of `march`.

    Returns:
        M packed samples, and the (M,) numbers of these points among those asked for.
    """
    (origins, directions), (s_near, s_far) = rays, span
    s = s_near[:, None] + (counting(count, s_near) + shift[:, None]) * step
    before_far, s = s + 0.5 * step < s_far[:, None], s.clamp_min(0.0)
    starts, ends = (_from_steps(v, linear).flatten() for v in (s, s + step))
    middles = (0.5 * (starts + ends)).view_as(s)
    points = torch.addcmul(origins[:, None], directions[:, None], middles[:, :, None]).flatten(0, 1)
    hit = (before_far.flatten() & occupied(points)).nonzero()[:, 0]
    return Samples(torch.div(hit, max(1, count), rounding_mode="floor"), starts[hit], ends[hit]), hit


def steps_of_rays(
    near: Float[Tensor, " rays"],
    far: Float[Tensor, " rays"],
    step: float,
    linear: float | None,
    jitter: bool,
    reach: float | None = None,
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"], int, Float[Tensor, " rays"]]:
    """What `march` makes of its arguments: (N,) first and (N,) last marching coordinate, the number of steps of the
    longest ray, and (N,) part of a step by which each ray's are shifted.

    `reach`: no ray is longer, in marching coordinates. Where a GPU's host would have to wait for the longest ray, the
    number of steps is that of such a ray.
    """
    s_near, s_far = (to_steps(t, linear) for t in (near, far))
    if reach is not None and not near.is_cpu:
        count = math.ceil(reach / step) + 1
    else:
        count = int(((s_far - s_near).amax() / step).ceil().clamp_min(0)) if len(near) else 0
    return s_near, s_far, count, torch.rand_like(near) - 0.5 if jitter else torch.zeros_like(near)


def to_steps(t: Tensor, linear: float | None) -> Tensor:
    """Distance -> marching coordinate: t up to `linear`, then linear * (2 - linear / t), at most 2 * linear."""
    return t if linear is None else torch.where(t <= linear, t, linear * (2.0 - linear / t.clamp_min(linear)))


def _from_steps(s: Tensor, linear: float | None) -> Tensor:
    """Inverse of `to_steps`, capped far away."""
    if linear is None:
        return s
    return torch.where(s <= linear, s, linear / (2.0 - s / linear).clamp_min(1e-4))
