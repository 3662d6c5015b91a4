"""`lg-field mesh`: marching cubes of a trained scene."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.progress import Progress

Six = tuple[float, float, float, float, float, float]


def mesh(
    load_config: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
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
        load_config: config.yml of the run.
        output: .ply, .obj, .glb or .stl file.
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
    from lg_field.nerfstudio.runs import load_run
    from lg_field.radiance.surface import default_threshold, mesh_bounds, radiance_mesh
    from lg_field.regions import Region

    check_suffix(output)
    refuse_existing(output, overwrite)
    if picture is not None:
        refuse_existing(picture, overwrite)
    console, begin = Console(), time.perf_counter()
    run = load_run(load_config)
    field = run.field().to("cuda" if torch.cuda.is_available() else "cpu")
    matrix = run.scene_to_world() if world else None
    bounds = mesh_bounds(field)
    if box is not None:
        Region.box(box[:3], box[3:])
        bounds = torch.tensor(box).view(2, 3)
    level = default_threshold(field) if threshold is None else threshold
    console.print(f"marching cubes at density {level:.3g}, resolution {resolution}, of {field.num_rows} kept cells")
    with Progress(console=console, transient=True) as progress:
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
