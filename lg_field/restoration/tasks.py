"""Defaults of the restoration tasks: the published settings, with cells that follow the picture's size."""

from __future__ import annotations

from lg_field.signals.settings import FitConfig, NetworkConfig, Settings

SUPER_RESOLUTION = Settings(
    # INCODE's usual start (0.312) makes noise of small pictures; the overlap keeps lines off the borders of cells,
    # where the picture is read between its samples.
    NetworkConfig(activation="incode", cell_size=(64, 64), parameters=0, global_share=0.12, harmonizer_bias=0.0005),
    FitConfig(steps=2001, lr=9e-4, lr_factor=0.1, global_lr_scale=1 / 1.8, points=65_536, overlap=2),
)
"""4x super-resolution (paper, section 5), with an overlap where it shows."""
DENOISING = Settings(
    NetworkConfig(
        activation="incode",
        cell_size=(144, 128),
        global_share=0.18,
        first_w0=10.0,
        harmonizer=(32, 16, 12),
        harmonizer_bias=0.0005,
        harmonizer_norm=True,
    ),
    FitConfig(steps=401, lr=1.5e-4, lr_factor=0.1),
)
"""Denoising of sensor noise (paper, section 5)."""
TOMOGRAPHY = Settings(
    NetworkConfig(activation="incode", counts=(1, 2), local_width=230, global_width=300, hidden_layers=1),
    FitConfig(steps=2001, lr=2e-4, lr_factor=0.4),
)
"""Reconstruction of a slice from 150 projections (paper, section 5)."""
