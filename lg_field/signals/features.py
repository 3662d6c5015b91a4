"""What a harmonizer sees of its task's input: frozen feature extractors, averaged to one vector.

- Images: the first five children of torchvision's ResNet-34 (up to its first stage), 64 features.
- Volumes and videos: the first two children of torchvision's R3D-18, 64 features, on at most `MAX_VOLUME` samples.
- Sounds: mel-frequency cepstral coefficients, 50 features (400 samples a window, 160 a hop, 50 mel bands, decibels).

By default the networks have random weights of a fixed seed, and normalise by the input's own statistics (random weights
come with no running ones). Nothing is ever downloaded.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float32
from torch import Tensor, nn

from lg_field.signals.settings import Weights

MAX_VOLUME = 64**3
"""Samples of a volume or video that are looked at; larger ones are averaged down first."""
SEED = 0
WINDOW, HOP, MELS = 400, 160, 50


@torch.no_grad()
def picture_features(
    values: Float32[Tensor, "height width channels"], weights: Weights = "random"
) -> Float32[Tensor, " features"]:
    """The (64,) features of a picture of network values in [-1, 1].

    Raises:
        ValueError: no pretrained weights on this machine.
        ImportError: torchvision is missing.
    """
    return extractor("resnet34", 5, weights)(_planes(values)).mean((0, 2, 3))


@torch.no_grad()
def volume_features(
    values: Float32[Tensor, "depth height width channels"], weights: Weights = "random"
) -> Float32[Tensor, " features"]:
    """The (64,) features of a volume or of frames, network values in [-1, 1]; large ones are averaged down first.

    Raises:
        ValueError: no pretrained weights on this machine.
        ImportError: torchvision is missing.
    """
    planes, shape = _planes(values), values.shape[:3]
    if math.prod(shape) > MAX_VOLUME:
        shrink = (MAX_VOLUME / math.prod(shape)) ** (1 / 3)
        depth, height, width = (max(1, round(n * shrink)) for n in shape)
        planes = nn.functional.adaptive_avg_pool3d(planes, (depth, height, width))
    return extractor("r3d_18", 2, weights)(planes).mean((0, 2, 3, 4))


@torch.no_grad()
def sound_features(values: Float32[Tensor, "samples channels"], rate: float) -> Float32[Tensor, " features"]:
    """The (MELS,) features of a sound of network values, `rate` samples a second."""
    return cepstral_coefficients(values.mean(-1), rate).mean(-1)


def _planes(values: Tensor) -> Tensor:
    """(..., channels) network values -> (1, 3, ...) in [0, 1]."""
    return three_channels(values * 0.5 + 0.5).movedim(-1, 0)[None]


def three_channels(values: Float32[Tensor, "*shape channels"]) -> Float32[Tensor, "*shape 3"]:
    """(..., channels) -> (..., 3): grey is repeated, alpha and further channels are left out."""
    return values[..., :3] if values.shape[-1] >= 3 else values[..., :1].expand(*values.shape[:-1], 3)


def extractor(name: Literal["resnet34", "r3d_18"], children: int, weights: Weights) -> nn.Module:
    """The first children of a torchvision network.

    Raises:
        ValueError: no pretrained weights on this machine.
        ImportError: torchvision is missing.
    """
    try:
        from torchvision import models
    except ImportError as error:
        raise ImportError("--activation incode needs torchvision: pip install 'lg-field[restoration]'") from error
    build, pretrained = {
        "resnet34": (models.resnet34, models.ResNet34_Weights.DEFAULT),
        "r3d_18": (models.video.r3d_18, models.video.R3D_18_Weights.DEFAULT),
    }[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network = build(weights=None)
    if weights == "pretrained":
        path = Path(torch.hub.get_dir()) / "checkpoints" / pretrained.url.rsplit("/", 1)[-1]
        if not path.is_file():
            raise ValueError(f"no pretrained weights at {path}; put them there, or use --harmonizer-weights random")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return nn.Sequential(*list(network.children())[:children]).train(weights == "random")


def cepstral_coefficients(sound: Float32[Tensor, " n"], rate: float) -> Float32[Tensor, "mels frames"]:
    """(n,) sound -> (MELS, frames) mel-frequency cepstral coefficients, orthonormal, of decibels."""
    sound = nn.functional.pad(sound, (0, max(0, WINDOW - len(sound))))
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(sound, WINDOW, HOP, window=window, center=False, return_complex=True).abs().square()
    decibels = 10.0 * (mel_filters(rate) @ spectrum).clamp_min(1e-10).log10()
    decibels = decibels.clamp_min(float(decibels.max()) - 80.0)
    n, k = torch.arange(MELS) + 0.5, torch.arange(MELS)
    transform = torch.cos(math.pi / MELS * k[:, None] * n) * math.sqrt(2.0 / MELS)
    transform[0] /= math.sqrt(2.0)
    return transform @ decibels


def mel_filters(rate: float) -> Float32[Tensor, "mels bins"]:
    """(MELS, WINDOW // 2 + 1) triangles, evenly spaced in mel from 0 to half the rate (HTK's formula)."""
    top = 2595.0 * math.log10(1.0 + 0.5 * rate / 700.0)
    corners = 700.0 * (10.0 ** (torch.linspace(0.0, top, MELS + 2) / 2595.0) - 1.0)
    frequencies = torch.linspace(0.0, 0.5 * rate, WINDOW // 2 + 1)
    low, middle, high = (corners[k : k + MELS, None] for k in range(3))
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    return torch.minimum(rising, falling).clamp_min(0.0)
