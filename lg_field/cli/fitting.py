"""What every training command does around a fit: progress, previews, logs, interrupt, resume, figures at the end."""

from __future__ import annotations

import importlib.util
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lg_field.cli.console import say
from lg_field.cli.options import check_outputs
from lg_field.cli.preview import Preview
from lg_field.cli.reports import save_and_say, say_network
from lg_field.errors import doing

if TYPE_CHECKING:
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
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = "float32"
    """Of the weights in the file."""
    overwrite: bool = False
    """Replace an existing output."""

    @property
    def replaces(self) -> bool:
        """Whether outputs that exist may be replaced: what an interrupted run wrote may, by the run that goes on."""
        return self.overwrite or self.resume


NO_FLAGS = FitFlags()


def check_flags(flags: FitFlags, output: Path, inputs: Sequence[Path | str | None] = ()) -> None:
    """Raise before any work if the output exists or is an input, or nothing is there to resume.

    Args:
        flags: of the command.
        output: the field file to write.
        inputs: files that are read.
    """
    check_outputs(flags.replaces, [output], list(inputs))
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
    finish: Callable[[Console, Fit, Path, FitFlags], None] = save_and_say,
) -> None:
    """Train to the end or to Ctrl-C, then `finish`: by default measure, save, and say what came out.

    Args:
        fit: ready to train.
        output: the field file to write; an interrupted run leaves OUTPUT.resume beside it.
        flags: previews, logs, resuming.
        console: where progress is shown.
        finish: what is done with the trained fit.
    """
    state = resume_path(output)
    if flags.resume:
        fit.load_state(state)
    say_network(console, fit)
    previews = Preview(fit, flags.preview, flags.preview_every) if flags.preview is not None else None
    with doing("training"), finish_step_on_interrupt(fit):
        train(fit, console, previews, output if flags.log == "tensorboard" else None)
    if fit.stopping:
        fit.save_state(state)
        say(console, f"interrupted after step {fit.step}; go on with --resume ({state})")
    with doing(f"writing {output}"):
        finish(console, fit, output, flags)
    if not fit.stopping:
        state.unlink(missing_ok=True)


@runtime_checkable
class Stoppable(Protocol):
    """What trains step by step."""

    stopping: bool
    """Set: it stops after the step under way."""


@contextmanager
def finish_step_on_interrupt(fit: Stoppable) -> Iterator[None]:
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
