"""LPIPS, only on request and only with weights that are already on disk."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lg_field.errors import UserError


def lpips(pred: Tensor, true: Tensor) -> float:
    """LPIPS (AlexNet) of (1, 3, H, W) images in [0, 1].

    Raises:
        UserError: torchvision's AlexNet weights are not in torch's cache.
    """
    return float(_metric()(pred.cpu(), true.cpu()))


@cache
def _metric() -> Any:
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    if not list(folder.glob("alexnet-*.pth")):
        raise UserError(
            f"LPIPS needs torchvision's AlexNet weights in {folder} (alexnet-owt-7be5be79.pth); put them there or "
            "leave out --pipeline.model.compute-lpips"
        )
    from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

    return LearnedPerceptualImagePatchSimilarity(net_type="alex", normalize=True)
