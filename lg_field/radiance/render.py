"""The one way from rays to what they show: march, ask the field, shade, composite. No data set, no nerfstudio.

Training, evaluation in nerfstudio, `lg-field render` and the viewer all go it; `outputs.py` names what rays can show.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lg_field.constants import constant
from lg_field.radiance import occupancy
from lg_field.radiance.cameras import Camera as Camera
from lg_field.radiance.cameras import look_along as look_along
from lg_field.radiance.cameras import orbit as orbit
from lg_field.radiance.compositing import Samples, composite, composite_weights, over
from lg_field.radiance.field import RadianceField
from lg_field.radiance.fused import fused_composite, fused_march, fused_owners, fused_rounds, seen_of_sums
from lg_field.radiance.memory_bound import in_parts, rays_at_once, samples_at_once
from lg_field.radiance.sampling import LINEAR_UNTIL, march, ray_box
from lg_field.radiance.scene import Scene
from lg_field.radiance.stopping import PICTURES, look_at_once, look_front_to_back, round_sizes
from lg_field.radiance.volume import Volume

Appearance = Callable[[Int64[Tensor, " samples"]], Float[Tensor, "samples width"] | None]
"""From the (M,) ray of each sample to its (M, A) appearance; None = the average."""


class Picture(NamedTuple):
    """What rays see."""

    rgb: Tensor
    """(..., 3) in [0, 1], on the background."""
    accumulation: Tensor
    """(..., 1) opacity along the ray."""
    depth: Tensor
    """(..., 1) mean distance along the ray, scene units; the far plane where nothing is hit."""


class Asked(NamedTuple):
    """Rays with the field asked along them."""

    field: Volume
    origins: Tensor
    """(N, 3) scene units."""
    directions: Tensor
    """(N, 3) unit vectors."""
    samples: Samples
    """M packed samples."""
    density: Tensor
    """(M,) there, per scene unit."""
    features: Tensor
    """(M, color_features) there, of fields with a colour layer; else (M, 0)."""
    colors: Tensor | None = None
    """(M, 3) in [0, 1] as their rays see them, of fields without one."""
    dependence: Tensor | None = None
    """(M,) how much those depend on the direction (`encodings.view_dependence`)."""
    weights: Tensor | None = None
    """(M,) `render_weights`, and"""
    opacity: Tensor | None = None
    """(M,) part of the light that each sample absorbs, and"""
    sums: Tensor | None = None
    """(N, 5) weighted `colors`, weights and weighted distances summed along rays, where they are known already."""
    owners: Tensor | None = None
    """(M,) int64 number of the part of a composition that each sample is of; None = of a field."""

    @property
    def positions(self) -> Float[Tensor, "samples 3"]:
        """(M, 3) middles of the samples, where the field was asked."""
        return self.samples.positions(self.origins, self.directions)


def field_samples(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, " rays"],
    far: Float[Tensor, " rays"],
    step: float,
    jitter: bool = False,
    bounds: Float[Tensor, "2 3"] | None = None,
) -> Samples:
    """Packed samples of rays in the field's occupied space.

    Args:
        field: the field.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        near: (N,) first distance.
        far: (N,) last distance.
        step: length of a step, scene units.
        jitter: shift the steps of each ray at random (training).
        bounds: bounded scenes: a box around all occupied voxels at which steps begin; None = the smallest one.
    """
    grid = field.occupancy
    near, far, reach, linear = clipped(field, origins, directions, near, far, bounds)
    block = steps_together(field, step)
    fused = fused_march(field, origins, directions, near, far, step, linear, jitter, block)
    if fused is not None:
        return fused
    near_occupied = grid.is_near_occupied if block > 1 else None
    return march(
        *(origins, directions, near, far, step, field.is_occupied, linear, jitter),
        block=block,
        near_occupied=near_occupied,
        reach=reach,
    )


def steps_together(field: RadianceField, step: float) -> int:
    """How many marching steps are looked at together first, by their middle; 1: there are no such looks."""
    voxel = min(field.grid.cell_size) / field.occupancy.per_axis
    block = 1 + int(2.0 * occupancy.MARGIN * voxel / step - 1e-3)  # the steps are less than the margin from its middle
    return block if block > 2 and not field.frame.contraction else 1


def clipped(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    near: Float[Tensor, " rays"],
    far: Float[Tensor, " rays"],
    bounds: Float[Tensor, "2 3"] | None = None,
) -> tuple[Float[Tensor, " rays"], Float[Tensor, " rays"], float | None, float | None]:
    """Where rays are marched: (N,) first and (N,) last distance, if the scene is bounded within the box around all
    occupied voxels (or `bounds`); what no ray is longer than, in marching coordinates (None: unknown); `linear_until`
    of `march`."""
    if field.frame.contraction:
        return near, far, 2.0 * LINEAR_UNTIL, LINEAR_UNTIL
    box = field.occupancy.bounds() if bounds is None else bounds
    enter, leave = ray_box(origins, directions, box)
    reach = None if origins.is_cpu else field.occupancy.reach() if bounds is None else float((box[1] - box[0]).norm())
    return torch.maximum(near, enter), torch.minimum(far, leave), reach, None


def ask(
    field: RadianceField,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    samples: Samples,
    overlap: float = 0.0,
    least_light: float = 0.0,
    *,
    marched: bool = False,
) -> Asked:
    """Ask a field in the middles of samples.

    Args:
        field: the field.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        samples: packed samples.
        overlap: as in `RadianceField.forward`.
        least_light: rays end where less than this part of the light gets through: samples behind are left out; 0: none.
        marched: the samples are of `field_samples`, which saves finding out again whose they are.
    """

    def look(some: Samples) -> tuple[Tensor, ...]:
        if field.sizes.color_width:
            return field(some.positions(origins, directions), overlap)
        owners = fused_owners(field, origins, directions, some) if marched and overlap == 0.0 else None
        owners = owners or field.owners(some.positions(origins, directions), overlap)
        density, colors, dependence = field.looks(*owners, some.rays, directions)
        return density, colors.new_zeros(len(colors), 0), colors, dependence

    sizes = round_sizes() if least_light > 0.0 else (max(1, len(samples.rays)),)
    fused = None
    if marched and overlap == 0.0:
        fused = fused_rounds(field, origins, directions, samples, sizes, least_light)
    if fused is not None:
        some, density, colors, dependence = fused
        return Asked(field, origins, directions, some, density, colors.new_zeros(len(colors), 0), colors, dependence)
    if torch.is_grad_enabled():
        answer = look_at_once(look, samples, len(origins), least_light)
    else:
        answer = look_front_to_back(in_parts(look, samples_at_once(field)), samples, len(origins), least_light)
    return Asked(field, origins, directions, *answer)


def shade(asked: Asked, appearance: Appearance | None = None) -> Float[Tensor, "samples 3"]:
    """Colours of the samples, [0, 1], as their rays see them."""
    if asked.colors is not None:
        return asked.colors
    rays = asked.samples.rays
    looks = None if appearance is None else appearance(rays)
    return asked.field.rgb(asked.features, asked.directions[rays], looks)


def picture(
    asked: Asked, colors: Float[Tensor, "samples channels"], far: float, background: Float[Tensor, "*#rays 3"] | None
) -> Picture:
    """Composite samples.

    Args:
        asked: rays with their samples.
        colors: (M, 3) of the samples; (M, 0) where only accumulation and depth are wanted.
        far: depth of rays that hit nothing.
        background: (3,) or (N, 3) behind everything; None: nothing, `rgb` is weighted by the accumulation.
    """
    count = len(asked.origins)
    if asked.sums is not None and colors is asked.colors:
        rgb, accumulation, depth = seen_of_sums(asked.sums, far)
    elif asked.weights is None:
        asked_for = asked.density, colors, asked.samples, count, far
        rgb, accumulation, depth = fused_composite(asked.field, *asked_for) or composite(*asked_for)
    else:
        rgb, accumulation, depth = composite_weights(asked.weights, colors, asked.samples, count, far)
    return Picture(rgb if background is None else over(rgb, accumulation, background), accumulation, depth)


@functools.singledispatch
@torch.no_grad()
def ask_view(
    field: Volume,
    scene: Scene,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    least_light: float = PICTURES,
) -> Asked:
    """Ask a field along rays between the scene's near and far plane, a step of the scene apart.

    Other volumes than fields register how they are asked. `least_light` as in `ask`."""
    assert isinstance(field, RadianceField)
    near, far = torch.full_like(origins[:, 0], scene.near), torch.full_like(origins[:, 0], scene.far)
    samples = field_samples(field, origins, directions, near, far, scene.step)
    return ask(field, origins, directions, samples, least_light=least_light, marched=True)


@torch.no_grad()
def show(
    asked: Asked, far: float, background: Float[Tensor, "*#rays 3"], appearance: Appearance | None = None
) -> Picture:
    """What rays see, ready to be looked at: shaded, composited on a background, in [0, 1]."""
    seen = picture(asked, shade(asked, appearance), far, background)
    return seen._replace(rgb=seen.rgb.clamp(0.0, 1.0))


def render_rays(
    field: Volume,
    scene: Scene,
    origins: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    least_light: float = PICTURES,
) -> Picture:
    """Render rays.

    Args:
        field: the field.
        scene: near, far, step and background.
        origins: (N, 3) scene units.
        directions: (N, 3) unit vectors.
        least_light: as in `ask`.
    """
    asked = ask_view(field, scene, origins, directions, least_light)
    return show(asked, scene.far, constant(tuple(scene.background), origins))


def render(
    field: Volume,
    scene: Scene,
    camera: Camera,
    progress: Callable[[int, int], None] | None = None,
    least_light: float = PICTURES,
) -> Picture:
    """Render a picture.

    Args:
        field: the field; it says the device.
        scene: its description.
        camera: from where. It is rendered a piece at a time, within the field's `memory`.
        progress: called with rays done and in all.
        least_light: as in `ask`.

    Returns:
        (height, width, ...) on the CPU.
    """
    look = functools.partial(render_rays, field, scene, least_light=least_light)
    return Picture(*in_pieces(field, scene, camera, look, progress))


def in_pieces(
    field: Volume,
    scene: Scene,
    camera: Camera,
    look: Callable[[Tensor, Tensor], tuple[Tensor, ...]],
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Float[Tensor, "height width _"], ...]:
    """What the rays of a camera show, as many of them at a time as the field's `memory` allows.

    Args:
        field: the field; it says the device.
        scene: its description.
        camera: from where.
        look: (n, 3) origins and (n, 3) directions -> (n, ...) of each of some things.
        progress: called with rays done and in all.

    Returns:
        Each of these as (height, width, ...) on the CPU.
    """
    device = field.cells.device
    origins, directions = (v.view(-1, 3) for v in camera.rays())
    size, parts = rays_at_once(field, scene.step), []
    for first in range(0, len(origins), size):
        some, ahead = (v[first : first + size].to(device) for v in (origins, directions))
        parts.append(tuple(v.cpu() for v in look(some, ahead)))
        if progress is not None:
            progress(min(first + size, len(origins)), len(origins))
    return tuple(torch.cat(values).view(camera.height, camera.width, -1) for values in zip(*parts))
