"""The pipeline: nerfstudio's own, with the panel of the viewer attached to it from outside of the model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfstudio.engine.callbacks import TrainingCallback, TrainingCallbackAttributes, TrainingCallbackLocation
from nerfstudio.pipelines.base_pipeline import VanillaPipeline, VanillaPipelineConfig

from lg_field.nerfstudio.panel import PanelControl


@dataclass
class LGPipelineConfig(VanillaPipelineConfig):
    """nerfstudio's pipeline with lg-field's panel."""

    _target: type = field(default_factory=lambda: LGPipeline)
    """target class to instantiate"""


class LGPipeline(VanillaPipeline):
    """Attribute `viewer_control` is what nerfstudio's viewer looks for; outside of a viewer it does nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.viewer_control = PanelControl(self.model)

    def get_training_callbacks(self, attributes: TrainingCallbackAttributes) -> list[TrainingCallback]:
        """nerfstudio's, then the panel follows the rows that the model has changed."""
        callbacks = super().get_training_callbacks(attributes)
        where = [TrainingCallbackLocation.BEFORE_TRAIN_ITERATION]
        return [
            *callbacks,
            TrainingCallback(where, lambda step: self.viewer_control.follow(), update_every_num_iters=1),
        ]
