"""`extend-scene`: grow a trained scene over new cells with new images; nothing old changes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.console import Console

from lg_field.cli.options import NO_REGION, Output, RegionFlags
from lg_field.cli.running import run_command

if TYPE_CHECKING:
    from nerfstudio.engine.trainer import TrainerConfig

    from lg_field.nerfstudio.runs import Run
    from lg_field.radiance.field import RadianceField
    from lg_field.space.regions import Region


def extend_scene(
    load_config: Path,
    output: Output,
    data: Path | None = None,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = NO_REGION,
    domain: tuple[float, ...] = (),
    world: bool = False,
    steps: int = 2000,
    vis: Literal["tensorboard", "viewer"] = "tensorboard",
    dry_run: bool = False,
    overwrite: bool = False,
) -> None:
    """Give a trained or cropped lg-field scene new cells and train only them; old cells stay as they are to the bit.

    Args:
        load_config: config.yml of the run.
        output: folder of the new run; every ns-* command works on its config.yml.
        data: new images, posed in the same world coordinates; the run's own images by default.
        region: where to add cells, in nerfstudio's scene space; everywhere in the domain by default. New cells that
            turn out empty are dropped.
        domain: lower, then upper corner (six numbers): a bounded scene's domain grows to hold it.
        world: region and domain are given in the data set's own units (world), not in scene units.
        steps: training steps.
        vis: where nerfstudio shows the training.
        dry_run: only say what would be added.
        overwrite: replace an existing output folder.
    """
    from lg_field.files import refuse_existing
    from lg_field.nerfstudio.extension import extended_run, grown
    from lg_field.nerfstudio.runs import load_run

    if steps < 1:
        raise ValueError(f"--steps must be at least 1, got {steps}")
    if not dry_run:
        refuse_existing(output, overwrite)
    if data is not None and not data.exists():
        raise FileNotFoundError(f"{data} does not exist; --data takes the folder of a scene")
    console, begin = Console(), time.perf_counter()
    run = load_run(load_config)
    field = run.field()
    larger = grown(field, place_of(region, field, run, world), scene_corners(domain, run, world))
    fresh = larger.num_rows - field.num_rows
    console.print(
        f"{field.num_rows} old cells and what they read of the shared part stay as they are; training {fresh} new ones "
        f"for {steps} steps",
        highlight=False,
        soft_wrap=True,
    )
    if dry_run:
        return
    config = extended_run(run, larger, data, output, steps, overwrite)
    after = trained(config, larger, output, vis)
    console.print(
        f"cells {field.num_rows} -> {after.num_rows}, parameters {field.num_parameters()['total']:,} -> "
        f"{after.num_parameters()['total']:,}; every number that old cells read is the same to the bit, "
        f"{time.perf_counter() - begin:.1f} s\n{output / 'config.yml'}",
        highlight=False,
        soft_wrap=True,
    )


def trained(config: TrainerConfig, larger: RadianceField, output: Path, vis: str) -> RadianceField:
    """Train the new rows through nerfstudio; the field as written, after a look at what was frozen."""
    from nerfstudio.scripts.train import train_loop

    from lg_field.nerfstudio.extension import check_unchanged

    config.vis = vis  # type: ignore[assignment]
    config.viewer.quit_on_train_completion = True
    train_loop(0, 1, config)
    return check_unchanged(larger, output)


def place_of(flags: RegionFlags, field: RadianceField, run: Run, world: bool) -> Region | None:
    """Where to add cells, in scene units; None = everywhere."""
    import torch

    from lg_field.space.regions import transformed

    if flags.cells or flags.snap or flags.objects.given:
        raise ValueError("extend-scene takes --box, --sphere, --obb, --region, --also, --without and --invert")
    if not flags.given:
        return None
    region, _ = flags.resolve(field)
    assert region is not None
    if world:
        region = transformed(region, torch.linalg.inv(run.scene_to_world()))
    return ~region if flags.invert else region


def scene_corners(domain: tuple[float, ...], run: Run, world: bool) -> tuple[float, ...]:
    """Lower and upper corner of a domain in scene units; of a turned one, of the box around it."""
    import torch

    from lg_field.space.regions import Box, corners

    if not domain:
        return ()
    if len(domain) != 6:
        raise ValueError(f"--domain needs a lower and an upper corner, six numbers, got {len(domain)}")
    box = Box(domain[:3], domain[3:])
    if not world:
        return domain
    to_scene = torch.linalg.inv(run.scene_to_world())
    points = corners(torch.tensor([[box.lower, box.upper]], dtype=torch.float64))[0]
    moved = points @ to_scene[:3, :3].T + to_scene[:3, 3]
    return (*moved.amin(0).tolist(), *moved.amax(0).tolist())


def main() -> None:
    """Entry point of `extend-scene`."""
    run_command("extend-scene", extend_scene)
