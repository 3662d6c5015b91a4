"""The data manager: nerfstudio's own, with the data checked before it is used."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from nerfstudio.data.datamanagers.base_datamanager import VanillaDataManager, VanillaDataManagerConfig
from nerfstudio.data.dataparsers.base_dataparser import DataparserOutputs
from nerfstudio.data.dataparsers.blender_dataparser import BlenderDataParserConfig
from nerfstudio.data.datasets.base_dataset import InputDataset
from nerfstudio.data.pixel_samplers import PixelSamplerConfig
from nerfstudio.utils.rich_utils import CONSOLE
from torch import Tensor

from lg_field.captures.backdrop import BackgroundMode
from lg_field.errors import UserError
from lg_field.nerfstudio.dataparser import AutoDataParserConfig
from lg_field.nerfstudio.dataset import CaptureDataset
from lg_field.nerfstudio.masks import leave_out_unmasked, mask_meaning, small_alphas, small_masks
from lg_field.nerfstudio.pixels import ObjectPixelSampler, ObjectPixelSamplerConfig
from lg_field.nerfstudio.placing import find_place, move
from lg_field.nerfstudio.rays import PixelRays
from lg_field.radiance.placement import Placement
from lg_field.training.camera_fit import Seen, seen_by, together
from lg_field.training.exposures import DIFFER, exposures_differ
from lg_field.training.few_photos import few_photos
from lg_field.training.masks import MaskMode
from lg_field.training.photo_set import mean_color


@dataclass
class LGDataManagerConfig(VanillaDataManagerConfig):
    """nerfstudio's data manager with the data checked before it is used."""

    _target: type = field(default_factory=lambda: LGDataManager)
    """target class to instantiate"""
    pixel_sampler: PixelSamplerConfig = field(default_factory=ObjectPixelSamplerConfig)
    """Which pixels a training step looks at."""
    masks: MaskMode = "auto"
    """What lies outside a mask. empty: nothing, it is alpha 0. ignore: pixels that say nothing (nerfstudio's meaning).
    auto: empty where the masks cut one object out of nearly all images."""
    background: BackgroundMode = "auto"
    """What a plain backdrop (white, black, a cloth) behind a thing means, in photos without alpha or masks. auto: it is
    empty; keep: it is part of the scene. Of data that `auto-data` reads, the usual data parser here."""
    opaque_share: float = 1.0
    """Part of train_num_rays_per_batch that a step has where photos show all there is, without alpha or masks that mean
    empty space. Such a scene is hazy for long: fewer rays leave each of them more samples, at the same cost."""
    near_photos: int = 0
    """Each step's pixels are of so many photos that were taken near each other, so that its rays pass through few
    cells: with rows on the host or on disk (rows-on) a step then asks fewer rows. 0: of all photos."""
    depths: bool = False
    """Learn from the depths of sparse points (COLMAP) in unbounded scenes, too: with contracted_density. In bounded
    ones they are always learned from."""
    contracted: Annotated[bool, tyro.conf.Suppress] = False
    """The model is told that the scene goes on for ever, whatever the data say. The pipeline sets it."""
    place: bool = True
    """Find where the scene is. False: the data parser's scene space and box as they are."""
    scene_box: tuple[float, ...] = ()
    """Lower and upper corner of all there is, six numbers in the data set's units; () = found."""
    focus: tuple[float, ...] = ()
    """What the cameras look at, three numbers in the data set's units; () = found."""
    up: tuple[float, ...] = ()
    """The data set's upward direction, three numbers; () = found."""
    align_to: Path | None = None
    """dataparser_transforms.json of another run: cameras go to that run's scene space (`extend-scene`). Both data
    sets must have the same world coordinates."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a config.yml: a run from before places were found has the data parser's scene space, one from before
        backdrops were found keeps them."""
        self.__dict__.update({"place": False, "masks": "ignore", "background": "keep"} | state)


class LGDataManager(VanillaDataManager[InputDataset]):
    """Checks folder, images and poses, and tells the model whether the scene is bounded."""

    config: LGDataManagerConfig

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
        if isinstance(config.dataparser, AutoDataParserConfig):
            config.dataparser.background = config.background
        super().__init__(config, device, test_mode, world_size, local_rank, **kwargs)
        if len(self.eval_dataset):
            check_dataset(self.eval_dataset)

    def create_train_dataset(self) -> InputDataset:
        """The training images, in the scene space of `align_to` if that is given, else in that of the scene's place."""
        outputs, config = self.train_dataparser_outputs, self.config
        check_dataset(InputDataset(outputs))
        # Blender scenes are made of one object in the scene box with nothing around it.
        outputs.metadata.setdefault("bounded", isinstance(self.dataparser_config, BlenderDataParserConfig))
        self.placement: Placement | None = None
        self.masks = mask_meaning(small_masks(outputs), config.masks)
        if self.masks == "empty":
            leave_out_unmasked(outputs)
        alphas = small_alphas(outputs, self.masks == "empty")
        self.opaque = alphas is None
        if config.align_to is not None:
            align(outputs, config.align_to)
        elif config.place:
            self.placement = find_place(outputs, alphas, config.scene_box, config.focus, config.up)
            move(outputs, self.placement)
            CONSOLE.print(f"The scene: {self.placement.reason}.")
        dataset = CaptureDataset(outputs, config.camera_res_scale_factor, self.masks)
        dataset.depths &= config.depths or (bool(outputs.metadata["bounded"]) and not config.contracted)
        poses = dataset.cameras.camera_to_worlds
        dataset.metadata["few_photos"] = few_photos(poses[..., 3], -poses[..., 2])
        if self.opaque:
            dataset.metadata["backdrop"] = torch.tensor(mean_color(len(dataset), dataset.get_image_float32))
            dataset.metadata["exposures_differ"] = self._exposures_differ(outputs)
        return dataset

    def _exposures_differ(self, outputs: DataparserOutputs) -> bool:
        """Whether opaque photos do, said in a line."""
        poses = outputs.cameras.camera_to_worlds.double().numpy()
        differ = exposures_differ(outputs.image_filenames, poses[:, :, 3], -poses[:, :, 2])
        if differ:
            CONSOLE.print(f"{DIFFER}: each gets a change of colour of its own (--pipeline.model.exposure False: none).")
        return differ

    def setup_train(self) -> None:
        """nerfstudio's, with as many rays a step as the photos ask for."""
        share = self.config.opaque_share
        if not 0.0 < share <= 1.0:
            raise UserError(f"--pipeline.datamanager.opaque-share must be above 0 and at most 1, got {share}")
        super().setup_train()
        self.train_ray_generator = PixelRays(self.train_ray_generator.cameras)
        if self.opaque and self.train_pixel_sampler is not None:
            self.train_pixel_sampler.set_num_rays_per_batch(max(1, round(share * self.get_train_rays_per_batch())))
        self._look_near()

    def _look_near(self) -> None:
        """Let steps look at photos that were taken near each other, if that is wanted, and say so.

        Raises:
            UserError: so few photos, or pixels that are drawn otherwise.
        """
        count, dataset, sampler = self.config.near_photos, self.train_dataset, self.train_pixel_sampler
        if count < 0:
            raise UserError(f"--pipeline.datamanager.near-photos must be at least 0, got {count}")
        if count == 0:
            return
        if not isinstance(sampler, ObjectPixelSampler):
            raise UserError("--pipeline.datamanager.near-photos needs pixels that are drawn one by one: no patches")
        if count >= len(dataset):
            CONSOLE.print(f"Each step looks at all {len(dataset)} photos: there are no more than near-photos asks for.")
            return
        sampler.look_near(dataset.cameras.camera_to_worlds[:, :3, 3], count)
        CONSOLE.print(
            f"Each step looks at {count} of {len(dataset)} photos, taken near each other, so that it asks few rows."
        )

    def seen(self, photos: Tensor, count: int, background: Tensor, generator: torch.Generator | None = None) -> Seen:
        """What the cameras of some training photos, as they are given, have at so many of the pixels that tell most.

        Args:
            photos: (c,) numbers.
            count: pixels of each.
            background: (3,) behind what transparent pixels show.
            generator: draws the pixels; None = torch's.
        """
        found, cameras = [], self.train_ray_generator.cameras
        for photo in photos.tolist():

            def rays(rows: Tensor, columns: Tensor, photo: int = photo) -> tuple[Tensor, Tensor]:
                bundle = self.train_ray_generator(torch.stack([torch.full_like(rows, photo), rows, columns], dim=-1))
                return bundle.origins, bundle.directions

            data = self._cached(photo)
            mask = None if data.get("mask") is None else data["mask"][..., 0].bool()
            pixel = 2.0 / float(cameras.fx[photo] + cameras.fy[photo])
            found.append(seen_by(data["image"], mask, rays, pixel, count, background, generator))
        return together(found)

    def _cached(self, photo: int) -> dict[str, Any]:
        """nerfstudio's dictionary of a training photo, from memory if it is there."""
        batch = self.train_image_dataloader.cached_collated_batch
        at = [] if batch is None else (batch["image_idx"] == photo).nonzero().flatten().tolist()
        if batch is None or not at:
            found: dict[str, Any] = self.train_dataset[photo]
            return found
        return {name: values[at[0]] for name, values in batch.items() if name in ("image", "mask")}

    def create_eval_dataset(self) -> InputDataset:
        """The test images, in the same space as the training images."""
        outputs = self.dataparser.get_dataparser_outputs(split=self.test_split)
        if self.masks == "empty":
            leave_out_unmasked(outputs)
        if self.config.align_to is not None:
            align(outputs, self.config.align_to)
        elif self.placement is not None:
            move(outputs, self.placement)
        dataset = CaptureDataset(outputs, self.config.camera_res_scale_factor, self.masks)
        dataset.depths = False  # nothing is learned from them
        return dataset


def align(outputs: DataparserOutputs, transforms: Path) -> None:
    """Move parsed cameras, in place, to the scene space that a dataparser_transforms.json describes.

    A data parser turns, centers and scales the world by what it finds in a data set, so another data set of the same
    world ends in another scene space.
    """
    ours = scene_to_world(outputs.dataparser_transform, outputs.dataparser_scale)
    data = json.loads(transforms.read_text())
    theirs = scene_to_world(data["transform"], data["scale"])
    move = torch.linalg.inv(theirs) @ ours
    scale = torch.linalg.det(move[:3, :3]).abs() ** (1 / 3)
    poses = outputs.cameras.camera_to_worlds
    turned = move[:3, :3] @ poses.double()
    turned[..., :3] /= scale
    turned[..., 3] += move[:3, 3]
    outputs.cameras.camera_to_worlds = turned.to(poses)
    outputs.dataparser_transform = torch.tensor(data["transform"], dtype=outputs.dataparser_transform.dtype)
    outputs.dataparser_scale = data["scale"]
    points: Any = outputs.metadata.get("points3D_xyz")
    if points is not None:
        outputs.metadata["points3D_xyz"] = (points.double() @ move[:3, :3].T + move[:3, 3]).to(points)


def scene_to_world(transform: Any, scale: float) -> Tensor:
    """(4, 4) float64 matrix from scene space to a data set's own units, of a data parser's (3, 4) transform."""
    matrix = torch.eye(4, dtype=torch.float64)
    matrix[:3] = torch.as_tensor(transform, dtype=torch.float64)
    matrix[:3] *= scale
    return torch.linalg.inv(matrix)


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
