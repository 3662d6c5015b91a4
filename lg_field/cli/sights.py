"""Cameras on a command line: those of a capture beside a scene file, and the masks of their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lg_field.cli.objects import VoxelSource
from lg_field.errors import notice, tell

if TYPE_CHECKING:
    from lg_field.radiance.occupancy_grid import OccupancyGrid
    from lg_field.radiance.scene import Scene
    from lg_field.radiance.views import Views
    from lg_field.space.regions import Region

NEAR = 0.1
"""How far from a camera of a capture a place that a scene knows may lie, in distances between cameras."""


class Sights(NamedTuple):
    """Training images."""

    views: Views
    """Their cameras, scene units."""
    images: list[Path]


@dataclass(frozen=True)
class SightFlags:
    """What the training images say of a scene file."""

    data: Path | None = None
    """Of scenes: folder of the photos it was trained on, with their cameras: --focus knows these in full."""
    masks: Path | None = None
    """With --data: folder with one mask per training image, named as the images, bright where the object is: what the
    masks agree on is kept. Images without one count for nothing."""

    def check(self, focus: bool) -> None:
        """Raise ValueError for masks of unknown images, and for data that nothing is asked of (`focus`: whether what
        cameras look at is)."""
        if self.data is not None and self.masks is None and not focus:
            raise ValueError(
                "--data says where the cameras of --focus or --masks were: give one of these, or leave it out"
            )
        if self.masks is not None and self.data is None:
            raise ValueError(
                "--masks needs the cameras of the images: name their folder by --data (a scene file only knows where "
                "some cameras were)"
            )

    def limit(self, source: VoxelSource, region: Region | None, scene: object) -> Region | None:
        """The voxels that the masks agree on, in scene units; None without masks."""
        if self.masks is None:
            return None
        return masked(source.occupancy(), region, self.of(scene), self.masks)

    def seen_from(self, source: VoxelSource, scene: object) -> VoxelSource:
        """The same voxels, seen from the cameras of the data, if there are any."""
        if self.data is None:
            return source
        from lg_field.radiance.focus import Look
        from lg_field.radiance.placement import look_at

        views = lru_cache(1)(lambda: self.of(scene).views)
        return source._replace(look=lambda: Look(views(), look_at(views())[0]))

    def of(self, scene: object) -> Sights:
        """The training images of the data, in the scene's space.

        Raises:
            ValueError: not a scene, or cameras of another one.
        """
        from lg_field.radiance.scene import Scene

        assert self.data is not None
        if not isinstance(scene, Scene):
            raise ValueError("--data and --masks are for scenes: a signal was seen by no camera")
        found = sights_of_capture(self.data, scene)
        check_places(found.views, scene, self.data)
        return found


NO_SIGHTS = SightFlags()


def sights_of_capture(data: Path, scene: Scene) -> Sights:
    """The training photos of a capture, with their cameras in a scene's space; distortion left out."""
    import torch

    from lg_field.captures import read_capture
    from lg_field.radiance.views import Views

    capture = read_capture(data)
    photos = capture.part("train")
    to_scene = torch.linalg.inv(torch.tensor(scene.scene_to_world, dtype=torch.float64))
    poses = torch.stack([torch.from_numpy(photo.pose) for photo in photos])
    poses = (to_scene @ torch.from_numpy(capture.to_world) @ poses)[:, :3]
    poses[:, :, :3] /= torch.linalg.det(poses[:, :, :3]).abs()[:, None, None] ** (1 / 3)
    lenses = [photo.lens for photo in photos]
    focals = torch.tensor([[lens.fx / lens.width, lens.fy / lens.height] for lens in lenses], dtype=torch.float64)
    centers = torch.tensor([[lens.cx / lens.width, lens.cy / lens.height] for lens in lenses], dtype=torch.float64)
    return Sights(Views(poses, focals, centers), [photo.image for photo in photos])


def check_places(views: Views, scene: Scene, data: Path) -> None:
    """Raise ValueError unless the places of cameras that a scene knows are those of some views; a notice where it knows
    none."""
    import torch

    if not scene.viewpoints:
        notice(f"the scene does not say where its cameras were: those of {data} are taken for them, unchecked")
        return
    known, places = torch.tensor(scene.viewpoints, dtype=torch.float64), views.origins
    away = torch.cdist(known, places).amin(1).median()
    apart = (places - places.mean(0)).norm(dim=-1).median().clamp_min(1e-9)
    if float(away) > NEAR * float(apart):
        raise ValueError(
            f"the cameras of {data} are not those that the scene was trained on: they lie {float(away / apart):.0%} of "
            "their spread apart"
        )


def masked(grid: OccupancyGrid, region: Region | None, sights: Sights, folder: Path) -> Region:
    """The voxels that masks agree on, in scene units; says how many.

    Args:
        grid: occupancy.
        region: that is shown of it; None = everything.
        sights: training images.
        folder: with one mask per image; see `captures.masks.mask_files`.

    Raises:
        ValueError: too few masks, or they agree on nothing.
    """
    import torch

    from lg_field.captures.masks import mask_files, read_mask
    from lg_field.radiance.carving import agreed_voxels
    from lg_field.radiance.components import voxel_set
    from lg_field.radiance.views import Views

    files = mask_files(sights.images, folder)
    index = torch.tensor([k for k, file in enumerate(files) if file is not None], dtype=torch.int64)
    every: Sequence[torch.Tensor] = (sights.views.poses, sights.views.focals, sights.views.centers)
    views = Views(*(part[index] for part in every))
    alphas = torch.stack([read_mask(file) for file in files if file is not None])
    hull = agreed_voxels(grid, region, views, alphas)
    if not bool(hull.any()):
        raise ValueError(f"the masks in {folder} agree on nothing: are they of these images, bright inside?")
    tell(f"{len(index)} masks of {len(files)} training images: {int(hull.sum()):,} voxels agree")
    return voxel_set(grid, hull)
