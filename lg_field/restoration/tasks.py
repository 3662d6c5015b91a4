"""Defaults of the restoration tasks: the published settings, with cells that follow the picture's size, and an overlap
where it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lg_field.signal_settings import FitConfig, NetworkConfig, Settings

SUPER_RESOLUTION = Settings(
    # INCODE's usual start (0.312) makes noise of small pictures; the overlap keeps lines off the borders of cells,
    # where the picture is read between its samples.
    NetworkConfig(
        activation="incode",
        cell_size=(64, 64),
        parameters=0,
        global_share=0.12,
        harmonizer_bias=0.0005,
        coordinate_step=0.0,
    ),
    FitConfig(
        steps=2001,
        lr=9e-4,
        lr_factor=0.1,
        global_lr_scale=1 / 1.8,
        points=65_536,
        overlap=2,
        stratified=False,
        center_cells=False,
    ),
)
DENOISING = Settings(
    NetworkConfig(
        activation="incode",
        cell_size=(144, 128),
        parameters=200_000,
        global_share=0.18,
        first_w0=10.0,
        harmonizer=(32, 16, 12),
        harmonizer_bias=0.0005,
        harmonizer_norm=True,
        coordinate_step=0.0,
    ),
    FitConfig(steps=401, lr=1.5e-4, lr_factor=0.1, points=0, stratified=False, center_cells=False),
)
TOMOGRAPHY = Settings(
    NetworkConfig(
        activation="incode", counts=(1, 2), local_width=230, global_width=300, hidden_layers=1, coordinate_step=0.0
    ),
    FitConfig(steps=2001, lr=2e-4, lr_factor=0.4, points=0, stratified=False, center_cells=False),
)
PUBLISHED_SIDE = {"super-resolve": 504, "denoise": 512, "reconstruct-ct": 256}
"""Longer side in pixels of the pictures that the settings were published for."""
TASKS = {"super-resolve": SUPER_RESOLUTION, "denoise": DENOISING, "reconstruct-ct": TOMOGRAPHY}
"""Name of the command -> its defaults."""


def same_detail(network: NetworkConfig, shape: Sequence[int], published: int) -> NetworkConfig:
    """The same frequencies per pixel in a picture smaller than the published one, where the domain would otherwise
    squeeze them together: what lies between samples would be noise. A coordinate scale or step that is said wins.

    Args:
        network: settings.
        shape: pixels per axis.
        published: pixels of the longer side that the frequencies were chosen for.
    """
    if network.coordinate_scale or network.coordinate_step:
        return network
    return replace(network, coordinate_scale=min(1.0, max(shape) / published))


@dataclass(frozen=True)
class Prior:
    """What a command does instead with the total variation of the picture in its loss (`averages.py`): that keeps noise
    away, so that it matters little when to stop, and frequencies may be higher."""

    settings: Settings
    """Network and training."""
    smoothness: float
    """Weight of the total variation."""
    side: int
    """Longer side in pixels of the measured picture whose domain is -1 to 1."""
    budget: float
    """Parameters for a measured pixel, where none are said."""
    cells: int = 6
    """A picture of more cells has the widths of one with so many: cells are as exact, and the shared part, which every
    pixel passes, does not grow."""


WHOLE = 1 << 24
"""Pixels of a step with a prior: all of a result up to 4096 x 4096. Some windows of it in each step take longer to the
same picture, for they make the gradients of every cell noisy."""
PRIORS = {
    "super-resolve": Prior(
        Settings(
            NetworkConfig(activation="sine", cell_size=(32, 32), parameters=0, global_share=0.1, coordinate_step=0.0),
            FitConfig(steps=600, lr=1e-3, lr_factor=0.1, points=WHOLE, stratified=False, center_cells=False),
        ),
        smoothness=0.003,
        side=160,
        budget=13.0,
    ),
    "denoise": Prior(
        Settings(
            NetworkConfig(activation="sine", cell_size=(64, 64), parameters=0, global_share=0.1, coordinate_step=0.0),
            FitConfig(steps=300, lr=1e-3, lr_factor=0.1, points=WHOLE, stratified=False, center_cells=False),
        ),
        smoothness=0.1,
        side=640,
        budget=1.6,
    ),
}
"""Name of the command -> what its flag switches on."""
