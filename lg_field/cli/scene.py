"""Scene files: `lg-field pack` makes one of a nerfstudio run, `lg-field render` makes pictures of it alone."""

from __future__ import annotations

import math
import mimetypes
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import Progress

from lg_field.cli.console import say
from lg_field.cli.opening import source_of
from lg_field.cli.options import NO_REGION, OptionalAddress, Output, RegionFlags, pick_device, progress_bar
from lg_field.errors import doing, notice
from lg_field.files import atomic_write, refuse_existing
from lg_field.files.atomic import temporary_folder

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.radiance.render import Camera
    from lg_field.radiance.scene import Scene
    from lg_field.radiance.volume import Volume

Holds = Literal["picture", "video", "folder"]
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
VIDEOS = (".mp4", ".mkv", ".mov")


def pack(
    load_config: Path,
    output: Output,
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32",
    overwrite: bool = False,
) -> None:
    """Make one safe file out of a run: no data set, no config.yml, no pickle is needed afterwards.

    Args:
        load_config: config.yml of the run, or of a crop. Read with yaml's unsafe loader, as nerfstudio does.
        output: the scene file to write (.safetensors).
        dtype: of the weights in the file.
        overwrite: replace an existing output.
    """
    refuse_existing(output, overwrite)
    field, size, before = packed(load_config, output, dtype, overwrite)
    Console().print(
        f"{output}: {field.num_rows} cells, {field.num_parameters()['total']:,} parameters, {size:,} bytes "
        f"(checkpoint: {before:,})",
        highlight=False,
        soft_wrap=True,
    )


def packed(load_config: Path, output: Path, dtype: Any = "float32", overwrite: bool = False) -> tuple[Any, int, int]:
    """Write the scene file of a run; a few rows at a time are in memory.

    Returns:
        The field without its rows, and the bytes of the file and of the checkpoint.
    """
    from lg_field.files import save
    from lg_field.nerfstudio.runs import load_run, outline

    run = load_run(load_config, folder_for(output), moments=False)
    field, lines = outline(run)
    return field, save(field, output, dtype=dtype, overwrite=overwrite, lines=lines), run.size


def folder_for(output: Path) -> Path:
    """The nearest folder above an output that is there."""
    return next(folder for folder in output.resolve().parents if folder.is_dir())


def render(
    output: Output,
    input: OptionalAddress = None,
    load_config: Path | None = None,
    orbit: int = 0,
    camera: Path | None = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    width: int = 512,
    height: int = 512,
    elevation: float | None = None,
    show: Literal["rgb", "accumulation", "depth", "cells", "density", "seam"] = "rgb",
    transparent: bool = False,
    least_light: float = 1e-3,
    fps: int = 24,
    device: str = "auto",
    memory: float = 2.0,
    max_size: float = 32.0,
    overwrite: bool = False,
) -> None:
    """Render a scene file to a picture, a folder of pictures, or a video.

    Args:
        output: .png, .jpg or .webp for one picture, .mp4, .mkv or .mov for a video, without suffix a folder of PNGs.
        input: scene file or composition, or an address fsspec reads.
        load_config: or config.yml of a run: a scene file of it is beside the output as long as it is rendered.
        orbit: cameras on a circle around the scene.
        camera: or a nerfstudio camera path (JSON); its size is taken unless it has none.
        region: load and show only this part.
        width: pixels.
        height: pixels.
        elevation: degrees above the horizon of an orbit; the default is the training camera's.
        show: colours, or opacity, depth, cells, largest density or jumps at cell borders, coloured as numbers.
        transparent: pictures with alpha instead of the scene's background.
        least_light: rays end where less than this part of the light gets through; 0 = where the scene ends.
        fps: pictures a second of a video.
        device: auto, cpu, cuda, ...
        memory: GB that rows and what is computed of a picture may take; of more rows those are read that rays reach.
        max_size: GB of pixels in all; what is larger is refused before anything is rendered.
        overwrite: replace existing files.
    """
    holds, look = what_it_holds(output, transparent), look_of(show, transparent)
    check_numbers(orbit, camera, width, height, elevation, fps, least_light)
    refuse_existing(output, overwrite)
    console, begin = Console(), time.perf_counter()
    path = None if camera is None else read_path(camera, width, height)
    sizes = [(c.width, c.height) for c in path or ()] or [(width, height)] * orbit
    check_count(output, holds, len(sizes))
    check_pixels(sizes, 4 if transparent else 3, max_size)
    with (
        file_of(input, load_config, output) as name,
        source_of(name).shown(region, pick_device(device), memory) as shown,
    ):
        scene = scene_of(shown.field, name)
        cameras = orbit_of(shown.field, scene, orbit, width, height, elevation) if path is None else path
        with doing(f"rendering {output}"), progress_bar(console) as progress:
            task = progress.add_task("rendering", total=len(cameras))
            pictures = (rendered(shown.field, scene, c, look, least_light, progress, task) for c in cameras)
            write_pictures(pictures, output, holds, fps, overwrite)
        say_rendered(console, output, cameras, shown.bytes_read(), time.perf_counter() - begin)


def say_rendered(console: Console, output: Path, cameras: Sequence[Camera], read: int, seconds: float) -> None:
    """How many pictures there are, and what they took."""
    count = len(cameras)
    size = f"{count} pictures of {cameras[0].width} x {cameras[0].height}"
    say(console, f"{output}: {size}, {read:,} bytes read, {seconds:.1f} s, {seconds / count:.2f} s each")


@contextmanager
def file_of(input: str | None, load_config: Path | None, output: Path) -> Iterator[str]:
    """The file to be looked at: that which is given, or one of a run, beside the output and gone afterwards.

    Raises:
        ValueError: not one of both.
    """
    if (input is None) == (load_config is None):
        raise ValueError("give either a scene file or composition, or --load-config config.yml")
    if load_config is None:
        assert input is not None
        yield input
        return
    with temporary_folder(output.absolute()) as folder:
        path = folder / "scene.safetensors"
        _, size, _ = packed(load_config, path)
        notice(f"{load_config}: a scene file of {size:,} bytes is made for this; `lg-field pack` makes one to keep")
        yield str(path)


def what_it_holds(output: Path, transparent: bool) -> Holds:
    """What a path asks for: one picture, a video, or a folder of PNGs.

    Raises:
        ValueError: another kind of file, or one that cannot hold alpha.
    """
    suffix = output.suffix.lower()
    holds: Holds = "picture" if suffix in PICTURES else "video" if suffix in VIDEOS else "folder"
    if holds == "folder" and (suffix[1:].isalpha() or mimetypes.guess_type(output.name)[0] is not None):
        raise ValueError(
            f"{output}: cannot write {suffix}; {', '.join(PICTURES)} hold one picture, {', '.join(VIDEOS)} a video, "
            "a name without suffix is a folder of PNGs"
        )
    if transparent and suffix in (*VIDEOS, ".jpg", ".jpeg"):
        raise ValueError(f"{suffix} has no alpha: leave out --transparent, or write .png, .webp or a folder")
    return holds


def check_numbers(
    orbit: int, camera: Path | None, width: int, height: int, elevation: float | None, fps: int, least_light: float
) -> None:
    """Raise ValueError for cameras and sizes that make no sense, before any work."""
    from lg_field.radiance.camera_path import check_size

    if orbit < 0 or (orbit > 0) == (camera is not None):
        raise ValueError("give either --orbit COUNT or --camera PATH.json")
    check_size(width, height)
    if fps < 1 or not math.isfinite(elevation or 0.0):
        raise ValueError(f"--fps must be at least 1 and --elevation finite, got {fps} and {elevation}")
    if not 0.0 <= least_light < 1.0:
        raise ValueError(f"--least-light must be at least 0 and below 1, got {least_light}")


def check_count(output: Path, holds: Holds, count: int) -> None:
    """Raise ValueError for several pictures in the file of one."""
    if holds == "picture" and count != 1:
        raise ValueError(f"{output} is one picture, {count} were asked for: give a folder or .mp4")


def check_pixels(sizes: Sequence[tuple[int, int]], channels: int, max_size: float) -> None:
    """Raise ValueError for pictures of these widths and heights that have more GB of pixels than the limit."""
    from lg_field.signals.decode import size_words

    count = sum(width * height for width, height in sizes) * channels
    if count > max_size * 1e9:
        width, height = sizes[0]
        raise ValueError(
            f"{len(sizes):,} pictures of {width:,} x {height:,} have {size_words(count)} of pixels, more than "
            f"--max-size {max_size:g}: ask for fewer or smaller ones, or give a larger --max-size (GB)"
        )


def scene_of(field: Any, name: str) -> Scene:
    """What a scene file says of its scene.

    Raises:
        ValueError: it is no scene file.
    """
    from lg_field.radiance.scene import Scene

    if not isinstance(field.description, Scene):
        raise ValueError(f"{name} is no scene file; `lg-field pack --load-config ...` makes one of a run")
    return field.description


def read_path(path: Path, width: int, height: int) -> list[Camera]:
    """The cameras of a camera path."""
    from lg_field.radiance.camera_path import read_camera_path

    return read_camera_path(path, width, height)


def orbit_of(field: Volume, scene: Scene, count: int, width: int, height: int, elevation: float | None) -> list[Camera]:
    """Cameras on a circle."""
    from lg_field.radiance.render import orbit

    return list(orbit(field, scene, count, width, height, elevation))


def write_pictures(pictures: Iterator[Tensor], output: Path, holds: Holds, fps: int, overwrite: bool) -> None:
    """Write (height, width, 3 or 4) uint8 pictures to one file or to a folder of PNGs."""
    from lg_field.signals.kinds.image import write_image
    from lg_field.signals.kinds.video import write_video

    if holds == "video":
        with atomic_write(output, overwrite) as temporary:
            write_video((picture[None] for picture in pictures), temporary, float(fps))
        return
    for number, picture in enumerate(pictures):
        with atomic_write(output if holds == "picture" else output / f"{number:05d}.png", overwrite) as temporary:
            write_image(picture, temporary)


Look = Callable[..., "Tensor"]
"""Field, scene, camera and least light -> (height, width, 3 or 4) uint8 picture."""


def rendered(
    field: Volume, scene: Scene, camera: Camera, look: Look, least_light: float, progress: Progress, task: Any
) -> Tensor:
    """A picture as (height, width, 3 or 4) uint8."""
    picture = look(field, scene, camera, least_light)
    progress.advance(task)
    return picture


def look_of(show: str, transparent: bool) -> Look:
    """What renders one of the things that can be shown.

    Raises:
        ValueError: numbers with alpha.
    """
    if show == "rgb":
        return colors_of(transparent)
    if transparent:
        raise ValueError(f"--transparent is for colours: leave it out to --show {show}")
    return partial(output_of, name=show)


def colors_of(transparent: bool) -> Look:
    """What renders colours, with alpha if they are to be transparent."""

    def look(field: Volume, scene: Scene, camera: Camera, least_light: float) -> Tensor:
        import torch

        from lg_field.radiance.compositing import straight_alpha
        from lg_field.radiance.render import render

        picture = render(field, scene, camera, least_light=least_light)
        rgb, alpha = picture.rgb, picture.accumulation
        if transparent:
            rgb = straight_alpha(rgb, alpha, rgb.new_tensor(scene.background))
        return (rgb * 255.0).round().to(torch.uint8)

    return look


def output_of(field: Volume, scene: Scene, camera: Camera, least_light: float, name: str) -> Tensor:
    """One of `outputs.OUTPUTS` in colours."""
    import torch

    from lg_field.radiance.outputs import render_output
    from lg_field.viewer.outputs import to_picture

    return torch.from_numpy(to_picture(render_output(field, scene, camera, name, least_light)))
