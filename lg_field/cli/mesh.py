"""`lg-field mesh`: marching cubes of a trained scene."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro
from rich.console import Console

from lg_field.cli.options import Output, pick_device, progress_bar

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.radiance.field import RadianceField

Six = tuple[float, float, float, float, float, float]


def mesh(
    output: Output,
    input: tyro.conf.Positional[str | None] = None,
    load_config: Path | None = None,
    resolution: int = 256,
    threshold: float | None = None,
    box: Six | None = None,
    world: bool = False,
    colors: bool = True,
    picture: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Export the surface of a trained scene, or of a crop of it, as a mesh with vertex colours.

    Args:
        output: .ply, .obj, .glb or .stl file.
        input: scene file, or an address fsspec reads.
        load_config: or config.yml of a run.
        resolution: voxels along the longest side.
        threshold: density of the surface per scene unit; the default is printed.
        box: X0 Y0 Z0 X1 Y1 Z1 in scene space: only mesh this part.
        world: write vertices in the data set's own units.
        colors: vertex colours.
        picture: also render the mesh to this PNG.
        overwrite: replace an existing file.
    """
    import torch

    from lg_field.files import refuse_existing
    from lg_field.mesh import check_suffix, write_mesh
    from lg_field.radiance.surface import default_threshold, mesh_bounds, radiance_mesh
    from lg_field.regions import Region

    check_suffix(output)
    refuse_existing(output, overwrite)
    if picture is not None:
        refuse_existing(picture, overwrite)
    console, begin = Console(), time.perf_counter()
    field, matrix = field_to_mesh(input, load_config, world)
    field = field.to(pick_device("auto"))
    bounds = mesh_bounds(field)
    if box is not None:
        Region.box(box[:3], box[3:])
        bounds = torch.tensor(box).view(2, 3)
    level = default_threshold(field) if threshold is None else threshold
    console.print(f"marching cubes at density {level:.3g}, resolution {resolution}, of {field.num_rows} kept cells")
    with progress_bar(console) as progress:
        task = progress.add_task("blocks")
        surface = radiance_mesh(
            field,
            resolution,
            level,
            bounds,
            colors,
            progress=lambda done, n: progress.update(task, completed=done, total=n),
        )
    surface = surface if matrix is None else surface.transformed(matrix.numpy())
    write_mesh(surface, output, overwrite)
    units = "world units" if world else "scene units"
    console.print(
        f"{output}: {len(surface.vertices):,} vertices, {len(surface.faces):,} faces, {units}, "
        f"{output.stat().st_size:,} bytes, {time.perf_counter() - begin:.1f} s",
        highlight=False,
        soft_wrap=True,
    )
    if picture is not None:
        from lg_field.render_mesh import render_mesh

        render_mesh(surface, picture)
        console.print(str(picture), soft_wrap=True)


def field_to_mesh(input: str | None, load_config: Path | None, world: bool) -> tuple[RadianceField, Tensor | None]:
    """The field of a scene file or a run, and the (4, 4) matrix from scene to world units if they are wanted."""
    import torch

    if (input is None) == (load_config is None):
        raise ValueError("give either a scene file or --load-config config.yml")
    if input is None:
        from lg_field.nerfstudio.runs import load_run

        assert load_config is not None
        run = load_run(load_config)
        return run.field(), run.scene_to_world() if world else None
    from lg_field.cli.scene import scene_of
    from lg_field.files import load

    field: Any = load(input)
    scene = scene_of(field, input)
    return field, torch.tensor(scene.scene_to_world, dtype=torch.float64) if world else None
