"""The nerfstudio model: marching, compositing, losses, and training from coarse cells to fine ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.cameras.rays import Frustums, RayBundle, RaySamples
from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.field_components.field_heads import FieldHeadNames
from nerfstudio.model_components.renderers import RGBRenderer
from nerfstudio.models.base_model import Model, ModelConfig
from torch import Tensor
from torch.nn import Parameter
from torchmetrics.functional.image import structural_similarity_index_measure

from lg_field.errors import UserError
from lg_field.files import load
from lg_field.nerfstudio.field import LGField
from lg_field.nerfstudio.lpips import lpips
from lg_field.nerfstudio.panel import PanelControl
from lg_field.radiance.compositing import Samples, composite
from lg_field.radiance.distillation import imitation_loss
from lg_field.radiance.field import RadianceField, RadianceSizes
from lg_field.radiance.render import field_samples
from lg_field.radiance.sampling import step_length
from lg_field.radiance.seams import border_disagreement
from lg_field.radiance.tcnn import Implementation, encoder
from lg_field.space.partition import PartitionGrid
from lg_field.table.cell_table import CheckpointError
from lg_field.viewer.outputs import Sampled


@dataclass
class LGModelConfig(ModelConfig):
    """Local-Global radiance field."""

    _target: type = field(default_factory=lambda: LGModel)
    """target class to instantiate"""
    enable_collider: bool = False
    """The marcher clips rays itself."""
    sizes: Annotated[RadianceSizes, tyro.conf.arg(name="")] = field(default_factory=RadianceSizes)
    """Sizes of the field."""
    implementation: Implementation = "auto"
    """What evaluates the shared part's grid: torch, tiny-cuda-nn (tcnn) where it is installed and there is a GPU, or
    auto: tcnn where it can be. The parameters are the same."""
    counts: tuple[int, int, int] = (4, 4, 4)
    """Cells per axis at the start."""
    split_steps: tuple[int, ...] = (500,)
    """Steps at which every kept cell is cut into 8."""
    space: Literal["auto", "bounded", "contracted"] = "auto"
    """Bounded: the scene box is all there is. Contracted: the grid divides contracted space. Auto: by the data."""
    steps_per_scene: int = 384
    """Marching steps along the diagonal of the scene box."""
    samples_per_batch: int = 2**18
    """Samples a training step aims for: steps along rays are longer while more space is occupied."""
    near_plane: float = 0.05
    """Distance at which rays start."""
    far_plane: float = 1000.0
    """Distance at which rays end."""
    background_color: Literal["random", "white", "black"] = "random"
    """Background in training; random works with images that have alpha and keeps the empty space empty."""
    render_background_color: Literal["white", "black"] = "white"
    """Background of renders and metrics. `rgba` outputs are transparent whatever it is."""
    overlap: float = 0.0
    """Training samples this part of a cell from a border are given to either neighbour (the paper's overlap)."""
    occupancy_threshold: float = 0.005
    """A voxel is empty if a marching step through it absorbs less than this."""
    occupancy_points: int = 2**16
    """Voxels looked at in each occupancy update."""
    occupancy_interval: int = 16
    """Steps between occupancy updates."""
    prune_interval: int = 100
    """Steps between prunings of empty cells; 0 = never."""
    prune_from: int = 100
    """First step that may prune."""
    unseen_from: int = 150
    """Step from which space that no training ray has passed through counts as empty."""
    opacity_loss_mult: float = 0.005
    """Contracted scenes: weight of the mean opacity of a step's samples and of random points. Unneeded haze fades, also
    where no ray goes, and its cells are pruned."""
    teacher: Path | None = None
    """Scene file (`lg-field pack`) of a field to learn from first: KiloNeRF's recipe for per-partition networks."""
    distill_steps: int = 2000
    """Steps that imitate the teacher before the images are learned from."""
    seam_loss_mult: float = 0.05
    """Weight of the disagreement of neighbouring cells on their common borders; 0 = off."""
    seam_points: int = 512
    """Points on borders that a step looks at."""
    harmonics_loss_mult: float = 0.0
    """Weight of the mean square of the colours' harmonics above degree 0."""
    use_hull: bool = True
    compute_lpips: bool = False
    """LPIPS among the metrics. Needs torchvision's AlexNet weights on disk; never downloads anything."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a config.yml: entries that it lacks have their defaults; `shape` is what version 1 called `sizes`."""
        state = {"sizes" if name == "shape" else name: value for name, value in state.items()}
        self.__dict__.update(LGModelConfig().__dict__ | state)


class LGModel(Model):
    """Local-Global radiance field in nerfstudio."""

    config: LGModelConfig
    field: LGField

    def populate_modules(self) -> None:
        """Build the field and the renderers; no metric that would download weights."""
        super().populate_modules()
        contracted = self.config.space == "contracted"
        if self.config.space == "auto":
            contracted = not self.kwargs.get("metadata", {}).get("bounded", False)
        sizes = replace(self.config.sizes, contraction=contracted)
        lower, upper = ([-2.0] * 3, [2.0] * 3) if contracted else self.scene_box.aabb.tolist()
        grid = PartitionGrid(self.config.counts, tuple(lower), tuple(upper))
        table = RadianceField(grid, sizes)
        table.implementation = self.config.implementation
        if table.hash_grid is not None:
            try:
                encoder(table.hash_grid, table.implementation, torch.device(self.kwargs.get("device", "cpu")))
            except ValueError as error:
                raise UserError(str(error)) from error
        hull = self.kwargs.get("metadata", {}).get("hull")
        self.hull = hull is not None and self.config.use_hull
        if self.hull:
            table.restrict_(hull)
        self.near_plane = max(self.config.near_plane, self.kwargs.get("metadata", {}).get("near", 0.0))
        self.field = LGField(table, self.num_train_data, self.config.overlap)
        self.renderer_rgb = RGBRenderer(background_color=self.config.background_color)
        self.stride, self.step = 8.0, 0
        self.viewer_control = PanelControl()
        self.teachers: list[RadianceField] = []
        """The teacher, if there is one; in a list, so that it is no part of the model's parameters."""
        if self.config.teacher is not None:
            self.teachers = [load_teacher(self.config.teacher)]

    @property
    def table(self) -> RadianceField:
        """The field's rows and shared part."""
        return self.field.table

    @property
    def step_length(self) -> float:
        """Length of a marching step in scene units."""
        return step_length(self.table.origin, self.config.steps_per_scene)

    # -- training

    def get_param_groups(self) -> dict[str, list[Parameter]]:
        """`fields`: all weights; `grids`: the feature grids, which take a larger rate."""
        grids = [p for p in (self.table.features, self.table.hash_table) if p is not None and p.numel()]
        fields = [p for p in self.field.parameters() if p.numel() and not any(p is grid for grid in grids)]
        return {"fields": fields, "grids": grids} if grids else {"fields": fields}

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """Before each step: split, prune and look for empty space when it is time."""

        def update(step: int) -> None:
            optimizers = attributes.optimizers
            self.update_table(step, list(optimizers.optimizers.values()) if optimizers else [])
            if optimizers:
                optimizers.parameters = self.get_param_groups()

        return [TrainingCallback([TrainingCallbackLocation.BEFORE_TRAIN_ITERATION], update, update_every_num_iters=1)]

    def update_table(self, step: int, optimizers: list[torch.optim.Optimizer]) -> None:
        """Split, prune and update occupancy as the schedule says."""
        config, table = self.config, self.table
        self.step, cells = step, table.cells
        if step in config.split_steps:
            table.split_(optimizers)
        if step and step % config.occupancy_interval == 0:
            table.update_occupancy(
                self.step_length,
                config.occupancy_threshold,
                config.occupancy_points,
                only_seen=self.hull or step >= config.unseen_from,
            )
        if config.prune_interval and step >= config.prune_from and step % config.prune_interval == 0:
            empty = table.empty_rows()
            if bool(empty.any()) and not bool(empty.all()):
                table.select_((~empty).nonzero()[:, 0], optimizers)
        if table.cells is not cells:
            self.viewer_control.rows_changed(table)

    # -- rendering

    def get_outputs(self, ray_bundle: RayBundle) -> dict[str, Tensor]:  # type: ignore[override]
        """Render rays.

        Returns:
            rgb (N, 3), accumulation (N, 1), depth (N, 1) along the ray in scene units. In training rgb is without
            background when that is random, as nerfstudio has it.
        """
        num_rays = len(ray_bundle)
        samples = self.sample(ray_bundle)
        if len(samples.rays) == 0:
            zero = 0.0 * sum(p.sum() for p in self.parameters()) if self.training else 0.0
            empty = torch.zeros(num_rays, 1, device=ray_bundle.origins.device) + zero
            result = self._blend(empty.expand(-1, 3), empty, empty + self.config.far_plane)
            return result | ({} if self.training else self._for_viewer(ray_bundle, samples, None, result))
        ray_samples = to_ray_samples(ray_bundle, samples)
        outputs = self.field(ray_samples)
        density, colors = outputs[FieldHeadNames.DENSITY][:, 0], outputs[FieldHeadNames.RGB]
        rgb, accumulation, depth = composite(density, colors, samples, num_rays, self.config.far_plane)
        result = self._blend(rgb, accumulation, depth)
        if self.training:
            self._adapt_stride(len(samples.rays))
            positions, directions = ray_samples.frustums.get_positions(), ray_samples.frustums.directions
            lengths = samples.ends - samples.starts
            self.table.mark_seen(positions)
            if self.config.harmonics_loss_mult and not self.table.sizes.color_width:
                features = self.field.last_features.unflatten(1, (3, 9))[..., 1:]
                result["harmonics"] = features.square().mean()
            result["opacity"] = -torch.expm1(-density * lengths)
            if self.table.sizes.contraction:
                anywhere = self.table.from_unit(torch.rand_like(positions[: self.config.seam_points]))
                result["haze"] = self.table.opacity(anywhere, self.step_length)
            for teacher in self.teachers if self.step < self.config.distill_steps else ():
                teacher.to(positions.device)
                result["imitation"] = imitation_loss(teacher, positions, directions, density, colors, lengths)
            if self.config.seam_loss_mult > 0.0:
                step, count = self.step_length * self.stride, self.config.seam_points
                result["seam"] = border_disagreement(self.table, positions, directions, step, count)
            return result
        return result | self._for_viewer(ray_bundle, samples, density, result)

    def _for_viewer(
        self, ray_bundle: RayBundle, samples: Samples, density: Tensor | None, shown: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """What an open viewer can show beside the usual outputs; nothing where none is open."""
        if self.viewer_control.subject is None:
            return {}
        origins, directions = ray_bundle.origins, ray_bundle.directions
        positions = torch.addcmul(origins[samples.rays], directions[samples.rays], samples.middles[:, None])
        density = positions[:, 0] if density is None else density
        rays = Sampled(origins, directions, samples, positions, density)
        return self.viewer_control.outputs(self.table, rays, shown, self.step_length)

    @torch.no_grad()
    def sample(self, ray_bundle: RayBundle) -> Samples:
        """Packed samples in occupied space, between the bundle's `nears` and `fars` if it has them."""
        config, origins = self.config, ray_bundle.origins
        near = torch.full_like(origins[:, 0], self.near_plane)
        far = torch.full_like(near, config.far_plane)
        if ray_bundle.nears is not None and ray_bundle.fars is not None:
            near, far = torch.maximum(near, ray_bundle.nears[:, 0]), torch.minimum(far, ray_bundle.fars[:, 0])
        step = self.step_length * (self.stride if self.training else 1.0)
        return field_samples(self.table, origins, ray_bundle.directions, near, far, step, jitter=self.training)

    def _adapt_stride(self, count: int) -> None:
        """Longer steps while too much space is occupied, so that a training step costs the same throughout."""
        self.stride = min(16.0, max(1.0, self.stride * (0.8 + 0.2 * count / self.config.samples_per_batch)))

    def _blend(self, rgb: Tensor, accumulation: Tensor, depth: Tensor) -> dict[str, Tensor]:
        color = self.config.background_color if self.training else self.config.render_background_color
        if color != "random":
            background = RGBRenderer.get_background_color(color, rgb.shape, rgb.device)
            rgb = rgb + background * (1.0 - accumulation)
        if not self.training:
            rgb = rgb.clamp(0.0, 1.0)
        return {"rgb": rgb, "accumulation": accumulation, "depth": depth}

    def get_rgba_image(self, outputs: dict[str, Tensor], output_name: str = "rgb") -> Tensor:
        """(..., 4) straight-alpha image of rendered outputs; alpha is the accumulation."""
        rgb, alpha = outputs[output_name], outputs["accumulation"]
        color = self.config.background_color if self.training else self.config.render_background_color
        if color != "random":
            rgb = rgb - RGBRenderer.get_background_color(color, rgb.shape, rgb.device) * (1.0 - alpha)
        return torch.cat([(rgb / alpha.clamp_min(1e-3)).clamp(0.0, 1.0), alpha], dim=-1)

    # -- losses and metrics

    def get_metrics_dict(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> dict[str, Tensor]:
        """PSNR of the batch and the size of the table."""
        rgb, image = self._against(outputs, batch)
        mse = (rgb - image).square().mean()
        return {
            "psnr": -10.0 * torch.log10(mse.detach().clamp_min(1e-10)),
            "kept_cells": torch.tensor(float(self.table.num_rows)),
        }

    def get_loss_dict(
        self, outputs: dict[str, Tensor], batch: dict[str, Any], metrics_dict: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Mean squared colour error; in contracted scenes also the samples' mean opacity. While a teacher is imitated,
        the difference from it alone."""
        if "imitation" in outputs:
            return {"imitation_loss": outputs["imitation"]}
        rgb, image = self._against(outputs, batch)
        losses = {"rgb_loss": (rgb - image).square().mean()}
        if "seam" in outputs:
            losses["seam_loss"] = self.config.seam_loss_mult * outputs["seam"]
        if "harmonics" in outputs:
            losses["harmonics_loss"] = self.config.harmonics_loss_mult * outputs["harmonics"]
        if self.table.sizes.contraction and "opacity" in outputs:
            opacity = outputs["opacity"].mean() + outputs["haze"].mean()
            losses["opacity_loss"] = self.config.opacity_loss_mult * opacity
        return losses

    def _against(self, outputs: dict[str, Tensor], batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Rendered and true colours (N, 3) on the same background."""
        image = batch["image"].to(outputs["rgb"].device)
        if not self.training:
            background: Any = self.config.render_background_color
            return outputs["rgb"], self.renderer_rgb.blend_background(image, background)
        return self.renderer_rgb.blend_background_for_loss_computation(
            pred_image=outputs["rgb"], pred_accumulation=outputs["accumulation"], gt_image=image
        )

    def get_image_metrics_and_images(
        self, outputs: dict[str, Tensor], batch: dict[str, Any]
    ) -> tuple[dict[str, float], dict[str, Tensor]]:
        """PSNR and SSIM (LPIPS on request) of a rendered image, and pictures: truth beside render, accumulation."""
        rgb, image = self._against(outputs, batch)
        pred, true = (x.moveaxis(-1, 0)[None] for x in (rgb, image))
        mse = (pred - true).square().mean().clamp_min(1e-10)
        metrics = {
            "psnr": float(-10.0 * torch.log10(mse)),
            "ssim": float(structural_similarity_index_measure(pred, true, data_range=1.0)),  # type: ignore[arg-type]
        }
        if self.config.compute_lpips:
            metrics["lpips"] = lpips(pred, true)
        images = {"img": torch.cat([image, rgb], dim=1), "accumulation": outputs["accumulation"].expand(-1, -1, 3)}
        return metrics, images

    # -- checkpoints

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a checkpoint with any number of rows; damage and misfits end in a clear line, not random rows."""
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except CheckpointError as error:
            raise UserError(str(error)) from error


def load_teacher(path: Path) -> RadianceField:
    """The field of a scene file.

    Raises:
        UserError: no such file, or of no scene.
    """
    try:
        field = load(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--pipeline.model.teacher takes a scene file of `lg-field pack`: {error}") from error
    if not isinstance(field, RadianceField):
        raise UserError(f"{path} is no scene file; `lg-field pack --load-config ...` makes one of a run")
    return field.eval()


def to_ray_samples(ray_bundle: RayBundle, samples: Samples) -> RaySamples:
    """Packed samples as nerfstudio's `RaySamples` of shape (M,)."""
    rays = samples.rays
    cameras = None if ray_bundle.camera_indices is None else ray_bundle.camera_indices[rays]
    frustums = Frustums(
        origins=ray_bundle.origins[rays],
        directions=ray_bundle.directions[rays],
        starts=samples.starts[:, None],
        ends=samples.ends[:, None],
        pixel_area=ray_bundle.pixel_area[rays],
    )
    return RaySamples(frustums=frustums, camera_indices=cameras, deltas=(samples.ends - samples.starts)[:, None])
