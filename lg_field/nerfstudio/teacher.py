"""The field that another one learns from first (`--pipeline.model.teacher`)."""

from __future__ import annotations

from pathlib import Path

from lg_field.errors import UserError
from lg_field.files import load
from lg_field.radiance.field import RadianceField


def load_teacher(path: Path) -> RadianceField:
    """The field of a scene file.

    Raises:
        UserError: no such file, or of no scene.
    """
    try:
        field = load(path)
    except (OSError, ValueError) as error:
        raise UserError(f"--pipeline.model.teacher takes a scene file of `lg-field pack`: {error}") from error
    if not isinstance(field, RadianceField):
        raise UserError(f"{path} is no scene file; `lg-field pack --load-config ...` makes one of a run")
    return field.eval()
