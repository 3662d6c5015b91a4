"""Whether training has failed, and why that may be."""

from __future__ import annotations

POOR = 15.0
"""PSNR, dB, under which a picture shows nothing."""
FEW = 0.02
"""Part of the cells that is too little of a scene."""
EARLY = 200
"""Steps before which nothing can be said."""


def collapse(step: int, psnr: float, rows: int, cells: int, opacity: float, wanted: float) -> str | None:
    """What is wrong with a run that shows nothing, and the cure.

    Args:
        step: training steps done.
        psnr: of training rays, dB.
        rows: kept cells.
        cells: all cells of the domain.
        opacity: mean accumulation of training rays, 0..1.
        wanted: mean alpha of their pixels, 0..1.

    Returns:
        One line; None where training looks right, or before step `EARLY`.
    """
    if step < EARLY:
        return None
    if rows <= max(1, FEW * cells) and psnr < 2 * POOR and opacity < 0.5 * wanted:
        return (
            f"step {step}: {rows} of {cells} cells are left and hold nearly nothing (PSNR {psnr:.1f} dB): the scene's "
            "box may miss the object (--pipeline.datamanager.scene-box), or the learning rate may be too large "
            "(--optimizers.fields.optimizer.lr 1e-3)"
        )
    if psnr >= POOR:
        return None
    if opacity < 0.5 * wanted:
        cause = (
            "the field is nearly empty where the images are not: the scene's box may miss the object "
            "(--pipeline.datamanager.scene-box, --pipeline.datamanager.focus)"
        )
    elif opacity > min(1.0, wanted + 0.3):
        cause = (
            "the field is fog where the images are empty: their alpha or masks may not fit their poses "
            "(--pipeline.datamanager.masks ignore)"
        )
    else:
        cause = (
            "the images do not agree with each other: poses or focal length may be wrong, exposures may differ, or the "
            "background may differ from image to image (--pipeline.datamanager.masks empty for cut-out objects)"
        )
    return f"step {step}: PSNR of the training images is {psnr:.1f} dB, so the pictures show nothing: {cause}"
