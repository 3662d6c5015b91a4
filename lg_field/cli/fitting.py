"""What every training command does around a fit: progress, previews, logs, interrupt, resume, figures at the end."""

from __future__ import annotations

import importlib.util
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.fit import Fit


@dataclass(frozen=True)
class FitFlags:
    """Around a fit."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, ..."""
    preview: Path | None = None
    """Folder for pictures while it trains (images and videos)."""
    preview_every: int = 100
    """Steps between pictures."""
    log: Literal["none", "tensorboard"] = "none"
    """tensorboard writes the PSNR curve to a folder beside the output."""
    metrics: bool = False
    """Meshes: also compare the surface with the source (Chamfer distance, normals, F-score); `info` shows it."""
    resume: bool = False
    """Go on from OUTPUT.resume, which an interrupted run leaves."""
    dtype: Literal["float32", "float16", "bfloat16"] = "float32"
    """Of the weights in the file."""
    overwrite: bool = False
    """Replace an existing output."""


def check_flags(flags: FitFlags, output: Path) -> None:
    """Raise before any work if the output exists, or nothing is there to resume."""
    from lg_field.files import refuse_existing

    # What an interrupted run wrote may be replaced by the run that goes on from it.
    refuse_existing(output, flags.overwrite or flags.resume)
    if flags.metrics and importlib.util.find_spec("open3d") is None:
        raise ImportError("--metrics needs open3d: pip install 'lg-field[mesh]'")
    if flags.resume and not resume_path(output).exists():
        raise FileNotFoundError(f"{resume_path(output)} does not exist: there is nothing to resume")


def resume_path(output: Path) -> Path:
    """Where an interrupted run leaves its state."""
    return output.with_name(output.name + ".resume")


def run_fit(
    fit: Fit,
    output: Path,
    flags: FitFlags,
    console: Console,
    finish: Callable[[Console, Fit, Path, FitFlags], None] | None = None,
) -> None:
    """Train to the end or to Ctrl-C, then `finish`: by default measure, save, and say what came out."""
    state = resume_path(output)
    if flags.resume:
        fit.load_state(state)
    say_network(console, fit.field, fit)
    previews = Preview(fit, flags.preview, flags.preview_every) if flags.preview is not None else None
    with finish_step_on_interrupt(fit):
        train(fit, console, previews, output if flags.log == "tensorboard" else None)
    if fit.stopping:
        fit.save_state(state)
        console.print(f"interrupted after step {fit.step}; go on with --resume ({state})", soft_wrap=True)
    (finish or save_and_say)(console, fit, output, flags)
    if not fit.stopping:
        state.unlink(missing_ok=True)


@contextmanager
def finish_step_on_interrupt(fit: Fit) -> Iterator[None]:
    """Ctrl-C (or SIGTERM) lets the step under way finish, so that what is kept can be gone on from exactly; a second
    one stops at once."""

    def stop(number: int, frame: object) -> None:
        if fit.stopping:
            raise KeyboardInterrupt
        fit.stopping = True

    old = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def train(fit: Fit, console: Console, previews: Preview | None = None, log: Path | None = None) -> None:
    """Run a fit with a progress bar that shows PSNR and steps per second."""
    writer: Any = None
    if log is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(log.with_name(log.stem + ".tensorboard")))
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    columns += [TextColumn("{task.fields[facts]}"), TimeRemainingColumn()]
    step_psnr = fit.data.signal.traits.step_psnr
    first, begin, smooth = fit.step, time.perf_counter(), 0.0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=fit.config.steps, completed=fit.step, facts="")

        def on_step(step: int, error: float) -> None:
            nonlocal smooth
            smooth = error if step == first + 1 else smooth + 0.1 * (error - smooth)
            speed = (step - first) / max(1e-9, time.perf_counter() - begin)
            progress.update(task, completed=step, facts=f"{step_psnr(smooth):.2f} dB, {speed:.2f} steps/s")
            if writer is not None:
                writer.add_scalar("psnr", step_psnr(error), step)
            if previews is not None:
                previews.maybe(step)

        try:
            fit.run(on_step)
        finally:
            if writer is not None:
                writer.close()


class Preview:
    """Pictures of the field while it trains."""

    def __init__(self, fit: Fit, folder: Path, every: int) -> None:
        self.fit, self.folder, self.every = fit, folder, max(1, every)

    def maybe(self, step: int) -> None:
        """Write a picture if it is time: the image, or the video's middle frame."""
        from lg_field.files import atomic_write
        from lg_field.signals.decode import decode, signal_of

        signal = signal_of(self.fit.field)
        box = signal.traits.still(signal)
        if step % self.every or box is None:
            return
        import torch

        from lg_field.signals.kinds.image import write_image

        self.fit.write_back()
        samples = torch.cat(list(decode(self.fit.field, box=box)))
        with atomic_write(self.folder / f"step-{step:06d}.png", overwrite=True) as temporary:
            write_image(signal.traits.picture(samples, signal), temporary)


def say_network(console: Console, field: LocalGlobalNetwork, fit: Fit) -> None:
    """What will be trained, in two lines."""
    signal, count, shape = fit.data.signal, fit.num_parameters(), field.sizes
    config = fit.config
    part = fit.data.drawn(config)
    console.print(
        f"{signal.kind} {' x '.join(map(str, signal.shape))} x {signal.channels}, cells "
        f"{' x '.join(map(str, field.grid.counts))}, local width {shape.local_width}, global width "
        f"{shape.global_width}: {count['total']:,} parameters (local {count['local']:,}, shared {count['shared']:,})\n"
        f"{config.steps} steps, {part} a step, overlap {config.overlap}, lr {config.lr:g}, on {fit.device}",
        highlight=False,
        soft_wrap=True,
    )


def surface_metrics(fit: Fit, flags: FitFlags) -> dict[str, float]:
    """How close the surface of an encoded mesh, at the resolution of its voxels, is to the source; if asked for."""
    from lg_field.meshing.mesh import EmptyMeshError
    from lg_field.meshing.metrics import compare
    from lg_field.signals.surface import signal_mesh

    if not flags.metrics or fit.data.source is None:
        return {}
    try:
        surface = signal_mesh(fit.field, max(fit.data.signal.shape))
    except EmptyMeshError:
        return {}
    return compare(surface, fit.data.source.vertices, fit.data.source.faces)


def history_of(fit: Fit) -> dict[str, Any]:
    """Plain facts about the training, for the field's file."""
    facts: dict[str, Any] = {"steps": fit.step, "seconds": round(fit.seconds, 2)}
    if fit.modulation is not None and fit.modulation.harmonizer is not None:
        trained, saved = fit.num_parameters()["total"], fit.field.num_parameters()["total"]
        facts |= {"activation": "incode", "harmonizer_parameters": trained - saved}
        facts["scalars"] = {kind: [round(x, 6) for x in v.tolist()] for kind, v in fit.modulation.scalars().items()}
    return facts


def save_and_say(console: Console, fit: Fit, output: Path, flags: FitFlags) -> None:
    """Measure, save, and say what came out."""
    from lg_field.files import save
    from lg_field.signals.metrics import measure

    field, signal = fit.field, fit.data.signal
    metrics = {k: round(v, 8) for k, v in (measure(field, fit.data) | surface_metrics(fit, flags)).items()}
    field.history = history_of(fit) | metrics
    size = save(field, output, dtype=flags.dtype, overwrite=flags.overwrite or flags.resume)
    count, unit = field.num_parameters(), signal.traits.sample
    ssim = f", SSIM {metrics['ssim']:.4f}" if "ssim" in metrics else ""
    near = f", Chamfer distance {metrics['chamfer']:.2e} diagonals" if "chamfer" in metrics else ""
    iou = f"IoU {metrics['iou']:.4f}, " if "iou" in metrics else ""
    console.print(
        f"{iou}PSNR {metrics['psnr']:.2f} dB{ssim}, MSE {metrics['mse']:.3e}{near}, {fit.seconds:.1f} s of training\n"
        f"{output}: {size:,} bytes, {8 * size / signal.num_samples:.3f} bits per {unit}, "
        f"{count['total']:,} parameters ({flags.dtype})",
        highlight=False,
        soft_wrap=True,
    )
