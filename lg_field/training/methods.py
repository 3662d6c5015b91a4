"""The methods `lg-field` and `lg-field-tiny`: the one place where their defaults are."""

from __future__ import annotations

from dataclasses import dataclass, field

from lg_field.radiance.settings import TrainingSettings
from lg_field.radiance.sizes import RadianceSizes

FIRST_CELLS = 64
"""Cells at the start, about."""


@dataclass(frozen=True)
class Method:
    """How a scene is trained, where nothing else is said."""

    description: str
    steps: int
    """Training steps."""
    rays: int
    """Rays a step."""
    sizes: RadianceSizes
    """What rows and shared part hold."""
    training: TrainingSettings = field(default_factory=TrainingSettings)
    """What training does when."""
    fields_lr: float = 5e-3
    """Adam's learning rate of networks at first."""
    grids_lr: float = 4e-2
    """Of feature grids."""
    lr_factor: float = 0.05
    """Both fall exponentially to this part of themselves at the last step."""
    opaque_share: float = 1.0
    """Part of `rays` that a step has where photos show all there is, without alpha or masks that mean empty space. Such
    a scene is hazy for long: fewer rays leave each of them more samples, at the same cost."""
    object_share: float = 0.75
    """Photos with alpha: this part of the rays is on or close to what is there, the rest anywhere."""

    def rate(self, step: int, steps: int) -> float:
        """Part of the first learning rate that a step has, of a run of so many steps."""
        return float(self.lr_factor ** min(1.0, step / max(1, steps)))


METHODS = {
    "lg-field": Method(
        "Local-Global radiance field: one small network per cell, croppable without retraining.",
        steps=10_000,
        rays=4096,
        sizes=RadianceSizes(
            grid_nodes=17,
            hash_levels=4,
            log2_hashmap_size=15,
            color_width=0,
            color_features=27,
            contracted_density=True,
        ),
        training=TrainingSettings(harmonics_loss_mult=2e-3, distortion_loss_mult=0.005),
    ),
    "lg-field-tiny": Method(
        "Small Local-Global radiance field for CPUs and first tries.",
        steps=8_000,
        rays=1024,
        sizes=RadianceSizes(
            grid_nodes=11,
            hash_levels=5,
            log2_hashmap_size=14,
            color_width=0,
            color_features=27,
            contracted_density=True,
        ),
        training=TrainingSettings(
            split_steps=(200,),
            samples_per_batch=2**14,
            steps_per_scene=256,
            occupancy_points=2**15,
            harmonics_loss_mult=2e-3,
            distortion_loss_mult=0.005,
        ),
        opaque_share=0.5,
    ),
}
"""Name -> method."""
