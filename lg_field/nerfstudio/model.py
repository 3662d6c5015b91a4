"""The nerfstudio model: an adapter between nerfstudio's rays and dictionaries and the core's trainer and renderer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.cameras.cameras import Cameras
from nerfstudio.cameras.rays import RayBundle
from nerfstudio.data.scene_box import OrientedBox
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.model_components.renderers import RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor
from torch.nn import Parameter

from lg_field.errors import UserError
from lg_field.nerfstudio.corrections import (
    PARAMETERS,
    PoseConfig,
    PoseOptimizer,
    corrected_rays,
    fitted_rays,
    fitting,
    of_other_photos,
    parameter_groups,
    photos_of,
    say_corrections,
)
from lg_field.nerfstudio.dataset import DEPTH
from lg_field.nerfstudio.field import LGField
from lg_field.nerfstudio.lpips import lpips
from lg_field.nerfstudio.teacher import load_teacher
from lg_field.quality import mean_squared_error, psnr
from lg_field.radiance.compositing import image_on, straight_alpha
from lg_field.radiance.diagnosis import collapse
from lg_field.radiance.exposure import Exposure
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.memory_bound import MEMORY, rays_at_once
from lg_field.radiance.placement import rays_begin
from lg_field.radiance.render import Asked, Picture
from lg_field.radiance.stopping import PICTURES
from lg_field.radiance.tcnn import Implementation, encoder
from lg_field.radiance.training import RadianceTrainer, TrainingSettings, TrainingView
from lg_field.radiance.views import VIEWPOINTS
from lg_field.training.corrections import EXPOSURE_PENALTY, developed
from lg_field.training.few_photos import coarse_until
from lg_field.training.notices import say_without_effect
from lg_field.training.optimizing import split_by_rate
from lg_field.training.place import Space, first_grid, goes_on
from lg_field.training.pose_fitting import ShowPhotos, shown_by
from lg_field.training.scores import image_scores

LOOKS = (500, 1000, 2000, 4000, 8000)
"""Steps after which a failed run is said to have failed, beside the last."""
NOT_COARSE = "coarse_first does nothing where a scene is extended or learns from a teacher first."
OLDER = {"exposure": False, "coarse_first": "never", "outliers_from": 0.0}
"""What entries meant that a config.yml from before there was a choice does not have."""
VIEW = "training view"
"""Key of a training step's `TrainingView` among the model's outputs."""


@dataclass(frozen=True)
class SizesOptions(RadianceSizes):
    """`RadianceSizes` as options of ns-train: without those that follow from the data."""

    contraction: Annotated[bool, tyro.conf.Suppress] = False
    frame: Annotated[tuple[float, ...], tyro.conf.Suppress] = ()


@dataclass
class LGModelConfig(ModelConfig, TrainingSettings):
    """Local-Global radiance field."""

    _target: type = field(default_factory=lambda: LGModel)
    """target class to instantiate"""
    enable_collider: bool = False
    """The marcher clips rays itself."""
    sizes: Annotated[SizesOptions, tyro.conf.arg(name="")] = field(default_factory=SizesOptions)
    """Sizes of the field."""
    implementation: Implementation = "auto"
    """What evaluates the shared part's grid: torch, tiny-cuda-nn (tcnn) where it is installed and there is a GPU, or
    auto: tcnn where it can be. The parameters are the same."""
    backend: Literal["auto", "cpu", "triton", "torch", "reference"] = "auto"
    """What computes everything else: kernels for the CPU, Triton kernels for a CUDA GPU, torch, the slow reference, or
    auto: the fastest that can. The parameters are the same."""
    rows_on: Literal["device", "host", "disk"] = "device"
    """Where the rows of cells and their optimizers' state are while training, if not on the device: in host memory, or
    in files. A step gathers the rows that its rays touch; the result is the same."""
    rows_folder: Path = Path()
    """Folder for these files, which have no names and end with the run. Its disk needs room for three times the rows'
    numbers (weights and two moments), and up to a third more while cells are pruned."""
    counts: tuple[int, int, int] | None = None
    """Cells per axis at the start; None = about 64, nearly cubic."""
    space: Space = "auto"
    """Bounded: the scene box is all there is. Contracted: the grid divides contracted space. Auto: by the data."""
    render_least_light: float = PICTURES
    """Rays of renders end where less than this part of the light gets through; 0: where the scene ends."""
    render_memory: float = MEMORY
    """GB that the samples of a render may take at a time."""
    render_background_color: Literal["auto", "white", "black"] = "auto"
    """Background of renders and metrics. auto: white, or, of photos that show all there is (no alpha, no masks), their
    mean colour, which is nearer to what none of them shows. `rgba` outputs are transparent whatever it is."""
    camera_optimizer: PoseConfig = field(default_factory=PoseConfig)
    """SO3xR3: poses of the training cameras are improved, a few cameras before some steps; auto: where a trial shows
    that they are off. Penalties say nothing here: how far off poses are, about, is known (`training.camera_fit`)."""
    exposure: bool | Literal["auto"] = "auto"
    """An affine change of colour for each training photo; the scene has the colours of the average one. auto: where
    opaque photos differ in exposure."""
    exposure_loss_mult: float = EXPOSURE_PENALTY
    """Weight of the mean square of these changes."""
    teacher: Path | None = None
    """Scene file (`lg-field pack`) of a field to learn from first: KiloNeRF's recipe for per-partition networks."""
    compute_lpips: bool = False
    """LPIPS among the metrics. Needs torchvision's AlexNet weights on disk; never downloads anything."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a config.yml: entries that it lacks have their defaults, but exposures and poses that it does not name
        were not corrected, and nothing was learned coarse first; `shape` is what version 1 called `sizes`."""
        state = {"sizes" if name == "shape" else name: value for name, value in state.items()}
        older = OLDER | {"camera_optimizer": PoseConfig(mode="off")}
        self.__dict__.update(LGModelConfig().__dict__ | older | state)


class LGModel(Model):
    """Local-Global radiance field in nerfstudio."""

    config: LGModelConfig
    field: LGField
    near: Tensor
    """Distance at which rays start: the near plane, or farther where there is nothing before."""
    viewpoints: Tensor
    """(VIEWPOINTS, 3) places of training cameras that are far apart."""
    backdrop: Tensor
    """(3,) what `auto` is as a background."""
    last_picture: tuple[Cameras, Tensor] | None = None
    """The last whole picture, and what it was rendered from."""
    last_batch: Tensor | None = None
    """Of the last training step: mean squared error, mean accumulation and mean alpha of its pixels."""
    extras: Callable[[Asked, Picture], dict[str, Tensor]] | None = None
    """What an open viewer shows beside the usual outputs, of rendered rays."""
    whole_rays: bool = False
    """Whether an open viewer shows something that needs rays asked to their end."""

    def populate_modules(self) -> None:
        """Build the field and its trainer; no metric that would download weights."""
        super().populate_modules()
        config = self.config
        metadata = self.kwargs.get("metadata", {})
        contracted = goes_on(config.space, bool(metadata.get("bounded", False)))
        sizes = RadianceSizes(**vars(replace(config.sizes, contraction=contracted)))
        table = RadianceField(first_grid(self.scene_box.aabb, contracted, counts=config.counts), sizes)
        table.implementation, table.backend = config.implementation, config.backend
        table.memory = config.render_memory
        teacher = None if config.teacher is None else load_teacher(config.teacher)
        try:
            if table.hash_grid is not None:
                encoder(table.hash_grid, table.implementation, torch.device(self.kwargs.get("device", "cpu")))
            self.trainer = self.make_trainer(table, teacher)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.field = LGField(self.trainer.field, self.num_train_data)
        self.camera_optimizer = PoseOptimizer(config.camera_optimizer, self.num_train_data, "cpu")
        differ = bool(metadata.get("exposures_differ", False)) if config.exposure == "auto" else config.exposure
        self.exposure = Exposure(self.num_train_data) if differ else None
        if metadata.get("hull") is not None and not contracted:
            self.trainer.restrict(metadata["hull"])
        near, self.trainer.close = float(metadata.get("near", 0.0)), float(metadata.get("close", math.inf))
        self.trainer.place = metadata.get("place")
        self.register_buffer("near", torch.tensor(rays_begin(config.near_plane, near, self.trainer.close)))
        self.register_buffer("backdrop", metadata.get("backdrop", torch.ones(3)).clone())
        self.register_buffer("viewpoints", metadata.get("viewpoints", torch.zeros(VIEWPOINTS, 3)))

    def make_trainer(self, table: RadianceField, teacher: RadianceField | None) -> RadianceTrainer:
        """What trains the table."""
        return RadianceTrainer(table, self.config, teacher)

    @property
    def table(self) -> RadianceField:
        """The field's rows and shared part."""
        return self.field.table

    @property
    def step_length(self) -> float:
        """Length of a marching step in scene units."""
        return self.table.frame.step_length(self.config.steps_per_scene)

    # -- training

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """`fields`: all weights; `grids`: the feature grids, which take a larger rate."""
        fields, grids = split_by_rate(self.table, self.field)
        groups = {"fields": fields, "grids": grids} if grids else {"fields": fields}
        return groups | parameter_groups(self.camera_optimizer, self.exposure)

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """Before each step: split, prune, look for empty space and fit cameras when it is time."""
        say_without_effect(self.config, self.table.sizes.contraction)
        show, background = self._shown(self.exposure), self._plain_background()
        fit = fitting(self.camera_optimizer, attributes, show, background, lambda: self.trainer.coarse_until)
        self._learn_coarse_first(getattr(getattr(attributes.trainer, "config", None), "max_num_iterations", 0))

        def begin(step: int) -> None:
            optimizers = attributes.optimizers
            self.trainer.begin(step, list(optimizers.optimizers.values()) if optimizers else [])
            if optimizers:
                optimizers.parameters = self.get_param_groups()
            fit(step)

        def look(step: int) -> None:
            if step + 1 in LOOKS:
                self._look(step)

        where = TrainingCallbackLocation
        return [
            TrainingCallback([where.BEFORE_TRAIN_ITERATION], begin, update_every_num_iters=1),
            TrainingCallback([where.AFTER_TRAIN_ITERATION], look, update_every_num_iters=1),
            TrainingCallback([where.AFTER_TRAIN], self._look),
            TrainingCallback([where.AFTER_TRAIN], lambda step: say_corrections(self.camera_optimizer, self.exposure)),
        ]

    def _learn_coarse_first(self, steps: int) -> None:
        """Let grids begin one after the other in a run of so many steps where photos are few, and say so."""
        if self.trainer.resumed:
            return
        if self.table.extending or self.config.teacher is not None:
            line = NOT_COARSE if self.config.coarse_first == "always" else None
        else:
            few = self.kwargs.get("metadata", {}).get("few_photos")
            self.trainer.coarse_until, line = coarse_until(self.config, few, steps)
        if line is not None:
            CONSOLE.print(line)

    def _look(self, step: int) -> None:
        """Say so if the run has failed."""
        if self.last_batch is not None:
            mse, opacity, wanted = self.last_batch.tolist()
            psnr = -10.0 * math.log10(max(mse, 1e-10))
            line = collapse(step + 1, psnr, self.table.num_rows, self.table.grid.num_cells, opacity, wanted)
            if line is not None:
                CONSOLE.print(f"[yellow]{line}[/yellow]")

    # -- rendering

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Any]:  # type: ignore[override]
        """Render rays.

        Returns:
            rgb (N, 3), accumulation (N, 1), depth (N, 1) along the ray in scene units. In training rgb is without
            background when that is random, as nerfstudio has it, and `VIEW` holds what the losses need.
        """
        size = len(ray_bundle) if self.training else rays_at_once(self.table, self.step_length)
        if len(ray_bundle) > size:
            parts = [self.get_outputs(ray_bundle[k : k + size]) for k in range(0, len(ray_bundle), size)]
            return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        origins, directions = ray_bundle.origins, ray_bundle.directions
        near, far = self._reach(ray_bundle)
        appearance = self.field.appearance_of(ray_bundle.camera_indices)
        if self.training:
            origins, directions = corrected_rays(self.camera_optimizer, ray_bundle)
            develop = developed(self.exposure, photos_of(ray_bundle))
            view = self.trainer.render(origins, directions, near, far, appearance, develop)
            return view.picture._asdict() | {VIEW: view}
        least_light = 0.0 if self.whole_rays else self.config.render_least_light
        rays = (origins, directions, near, far)
        asked, shown = self.trainer.look(rays, self._background(origins), appearance, least_light)
        return shown._asdict() | ({} if self.extras is None else self.extras(asked, shown))

    def _reach(self, ray_bundle: RayBundle) -> tuple[Tensor, Tensor]:
        """(N,) first and last distance: between the planes, and the bundle's `nears` and `fars` if it has them."""
        near = torch.zeros_like(ray_bundle.origins[:, 0]) + self.near
        far = torch.full_like(near, self.config.far_plane)
        if ray_bundle.nears is not None and ray_bundle.fars is not None:
            near, far = torch.maximum(near, ray_bundle.nears[:, 0]), torch.minimum(far, ray_bundle.fars[:, 0])
        return near, far

    def get_outputs_for_camera(self, camera: Cameras, obb_box: OrientedBox | None = None) -> dict[str, Tensor]:
        """nerfstudio's; metrics of these outputs know which camera they are of."""
        outputs: dict[str, Tensor] = super().get_outputs_for_camera(camera, obb_box)
        self.last_picture = camera, outputs["rgb"]
        return outputs

    def render_fitted(self, camera: Cameras, image: Tensor, counted: Tensor | None = None) -> Tensor:
        """(height, width, 3) picture from where a photo says that its camera is, whatever its pose is worth; arguments
        as in `fitted_rays`."""
        rays = fitted_rays(camera, image, counted, self._shown(None), self._plain_background())
        picture: Tensor = self.get_outputs_for_camera_ray_bundle(rays)["rgb"]
        return picture

    def _shown(self, exposure: Exposure | None) -> ShowPhotos:
        """How cameras of photos see the scene; None: in the colours of the average photo."""
        looks = self.field.appearance_of
        return shown_by(self.trainer, float(self.near), self._plain_background(), exposure, looks)

    def _plain_background(self) -> Tensor:
        return self._background(torch.zeros(1, 3, device=self.backdrop.device))[0]

    def _background(self, rgb: Tensor) -> Tensor:
        """(..., 3) background of renders; nerfstudio's crop box may set another one."""
        color: Any = self.config.render_background_color
        color = self.backdrop if color == "auto" else color
        return RGBRenderer.get_background_color(color, rgb.shape, rgb.device)

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """(..., 4) straight-alpha image of rendered outputs; alpha is the accumulation."""
        rgb = outputs[output_name]
        return straight_alpha(rgb, outputs["accumulation"], self._background(rgb))

    # -- losses and metrics

    def get_metrics_dict(self, outputs: dict[str, Any], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch and the size of the table."""
        rgb, image = self._against(outputs, batch)
        error = mean_squared_error(rgb.detach(), image)
        if self.training:
            given = batch["image"]
            alpha = given[..., 3].float().mean() if given.shape[-1] == 4 else torch.ones(())
            opacity = outputs["accumulation"].detach().mean()
            self.last_batch = torch.stack([opacity.new_tensor(error), opacity, alpha.to(opacity)])
        return {
            "psnr": torch.tensor(psnr(error)),
            "kept_cells": torch.tensor(float(self.table.num_rows)),
        }

    def get_loss_dict(
        self, outputs: dict[str, Any], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """In training `RadianceTrainer.losses`; else the mean squared colour error."""
        if self.training:
            view: TrainingView = outputs[VIEW]
            device = view.picture.rgb.device
            depth = batch[DEPTH][:, 0].to(device) if DEPTH in batch else None
            losses = self.trainer.losses(view, batch["image"].to(device), depth)
            others: dict[str, Tensor] = {}
            if self.exposure is not None:
                others["exposure_loss"] = self.config.exposure_loss_mult * self.exposure.penalty()
            return losses | {name: self.trainer.counted(loss) for name, loss in others.items()}
        rgb, image = self._against(outputs, batch)
        return {"rgb_loss": (rgb - image).square().mean()}

    def _against(self, outputs: dict[str, Any], batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Rendered and true colours (..., 3) on the same background."""
        rgb = outputs["rgb"]
        image = batch["image"].to(rgb.device)
        if self.training:
            return self.trainer.compare(outputs[VIEW], image)
        return rgb, image_on(image, self._background(rgb))

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """`image_scores` of a rendered image (and LPIPS on request), and pictures: truth beside render, accumulation.
        Where poses are improved `psnr_camera_fitted`, too, of the outputs of the last `get_outputs_for_camera`."""
        rgb, image = self._against(outputs, batch)
        alpha = batch["image"][..., 3].to(rgb) if batch["image"].shape[-1] == 4 else None
        counted = batch["mask"][..., 0].to(rgb.device).bool() if "mask" in batch else None
        metrics = image_scores(rgb, image, alpha, counted)
        last = self.last_picture if self.camera_optimizer.poses is not None else None
        if last is not None and last[1] is outputs["rgb"]:
            fitted = self.render_fitted(last[0], batch["image"], counted)
            metrics["psnr_camera_fitted"] = image_scores(fitted, image, alpha, counted)["psnr"]
        if self.config.compute_lpips:
            metrics["lpips"] = lpips(*(x.moveaxis(-1, 0)[None] for x in (rgb, image)))
        images = {"img": torch.cat([image, rgb], dim=1), "accumulation": outputs["accumulation"].expand(-1, -1, 3)}
        return metrics, images

    # -- checkpoints

    def get_extra_state(self) -> dict[str, Any]:
        """The trainer's state: a run resumed with the same seed, by which nerfstudio orders the images, goes on as if
        nothing had happened."""
        return {"training": self.trainer.state()}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """`load_state_dict` gives it to the trainer when the rows are there."""

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint with any number of rows; damage and misfits end in a clear line, not random rows."""
        expected = "_extra_state" not in state_dict
        own = {
            "near": torch.tensor(self.config.near_plane),
            "backdrop": torch.ones(3),
            "viewpoints": torch.zeros_like(self.viewpoints),
        }
        own |= {name: value for name, value in self.state_dict().items() if name.startswith(PARAMETERS)}
        state = {"_extra_state": {}} | own | of_other_photos(state_dict, own)
        try:
            result = super().load_state_dict(state, strict, assign)
            self.trainer.load_state(state["_extra_state"].get("training"), expected)
        except ValueError as error:
            raise UserError(str(error)) from error
        return result
