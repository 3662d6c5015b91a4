"""`lg-field mesh`: marching cubes of a trained scene, an encoded shape or a volume, ready to print or to open."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from lg_field.cli.opening import source_of
from lg_field.cli.options import NO_REGION, Output, RegionFlags, bounded, pick_device, progress_bar
from lg_field.cli.scene import scene_of
from lg_field.errors import doing, notice, tell

if TYPE_CHECKING:
    from lg_field.meshing.mesh import Mesh
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.volume import Volume
    from lg_field.signals.shapes.mesh_file import SourceMesh

OptionalPicture = Annotated[Path | None, tyro.conf.arg(aliases=["--picture"])]
Progress = Callable[[int, int], None]
ToWorld = Callable[[], np.ndarray]


@dataclass(frozen=True)
class FinishFlags:
    """What is done to a mesh before it is written."""

    min_component: float | None = None
    """Drop loose pieces smaller than this share of the largest piece (0.01: one percent); 0 keeps all. Of shapes and
    volumes by faces, 0.001 by default; of scenes by what they enclose, 0.01 by default, and 0 with --whole."""
    smooth: int = 0
    """Rounds of smoothing (Taubin, does not shrink); 10 takes the voxels' steps away."""
    target_faces: int = 0
    """Reduce to about so many faces; 0 keeps all."""

    def check(self) -> None:
        """Raise ValueError for what makes no sense."""
        if not 0.0 <= (self.min_component or 0.0) <= 1.0:
            raise ValueError(f"--min-component is a share of the largest piece, 0 to 1, got {self.min_component:g}")
        if self.smooth < 0 or (self.target_faces and self.target_faces < 4):
            raise ValueError(
                f"--smooth must not be negative, --target-faces 0 or at least 4, got {self.smooth}, {self.target_faces}"
            )


@dataclass(frozen=True)
class ReportFlags:
    """What is said about a mesh beside its size."""

    metrics: Path | None = None
    """Compare with this mesh file, the source: Chamfer distance, normals, F-score."""
    report: OptionalPicture = None
    """Also render the mesh to this PNG, beside the source if --metrics names it."""
    up: Literal["auto", "x", "y", "z"] = "auto"
    """Axis that points up in the report; auto is y for shapes and z for all else."""
    sides: int = 1
    """The report shows the mesh from so many sides; 4: all around."""


def mesh(
    output: Output,
    input: tyro.conf.Positional[str | None] = None,
    load_config: Path | None = None,
    resolution: int = 256,
    threshold: float | None = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    whole: bool = False,
    output_units: Literal["scene", "world"] | None = None,
    world: bool = False,
    colors: bool = True,
    exact: bool = False,
    finish: Annotated[FinishFlags, tyro.conf.arg(name="")] = FinishFlags(),
    reports: Annotated[ReportFlags, tyro.conf.arg(name="")] = ReportFlags(),
    memory: float = 2.0,
    max_size: float = 16.0,
    overwrite: bool = False,
) -> None:
    """Export the surface of a trained scene, an encoded shape or a volume, or of a part of it. Cuts are closed.

    Shapes come out in the units and pose of the mesh they were made of, volumes in samples, scenes in scene units. Of
    an unbounded scene that cameras look at from around it is what they look at, without what lies behind it.

    Args:
        output: .ply, .obj, .glb or .stl file.
        input: scene, composition, shape or volume file, or an address fsspec reads.
        load_config: or config.yml of a run.
        resolution: voxels along the longest side.
        threshold: shapes: 0 to 1, 0.5 by default; volumes: a value of theirs; scenes: density per scene unit. That of
            volumes and scenes is found (Otsu; in scenes lower where cameras would see holes) and printed.
        region: only mesh this part; only its rows are read from a file.
        whole: scenes: mesh all there is, not only what cameras look at, and keep loose pieces.
        output_units: scenes: vertices in nerfstudio's scene units (the default) or the data set's own; not regions.
        world: short for --output-units world.
        colors: scenes: vertex colours.
        exact: shapes and volumes: evaluate every node, not only those near the surface; slow, and finds separate
            pieces thinner than four voxels that the fast way may miss.
        finish: what is done to the mesh before it is written.
        reports: what is said about it.
        memory: GB for a scene's rows and what is computed of them, beside the mesh; larger files are read bit by bit.
        max_size: GB of memory; a resolution that may need more is refused before it begins.
        overwrite: replace existing files.
    """
    from lg_field.meshing.writing import write_mesh
    from lg_field.signals.shapes.mesh_file import read_mesh

    check_outputs(output, reports, finish, overwrite, resolution, max_size)
    in_world = wants_world(output_units, world)
    source = None if reports.metrics is None else read_mesh(reports.metrics)
    console, begin = Console(), time.perf_counter()
    with field_to_mesh(input, load_config, region, whole, memory) as (field, to_world):
        matrix = output_matrix(to_world, in_world)
        with doing(f"meshing at resolution {resolution}"), blocks_shown(console) as show:
            how = console, field, resolution, threshold, show
            surface = surface_of_signal(*how, exact) if to_world is None else surface_of_scene(*how, colors)
    surface = finished(console, surface, finish, to_world is not None, whole)
    surface = write_mesh(surface if matrix is None else surface.transformed(matrix), output, overwrite)
    units = "" if to_world is None else "world units, " if in_world else "scene units, "
    say_mesh(console, output, surface, units, time.perf_counter() - begin)
    say_more(console, surface, source, reports, field)


def check_outputs(
    output: Path, reports: ReportFlags, finish: FinishFlags, overwrite: bool, resolution: int, max_size: float
) -> None:
    """Refuse what could not be written, or is too large, before the work.

    Raises:
        ValueError: a suffix or numbers that make no sense.
        FileExistsError: a file is there and overwrite is False.
    """
    from lg_field.files import refuse_existing
    from lg_field.meshing.writing import check_suffix

    check_suffix(output)
    check_resolution(resolution, max_size)
    finish.check()
    if reports.sides < 1:
        raise ValueError(f"--sides must be at least 1, got {reports.sides}")
    for path in (output, reports.report):
        if path is not None:
            refuse_existing(path, overwrite)


def check_resolution(resolution: int, max_size: float) -> None:
    """Raise ValueError for a resolution below 1, or one at which a cube may need more GB of memory than allowed."""
    from lg_field.signals.decode import size_words
    from lg_field.signals.surface import memory_needed

    if resolution < 1:
        raise ValueError(f"--resolution must be at least 1, got {resolution}")
    needed = memory_needed((resolution,) * 3)
    if needed > max_size * 1e9:
        raise ValueError(
            f"a mesh at --resolution {resolution:,} may need {size_words(needed)} of memory, more than --max-size "
            f"{max_size:g}: give a smaller --resolution, one --box at a time, or a larger --max-size (GB)"
        )


def wants_world(output_units: Literal["scene", "world"] | None, world: bool) -> bool | None:
    """Whether vertices are to be in world units; None where nothing was asked for.

    Raises:
        ValueError: --world with --output-units scene.
    """
    if world and output_units == "scene":
        raise ValueError("--world is short for --output-units world: it does not go with --output-units scene")
    return True if world else None if output_units is None else output_units == "world"


def output_matrix(to_world: Callable[[], np.ndarray] | None, in_world: bool | None) -> np.ndarray | None:
    """The (4, 4) matrix to the units asked for; None where vertices stay as they are.

    Raises:
        ValueError: units are asked for of a signal, which has its own.
        FileNotFoundError: a run does not say its world units.
    """
    if to_world is None and in_world is not None:
        raise ValueError("--output-units and --world are for scenes: shapes and volumes come out in their own units")
    return to_world() if to_world is not None and in_world else None


@contextmanager
def blocks_shown(console: Console) -> Iterator[Progress]:
    """A progress bar over the blocks of a grid, moved by the function it gives."""
    with progress_bar(console) as progress:
        task = progress.add_task("blocks")
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def field_to_mesh(
    input: str | None, load_config: Path | None, region: RegionFlags, whole: bool, memory: float
) -> Iterator[tuple[Any, ToWorld | None]]:
    """The field of a file or a run, on the device that computes, cut to the region, or to what cameras look at unless
    the whole is wanted; and of scenes what gives the (4, 4) matrix to world units.

    Raises:
        ValueError: not one of file and run.
    """
    if (input is None) == (load_config is None):
        raise ValueError("give either a scene, shape or volume file or --load-config config.yml")
    device = pick_device("auto")
    how = region, device, memory
    with part_of_run(load_config, *how) if input is None else part_of_file(input, *how) as (field, to_world):
        alone = to_world is not None and not (whole or region.given)
        yield (looked_at_alone(field) if alone else field), to_world


@contextmanager
def part_of_file(input: str, region: RegionFlags, device: str, memory: float) -> Iterator[tuple[Any, ToWorld | None]]:
    """The field of a file, cut to the region; and of scenes what gives the (4, 4) matrix to world units."""
    from lg_field.signals.signal import Signal

    with source_of(input).shown(region, device, memory) as shown:
        if isinstance(shown.field.description, Signal):
            yield shown.field, None
            return
        scene = scene_of(shown.field, input)
        yield shown.field, lambda: np.asarray(scene.scene_to_world, dtype=np.float64)


@contextmanager
def part_of_run(
    load_config: Path | None, region: RegionFlags, device: str, memory: float
) -> Iterator[tuple[Any, ToWorld | None]]:
    """The same of a run, whose rows are all loaded."""
    from lg_field.cli.crop_scene import voxels_of_run
    from lg_field.nerfstudio.runs import TRANSFORMS, load_run
    from lg_field.radiance.components import settled
    from lg_field.table.editing import crop

    assert load_config is not None
    run = load_run(load_config)
    described = (run.config_path.parent / TRANSFORMS).exists()
    source = voxels_of_run(run) if described else None
    whole: Any = run.field() if source is None else source.field()
    say_loaded(whole, memory)
    if not described:
        notice(f"{run.config_path.parent} has no {TRANSFORMS}: where cameras were is not known; all is meshed")
    field = whole
    if region.given:
        shape, cells = region.resolve(whole, source)
        field = crop(whole, shape, cells=cells, invert=region.invert)
        field.region = whole.region if region.snap else field.region
        field = settled(field)
    yield bounded(field.to(device), memory), lambda: np.asarray(run.scene_to_world(), dtype=np.float64)


def say_loaded(field: RadianceField, memory: float) -> None:
    """Say so where the rows of a run take more than so many GB."""
    size = sum(getattr(field, name).nbytes for name in ("local", "features")) / 1e9
    if size > memory:
        notice(
            f"all rows of the run are in memory, {size:,.2f} GB, whatever --memory says: mesh the scene file that "
            "`lg-field pack` makes of it to keep within that"
        )


def looked_at_alone(field: Volume) -> Any:
    """Of an unbounded scene what its cameras look at; the field itself where that is all there is, or not known."""
    from lg_field.radiance.carving import only_voxels
    from lg_field.radiance.components import shown_voxels
    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.focus import SEEN, known_look, looked_at, surroundings
    from lg_field.radiance.scene import Scene

    look = known_look(field.description) if isinstance(field.description, Scene) else None
    if look is None or not isinstance(field, RadianceField):
        return field
    shown = shown_voxels(field.occupancy, field.region)
    if not bool(surroundings(field.occupancy, shown).any()):
        return field
    found = looked_at(field, look, shown, SEEN)
    if found is None:
        tell("no one object that the cameras look at was found: all is meshed; --component or --box mesh a part of it")
        return field
    voxels = found.voxels
    tell(
        f"what the cameras look at is meshed, {int(voxels.sum()):,} of {int(shown.sum()):,} voxels, {found.share:.0%} "
        "of what they see around their focus; --whole meshes all there is"
    )
    return only_voxels(field, voxels)


def up_axis(field: Any) -> str:
    """The axis that points up in pictures of a field: what its kind of signal says, z of scenes."""
    traits = getattr(field.description, "traits", None)
    return "z" if traits is None else traits.up


def surface_of_signal(
    console: Console, field: LocalGlobalNetwork, resolution: int, threshold: float | None, show: Progress, exact: bool
) -> Mesh:
    """Marching cubes of a shape or volume."""
    from lg_field.signals.surface import default_threshold, signal_mesh

    level = default_threshold(field) if threshold is None else threshold
    console.print(f"marching cubes at {level:.4g}, resolution {resolution}, of {field.num_rows} kept cells")
    return signal_mesh(field, resolution, level, exact=exact, progress=show)


def surface_of_scene(
    console: Console, field: Volume, resolution: int, threshold: float | None, show: Progress, colors: bool
) -> Mesh:
    """Marching cubes of a density within the field's exact region, with vertex colours."""
    from lg_field.radiance.surface import mesh_bounds, radiance_mesh
    from lg_field.radiance.threshold import automatic_threshold

    bounds = mesh_bounds(field)
    level = automatic_threshold(field, bounds.box) if threshold is None else threshold
    console.print(f"marching cubes at density {level:.3g}, resolution {resolution}, of {field.num_rows} kept cells")
    if bounds.left_out:
        low, high = ([round(v, 3) for v in corner] for corner in bounds.box.tolist())
        console.print(
            f"{bounds.left_out:.1%} of the occupied space lies outside {low} to {high} and is left out: --box or "
            "--sphere mesh another part",
            highlight=False,
            soft_wrap=True,
        )
    return radiance_mesh(field, resolution, level, bounds.box, colors, progress=show)


def finished(console: Console, mesh: Mesh, finish: FinishFlags, scene: bool, whole: bool) -> Mesh:
    """Loose pieces away, smoothed, with fewer faces: as far as asked for."""
    from lg_field.meshing import tools

    usual = 0.001 if not scene else 0.0 if whole else 0.01
    share = usual if finish.min_component is None else finish.min_component
    if share and scene:
        left = tools.without_crumbs(mesh, share)
        mesh, dropped = left.mesh, left.dropped
        what = f"that enclose less than {share:.2%} of what the largest one does, {left.share:.2%} of all; "
        what += "--min-component 0 keeps them"
    elif share:
        mesh, dropped = tools.without_small_pieces(mesh, share)
        what = f"with fewer faces than {share:.2%} of the largest one's"
    if share and dropped:
        console.print(f"dropped {dropped:,} loose pieces {what}", highlight=False, soft_wrap=True)
    mesh = tools.smoothed(mesh, finish.smooth) if finish.smooth else mesh
    return tools.with_fewer_faces(mesh, finish.target_faces) if finish.target_faces else mesh


def say_mesh(console: Console, output: Path, mesh: Mesh, units: str, seconds: float) -> None:
    """What came out."""
    from lg_field.memory import peak_bytes
    from lg_field.meshing.tools import is_watertight, volume

    state = "watertight" if is_watertight(mesh) else "not watertight"
    console.print(
        f"{output}: {len(mesh.vertices):,} vertices, {len(mesh.faces):,} faces, {units}{state}, volume "
        f"{volume(mesh):.6g}, {output.stat().st_size:,} bytes, {seconds:.1f} s, peak memory "
        f"{peak_bytes() / 1e9:.2f} GB",
        highlight=False,
        soft_wrap=True,
    )


def say_more(console: Console, surface: Mesh, source: SourceMesh | None, reports: ReportFlags, field: Any) -> None:
    """The comparison with the mesh it was made of and the picture, if they are wanted."""
    from lg_field.meshing.mesh import Mesh
    from lg_field.meshing.render import render_mesh

    if source is not None:
        say_comparison(console, surface, source)
    if reports.report is not None:
        up = "xyz".index(up_axis(field) if reports.up == "auto" else reports.up)
        beside = None if source is None else Mesh(source.vertices, source.faces)
        render_mesh(surface, reports.report, beside=beside, up=up, sides=reports.sides)
        console.print(str(reports.report), soft_wrap=True)


def say_comparison(console: Console, mesh: Mesh, source: SourceMesh) -> None:
    """Distances to the mesh it was made of."""
    from lg_field.meshing.metrics import compare

    found = compare(mesh, source.vertices, source.faces)
    console.print(", ".join(f"{k.replace('_', ' ')} {v:.6g}" for k, v in found.items()), soft_wrap=True)
