"""What training does when, and how much its losses weigh."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from lg_field.radiance.stopping import TRAINING

CoarseFirst = Literal["auto", "always", "never"]
BACKGROUNDS = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}
CONTRACTED = ("opacity_loss_mult", "distortion_loss_mult", "gradient_scaling")
"""Settings that say something of contracted scenes alone."""


@dataclass
class TrainingSettings:
    """What training does when, and how much its losses weigh."""

    split_steps: tuple[int, ...] = (500,)
    """Steps at which every kept cell is cut into 8."""
    steps_per_scene: int = 384
    """Marching steps along the diagonal of the scene box."""
    samples_per_batch: int = 2**18
    """Samples a training step aims for: steps along rays are longer while more space is occupied."""
    near_plane: float = 0.05
    """Distance at which rays start; where something is found to be farther, or closer amid things, that says it."""
    far_plane: float = 1000.0
    """Distance at which rays end."""
    background_color: Literal["random", "white", "black"] = "random"
    """Background in training; random works with images that have alpha and keeps the empty space empty."""
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
    distill_steps: int = 2000
    """Steps that imitate the teacher before the images are learned from."""
    seam_loss_mult: float = 0.05
    """Weight of the disagreement of neighbouring cells on their common borders; 0 = off."""
    seam_points: int = 512
    """Points on borders that a step looks at."""
    least_light: float = TRAINING
    """Rays end where less than this part of the light gets through: samples behind a surface cost nothing. 0 = never.
    Contracted scenes, whose opacity loss looks at all samples, and imitation ask for all of them."""
    harmonics_loss_mult: float = 0.0
    """Weight of the mean square of the colours' harmonics above degree 0: directions that no camera looks along show
    what others do. Of fields without a colour layer."""

    distortion_loss_mult: float = 0.0
    """Contracted scenes: weight of how far apart along a ray what it sees lies (mip-NeRF 360, eq. 15), in parts of the
    longest ray: haze and floaters fade, but too much of it takes thin and far things, too."""
    gradient_scaling: float = 0.8
    """Contracted scenes: gradients of samples nearer to their camera than this, scene units, are scaled down by the
    square of their distance as a part of it, so that no haze grows in front of cameras (Floaters No More, Philip and
    Deschaintre 2023). 0 = never."""
    outliers_from: float = 0.1
    """Photos whose exposures are corrected: differences of colour larger than this count in proportion, not squared, so
    that what one photo alone shows (passers-by, cars) leaves no ghost. 0 = all are squared."""
    depth_loss_mult: float = 0.1
    """Weight of how far what a ray sees lies from the sparse point that its pixel shows, in parts of the longest ray,
    where photos come with such points."""

    coarse_first: CoarseFirst = "auto"
    """What tells fine things apart begins to learn later, high frequencies and the levels of the shared grid one after
    the other, the cells' grids last: few photos far apart are then explained by a shape that they agree on. auto:
    where photos are few and far apart. A `RadianceTrainer` of one's own has it from its `coarse_until` on."""
    coarse_steps: int = 750
    """Step from which on all of it learns, or half the run where that is shorter."""

    def without_effect(self, contraction: bool, usual: Sequence[TrainingSettings]) -> list[str]:
        """Names of what was set and does nothing in a scene.

        Args:
            contraction: whether the scene is unbounded.
            usual: settings that are nobody's wish: a value that one of them has was not set.
        """
        if contraction:
            return []
        mine = {name: getattr(self, name) for name in CONTRACTED}
        return [name for name, value in mine.items() if value and all(value != getattr(u, name) for u in usual)]

    def check(self) -> None:
        """Raise ValueError where a number makes no sense."""
        for name in ("steps_per_scene", "samples_per_batch", "occupancy_points", "occupancy_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in (
            "overlap",
            "least_light",
            "prune_interval",
            "opacity_loss_mult",
            "distill_steps",
            "seam_loss_mult",
            "seam_points",
            "harmonics_loss_mult",
            "distortion_loss_mult",
            "depth_loss_mult",
            "outliers_from",
            "gradient_scaling",
            "coarse_steps",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0.0 < self.near_plane < self.far_plane:
            raise ValueError(
                f"near_plane must be positive and below far_plane, got {self.near_plane}, {self.far_plane}"
            )
        if self.coarse_first not in get_args(CoarseFirst):
            raise ValueError(f"coarse_first must be {', '.join(get_args(CoarseFirst))}, got {self.coarse_first!r}")
        if self.least_light >= 1.0:
            raise ValueError(f"least_light must be below 1, got {self.least_light}")
        if self.background_color not in ("random", *BACKGROUNDS):
            raise ValueError(f"background_color must be random, white or black, got {self.background_color!r}")
