"""`lg-field train`: a scene from photos with cameras, without nerfstudio."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lg_field.cli.console import say
from lg_field.cli.options import OptionalOutput
from lg_field.errors import doing, tell

if TYPE_CHECKING:
    from lg_field.training.run import RunSettings, SceneRun, Step

SCENE, CHECKPOINT, FACTS = "scene.safetensors", "training.pt", "run.json"
"""Files of a run: the scene for every command, what only training needs, and what was found."""
EVERY = 30.0
"""Seconds between lines of progress where no terminal shows a bar."""
SMOOTH = 0.05
"""Weight of a step's error in the figure that is shown."""


def train(
    data: Path,
    output: OptionalOutput = None,
    method: Literal["lg-field", "lg-field-tiny"] = "lg-field",
    steps: Annotated[int, tyro.conf.arg(metavar="COUNT", help_behavior_hint="(default: the method's)")] = 0,
    rays: Annotated[int, tyro.conf.arg(metavar="COUNT", help_behavior_hint="(default: the method's)")] = 0,
    masks: Literal["auto", "empty", "ignore"] = "auto",
    background: Literal["auto", "keep"] = "auto",
    space: Literal["auto", "bounded", "contracted"] = "auto",
    downscale: float = 1.0,
    test_photos: int = 16,
    device: str = "auto",
    seed: int = 42,
    camera_optimizer: Literal["auto", "off", "SO3xR3"] = "auto",
    exposure: Literal["auto", "True", "False"] = "auto",
    coarse_first: Literal["auto", "always", "never"] = "auto",
    resume: bool = False,
    overwrite: bool = False,
) -> None:
    """Train a scene on photos with cameras, without nerfstudio: blender, instant-ngp, nerfstudio or COLMAP data.

    Writes scene.safetensors, which every other command takes, first within a minute and then every five, with a
    checkpoint beside it. Ctrl-C finishes the step under way and saves both. Only `ns-train lg-field` shows a page, and
    has rows elsewhere or on many devices.

    Args:
        data: the folder of a scene, or its transforms.json.
        output: folder of the run; default: outputs/NAME, of the scene's folder.
        method: lg-field, or lg-field-tiny for CPUs and first tries.
        steps: training steps.
        rays: rays a step; where photos show all there is (no alpha, no masks), lg-field-tiny takes half of them.
        masks: what lies outside a mask. empty: nothing; ignore: pixels that do not count; auto: empty where the masks
            cut one object out of nearly all photos.
        background: a plain backdrop behind a thing. auto: it is empty; keep: it is part of the scene.
        space: bounded: the box found is all there is; contracted: the scene goes on for ever; auto: by the photos.
        downscale: make photos so many times smaller per axis.
        test_photos: so many of the test photos, evenly spaced, are rendered and scored at the end; 0 = none.
        device: auto, cpu, cuda, cuda:1, ...
        seed: of everything random.
        camera_optimizer: SO3xR3: poses of the training cameras are improved, a few before some steps; auto: where a
            trial shows that they are off.
        exposure: True: each training photo gets a change of colour of its own, and the scene the average photo's
            colours; auto: where photos without alpha or masks differ in exposure.
        coarse_first: fine detail waits until the shape is found; auto: of few photos that are far apart.
        resume: go on from the run in OUTPUT, with the same settings; --steps may differ.
        overwrite: replace the run in OUTPUT.
    """
    from lg_field.cli.options import pick_device
    from lg_field.training.run import RunSettings

    check_one_process(method)
    folder = output or Path("outputs") / (data.resolve().parent if data.is_file() else data.resolve()).name
    check_folder(folder, data, resume, overwrite)
    if test_photos < 0:
        raise ValueError(f"--test-photos must not be negative, got {test_photos}")
    said = (method, steps, rays, masks, background, space, downscale, seed, camera_optimizer, exposure, coarse_first)
    settings = RunSettings(*said).complete()
    train_in(folder, data, settings, pick_device(device), test_photos, resume)


def train_in(folder: Path, data: Path, settings: RunSettings, device: str, test_photos: int, resume: bool) -> None:
    """Train to the end or to Ctrl-C, write everything, and say what came out."""
    console = Console()
    run = run_on(data, settings, device, console)
    if resume:
        run.load(folder / CHECKPOINT)
    say_run(console, run)
    train_on(run, folder, console)
    write_run(run, folder, {})
    line = run.corrections.described()
    if line is not None:
        say(console, f"Training photos: {line}.")
    if run.step < run.settings.steps:
        say(console, f"interrupted after step {run.step}; go on with --resume")
    elif test_photos:
        write_run(run, folder, tested(run, console, test_photos))
    size = (folder / SCENE).stat().st_size
    say(console, f"{folder / SCENE}: {size:,} bytes, {run.field.num_rows} cells, {run.seconds:.0f} s of training")


def run_on(data: Path, settings: RunSettings, device: str, console: Console) -> SceneRun:
    """A fresh run on the capture in a folder; what was found odd in it is said."""
    from lg_field.captures import read_capture
    from lg_field.training.run import SceneRun

    with doing(f"reading {data}"):
        capture = read_capture(data)
        for note in capture.notes:
            tell(note)
        with bar(console, "reading photos") as show:
            return SceneRun(capture, settings, device, lambda done, total: show(done, total, ""))


def check_one_process(method: str) -> None:
    """Raise ValueError under torchrun, whose processes would each train on their own."""
    ranks = os.environ.get("WORLD_SIZE", "1")
    if ranks != "1":
        raise ValueError(
            f"`lg-field train` trains in one process, here are {ranks}: on several take `torchrun --nproc-per-node "
            f"{ranks} -m lg_field.nerfstudio.train {method} --data SCENE`"
        )


def check_folder(folder: Path, data: Path, resume: bool, overwrite: bool) -> None:
    """Raise, before any work, if a run may not be written to a folder, or there is none to go on with."""
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; -o takes the folder of a run")
    if data.exists() and folder.exists() and folder.samefile(data.parent if data.is_file() else data):
        raise ValueError(f"{folder} is the data; give another folder with -o")
    there = (folder / CHECKPOINT).exists()
    if resume and not there:
        raise FileNotFoundError(f"{folder / CHECKPOINT} does not exist: there is nothing to resume")
    if not (resume or overwrite) and any((folder / name).exists() for name in (SCENE, CHECKPOINT, FACTS)):
        raise FileExistsError(f"{folder} holds a run; give another folder with -o, --resume it, or --overwrite it")


def say_run(console: Console, run: SceneRun) -> None:
    """What will be trained, on what."""
    for note in run.notes:
        say(console, note)
    count, field = run.field.num_parameters(), run.field
    where = "contracted space" if field.sizes.contraction else "a box"
    say(
        console,
        f"{run.settings.method} on {len(run.photos)} {run.capture.format} photos, {where} of "
        f"{' x '.join(map(str, field.grid.counts))} cells: {count['total']:,} parameters\n"
        f"{run.settings.steps} steps of {run.rays} rays on {run.device}"
        + (f", from step {run.step}" if run.step else ""),
    )


def train_on(run: SceneRun, folder: Path, console: Console) -> None:
    """Train to the end or to Ctrl-C, with progress and, by time, files."""
    from lg_field.cli.fitting import finish_step_on_interrupt
    from lg_field.quality import psnr
    from lg_field.training.saving import by_time

    folder.mkdir(parents=True, exist_ok=True)
    save = by_time(lambda step: write_run(run, folder, {}))
    first, begin, smooth = run.step, time.perf_counter(), 0.0
    with doing("training"), finish_step_on_interrupt(run), bar(console, "training") as show:

        def on_step(step: Step) -> None:
            nonlocal smooth
            error = 10 ** (-step.psnr / 10)
            smooth = error if step.number == first else smooth + SMOOTH * (error - smooth)
            speed = (step.number + 1 - first) / max(1e-9, time.perf_counter() - begin)
            facts = f"{psnr(smooth):.2f} dB, {step.cells} cells, {speed:.1f} steps/s"
            show(step.number + 1, run.settings.steps, facts)
            save(step.number)

        run.train(on_step)


def tested(run: SceneRun, console: Console, count: int) -> dict[str, float]:
    """Score test photos, and say how well they are shown."""
    every = len(run.capture.part("test"))
    with doing("rendering test photos"), bar(console, "rendering test photos") as show:
        scores = run.scores(count, lambda done, total: show(done, total, ""))
    which = f"{every} test photos" if count >= every else f"{count} of {every} test photos, evenly spaced"
    more = "".join(f", {name.replace('_', ' ')} {value:.4g}" for name, value in scores.items() if name != "psnr")
    say(console, f"PSNR {scores['psnr']:.2f} dB{more}: means over {which}")
    return {name: round(value, 6) for name, value in scores.items()}


def write_run(run: SceneRun, folder: Path, scores: dict[str, Any]) -> None:
    """Write checkpoint, scene and facts, each whole or not at all."""
    from lg_field.files import atomic_write, save

    with doing(f"writing {folder}"):
        run.save(folder / CHECKPOINT)
        save(run.packed(scores), folder / SCENE, overwrite=True)
        facts = {"data": str(run.capture.folder), "step": run.step, "settings": vars(run.settings), "scores": scores}
        with atomic_write(folder / FACTS, overwrite=True) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n")


@contextmanager
def bar(console: Console, doing: str) -> Iterator[Any]:
    """Context: a function of what is done, of how much, and a line of facts, that shows them: as a bar where someone
    watches, else as a line now and then."""
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    columns += [TextColumn("{task.fields[facts]}"), TimeRemainingColumn()]
    said = time.monotonic()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(doing, total=None, facts="")

        def show(done: int, total: int, facts: str) -> None:
            nonlocal said
            progress.update(task, completed=done, total=total, facts=facts)
            if not console.is_terminal and time.monotonic() - said >= EVERY:
                said = time.monotonic()
                say(console, f"{doing}: {done:,} of {total:,}" + (f", {facts}" if facts else ""))

        yield show
