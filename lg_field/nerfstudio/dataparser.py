"""The data parser `auto-data`: blender, instant-ngp, nerfstudio and COLMAP captures, recognised by their files.

nerfstudio imports this module while it builds its list of data parsers, so it must not import its data managers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfstudio.data.dataparsers.base_dataparser import DataParser, DataParserConfig, DataparserOutputs
from nerfstudio.plugins.registry_dataparser import DataParserSpecification
from nerfstudio.utils.rich_utils import CONSOLE

from lg_field.captures import Capture, read_capture
from lg_field.captures.backdrop import BackgroundMode, before_backdrop
from lg_field.nerfstudio.capture_outputs import outputs_of


@dataclass
class AutoDataParserConfig(DataParserConfig):
    """Recognises blender, instant-ngp, nerfstudio and COLMAP data by the files in the folder."""

    _target: type = field(default_factory=lambda: AutoDataParser)
    """target class to instantiate"""
    data: Path = Path()
    """Scene folder, or a transforms.json."""
    background: BackgroundMode = "auto"
    """A plain backdrop behind a thing. auto: it is empty; keep: it is part of the scene. The data manager's
    `background` sets it."""


@dataclass
class AutoDataParser(DataParser):
    """Reads a capture once and says what was left out, guessed or scaled."""

    config: AutoDataParserConfig
    downscale_factor: int | None = None
    """Photos and cameras are this many times smaller per axis."""
    capture: Capture | None = None
    """What was read."""

    def _generate_dataparser_outputs(self, split: str = "train", **kwargs: Any) -> DataparserOutputs:
        if self.capture is None:
            capture = read_capture(self.config.data)
            flag = "--pipeline.datamanager.background"
            self.capture, more = before_backdrop(capture, self.config.background, flag)
            for note in (*capture.notes, *more):
                CONSOLE.print(f"[yellow]{note}[/yellow]", markup=True, highlight=False, soft_wrap=True)
        return outputs_of(self.capture, split, float(self.downscale_factor or 1))


auto_data = DataParserSpecification(
    config=AutoDataParserConfig(),
    description="Recognises blender, instant-ngp, nerfstudio and COLMAP data by their files.",
)
