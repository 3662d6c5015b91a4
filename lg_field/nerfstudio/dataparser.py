"""The data parser `auto-data`: any of nerfstudio's formats, recognised by its files.

nerfstudio imports this module while it builds its list of data parsers, so it must not import its data managers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.dataparsers.colmap_dataparser import ColmapDataParserConfig
from nerfstudio.data.dataparsers.instant_ngp_dataparser import InstantNGPDataParserConfig
from nerfstudio.data.dataparsers.nerfstudio_dataparser import NerfstudioDataParserConfig
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE

from lg_field.errors import UserError


@dataclass
class AutoDataParserConfig(DataParserConfig):
    """Recognises blender, instant-ngp, nerfstudio and COLMAP data by the files in the folder."""

    _target: type = field(default_factory=lambda: AutoDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """Scene folder, or a transforms.json."""


@dataclass
class AutoDataParser(DataParser):
    """Finds the format and leaves the reading to nerfstudio's own data parser."""

    config: AutoDataParserConfig
    downscale_factor: int | None = None

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        inner_config = recognise(self.config.data)
        inner = inner_config.setup()
        if self.downscale_factor is not None and hasattr(inner, "downscale_factor"):
            inner.downscale_factor = self.downscale_factor
        if isinstance(inner_config, BlenderDataParserConfig) and split == "val" and not _has_split(inner_config, "val"):
            split = "test"
        outputs = inner.get_dataparser_outputs(split=split, **kwargs)
        if isinstance(inner_config, InstantNGPDataParserConfig) and len(outputs.image_filenames) == 1:
            outputs.cameras = single_camera(inner_config, outputs.image_filenames[0])
        outputs.metadata["bounded"] = isinstance(inner_config, BlenderDataParserConfig)
        return outputs


def single_camera(config: InstantNGPDataParserConfig, image: Path) -> Any:
    """nerfstudio's camera of one image, as a list of one: its instant-ngp data parser takes the pose of a split with a
    single image apart wrongly."""
    everything = replace(config, train_split_fraction=1.0).setup().get_dataparser_outputs(split="train")
    index = everything.image_filenames.index(image)
    return everything.cameras[index : index + 1]


def _has_split(config: BlenderDataParserConfig, split: str) -> bool:
    return (config.data / f"transforms_{split}.json").exists()


def recognise(data: Path) -> DataParserConfig:
    """The data parser for a scene folder.

    Args:
        data: scene folder or transforms.json file.

    Raises:
        UserError: no such folder, or nothing in it that nerfstudio could read.
    """
    if not data.exists():
        raise UserError(f"{data} does not exist; --data takes the folder of a scene")
    folder = data.parent if data.is_file() else data
    if (folder / "transforms_train.json").exists() and not data.is_file():
        return BlenderDataParserConfig(data=data, alpha_color=None)
    transforms = data if data.is_file() else data / "transforms.json"
    if transforms.exists():
        meta = read_transforms(transforms)
        kind = InstantNGPDataParserConfig if "aabb_scale" in meta else NerfstudioDataParserConfig
        return kind(data=data)
    for sparse in ("colmap/sparse/0", "sparse/0", "sparse"):
        if (folder / sparse / "cameras.bin").exists() or (folder / sparse / "cameras.txt").exists():
            downscale = None if (folder / "images_2").exists() else 1
            masks = colmap_masks(folder) if downscale == 1 else None
            return ColmapDataParserConfig(
                data=data, colmap_path=Path(sparse), downscale_factor=downscale, masks_path=masks
            )
    raise UserError(
        f"{data} holds no scene: expected transforms_train.json (blender), transforms.json (instant-ngp or "
        "nerfstudio) or colmap/sparse/0; or name the data parser, e.g. `ns-train lg-field --data DIR scannet-data`"
    )


def colmap_masks(folder: Path) -> Path | None:
    """The folder of masks of COLMAP data, relative to the scene's: `masks/NAME.png` for each `images/NAME.*`; None
    without it.

    Raises:
        UserError: masks of a part of the images.
    """
    images = [path for path in (folder / "images").rglob("*") if path.is_file()]
    if not (folder / "masks").is_dir() or not images:
        return None
    wanted = [(folder / "masks" / path.relative_to(folder / "images")).with_suffix(".png") for path in images]
    missing = [path for path in wanted if not path.exists()]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(images)} images have no mask, e.g. {missing[0]}: give each one (a white "
            f"image where nothing is masked), or rename {folder / 'masks'}"
        )
    return Path("masks")


def read_transforms(path: Path) -> dict[str, Any]:
    """Read a transforms.json.

    Raises:
        UserError: broken JSON, no frames, or no image of a listed frame.
    """
    try:
        meta = json.loads(path.read_text())
        frames = meta["frames"]
        files = [path.parent / frame["file_path"] for frame in frames]
        masked = sum("mask_path" in frame for frame in frames)
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a transforms file: {type(error).__name__} {error}") from error
    missing = [f for f in files if not f.exists() and not f.with_name(f.name + ".png").exists()]
    if not files or len(missing) == len(files):
        raise UserError(f"{path} lists {len(files)} images and none of them exists (e.g. {files[:1]})")
    if masked not in (0, len(frames)):
        raise UserError(
            f"{path}: {len(frames) - masked} of {len(frames)} images have no mask: give each a mask_path (a white "
            "image where nothing is masked), or none"
        )
    if missing:
        CONSOLE.print(
            f"[yellow]{path}: {len(missing)} of {len(files)} listed images are missing and left out "
            f"(e.g. {missing[0].name})[/yellow]"
        )
    return meta


auto_data = DataParserSpecification(
    config=AutoDataParserConfig(),
    description="Recognises blender, instant-ngp, nerfstudio and COLMAP data by their files.",
)
