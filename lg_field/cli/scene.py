"""Scene files: `lg-field pack` makes one of a nerfstudio run, `lg-field render` makes pictures of it alone."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from lg_field.cli.options import NO_REGION, Address, Output, RegionFlags, pick_device, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.render import Camera
    from lg_field.radiance.scene import Scene
    from lg_field.table.cell_table import CellTable

MAX_PIXELS = 1 << 26


def pack(
    load_config: Path,
    output: Output,
    dtype: Literal["float32", "float16", "bfloat16"] = "float32",
    overwrite: bool = False,
) -> None:
    """Make one safe file out of a run: no data set, no config.yml, no pickle is needed afterwards.

    Args:
        load_config: config.yml of the run, or of a crop. Read with yaml's unsafe loader, as nerfstudio does.
        output: the scene file to write (.safetensors).
        dtype: of the weights in the file.
        overwrite: replace an existing output.
    """
    from lg_field.files import refuse_existing, save
    from lg_field.nerfstudio.runs import load_run
    from lg_field.nerfstudio.runs import pack as pack_run

    refuse_existing(output, overwrite)
    run = load_run(load_config)
    field = pack_run(run)
    size = save(field, output, dtype=dtype, overwrite=overwrite)
    before = run.checkpoint_path.stat().st_size
    Console().print(
        f"{output}: {field.num_rows} cells, {field.num_parameters()['total']:,} parameters, {size:,} bytes "
        f"(checkpoint: {before:,})",
        highlight=False,
        soft_wrap=True,
    )


def render(
    input: Address,
    output: Output,
    orbit: int = 0,
    camera: Path | None = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    width: int = 512,
    height: int = 512,
    elevation: float | None = None,
    transparent: bool = False,
    fps: int = 24,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Render a scene file to a picture, a folder of pictures, or a video.

    Args:
        input: scene file, or an address fsspec reads.
        output: .png for one picture, .mp4 for a video, anything else is a folder.
        orbit: cameras on a circle around the scene.
        camera: or a nerfstudio camera path (JSON); its size is taken unless it has none.
        region: load and show only this part.
        width: pixels.
        height: pixels.
        elevation: degrees above the horizon of an orbit; the default is the training camera's.
        transparent: pictures with alpha instead of the scene's background.
        fps: pictures a second of a video.
        device: auto, cpu, cuda, ...
        overwrite: replace existing files.
    """
    from lg_field.files import FieldFile, refuse_existing

    if (orbit > 0) == (camera is not None):
        raise ValueError("give either --orbit COUNT or --camera PATH.json")
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"--width and --height must make a picture of 1 to {MAX_PIXELS:,} pixels")
    refuse_existing(output, overwrite)
    console, begin = Console(), time.perf_counter()
    with FieldFile.open(input) as file:
        shape, cells = region.resolve(file.skeleton) if region.given else (None, None)
        field: Any = file.load(shape, cells, region.invert)
        field.region = file.region if region.snap else field.region
        read = file.reader.bytes_read
    scene = scene_of(field, input)
    field = field.to(pick_device(device))
    cameras = list(cameras_of(field, scene, orbit, camera, width, height, elevation))
    if output.suffix.lower() == ".png" and len(cameras) != 1:
        raise ValueError(f"{output} is one picture, {len(cameras)} were asked for: give a folder or .mp4")
    with progress_bar(console) as progress:
        task = progress.add_task("rendering", total=len(cameras))
        pictures = (rendered(field, scene, c, transparent, progress, task) for c in cameras)
        write_pictures(pictures, output, transparent, fps, overwrite)
    seconds = time.perf_counter() - begin
    console.print(
        f"{output}: {len(cameras)} pictures of {cameras[0].width} x {cameras[0].height}, {read:,} bytes read, "
        f"{seconds:.1f} s, {seconds / len(cameras):.2f} s each",
        highlight=False,
        soft_wrap=True,
    )


def scene_of(field: CellTable, name: str) -> Scene:
    """What a scene file says of its scene.

    Raises:
        ValueError: it is no scene file.
    """
    from lg_field.radiance.scene import Scene

    if not isinstance(field.description, Scene):
        raise ValueError(f"{name} is no scene file; `lg-field pack --load-config ...` makes one of a run")
    return field.description


def cameras_of(
    field: RadianceField, scene: Scene, count: int, path: Path | None, width: int, height: int, elevation: float | None
) -> Iterator[Camera]:
    """The cameras asked for."""
    from lg_field.radiance.render import orbit

    if path is not None:
        yield from read_camera_path(path, width, height)
    else:
        yield from orbit(field, scene, count, width, height, elevation)


def read_camera_path(path: Path, width: int, height: int) -> Iterator[Camera]:
    """Cameras of a nerfstudio camera path: `camera_path` with `camera_to_world` (16 numbers) and vertical `fov`.

    Raises:
        ValueError: not a camera path, or one of another kind than perspective.
    """
    import torch

    from lg_field.radiance.render import Camera

    try:
        data = json.loads(path.read_text())
        if data.get("camera_type", "perspective") != "perspective":
            raise ValueError(f"camera_type is {data['camera_type']!r}, only perspective is rendered")
        width, height = int(data.get("render_width", width)), int(data.get("render_height", height))
        cameras = []
        for frame in data["camera_path"]:
            matrix = torch.tensor(frame["camera_to_world"], dtype=torch.float64).view(4, 4)
            focal = 0.5 / math.tan(math.radians(float(frame["fov"])) / 2)
            cameras.append(Camera(matrix, focal, width, height))
        if not cameras or not 0 < width * height <= MAX_PIXELS:
            raise ValueError("it has no camera, or an impossible size")
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(f"{path} is not a nerfstudio camera path: {str(error).splitlines()[0]}") from error
    yield from cameras


def write_pictures(pictures: Iterator[Tensor], output: Path, transparent: bool, fps: int, overwrite: bool) -> None:
    """Write (height, width, 3 or 4) uint8 pictures to a .png, a .mp4 or a folder of PNGs."""
    from lg_field.files import atomic_write
    from lg_field.signals.kinds.image import write_image
    from lg_field.signals.kinds.video import write_video

    suffix = output.suffix.lower()
    if suffix == ".mp4":
        if transparent:
            raise ValueError("videos have no alpha: leave out --transparent")
        with atomic_write(output, overwrite) as temporary:
            write_video((picture[None] for picture in pictures), temporary, float(fps))
        return
    for number, picture in enumerate(pictures):
        with atomic_write(output if suffix == ".png" else output / f"{number:05d}.png", overwrite) as temporary:
            write_image(picture, temporary)


def rendered(
    field: RadianceField, scene: Scene, camera: Camera, transparent: bool, progress: Progress, task: Any
) -> Tensor:
    """A picture as (height, width, 3 or 4) uint8."""
    import torch

    from lg_field.radiance.compositing import straight_alpha
    from lg_field.radiance.render import render

    picture = render(field, scene, camera)
    progress.advance(task)
    rgb, alpha = picture.rgb, picture.accumulation
    if transparent:
        rgb = straight_alpha(rgb, alpha, rgb.new_tensor(scene.background))
    return (rgb * 255.0).round().to(torch.uint8)
