"""`lg-field encode` and `lg-field decode`: from an image, sound, video or volume to a field file, and back."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from lg_field.cli.options import Input, Output, RegionFlags, pick_device
from lg_field.cli.presets import Settings

if TYPE_CHECKING:
    from lg_field.networks import LocalGlobalNetwork
    from lg_field.signals.data import SignalData
    from lg_field.training import Fit


def encode_command(settings: Settings) -> Callable[..., None]:
    """`lg-field encode` with these settings as defaults (a preset's, or those of the kind of file)."""

    def encode(
        input: Input,
        output: Output,
        settings: Annotated[Settings, tyro.conf.arg(name="")] = settings,
        preset: str | None = None,
        config: Path | None = None,
        device: str = "auto",
        preview: Path | None = None,
        preview_every: int = 100,
        log: Literal["none", "tensorboard"] = "none",
        resume: bool = False,
        dtype: Literal["float32", "float16", "bfloat16"] = "float32",
        overwrite: bool = False,
    ) -> None:
        """Train a network on an image, sound, video or volume and save it as a field file.

        Ctrl-C keeps what was learned so far, and OUTPUT.resume to go on from with --resume.

        Args:
            input: .png .jpg .tif ... (8 or 16 bits), .wav .flac .ogg, .mp4 ..., or .npy .npz with a volume.
            output: the field file to write (.safetensors).
            settings: network and training.
            preset: settings of configs/NAME.yaml; flags win over it.
            config: settings of this YAML file; flags win over it.
            device: auto, cpu, cuda, cuda:1, ...
            preview: folder for pictures while it trains (images and videos).
            preview_every: steps between pictures.
            log: tensorboard writes PSNR curves beside the output.
            resume: go on from OUTPUT.resume.
            dtype: of the weights in the file.
            overwrite: replace an existing output.
        """
        from lg_field.files import refuse_existing
        from lg_field.signals import read_signal
        from lg_field.signals.encode import build_network, check_fit
        from lg_field.training import Fit

        refuse_existing(output, overwrite)
        state = output.with_name(output.name + ".resume")
        if resume and not state.exists():
            raise FileNotFoundError(f"{state} does not exist: there is nothing to resume")
        console = Console()
        data = read_signal(input)
        check_fit(data.signal, settings.fit)
        field = build_network(data.signal, settings.network).to(pick_device(device))
        fit = Fit(field, data, settings.fit)
        if resume:
            fit.load_state(state)
        say_network(console, field, fit)
        previews = Preview(field, preview, preview_every) if preview is not None else None
        try:
            train(fit, console, previews, output if log == "tensorboard" else None)
        except KeyboardInterrupt:
            fit.write_back()
            fit.save_state(state)
            console.print(f"interrupted at step {fit.step}; go on with --resume ({state})", soft_wrap=True)
        else:
            state.unlink(missing_ok=True)
        finish(console, fit, output, dtype, overwrite)

    return encode


def train(fit: Fit, console: Console, previews: Preview | None = None, log: Path | None = None) -> None:
    """Run a fit with a progress bar that shows PSNR and steps per second."""
    from lg_field.training import step_psnr

    writer: Any = None
    if log is not None:
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(str(log.with_name(log.stem + ".tensorboard")))
    columns = [TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}")]
    columns += [TextColumn("{task.fields[facts]}"), TimeRemainingColumn()]
    kind, first, begin, smooth = fit.data.signal.kind, fit.step, time.perf_counter(), 0.0
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("training", total=fit.config.steps, completed=fit.step, facts="")

        def on_step(step: int, error: float) -> None:
            nonlocal smooth
            smooth = error if step == first + 1 else smooth + 0.1 * (error - smooth)
            speed = (step - first) / max(1e-9, time.perf_counter() - begin)
            progress.update(task, completed=step, facts=f"{step_psnr(smooth, kind):.2f} dB, {speed:.2f} steps/s")
            if writer is not None:
                writer.add_scalar("psnr", step_psnr(error, kind), step)
            if previews is not None:
                previews.maybe(step)

        try:
            fit.run(on_step)
        finally:
            if writer is not None:
                writer.close()


class Preview:
    """Pictures of the field while it trains."""

    def __init__(self, field: LocalGlobalNetwork, folder: Path, every: int) -> None:
        self.field, self.folder, self.every = field, folder, max(1, every)

    def maybe(self, step: int) -> None:
        """Write a picture if it is time: the image, or the video's middle frame."""
        from lg_field.files import atomic_write
        from lg_field.signals.decode import decode, signal_of

        signal = signal_of(self.field)
        if step % self.every or signal.kind not in ("image", "video"):
            return
        import torch

        from lg_field.signals.image import write_image

        frame = signal.shape[0] // 2
        box = None if signal.kind == "image" else ((frame, 0, 0), (frame + 1, *signal.shape[1:]))
        samples = torch.cat(list(decode(self.field, box=box)))
        with atomic_write(self.folder / f"step-{step:06d}.png", overwrite=True) as temporary:
            write_image(samples if signal.kind == "image" else samples[0], temporary)


def say_network(console: Console, field: LocalGlobalNetwork, fit: Fit) -> None:
    """What will be trained, in two lines."""
    signal, count, shape = fit.data.signal, field.num_parameters(), field.shape
    config = fit.config
    part = "all samples" if config.sample_fraction >= 1 else f"{config.sample_fraction:.2%} of the samples"
    console.print(
        f"{signal.kind} {' x '.join(map(str, signal.shape))} x {signal.channels}, cells "
        f"{' x '.join(map(str, field.grid.counts))}, local width {shape.local_width}, global width "
        f"{shape.global_width}: {count['total']:,} parameters (local {count['local']:,}, shared {count['shared']:,})\n"
        f"{config.steps} steps, {part} a step, overlap {config.overlap}, lr {config.lr:g}, on {fit.device}",
        highlight=False,
        soft_wrap=True,
    )


def finish(console: Console, fit: Fit, output: Path, dtype: Any, overwrite: bool) -> None:
    """Measure, save, and say what came out."""
    from lg_field.files import save
    from lg_field.metrics import measure

    field, signal = fit.field, fit.data.signal
    metrics = {k: round(v, 8) for k, v in measure(field, fit.data).items()}
    field.history = {"steps": fit.step, "seconds": round(fit.seconds, 2), **metrics}
    size = save(field, output, dtype=dtype, overwrite=overwrite)
    count, unit = field.num_parameters(), "sample" if signal.kind in ("audio", "volume") else "pixel"
    ssim = f", SSIM {metrics['ssim']:.4f}" if "ssim" in metrics else ""
    console.print(
        f"PSNR {metrics['psnr']:.2f} dB{ssim}, MSE {metrics['mse']:.3e}, {fit.seconds:.1f} s of training\n"
        f"{output}: {size:,} bytes, {8 * size / signal.num_samples:.3f} bits per {unit}, "
        f"{count['total']:,} parameters ({dtype})",
        highlight=False,
        soft_wrap=True,
    )


def decode(
    input: tyro.conf.Positional[str],
    output: Output,
    scale: float = 1.0,
    region: Annotated[RegionFlags, tyro.conf.arg(name="")] = RegionFlags(),
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Decode a field file to an image, sound, video or array.

    Args:
        input: field file, or an address fsspec reads.
        output: .png .jpg ..., .wav .flac .ogg, .mp4 ... or .npy (any kind).
        scale: samples per original sample: 2 doubles the resolution.
        region: only this part (boxes only); only its rows are read from the file.
        device: auto, cpu, cuda, ...
        overwrite: replace an existing output.
    """
    from lg_field.cli.options import halves
    from lg_field.files import FieldFile, refuse_existing
    from lg_field.signals.decode import signal_of

    refuse_existing(output, overwrite)
    if region.cells or region.sphere or region.region or region.obb or region.invert:
        raise ValueError("decode takes a --box; crop the file first for other regions")
    begin = time.perf_counter()
    with FieldFile.open(input) as file:
        signal = signal_of(file.skeleton)  # type: ignore[arg-type]
        box = halves(region.box, signal) if region.box else None
        field: Any = file.load(region.resolve(file.skeleton)[0]) if box else file.load()
        read = file.reader.bytes_read
    field.region = file.region if box else field.region
    field = field.to(pick_device(device))
    console = Console()
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("decoding")
        shape = write_decoded(
            field, output, scale, box, overwrite, lambda done, n: progress.update(task, completed=done, total=n)
        )
    console.print(
        f"{output}: {signal.kind} {' x '.join(map(str, shape))}, {output.stat().st_size:,} bytes, "
        f"{read:,} bytes read, {time.perf_counter() - begin:.1f} s",
        highlight=False,
        soft_wrap=True,
    )


def write_decoded(
    field: LocalGlobalNetwork,
    output: Path,
    scale: float,
    box: Any,
    overwrite: bool,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[int, ...]:
    """Decode into a file, as its suffix says; returns the decoded shape."""
    import numpy as np
    import torch

    from lg_field.files import atomic_write
    from lg_field.signals import data as names
    from lg_field.signals.decode import decode, decoded_shape, sample_window, signal_of

    signal, suffix = signal_of(field), output.suffix.lower()
    suits = {"image": names.IMAGES, "audio": names.SOUNDS, "video": names.VIDEOS, "volume": ()}[signal.kind]
    if suffix not in (*suits, ".npy"):
        raise ValueError(f"{output}: write a decoded {signal.kind} to {' '.join((*suits, '.npy'))}")
    window = sample_window(signal, box)
    shape = decoded_shape(window, scale)
    if signal.kind == "video":
        shape = (window[0][1] - window[0][0], *shape[1:])
    slabs = decode(field, scale, box, progress)
    with atomic_write(output, overwrite) as temporary:
        if suffix == ".npy":
            first = next(slabs)
            kind = np.dtype(signal.dtype)
            file = np.lib.format.open_memmap(temporary, "w+", kind, (*shape, signal.channels))
            at = 0
            for slab in (first, *slabs):
                file[at : at + len(slab)] = slab.numpy().astype(kind)
                at += len(slab)
            file.flush()
        elif signal.kind == "image":
            from lg_field.signals.image import write_image

            write_image(torch.cat(list(slabs)), temporary)
        elif signal.kind == "audio":
            from lg_field.signals.audio import write_audio

            write_audio(slabs, temporary, signal, round(signal.rate * scale))
        else:
            from lg_field.signals.video import write_video

            write_video(slabs, temporary, signal.rate)
    return shape


