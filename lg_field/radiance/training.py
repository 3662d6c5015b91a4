"""Training a radiance field from posed images: schedule, losses, and the state that goes on from a checkpoint.

A training loop of one's own needs no nerfstudio:

    field = RadianceField(PartitionGrid((4, 4, 4), (-1.5,) * 3, (1.5,) * 3), RadianceSizes())
    trainer = RadianceTrainer(field, TrainingSettings(split_steps=(200,)))
    optimizer = torch.optim.Adam(field.parameters(), lr=1e-2, eps=1e-15)
    for step in range(2000):
        trainer.begin(step, [optimizer])
        chosen = torch.randint(len(origins), (1024,))
        losses = trainer.losses(trainer.render(origins[chosen], directions[chosen]), colors[chosen])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

`origins` and `directions` are (n, 3) rays in scene units, `colors` (n, 3) or, with alpha, (n, 4). The trainer's
`state`, the field's and the optimizer's state dict together go on as if nothing had happened, to the bit on a CPU.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lg_field.constants import constant
from lg_field.radiance.at_once import Marched, ask_at_once, asks_at_once, march_training
from lg_field.radiance.beside import Answers, Beside, disagreement, haze, points_beside
from lg_field.radiance.color_loss import color_loss
from lg_field.radiance.compositing import Samples, image_on, over
from lg_field.radiance.distillation import imitation_loss
from lg_field.radiance.field import RadianceField
from lg_field.radiance.gradient_scaling import change_of_scaling, scaled_near
from lg_field.radiance.random_state import other_numbers, random_state, restore_random_state
from lg_field.radiance.ray_losses import away, distortion, misplacement
from lg_field.radiance.render import Appearance, Asked, Picture, ask, field_samples, picture, shade
from lg_field.radiance.sampling import LINEAR_UNTIL, to_steps
from lg_field.radiance.seams import border_disagreement
from lg_field.radiance.settings import BACKGROUNDS
from lg_field.radiance.settings import TrainingSettings as TrainingSettings
from lg_field.radiance.training_state import WITHOUT_STATE, bring_back, check_place, of_rows
from lg_field.radiance.training_view import TrainingView as TrainingView

FIRST_STRIDE, LONGEST_STRIDE = 8.0, 16.0
"""Marching steps are this many times as long at first, and at most."""
Rays = tuple[Tensor, Tensor, Tensor, Tensor]
Develop = Callable[[Float[Tensor, "rays 3"], Float[Tensor, "rays 1"]], Float[Tensor, "rays 3"]]
"""From (N, 3) colours, weighted by the (N, 1) accumulation, to the colours that a camera shows."""


class RadianceTrainer:
    """Trains a field step by step: `begin`, `render`, `losses`; the caller's optimizer does the rest."""

    at_once = True  # what is asked beside the samples goes along with them, where that is faster
    coarse_until = 0  # step from which on everything learns; before it, coarse first (`coarse_first.waiting`)

    def __init__(self, field: RadianceField, settings: TrainingSettings, teacher: RadianceField | None = None) -> None:
        """
        Args:
            field: what is trained, in place.
            settings: what happens when.
            teacher: a trained field of the same scene, to be imitated for the first `distill_steps`.

        Raises:
            ValueError: settings that make no sense.
        """
        settings.check()
        self.field, self.settings, self.teacher = field, settings, teacher
        self.step, self.stride = 0, FIRST_STRIDE
        self.error = torch.tensor(float("nan"))
        """Mean squared error of colour of the last step's rays that were compared with photos."""
        self.close = math.inf
        """Distance from a camera within which only that one sees what is there, scene units; inf: not known."""
        self.place: Tensor | None = None
        """(4, 4) float64, from the data to scene space, where that was found; a checkpoint has to have the same."""
        self.resumed = False
        """Whether a checkpoint was loaded, which says `coarse_until`."""
        self.restricted = False
        """Whether only what `restrict` left may hold something."""
        self._random: dict[str, Any] | None = None
        self._lines: list[str] = []

    def restrict(self, hull: Bool[Tensor, "nx ny nz"]) -> None:
        """Let only the voxels of a grid over the frame's box hold something, from now on."""
        self.field.occupancy.restrict_(hull)
        self.restricted = True

    @property
    def step_length(self) -> float:
        """Length of a marching step near the origin, scene units."""
        return self.field.frame.step_length(self.settings.steps_per_scene)

    # -- before a step

    def begin(self, step: int, optimizers: Iterable[torch.optim.Optimizer] = ()) -> bool:
        """Split, prune and look for empty space when it is time; entries that a crop left out of the shared part's grid
        are there again, as zeros. To be called before anything random of the step.

        Args:
            step: number of the step, from 0.
            optimizers: they follow the rows.

        Returns:
            Whether the rows have changed.
        """
        self._go_on()
        settings, field, optimizers = self.settings, self.field, list(optimizers)
        field.complete_lines_(optimizers)
        self.step, cells = step, field.cells
        field.wait_(step, self.coarse_until)
        if step in settings.split_steps:
            self._split(optimizers)
        if step and step % settings.occupancy_interval == 0:
            self.update_occupancy()
        if settings.prune_interval and step >= settings.prune_from and step % settings.prune_interval == 0:
            self._prune(optimizers)
        return field.cells is not cells

    def _split(self, optimizers: list[torch.optim.Optimizer]) -> None:
        self.field.split_(optimizers)

    def _prune(self, optimizers: list[torch.optim.Optimizer]) -> None:
        empty = self.field.occupancy.empty_rows() & ~self.field.frozen
        if bool(empty.any()) and not bool(empty.all()):
            self.field.select_((~empty).nonzero()[:, 0], optimizers)

    def update_occupancy(self) -> None:
        """Look at random voxels and mark which ones hold something."""
        settings, step = self.settings, self.step_length
        self.field.occupancy.update(
            lambda points: self.field.opacity(points, step),
            settings.occupancy_threshold,
            settings.occupancy_points,
            self.field.frozen,
            only_seen=self.restricted or self.step >= settings.unseen_from,
        )

    # -- a step

    def render(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        near: Float[Tensor, " rays"] | None = None,
        far: Float[Tensor, " rays"] | None = None,
        appearance: Appearance | None = None,
        develop: Develop | None = None,
    ) -> TrainingView:
        """Render rays with gradients, at jittered steps. Changes nothing.

        Args:
            origins: (N, 3) scene units.
            directions: (N, 3) unit vectors.
            near: (N,) first distance, None = the near plane.
            far: (N,) last distance, None = the far plane.
            appearance: of the rays' images, for fields that have one.
            develop: what the rays' cameras make of the scene's colours.
        """
        settings = self.settings
        near = torch.full_like(origins[:, 0], settings.near_plane) if near is None else near
        far = torch.full_like(origins[:, 0], settings.far_plane) if far is None else far
        rays = origins, directions, near, far, self.step_length * self.stride
        marched = march_training(self.field, *rays) if self.at_once and asks_at_once(self.field, *rays[:2]) else None
        with torch.no_grad():
            samples = field_samples(self.field, *rays, jitter=True) if marched is None else marched.samples
        background = None
        if settings.background_color != "random":
            background = constant(BACKGROUNDS[settings.background_color], origins)
        if len(samples.rays) == 0:
            return self._nothing(origins, background)
        least_light = 0.0 if self.field.sizes.contraction or self._imitates else settings.least_light
        field, more = self.field, (settings.overlap, least_light)
        beside = answers = None
        if marched is None:
            asked = self._ask(origins, directions, samples, *more)
        else:
            beside = self._beside(marched)
            asked, answers = ask_at_once(field, origins, directions, marched, beside, *more, self._scaled_until)
        colors = shade(asked, appearance)
        seen = self._picture(asked, colors)
        rgb = seen.rgb if develop is None else develop(seen.rgb, seen.accumulation)
        seen = seen._replace(rgb=rgb if background is None else over(rgb, seen.accumulation, background))
        view = TrainingView(seen, asked, self._next_stride(samples), samples, developed=develop is not None)
        if marched is not None and beside is not None and answers is not None:
            view = self._with_answers(view._replace(voxels=marched.voxels), beside, answers)
        return self._with_terms(view, colors)

    def _ask(self, origins: Tensor, directions: Tensor, samples: Samples, *how: float) -> Asked:
        """`render.ask`, with gradients scaled down near the cameras."""
        looks_only = not torch.is_grad_enabled()
        return scaled_near(ask(self.field, origins, directions, samples, *how, marched=looks_only), self._scaled_until)

    def _picture(self, asked: Asked, colors: Tensor) -> Picture:
        return picture(asked, colors, self.settings.far_plane, None)

    @torch.no_grad()
    def look(
        self, rays: Rays, background: Tensor, appearance: Appearance | None, least_light: float
    ) -> tuple[Asked, Picture]:
        """Rays (the first four arguments of `render`) to be looked at, without jitter, and what they see."""
        samples = field_samples(self.field, *rays, self.step_length)
        asked = self._ask(rays[0], rays[1], samples, 0.0, least_light)
        seen = self._picture(asked, shade(asked, appearance))
        return asked, seen._replace(rgb=over(seen.rgb, seen.accumulation, background).clamp(0.0, 1.0))

    def counted(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """A loss beside `losses`, to be added to them: as it is, unless the rows are on many ranks."""
        return loss

    @property
    def _wants_spread(self) -> bool:
        """Whether a step looks at how far apart along rays what they see lies."""
        return self.field.sizes.contraction and self.settings.distortion_loss_mult > 0.0

    @property
    def _scaled_until(self) -> float:
        """Distance from which on gradients are whole, scene units; 0: all are."""
        return min(self.settings.gradient_scaling, self.close) if self.field.sizes.contraction else 0.0

    @property
    def _imitates(self) -> bool:
        """Whether this step learns from the teacher."""
        return self.teacher is not None and self.step < self.settings.distill_steps

    def _nothing(self, origins: Tensor, background: Tensor | None) -> TrainingView:
        """Of rays without a sample: with gradients that are 0."""
        empty = torch.zeros_like(origins[:, :1]) + 0.0 * sum(p.sum() for p in self.field.parameters())
        rgb = empty.expand(-1, 3)
        rgb = rgb if background is None else rgb + background * (1.0 - empty)
        return TrainingView(Picture(rgb, empty, empty + self.settings.far_plane), None, self.stride)

    def _beside(self, marched: Marched) -> Beside:
        """What is asked in one go with the samples."""
        on_borders = self.settings.seam_points if self.settings.seam_loss_mult > 0.0 else 0
        anywhere = self.settings.seam_points if self.field.sizes.contraction else 0
        return points_beside(self.field, marched.unit, marched.samples.rays, on_borders, anywhere)

    def _with_terms(self, view: TrainingView, colors: Tensor) -> TrainingView:
        """The view with what its losses need beside the picture."""
        settings, field, asked = self.settings, self.field, view.asked
        assert asked is not None
        lengths, alone = asked.samples.lengths, view.voxels is None
        if field.sizes.contraction:
            known = asked.opacity
            view = view._replace(opacity=-torch.expm1(-asked.density * lengths) if known is None else known)
        if field.sizes.contraction and alone:
            anywhere = torch.rand(min(settings.seam_points, len(lengths)), 3, device=lengths.device)
            view = view._replace(haze=field.opacity(field.frame.from_unit(anywhere), self.step_length))
        if self._imitates:
            assert self.teacher is not None
            self.teacher.to(lengths.device)
            places = asked.positions, asked.directions[asked.samples.rays]
            difference = imitation_loss(self.teacher, *places, asked.density, colors, lengths)
            view = view._replace(imitation=difference)
        if self._wants_spread:
            view = view._replace(spread=distortion(asked, self._part_of_longest))
        if settings.seam_loss_mult > 0.0 and alone:
            step = self.step_length * view.stride
            places = asked.positions.detach(), asked.directions[asked.samples.rays].detach()
            view = view._replace(seam=border_disagreement(field, *places, step, settings.seam_points))
        return view

    def _with_answers(self, view: TrainingView, beside: Beside, answers: Answers) -> TrainingView:
        """The view with what was said of the points that were asked beside the samples."""
        if self.field.sizes.contraction:
            view = view._replace(haze=haze(beside, answers, self.step_length))
        if self.settings.seam_loss_mult > 0.0:
            view = view._replace(seam=disagreement(beside, answers, self.step_length * view.stride, self.field.backend))
        return view

    def _part_of_longest(self, distance: Tensor) -> Tensor:
        """Distances along rays as parts of the longest ray, in marching coordinates."""
        linear = LINEAR_UNTIL if self.field.sizes.contraction else None
        whole = 2.0 * LINEAR_UNTIL if linear else self.step_length * self.settings.steps_per_scene
        return to_steps(distance, linear) / whole

    def _misplacement(self, asked: Asked, away: Tensor) -> Tensor:
        """`ray_losses.misplacement`."""
        return misplacement(asked, away)

    def _next_stride(self, samples: Samples) -> float:
        """Longer steps while too much space is occupied, so that a training step costs the same throughout."""
        part = len(samples.rays) / self.settings.samples_per_batch
        return min(LONGEST_STRIDE, max(1.0, self.stride * (0.8 + 0.2 * part)))

    def compare(
        self, view: TrainingView, image: Float[Tensor, "rays channels"]
    ) -> tuple[Float[Tensor, "rays 3"], Float[Tensor, "rays 3"]]:
        """Rendered and true colours on the same background, which is drawn anew if it is random.

        Args:
            view: of `render`.
            image: (N, 3) true colours in [0, 1], or (N, 4) with straight alpha.
        """
        rgb, color = view.picture.rgb, self.settings.background_color
        if color != "random":
            return rgb, image_on(image, constant(BACKGROUNDS[color], rgb))
        background = torch.rand_like(rgb)
        return rgb + background * (1.0 - view.picture.accumulation), image_on(image, background)

    def losses(
        self, view: TrainingView, image: Float[Tensor, "rays channels"], depth: Float[Tensor, " rays"] | None = None
    ) -> dict[str, Float[Tensor, ""]]:
        """What the step's optimizers make small, by name; the step counts as learned from.

        Args:
            view, image: as in `compare`.
            depth: (N,) distance of what each ray sees, scene units; 0 where it is not known.

        Returns:
            rgb_loss, the mean error of colour (`color_loss`), of which `error` keeps the square; seam_loss;
            harmonics_loss; in unbounded scenes opacity_loss; of known depths depth_loss. While a teacher is imitated
            imitation_loss alone.
        """
        self._learned(view)
        if view.imitation is not None:
            return {"imitation_loss": view.imitation}
        rgb, truth = self.compare(view, image)
        losses = {"rgb_loss": color_loss(rgb, truth, self.settings.outliers_from if view.developed else 0.0)}
        with torch.no_grad():
            self.error = (rgb - truth).square().mean() if view.developed else losses["rgb_loss"].detach()
        if self.settings.harmonics_loss_mult and view.asked is not None and not self.field.sizes.color_width:
            losses["harmonics_loss"] = self.settings.harmonics_loss_mult * self._dependence(view)
        if depth is not None and self.settings.depth_loss_mult > 0.0 and view.asked is not None:
            apart = self._misplacement(view.asked, away(view.asked, depth, self._part_of_longest))
            losses["depth_loss"] = self.settings.depth_loss_mult * apart / (depth > 0.0).sum().clamp_min(1)
        if view.spread is not None:
            losses["distortion_loss"] = self.settings.distortion_loss_mult * view.spread
        if view.seam is not None:
            losses["seam_loss"] = self.settings.seam_loss_mult * view.seam
        if view.haze is not None and view.opacity is not None:
            losses["opacity_loss"] = self.settings.opacity_loss_mult * (view.opacity.mean() + view.haze.mean())
        return losses

    def _dependence(self, view: TrainingView) -> Tensor:
        """Mean over all samples, of which unseen ones count as 0."""
        assert view.marched is not None and view.asked is not None and view.asked.dependence is not None
        return view.asked.dependence.sum() / len(view.marched.rays)

    def _learned(self, view: TrainingView) -> None:
        """Remember what a step has seen, and how long the next one's marching steps are."""
        self.stride = view.stride
        if view.voxels is not None:
            self.field.occupancy.mark_voxels_seen(view.voxels)
        elif view.asked is not None and view.marched is not None:
            unit = self.field.frame.to_unit(
                view.marched.positions(view.asked.origins.detach(), view.asked.directions.detach())
            )
            self.field.occupancy.mark_seen(unit, self.field.rows_of_unit(unit))

    # -- state

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, beside the field's and the optimizers' own state: plain numbers
        and tensors. Taken between two steps."""
        grid, device = self.field.occupancy, self.field.cells.device
        return {
            **of_rows(grid),
            **({} if self.place is None else {"place": self.place}),
            "coarse_until": self.coarse_until,
            "stride": self.stride,
            "random": random_state(device),
            "gradient_scaling": self._scaled_until,
        }

    def load_state(self, state: dict[str, Any] | None, expected: bool = True) -> None:
        """Go on from a state; the field has its rows already. Global random states follow when the next step begins.

        Args:
            state: of `state`; None: there is none, what was seen and the stride are estimated.
            expected: whether it is worth a warning that there is none.

        Raises:
            ValueError: of another table, or of a scene that is placed otherwise.
        """
        self.stride, self._random, self._lines = FIRST_STRIDE, None, []
        self.coarse_until, self.resumed = int((state or {}).get("coarse_until", 0)), True
        if state is None:
            self._lines = [WITHOUT_STATE] if expected else []
            return
        grid = self.field.occupancy
        check_place(state.get("place"), self.place, self.close < math.inf)
        bring_back(state, grid)
        self.stride, self._random = float(state["stride"]), state["random"]
        self._lines = change_of_scaling(state.get("gradient_scaling"), self._scaled_until)

    def _go_on(self) -> None:
        """What a loaded state asks for when the first step after it begins."""
        if self._random is not None:
            device = self.field.cells.device
            restore_random_state(self._random, device)
            self._lines += other_numbers(self._random, device)
        for line in self._lines:
            warnings.warn(line, stacklevel=3)
        self._random, self._lines = None, []
