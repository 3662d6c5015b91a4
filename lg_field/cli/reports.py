"""What a training command says before it trains, and what it measures, saves and says at its end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lg_field.cli.console import say

if TYPE_CHECKING:
    from rich.console import Console

    from lg_field.cli.fitting import FitFlags
    from lg_field.signals.fit import Fit


def say_network(console: Console, fit: Fit) -> None:
    """What will be trained, in two lines."""
    signal, config, sizes = fit.data.signal, fit.config, fit.field.sizes
    count = fit.num_parameters()
    falling = "" if config.lr_factor == 1.0 else f" to {config.lr * config.lr_factor:g}"
    say(
        console,
        f"{signal.kind} {' x '.join(map(str, signal.shape))} x {signal.channels}, cells "
        f"{' x '.join(map(str, fit.field.grid.counts))}, local width {sizes.local_width}, global width "
        f"{sizes.global_width}: {count['total']:,} parameters (local {count['local']:,}, shared {count['shared']:,})\n"
        f"{config.steps} steps, {fit.data.drawn(config)} a step, overlap {config.overlap}, "
        f"lr {config.lr:g}{falling}, on {fit.device}",
    )


def history_of(fit: Fit) -> dict[str, Any]:
    """Plain facts about the training, for the field's file."""
    facts: dict[str, Any] = {"steps": fit.step, "seconds": round(fit.seconds, 2)}
    if fit.modulation is not None and fit.modulation.harmonizer is not None:
        trained, saved = fit.num_parameters()["total"], fit.field.num_parameters()["total"]
        facts |= {"activation": "incode", "harmonizer_parameters": trained - saved}
        facts["scalars"] = {kind: [round(x, 6) for x in v.tolist()] for kind, v in fit.modulation.scalars().items()}
    return facts


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


def save_and_say(console: Console, fit: Fit, output: Path, flags: FitFlags) -> None:
    """Measure, save, and say what came out."""
    from lg_field.files import save
    from lg_field.signals.metrics import measure

    field, signal = fit.field, fit.data.signal
    metrics = {k: round(v, 8) for k, v in (measure(field, fit.data) | surface_metrics(fit, flags)).items()}
    field.history = history_of(fit) | metrics
    size = save(field, output, dtype=flags.dtype, overwrite=flags.replaces)
    ssim = f", SSIM {metrics['ssim']:.4f}" if "ssim" in metrics else ""
    near = f", Chamfer distance {metrics['chamfer']:.2e} diagonals" if "chamfer" in metrics else ""
    iou = f"IoU {metrics['iou']:.4f}, " if "iou" in metrics else ""
    say(
        console,
        f"{iou}PSNR {metrics['psnr']:.2f} dB{ssim}, MSE {metrics['mse']:.3e}{near}, {fit.seconds:.1f} s of training\n"
        f"{output}: {size:,} bytes, {8 * size / signal.num_samples:.3f} bits per {signal.traits.sample}, "
        f"{field.num_parameters()['total']:,} parameters ({flags.dtype})",
    )
