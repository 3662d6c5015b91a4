"""The pipeline: nerfstudio's own, with the panel of the viewer attached to it from outside of the model."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from lg_field.nerfstudio.datamanager import LGDataManagerConfig
from lg_field.nerfstudio.panel import PanelControl
from lg_field.training.place import goes_on
from lg_field.training.saving import by_time


@dataclass
class LGPipelineConfig(VanillaPipelineConfig):
    """nerfstudio's pipeline with lg-field's panel."""

    _target: type = field(default_factory=lambda: LGPipeline)
    """target class to instantiate"""


class LGPipeline(VanillaPipeline):
    """Attribute `viewer_control` is what nerfstudio's viewer looks for; outside of a viewer it does nothing."""

    def __init__(self, config: LGPipelineConfig, *args: Any, **kwargs: Any) -> None:
        model: Any = config.model
        if isinstance(config.datamanager, LGDataManagerConfig):
            config.datamanager.contracted = goes_on(getattr(model, "space", "auto"), bounded=True)
        super().__init__(config, *args, **kwargs)
        self.viewer_control = PanelControl(self.model)

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """nerfstudio's, then the panel follows the rows that the model has changed; checkpoints are saved by time."""
        callbacks = super().get_training_callbacks(attributes)
        before, after = (TrainingCallbackLocation[f"{w}_TRAIN_ITERATION"] for w in ("BEFORE", "AFTER"))
        callbacks.append(
            TrainingCallback([before], lambda step: self.viewer_control.follow(), update_every_num_iters=1)
        )
        if attributes.trainer is not None:
            save = by_time(attributes.trainer.save_checkpoint, getattr(attributes.trainer, "now", time.monotonic))
            callbacks.append(TrainingCallback([after], save, update_every_num_iters=1))
        return callbacks
