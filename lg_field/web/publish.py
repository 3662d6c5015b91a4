"""A page of a scene: a folder that any static host serves, or one file that opens from disk."""

from __future__ import annotations

import base64
import html
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from lg_field.errors import notice
from lg_field.files import FieldFile, atomic_write, refuse_existing
from lg_field.files.archive import decompress, unpacked
from lg_field.files.ranges import open_ranges
from lg_field.files.small_numbers import SCALE
from lg_field.radiance.cameras import Camera, orbit
from lg_field.radiance.edits import was_cropped
from lg_field.radiance.field import RadianceField
from lg_field.radiance.render import render
from lg_field.radiance.scene import Scene

STATIC = Path(__file__).parent / "static"
"""The page as browsers run it."""
SHIPPED = (".js", ".wgsl", ".css", ".html")
"""Kinds of files that a page consists of."""
PAGE, STILL = "index.html", "still.jpg"
STILL_SIZE = (800, 500)
"""Pixels of the still picture: width, height."""
MODULES = "lg-field/"
"""Begins the names by which modules of a one-file page import each other."""
IMPORT = re.compile(r"""(\bfrom\s*|\bimport\s*)(["'])\./([\w-]+\.js)\2""")
STYLE = '<link rel="stylesheet" href="style.css">'
AHEAD = re.compile(r'<link rel="(?:module)?preload"[^>]*>\n')
POLICY = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
ONE_FILE_POLICY = (
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; script-src 'unsafe-inline' data:; "
    "style-src 'unsafe-inline'; img-src data: blob:; connect-src data: blob:\">"
)
"""What one file may load: itself."""
WEIGHTS = ("features", "local")
"""Tensors with a line for each cell that a page reads when the cell is shown; all others at once."""
NEAR = 1 << 16
"""Ranges at most so many bytes apart are read as one."""
LARGE_FILE = 64 << 20
"""Bytes of a scene above which one file is slow to open."""


@dataclass(frozen=True)
class SiteCamera:
    """A camera that the page goes to."""

    name: str
    camera: tuple[tuple[float, ...], ...]
    """(4, 4) camera to scene, by rows (OpenGL axes)."""
    focal: float
    """Focal length in heights of a picture, in widths of one that is narrower than high."""

    @staticmethod
    def of(camera: Camera, name: str) -> SiteCamera:
        """Of a camera that makes rays."""
        focal = float(camera.focal) / min(1.0, camera.width / camera.height)
        return SiteCamera(name, tuple(tuple(row) for row in camera.to_scene.tolist()), focal)

    def rays(self, width: int, height: int) -> Camera:
        """The camera of a picture of so many pixels."""
        matrix = torch.tensor(self.camera, dtype=torch.float64)
        return Camera(matrix, self.focal * min(1.0, width / height), width, height)


@dataclass(frozen=True)
class SitePath:
    """Cameras one after the other."""

    seconds: float
    """How long all of it takes."""
    cameras: tuple[SiteCamera, ...]


@dataclass(frozen=True)
class Site:
    """What a page says and shows beside the scene itself."""

    title: str
    description: str = ""
    camera: SiteCamera | None = None
    """Where the page starts; None = the scene's own camera, or one that sees all of it."""
    views: tuple[SiteCamera, ...] = ()
    """Preset views."""
    path: SitePath | None = None
    """Camera path."""


@dataclass(frozen=True)
class Contents:
    """The files of a page by name, but for the scene's, and the data that goes into it."""

    files: dict[str, bytes]
    data: dict[str, Any]


def publish(
    source: Path, target: Path, site: Site, *, still: bool = True, one_file: bool = False, overwrite: bool = False
) -> int:
    """Write the page of a scene.

    Args:
        source: scene file, or an archive of one: the page gets the file that it holds.
        target: the folder to write; of one file the file (.html).
        site: what the page says and shows.
        still: render a picture for browsers without WebGPU.
        one_file: everything in a single page that opens from disk.
        overwrite: replace the files of a page that is there already; others in the folder stay.

    Returns:
        Bytes written.

    Raises:
        FileExistsError: the target exists (a folder: and is not empty) and overwrite is False.
        ValueError: not a scene file.
    """
    refuse_existing(target, overwrite or (not one_file and target.is_dir() and not any(target.iterdir())))
    with plain_file(str(source)) as plain:
        size = Path(plain).stat().st_size
        if one_file and size > LARGE_FILE:
            notice(
                f"{name_of(plain)} has {size:,} bytes: as one file it is read whole before anything shows; without "
                "--one-file a host sends what is looked at first"
            )
        page = contents(plain, site, still)
        if not one_file:
            return _write_folder(page, Path(plain), target)
        text = inlined(page, Path(plain).read_bytes())
    with atomic_write(target, overwrite) as temporary:
        temporary.write_bytes(text)
    return len(text)


@contextmanager
def plain_file(source: str) -> Iterator[str]:
    """Context: a file that pages read: the source, or of an archive the field file that it holds, which it says.

    Args:
        source: field file or archive, or an address fsspec reads.
    """
    with open_ranges(source) as ranges:
        is_archive = unpacked(ranges, source) is not ranges
    if not is_archive:
        yield source
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, name_of(source)).with_suffix(".safetensors")
        size = decompress(source, plain)
        notice(f"{source} is an archive, which pages do not read: this one gets the file that it holds, {size:,} bytes")
        yield str(plain)


def name_of(source: str) -> str:
    """The file's name, of a path or an address."""
    return Path(urlsplit(source).path if "://" in source else source).name


def contents(source: str, site: Site, still: bool, part: bool = False) -> Contents:
    """The files of a scene's page.

    Args:
        source: scene file, or an address fsspec reads.
        site: what the page says and shows.
        still: render a picture, too.
        part: the file holds a part of a scene, also where it carries no mark of that (`scenes_camera`).

    Raises:
        ValueError: not a scene file.
    """
    with FieldFile.open(source) as file:
        scene = file.description
        if not isinstance(scene, Scene):
            raise ValueError(f"{source} is no scene file; `lg-field pack --load-config ...` makes one of a run")
        data = {"field": name_of(source), "bytes": file.reader.size, "ranges": read_at_once(file)}
        camera = site.camera or (None if part else scenes_camera(file, scene))
        field: Any = file.load() if still or camera is None else None
        camera = camera or SiteCamera.of(next(orbit(field, scene, 1, *STILL_SIZE)), "start")
    data = asdict(site) | data | {"camera": asdict(camera)}
    files = {path.name: path.read_bytes() for path in sorted(STATIC.iterdir()) if path.suffix in SHIPPED}
    if still:
        files[STILL] = still_picture(field, scene, camera)
    data["still"] = STILL if still else None
    files[PAGE] = replaced(filled(files[PAGE].decode(), data), STYLE, "\n".join([STYLE, *ahead(files)])).encode()
    return Contents(files, data)


def ahead(files: Mapping[str, bytes]) -> list[str]:
    """Lines that let a browser ask for modules and programs at once, not for each when another one names it."""
    lines = {".js": '<link rel="modulepreload" href="{}">'}
    lines[".wgsl"] = '<link rel="preload" as="fetch" crossorigin href="{}">'
    return [lines[Path(name).suffix].format(name) for name in files if Path(name).suffix in lines]


def read_at_once(file: FieldFile) -> list[list[int]]:
    """What a page reads of a scene file before any rows, so that it can ask for all of it with its first requests.

    Returns:
        First byte and byte after the last one, of each range.
    """
    entries = file.reader.entries
    shared = (entries[name] for name in file.entry_names() if file.owner(name) not in WEIGHTS or name.endswith(SCALE))
    ranges = [[0, min((entry.start for entry in entries.values()), default=0)]]
    for entry in sorted(shared, key=lambda entry: entry.start):
        if entry.start - ranges[-1][1] > NEAR:
            ranges.append([entry.start, entry.start])
        ranges[-1][1] = entry.start + entry.num_bytes
    return ranges


def scenes_camera(file: FieldFile, scene: Scene) -> SiteCamera | None:
    """The training camera of a whole scene, whose pictures are taken to be no narrower than high; None for a part of
    one, of which it may see nothing, as its exact region or its history says."""
    if scene.camera is None or file.header.region is not None or was_cropped(file.header.history):
        return None
    return SiteCamera("start", scene.camera, scene.focal)


def still_picture(field: RadianceField, scene: Scene, camera: SiteCamera) -> bytes:
    """What a camera sees, as the bytes of a .jpg.

    Raises:
        ImportError: what writes pictures is missing.
    """
    from lg_field.signals.pictures.writing import write_image

    picture = render(field, scene, camera.rays(*STILL_SIZE))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, STILL)
        write_image((picture.rgb * 255.0).round().to(torch.uint8), path)
        return path.read_bytes()


def filled(text: str, data: Mapping[str, Any]) -> str:
    """The page's text with its title and its data (see `loader.js`)."""
    title = f"<title>{html.escape(str(data['title']))}</title>"
    site = f'<script type="application/json" id="site">{json_inside(data)}</script>'
    text = replaced(text, "<title>lg-field</title>", title)
    return replaced(text, '<script type="application/json" id="site">{}</script>', site)


def json_inside(data: Mapping[str, Any]) -> str:
    """JSON that may stand in a script element, whatever its texts say."""
    return json.dumps(data, allow_nan=False).replace("<", "\\u003c")


def replaced(text: str, line: str, by: str) -> str:
    """A text with the one place where a line stands filled in.

    Raises:
        RuntimeError: the page lacks the line.
    """
    if text.count(line) != 1:
        raise RuntimeError(f"{PAGE} must hold {line!r} once")
    return text.replace(line, by)


def inlined(page: Contents, scene: bytes) -> bytes:
    """A page with everything in it.

    Modules become data addresses that an import map names; what they ask for by name lies in script elements.
    """
    files, text = dict(page.files), page.files[PAGE].decode()
    modules = {name: files.pop(name).decode() for name in list(files) if name.endswith(".js")}
    style = files.pop("style.css").decode()
    files.pop(PAGE)
    files[str(page.data["field"])] = scene
    address = "data:text/javascript;base64,"
    imports = {
        MODULES + name: address + in_base64(IMPORT.sub(rf"\1\2{MODULES}\3\2", code).encode())
        for name, code in modules.items()
    }
    parts = [f'<script type="importmap">{json_inside({"imports": imports})}</script>']
    parts += [f'<script type="text/plain" {held(name)}>{in_base64(data)}</script>' for name, data in files.items()]
    start = f'<script type="module">import "{MODULES}page.js";</script>'
    text = replaced(AHEAD.sub("", text), STYLE, f"<style>{style}</style>")
    text = replaced(text, '<script type="module" src="page.js"></script>', "\n".join([*parts, start]))
    return POLICY.sub(lambda _: ONE_FILE_POLICY, text).encode()


def held(name: str) -> str:
    """Attributes of the element that holds a file."""
    kind = "image/jpeg" if name.endswith(".jpg") else "application/octet-stream"
    return f'data-file="{html.escape(name)}" data-type="{kind}"'


def in_base64(data: bytes) -> str:
    """Bytes as text."""
    return base64.b64encode(data).decode("ascii")


def _write_folder(page: Contents, source: Path, target: Path) -> int:
    """Write the files beside the folder, then move them into it, the page itself last."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as made:
        folder = Path(made)
        for name, data in page.files.items():
            (folder / name).write_bytes(data)
        shutil.copyfile(source, folder / source.name)
        size = sum(path.stat().st_size for path in folder.iterdir())
        target.mkdir(exist_ok=True)
        for path in sorted(folder.iterdir(), key=lambda path: path.name == PAGE):
            os.replace(path, target / path.name)
    return size
