"""The data manager: nerfstudio's own, with the data checked before it is used."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset

from lg_field.nerfstudio.errors import UserError


@dataclass
class LGDataManagerConfig(VanillaDataManagerConfig):
    """nerfstudio's data manager with the data checked before it is used."""

    _target: type = field(default_factory=lambda: LGDataManager)
    """target class to instantiate"""


class LGDataManager(VanillaDataManager[InputDataset]):
    """Checks folder, images and poses, and tells the model whether the scene is bounded."""

    def __init__(
        self,
        config: LGDataManagerConfig,
        device: torch.device | str = "cpu",
        test_mode: Literal["test", "val", "inference"] = "val",
        world_size: int = 1,
        local_rank: int = 0,
        **kwargs: Any,
    ) -> None:
        data = config.data or getattr(config.dataparser, "data", None)
        check_data_folder(None if data is None else Path(data))
        if isinstance(config.dataparser, BlenderDataParserConfig):
            config.dataparser.alpha_color = None  # the model blends: a random background needs the images' alpha
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        check_dataset(self.train_dataset)
        if len(self.eval_dataset):
            check_dataset(self.eval_dataset)
        # Blender scenes are made of one object in the scene box with nothing around it.
        bounded = isinstance(self.dataparser_config, BlenderDataParserConfig)
        self.train_dataset.metadata.setdefault("bounded", bounded)


def check_data_folder(data: Path | None) -> None:
    """Raise UserError unless `data` is an existing file or a folder with something in it."""
    if data is None or data == Path():
        raise UserError("no data given: --data takes the folder of a scene")
    if not data.exists():
        raise UserError(f"{data} does not exist; --data takes the folder of a scene")
    if data.is_dir() and not any(data.iterdir()):
        raise UserError(f"{data} is empty; --data takes the folder of a scene")


def check_dataset(dataset: InputDataset) -> None:
    """Raise UserError for a data set without images, with missing image files or with poses that are not numbers."""
    if len(dataset) == 0:
        raise UserError("the data set has no image")
    missing = [f for f in dataset.image_filenames if not f.exists()]
    if missing:
        raise UserError(f"{len(missing)} of {len(dataset)} images are missing, e.g. {missing[0]}")
    finite = dataset.cameras.camera_to_worlds.isfinite().flatten(1).all(1)
    if not bool(finite.all()):
        names = [dataset.image_filenames[i].name for i in (~finite).nonzero()[:3, 0].tolist()]
        raise UserError(f"{int((~finite).sum())} camera poses hold NaN or infinite numbers, e.g. of {', '.join(names)}")
