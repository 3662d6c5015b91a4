"""`lg-field publish`: the page of a scene, for any static host; and `lg-field view --web`, which serves it here."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console

from lg_field.cli.console import say
from lg_field.cli.opening import CropFlags
from lg_field.cli.options import Input, Output, RegionFlags
from lg_field.errors import doing

if TYPE_CHECKING:
    from lg_field.web.publish import Site, SiteCamera, SitePath

FRAMES = 24.0
"""Cameras of a path a second, where it does not say how long it takes."""
SIZE = (1280, 720)
"""Pixels of cameras that say none; a page has its own."""


def publish(
    input: Input,
    output: Output,
    title: str = "",
    description: str = "",
    camera: Path | None = None,
    view: Annotated[tuple[Path, ...], tyro.conf.arg(metavar="PATH ...")] = (),
    path: Path | None = None,
    still: bool = True,
    one_file: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a page that shows a scene in the browser, where it can be cropped, too: a folder for any static host.

    Args:
        input: scene file, as `lg-field pack` writes it, or an archive of one (`lg-field compress`).
        output: the folder to write; with --one-file an .html file.
        title: of the page; the default is the file's name.
        description: a few words about the scene.
        camera: nerfstudio camera path (JSON) whose first camera the page starts with; the default is the scene's own.
        view: more of them: each of their cameras is a preset view, named after the file.
        path: camera path that the page can play.
        still: render a picture for browsers that cannot show the scene.
        one_file: a single page that opens from disk, with everything in it.
        overwrite: replace what is there.
    """
    from lg_field.web.publish import publish as write

    check_target(input, output, one_file)
    site = site_of(input, title, description, camera, view, path)
    begin = time.perf_counter()
    with doing(f"writing {output}"):
        size = write(input, output, site, still=still, one_file=one_file, overwrite=overwrite)
    seconds = time.perf_counter() - begin
    how = "open it in a browser" if one_file else "put the folder on any web host"
    say(Console(), f"{output}: {size:,} bytes, {seconds:.1f} s; {how}, or see it here: lg-field view --web {input}")


def check_target(source: Path, output: Path, one_file: bool) -> None:
    """Raise ValueError for an output that cannot be what was asked for."""
    from lg_field.radiance.arrangement import is_composition

    if is_composition(source.name):
        raise ValueError(f"{source} is no field file: pages show single scenes, so publish those of a composition")
    if not source.is_file():
        raise FileNotFoundError(f"{source} is not there; give a scene file of this machine")
    if one_file and output.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--one-file writes a page: give a name that ends in .html, not {output}")
    if not one_file and output.suffix.lower() in (".html", ".htm"):
        raise ValueError(f"a folder is written: give its name, not {output}, or --one-file")
    if not one_file and (output.is_file() or output.resolve() == source.parent.resolve()):
        raise ValueError(f"{output} is a file or the scene's own folder: give the name of another folder")


def site_of(
    source: Path,
    title: str = "",
    description: str = "",
    camera: Path | None = None,
    views: tuple[Path, ...] = (),
    path: Path | None = None,
) -> Site:
    """What a page says and shows, from the flags.

    Raises:
        ValueError: not camera paths.
    """
    from lg_field.web.publish import Site

    first = None if camera is None else cameras_of(camera)[0]
    named = tuple(view for file in views for view in cameras_of(file))
    return Site(title or source.stem, description, first, named, None if path is None else path_of(path))


def cameras_of(file: Path) -> list[SiteCamera]:
    """The cameras of a nerfstudio camera path, named after the file."""
    from lg_field.radiance.camera_path import read_camera_path
    from lg_field.web.publish import SiteCamera

    found = read_camera_path(file, *SIZE)
    names = [file.stem] if len(found) == 1 else [f"{file.stem} {number}" for number in range(1, len(found) + 1)]
    return [SiteCamera.of(camera, name) for camera, name in zip(found, names)]


def path_of(file: Path) -> SitePath:
    """A camera path, and how long it takes: its `seconds`, else `FRAMES` cameras a second.

    Raises:
        ValueError: not a camera path, or one that takes no time.
    """
    from lg_field.web.publish import SitePath

    cameras = cameras_of(file)
    said = json.loads(file.read_text()).get("seconds")
    seconds = len(cameras) / FRAMES if said is None else said
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds < math.inf:
        raise ValueError(f"{file}: a camera path takes a positive number of seconds, got {str(seconds)[:40]}")
    return SitePath(float(seconds), tuple(cameras))


def serve(input: str, region: RegionFlags, port: int) -> None:
    """Serve the page of a scene on this machine until Ctrl-C.

    Args:
        input: scene file or an archive of one, or an address fsspec reads: what the page asks for is read by ranges.
        region: show only this part: no more than that is read. None given = everything.
        port: the next free one if it is taken.

    Raises:
        ValueError: no scene file.
    """
    from lg_field.files.ranges import open_ranges
    from lg_field.web.publish import contents, name_of
    from lg_field.web.server import PageServer

    with ExitStack() as stack:
        source = stack.enter_context(part_file(input, region))
        page = contents(source, site_of(Path(name_of(source))), still=False, part=region.given)
        held = stack.enter_context(open_ranges(source)) if "://" in source else Path(source)
        server = stack.enter_context(PageServer({**page.files, name_of(source): held}, port))
        print(f"{input}: {server.url}", flush=True)
        server.serve_forever()


@contextmanager
def part_file(input: str, region: RegionFlags) -> Iterator[str]:
    """Context: a file that pages read, of all of a scene or a part of it."""
    from lg_field.cli.edit import crop_field
    from lg_field.radiance.arrangement import is_composition
    from lg_field.web.publish import name_of, plain_file

    if is_composition(input):
        raise ValueError(f"{input} is no field file: --web shows single scenes; leave it out for a composition")
    if not region.given:
        with plain_file(input) as plain:
            yield plain
        return
    with TemporaryDirectory() as folder:
        part = Path(folder, name_of(input)).with_suffix(".safetensors")
        crop_field(
            input, CropFlags(part, region, "as-is", dry_run=False, report=None, overwrite=False), as_result=False
        )
        yield str(part)
