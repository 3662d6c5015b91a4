"""`lg-field photos`: from a folder of photos, or a video, to a scene folder."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from lg_field.cli.console import say
from lg_field.cli.options import Input, Output

EVERY = 30.0
"""Seconds between lines of progress where no terminal shows bars."""


def photos(
    input: Input,
    output: Output,
    frames: int = 120,
    masks: Path | None = None,
    mask_features: bool = True,
    camera: Literal["auto", "single", "per-image"] = "auto",
    matching: Literal["auto", "exhaustive", "sequential"] = "auto",
    image_size: int = 2048,
    feature_size: int = 1600,
    threads: Annotated[int, tyro.conf.arg(metavar="COUNT")] = 0,
    work: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Find where photos were taken and write a scene that `ns-train lg-field --data SCENE` reads.

    Photos are turned upright as their EXIF says. Ctrl-C leaves no half-written scene; a second run goes on.

    Args:
        input: a folder of photos (.jpg .png .webp .tif .heic ...), or a video.
        output: the scene folder to write (nerfstudio's format, sparse points, a picture of the cameras).
        frames: of a video: so many, evenly spaced, the sharpest near each place.
        masks: folder of masks called as the photos, bright inside; default: `masks` in or beside the folder. A photo's
            alpha is a mask too.
        mask_features: look for features inside of masks only.
        camera: which photos share intrinsics: those of one folder, size, camera and zoom (auto), all, or none.
        matching: compare all pairs, or near ones in the order of names and some far ones; auto: by kind and number.
        image_size: longer side of the scene's pictures in pixels, at most; 0 leaves photos as they are.
        feature_size: longer side, in pixels, at which features are looked for.
        threads: processor threads; 0 = all.
        work: keep features and matches here; default: beside the output, removed when done.
        overwrite: replace an existing scene.
    """
    from lg_field.photos import CaptureSettings, PoseSettings, make_scene

    for name, value, least in (
        ("frames", frames, 3),
        ("image-size", image_size, 0),
        ("feature-size", feature_size, 64),
        ("threads", threads, 0),
    ):
        if value < least:
            raise ValueError(f"--{name} must be at least {least}, got {value}")
    settings = CaptureSettings(
        frames, masks, image_size, PoseSettings(camera, matching, feature_size, mask_features, threads)
    )
    console = Console()

    def tell(line: str) -> None:
        say(console, line)

    begin = time.perf_counter()
    with Stages(console) as stages:
        placed = make_scene(input, output, settings, tell, stages.report, work, overwrite)
    tell(
        f"{output}: {len(placed.points):,} points, error {placed.error:.2f} pixels, "
        f"{time.perf_counter() - begin:.0f} s; look at {output / 'cameras.png'}, then: "
        f"ns-train lg-field-tiny --data {output}"
    )


@dataclass
class Stages:
    """Context: a bar for what is being done where someone watches; a line for each thing done, everywhere."""

    console: Console
    bars: Progress = field(init=False)
    task: TaskID | None = None
    doing: str = ""
    begin: float = 0.0
    said: float = 0.0

    def __enter__(self) -> Stages:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.bars = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def report(self, doing: str, done: int, total: int) -> None:
        """Show how much of what is done; when all of it is, or as much as can be, say so in a line."""
        if doing != self.doing:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.doing, self.begin = doing, time.perf_counter()
            self.said = self.begin
            self.task = self.bars.add_task(doing, total=total)
        if self.task is not None:
            self.bars.update(self.task, completed=done, total=total)
        now = time.perf_counter()
        if done == total or (not self.console.is_terminal and now - self.said >= EVERY):
            self.said = now
            say(self.console, f"{doing}: {done:,} of {total:,}, {now - self.begin:.0f} s")
        if done == total:
            if self.task is not None:
                self.bars.remove_task(self.task)
            self.task, self.doing = None, ""
