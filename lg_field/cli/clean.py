"""`lg-field clean`: drop the floaters of a scene. No weight changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import tyro
from rich.console import Console

from lg_field.cli.console import print_sizes, say
from lg_field.cli.options import OptionalOutput, check_outputs
from lg_field.errors import doing, notice

if TYPE_CHECKING:
    from torch import Tensor

    from lg_field.radiance.field import RadianceField
    from lg_field.radiance.views import Views


class Source(NamedTuple):
    """A scene to clean."""

    field: RadianceField
    precision: Any
    """Of the weights of its file."""
    size: int
    """Bytes of it."""
    places: Tensor | None
    """(n, 3) of cameras, scene units."""
    views: Views | None
    """Those cameras, where more than their places is known."""


def clean(
    output: OptionalOutput = None,
    input: tyro.conf.Positional[str | None] = None,
    load_config: Path | None = None,
    min_share: float = 0.01,
    min_cameras: int = 0,
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Drop the floaters of a scene: small loose pieces, and pieces that few cameras see. What is kept stays to the bit.

    Args:
        output: the scene file to write.
        input: scene file, or an address fsspec reads.
        load_config: or config.yml of a run, which is packed into a scene file on the way; with its data set at hand its
            cameras are known in full.
        min_share: pieces need this share of the largest piece's voxels (0.01: one percent).
        min_cameras: and so many cameras must see some of them. A scene file knows up to 32 places of cameras, not what
            their images show.
        dry_run: only say what would be dropped.
        overwrite: replace an existing output.
    """
    from lg_field.files import save
    from lg_field.radiance.carving import Held, floaters, noted, pieces_of_field, without_pieces

    if output is None and not dry_run:
        raise ValueError("give the file to write with -o, or --dry-run")
    if not 0.0 <= min_share <= 1.0 or min_cameras < 0:
        raise ValueError(
            f"--min-share is a share of the largest piece, 0 to 1, --min-cameras 0 or more, got {min_share:g} and "
            f"{min_cameras}"
        )
    if not dry_run:
        check_outputs(overwrite, [output], [input])
    console, begin = Console(), time.perf_counter()
    source = source_of(input, load_config, min_cameras > 0)
    field = source.field
    with doing("looking for floaters"):
        pieces = pieces_of_field(field)
        if not len(pieces):
            raise ValueError("the scene holds nothing: no occupied voxel is shown")
        drop = floaters(field, pieces, min_share, min_cameras, source.places, source.views)
        small = without_pieces(field, pieces, drop)
    before, after = Held.by(field), Held.by(small)
    title = f"{input or load_config}: {int(drop.sum()):,} of {len(pieces):,} pieces are floaters"
    print_sizes(console, title, zip(("occupied voxels", "cells"), before, after))
    if output is None or dry_run:
        return
    size = save(noted(small, "clean", before), output, dtype=source.precision, overwrite=overwrite)
    say(console, f"{output}: {source.size:,} -> {size:,} bytes, {time.perf_counter() - begin:.1f} s")


def source_of(input: str | None, load_config: Path | None, cameras: bool) -> Source:
    """The scene of a file or a run.

    Args:
        input: a file,
        load_config: or a run.
        cameras: look for its cameras, too; said in a line where there are none.

    Raises:
        ValueError: neither or both, or not a scene.
    """
    from lg_field.cli.scene import scene_of
    from lg_field.files import FieldFile

    if (input is None) == (load_config is None):
        raise ValueError("give either a scene file or --load-config config.yml")
    if load_config is not None:
        return source_of_run(load_config, cameras)
    assert input is not None
    with doing(f"reading {input}"), FieldFile.open(input) as file:
        field: Any = file.load()
        precision, size = file.precision, file.reader.size
    places = places_of(scene_of(field, input).viewpoints)
    if cameras and places is None:
        notice(f"{input} does not say where cameras were: --min-cameras drops nothing; give the run by --load-config")
    return Source(field, precision, size, places, None)


def places_of(viewpoints: Any) -> Tensor | None:
    """(n, 3) places of cameras that a scene knows; None if it knows none."""
    import torch

    return torch.tensor(viewpoints, dtype=torch.float64) if viewpoints else None


def source_of_run(load_config: Path, cameras: bool) -> Source:
    """The scene of a run, packed."""
    from lg_field.nerfstudio.runs import load_run, pack, training_outputs

    run = load_run(load_config)
    field = pack(run)
    places, views = places_of(getattr(field.description, "viewpoints", ())), None
    if cameras:
        from lg_field.nerfstudio.placing import views_of

        outputs = training_outputs(run)
        if outputs is None:
            notice("the data set of the run is not there: only some places of its cameras are known")
        else:
            views = views_of(outputs.cameras)
            places = views.origins
    return Source(field, "float32", run.size, places, views)
