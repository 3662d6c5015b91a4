"""Captures: photos of one scene with their cameras, read from the folders that people have. Knows no nerfstudio."""

from lg_field.captures.capture import Capture as Capture
from lg_field.captures.capture import CaptureError as CaptureError
from lg_field.captures.capture import Lens as Lens
from lg_field.captures.capture import Photo as Photo
from lg_field.captures.reading import read_capture as read_capture
