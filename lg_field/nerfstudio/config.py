"""The methods `lg-field` and `lg-field-tiny`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from nerfstudio.configs.base_config import MachineConfig, ViewerConfig
from nerfstudio.engine.optimizers import AdamOptimizerConfig
from nerfstudio.engine.trainer import Trainer, TrainerConfig
from nerfstudio.pipelines.base_pipeline import VanillaPipeline
from nerfstudio.plugins.types import MethodSpecification

from lg_field.errors import UserError, hook_errors_and_notices
from lg_field.nerfstudio.checkpoints import check_newest
from lg_field.nerfstudio.corrections import COLORS, POSES
from lg_field.nerfstudio.datamanager import LGDataManagerConfig
from lg_field.nerfstudio.dataparser import AutoDataParserConfig
from lg_field.nerfstudio.model import LGModelConfig, SizesOptions
from lg_field.nerfstudio.optimizers import DecaySchedulerConfig, FusedAdamOptimizerConfig
from lg_field.nerfstudio.pipeline import LGPipeline, LGPipelineConfig
from lg_field.nerfstudio.pixels import ObjectPixelSamplerConfig
from lg_field.training.corrections import COLOR_RATE, POSE_RATE
from lg_field.training.methods import METHODS
from lg_field.training.optimizing import EPS

hook_errors_and_notices()  # nerfstudio's scripts import this module and would print a traceback for bad input


@dataclass
class LGTrainerConfig(TrainerConfig):
    """A run that can live in a folder of any name: that is where `crop-scene -o` puts one."""

    _target: type = field(default_factory=lambda: Trainer)
    """target class to instantiate"""
    run_dir: Path | None = None
    """Folder of this run; None = nerfstudio's OUTPUT_DIR/EXPERIMENT/METHOD/TIMESTAMP."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a config.yml: entries that it lacks have their defaults, and every run has the panel."""
        self.__dict__.update(LGTrainerConfig().__dict__ | state)
        if self.pipeline._target is VanillaPipeline:
            self.pipeline._target = LGPipeline

    def __setattr__(self, name: str, value: Any) -> None:
        """nerfstudio's scripts set `load_dir` just before they read a checkpoint: a damaged one ends in a line."""
        super().__setattr__(name, value)
        if name == "load_dir" and value is not None:
            check_newest(Path(value), self.load_step)

    def set_timestamp(self) -> None:
        """nerfstudio's ns-train calls this before it starts: what it would train wrongly is refused.

        Raises:
            UserError: more than one device, on which its processes would each train on their own.
        """
        devices = self.machine.num_devices * self.machine.num_machines
        if devices > 1:
            raise UserError(
                f"ns-train trains lg-field on one device; for {devices} take `torchrun --nproc-per-node "
                f"{self.machine.num_devices} -m lg_field.nerfstudio.train {self.method_name} ...` with the same options"
            )
        super().set_timestamp()

    def get_base_dir(self) -> Path:
        """Folder of config.yml."""
        return super().get_base_dir() if self.run_dir is None else self.run_dir

    def setup(self, **kwargs: Any) -> Any:
        """The trainer; schedules without a length of their own last as long as the run."""
        for group in self.optimizers.values():
            if isinstance(group["scheduler"], DecaySchedulerConfig) and group["scheduler"].max_steps == 0:
                group["scheduler"].max_steps = self.max_num_iterations
        model: Any = self.pipeline.model
        if model.rows_on != "device":
            from lg_field.nerfstudio.stored_run import StoredRun

            self._target = StoredRun
        return super().setup(**kwargs)


def _method(name: str, rays_at_once: int) -> Any:
    method = METHODS[name]
    schedule = DecaySchedulerConfig(factor=method.lr_factor)
    sizes = SizesOptions(**vars(method.sizes))
    return LGTrainerConfig(
        method_name=name,
        steps_per_eval_batch=1000,
        steps_per_eval_image=5000,
        steps_per_eval_all_images=1_000_000,
        steps_per_save=2000,
        max_num_iterations=method.steps,
        mixed_precision=False,
        pipeline=LGPipelineConfig(
            datamanager=LGDataManagerConfig(
                dataparser=AutoDataParserConfig(),
                pixel_sampler=ObjectPixelSamplerConfig(object_share=method.object_share),
                train_num_rays_per_batch=method.rays,
                eval_num_rays_per_batch=1024,
                opaque_share=method.opaque_share,
            ),
            model=LGModelConfig(sizes=sizes, eval_num_rays_per_chunk=rays_at_once, **vars(method.training)),
        ),
        optimizers={
            "fields": {"optimizer": FusedAdamOptimizerConfig(lr=method.fields_lr, eps=EPS), "scheduler": schedule},
            "grids": {"optimizer": FusedAdamOptimizerConfig(lr=method.grids_lr, eps=EPS), "scheduler": schedule},
            POSES: {"optimizer": AdamOptimizerConfig(lr=POSE_RATE, eps=EPS), "scheduler": schedule},
            COLORS: {"optimizer": AdamOptimizerConfig(lr=COLOR_RATE, eps=EPS), "scheduler": schedule},
        },
        machine=MachineConfig(device_type="cuda" if torch.cuda.is_available() else "cpu"),
        viewer=ViewerConfig(websocket_host="127.0.0.1", num_rays_per_chunk=1 << 14),
        vis="viewer",
    )


lg_field = MethodSpecification(
    config=_method("lg-field", rays_at_once=1 << 14), description=METHODS["lg-field"].description
)

lg_field_tiny = MethodSpecification(
    config=_method("lg-field-tiny", rays_at_once=1 << 13), description=METHODS["lg-field-tiny"].description
)
